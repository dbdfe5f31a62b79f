"""Population based training: what members decide, and that taking over another is exact."""

import json
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from running import CPU, everything, local_pool, newest, run

from pipeline.errors import InputError, Stopped
from pipeline.runs import checkpoint
from pipeline.runs.job import check_job, load_dataset, override
from pipeline.runs.job_json import load_run
from pipeline.runs.storage import Storage
from pipeline.schedule import Change, check_changes
from pipeline.search import explorer
from pipeline.search.budgets import TrialBudget, gradient_costs, gradients_until, report_updates, updates_within
from pipeline.search.objectives import OBJECTIVES
from pipeline.search.population import (
    Population,
    begin_stretch,
    check_population,
    choose_origins,
    explore,
    leaves,
    lineage,
    plan_stretch,
    record_failure,
    run_stretch,
)
from pipeline.search.trials import read_records

LOWER, HIGHER = OBJECTIVES["frechet"], OBJECTIVES["accuracy"]
PER_UPDATE = 16 * 5


def space(trial, recipe, budget):
    """Noise, steps and rate, whose decay is a share of the updates that the budget allows."""
    steps = trial.suggest_int("steps", 3, 8)
    langevin = replace(recipe.langevin, steps=steps, noise=trial.suggest_float("noise", 5e-3, 0.1, log=True))
    decay = trial.suggest_float("lr_falls_to", 0.01, 1.0, log=True) ** (1 / max(1, budget // (16 * steps)))
    lr = trial.suggest_float("lr", 1e-5, 1e-3, log=True)
    return replace(recipe, langevin=langevin, lr=lr, lr_decay=decay)


@pytest.fixture
def population(small, tmp_path):
    job = override(small, source="eight-gaussians", max_items=500, updates=1, out="")
    budget = TrialBudget("grid_kl", gradient_evaluations=PER_UPDATE * 9, report_count=3, sample_count=40)
    return Population(job, space, budget, 4, 0, str(tmp_path / "trials"))


def go(population, generation, member, requested=lambda: ""):
    """A member's stretch, in this process."""
    stretch = plan_stretch(population, generation, member)
    begin_stretch(population, stretch)
    return run_stretch(population, stretch, CPU, lambda: local_pool(stretch.job), requested)


def run_generations(population, count):
    for generation in range(1, count + 1):
        for member in range(population.size):
            go(population, generation, member)
    return read_records(Storage.at(population.folder))


def same_tensors(one, other):
    one, other = everything(one), everything(other)
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def test_the_worst_take_over_the_best_and_the_others_go_on():
    qualities = [5.0, 1.0, 9.0, 3.0, math.inf, 2.0, 8.0, 7.0]
    origins = choose_origins(qualities, LOWER, 0, 2)
    losers = {m for m, one in enumerate(origins) if one.explores}
    assert losers == {2, 4}  # a quarter of eight
    assert {origins[m].member for m in losers} <= {1, 5}
    assert all(one.member == m for m, one in enumerate(origins) if m not in losers)
    assert {choose_origins(qualities, LOWER, seed, 2)[2].member for seed in range(20)} == {1, 5}
    assert choose_origins(qualities, LOWER, 0, 2) == origins
    assert [one.explores for one in choose_origins([-q for q in qualities], HIGHER, 0, 2)] == [
        one.explores for one in origins
    ]


def test_whoever_has_diverged_takes_over_as_long_as_somebody_has_not():
    inf = math.inf
    assert [one.explores for one in choose_origins([inf, 3.0, inf, inf], LOWER, 0, 2)] == [True, False, True, True]
    assert not any(one.explores for one in choose_origins([inf] * 4, LOWER, 0, 2))
    assert [one.explores for one in choose_origins([1.0, 1.0], LOWER, 0, 2)] == [False, True]


def test_taking_over_another_with_its_settings_is_that_others_continuation(population, monkeypatch):
    monkeypatch.setattr(explorer, "FACTORS", (1.0,))
    population = replace(population, size=2)
    records = run_generations(population, 2)
    taken = {name: one["origin"] for name, one in records.items() if one["origin"] and one["origin"][3:] != name[3:]}
    assert len(taken) == 1
    for name, origin in taken.items():
        mine, theirs = (load_run(f"{population.folder}/{one}") for one in (name, f"02-{origin[3:]}"))
        assert mine.changes == ()
        assert same_tensors(mine, theirs)  # weights, optimizer, bank and history
        assert records[name]["reports"][0]["quality"] == records[f"02-{origin[3:]}"]["reports"][0]["quality"]


@pytest.mark.slow
def test_a_member_is_the_run_of_its_schedule(population, tmp_path):
    records = run_generations(population, 3)
    names = [name for name in leaves(records) if name.startswith("03")]
    jobs = [load_run(f"{population.folder}/{name}") for name in names]
    assert len(jobs) == 4
    assert any(job.changes for job in jobs)
    for name, job in zip(names, jobs, strict=True):
        check_job(job)
        check_changes(job.recipe, job.changes, load_dataset(job).spec)
        whole = replace(job, out=str(tmp_path / f"whole-{name}"))
        run(whole)
        assert same_tensors(job, whole)
        assert report_updates(job, population.budget)[-1] == job.updates == records[name]["reports"][0]["updates"]
        cost = records[name]["reports"][0]["gradient_evaluations"]
        assert cost == gradients_until(gradient_costs(job), job.updates) >= population.budget.gradient_evaluations
        result = json.loads((Path(job.out) / "result.json").read_text())
        assert result["gradient_evaluations"] == cost  # as counted while the chains moved


@pytest.mark.slow
def test_a_population_that_is_killed_anywhere_ends_alike(population, tmp_path):
    expected = run_generations(population, 2)
    again = replace(population, folder=str(tmp_path / "again"))
    for member in range(4):
        go(again, 1, member)
    calls = iter(["", "stop"])
    with pytest.raises(Stopped):
        go(again, 2, 0, lambda: next(calls))
    place = begin_second_generation(again, 1)
    (place / "job.json").unlink()  # killed before it had begun
    place = begin_second_generation(again, 2)
    next((place / "checkpoints").iterdir()).joinpath("manifest.json").unlink()  # while it was copied
    (place / "job.json").unlink()
    for member in range(4):
        go(again, 2, member)
        go(again, 2, member)  # it has ended: nothing happens
    assert comparable(read_records(Storage.at(again.folder))) == comparable(expected)
    for member in range(4):
        assert same_tensors(*(load_run(f"{one.folder}/02-{member:02d}") for one in (population, again)))


def begin_second_generation(population, member):
    stretch = plan_stretch(population, 2, member)
    begin_stretch(population, stretch)
    return Path(stretch.job.out)


def comparable(records):
    """Records without measured times."""
    return {k: {**v, "reports": [{**r, "cpu_seconds": 0} for r in v["reports"]]} for k, v in records.items()}


def test_a_member_whose_process_cannot_run_takes_over_another(population):
    population = replace(population, size=2)
    for member in range(2):
        go(population, 1, member)
    record_failure(population, 2, 1)
    go(population, 2, 0)
    assert plan_stretch(population, 3, 1).origin == "02-00"
    record = read_records(Storage.at(population.folder))["02-01"]
    assert (record["reports"][0]["quality"], record["reports"][0]["diverged"]) == (math.inf, "its process died")


def test_what_a_space_makes_of_the_budget_refers_to_all_updates(population):
    job = plan_stretch(population, 1, 0).job
    settings = {"steps": 5, "noise": 0.02, "lr_falls_to": 0.1, "lr": 1e-4}
    job = replace(job, recipe=space(explorer.Explorer(settings, None), population.job.recipe, PER_UPDATE * 9))
    for seed in range(6):
        changed, moved = explore(population, job, settings, 3, explorer.np.random.default_rng(seed))
        recipe, end = changed.recipe_at(3), report_updates(changed, population.budget)[-1]
        assert changed.recipe_at(2) == job.recipe
        assert recipe.langevin.steps == moved["steps"] != 5
        whole = 3 + (PER_UPDATE * 6) // (16 * moved["steps"])
        assert end - 1 <= whole <= end
        assert recipe.lr_decay**whole == pytest.approx(moved["lr_falls_to"])


def test_costs_follow_the_changes(small):
    costs = gradient_costs(replace(small, changes=(Change(3, {"steps": 10}), Change(5, {"steps": 1}))))
    assert costs == [(0, 80), (3, 160), (5, 16)]
    assert [gradients_until(costs, update) for update in (0, 2, 3, 4, 5, 8)] == [0, 160, 240, 400, 560, 608]
    for gradients in range(1, 700):
        update = updates_within(costs, gradients)
        assert gradients_until(costs, update) >= gradients > gradients_until(costs, update - 1)


def test_lines_end_where_their_member_does_not_go_on():
    records = {"01-00": "", "01-01": "", "02-00": "01-00", "02-01": "01-00", "03-00": "02-01", "03-01": "02-01"}
    records = {name: {"origin": origin} for name, origin in records.items()}
    assert sorted(leaves(records)) == ["01-01", "02-00", "03-00", "03-01"]
    assert lineage(records, "03-00") == ["01-00", "02-01", "03-00"]


def test_a_population_that_cannot_be_is_refused_in_one_line(population):
    check_population(population)
    for broken, why in (
        (replace(population, job=replace(population.job, lag=1)), "scheduler=pbt: needs a lag of 0"),
        (replace(population, size=1), "scheduler=pbt: needs 2 or more --trials and --reports"),
        (replace(population, space=widening), "scheduler=pbt: the networks cannot change while a run learns"),
    ):
        with pytest.raises(InputError, match=why):
            check_population(broken)
    assert not Path(population.folder).exists()


def widening(trial, recipe, budget):
    return replace(recipe, width=trial.suggest_int("width", 2, 64))


def test_a_takeover_copies_the_checkpoint_as_it_is(population):
    population = replace(population, size=2)
    for member in range(2):
        go(population, 1, member)
    for member in range(2):
        stretch = plan_stretch(population, 2, member)
        begin_stretch(population, stretch)
        mine, theirs = newest(stretch.job), newest(load_run(f"{population.folder}/{stretch.origin}"))
        assert checkpoint.is_whole(mine)
        assert mine.read("manifest.json") == theirs.read("manifest.json")
