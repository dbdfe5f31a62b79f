"""Which layout is recommended, and what a whole run takes."""

from dataclasses import replace

import pytest
from test_simulation import WIDE, costs

from pipeline.errors import InputError
from pipeline.planning.costs import Costs, RayCosts, from_json, to_json
from pipeline.planning.machines import Layout, Machines, place
from pipeline.planning.memory import memory
from pipeline.planning.recommend import Wanted, evaluate, layouts, least_seconds, over_actors, recommend
from pipeline.planning.steady import simulate
from pipeline.planning.whole_run import whole_run

SMALL, WANTED = Machines(nodes=2, cores=8.0), Wanted(max_learners=4)


def test_no_simulation_is_faster_than_its_bound():
    job = costs(count=8, learn=0.05, ray=RayCosts())
    for layout in layouts(job, SMALL, Wanted(lags=(0, 2), max_learners=4)):
        assert simulate(job, SMALL, layout, 8).seconds >= least_seconds(job, SMALL, layout) * (1 - 1e-9), layout


def test_the_recommended_layout_is_as_fast_as_the_best_of_all():
    job = costs(count=8, learn=0.05, ray=RayCosts())
    best, plans = recommend(job, SMALL, WANTED)
    fastest = min(evaluate(job, SMALL, layout).steady.seconds for layout in layouts(job, SMALL, WANTED))
    assert best.steady.seconds <= 1.05 * fastest
    assert best in plans


def test_chains_that_cost_nothing_need_no_actors():
    best, _ = recommend(costs(task=1e-9, ray=RayCosts()), SMALL, Wanted(learners=1))
    assert best.layout.actors == 0


def test_expensive_chains_take_all_there_is_room_for():
    best, _ = recommend(costs(task=100.0, learn=1e-6, count=8), Machines(cores=9.0), Wanted(learners=1))
    assert (best.layout.actors, best.layout.lanes) == (8, 8)


def test_what_is_wanted_is_kept():
    best, plans = recommend(costs(count=16), SMALL, Wanted(lanes=8, learners=2, actors=4, lags=(1,)))
    assert best.layout == Layout(8, 2, 4, 1)
    assert plans == [best]


@pytest.mark.parametrize("wanted", [Wanted(lanes=3), Wanted(lanes=4, learners=3), Wanted(lanes=4, actors=5)])
def test_what_cannot_be_is_refused(wanted):
    with pytest.raises(InputError, match="lanes may be 1, 2, 4, 8"):
        recommend(costs(count=8), SMALL, wanted)


def test_the_curve_goes_through_the_recommended_plan():
    job = costs(count=16)
    best, _ = recommend(job, SMALL, Wanted(learners=1))
    plans = over_actors(job, SMALL, best.layout, (0, 1))
    assert best.layout in [plan.layout for plan in plans]
    assert {plan.layout.actors for plan in plans} >= {1, 2, 4, 8}


def test_a_run_without_faults_is_its_updates_and_checkpoints():
    job, layout = costs(checkpoint=10.0, checkpoint_every=25), Layout(1, 1, 1)
    run = whole_run(job.job, WIDE, layout, simulate(job, WIDE, layout), 100)
    assert run.hours == pytest.approx((100 * 10 + 4 * 10) / 3600)
    assert (run.faults, run.repeated) == (0, 0)


def test_a_lost_machine_costs_its_recovery_and_the_updates_since_the_checkpoint():
    job, layout = costs(checkpoint_every=25), Layout(1, 1, 1)
    machines, steady = replace(WIDE, faults=0.5, recovery=60.0), simulate(job, WIDE, layout)
    run = whole_run(job.job, machines, layout, steady, 2000)
    assert run.faults > 0
    lost = run.hours * 3600 - 2000 * 10 - run.faults * 60
    assert run.repeated * 10 <= lost <= (run.repeated + run.faults) * 10


def test_machines_without_learners_lose_no_update():
    job, layout = costs(checkpoint_every=25), Layout(8, 1, 8)
    machines = replace(WIDE, nodes=1000, faults=0.01)
    run = whole_run(job.job, machines, layout, simulate(job, WIDE, layout), 10_000)
    assert run.faults > 10
    assert run.repeated <= 25 * 10


def test_faults_faster_than_checkpoints_never_end():
    job, layout = costs(checkpoint_every=100), Layout(1, 1, 1)
    machines = replace(WIDE, faults=3600.0)
    assert whole_run(job.job, machines, layout, simulate(job, WIDE, layout), 100).hours == float("inf")


def test_memory_adds_up():
    own = costs(count=8)
    own = replace(own, memory=replace(own.memory, learner=1000, actor=100, item=10, chain=1, bank=50))
    weights = own.job.weight_bytes
    need = memory(own, Machines(cores=4.0), Layout(4, 1, 2, 1))
    assert need.node == 1000 + 50 + 10 * 2 + 2 * (100 + weights + 2) + 3 * weights
    assert need.gpu == 0


def test_processes_have_gpus_of_their_own_as_long_as_there_are_any():
    machines, layout = Machines(nodes=2, cores=8.0, gpus=4), Layout(8, 1, 7)
    at = place(machines, layout)
    pairs = [*zip(at.learners, at.learner_gpus, strict=True), *zip(at.actors, at.actor_gpus, strict=True)]
    assert len(set(pairs)) == 8


def test_costs_survive_a_file():
    own = costs(ray=RayCosts())
    assert from_json(to_json(own)) == own


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": 0}', '{"format": 1, "job": {}}'])
def test_other_files_are_refused(text):
    with pytest.raises(InputError):
        from_json(text)


def test_a_larger_batch_has_more_chains():
    own: Costs = costs(count=8).changed(batch_size=32)
    assert (own.job.batch_size, own.job.chains["model"].count) == (32, 32)


def test_twice_the_speed_is_half_the_time():
    own = costs(step=1.0)
    assert simulate(own.changed(speedup=2.0), WIDE, Layout(1, 1, 1)).seconds == pytest.approx(
        simulate(own, WIDE, Layout(1, 1, 1)).seconds / 2
    )
