"""What the trials of a search show: their ranking, and the Pareto front of quality and cost."""

import math
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from pipeline.schedule import Change
from pipeline.search.objectives import Objective


class TrialOutcome(NamedTuple):
    """A trial that has reported."""

    name: str
    settings: Mapping[str, Any]
    reports: Sequence[Mapping[str, Any]]
    """`TrialReport`s as they are stored."""
    complete: bool
    """Whether it used its whole budget."""
    gradients_per_sample: int
    """Gradient evaluations of one sample of its model: K."""
    changes: Sequence[Change] = ()
    """Of its settings, where it took over other trials' weights."""

    @property
    def quality(self) -> float:
        """Its last quality."""
        return float(self.reports[-1]["quality"])

    @property
    def cost(self) -> int:
        """Gradient evaluations that it took."""
        return int(self.reports[-1]["gradient_evaluations"])

    @property
    def diverged(self) -> bool:
        """Whether it ended by divergence."""
        return bool(self.reports[-1]["diverged"])


def rank_trials(trials: Sequence[TrialOutcome], objective: Objective) -> list[TrialOutcome]:
    """The trials that did not diverge, best first; complete trials come before those that were stopped early."""
    return sorted((t for t in trials if not t.diverged), key=lambda t: (not t.complete, objective.sign * t.quality))


def pareto_front(cost: Sequence[float | int], quality: Sequence[float | int], objective: Objective) -> list[int]:
    """Indices of the Pareto front, by rising cost: nothing of the same or lower cost is as good or better."""
    best, front = math.inf, []
    order = sorted(range(len(cost)), key=lambda i: (cost[i], objective.sign * quality[i]))
    for i in order:
        if objective.sign * quality[i] < best:
            best = objective.sign * quality[i]
            front.append(i)
    return front


def front_trials(trials: Sequence[TrialOutcome], objective: Objective) -> list[TrialOutcome]:
    """The complete trials on the front of quality and gradients per sample, by rising cost."""
    ended = [t for t in trials if t.complete and not t.diverged]
    return [
        ended[i] for i in pareto_front([t.gradients_per_sample for t in ended], [t.quality for t in ended], objective)
    ]


def spread(front: Sequence[TrialOutcome], count: int) -> list[TrialOutcome]:
    """At most `count` trials of a front, evenly from its best to its cheapest."""
    places = np.linspace(len(front) - 1, 0, min(count, len(front))).round().astype(int)
    return [front[i] for i in places]


def mean_and_sd(values: Sequence[float]) -> str:
    """Mean ± standard deviation of the finite values, and how many are not finite because they diverged."""
    finite = np.array([value for value in values if math.isfinite(value)])
    if not len(finite):
        return "all diverged"
    missing = f" ({len(values) - len(finite)} of {len(values)} diverged)" if len(finite) < len(values) else ""
    return f"{finite.mean():.4g}" + (f" ± {finite.std(ddof=1):.2g}" if len(finite) > 1 else "") + missing


def describe_best(result: Mapping[str, Any]) -> str:
    """Which candidate of a search's result is the best, in one sentence."""
    if not result["confirmed"]:
        return "The best trial, which was not compared with the preset"
    if result["best"] == "preset":
        return "The preset itself: no candidate is better with new seeds"
    return f"{result['best']}, which is better than the preset with new seeds"
