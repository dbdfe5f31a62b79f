"""What the trials of a search have shown."""

import math

import pytest

from pipeline.search.figures import cost_figure, slice_figure
from pipeline.search.objectives import OBJECTIVES
from pipeline.search.summary import TrialOutcome, mean_and_sd, pareto_front, rank_trials

LEAST, MOST = OBJECTIVES["frechet"], OBJECTIVES["accuracy"]


def trial(name, *qualities, whole=True, diverged="", sample=10, **settings):
    reports = [
        {"quality": q, "gradient_evaluations": 100 * (i + 1), "diverged": diverged} for i, q in enumerate(qualities)
    ]
    return TrialOutcome(name, settings, reports, whole, sample)


def test_nothing_on_the_front_is_dominated_and_everything_else_is():
    cost, quality = [1, 2, 2, 3, 4, 5], [9.0, 7.0, 5.0, 6.0, 5.0, 1.0]
    chosen = pareto_front(cost, quality, LEAST)
    assert chosen == [0, 2, 5]
    dominated = [any(cost[j] <= cost[i] and quality[j] <= quality[i] for j in chosen if j != i) for i in range(6)]
    assert [i for i in range(6) if not dominated[i]] == chosen
    assert pareto_front(cost, [-q for q in quality], MOST) == chosen
    assert pareto_front([], [], LEAST) == []


def test_trials_that_went_all_the_way_come_first_and_diverged_ones_not_at_all():
    trials = [
        trial("stopped", 1.0, whole=False),
        trial("good", 9.0, 2.0),
        trial("fair", 9.0, 3.0),
        trial("fell", math.inf, diverged="update 3"),
    ]
    assert [t.name for t in rank_trials(trials, LEAST)] == ["good", "fair", "stopped"]
    assert [t.name for t in rank_trials(trials, MOST)] == ["fair", "good", "stopped"]


def test_spread_says_what_is_missing_from_it():
    assert mean_and_sd([1.0, 2.0, 3.0]) == "2 ± 1"
    assert mean_and_sd([4.0]) == "4"
    assert mean_and_sd([1.0, math.inf, 3.0]) == "2 ± 1.4 (1 of 3 diverged)"
    assert mean_and_sd([math.inf]) == "all diverged"


@pytest.mark.parametrize("trials", [[], [trial("fell", math.inf, diverged="update 0", noise=0.1, optimizer="adam")]])
def test_figures_where_there_is_little_to_show(trials, tmp_path):
    for figure in (cost_figure(trials, LEAST), slice_figure(trials, LEAST)):
        figure.savefig(tmp_path / "figure.png")


def test_a_slice_a_setting_and_diverged_trials_as_crosses(tmp_path):
    trials = [
        trial("a", 3.0, 2.0, noise=0.01, optimizer="adam"),
        trial("b", 5.0, noise=0.1, optimizer="sgd", whole=False),
        trial("c", math.inf, noise=0.2, optimizer="sgd", diverged="update 0"),
    ]
    figure = slice_figure(trials, LEAST)
    panels = [axes for axes in figure.axes if axes.get_xlabel() in ("noise", "optimizer")]
    assert [axes.get_xscale() for axes in panels] == ["log", "linear"]
    assert [len(axes.collections[0].get_offsets()) for axes in panels] == [2, 2]
    assert [list(axes.lines[0].get_xdata()) for axes in panels] == [[0.2], ["sgd"]]
    figure.savefig(tmp_path / "figure.png")
