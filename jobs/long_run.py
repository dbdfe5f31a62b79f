"""Run a model's chains far beyond its own K steps: whether learning converged shows there alone (1903.12370).

From noise (the run's own start), data and the bank; the distance to the data and the energy at multiples of K. States
that are latent vectors are decoded: at 0 K that is what the generator makes of N(0, I), without the learned prior.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from tqdm import tqdm

from jobs.launch import guarded, parse
from jobs.model import Findings, Look, items, opened
from pipeline.chains import LocalPool
from pipeline.errors import BadInput
from pipeline.evaluation import drift, samples
from pipeline.evaluation.walk import Seen, Start, has
from pipeline.rng import fold
from pipeline.weights import device_of


@dataclass(frozen=True)
class LongRun:
    """What is run, and where the findings go."""

    look: Look
    multiples: tuple[float, ...] = (1, 10, 100)
    """Where to look, in multiples of the run's K steps; 0: at the start."""
    starts: tuple[Start, ...] = ("noise", "data")
    """Where chains start: the run's own noise, its data (not where states are latent vectors), its bank."""
    n: int = 300
    """Chains of each start."""


def main() -> None:
    """The command."""
    asked = parse(LongRun, sys.argv[1:], "python -m jobs.long_run", __doc__ or "")
    if asked.n < 2 or not asked.starts or min(asked.multiples, default=-1) < 0 or not max(asked.multiples):
        raise BadInput("--n must be 2 or more, --multiples 0 or more each and not all 0, --starts not empty")
    model = opened(asked.look, latent=True)
    if model.kernel.steps == 0:
        raise BadInput(f"{asked.look.run}: its model draws from N(0, I), and no chain moves that")
    for start in asked.starts:
        if not has(model, start):
            raise BadInput(f"--starts {start}: {_lacks(start, asked.look.run)}")
    findings = Findings(asked.look, model, "long_run")
    distance = samples.distance(model.data, device_of(model.nets))
    metrics, name = dict[str, float](), distance.name if distance else ""
    if distance:
        metrics[f"{name}_data"] = distance.of(items(model.data, asked.n, fold(asked.look.seed, "floor")))
    pool, starts = LocalPool(model.job.recipe, model.nets), list(dict.fromkeys(asked.starts))
    found = drift.ways(pool, model, starts, asked.n, asked.multiples, asked.look.seed, _bar)
    seen = {f"{start}, {m:g} K": x for start, way in found.items() for m, x in way.data.items()}
    curves = dict[Start, dict[float, float]]()
    for start, way in found.items():
        curves[start] = {m: distance.of(way.data[m]) for m in asked.multiples} if distance else {}
        metrics |= {f"{name}_{start}_{m:g}K": value for m, value in curves[start].items()}
    findings.result(asked, metrics, energies={start: way.energy.tolist() for start, way in found.items()})
    findings.figure("energies", drift.energies(found, drift.unit(model, asked.multiples)))
    if distance:
        floor = metrics[f"{name}_data"]
        findings.figure("distances", drift.distances(curves, floor, name, model.kernel.steps))
    if model.data.density is not None or model.data.spec.kind == "image":
        findings.figure("samples", drift.sheets(model, seen, len(seen) // len(found)))


def _lacks(start: Start, run: str) -> str:
    return f"{run} has no bank" if start == "bank" else f"the states of {run} are latent vectors; use --starts noise"


def _bar(walk: Iterable[Seen], total: int) -> Iterable[Seen]:
    return tqdm(walk, total=total, desc="chains", unit="stretch")


if __name__ == "__main__":
    guarded(main)
