"""What is divergence and what is not, whatever the units of the data."""

import numpy as np
import pytest

from pipeline.training.divergence import LIMITS, SETTLED, DivergenceMonitor


def jitter(n):
    return np.exp(0.1 * np.random.default_rng(0).normal(size=n))


def divergence_updates(values, patience=10, name="chains/grad_norm", scale=1.0):
    """The updates at which a watch over one metric calls divergence."""
    watch = DivergenceMonitor(patience)
    return [i for i, value in enumerate(values) if watch.update({name: scale * value, "time/update": 1e9})]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_noise_about_a_level_is_health_in_any_units(scale):
    for seed in range(2):
        steady = np.random.default_rng(seed).normal(size=1200)  # as d is: about zero
        assert not divergence_updates(steady, scale=scale, name="energy/gap")
        assert not divergence_updates(np.exp(0.3 * steady), scale=scale)


def test_growth_at_the_start_is_health():
    early = 1e-2 * np.exp(np.minimum(np.arange(300), 20) / 4)  # a hundredfold in twenty updates, then level
    assert not divergence_updates(early * jitter(300))


def test_gradients_that_take_off_late_are_health_and_extents_that_do_are_not():
    late = np.exp(np.clip(np.arange(300) - 60, 0, 20) / 5)  # fiftyfold in twenty updates, after sixty of nothing
    assert not divergence_updates(late * jitter(300))
    assert divergence_updates(late * jitter(300), name="chains/rms")


@pytest.mark.parametrize("name", ["energy/gap", "chains/posterior/grad_norm", "chains/rms"])
@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e6])
def test_what_stays_away_is_divergence_after_as_many_updates(name, scale):
    level = jitter(200)
    level[150:] *= 20 if name == "chains/rms" else 400
    for patience in (1, 10):
        assert divergence_updates(level, patience, name, scale)[0] == 150 + patience - 1
    assert not divergence_updates(level, 0, name, scale)


def test_one_update_outside_is_none():
    level = np.ones(200)
    level[150:159] = 1e9
    assert not divergence_updates(level, 10)
    assert divergence_updates(level, 9) == [158]


def test_chains_that_stop_moving_are_divergence_and_those_that_move_on_are_not():
    level = np.ones(200)
    assert divergence_updates(np.where(np.arange(200) < 150, level, 0.0), name="chains/rms_displacement")[0] == 159
    assert not divergence_updates(np.where(np.arange(200) < 150, level, 9.0), name="chains/rms_displacement")
    assert not divergence_updates(np.where(np.arange(200) < 150, level, 0.0), name="chains/grad_norm")


def test_nothing_is_said_before_there_is_a_history():
    assert not divergence_updates(10.0 ** np.arange(SETTLED))
    assert not DivergenceMonitor(10).update({"chains/staleness": 1e30, "energy/grad_norm": 1e30})


def test_a_history_taken_over_decides_alike():
    level = np.where(np.arange(300) < 195, jitter(300), 30.0)
    whole, half, resumed = DivergenceMonitor(10), DivergenceMonitor(10), DivergenceMonitor(10)
    said = [whole.update({"chains/rms": v}) for v in level]
    for v in level[:200]:
        half.update({"chains/rms": v})
    assert half.any_outside
    resumed.load_state_dict(half.state_dict())
    assert [resumed.update({"chains/rms": v}) for v in level[200:]] == said[200:]
    assert "median 1" in resumed.explain("chains/rms")


@pytest.mark.parametrize("bad", [float("inf"), float("nan")])
def test_what_is_not_finite_is_divergence_at_once(bad):
    watch = DivergenceMonitor(0)
    assert watch.update({"chains/grad_norm": 1.0}) == ""
    assert watch.update({"chains/grad_norm": bad}) == "chains/grad_norm"
    assert watch.explain("chains/grad_norm") == "not finite"


def test_a_run_that_diverges_early_is_not_its_own_measure():
    jump = np.where(np.arange(300) < 20, 1.0, 1e6) * jitter(300)
    growth = 1.02 ** np.arange(1000)
    for values in (jump, growth):
        assert divergence_updates(values)


def test_nothing_is_outside_before_there_is_a_history_whatever_the_patience():
    watch = DivergenceMonitor(100)
    for value in np.where(np.arange(149) < 20, 1.0, 1e6):
        watch.update({"chains/rms": value})
        assert not watch.any_outside


@pytest.mark.parametrize("level", [0.01, 1.0, 9.0, 11.0])
def test_what_no_healthy_run_exceeds_needs_no_history(level):
    limit = LIMITS["step_ratio"]
    slow = level * np.exp(0.01 * np.arange(1000))  # its own history, at each of its updates
    first = int(np.argmax(slow > limit))
    assert divergence_updates(slow, name="chains/step_ratio")[0] == first + 9
    assert not divergence_updates(slow[:first], name="chains/step_ratio")
    assert not divergence_updates(slow, name="chains/acceptance_rate")


def test_the_way_to_where_it_diverged_is_known_in_hindsight():
    calm, runaway = jitter(200), np.exp(0.1 * np.arange(200))
    watch = DivergenceMonitor(10)
    for update, value in enumerate([*calm, *runaway]):
        named = watch.update({"chains/grad_norm": value, "chains/rms": 1.0})
        if update == 150:
            watch.update({"chains/grad_norm": 1e3, "chains/rms": 1.0})  # one that stands out is no way
            assert watch.updates_on_the_way() == 0
        if named:
            break
    start = np.log(100) / 3 / 0.1  # a third of the way to a hundredfold
    assert update == pytest.approx(200 + np.log(100) / 0.1 + 9, abs=4)
    assert update - watch.updates_on_the_way() == pytest.approx(200 + start, abs=8)
    assert DivergenceMonitor(10).updates_on_the_way() == DivergenceMonitor(0).updates_on_the_way() == 0
