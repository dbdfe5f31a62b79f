"""Laws of the simulated protocol."""

from dataclasses import replace
from itertools import pairwise

import pytest
import simpy

from pipeline.planning.costs import ChainCosts, Costs, Curve, JobCosts, Line, RayCosts
from pipeline.planning.machines import Layout, Machines
from pipeline.planning.sharing import Shared
from pipeline.planning.steady import simulate

NOTHING = Curve((1,), (0.0,))
FREE = RayCosts(
    **{name: Line(0.0) for name in ("put", "submit", "collect", "receive", "fetch", "system", "reduce")},
    **dict.fromkeys(("wait", "wake", "system_wake", "idle", "idle_actor", "train"), 0.0),
)
"""Messages that cost nothing."""
WIDE = Machines(nodes=1, cores=1000.0)


def costs(task=1.0, learn=0.25, count=8, ray=FREE, **job):
    """`count` chains of one step, each `task` seconds; learning takes `learn` seconds an item."""
    chains = {"model": ChainCosts(count, 1, Curve((1,), (task,)), 0.0, 1000)} if task else {}
    own = JobCosts(chains, count, NOTHING, NOTHING, Curve((1,), (learn,)), NOTHING, 0.0, 0.0, 0.0, 10**6, 10**6)
    return Costs(replace(own, **job), ray)


def seconds(costs, layout, machines=WIDE, **more):
    return simulate(costs, machines, layout, **more).seconds


def test_one_actor_and_one_learner_take_turns():
    assert seconds(costs(), Layout(1, 1, 1)) == pytest.approx(8 * 1.0 + 8 * 0.25)


def test_without_actors_the_learner_does_everything():
    assert seconds(costs(), Layout(2, 1, 0)) == pytest.approx(8 * 1.0 + 8 * 0.25)


def test_every_cost_of_one_actor_and_one_learner_is_in_the_sum():
    nothing = {"system": Line(0.0), "system_wake": 0.0, "idle": 0.0, "idle_actor": 0.0, "train": 0.0}
    submit, collect, receive = Line(2.0, 1e-3), Line(4.0, 1e-3), Line(6.0, 1e-3)
    ray = RayCosts(put=Line(1.0, 1e-6), submit=submit, wait=3.0, collect=collect, receive=receive, wake=5.0,
                   fetch=Line(7.0, 1e-6), **nothing)  # fmt: skip
    one = costs(count=1, ray=ray, step=10.0, pack=20.0, load=30.0, prepare=Curve((1,), (40.0,)),
                read=Curve((1,), (50.0,)), log=60.0)  # fmt: skip
    steady = simulate(one, WIDE, Layout(1, 1, 1))
    pool = (1 + 1) + (2 + 1) + 3 + (4 + 1) + (6 + 2) + 5 + (7 + 1)
    assert steady.step_seconds == pytest.approx(pool + 10 + 20 + 30 + 40 + 50 + 1.0 + 0.25)
    assert steady.seconds == pytest.approx(steady.step_seconds + 60)


@pytest.mark.parametrize(("lanes", "lag", "wakes"), [(1, 0, 1), (8, 0, 1), (1, 1, 0), (1, 4, 0)])
def test_an_actor_wakes_only_for_what_it_has_waited_for(lanes, lag, wakes):
    """One that has a queue goes on to its next task: of the same update, or of one that a lag has sent before."""
    slow_to_wake = costs(learn=1e-9, ray=replace(FREE, wake=3.0))
    assert seconds(slow_to_wake, Layout(lanes, 1, 1, lag)) == pytest.approx(8 + 3 * wakes)


def test_infinitely_fast_chains_leave_the_learner():
    steady = simulate(costs(task=1e-12), WIDE, Layout(8, 1, 8, 1))
    assert steady.seconds == pytest.approx(8 * 0.25)
    assert steady.bottleneck == "learning"


def test_infinitely_fast_learning_leaves_the_chains():
    steady = simulate(costs(learn=0.0), WIDE, Layout(8, 1, 2))
    assert steady.seconds == pytest.approx(4 * 1.0)
    assert steady.bottleneck == "chains"
    assert steady.busy["chains"] == pytest.approx(1.0)


@pytest.mark.parametrize("lag", [1, 2, 4])
def test_a_lag_overlaps_chains_and_learning(lag):
    assert seconds(costs(), Layout(2, 1, 2)) == pytest.approx(4 + 2)
    assert seconds(costs(), Layout(2, 1, 2, lag)) == pytest.approx(max(4, 2))


def test_a_lag_without_actors_overlaps_nothing():
    assert seconds(costs(), Layout(2, 1, 0, 1)) == pytest.approx(8 + 2)


def test_stale_chains_are_evaluated_again():
    compared = costs(compare=Curve((1,), (0.5,)), task=1e-12)
    assert seconds(compared, Layout(1, 1, 1)) == pytest.approx(8 * 0.25)
    assert seconds(compared, Layout(1, 1, 1, 1)) == pytest.approx(8 * (0.25 + 0.5))


def test_an_update_that_always_waits_moves_its_chains_twice():
    bounded = Layout(1, 1, 1, 1, bounded=True, waits=1.0)
    assert seconds(costs(), bounded) == pytest.approx(8 + 8 + 2, rel=0.15)
    assert seconds(costs(), replace(bounded, waits=0.0)) == pytest.approx(8)


@pytest.mark.parametrize("lag", [0, 1])
def test_twice_the_actors_are_never_slower_without_costs_of_messages(lag):
    times = [seconds(costs(count=64), Layout(64, 1, 2**k, lag)) for k in range(7)]
    assert all(b <= a * (1 + 1e-9) for a, b in pairwise(times))


def test_two_learners_share_the_lanes():
    assert seconds(costs(task=0.0), Layout(2, 2, 0)) == pytest.approx(4 * 0.25)


def test_a_ring_takes_the_time_of_its_bytes():
    machines, vector = Machines(nodes=4, cores=8.0, bandwidth=1e6, latency=0.0), costs(task=0.0, learn=0.0)
    assert seconds(vector, Layout(4, 4, 0), machines) == pytest.approx(2 * 3 / 4 * 1.0)


def test_weights_reach_a_machine_once():
    """Three other machines fetch 1 MB each over a link of 1 MB a second, however many actors they have."""
    machines = Machines(nodes=4, cores=1000.0, bandwidth=1e6, latency=0.0)
    small = costs(task=1e-9, learn=0.0, count=64)
    small = replace(
        small, job=replace(small.job, chains={"model": replace(small.job.chains["model"], bytes_per_chain=0)})
    )
    assert seconds(small, Layout(64, 1, 4), machines) == pytest.approx(3.0, rel=0.01)
    assert seconds(small, Layout(64, 1, 64), machines) == pytest.approx(3.0, rel=0.01)


def test_processes_on_one_core_take_turns():
    crowded = replace(WIDE, cores=1.0)
    assert seconds(costs(), Layout(2, 1, 2), crowded) == pytest.approx(8 + 2)
    assert seconds(costs(), Layout(2, 1, 2, 1), crowded) == pytest.approx(8 + 2)


def test_machines_of_one_host_share_its_cores():
    apart = Machines(nodes=3, cores=1.0, bandwidth=1e15, latency=0.0)
    layout = Layout(2, 1, 2)
    assert seconds(costs(), layout, apart) == pytest.approx(4 + 2)
    assert seconds(costs(), layout, replace(apart, one_host=True)) == pytest.approx(8 + 2)
    one = simulate(costs(), replace(apart, one_host=True), layout)
    assert one.busy["cores"] == pytest.approx(1.0)


def test_what_waits_keeps_cores_busy_on_every_machine():
    """Of one core each, Ray's own processes take half; Ray Train takes another quarter of the first learner's."""
    waiting = replace(FREE, idle=0.5, train=0.25)
    machines = Machines(nodes=2, cores=1.0, bandwidth=1e15, latency=0.0)
    assert seconds(costs(ray=waiting), Layout(1, 1, 1), machines) == pytest.approx(8 / 0.5 + 2 / 0.25)


def test_actors_share_a_gpu():
    assert seconds(costs(), Layout(8, 1, 8), Machines(cores=100.0, gpus=2)) == pytest.approx(8 / 2 + 2, rel=0.15)


def test_no_faults_are_a_rate_of_none():
    layout = Layout(8, 1, 8)
    assert simulate(costs(), WIDE, layout) == simulate(costs(), replace(WIDE, actor_faults=0.0), layout, seed=1)
    faulty = simulate(costs(), replace(WIDE, actor_faults=360.0, restart=3.0), layout, 50)
    assert faulty.deaths > 0
    assert faulty.seconds > seconds(costs(), layout)


def test_the_same_seed_is_the_same_run():
    uneven, machines, layout = costs(jitter=0.1), replace(WIDE, actor_faults=36.0), Layout(8, 1, 4, 1)
    first, again, other = (simulate(uneven, machines, layout, seed=seed) for seed in (3, 3, 4))
    assert first == again
    assert first != other


def test_stragglers_slow_an_update_of_many_actors():
    layout = Layout(64, 1, 64)
    assert seconds(costs(count=64, jitter=0.1), layout) > 1.1 * seconds(costs(count=64, learn=0.25), layout) - 16 * 0.1


def test_four_thousand_actors_take_a_bounded_number_of_events(monkeypatch):
    events, step = [0], simpy.Environment.step

    def counted(env):
        events[0] += 1
        step(env)

    monkeypatch.setattr(simpy.Environment, "step", counted)
    machines, layout, updates = Machines(nodes=64, cores=65.0), Layout(4096, 1, 4096, 1), 3
    steady = simulate(costs(task=60.0, learn=0.001, count=4096, ray=RayCosts()), machines, layout, updates)
    assert events[0] < 20 * 4096 * (updates + 4)
    assert steady.seconds >= 60


def test_capacity_is_shared_equally():
    env = simpy.Environment()
    shared, ends = Shared(env, 2.0), {}

    def user(name, begin, use):
        yield env.timeout(begin)
        yield shared.use(use)
        ends[name] = env.now

    for one in (("a", 0, 2), ("b", 0, 2), ("c", 0, 4), ("d", 10, 1)):
        env.process(user(*one))
    env.run()
    assert ends == pytest.approx({"a": 3, "b": 3, "c": 5, "d": 11})
    assert shared.used == pytest.approx(2 + 2 + 4 + 1)
