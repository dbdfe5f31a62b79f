"""Measure a run, finished or still at work, at its newest checkpoint, or at an older one (--checkpoint).

Groups of metrics: samples (distances of fresh samples), grid (densities in the plane), items (metrics of single items),
weights (what they say alone), long-run (distances of long chains, and their energies), convergence (what an observer
would say: convergent, short-run only, diverging or undecided), mixing (R-hat and effective sample sizes), likelihood
(by annealed importance sampling). Beside every number stands the hash of its protocol, which result.json spells out:
two numbers are comparable where the hashes are equal. A run's own final evaluation has the same names and protocols.
"""

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Annotated

import tyro

from jobs.cli.command import run_command
from jobs.cli.open_run import SnapshotArgs, open_snapshot
from jobs.cli.parsing import parse
from jobs.cli.results import ResultFolder, check_new_file
from pipeline.chains.local_pool import LocalPool, Pool
from pipeline.errors import InputError
from pipeline.evaluation.convergence.verdict import verdict_line
from pipeline.evaluation.evaluate import Evaluation, evaluate
from pipeline.evaluation.metrics.mixing_trajectories import to_netcdf
from pipeline.evaluation.options import EvaluationOptions, Group
from pipeline.evaluation.plan import plan_evaluation
from pipeline.evaluation.protocol import MapFunction
from pipeline.progress import TerminalBar
from pipeline.runs.job import override
from pipeline.runs.snapshot import Snapshot
from pipeline.runs.storage import Storage
from pipeline.settings import Count, Gpus, NonNegative, Positive


@dataclass(frozen=True)
class Evaluate(SnapshotArgs):
    """The run, what is measured, and on which processes."""

    metrics: Annotated[tuple[Group, ...], tyro.conf.arg(metavar="GROUP [GROUP ...]")] = ()
    """Groups of metrics; none: all that the run allows."""
    options: EvaluationOptions = EvaluationOptions()
    export: str = ""
    """New file of the chains of mixing in ArviZ's format (.nc), for arviz.from_netcdf."""
    actors: Count = 0
    """Ray actors that move all chains, beside as many tasks that compute features; 0: this process does everything. The
    numbers are the same, bit for bit on CPUs."""
    cpus_per_actor: Positive = 0.5
    """CPUs that Ray reserves per actor."""
    gpus_per_actor: Gpus = 0.0
    """GPUs that Ray reserves per actor."""
    wait_for_resources: NonNegative = 0.0
    """Seconds to wait until the cluster has what the actors ask for; 0: fail at once."""


def main(argv: Sequence[str]) -> None:
    """The command."""
    args = parse(Evaluate, argv, "python -m jobs.evaluate", __doc__ or "")
    if args.export:
        check_new_file(args.export, "export", ".nc")
    snapshot = open_snapshot(args, needs_energy=False)
    plan = plan_evaluation(snapshot, args.metrics, args.options)
    if args.export and "mixing" not in plan.groups:
        raise InputError("only the chains of mixing can be exported, and they are not measured", "export", args.export)
    for group, why in plan.unavailable.items():
        if why and not args.metrics:
            print(f"{group:24} none: {why}")
    if "samples" in plan.groups and snapshot.data.spec.kind == "image" and not plan.features:
        print(f"{'samples':24} pictures only: distances need labels, or the features squeezenet or inception")
    with _workers(args, snapshot) as (pool, map_function):
        folder = ResultFolder(args, snapshot, "evaluate")
        evaluation = evaluate(
            snapshot,
            pool,
            plan.groups,
            args.options,
            seed=args.seed,
            progress=TerminalBar,
            map_function=map_function,
        )
    _write(args, folder, evaluation)


def _write(args: Evaluate, folder: ResultFolder, evaluation: Evaluation) -> None:
    for name, (x, columns) in evaluation.images.items():
        folder.images(name, x, columns)
    for name, draw in evaluation.figures.items():
        folder.figure(name, draw())
    for name, sentences in evaluation.sentences.items():
        folder.storage.write(f"{name}.txt", "".join(f"{sentence}\n" for sentence in sentences).encode())
    if args.export and evaluation.trajectory:
        protocol = next(one.protocol for one in evaluation.measurements if one.name == "rhat_max")
        data, file = (
            to_netcdf(evaluation.trajectory, {**protocol.content(), "hash": protocol.hash}),
            Storage.at(args.export),
        )
        file.parent.write(file.name, data)
        print(f"{'chains':24} {args.export}")
    folder.measurements(args, evaluation.measurements, **evaluation.more)
    if row := evaluation.more.get("convergence"):
        print(f"{'verdict':32} {verdict_line(row)}")


@contextlib.contextmanager
def _workers(args: Evaluate, snapshot: Snapshot) -> Iterator[tuple[Pool, MapFunction]]:
    """What moves chains, and what spreads the computation of features.

    Raises InputError where the cluster has no room for the actors.
    """
    if not args.actors:
        yield LocalPool(snapshot.recipe, snapshot.nets), map
        return
    from pipeline.distributed import cluster  # here: without actors Ray is not imported
    from pipeline.distributed.actor_pool import ActorPool
    from pipeline.distributed.map import RayMap
    from pipeline.distributed.train import chain_actors

    own = {name: getattr(args, name) for name in ("actors", "cpus_per_actor", "gpus_per_actor", "wait_for_resources")}
    job = override(snapshot.job, learners=0, observers=0, threads=args.threads, **own)
    with cluster.connected():
        cluster.wait_for_resources(job)
        with chain_actors(job, snapshot.data.spec) as handles:
            yield ActorPool(handles), RayMap(args.actors, args.threads)


if __name__ == "__main__":
    run_command(main)
