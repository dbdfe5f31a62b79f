"""Whether a model's chains converge, by what one look at long ones has shown (1903.12370, section 3)."""

import math
from typing import Literal, NamedTuple, TypeAlias

from pipeline.evaluation.convergence.evidence import Evidence, StartTrajectory

RHAT = 1.1
"""R-hat up to which chains agree: Gelman and Rubin's bound. That of 1.01 is for estimates, from longer chains."""
FAR = 2.0
"""Factor of the own short runs' distance (or the data's, if that is more) at which long chains have left the data."""
ENERGY_SHIFT = 1.0
"""Standard deviations of the energies by which their mean may move after K steps: more, and a typical state has become
an unlikely one."""
ONE_SIDED, GROWTH = 0.95, 3.0
"""|mean sign| of d above which it does not oscillate about 0; growth of |d| that tells expansion from a bias."""
VerdictName: TypeAlias = Literal["convergent", "short-run only", "diverging", "undecided"]


class Verdict(NamedTuple):
    """What a look comes to."""

    name: VerdictName
    why: str
    """The evidence, in one line."""


def decide(evidence: Evidence) -> Verdict:
    """What long chains and the run's own history say, by the criteria of 1903.12370.

    *diverging*: a number of the long chains is not finite, a metric of the run is outside its history, or its d is one-
    sided and grows. *convergent*: short chains are near the data, and the long ones from data and from the run's own
    start stay there and agree in their energies. *short-run only*: short chains are near the data, and long ones are
    not, or do not agree. *undecided*: not even short chains are near the data yet, so neither can be said.
    """
    if why := _diverging(evidence):
        return Verdict("diverging", why)
    short, long = _near(evidence), _away(evidence)
    if not short.near:
        return Verdict("undecided", f"{short.why}; {long or _steady(evidence)}")
    return Verdict("short-run only", f"{short.why}; {long}") if long else Verdict("convergent", _steady(evidence))


def _diverging(evidence: Evidence) -> str:
    """Why the run diverges, or empty."""
    if not evidence.finite:
        return f"long chains are not finite after {evidence.reach * evidence.steps:,} steps"
    if evidence.outside:
        name, count = next(iter(evidence.outside.items()))
        return f"{name} has been far from all before for {count} updates"
    if evidence.one_sided > ONE_SIDED and evidence.growth > GROWTH:
        return f"d is on one side of 0 ({evidence.one_sided:.2f} of 1) and has grown {evidence.growth:.1f}fold"
    return ""


class _Near(NamedTuple):
    near: bool
    why: str


def _near(evidence: Evidence) -> _Near:
    """Whether the run's own chains of K steps are near the data."""
    own, noise = evidence.trails[evidence.own], evidence.trails["noise"]
    if not evidence.metric:
        near = evidence.one_sided <= ONE_SIDED
        return _Near(near, f"d is {'about 0' if near else f'on one side of 0 ({evidence.one_sided:.2f} of 1)'}")
    half = math.sqrt(evidence.floor * noise.distance[0])
    told = f"{evidence.metric} {own.distance[1]:.3g} of chains of K = {evidence.steps} steps from {evidence.own}"
    return _Near(
        own.distance[1] < half, f"{told} (as many of the data {evidence.floor:.3g}, noise {noise.distance[0]:.3g})"
    )


def _serving(evidence: Evidence) -> dict[str, StartTrajectory]:
    """The chains that the model is to serve: from data, where they are states, and from the run's own start."""
    return {start: trail for start, trail in evidence.trails.items() if start in ("data", evidence.own)}


def _away(evidence: Evidence) -> str:
    """How long chains leave, or do not agree; empty where they stay and do."""
    found, end = [], evidence.reach
    reference = max(evidence.floor, evidence.trails[evidence.own].distance.get(1, evidence.floor))
    for start, trail in _serving(evidence).items():
        if evidence.metric and not trail.distance[end] <= FAR * reference:
            found.append(f"{evidence.metric} {trail.distance[end]:.3g} after {end} K from {start}")
        if not abs(trail.drift) <= ENERGY_SHIFT:
            found.append(f"energies from {start} move by {trail.drift:+.1f} sd")
    if not evidence.rhat <= RHAT:
        found.append(f"R-hat {evidence.rhat:.2f}")
    return ", ".join(found)


def _steady(evidence: Evidence) -> str:
    """How chains stay."""
    trails, end = _serving(evidence), evidence.reach
    far = {
        start: f" at {evidence.metric} {trail.distance[end]:.3g}" if evidence.metric else ""
        for start, trail in trails.items()
    }
    stay = " and ".join(f"from {start}{far[start]} (energies move by {t.drift:+.1f} sd)" for start, t in trails.items())
    draws = sum(trail.ess for trail in trails.values())
    return f"chains of {end} K stay, {stay}; R-hat {evidence.rhat:.3f}, {draws:.0f} effective draws"
