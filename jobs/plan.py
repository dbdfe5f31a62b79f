"""Plan a job before it takes machines: how many learners, actors and lanes, which lag, how long, and at what cost.

Costs are measured on a sample (--calibrate: this machine, or one of the cluster that RAY_ADDRESS names, in a minute),
read from a file that such a measurement wrote (--costs), or given (--chain-step and --learn-item). A simulation of the
protocol then compares the layouts that the machines have room for. It says the updates a second, how busy everything
is, what the bottleneck is, the memory, and the hours of the preset's updates; plan.png shows them over numbers of
actors, and costs.json keeps the costs. How well it predicts is measured in docs/planner.md. For example:

  python -m jobs.plan short-run cifar10 --gpus 64 --nodes 8 --calibrate --out plans/cifar10
  python -m jobs.plan short-run cifar10 --gpus 8 --costs plans/cifar10/costs.json --faults 0.1
"""

import dataclasses
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Annotated, Any

import tyro

from jobs.cli.command import find_name, run_command
from jobs.cli.experiment import load_experiment, named_presets
from jobs.cli.parsing import parse
from pipeline.errors import InputError, RunReadError
from pipeline.planning.costs import Costs, from_json, to_json
from pipeline.planning.machines import Machines
from pipeline.progress import doing
from pipeline.runs.job import Job, check_job, load_dataset, override
from pipeline.runs.storage import Storage
from pipeline.settings import Count, NonNegative, Positive, PositiveInt, Settings


@dataclass(frozen=True)
class PlanArgs(Settings):
    """What is planned, on which machines, and where its costs come from."""

    experiment: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="EXPERIMENT")]
    """The experiment, with - or _; `python -m jobs` lists them."""
    preset: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PRESET")] = ""
    """Its preset; empty: the first."""
    source: str = ""
    """Data in place of the preset's: only their kind and shape count, so a file of some such items will do."""
    nodes: PositiveInt = 1
    """Number of machines."""
    gpus: Count = 0
    """GPUs of all machines together; 0: processes share CPU cores."""
    cores: NonNegative = 0.0
    """CPU cores of each machine; 0: as many as this one has."""
    bandwidth: Positive = 10.0
    """Gigabits a second of each machine's link."""
    latency: NonNegative = 0.1
    """Milliseconds of a message between machines."""
    faults: NonNegative = 0.0
    """Machines lost, per machine and day."""
    recovery: NonNegative = 60.0
    """Seconds from the loss of a machine until its processes are at work again."""
    calibrate: bool = False
    """Measure the costs now: here, or on a machine of the cluster that RAY_ADDRESS names."""
    costs: str = ""
    """File of costs that were measured before (costs.json)."""
    chain_step: NonNegative = 0.0
    """Seconds of a step of one chain, in place of what was measured."""
    learn_item: NonNegative = 0.0
    """Seconds in which a learner learns from one item, in place of what was measured."""
    speedup: Positive = 1.0
    """How many times faster chains and learning are on the planned machines than measured: an assumption of yours."""
    batch_size: Count = 0
    """Items per update, in place of the preset's; chains grow with them."""
    updates: Count = 0
    """Updates of the run; 0: the preset's."""
    lanes: Count = 0
    """Number of lanes; 0: any that divides the batch."""
    learners: Count = 0
    """Number of learners; 0: any."""
    actors: Count | None = None
    """Number of actors; None: any."""
    max_learners: PositiveInt = 64
    """The greatest number of learners, where it is open."""
    lags: tuple[Count, ...] = (0, 1)
    """Lags that are compared; more than 1 costs quality (docs/scale.md)."""
    seed: Count = 0
    """Seed of the simulation's faults and task times."""
    out: str = ""
    """New folder of plan.json, plan.png and costs.json; empty: runs/plan-<name>-<time>."""
    json: bool = False
    """Print plan.json instead of a table."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.gpus % self.nodes:
            raise InputError(f"must be a multiple of the nodes ({self.nodes})", "gpus", self.gpus)
        if not self.lags:
            raise InputError("must not be empty", "lags")
        if self.calibrate and self.costs:
            raise InputError("is measured with --calibrate: name one of both", "costs", self.costs)
        if not (self.calibrate or self.costs or (self.chain_step and self.learn_item)):
            raise InputError("name the costs: --calibrate, --costs FILE, or --chain-step and --learn-item")

    def machines(self) -> Machines:
        """The machines that are planned for."""
        return Machines(
            nodes=self.nodes,
            cores=self.cores or float(os.cpu_count() or 1),
            gpus=self.gpus // self.nodes,
            bandwidth=self.bandwidth * 1e9 / 8,
            latency=self.latency / 1e3,
            faults=self.faults / 24,
            recovery=self.recovery,
        )


def main(argv: Sequence[str]) -> None:
    """The command."""
    args = parse(PlanArgs, argv, "python -m jobs.plan", __doc__ or "")
    job = _job(args)
    out = args.out or f"runs/plan-{job.name}-{time.strftime('%Y%m%d-%H%M%S')}"
    storage = Storage.at(out)
    if storage.check_exists() and storage.names():
        raise InputError("exists: results are never overwritten; choose another folder", "out", out)
    from pipeline.planning.recommend import Wanted, over_actors, recommend  # here: showing help does not need simpy

    costs, machines = _costs(args, job), args.machines()
    wanted = Wanted(args.lanes, args.learners, args.actors, args.lags, args.max_learners)
    began = time.process_time()
    with doing("simulating"):
        best, plans = recommend(costs, machines, wanted, args.seed)
        curve = over_actors(costs, machines, best.layout, args.lags, args.actors or 0, args.seed)
    seconds = time.process_time() - began
    from jobs.cli import plan_report  # here: matplotlib is slow to import

    content = plan_report.content(costs, machines, best, curve, dataclasses.asdict(args))
    storage.write_json("plan.json", content)
    storage.write("costs.json", to_json(costs).encode())
    storage.write("plan.png", plan_report.picture(costs, machines, best, curve))
    if args.json:
        print(plan_report.as_text(content))
    else:
        print(plan_report.table(costs, machines, best, curve))
        print(f"{'simulated':24} {len(plans) + len(curve)} layouts in {seconds:.1f} CPU s\n{'plan':24} {out}")


def _job(args: PlanArgs) -> Job[Any]:
    """The preset. Raises InputError where there is none, or it cannot be used."""
    presets = named_presets(load_experiment(args.experiment))
    job = presets[find_name(args.preset, presets, "preset")] if args.preset else next(iter(presets.values()))
    job = override(job, source=args.source, max_items=0) if args.source else job
    check_job(job)
    return job


def _costs(args: PlanArgs, job: Job[Any]) -> Costs:
    """The costs of the planned job. Raises InputError where they cannot be had, or are of another preset."""
    if args.calibrate:
        costs = _measured(args, job)
    elif args.costs:
        costs = _read(args.costs)
        if costs.name != job.name:
            raise InputError(f"has the costs of {costs.name}, not of {job.name}", "costs", args.costs)
    else:
        costs = _from_job(job)
    if args.gpus and args.costs and costs.device == "cpu" and costs.speed == args.speedup == 1:
        raise InputError(
            "the costs are of a CPU; calibrate on a GPU (RAY_ADDRESS), or say how much faster one is: --speedup",
            "gpus", args.gpus,
        )  # fmt: skip
    return costs.changed(args.chain_step, args.learn_item, args.speedup, args.batch_size, args.updates)


def _measured(args: PlanArgs, job: Job[Any]) -> Costs:
    from pipeline.distributed import cluster  # here: other plans need no Ray
    from pipeline.distributed.calibration import calibrate

    with doing(f"reading {job.data.source}"):
        load_dataset(job)
    with cluster.connected(), doing("measuring the costs"):
        return calibrate(job, on_gpu=args.gpus > 0 and args.speedup == 1)


def _read(file: str) -> Costs:
    place = Storage.at(file)
    try:
        if not place.check_exists():
            raise InputError("does not exist", "costs", file)
        return from_json(place.parent.read(place.name).decode())
    except (OSError, UnicodeDecodeError, RunReadError) as e:
        raise InputError(f"cannot be read: {str(e).splitlines()[0]}", "costs", file) from e
    except InputError as e:
        raise InputError(e.why, "costs", file) from e


def _from_job(job: Job[Any]) -> Costs:
    """What a job says by itself: chains, steps and sizes; nothing takes time yet."""
    from pipeline.training.calibration import describe_job  # here: torch is slow to import

    with doing(f"reading {job.data.source}"):
        return describe_job(job)


if __name__ == "__main__":
    run_command(main)
