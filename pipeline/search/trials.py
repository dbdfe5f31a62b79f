"""One trial of a search: a run that stops at fixed budgets of gradient evaluations, says its quality, and goes on.

A run and its resumption are the whole run, so a trial is a run like any other, in the same folder and checkpoints.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from tqdm import tqdm

from pipeline.chains.local_pool import Pool
from pipeline.errors import Diverged
from pipeline.runs import lease
from pipeline.runs.job import Job, override, to_json
from pipeline.runs.journal import provenance
from pipeline.runs.snapshot import newest_snapshot
from pipeline.runs.storage import Storage
from pipeline.search.budgets import TrialBudget, _job_gradients_per_update, report_updates
from pipeline.search.objectives import OBJECTIVES, quality
from pipeline.run import run

RECORD = "trial.json"
"""What a trial has reported; it lies in the run's folder."""


@dataclass(frozen=True)
class TrialReport:
    """A trial's quality at one place of its way."""

    updates: int
    gradient_evaluations: int
    quality: float
    cpu_seconds: float
    """Of learning, evaluation apart."""
    diverged: str = ""
    """Why the trial ends here; its quality is then the worst there is."""


def run_trial(
    job: Job[Any],
    yardstick: TrialBudget,
    settings: Mapping[str, Any],
    device: torch.device,
    pool: Callable[[], Pool],
) -> Iterator[TrialReport]:
    """Run a trial, from its newest checkpoint if it was run before, and report; what was reported is said again.

    Args:
        job: of the trial, with the folder of its run; `updates` follow from the budget.
        yardstick: what it is judged by.
        settings: what the trial tries, as TensorBoard's HParams tab shows it.
        device: of the learner.
        pool: makes what moves chains, anew for each stretch.
    """
    out, objective = Storage.at(job.out), OBJECTIVES[yardstick.objective]
    ends = report_updates(job, yardstick)
    job = override(job, updates=ends[-1], eval_samples=0, eval_long_run_steps=0)
    reports = [TrialReport(**one) for one in out.read_json(RECORD)["reports"]] if out.exists(RECORD) else []
    yield from reports
    if not out.exists("job.json"):
        out.write_json("job.json", {**to_json(job), "provenance": provenance()})
    for end in ends[len(reports) :] if not (reports and reports[-1].diverged) else []:
        reports.append(_stretch(replace(job, updates=end), yardstick, reports[-1:], device, pool))
        about = {"settings": settings, "objective": objective.name, "part": yardstick.part}
        out.write_json(RECORD, {**about, "reports": [asdict(one) for one in reports]})
        _log_hparams(out, f"search/{objective.name}", settings, reports[-1])
        yield reports[-1]
        if reports[-1].diverged:
            return


def read_records(folder: str) -> dict[str, dict[str, Any]]:
    """What the trials in a folder have reported, by name."""
    storage = Storage.at(folder)
    places = {name: storage / name for name in storage.names()}
    return {name: place.read_json(RECORD) for name, place in places.items() if place.exists(RECORD)}


def _stretch(
    job: Job[Any], yardstick: TrialBudget, before: list[TrialReport], device: torch.device, pool: Callable[[], Pool]
) -> TrialReport:
    objective, found = OBJECTIVES[yardstick.objective], {}
    each = _job_gradients_per_update(job)
    try:
        command = lease.acquire(Storage.at(job.out))
        found = run(job, device, pool(), _silent, command, evaluates=False) or {}
        seen = newest_snapshot(job, device)
        value = quality(seen, objective, getattr(seen.data, yardstick.part), yardstick.samples, 0, pool())
    except Diverged as e:
        made = job.updates if found else e.update
        cost = found.get("cpu_seconds", before[-1].cpu_seconds if before else 0.0)
        return TrialReport(made, made * each, objective.worst, cost, str(e))
    why = f"diverged: {objective.name} is not a number" if math.isnan(value) else ""
    return TrialReport(job.updates, job.updates * each, objective.worst if why else value, found["cpu_seconds"], why)


def _silent(**kwargs: Any) -> tqdm:
    """A bar that is not drawn: the search has one of its own."""
    return tqdm(**kwargs, disable=True)


def _log_hparams(out: Storage, name: str, settings: Mapping[str, Any], report: TrialReport) -> None:
    """The trial in TensorBoard's HParams tab, and its quality against gradient evaluations; on local storage."""
    if not out.local:
        return
    with SummaryWriter(f"{out.path}/search") as board:  # not where a run that goes on takes back what was told
        for summary in hparams(dict(settings), {name: report.quality}):
            board.file_writer.add_summary(summary)
        board.add_scalar(name, report.quality, report.gradient_evaluations)
