"""One trial of a search: a run that stops at fixed budgets of gradient evaluations, says its quality, and goes on.

A run and its resumption are the whole run, so a trial is a run like any other, in the same folder and checkpoints.
"""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

import torch
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams
from tqdm import tqdm

from pipeline import model, owner
from pipeline.chains import AnyPool
from pipeline.evaluation.quality import OBJECTIVES, quality
from pipeline.health import Diverged
from pipeline.job import Job, dataset, to_json
from pipeline.learner import build
from pipeline.loop import train
from pipeline.recipe import Recipe
from pipeline.report import provenance
from pipeline.storage import Storage
from pipeline.weights import Nets

RECORD = "trial.json"
"""What a trial has reported; it lies in the run's folder."""


@dataclass(frozen=True)
class Yardstick:
    """How far trials go, and what they are judged by."""

    objective: str
    """One of `quality.OBJECTIVES`."""
    budget: int
    """Gradient evaluations of a whole trial."""
    reports: int = 9
    """How many times a trial that goes all the way says its quality, after equal shares of the budget."""
    samples: int = 1000
    """Samples, or items at most, that a quality is taken on."""
    part: Literal["validation", "test"] = "validation"
    """Items that it is taken on."""


@dataclass(frozen=True)
class Report:
    """A trial's quality at one place of its way."""

    updates: int
    gradient_evaluations: int
    quality: float
    cpu_seconds: float
    """Of learning, evaluation apart."""
    diverged: str = ""
    """Why the trial ends here; its quality is then the worst there is."""


def evaluations(recipe: Recipe, nets: Nets) -> int:
    """Gradients that one update takes: of energies, by the chains; of items' losses, where learning runs no chains."""
    moved = sum(c.number * recipe.sampler(name, nets, 0).evaluations for name, c in recipe.chains.items())
    return moved or sum(recipe.streams.values())


def _each(job: Job[Any]) -> int:
    return evaluations(job.recipe, build(job.recipe, dataset(job).spec, job.seed, torch.device("cpu")))


def stops(job: Job[Any], yardstick: Yardstick) -> list[int]:
    """The updates after which a trial says its quality: the first at which each share of the budget is spent."""
    each, share = _each(job), yardstick.budget / yardstick.reports
    return sorted({max(1, math.ceil(round(share * (i + 1) / each, 6))) for i in range(yardstick.reports)})


def tried(
    job: Job[Any],
    yardstick: Yardstick,
    settings: Mapping[str, Any],
    device: torch.device,
    pool: Callable[[], AnyPool],
) -> Iterator[Report]:
    """Run a trial, from its newest checkpoint if it was run before, and report; what was reported is said again.

    Args:
        job: of the trial, with the folder of its run; `updates` follow from the budget.
        yardstick: what it is judged by.
        settings: what the trial tries, as TensorBoard's HParams tab shows it.
        device: of the learner.
        pool: makes what moves chains, anew for each stretch.
    """
    out, objective = Storage.at(job.out), OBJECTIVES[yardstick.objective]
    ends = stops(job, yardstick)
    job = replace(job, updates=ends[-1], samples=0, long_run=0)
    reports = [Report(**one) for one in out.read_json(RECORD)["reports"]] if out.exists(RECORD) else []
    yield from reports
    if not out.exists("job.json"):
        out.write_json("job.json", {**to_json(job), "provenance": provenance()})
    for end in ends[len(reports) :] if not (reports and reports[-1].diverged) else []:
        reports.append(_stretch(replace(job, updates=end), yardstick, reports[-1:], device, pool))
        about = {"settings": settings, "objective": objective.name, "part": yardstick.part}
        out.write_json(RECORD, {**about, "reports": [asdict(one) for one in reports]})
        _tell(out, f"search/{objective.name}", settings, reports[-1])
        yield reports[-1]
        if reports[-1].diverged:
            return


def records(folder: str) -> dict[str, dict[str, Any]]:
    """What the trials in a folder have reported, by name."""
    storage = Storage.at(folder)
    places = {name: storage / name for name in storage.names()}
    return {name: place.read_json(RECORD) for name, place in places.items() if place.exists(RECORD)}


def _stretch(
    job: Job[Any], yardstick: Yardstick, before: list[Report], device: torch.device, pool: Callable[[], AnyPool]
) -> Report:
    objective, found = OBJECTIVES[yardstick.objective], {}
    each = _each(job)
    try:
        command = owner.claim(Storage.at(job.out))
        found = train(job, device, pool(), _silent, command, judged=False) or {}
        seen = model.newest(job, device)
        value = quality(seen, objective, getattr(seen.data, yardstick.part), yardstick.samples, 0, pool())
    except Diverged as e:
        made = job.updates if found else e.update
        cost = found.get("cpu_seconds", before[-1].cpu_seconds if before else 0.0)
        return Report(made, made * each, objective.worst, cost, str(e))
    why = f"diverged: {objective.name} is not a number" if math.isnan(value) else ""
    return Report(job.updates, job.updates * each, objective.worst if why else value, found["cpu_seconds"], why)


def _silent(**kwargs: Any) -> tqdm:
    """A bar that is not drawn: the search has one of its own."""
    return tqdm(**kwargs, disable=True)


def _tell(out: Storage, name: str, settings: Mapping[str, Any], report: Report) -> None:
    """The trial in TensorBoard's HParams tab, and its quality against gradient evaluations; on local storage."""
    if not out.local:
        return
    with SummaryWriter(f"{out.path}/search") as board:  # not where a run that goes on takes back what was told
        for summary in hparams(dict(settings), {name: report.quality}):
            board.file_writer.add_summary(summary)
        board.add_scalar(name, report.quality, report.gradient_evaluations)
