"""How long a trial runs: budgets of gradient evaluations, and the updates after which it reports."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch

from pipeline.nets.weights import Nets
from pipeline.recipe import Recipe, init_networks
from pipeline.runs.job import Job, load_dataset


@dataclass(frozen=True)
class TrialBudget:
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


def gradients_per_update(recipe: Recipe, nets: Nets) -> int:
    """Gradients that one update takes: of energies, by the chains; of items' losses, where learning runs no chains."""
    moved = sum(c.count * recipe.sampler(name, nets, 0).gradient_evaluations for name, c in recipe.chains.items())
    return moved or sum(recipe.streams.values())


def _job_gradients_per_update(job: Job[Any]) -> int:
    return gradients_per_update(
        job.recipe, init_networks(job.recipe, load_dataset(job).spec, job.seed, torch.device("cpu"))
    )


def report_updates(job: Job[Any], yardstick: TrialBudget) -> list[int]:
    """The updates after which a trial says its quality: the first at which each share of the budget is spent."""
    each, share = _job_gradients_per_update(job), yardstick.budget / yardstick.reports
    return sorted({max(1, math.ceil(round(share * (i + 1) / each, 6))) for i in range(yardstick.reports)})
