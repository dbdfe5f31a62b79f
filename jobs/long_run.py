"""Run a model's chains far beyond its own K steps: whether learning converged shows there alone (1903.12370).

From noise (the run's own start), data and the bank; the distance to the data and the energy at multiples of K. States
that are latent vectors are decoded: at 0 K that is what the generator makes of N(0, I), without the learned prior.
"""

import sys
from collections.abc import Iterable
from dataclasses import dataclass

from tqdm import tqdm

from jobs.cli.parsing import parse, run_command
from jobs.cli.results import ResultFolder, SnapshotArgs, open_snapshot, random_items
from pipeline.chains.local_pool import LocalPool
from pipeline.errors import InputError
from pipeline.evaluation.figures import distance_figure, energy_figure, samples_figure
from pipeline.evaluation.metrics.long_run import long_run_trajectories, stride
from pipeline.evaluation.metrics.samples import sample_distance
from pipeline.nets.weights import device_of
from pipeline.rng import fold
from pipeline.sampling.draw import ChainStart
from pipeline.sampling.long_chains import Observation, has_start


@dataclass(frozen=True)
class LongRun:
    """What is run, and where the findings go."""

    look: SnapshotArgs
    multiples: tuple[float, ...] = (1, 10, 100)
    """Where to look, in multiples of the run's K steps; 0: at the start."""
    starts: tuple[ChainStart, ...] = ("noise", "data")
    """Where chains start: the run's own noise, its data (not where states are latent vectors), its bank."""
    n: int = 300
    """Chains of each start."""


def main() -> None:
    """The command."""
    asked = parse(LongRun, sys.argv[1:], "python -m jobs.long_run", __doc__ or "")
    if asked.n < 2 or not asked.starts or min(asked.multiples, default=-1) < 0 or not max(asked.multiples):
        raise InputError("--n must be 2 or more, --multiples 0 or more each and not all 0, --starts not empty")
    model = open_snapshot(asked.look, allow_latent=True)
    if model.kernel.steps == 0:
        raise InputError(f"{asked.look.run}: its model draws from N(0, I), and no chain moves that")
    for start in asked.starts:
        if not has_start(model, start):
            raise InputError(f"--starts {start}: {_lacks(start, asked.look.run)}")
    findings = ResultFolder(asked.look, model, "long_run")
    distance = sample_distance(model.data, device_of(model.nets))
    metrics, name = dict[str, float](), distance.name if distance else ""
    if distance:
        metrics[f"{name}_data"] = distance.of(random_items(model.data, asked.n, fold(asked.look.seed, "floor")))
    pool, starts = LocalPool(model.job.recipe, model.nets), list(dict.fromkeys(asked.starts))
    found = long_run_trajectories(pool, model, starts, asked.n, asked.multiples, asked.look.seed, _bar)
    seen = {f"{start}, {m:g} K": x for start, way in found.items() for m, x in way.data.items()}
    curves = dict[ChainStart, dict[float, float]]()
    for start, way in found.items():
        curves[start] = {m: distance.of(way.data[m]) for m in asked.multiples} if distance else {}
        metrics |= {f"{name}_{start}_{m:g}K": value for m, value in curves[start].items()}
    findings.result(asked, metrics, energies={start: way.energy.tolist() for start, way in found.items()})
    findings.figure("energies", energy_figure(found, stride(model, asked.multiples)))
    if distance:
        floor = metrics[f"{name}_data"]
        findings.figure("distances", distance_figure(curves, floor, name, model.kernel.steps))
    if model.data.density is not None or model.data.spec.kind == "image":
        findings.figure("samples", samples_figure(model, seen, len(seen) // len(found)))


def _lacks(start: ChainStart, run: str) -> str:
    return f"{run} has no bank" if start == "bank" else f"the states of {run} are latent vectors; use --starts noise"


def _bar(walk: Iterable[Observation], total: int) -> Iterable[Observation]:
    return tqdm(walk, total=total, desc="chains", unit="stretch")


if __name__ == "__main__":
    run_command(main)
