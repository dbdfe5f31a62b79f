"""One trial of a search: a run that stops at fixed budgets of gradient evaluations, reports its quality, and continues.

A run and its resumption are the whole run, so a trial is a run like any other, with the same folder and checkpoints.
"""

import math
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

import torch

from pipeline import stop
from pipeline.chains.local_pool import Pool
from pipeline.errors import Diverged
from pipeline.progress import NoBar
from pipeline.run import run
from pipeline.runs import lease
from pipeline.runs.job import Job, override
from pipeline.runs.job_json import to_json
from pipeline.runs.journal import provenance
from pipeline.runs.snapshot import newest_snapshot
from pipeline.runs.storage import Storage
from pipeline.search.budgets import TrialBudget, gradient_costs, gradients_until, report_updates
from pipeline.search.objectives import OBJECTIVES, measure_quality

RECORD = "trial.json"
"""A trial's reports, in the run's folder."""


@dataclass(frozen=True)
class TrialReport:
    """A trial's quality after some of its updates."""

    updates: int
    gradient_evaluations: int
    quality: float
    cpu_seconds: float
    """Of training, without evaluation."""
    diverged: str = ""
    """Why the trial diverged and ends here, with the worst quality; empty if it did not."""


def run_trial(
    job: Job[Any],
    budget: TrialBudget,
    settings: Mapping[str, Any],
    device: torch.device,
    pool: Callable[[], Pool],
    requested: Callable[[], str] = stop.requested,
) -> Iterator[TrialReport]:
    """Run a trial, from its newest checkpoint if there is one, and yield its reports, earlier ones first.

    Args:
        job: the trial's, with its run folder; `updates` follow from the budget.
        budget: how long it runs, and what its quality is measured by.
        settings: of the trial, for TensorBoard's HParams tab.
        device: of the learner.
        pool: makes a new pool for each part of the run.
        requested: why the trial should stop; empty as long as it should not.

    Raises:
        Stopped: it should, and has a checkpoint of its last whole update.
    """
    out = Storage.at(job.out)
    ends = report_updates(job, budget)
    job = override(job, updates=ends[-1], eval_samples=0, eval_long_run_steps=0)
    reports = [TrialReport(**one) for one in out.read_json(RECORD)["reports"]] if out.exists(RECORD) else []
    yield from reports
    if not out.exists("job.json"):
        out.write_json("job.json", {**to_json(job), "provenance": provenance()})
    for end in ends[len(reports) :] if not (reports and reports[-1].diverged) else []:
        reports.append(run_until(replace(job, updates=end), budget, reports[-1:], device, pool, requested))
        write_record(out, budget, settings, reports)
        yield reports[-1]
        if reports[-1].diverged:
            return


def write_record(
    out: Storage, budget: TrialBudget, settings: Mapping[str, Any], reports: Sequence[TrialReport], **more: Any
) -> None:
    """Write a trial's settings and reports, and what `more` says of it, into its folder."""
    record = {"settings": settings, "objective": budget.objective, "split": budget.split, **more}
    out.write_json(RECORD, {**record, "reports": [asdict(one) for one in reports]})
    _log_hparams(out, f"search/{budget.objective}", settings, reports[-1])


def read_records(folder: Storage) -> dict[str, dict[str, Any]]:
    """The records of the trials in a folder, by name."""
    places = {name: folder / name for name in folder.names()}
    return {name: place.read_json(RECORD) for name, place in places.items() if place.exists(RECORD)}


def run_until(
    job: Job[Any],
    budget: TrialBudget,
    before: list[TrialReport],
    device: torch.device,
    pool: Callable[[], Pool],
    requested: Callable[[], str],
) -> TrialReport:
    """The report at the job's last update; `before` has the report before it, if there is one."""
    objective, result, costs = OBJECTIVES[budget.objective], {}, gradient_costs(job)
    try:
        command = lease.acquire(Storage.at(job.out))
        result = run(job, device, pool(), NoBar, command, evaluates=False, requested=requested) or {}
        snapshot = newest_snapshot(job, device)
        items = getattr(snapshot.data, budget.split)
        quality = measure_quality(snapshot, objective, items, budget.sample_count, 0, pool())
    except Diverged as e:
        updates = job.updates if result else e.update
        cost = result.get("cpu_seconds", before[-1].cpu_seconds if before else 0.0)
        return TrialReport(updates, gradients_until(costs, updates), objective.worst, cost, str(e))
    why = f"diverged: {objective.name} is not a number" if math.isnan(quality) else ""
    quality = objective.worst if why else quality
    return TrialReport(job.updates, gradients_until(costs, job.updates), quality, result["cpu_seconds"], why)


def _log_hparams(out: Storage, name: str, settings: Mapping[str, Any], report: TrialReport) -> None:
    """Show the trial in TensorBoard's HParams tab, and its quality against gradient evaluations."""
    from torch.utils.tensorboard import SummaryWriter  # here, because the import takes a second
    from torch.utils.tensorboard.summary import hparams

    with tempfile.TemporaryDirectory() as folder:
        with SummaryWriter(folder) as writer:
            for summary in hparams(dict(settings), {name: report.quality}):
                writer.file_writer.add_summary(summary)
            writer.add_scalar(name, report.quality, report.gradient_evaluations)
        (out / "search").copy_from(Storage.at(folder))  # apart from the run's events, which a resumed run truncates
