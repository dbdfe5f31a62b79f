"""How long a trial runs: budgets of gradient evaluations, and the updates after which a trial reports."""

import math
from collections.abc import Sequence
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


def gradient_costs(job: Job[Any]) -> list[tuple[int, int]]:
    """The gradients that each of a job's updates takes: pairs of the first update and their number from there on."""
    nets = init_networks(job.recipe, load_dataset(job).spec, job.seed, torch.device("cpu"))
    return [(at, gradients_per_update(job.recipe_at(at), nets)) for at in (0, *(one.update for one in job.changes))]


def gradients_per_sample(job: Job[Any], update: int) -> int:
    """The gradients that one sample of the model takes after so many of a job's updates: K."""
    recipe = job.recipe_at(update - 1)
    nets = init_networks(recipe, load_dataset(job).spec, job.seed, torch.device("cpu"))
    gradients: int = recipe.sampler(recipe.sample_chain, nets, update).gradient_evaluations
    return gradients


def gradients_until(costs: Sequence[tuple[int, int]], update: int) -> int:
    """The gradients that the updates before `update` take."""
    ends = [*(begin for begin, _ in costs[1:]), update]
    return sum(max(0, min(end, update) - begin) * cost for (begin, cost), end in zip(costs, ends, strict=True))


def updates_within(costs: Sequence[tuple[int, int]], gradients: float) -> int:
    """The number of updates that use up so many gradients, 1 or more."""
    begin, cost = next((begin, cost) for begin, cost in reversed(costs) if gradients_until(costs, begin) <= gradients)
    return max(1, begin + math.ceil(round((gradients - gradients_until(costs, begin)) / cost, 6)))


def report_updates(job: Job[Any], budget: TrialBudget) -> list[int]:
    """The updates after which a trial reports: the first at which each share of the budget is used up."""
    costs, share = gradient_costs(job), budget.gradient_evaluations / budget.report_count
    return sorted({updates_within(costs, share * i) for i in range(1, budget.report_count + 1)})
