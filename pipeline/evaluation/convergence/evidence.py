"""One look at long chains of a model, from all their starts: the evidence on whether learning converges.

Short runs and the contrast d cannot tell convergent learning from learning that does not converge; long chains can
(1903.12370, section 3). So chains from data, from the run's bank and from its noise make up to 100 K steps, K being the
run's own number.
"""

from collections.abc import Callable
from typing import NamedTuple, get_args

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from pipeline.chains.local_pool import Pool
from pipeline.chains.task import ChainTask
from pipeline.evaluation.comparison import Comparison
from pipeline.evaluation.metrics.mixing import mixing
from pipeline.rng import fold
from pipeline.runs.snapshot import Snapshot
from pipeline.samplers.langevin import Langevin
from pipeline.sampling.draw import ChainStart, decode_states, start_states
from pipeline.sampling.long_chains import Observation, advance_repeatedly, tasks_by_start

REACH = 100
"""Length of the long chains in multiples of K: where the paper's figures look, and a chain that leaves has left."""
MARKS = (1, 10, REACH)
"""Where states are compared with the data, in multiples of K."""
PLACES = (1, 2, 5, 10, 20, 50, REACH)
"""Where mean energies are told of."""
CHAINS_PER_START = {"image": 50, "vector": 250, "text": 50, "counts": 50}
"""Chains of each start, enough for a distance to have a floor far below that of noise."""
SHORTEST_REACH = 10
"""Multiples of K that a look reaches at least, unless a number is not finite; a shorter one says nothing."""
RECENT_UPDATES = 200
"""Updates of the run's own d that the evidence speaks of."""


class StartTrajectory(NamedTuple):
    """What long chains of one start did; places are in multiples of K."""

    energy: dict[int, float]
    """Mean energy over temperature."""
    rms: dict[int, float]
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
    own: ChainStart
    """Where the run's own chains start: its bank, or noise."""
    metric: str
    """The distance: `frechet`, `kl`; or empty."""
    floor: float
    """The distance of as many of the data."""
    trails: dict[str, StartTrajectory]
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


def gather_evidence(
    snapshot: Snapshot,
    pool: Pool,
    distance: Comparison | None,
    number: int,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
) -> tuple[Evidence, dict[ChainStart, dict[int, Tensor]]] | None:
    """Run the long chains of a model: the evidence, and the data that the chains stand for, by start and place.

    Args:
        model: at a checkpoint.
        pool: what moves the chains.
        distance: how samples are compared with the data.
        number: chains of each start.
        seed: of the chains.
        stop: asked after every K steps; where it says so the chains end, and there is None if they were short.
    """
    starts = tasks_by_start(snapshot, get_args(ChainStart), number, seed)
    tasks = [task for part in starts.values() for task in part]
    walk = _walk(snapshot, pool, tasks, stop)
    if walk.finite and len(walk.passed) < SHORTEST_REACH:
        return None
    cut = {start: slice(i * number, (i + 1) * number) for i, start in enumerate(starts)}
    shown = {
        start: {
            mark: decode_states(snapshot.job.recipe, snapshot.nets, x[own], seed) for mark, x in walk.states.items()
        }
        for start, own in cut.items()
    }
    return _evidence(snapshot, walk, cut, shown, distance, _floor(snapshot, distance, number, seed)), shown


class _Walk(NamedTuple):
    """What long chains, of all starts one after the other, have passed."""

    states: dict[int, Tensor]
    """At 0, MARKS and the end, in multiples of K."""
    passed: list[Observation]
    """After each K steps."""
    finite: bool


def _walk(snapshot: Snapshot, pool: Pool, tasks: list[ChainTask], stop: Callable[[], bool]) -> _Walk:
    states, passed, finite = {0: start_states(tasks)}, list[Observation](), True
    for seen in advance_repeatedly(pool, snapshot, tasks, snapshot.sampler.steps, REACH):
        passed.append(seen)
        finite = bool(seen.x.isfinite().all() and seen.energy.isfinite().all())
        ends = not finite or stop()
        if ends or len(passed) in MARKS:
            states[len(passed)] = seen.x
        if ends:
            break
    return _Walk(states, passed, finite)


def _evidence(
    snapshot: Snapshot,
    walk: _Walk,
    cut: dict[ChainStart, slice],
    shown: dict[ChainStart, dict[int, Tensor]],
    distance: Comparison | None,
    floor: float,
) -> Evidence:
    """What the walk, whose chains of each start `cut` gives, comes to."""
    energy = torch.stack([seen.energy for seen in walk.passed], 1).double().numpy()
    energy /= snapshot.sampler.temperature or 1.0
    trails = {}
    for start, own in cut.items():
        slope = torch.stack([seen.grad_norm[own] for seen in walk.passed])
        rms = {mark: float(x[own].double().square().mean().sqrt()) for mark, x in walk.states.items()}
        far = {mark: _far(distance, x) for mark, x in shown[start].items()} if distance else {}
        ratio = _ratio(snapshot, slope.flatten(), walk.states[0][0].numel())
        trails[start] = _trail(energy[own], rms, far, ratio)
    own_start: ChainStart = "bank" if "bank" in cut else "noise"
    serving = [energy[own] for start, own in cut.items() if start in ("data", own_start)]
    d = snapshot.history.get("energy/gap", [])
    return Evidence(
        update=snapshot.update,
        attempt=snapshot.attempt,
        steps=snapshot.sampler.steps,
        reach=len(walk.passed),
        chains=len(energy) // len(cut),
        temperature=snapshot.sampler.temperature,
        own=own_start,
        metric=distance.name if distance else "",
        floor=floor,
        trails={str(start): trail for start, trail in trails.items()},
        rhat=_mixed(np.concatenate(serving))[0],
        rhat_all=_mixed(energy)[0],
        finite=walk.finite,
        outside={name: n for name, n in snapshot.outside.items() if n},
        one_sided=abs(float(np.mean(np.sign(d[-RECENT_UPDATES:])))) if d else 0.0,
        growth=_growth(d),
    )


def _ratio(snapshot: Snapshot, slope: Tensor, dimensions: int) -> float:
    """Gradient over noise; not a number for a kernel that has no such noise."""
    kernel = snapshot.sampler
    return float(kernel.gradient_to_noise(slope, dimensions)) if isinstance(kernel, Langevin) else float("nan")


def _far(distance: Comparison, x: Tensor) -> float:
    return distance.distance(x) if x.isfinite().all() else float("nan")


def _floor(snapshot: Snapshot, distance: Comparison | None, number: int, seed: int) -> float:
    """The distance of as many items of the data, drawn as the chains' are; the mean of four draws."""
    if distance is None:
        return float("nan")
    index = np.random.default_rng(fold(seed, "floor")).integers(snapshot.data.size, size=(4, number))
    return float(np.mean([distance.distance(snapshot.data.batch(i)["x"]) for i in index]))


def _trail(
    energy: Float[ndarray, "n k"], rms: dict[int, float], far: dict[int, float], ratio: float
) -> StartTrajectory:
    at = {k: float(energy[:, k - 1].mean()) for k in sorted({*PLACES, energy.shape[1]}) if k <= energy.shape[1]}
    late = energy[:, energy.shape[1] // 2 :].mean()
    with np.errstate(all="ignore"):  # what is not finite is told as it is
        drift = float((late - energy[:, 0].mean()) / energy[:, 0].std())
    return StartTrajectory(at, rms, far, drift, *_mixed(energy), ratio)


def _mixed(energy: Float[ndarray, "n k"]) -> tuple[float, float]:
    """Split R-hat and effective number of draws in the second half; not a number of what is not finite, or short."""
    late = energy[:, energy.shape[1] // 2 :]
    if late.shape[1] < 4 or not np.isfinite(late).all():
        return float("nan"), float("nan")
    found = mixing(late[..., None])
    return float(found.rhat[0]), float(found.ess_bulk[0])


def _growth(d: list[float]) -> float:
    """Of the median |d| over the last updates, at most half of them, over that of as many before; 1 of a few."""
    window = min(RECENT_UPDATES, len(d) // 2)
    if window < RECENT_UPDATES // 4:
        return 1.0
    before, lately = (float(np.median(np.abs(part))) for part in (d[-2 * window : -window], d[-window:]))
    return lately / before if before else float("inf")
