"""The verdict on a run's convergence, from the evidence of one checkpoint (Nijkamp et al., 1903.12370, section 3)."""

import math
from collections.abc import Mapping
from typing import Any, Literal, NamedTuple, TypeAlias

from pipeline.evaluation.convergence.evidence import Evidence, StartTrajectory

RHAT = 1.1
"""R-hat up to which chains agree: the bound of Gelman and Rubin. The bound 1.01 is for estimates from longer chains."""
FAR = 2.0
"""Long chains have left the data at this multiple of the distance of the run's own short chains (or of the floor, if
that is greater)."""
ENERGY_SHIFT = 1.0
"""Change of the mean energy, in standard deviations, above which a typical state becomes an unlikely one."""
ONE_SIDED, GROWTH = 0.95, 3.0
"""|Mean sign| of d above which it does not oscillate about 0; growth of |d| above which this is no mere bias."""
VerdictName: TypeAlias = Literal["convergent", "short-run only", "diverging", "undecided"]


class Verdict(NamedTuple):
    """A verdict, and the evidence for it."""

    name: VerdictName
    why: str
    """One line."""


def decide(evidence: Evidence) -> Verdict:
    """What long chains and the run's own history say, by the criteria of 1903.12370.

    *diverging*: a number of the long chains is not finite, a metric of the run is outside its history, or its d is one-
    sided and grows. *convergent*: short chains are near the data, and long chains from data and from the run's own
    start stay there and agree in their energies. *short-run only*: short chains are near the data, but long ones leave
    or disagree. *undecided*: not even short chains are near the data yet.
    """
    if why := _divergence(evidence):
        return Verdict("diverging", why)
    short, long = _short_chains(evidence), _departure(evidence)
    if not short.near:
        return Verdict("undecided", f"{short.why}; {long or _stability(evidence)}")
    return Verdict("short-run only", f"{short.why}; {long}") if long else Verdict("convergent", _stability(evidence))


def to_json(evidence: Evidence, verdict: Verdict) -> dict[str, Any]:
    """Verdict and evidence, as a line of observe.jsonl has them."""
    trajectories = {name: one._asdict() for name, one in evidence.trajectories.items()}
    return {**evidence._asdict(), "trajectories": trajectories, "verdict": verdict.name, "why": verdict.why}


def verdict_line(row: Mapping[str, Any]) -> str:
    """The verdict of `to_json`, in one line."""
    return f"{row['verdict']}, at update {row['update']}: {row['why']}"


def _divergence(evidence: Evidence) -> str:
    """Why the run diverges; empty if it does not."""
    if not evidence.finite:
        return f"long chains are not finite after {evidence.reach * evidence.steps:,} steps"
    if evidence.outside:
        name, count = next(iter(evidence.outside.items()))
        return f"{name} has been far outside its history for {count} updates"
    if evidence.one_sided > ONE_SIDED and evidence.growth > GROWTH:
        return f"d is on one side of 0 ({evidence.one_sided:.2f} of 1) and has grown {evidence.growth:.1f}fold"
    return ""


class _ShortChains(NamedTuple):
    near: bool
    why: str


def _short_chains(evidence: Evidence) -> _ShortChains:
    """Whether the run's own chains of K steps are near the data."""
    own, noise = evidence.trajectories[evidence.own_start], evidence.trajectories["noise"]
    if not evidence.metric:
        near = evidence.one_sided <= ONE_SIDED
        return _ShortChains(near, f"d is {'about 0' if near else f'on one side of 0 ({evidence.one_sided:.2f} of 1)'}")
    half = math.sqrt(evidence.floor * noise.distance[0])
    chains = f"chains of K = {evidence.steps} steps from {evidence.own_start}"
    scale = f"(as many samples of the data {evidence.floor:.3g}, noise {noise.distance[0]:.3g})"
    return _ShortChains(own.distance[1] < half, f"{evidence.metric} {own.distance[1]:.3g} of {chains} {scale}")


def _serving(evidence: Evidence) -> dict[str, StartTrajectory]:
    """The chains that the model should serve: from data, where data can be encoded, and from the run's own start."""
    starts = ("data", evidence.own_start)
    return {start: one for start, one in evidence.trajectories.items() if start in starts}


def _departure(evidence: Evidence) -> str:
    """How long chains leave or disagree; empty where they stay and agree."""
    reasons, end = [], evidence.reach
    short = evidence.trajectories[evidence.own_start].distance.get(1, evidence.floor)
    for start, one in _serving(evidence).items():
        if evidence.metric and not one.distance[end] <= FAR * max(evidence.floor, short):
            reasons.append(f"{evidence.metric} {one.distance[end]:.3g} after {end} K from {start}")
        if not abs(one.energy_shift) <= ENERGY_SHIFT:
            reasons.append(f"energies from {start} move by {one.energy_shift:+.1f} sd")
    if not evidence.rhat <= RHAT:
        reasons.append(f"R-hat {evidence.rhat:.2f}")
    return ", ".join(reasons)


def _stability(evidence: Evidence) -> str:
    """How long chains stay."""
    chains, end = _serving(evidence), evidence.reach
    distance = {
        start: f" at {evidence.metric} {one.distance[end]:.3g}" if evidence.metric else ""
        for start, one in chains.items()
    }
    stay = " and ".join(
        f"from {start}{distance[start]} (energies move by {one.energy_shift:+.1f} sd)" for start, one in chains.items()
    )
    draws = sum(one.ess for one in chains.values())
    return f"chains of {end} K stay, {stay}; R-hat {evidence.rhat:.3f}, {draws:.0f} effective draws"
