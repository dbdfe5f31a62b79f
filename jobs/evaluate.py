"""Evaluate a run, finished or still at work, by its newest checkpoint; its random numbers stay its own.

Groups of metrics: samples (distances to the data), drift (those of long chains), mixing (R-hat, effective sample
sizes), likelihood (where it can be had), items (what the recipe scores of single ones). Beside each number stands a
hash of its protocol, which result.json spells out: numbers of two runs compare where the hashes are equal.
"""

import contextlib
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias, get_args

from matplotlib.figure import Figure
from torch import Tensor
from tqdm import tqdm

from jobs.cli.parsing import parse, run_command
from jobs.cli.results import ResultFolder, SnapshotArgs, image_figure, open_snapshot
from pipeline.chains.local_pool import LocalPool, Pool
from pipeline.data.dataset import Dataset
from pipeline.errors import InputError
from pipeline.evaluation.comparison import FEWEST_ITEMS, Comparison, compare_samples, comparisons
from pipeline.evaluation.figures import distance_figure, energy_figure, mixing_figure, samples_figure
from pipeline.evaluation.judges.features import FeatureKind, Features, MapFunction, select_features
from pipeline.evaluation.metrics.log_likelihood import (
    item_group_metrics,
    likelihood_metrics,
    why_no_item_metrics,
    why_no_likelihood,
)
from pipeline.evaluation.metrics.long_run import LongRunTrajectory, long_run_metrics, stride
from pipeline.evaluation.metrics.traces import FEWEST_DRAWS, mixing_metrics, mixing_trajectory, netcdf
from pipeline.evaluation.protocol import EvaluationContext, Measurement, Split
from pipeline.nets.weights import device_of
from pipeline.runs.job import override
from pipeline.runs.snapshot import Snapshot
from pipeline.runs.storage import Storage
from pipeline.sampling.draw import ChainStart
from pipeline.sampling.long_chains import Observation, has_start

Group: TypeAlias = Literal["samples", "drift", "mixing", "likelihood", "items"]


@dataclass(frozen=True)
class Evaluate:
    """What is measured, how, and where the findings go."""

    look: SnapshotArgs
    metrics: tuple[Group, ...] = ()
    """Groups of metrics; none: all that the run allows."""
    n: int = 1000
    """Samples drawn, and items looked at, at most."""
    split: Split = "data"
    """What samples are compared with and likelihoods are of: what was learned from, or what --test-share or
    --validation-share held back."""
    reference: int = 10_000
    """Items of it that samples are compared with, at most."""
    features: tuple[FeatureKind, ...] = ()
    """By what; drift by the first. None: the data set's own classifier for images with labels, the coordinates for
    vectors; where the density is known, KL to it comes first. Only over inception are distances called FID and KID."""
    inception_weights: str = ""
    """torch-fidelity's file of Inception-v3's weights; empty: it is downloaded, once."""
    squeezenet: str = ""
    """An .npz of SqueezeNet v1.0: <layer>/weight (out, in, height, width) and <layer>/bias."""
    starts: tuple[ChainStart, ...] = ()
    """Where long chains start: the run's own noise, its data (not where states are latent vectors), its bank; none:
    all that it has."""
    multiples: tuple[float, ...] = (1, 10, 100)
    """Where drift is looked at, in multiples of the run's K steps; 0: at the start."""
    drift_chains: int = 0
    """Chains of each start that drift is measured on; 0: 300 of images, 1,000 of other data."""
    chains: int = 16
    """Chains of each start whose mixing is judged."""
    draws: int = 200
    """Draws of each that are judged."""
    warm_up: int = 100
    """Draws before those, left out."""
    every: int = 0
    """Steps between draws; 0: K."""
    annealed: int = 500
    """Annealed chains of a normaliser."""
    temperatures: int = 200
    """Of every annealed chain."""
    items: int = 100
    """Items whose likelihood is taken where each needs chains of its own."""
    item_chains: int = 20
    """Annealed chains of each of those."""
    export: str = ""
    """New file of the chains of mixing, in ArviZ's format (.nc): arviz.from_netcdf opens it."""
    actors: int = 0
    """Ray actors that move all chains, beside as many tasks for features; 0: this process does all of it. The numbers
    are the same, bit for bit on CPUs."""
    cpus_per_actor: float = 0.5
    """CPUs that Ray sets aside for an actor."""
    gpus_per_actor: float = 0.0
    """GPUs that Ray sets aside for an actor."""
    wait_for_resources: float = 0.0
    """Seconds to wait for a cluster that has not yet what the actors ask for; 0: say so at once."""


def main() -> None:
    """The command."""
    asked = parse(Evaluate, sys.argv[1:], "python -m jobs.evaluate", __doc__ or "")
    _check(asked)
    model = open_snapshot(asked.look, allow_latent=True)
    reference, features, starts = _reference(asked, model), _features(asked, model), _starts(asked, model)
    groups = _groups(asked, model, features)
    with _workers(asked, model) as (pool, each):
        bench = EvaluationContext(model, pool, asked.split, reference, asked.look.seed, each)
        compare = {"samples", "drift"} & set(groups)
        ways = comparisons(bench, features, asked.reference) if compare else []
        findings = ResultFolder(asked.look, model, "evaluate")
        found, more = list[Measurement](), dict[str, Any]()
        for group in groups:
            found += _measured(group, asked, bench, ways, starts, findings, more)
    findings.measured(asked, found, **more)


def _measured(
    group: Group,
    asked: Evaluate,
    bench: EvaluationContext,
    ways: list[Comparison],
    starts: list[ChainStart],
    findings: ResultFolder,
    more: dict[str, Any],
) -> list[Measurement]:
    """The numbers of a group; its figures are written, and what else belongs in result.json is put into `more`."""
    match group:
        case "samples":
            found, x = compare_samples(bench, ways, asked.n)
            if bench.model.data.density is not None or bench.model.data.spec.kind == "image":
                findings.figure("samples", _sheet(bench.model, x))
            return found
        case "drift":
            n = asked.drift_chains or (300 if bench.model.data.spec.kind == "image" else 1000)
            found, chains = long_run_metrics(bench, ways[0], starts, n, asked.multiples, _bar("drift"))
            _draw_drift(asked, bench.model, ways[0], found, chains, findings)
            return found
        case "mixing":
            every = asked.every or bench.model.kernel.steps
            seen = mixing_trajectory(bench, starts, asked.chains, asked.draws, asked.warm_up, every, _bar("mixing"))
            found, each = mixing_metrics(bench, seen)
            findings.figure("mixing", mixing_figure(seen, each))
            more["mixing"] = each
            if asked.export:
                protocol = found[0].protocol
                _export(asked.export, netcdf(seen, {**protocol.content(), "hash": protocol.hash}))
            return found
        case "likelihood":
            return likelihood_metrics(
                bench, asked.n, asked.annealed, asked.temperatures, asked.items, asked.item_chains
            )
        case "items":
            return item_group_metrics(bench, asked.n)


def _check(asked: Evaluate) -> None:
    """Raise BadInput for what no run could make right."""
    least = {
        "n": FEWEST_ITEMS,
        "reference": 2 * FEWEST_ITEMS,
        "drift_chains": 0,
        "chains": 1,
        "draws": FEWEST_DRAWS,
        "warm_up": 0,
    }
    least |= {"every": 0, "annealed": 2, "temperatures": 2, "items": 2, "item_chains": 2, "actors": 0}
    for name, smallest in least.items():
        if getattr(asked, name) < smallest:
            raise InputError(f"--{name.replace('_', '-')} {getattr(asked, name)}: it must be {smallest} or more")
    if min(asked.multiples, default=-1) < 0 or not max(asked.multiples):
        raise InputError("--multiples: 0 or more each, and not all 0")
    if asked.drift_chains == 1:
        raise InputError("--drift-chains 1: a distance needs two or more")
    if asked.cpus_per_actor <= 0 or asked.gpus_per_actor < 0:
        raise InputError("--cpus-per-actor must be above 0, --gpus-per-actor 0 or more")
    if asked.export:
        folder, _, name = asked.export.rpartition("/")
        if asked.metrics and "mixing" not in asked.metrics:
            raise InputError(f"--export {asked.export}: it is of the chains of mixing, which --metrics leaves out")
        if not name.endswith(".nc"):
            raise InputError(f"--export {asked.export}: its name must end in .nc")
        if Storage.at(folder or ".").seen(name) or not Storage.at(folder or ".").seen():
            exists = "exists" if Storage.at(folder or ".").seen(name) else "is in a folder that does not exist"
            raise InputError(f"--export {asked.export} {exists}")


def _reference(asked: Evaluate, model: Snapshot) -> Dataset:
    """The split. Raises BadInput where the run held none back."""
    splits = {"data": model.data, "test": model.data.test, "validation": model.data.validation}
    if not splits[asked.split].size:
        raise InputError(f"--split {asked.split}: {asked.look.run} held nothing back (--{asked.split}-share)")
    return splits[asked.split]


def _features(asked: Evaluate, model: Snapshot) -> list[Features]:
    """What images and vectors are compared by; none of other data, or where the density is known and none asked for."""
    data, kinds = model.data, asked.features
    if not kinds and data.density is None:
        known: dict[str, tuple[FeatureKind, ...]] = {"image": ("classifier",) if data.spec.num_classes else ()}
        kinds = known.get(data.spec.kind, ("coordinates",) if data.spec.kind == "vector" else ())
    device = device_of(model.nets)
    return [
        select_features(kind, data, asked.inception_weights, asked.squeezenet, device) for kind in dict.fromkeys(kinds)
    ]


def _starts(asked: Evaluate, model: Snapshot) -> list[ChainStart]:
    """Raises BadInput for one that is asked for and is not there."""
    there = [start for start in get_args(ChainStart) if has_start(model, start)]
    for start in asked.starts:
        if start not in there:
            raise InputError(f"--starts {start}: {asked.look.run} has {', '.join(there)}")
    return list(dict.fromkeys(asked.starts)) or there


def _groups(asked: Evaluate, model: Snapshot, features: list[Features]) -> list[Group]:
    """What is measured; what is not, is said. Raises BadInput where that was asked for."""
    sampler = model.job.recipe.sampler(model.job.recipe.sample_chain, model.nets, model.update)
    still = "" if sampler.gradient_evaluations else "no chain moves what it draws"
    apart = "" if features or model.data.density is not None else "nothing to compare by: "
    apart += "--features squeezenet or inception" if apart and model.data.spec.kind == "image" else ""
    apart += f"there are no features of {model.data.spec.kind}" if apart.endswith(": ") else ""
    text = model.data.spec.kind == "text"
    why = {"samples": "" if text else apart, "drift": still or apart, "mixing": still}
    why |= {"likelihood": why_no_likelihood(model), "items": why_no_item_metrics(model)}
    for group in asked.metrics:
        if why[group]:
            raise InputError(f"--metrics {group}: {asked.look.run}: {why[group]}")
    wanted = [group for group in get_args(Group) if group in (asked.metrics or why)]
    for group in wanted:
        if why[group]:
            print(f"{group:24} none: {why[group]}")
    return [group for group in wanted if not why[group]]


@contextlib.contextmanager
def _workers(asked: Evaluate, model: Snapshot) -> Iterator[tuple[Pool, MapFunction]]:
    """Who moves chains, and who computes features: this process also where it has a GPU.

    Raises BadInput where the cluster has no room for the actors.
    """
    if not asked.actors:
        yield LocalPool(model.job.recipe, model.nets), map
        return
    from pipeline.distributed import cluster  # here: without actors Ray is not imported
    from pipeline.distributed import train as distributed
    from pipeline.distributed.actor_pool import ActorPool
    from pipeline.distributed.map import RayMap

    own = {name: getattr(asked, name) for name in ("actors", "cpus_per_actor", "gpus_per_actor", "wait_for_resources")}
    job = override(model.job, learners=0, threads=asked.look.threads, **own)
    with cluster.connected():
        cluster.wait_for_resources(job)
        with distributed.chain_actors(job, model.data.spec) as handles:
            alone = device_of(model.nets).type != "cpu"
            yield ActorPool(handles), map if alone else RayMap(asked.actors, asked.look.threads)


def _bar(what: str) -> Callable[[Iterable[Observation], int], Iterable[Observation]]:
    return lambda walk, total: tqdm(walk, total=total, desc=what, unit="stretch")


def _sheet(model: Snapshot, x: Tensor) -> Figure:
    if model.data.density is not None:
        return samples_figure(model, {"samples": x}, 1)
    return image_figure(x[:100], 10)


def _draw_drift(
    asked: Evaluate,
    model: Snapshot,
    way: Comparison,
    found: list[Measurement],
    chains: Mapping[ChainStart, LongRunTrajectory],
    findings: ResultFolder,
) -> None:
    (floor, *values), steps = (one.value for one in found), model.kernel.steps
    left = iter(values)
    curves = {start: {m: next(left) for m in chain.data} for start, chain in chains.items()}
    findings.figure("energies", energy_figure(chains, stride(model, asked.multiples)))
    findings.figure("drift", distance_figure(curves, floor, way.name, steps))
    if model.data.density is not None or model.data.spec.kind == "image":
        seen = {f"{start}, {m:g} K": x for start, chain in chains.items() for m, x in sorted(chain.data.items())}
        findings.figure("chains", samples_figure(model, seen, len(asked.multiples)))


def _export(path: str, data: bytes) -> None:
    folder, _, name = path.rpartition("/")
    Storage.at(folder or ".").write(name, data)
    print(f"{'chains':24} {path}")


if __name__ == "__main__":
    run_command(main)
