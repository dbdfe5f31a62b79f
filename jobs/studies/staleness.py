"""What it costs, and what it gains, that chains move under stale weights.

Short-run and persistent chains on digits and eight Gaussians, at each lag and seed, and at the greatest lag with a
bound (--max-staleness of a run). Quality is that of fresh samples, or of the bank where chains are persistent: the
Fréchet distance on digits, KL(truth, samples) in nats on eight Gaussians, at each checkpoint, measured after the run.
Chains move on Ray actors while this process learns. Seconds per update are the mean of `time/update`, without the
updates after the start and after each checkpoint, when fewer tasks are under way than the lag allows. Lags take turns
within a seed, so that other load on the machine affects them alike.

Runs that are finished in the folder are not repeated, and unfinished ones are resumed. Divergence is a result.
"""

import contextlib
import dataclasses
import json
import sys
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import product
from typing import Annotated, Any, NamedTuple

import numpy as np
import torch
from pydantic import Field

from jobs.anatomy import PRESETS as ANATOMY
from jobs.cli.command import run_command
from jobs.cli.open_run import RunArgs, open_snapshot
from jobs.cli.parsing import parse
from jobs.cli.results import png
from jobs.short_run import PRESETS as SHORT_RUN
from pipeline.chains.task import advance
from pipeline.errors import Diverged, InputError
from pipeline.runs import checkpoint
from pipeline.runs.job import Job, check_job, load_dataset, override
from pipeline.runs.job_json import load_run, to_json
from pipeline.runs.snapshot import Snapshot, all_snapshots
from pipeline.runs.storage import Storage
from pipeline.sampling.draw import draw_tasks, final_states
from pipeline.settings import Count, PositiveInt, Settings

CHECKPOINTS = 6
"""Checkpoints of each run, evenly spaced, at which quality is measured."""


@dataclass(frozen=True)
class Staleness(Settings):
    """What is compared, and where the results go."""

    lags: tuple[Count, ...] = (0, 1, 2, 4)
    """Updates by which the weights that move the chains may be older than those that learn from them."""
    seeds: tuple[Count, ...] = (0, 1, 2)
    """Seeds of the runs."""
    cases: tuple[str, ...] = ()
    """Of digits-short-run, digits-persistent, eight-gaussians-short-run, eight-gaussians-persistent; none: all."""
    actors: Count = 2
    """Ray actors that move chains; 0: they move in this process, and nothing overlaps."""
    updates: Count = 0
    """Updates of every run, a multiple of 6; 0: as many as each case has."""
    samples: Annotated[PositiveInt, Field(ge=2)] = 1000
    """Fresh samples that the quality of short-run chains is measured on."""
    out: str = "runs/staleness"
    """Folder of the runs and results, on this machine; the same settings continue what is there."""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("lags", "seeds"):
            if not getattr(self, name):
                raise InputError("must not be empty", name)
        for case in self.cases:
            if case not in CASES:
                raise InputError(f"not one of {', '.join(CASES)}", "cases", case)


class Case(NamedTuple):
    """What is learned."""

    job: Job[Any]
    bound: float
    """Of the staleness, in the bounded arm: near its usual value at lag 4."""


def _case(job: Job[Any], updates: int, bound: float, **recipe: Any) -> Case:
    changed = override(
        job,
        recipe=dataclasses.replace(job.recipe, **recipe),
        name="staleness",
        updates=updates,
        lanes=2,
        learners=0,
        device="cpu",
        eval_samples=0,
        eval_long_run_steps=0,
        log_every=1,
        keep_checkpoints=CHECKPOINTS + 1,
    )
    return Case(changed, bound)


CASES = {
    "digits-short-run": _case(SHORT_RUN["digits-K40"], 180, 0.15, width=16, anneal=90),
    "digits-persistent": _case(ANATOMY["digits-convergent"], 180, 0.3, width=16, bank=600, lr=0.03, lr_decay=0.995),
    "eight-gaussians-short-run": _case(SHORT_RUN["eight-gaussians-K100"], 420, 0.5),
    "eight-gaussians-persistent": _case(ANATOMY["eight-gaussians-convergent"], 420, 0.3, bank=1000),
}


class Arm(NamedTuple):
    """One way to treat stale chains."""

    lag: int
    bounded: bool

    def __str__(self) -> str:
        return f"lag {self.lag}" + (", bounded" if self.bounded else "")


RunResult = dict[str, Any]
"""What one run shows."""


def main(argv: Sequence[str]) -> None:
    """The command."""
    args = parse(Staleness, argv, "python -m jobs.studies.staleness", __doc__ or "")
    arms = [Arm(lag, False) for lag in args.lags] + [Arm(lag, True) for lag in [max(args.lags)] if lag]
    jobs = {key: _job(args, *key) for key in product(args.cases or CASES, args.seeds, arms)}
    _check(args, list(jobs.values()))
    results = []
    with _ray(args):
        for (case, seed, arm), job in jobs.items():
            print(f"{case}, {arm}, seed {seed}: {job.out}", file=sys.stderr)
            about = {"case": case, "arm": str(arm), "lag": arm.lag, "max_staleness": job.max_staleness, "seed": seed}
            diverged = _run(job)
            results.append({**about, "diverged": diverged, **_costs(job), **_qualities(job, args.samples)})
    _write(args, results, [str(arm) for arm in arms])


def _write(args: Staleness, results: list[RunResult], arms: list[str]) -> None:
    from jobs.studies.staleness_report import figure, table  # here: matplotlib is slow to import

    out, text = Storage.at(args.out), table(results, arms)
    out.write_json("result.json", {"args": dataclasses.asdict(args), "runs": results})
    out.write("staleness.md", text.encode())
    out.write("staleness.png", png(figure(results, arms)))
    print(f"{text}\n{'figure':24} {args.out}/staleness.png\n{'result':24} {args.out}/result.json")


def _job(args: Staleness, case: str, seed: int, arm: Arm) -> Job[Any]:
    job, bound = CASES[case]
    updates = args.updates or job.updates
    folder = f"{case}-lag{arm.lag}{'-bounded' * arm.bounded}-seed{seed}"
    return override(
        job,
        updates=updates,
        checkpoint_every=max(1, updates // CHECKPOINTS),
        lag=arm.lag,
        max_staleness=bound * arm.bounded,
        seed=seed,
        actors=args.actors,
        out=(Storage.at(args.out) / folder).uri,
    )


def _check(args: Staleness, jobs: Sequence[Job[Any]]) -> None:
    """Raise InputError for settings that do not fit together, or another study in the folder."""
    if not Storage.at(args.out).local:
        raise InputError("must be a folder on this machine, since times are measured here", "out", args.out)
    for job in jobs:
        check_job(job)
        if job.updates % CHECKPOINTS or job.logging.checkpoint_every < job.lag + 2:
            least = CHECKPOINTS * (max(args.lags) + 2)
            raise InputError(f"must be a multiple of {CHECKPOINTS}, and {least} or more at these lags", "updates",
                             job.updates)  # fmt: skip
        if Storage.at(job.out).exists("job.json") and to_json(load_run(job.out)) != to_json(job):
            raise InputError(f"{job.out} is a run with other settings: choose another folder", "out", args.out)


def _ray(args: Staleness) -> Any:
    """One connection to Ray for all runs, where they need it."""
    if not args.actors:
        return nullcontext()
    from pipeline.distributed import cluster  # here: without actors Ray is not imported

    return cluster.connected()


def _run(job: Job[Any]) -> str:
    """Run the job to its end; how it diverged, or ""."""
    from jobs.cli.launch import run_job  # here: refusing flags and showing help do not need it

    storage = Storage.at(job.out)
    if not storage.exists("result.json"):
        with contextlib.suppress(Diverged):  # result.json says it
            run_job(job, load_dataset(job).spec)
    return str(storage.read_json("result.json").get("diverged", {}).get("reason", ""))


def _costs(job: Job[Any]) -> RunResult:
    """Seconds per update, mean staleness, and the share of updates that waited, from the run's log."""
    rows = [json.loads(line) for line in Storage.at(job.out).read("metrics.jsonl").splitlines()]
    steady = [row["time/update"] for row in rows if row["update"] % job.logging.checkpoint_every > job.lag]
    staleness = [row.get("chains/discarded_staleness", row["chains/staleness"]) for row in rows]
    waits = [row.get("chains/fresh", 0.0) for row in rows]
    columns = {"seconds": steady, "staleness": staleness, "waits": waits}
    means = {name: float(np.mean(values)) if values else None for name, values in columns.items()}
    return {"updates_made": len(rows), **means}


def _qualities(job: Job[Any], n: int) -> RunResult:
    """The quality at each checkpoint, measured once and saved with the run."""
    storage = Storage.at(job.out)
    if storage.exists("quality.json") and (saved := storage.read_json("quality.json"))["samples"] == n:
        return dict(saved)
    result: RunResult = {"samples": n, "distance": "", "updates": [], "quality": []}
    if checkpoint.newest_name(storage / "checkpoints"):
        from pipeline.evaluation.comparison import default_comparison  # here: it is slow to import

        newest = open_snapshot(RunArgs(job.out, device="cpu"))
        comparison = default_comparison(newest.data, torch.device("cpu"))
        assert comparison is not None
        result["distance"] = comparison.name
        for snapshot in all_snapshots(newest):
            result["updates"].append(snapshot.update)
            result["quality"].append(comparison.distance(_samples(snapshot, n)))
    storage.write_json("quality.json", result)
    return result


def _samples(snapshot: Snapshot, n: int) -> torch.Tensor:
    """The bank, or n fresh samples, from the same starts and noise at each checkpoint."""
    recipe, nets = snapshot.recipe, snapshot.nets
    if snapshot.bank is not None:
        return snapshot.bank
    tasks = draw_tasks(snapshot, n, seed=0)
    results = {(task.chain, task.lane.index): advance(recipe, nets, task) for task in tasks}
    return final_states(results, recipe.sample_chain)


if __name__ == "__main__":
    run_command(main)
