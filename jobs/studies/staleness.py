"""What it costs, and what it gains, that chains lag behind the weights.

Short-run and persistent chains on digits and eight Gaussians, at each lag and seed, and at the greatest lag with a
bound on the drift (--max-drift). Quality is that of fresh samples of the model, or of the bank where chains are
persistent: the Fréchet distance of digits, KL(truth, samples) in nats of eight Gaussians, at each checkpoint, after the
run. Chains move on Ray actors, while this process learns. Seconds an update are the mean of `time/update`, without the
updates after the start and after each checkpoint, when answers under way are not yet as many as the lag says. Lags take
turns within a seed, so that whatever else the machine does disturbs them alike.

What is finished in the folder isn't run again, what is half done is resumed. A run that diverges is a finding.
"""

import dataclasses
import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

import matplotlib
import numpy as np
import torch
from matplotlib.figure import Figure

from jobs.anatomy import PRESETS as ANATOMY
from jobs.cli.launch import load_run, run_job
from jobs.cli.parsing import parse, run_command
from jobs.cli.results import SnapshotArgs, open_snapshot
from jobs.short_run import PRESETS as SHORT_RUN
from pipeline.chains.task import advance
from pipeline.errors import Diverged, InputError
from pipeline.evaluation.metrics.samples import sample_distance
from pipeline.process import configure_process
from pipeline.runs import checkpoint
from pipeline.runs.job import Job, check_job, load_dataset, override, to_json
from pipeline.runs.snapshot import Snapshot, all_snapshots
from pipeline.runs.storage import Storage
from pipeline.sampling.draw import draw_tasks, final_states

CHECKPOINTS = 6
"""Of each run, evenly spaced, at which quality is measured."""
DISTANCES = {"frechet": "Fréchet distance", "kl": "KL(truth, samples), nats"}


@dataclass(frozen=True)
class Staleness:
    """What is tried, and where the findings go."""

    lags: tuple[int, ...] = (0, 1, 2, 4)
    """Updates by which the weights that move the chains may be older than those that learn from them."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Seeds of the runs."""
    cases: tuple[str, ...] = ()
    """Of digits-short-run, digits-persistent, eight-gaussians-short-run, eight-gaussians-persistent; empty: all."""
    actors: int = 2
    """Ray actors that move chains; 0: they move in this process, and nothing overlaps."""
    updates: int = 0
    """Updates of every run, a multiple of 6; 0: as many as each case has."""
    samples: int = 1000
    """Fresh samples by which short-run chains are judged."""
    out: str = "runs/staleness"
    """Folder of the runs and findings; the same again goes on with it."""


class Case(NamedTuple):
    """What is learned."""

    job: Job[Any]
    bound: float
    """Of the drift, in the arm that has one: near what is usual at lag 4."""


def _case(job: Job[Any], updates: int, bound: float, **recipe: Any) -> Case:
    changed = dataclasses.replace(job.recipe, **recipe)
    quiet: dict[str, Any] = {
        "samples": 0,
        "long_run": 0,
        "learners": 0,
        "log_every": 1,
        "keep": CHECKPOINTS + 1,
        "lanes": 2,
    }
    return Case(override(job, recipe=changed, updates=updates, device="cpu", **quiet), bound)


CASES = {
    "digits-short-run": _case(SHORT_RUN["digits-40"], 180, 0.15, width=16, anneal=90),
    "digits-persistent": _case(ANATOMY["digits-convergent"], 180, 0.3, width=16, bank=600, lr=0.03, lr_decay=0.995),
    "eight-gaussians-short-run": _case(SHORT_RUN["eight-gaussians-100"], 420, 0.5),
    "eight-gaussians-persistent": _case(ANATOMY["eight-gaussians-convergent"], 420, 0.3, bank=1000),
}


class Arm(NamedTuple):
    """One way to treat stale chains."""

    lag: int
    bounded: bool

    def __str__(self) -> str:
        return f"lag {self.lag}" + (", bounded" if self.bounded else "")


RunResult = dict[str, Any]
"""What came of one run; it is kept in the run's folder."""


def main() -> None:
    """The command."""
    asked = parse(Staleness, sys.argv[1:], "python -m jobs.staleness", __doc__ or "")
    arms = [Arm(lag, False) for lag in asked.lags] + [Arm(lag, True) for lag in [max(asked.lags, default=0)] if lag]
    if unknown := set(asked.cases) - CASES.keys():
        raise InputError(f"--cases {' '.join(sorted(unknown))}: there are {', '.join(CASES)}")
    jobs = {key: _job(asked, *key) for key in product(asked.cases or CASES, asked.seeds, arms)}
    _check(asked, list(jobs.values()))
    configure_process(1)
    found = []
    with _ray(asked):
        for (case, seed, arm), job in jobs.items():
            print(f"{case}, {arm}, seed {seed}: {job.out}", file=sys.stderr)
            diverged = _run(job)
            one = {"case": case, "arm": str(arm), "lag": arm.lag, "max_drift": job.max_staleness, "seed": seed}
            found.append({**one, "diverged": diverged, **_measured(job), **_judged(job, asked.samples)})
    out, names = Storage.at(asked.out), [str(arm) for arm in arms]
    out.write_json("result.json", {"asked": dataclasses.asdict(asked), "runs": found})
    out.write("staleness.md", (text := _table(found, names)).encode())
    _figure(found, names).savefig(image := io.BytesIO(), format="png", dpi=120)
    out.write("staleness.png", image.getvalue())
    print(f"{text}\n{'figure':24} {asked.out}/staleness.png\n{'result':24} {asked.out}/result.json")


def _job(asked: Staleness, case: str, seed: int, arm: Arm) -> Job[Any]:
    job, bound = CASES[case]
    updates = asked.updates or job.updates
    folder = f"{case}-lag{arm.lag}{'-bounded' * arm.bounded}-seed{seed}"
    return override(
        job,
        name="staleness",
        updates=updates,
        checkpoint_every=max(1, updates // CHECKPOINTS),
        lag=arm.lag,
        max_staleness=bound * arm.bounded,
        seed=seed,
        actors=asked.actors,
        out=Storage.at(f"{asked.out}/{folder}").path,
    )


def _check(asked: Staleness, jobs: Sequence[Job[Any]]) -> None:
    if not jobs or asked.samples < 2 or min(asked.lags) < 0:
        raise InputError("--lags and --seeds must not be empty, each lag 0 or more, --samples 2 or more")
    if not Storage.at(asked.out).local:
        raise InputError(f"--out {asked.out}: a folder on this machine, since times are measured here")
    for job in jobs:
        check_job(job)
        if job.updates % CHECKPOINTS or job.logging.checkpoint_every < job.lag + 2:
            least = CHECKPOINTS * (max(asked.lags) + 2)
            raise InputError(f"--updates {job.updates}: a multiple of {CHECKPOINTS}, and {least} or more at these lags")
        if Storage.at(job.out).exists("job.json") and to_json(load_run(job.out)) != to_json(job):
            raise InputError(f"{job.out} is a run with other settings: choose another --out")


def _ray(asked: Staleness) -> Any:
    """One Ray for all runs, where they need it."""
    if not asked.actors:
        return nullcontext()
    from pipeline.distributed import cluster  # here: without actors Ray is not imported

    return cluster.connected()


def _run(job: Job[Any]) -> str:
    """Have the job run to its end; how it diverged, or ""."""
    storage = Storage.at(job.out)
    if storage.exists("diverged.json"):
        return str(storage.read_json("diverged.json"))
    if not storage.exists("result.json"):
        try:
            run_job(job, load_dataset(job).spec)
        except Diverged as e:
            storage.write_json("diverged.json", str(e))
            return str(e)
    return ""


def _measured(job: Job[Any]) -> RunResult:
    """Seconds an update, mean drift, and the share of updates that waited, from what the run has logged."""
    rows = [json.loads(line) for line in Storage.at(job.out).read("metrics.jsonl").splitlines()]
    steady = [row["time/update"] for row in rows if row["update"] % job.logging.checkpoint_every > job.lag]
    drift = [row.get("chains/discarded_staleness", row["chains/staleness"]) for row in rows]
    waits = [row.get("chains/fresh", 0.0) for row in rows]
    means = {"seconds": steady, "drift": drift, "waits": waits}
    return {"made": len(rows)} | {name: float(np.mean(values)) if values else None for name, values in means.items()}


def _judged(job: Job[Any], n: int) -> RunResult:
    """The quality at each checkpoint, measured once and kept with the run."""
    storage = Storage.at(job.out)
    if storage.exists("quality.json") and (kept := storage.read_json("quality.json"))["samples"] == n:
        return dict(kept)
    found: RunResult = {"samples": n, "distance": "", "updates": [], "quality": []}
    if checkpoint.newest_name(storage / "checkpoints"):
        model = open_snapshot(SnapshotArgs(job.out, device="cpu"))
        distance = sample_distance(model.data, torch.device("cpu"))
        assert distance is not None
        found["distance"] = distance.name
        for version in all_snapshots(model):
            found["updates"].append(version.update)
            found["quality"].append(distance.of(_states(version, n)))
    storage.write_json("quality.json", found)
    return found


def _states(model: Snapshot, n: int) -> torch.Tensor:
    """What the model is judged by: its bank, or n fresh samples, from the same starts and noise at each checkpoint."""
    recipe, bank = model.job.recipe, model.bank
    if bank is not None:
        return bank
    tasks = draw_tasks(recipe, model.nets, model.data, n, model.update, seed=0)
    moved = {(task.chain, task.lane.index): advance(recipe, model.nets, task) for task in tasks}
    return final_states(moved, recipe.sample_chain)


def _groups(found: Sequence[RunResult], arms: Sequence[str]) -> Iterator[tuple[str, str, list[RunResult]]]:
    for case, arm in product(dict.fromkeys(one["case"] for one in found), arms):
        yield case, arm, [one for one in found if (one["case"], one["arm"]) == (case, arm)]


def _spread(values: Sequence[float | None], form: str) -> str:
    """Mean (least to greatest); those that are missing are missing from it."""
    there = [value for value in values if value is not None]
    if not there:
        return "-"
    spread = f" ({min(there):{form}} to {max(there):{form}})" if min(there) < max(there) else ""
    return f"{np.mean(there):{form}}{spread}"


def _table(found: Sequence[RunResult], arms: Sequence[str]) -> str:
    """Markdown; means over seeds, with their range."""
    head = [
        "data, chains",
        "arm",
        "quality at the end",
        "drift",
        "waited",
        "seconds an update",
        "times as fast",
        "diverged",
    ]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    first = {(one["case"], one["seed"]): one["seconds"] for one in found if one["arm"] == arms[0]}
    for case, arm, runs in _groups(found, arms):
        ended = [one["quality"][-1] for one in runs if not one["diverged"]]
        pairs = [(first[case, one["seed"]], one["seconds"]) for one in runs]
        cells = [
            f"{arm} at {runs[0]['max_drift']:g}" if runs[0]["max_drift"] else arm,
            _spread(ended, ".3g"),
            _spread([one["drift"] for one in runs], ".3f"),
            f"{np.mean([one['waits'] for one in runs]):.0%}",
            _spread([one["seconds"] for one in runs], ".3f"),
            _spread([base / own if base and own else None for base, own in pairs], ".2f"),
            f"{sum(bool(one['diverged']) for one in runs)} of {len(runs)}",
        ]
        lines.append(f"| {case} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _figure(found: Sequence[RunResult], arms: Sequence[str]) -> Figure:
    """Quality against updates above, against seconds below; a line an arm: mean and range over seeds."""
    cases = list(dict.fromkeys(one["case"] for one in found))
    figure = Figure(figsize=(4 * len(cases), 7), layout="constrained")
    panels = figure.subplots(2, len(cases), squeeze=False)
    colours = dict(zip(arms, matplotlib.colormaps["viridis"](np.linspace(0, 0.9, len(arms))), strict=True))
    for case, arm, runs in _groups(found, arms):
        column, fell = panels[:, cases.index(case)], [one for one in runs if one["diverged"]]
        label = f"{arm} ({len(fell)} of {len(runs)} diverged)" if fell else arm
        seconds = [one["seconds"] for one in runs if one["seconds"]]
        for axes, unit in zip(column, (1.0, np.mean(seconds) if seconds else np.nan), strict=True):
            n = min(len(one["updates"]) for one in runs)
            x, y = unit * np.array(runs[0]["updates"][:n]), np.array([one["quality"][:n] for one in runs])
            style = {"color": colours[arm], "linestyle": "--" if "bounded" in arm else "-"}
            axes.plot(x, y.mean(0), marker=".", label=label, **style)
            axes.fill_between(x, y.min(0), y.max(0), color=colours[arm], alpha=0.12, linewidth=0)
            for one in fell:
                axes.plot([u * unit for u in one["updates"][-1:]], one["quality"][-1:], "x", color=colours[arm])
        if runs[0]["distance"]:
            column[0].set(title=case, ylabel=DISTANCES[runs[0]["distance"]], xlabel="updates", yscale="log")
            column[1].set(ylabel=DISTANCES[runs[0]["distance"]], xlabel="seconds of learning", yscale="log")
    for axes in panels.flat:
        axes.legend(fontsize=7)
    return figure


if __name__ == "__main__":
    run_command(main)
