"""Population based training (Jaderberg et al. 2017, arXiv:1711.09846): members take over each other as they learn.

All members make a stretch of updates, then each of the worst takes over the whole checkpoint of one of the best
(weights, optimizers, banks, history of divergence) and goes on with other settings. So a member's job is the schedule
that its weights have followed (`Job.changes`), and a stretch is a run of that job that begins with a checkpoint of the
stretch before. Every decision is a function of the search's seed and of the records of the generation before.
"""

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

import numpy as np
import torch

from pipeline import stop
from pipeline.chains.local_pool import Pool
from pipeline.errors import InputError
from pipeline.recipe import init_networks
from pipeline.rng import fold
from pipeline.runs import checkpoint
from pipeline.runs.job import Job, load_dataset
from pipeline.runs.job_json import load_run, to_json
from pipeline.runs.journal import provenance
from pipeline.runs.storage import Storage
from pipeline.schedule import Change, changed_settings, check_changes
from pipeline.search.budgets import (
    TrialBudget,
    gradient_costs,
    gradients_per_update,
    gradients_until,
    updates_within,
)
from pipeline.search.explorer import Explorer
from pipeline.search.objectives import OBJECTIVES, Objective
from pipeline.search.trials import RECORD, TrialReport, run_until, write_record

SHARE = 4
"""The worst of so many take over one of the best of so many."""


@dataclass(frozen=True)
class Population:
    """What all members share; generations are counted from 1, and are as many as the budget has reports."""

    job: Job[Any]
    """The members' job, apart from the recipe's settings and the run folder."""
    space: Callable[[Any, Any, int], Any]
    budget: TrialBudget
    size: int
    """Number of members."""
    seed: int
    """Of the first settings, and of all decisions."""
    folder: str
    """Of the stretches, `<generation>-<member>`."""

    def place(self, generation: int, member: int) -> Storage:
        """The run folder of a stretch."""
        return Storage.at(self.folder) / stretch_name(generation, member)


class Origin(NamedTuple):
    """What a member goes on from."""

    member: int
    """Whose checkpoint of the generation before."""
    explores: bool
    """Whether with other settings."""


class Stretch(NamedTuple):
    """A member's part of a generation."""

    job: Job[Any]
    """With the schedule so far; it ends where the stretch does."""
    settings: dict[str, Any]
    """The space's, as they are now."""
    origin: str
    """The stretch that it goes on from; empty in the first generation."""
    update: int
    """Where it begins."""


def stretch_name(generation: int, member: int) -> str:
    """The name of a stretch's folder."""
    return f"{generation:02d}-{member:02d}"


def choose_origins(qualities: Sequence[float], objective: Objective, seed: int, generation: int) -> list[Origin]:
    """What each member of a generation goes on from.

    The worst quarter, and who has diverged, take over one of the best quarter, drawn anew for each; everybody else goes
    on. Of equals the first is better. If all have diverged, nobody takes over.

    Args:
        qualities: of the members, in the generation before.
        objective: their better direction.
        seed: of the search.
        generation: the new one.
    """
    count, dead = max(1, len(qualities) // SHARE), {m for m, q in enumerate(qualities) if not math.isfinite(q)}
    order = sorted(range(len(qualities)), key=lambda m: (objective.sign * qualities[m], m))
    best = [m for m in order[:count] if m not in dead]
    losers = ({*order[-count:]} | dead) - {*best} if best else set()

    def source(member: int) -> int:
        return best[int(np.random.default_rng(fold(seed, "takeover", generation, member)).integers(len(best)))]

    return [Origin(source(m), True) if m in losers else Origin(m, False) for m in range(len(qualities))]


def read_generation(population: Population, generation: int) -> list[dict[str, Any] | None]:
    """The records of a generation's stretches; None where a stretch has not ended."""
    places = [population.place(generation, member) for member in range(population.size)]
    return [place.read_json(RECORD) if place.exists(RECORD) else None for place in places]


def is_alive(population: Population, generation: int) -> bool:
    """Whether a member of a generation that has ended has not diverged."""
    return any(one and math.isfinite(one["reports"][-1]["quality"]) for one in read_generation(population, generation))


def plan_stretch(population: Population, generation: int, member: int) -> Stretch:
    """A member's part of a generation, once the generation before has ended."""
    place = population.place(generation, member)
    if generation == 1:
        explorer = Explorer({}, np.random.default_rng(fold(population.seed, "first", member)))
        recipe = population.space(explorer, population.job.recipe, population.budget.gradient_evaluations)
        return _until_next(
            population, replace(population.job, recipe=recipe), place, generation, explorer.settings, "", 0
        )
    records = [one for one in read_generation(population, generation - 1) if one]
    assert len(records) == population.size
    objective = OBJECTIVES[population.budget.objective]
    qualities = [one["reports"][-1]["quality"] for one in records]
    origin = choose_origins(qualities, objective, population.seed, generation)[member]
    source, record = population.place(generation - 1, origin.member), records[origin.member]
    own = load_run(source.uri, sys.modules)
    job, settings = replace(population.job, recipe=own.recipe, changes=own.changes), record["settings"]
    update = record["reports"][-1]["updates"]
    if origin.explores:
        rng = np.random.default_rng(fold(population.seed, "explore", generation, member))
        job, settings = explore(population, job, settings, update, rng)
    return _until_next(population, job, place, generation, settings, source.name, update)


def _until_next(
    population: Population,
    job: Job[Any],
    place: Storage,
    generation: int,
    settings: dict[str, Any],
    origin: str,
    update: int,
) -> Stretch:
    """The stretch of a job from an update to the next report."""
    share = population.budget.gradient_evaluations / population.budget.report_count
    end = max(update, updates_within(gradient_costs(job), share * generation))
    return Stretch(replace(job, updates=end, out=place.uri), settings, origin, update)


def explore(
    population: Population, job: Job[Any], settings: Mapping[str, Any], update: int, rng: np.random.Generator
) -> tuple[Job[Any], dict[str, Any]]:
    """The job with other settings from an update on, and the space's settings that these are.

    What a space makes of its budget, as the decay of a rate, refers to the updates that the job will have made in all.
    """
    explorer, budget = Explorer(settings, rng), population.budget.gradient_evaluations
    recipe = population.space(explorer, population.job.recipe, budget)
    nets = init_networks(recipe, load_dataset(job).spec, job.seed, torch.device("cpu"))
    cost, left = gradients_per_update(recipe, nets), max(0, budget - gradients_until(gradient_costs(job), update))
    whole = update * cost + left
    recipe = population.space(Explorer(explorer.settings, None), population.job.recipe, whole)
    earlier = tuple(one for one in job.changes if one.update < update)
    change = Change(update, changed_settings(job.recipe_at(update - 1), recipe))
    return replace(job, changes=(*earlier, change) if change.settings else earlier), explorer.settings


def begin_stretch(population: Population, stretch: Stretch) -> None:
    """Make a stretch's run folder from the checkpoint that it goes on from, unless it is there; job.json comes last."""
    place = Storage.at(stretch.job.out)
    if place.exists("job.json"):
        return
    place.delete()
    if stretch.origin:
        theirs = Storage.at(population.folder) / stretch.origin / "checkpoints"
        name = checkpoint.newest_name(theirs)
        assert name
        assert checkpoint.update_of(name) == stretch.update
        (place / "checkpoints" / name).copy_from(theirs / name)
    place.write_json("job.json", {**to_json(stretch.job), "provenance": provenance()})


def run_stretch(
    population: Population,
    stretch: Stretch,
    device: torch.device,
    pool: Callable[[], Pool],
    requested: Callable[[], str] = stop.requested,
) -> TrialReport:
    """Run a stretch that has begun, from its newest checkpoint, and write its record; the arguments are `run_trial`'s.

    Raises:
        Stopped: as `run_trial` does.
    """
    place = Storage.at(stretch.job.out)
    if place.exists(RECORD):
        return TrialReport(**place.read_json(RECORD)["reports"][-1])
    before = [_last_report(population, stretch)] if stretch.origin else []
    report = run_until(stretch.job, population.budget, before, device, pool, requested)
    write_record(place, population.budget, stretch.settings, [report], origin=stretch.origin)
    return report


def record_failure(population: Population, generation: int, member: int) -> None:
    """Record that a stretch cannot be run, so that the member takes over another's checkpoint next time."""
    if population.place(generation, member).exists(RECORD):
        return
    stretch = plan_stretch(population, generation, member)
    begin_stretch(population, stretch)
    before = _last_report(population, stretch) if stretch.origin else TrialReport(0, 0, 0.0, 0.0)
    worst = OBJECTIVES[population.budget.objective].worst
    report = replace(before, quality=worst, diverged="its process died")
    write_record(Storage.at(stretch.job.out), population.budget, stretch.settings, [report], origin=stretch.origin)


def _last_report(population: Population, stretch: Stretch) -> TrialReport:
    """The report of the stretch that another goes on from."""
    return TrialReport(**(Storage.at(population.folder) / stretch.origin).read_json(RECORD)["reports"][-1])


def forget(population: Population, generation: int) -> None:
    """Remove the checkpoints of a generation that nothing goes on from any more."""
    for member in range(population.size):
        (population.place(generation, member) / "checkpoints").delete()


def lineage(records: Mapping[str, Mapping[str, Any]], name: str) -> list[str]:
    """The stretches that one goes on from, oldest first, itself included."""
    names = [name]
    while origin := records[names[-1]]["origin"]:
        names.append(origin)
    return names[::-1]


def leaves(records: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """The stretches that their own member does not go on from: the last ones, and those that gave way to another."""
    members = {name: tuple(map(int, name.split("-"))) for name in records}
    following = {name: records.get(stretch_name(g + 1, m)) for name, (g, m) in members.items()}
    return [name for name, after in following.items() if after is None or after["origin"] != name]


def check_population(population: Population) -> None:
    """Raise InputError where members cannot take over each other's checkpoints."""
    job, spec = population.job, load_dataset(population.job).spec
    if job.lag:
        raise InputError("needs a lag of 0: chains in flight have the settings of before", "scheduler", "pbt")
    if population.size < 2 or population.budget.report_count < 2:
        raise InputError("needs 2 or more --trials and --reports", "scheduler", "pbt")
    first = plan_stretch(population, 1, 0)
    rng = np.random.default_rng(0)
    explored, _ = explore(population, first.job, first.settings, 1, rng)
    try:
        check_changes(explored.recipe, explored.changes, spec)
    except InputError as e:
        raise InputError(e.why, "scheduler", "pbt") from e
