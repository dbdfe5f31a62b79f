"""Ray Tune around trials: what a search tries, what it saves, and what it knows after a kill."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from pipeline.distributed.tune import ResumableASHA, SearchPlan, check_room, confirm, search, suggested_recipe
from pipeline.errors import InputError
from pipeline.recipes.short_run import ShortRun
from pipeline.runs.job import override
from pipeline.runs.storage import Storage
from pipeline.samplers.langevin import Langevin
from pipeline.search.budgets import TrialBudget
from pipeline.search.trials import read_records

pytestmark = pytest.mark.xdist_group("ray")


@pytest.fixture
def plan(small):
    from jobs.short_run import space  # here: pickle cannot find it in modules that tests of commands import again

    recipe = ShortRun(langevin=Langevin(5, 1.0, 0.01), batch_size=8, width=4, start_from="gaussian", data_noise=0.0)
    job = override(small, recipe=recipe, source="eight-gaussians", lanes=2, updates=1, out="")
    budget = TrialBudget("kl", gradient_evaluations=9 * 40, report_count=9, sample_count=20)
    return SearchPlan(job, space, budget, 2, "tpe", "asha", 0, str(Path(small.out).parent), 0.25, 0.0)


@pytest.mark.slow
@pytest.mark.parametrize("suggestions", ["tpe", "nsga2"])
def test_a_search_for_the_front_suggests_by_both_and_continues(ray_session, plan, suggestions):
    plan = replace(plan, suggestions=suggestions, scheduler="none", front=True, trials=6)
    search(plan)
    records = read_records(Storage.at(plan.out) / "trials")
    assert len(records) == 6
    assert all(one["reports"][-1]["gradient_evaluations"] >= 360 for one in records.values())
    search(replace(plan, trials=7))  # it has ended, with as many trials as it began with
    assert read_records(Storage.at(plan.out) / "trials") == records


@pytest.mark.slow
def test_a_search_saves_every_trial_and_continues_where_it_stopped(ray_session, plan):
    search(plan)
    records = read_records(Storage.at(plan.out) / "trials")
    assert len(records) == plan.trials
    for name, record in records.items():
        job = json.loads((Path(plan.out) / "trials" / name / "job.json").read_text())
        recipe = suggested_recipe(plan, record["settings"])
        assert job["recipe"]["langevin"]["noise"] == recipe.langevin.noise == record["settings"]["noise"]
        gradient_evaluations = [one["gradient_evaluations"] for one in record["reports"]]
        assert gradient_evaluations[0] >= 40
        assert gradient_evaluations == sorted(set(gradient_evaluations))
    best = suggested_recipe(plan, next(iter(records.values()))["settings"])
    confirm(plan, {"best-seed-1": replace(plan.job, recipe=best, seed=1)})
    confirmed = {
        k: (one["split"], len(one["reports"])) for k, one in read_records(Storage.at(plan.out) / "confirm").items()
    }
    assert confirmed == {"best-seed-1": ("test", 1)}
    search(plan)  # it has ended: no new trial runs
    assert read_records(Storage.at(plan.out) / "trials") == records


def test_a_trial_that_does_not_fit_is_an_error(ray_session, plan):
    with pytest.raises(InputError, match=r"a trial needs 3 CPU \(2 there\); lower cpus_per_trial"):
        check_room(replace(plan, cpus_per_trial=3.0))
    with pytest.raises(InputError, match="a trial needs"):
        check_room(replace(plan, job=override(plan.job, actors=4, cpus_per_actor=0.5)))


@pytest.mark.slow
def test_a_trial_with_actors_is_the_same_trial(ray_session, plan):
    one = replace(plan, trials=1, suggestions="random")
    search(one)
    job = override(plan.job, actors=1, cpus_per_actor=0.25)
    with_actors = replace(one, out=f"{plan.out}/with-actors", job=job)
    search(with_actors)
    (alone,), (helped,) = (read_records(Storage.at(p.out) / "trials").values() for p in (one, with_actors))
    assert alone["settings"] == helped["settings"]
    assert [r["quality"] for r in alone["reports"]] == [r["quality"] for r in helped["reports"]]


def test_asha_knows_after_a_kill_what_trials_reported_before(plan):
    trials = Path(plan.out) / "trials"
    for name, quality in (("a", 1.0), ("b", 2.0), ("c", 3.0)):
        (trials / name).mkdir(parents=True)
        record = {"reports": [{"gradient_evaluations": 40, "quality": quality}]}
        (trials / name / "trial.json").write_text(json.dumps(record))
    actions = {}
    for quality in (0.5, 2.5):
        scheduler, trial = ResumableASHA(plan), SimpleNamespace(trial_id="new")
        scheduler.on_trial_add(None, trial)
        actions[quality] = scheduler.on_trial_result(None, trial, {"gradient_evaluations": 40, "kl": quality})
    assert actions == {0.5: "CONTINUE", 2.5: "STOP"}
    rungs = re.findall(r"Iter ([\d.]+)", ResumableASHA(plan).debug_string())
    assert [float(rung) for rung in rungs] == pytest.approx([360, 120, 40])
