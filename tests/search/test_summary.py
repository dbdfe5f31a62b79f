"""What the trials of a search show."""

import math

import pytest

from pipeline.search.figures import cost_figure, slice_figure
from pipeline.search.objectives import OBJECTIVES
from pipeline.search.summary import TrialOutcome, mean_and_sd, pareto_front, rank_trials

LOWER, HIGHER = OBJECTIVES["frechet"], OBJECTIVES["accuracy"]


def trial(name, *qualities, complete=True, diverged="", gradients_per_sample=10, **settings):
    reports = [
        {"quality": q, "gradient_evaluations": 100 * (i + 1), "diverged": diverged} for i, q in enumerate(qualities)
    ]
    return TrialOutcome(name, settings, reports, complete, gradients_per_sample)


def test_nothing_on_the_front_is_dominated_and_everything_else_is():
    cost, quality = [1, 2, 2, 3, 4, 5], [9.0, 7.0, 5.0, 6.0, 5.0, 1.0]
    chosen = pareto_front(cost, quality, LOWER)
    assert chosen == [0, 2, 5]
    dominated = [any(cost[j] <= cost[i] and quality[j] <= quality[i] for j in chosen if j != i) for i in range(6)]
    assert [i for i in range(6) if not dominated[i]] == chosen
    assert pareto_front(cost, [-q for q in quality], HIGHER) == chosen
    assert pareto_front([], [], LOWER) == []


def test_complete_trials_come_first_and_diverged_ones_are_left_out():
    trials = [
        trial("stopped", 1.0, complete=False),
        trial("good", 9.0, 2.0),
        trial("fair", 9.0, 3.0),
        trial("diverged", math.inf, diverged="update 3"),
    ]
    assert [t.name for t in rank_trials(trials, LOWER)] == ["good", "fair", "stopped"]
    assert [t.name for t in rank_trials(trials, HIGHER)] == ["fair", "good", "stopped"]


def test_mean_and_sd_say_how_many_diverged():
    assert mean_and_sd([1.0, 2.0, 3.0]) == "2 ± 1"
    assert mean_and_sd([4.0]) == "4"
    assert mean_and_sd([1.0, math.inf, 3.0]) == "2 ± 1.4 (1 of 3 diverged)"
    assert mean_and_sd([math.inf]) == "all diverged"


@pytest.mark.parametrize(
    "trials", [[], [trial("diverged", math.inf, diverged="update 0", noise=0.1, optimizer="adam")]]
)
def test_figures_of_few_trials_can_be_drawn(trials, tmp_path):
    for figure in (cost_figure(trials, LOWER), slice_figure(trials, LOWER)):
        figure.savefig(tmp_path / "figure.png")


def test_slices_have_a_panel_per_setting_and_crosses_for_diverged_trials(tmp_path):
    trials = [
        trial("a", 3.0, 2.0, noise=0.01, optimizer="adam"),
        trial("b", 5.0, noise=0.1, optimizer="sgd", complete=False),
        trial("c", math.inf, noise=0.2, optimizer="sgd", diverged="update 0"),
    ]
    figure = slice_figure(trials, LOWER)
    panels = [axes for axes in figure.axes if axes.get_xlabel() in ("noise", "optimizer")]
    assert [axes.get_xscale() for axes in panels] == ["log", "linear"]
    assert [len(axes.collections[0].get_offsets()) for axes in panels] == [2, 2]
    assert [list(axes.lines[0].get_xdata()) for axes in panels] == [[0.2], ["sgd"]]
    figure.savefig(tmp_path / "figure.png")
