"""Ray Tune around a population: each stretch is a trial of Tune, suggested once the generation before has ended.

Tune places the stretches, and starts those again whose process has died. What was decided lies in the run folders, so a
search that was killed begins with a new Tune. Ray's own scheduler of population based training keeps its decisions in
memory, draws from the global random numbers, and perturbs each setting by itself, whatever the space says.
"""

from functools import partial
from typing import Any

from ray import tune
from ray.actor import ActorHandle
from ray.tune.search import Searcher

from pipeline.distributed.tune import SearchPlan, TrialProgress, fit, run_job
from pipeline.runs.storage import Storage
from pipeline.search import population
from pipeline.search.objectives import OBJECTIVES
from pipeline.search.population import Population
from pipeline.search.trials import RECORD


def population_of(plan: SearchPlan) -> Population:
    """The population of a search."""
    folder = (Storage.at(plan.out) / "trials").uri
    return Population(plan.job, plan.space, plan.trial_budget, plan.trials, plan.seed, folder)


def search(plan: SearchPlan) -> None:
    """Run all generations, each stretch in `trials/<generation>-<member>`; a search that was killed continues."""
    members = population_of(plan)
    generations = plan.trial_budget.report_count
    total = members.size * generations
    done = sum(
        members.place(generation, member).exists(RECORD)
        for generation in range(1, generations + 1)
        for member in range(members.size)
    )
    (Storage.at(plan.out) / "tune" / "trials").delete()
    config = tune.TuneConfig(search_alg=Generations(members), num_samples=total, reuse_actors=True)
    bar = TrialProgress(total, f"{plan.job.name}, trials", plan.trial_budget.objective, done, generations)
    fit(plan, "trials", _run_stretch, config, {}, bar)


class Generations(Searcher):  # type: ignore[misc]
    """Suggests the stretches of a generation that have no record yet, once the generation before has ended."""

    def __init__(self, members: Population):
        objective = OBJECTIVES[members.budget.objective]
        super().__init__(objective.name, objective.direction)
        self.members, self.generation = members, 0
        self.waiting: list[int] = []
        """Members whose stretch of this generation was not suggested yet."""
        self.running: dict[str, tuple[int, int]] = {}
        """Generation and member by Tune's id."""

    def set_search_properties(self, metric: str | None, mode: str | None, config: dict[str, Any], **spec: Any) -> bool:
        """Tune need say nothing."""
        return True

    def suggest(self, trial_id: str) -> dict[str, int] | str | None:
        """The next stretch; None while a generation runs, FINISHED after the last or where all have diverged."""
        while not self.waiting:
            if self.running:
                return None
            ended = self.generation
            if ended == self.members.budget.report_count or (ended and not population.is_alive(self.members, ended)):
                return str(self.FINISHED)
            self.generation += 1
            if self.generation > 2:
                population.forget(self.members, self.generation - 2)
            records = population.read_generation(self.members, self.generation)
            self.waiting = [member for member, record in enumerate(records) if record is None]
        self.running[trial_id] = self.generation, self.waiting.pop(0)
        generation, member = self.running[trial_id]
        return {"generation": generation, "member": member}

    def on_trial_complete(self, trial_id: str, result: dict[str, Any] | None = None, error: bool = False) -> None:
        """Note that a stretch has ended; one that cannot be run counts as the worst."""
        generation, member = self.running.pop(trial_id)
        if error:
            population.record_failure(self.members, generation, member)

    def save(self, checkpoint_path: str) -> None:
        """Nothing: all is in the run folders."""

    def restore(self, checkpoint_path: str) -> None:
        """Nothing."""


def _run_stretch(plan: SearchPlan, status: ActorHandle, config: dict[str, Any]) -> None:
    """A stretch's process."""
    members, generation, member = population_of(plan), config["generation"], config["member"]
    stretch = population.plan_stretch(members, generation, member)
    population.begin_stretch(members, stretch)

    run = partial(population.run_stretch, members, stretch)
    run_job(plan, status, stretch.job, lambda *how: iter([run(*how)]), generation=generation)
