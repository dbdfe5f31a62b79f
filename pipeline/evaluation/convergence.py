"""Whether a model's chains converge: one look at long chains from all their starts (1903.12370, section 3).

Short runs and the contrast d cannot tell convergent learning from learning that does not converge; long chains can.
So chains from data, from the run's bank and from its noise make up to 100 K steps, K being the run's own number.
"""

import math
from collections.abc import Callable
from typing import Literal, NamedTuple, TypeAlias, get_args

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from pipeline.chains import AnyPool, ChainTask
from pipeline.evaluation import samples
from pipeline.evaluation.mixing import mixing
from pipeline.evaluation.samples import Distance
from pipeline.evaluation.walk import Seen, Start, begun, walked
from pipeline.lanes import Lane
from pipeline.model import Model
from pipeline.rng import fold

REACH = 100
"""Length of the long chains in multiples of K: where the paper's figures look, and a chain that leaves has left."""
MARKS = (1, 10, REACH)
"""Where states are compared with the data, in multiples of K."""
PLACES = (1, 2, 5, 10, 20, 50, REACH)
"""Where mean energies are told of."""
NUMBER = {"image": 50, "vector": 250, "text": 50, "counts": 50}
"""Chains of each start, enough for a distance to have a floor far below that of noise."""
RHAT = 1.1
"""R-hat up to which chains agree: Gelman and Rubin's bound. That of 1.01 is for estimates, from longer chains."""
LEAVES = 2.0
"""Factor of the own short runs' distance (or the data's, if that is more) at which long chains have left the data."""
DRIFT = 1.0
"""Standard deviations of the energies by which their mean may move after K steps: more, and a typical state has become
an unlikely one."""
ONE_SIDED, GROWTH = 0.95, 3.0
"""|mean sign| of d above which it does not oscillate about 0; growth of |d| that tells expansion from a bias."""
LEAST = 10
"""Multiples of K that a look reaches at least, unless a number is not finite; a shorter one says nothing."""
LATELY = 200
"""Updates of the run's own d that the evidence speaks of."""


Name: TypeAlias = Literal["convergent", "short-run only", "diverging", "undecided"]


class Trail(NamedTuple):
    """What long chains of one start did; places are in multiples of K."""

    energy: dict[int, float]
    """Mean energy over temperature."""
    extent: dict[int, float]
    """Root mean square of the states, at 0 as well."""
    distance: dict[int, float]
    """To the data, at 0 as well; empty where there is no distance."""
    drift: float
    """From K to the second half, of the mean energy; in standard deviations over the chains at K."""
    rhat: float
    """Split R-hat of the energies in the second half."""
    ess: float
    """Effective number of draws of the energies there, over all the chains."""
    gradient_to_noise: float
    """Size of a step's drift over that of its noise, on the way to the end: far above 1 the chains descend."""


class Evidence(NamedTuple):
    """One look at one checkpoint."""

    update: int
    """Updates that the run had made."""
    attempt: int
    """Rollbacks before."""
    steps: int
    """K."""
    reach: int
    """Length of the chains in K: REACH, or less where the look was cut short or a number was not finite."""
    chains: int
    """Of each start."""
    temperature: float
    own: Start
    """Where the run's own chains start: its bank, or noise."""
    metric: str
    """The distance: `frechet`, `kl`; or empty."""
    floor: float
    """The distance of as many of the data."""
    trails: dict[str, Trail]
    """By start."""
    rhat: float
    """Split R-hat over the chains from data and from the run's own start together, energies of the second half."""
    rhat_all: float
    """The same over all starts."""
    finite: bool
    """Whether all states and energies of the long chains are."""
    outside: dict[str, int]
    """The run's own metrics that are outside their history (`health.Watch`), and for how many updates in a row."""
    one_sided: float
    """|mean| of the signs of the run's d over the last updates: 1 where the data are always on the same side."""
    growth: float
    """The median of |d| over the last updates over that of as many before them."""


class Verdict(NamedTuple):
    """What a look comes to."""

    name: Name
    why: str
    """The evidence, in one line."""


def verdict(evidence: Evidence) -> Verdict:
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


def _serving(evidence: Evidence) -> dict[str, Trail]:
    """The chains that the model is to serve: from data, where they are states, and from the run's own start."""
    return {start: trail for start, trail in evidence.trails.items() if start in ("data", evidence.own)}


def _away(evidence: Evidence) -> str:
    """How long chains leave, or do not agree; empty where they stay and do."""
    found, end = [], evidence.reach
    reference = max(evidence.floor, evidence.trails[evidence.own].distance.get(1, evidence.floor))
    for start, trail in _serving(evidence).items():
        if evidence.metric and not trail.distance[end] <= LEAVES * reference:
            found.append(f"{evidence.metric} {trail.distance[end]:.3g} after {end} K from {start}")
        if not abs(trail.drift) <= DRIFT:
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


def look(
    model: Model,
    pool: AnyPool,
    distance: Distance | None,
    number: int,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Evidence, dict[Start, dict[int, Tensor]]] | None:
    """Run the long chains of a model: the evidence, and the data that the chains stand for, by start and place.

    Args:
        model: at a checkpoint.
        pool: what moves the chains.
        distance: how samples are compared with the data.
        number: chains of each start.
        seed: of the chains.
        stop: asked after every K steps; where it says so the chains end, and there is None if they were short.
    """
    starts = {start: tasks for start in get_args(Start) if (tasks := begun(model, start, number, seed))}
    tasks = [task for part in starts.values() for task in part]
    tasks = [task._replace(lane=Lane(i, len(tasks))) for i, task in enumerate(tasks)]
    walk = _walk(model, pool, tasks, stop)
    if walk.finite and len(walk.passed) < LEAST:
        return None
    cut = {start: slice(i * number, (i + 1) * number) for i, start in enumerate(starts)}
    shown = {
        start: {mark: samples.decoded(model.job.recipe, model.nets, x[own], seed) for mark, x in walk.states.items()}
        for start, own in cut.items()
    }
    return _evidence(model, walk, cut, shown, distance, _floor(model, distance, number, seed)), shown


class _Walk(NamedTuple):
    """What long chains, of all starts one after the other, have passed."""

    states: dict[int, Tensor]
    """At 0, MARKS and the end, in multiples of K."""
    passed: list[Seen]
    """After each K steps."""
    finite: bool


def _walk(model: Model, pool: AnyPool, tasks: list[ChainTask], stop: Callable[[], bool]) -> _Walk:
    states, passed, finite = {0: samples.starts(tasks)}, list[Seen](), True
    for seen in walked(pool, model, tasks, model.langevin.steps, REACH):
        passed.append(seen)
        finite = bool(seen.x.isfinite().all() and seen.energy.isfinite().all())
        ends = not finite or stop()
        if ends or len(passed) in MARKS:
            states[len(passed)] = seen.x
        if ends:
            break
    return _Walk(states, passed, finite)


def _evidence(
    model: Model,
    walk: _Walk,
    cut: dict[Start, slice],
    shown: dict[Start, dict[int, Tensor]],
    distance: Distance | None,
    floor: float,
) -> Evidence:
    """What the walk, whose chains of each start `cut` gives, comes to."""
    energy = torch.stack([seen.energy for seen in walk.passed], 1).double().numpy()
    energy /= model.langevin.temperature or 1.0
    trails = {}
    for start, own in cut.items():
        slope = torch.stack([seen.grad_norm[own] for seen in walk.passed])
        extent = {mark: float(x[own].double().square().mean().sqrt()) for mark, x in walk.states.items()}
        far = {mark: _far(distance, x) for mark, x in shown[start].items()} if distance else {}
        ratio = float(model.langevin.gradient_to_noise(slope.flatten(), walk.states[0][0].numel()))
        trails[start] = _trail(energy[own], extent, far, ratio)
    own_start: Start = "bank" if "bank" in cut else "noise"
    serving = [energy[own] for start, own in cut.items() if start in ("data", own_start)]
    d = model.watch.history.get("chains/contrast", [])
    return Evidence(
        update=model.update,
        attempt=model.attempt,
        steps=model.langevin.steps,
        reach=len(walk.passed),
        chains=len(energy) // len(cut),
        temperature=model.langevin.temperature,
        own=own_start,
        metric=distance.name if distance else "",
        floor=floor,
        trails={str(start): trail for start, trail in trails.items()},
        rhat=_mixed(np.concatenate(serving))[0],
        rhat_all=_mixed(energy)[0],
        finite=walk.finite,
        outside={name: n for name, n in model.watch.outside.items() if n},
        one_sided=abs(float(np.mean(np.sign(d[-LATELY:])))) if d else 0.0,
        growth=_growth(d),
    )


def _far(distance: Distance, x: Tensor) -> float:
    return distance.of(x) if x.isfinite().all() else float("nan")


def _floor(model: Model, distance: Distance | None, number: int, seed: int) -> float:
    """The distance of as many items of the data, drawn as the chains' are; the mean of four draws."""
    if distance is None:
        return float("nan")
    index = np.random.default_rng(fold(seed, "floor")).integers(model.data.size, size=(4, number))
    return float(np.mean([distance.of(model.data.batch(i)["x"]) for i in index]))


def _trail(energy: Float[ndarray, "n k"], extent: dict[int, float], far: dict[int, float], ratio: float) -> Trail:
    at = {k: float(energy[:, k - 1].mean()) for k in sorted({*PLACES, energy.shape[1]}) if k <= energy.shape[1]}
    late = energy[:, energy.shape[1] // 2 :].mean()
    with np.errstate(all="ignore"):  # what is not finite is told as it is
        drift = float((late - energy[:, 0].mean()) / energy[:, 0].std())
    return Trail(at, extent, far, drift, *_mixed(energy), ratio)


def _mixed(energy: Float[ndarray, "n k"]) -> tuple[float, float]:
    """Split R-hat and effective number of draws in the second half; not a number of what is not finite, or short."""
    late = energy[:, energy.shape[1] // 2 :]
    if late.shape[1] < 4 or not np.isfinite(late).all():
        return float("nan"), float("nan")
    found = mixing(late[..., None])
    return float(found.rhat[0]), float(found.ess_bulk[0])


def _growth(d: list[float]) -> float:
    """Of the median |d| over the last updates, at most half of them, over that of as many before; 1 of a few."""
    window = min(LATELY, len(d) // 2)
    if window < LATELY // 4:
        return 1.0
    before, lately = (float(np.median(np.abs(part))) for part in (d[-2 * window : -window], d[-window:]))
    return lately / before if before else float("inf")
