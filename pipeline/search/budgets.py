"""How long a trial runs: budgets of gradient evaluations, and the updates after which a trial reports."""

import math
from dataclasses import dataclass
from typing import Any, Literal

import torch

from pipeline.nets.weights import Nets
from pipeline.recipe import Recipe, init_networks
from pipeline.runs.job import Job, load_dataset
from pipeline.settings import PositiveInt, Settings


@dataclass(frozen=True)
class TrialBudget(Settings):
    """How long trials run, and what their quality is measured by."""

    objective: str
    """Name of one of `objectives.OBJECTIVES`."""
    gradient_evaluations: PositiveInt
    """Of a complete trial."""
    report_count: PositiveInt = 9
    """Reports of a complete trial, after equal shares of the budget."""
    sample_count: PositiveInt = 1000
    """Samples, or items at most, that a quality is measured on."""
    split: Literal["validation", "test"] = "validation"
    """Items that it is measured on."""


def gradients_per_update(recipe: Recipe, nets: Nets) -> int:
    """Gradients that one update takes: of energies along the chains or, without chains, of the losses of items."""
    chains = sum(c.count * recipe.sampler(name, nets, 0).gradient_evaluations for name, c in recipe.chains.items())
    return chains or sum(recipe.streams.values())


def job_gradients_per_update(job: Job[Any]) -> int:
    """The same for a job."""
    nets = init_networks(job.recipe, load_dataset(job).spec, job.seed, torch.device("cpu"))
    return gradients_per_update(job.recipe, nets)


def report_updates(job: Job[Any], budget: TrialBudget) -> list[int]:
    """The updates after which a trial reports: the first at which each share of the budget is used up."""
    per_update, share = job_gradients_per_update(job), budget.gradient_evaluations / budget.report_count
    shares = range(1, budget.report_count + 1)
    return sorted({max(1, math.ceil(round(share * i / per_update, 6))) for i in shares})
