"""Evidence on whether training converges, from long chains of one checkpoint and all their starts.

Short runs and the energy gap d cannot tell convergent training from training that does not converge; long chains can
(Nijkamp et al., 1903.12370, section 3). So chains from data, from the run's bank and from its noise run for up to
100 K steps, where K is the run's own number of steps.
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
from pipeline.evaluation.metrics.long_run import Progress
from pipeline.evaluation.metrics.mixing import mixing
from pipeline.rng import fold
from pipeline.runs.snapshot import Snapshot
from pipeline.samplers.langevin import Langevin
from pipeline.sampling.draw import ChainStart, decode_states, start_states
from pipeline.sampling.long_chains import Observation, advance_repeatedly, tasks_by_start

REACH = 100
"""Length of the long chains in multiples of K: as far as the paper's figures, where chains that leave have left."""
DISTANCE_MULTIPLES = (1, 10, REACH)
"""Multiples of K at which chains are compared with the data."""
ENERGY_MULTIPLES = (1, 2, 5, 10, 20, 50, REACH)
"""Multiples of K at which mean energies are reported."""
CHAINS_PER_START = {"image": 50, "vector": 250, "text": 50, "counts": 50}
"""By kind of data: enough for a distance whose floor is far below that of noise."""
SHORTEST_REACH = 10
"""Multiples of K below which there is no evidence, unless a number is not finite."""
RECENT_UPDATES = 200
"""Updates of the run's own d that count as recent."""


class StartTrajectory(NamedTuple):
    """Long chains of one start; keys are multiples of K."""

    energy: dict[int, float]
    """Mean energy over temperature."""
    rms: dict[int, float]
    """Root mean square of the states, from 0 on."""
    distance: dict[int, float]
    """To the data, from 0 on; empty where there is no distance."""
    energy_shift: float
    """Change of the mean energy from K to the second half, in standard deviations over the chains at K."""
    rhat: float
    """Split R-hat of the energies in the second half."""
    ess: float
    """Effective number of draws of the energies in the second half, over all chains."""
    gradient_to_noise: float
    """Size of a step's drift over that of its noise, averaged over the way: far above 1 the chains descend."""


class Evidence(NamedTuple):
    """The evidence of one checkpoint."""

    update: int
    """Updates that the run had made."""
    attempt: int
    """Rollbacks that the run had made."""
    steps: int
    """K."""
    reach: int
    """Length of the chains in multiples of K: REACH, or less where they were stopped or are not finite."""
    chains: int
    """Chains per start."""
    temperature: float
    own_start: ChainStart
    """Where the run's own chains start: its bank, or noise."""
    metric: str
    """Name of the distance: `frechet`, `kl`; empty where there is none."""
    floor: float
    """The distance that as many samples of the data's own distribution would have."""
    trajectories: dict[str, StartTrajectory]
    """By start."""
    rhat: float
    """Split R-hat of the energies in the second half, over chains from data and from the run's own start together."""
    rhat_all: float
    """The same over all starts."""
    finite: bool
    """Whether all states and energies of the long chains are finite."""
    outside: dict[str, int]
    """The run's metrics that are outside their history, with the number of consecutive updates."""
    one_sided: float
    """|mean| of the signs of the run's recent d: 1 where the data are always on the same side."""
    growth: float
    """Median of the recent |d| over that of as many updates before."""


def default_chains(snapshot: Snapshot, seed: int) -> tuple[int, int]:
    """How many long chains per start an observer runs, and their seed."""
    return CHAINS_PER_START[snapshot.data.spec.kind], fold(seed, "observe")


def gather_evidence(
    snapshot: Snapshot,
    pool: Pool,
    comparison: Comparison | None,
    chains: int,
    seed: int = 0,
    stop: Callable[[], bool] = lambda: False,
    progress: Progress = lambda observations, total: observations,
) -> tuple[Evidence, dict[ChainStart, dict[int, Tensor]]] | None:
    """Run the long chains of a model: the evidence, and the chains' data by start and multiple of K.

    Args:
        snapshot: the model.
        pool: moves the chains.
        comparison: of chains with the data; None: there is none.
        chains: per start.
        seed: of the chains.
        stop: called after every K steps; True ends the chains, and there is no evidence if they are still short.
        progress: shows the progress of the chains.
    """
    by_start = tasks_by_start(snapshot, get_args(ChainStart), chains, seed)
    run = _run_chains(snapshot, pool, [task for tasks in by_start.values() for task in tasks], stop, progress)
    if run.finite and len(run.observations) < SHORTEST_REACH:
        return None
    rows = {start: slice(i * chains, (i + 1) * chains) for i, start in enumerate(by_start)}
    data = {
        start: {multiple: decode_states(snapshot, x[own], seed) for multiple, x in run.states.items()}
        for start, own in rows.items()
    }
    floor = comparison.distance_floor(chains) if comparison else float("nan")
    return _evidence(snapshot, run, rows, data, comparison, floor), data


class _LongRun(NamedTuple):
    """Long chains, of all starts one after the other."""

    states: dict[int, Tensor]
    """At 0, DISTANCE_MULTIPLES and the end, by multiple of K."""
    observations: list[Observation]
    """After each K steps."""
    finite: bool


def _run_chains(
    snapshot: Snapshot, pool: Pool, tasks: list[ChainTask], stop: Callable[[], bool], progress: Progress
) -> _LongRun:
    states, observations, finite = {0: start_states(tasks)}, list[Observation](), True
    for observation in progress(advance_repeatedly(pool, snapshot, tasks, snapshot.sampler.steps, REACH), REACH):
        observations.append(observation)
        finite = bool(observation.x.isfinite().all() and observation.energy.isfinite().all())
        ends = not finite or stop()
        if ends or len(observations) in DISTANCE_MULTIPLES:
            states[len(observations)] = observation.x
        if ends:
            break
    return _LongRun(states, observations, finite)


def _evidence(
    snapshot: Snapshot,
    run: _LongRun,
    rows: dict[ChainStart, slice],
    data: dict[ChainStart, dict[int, Tensor]],
    comparison: Comparison | None,
    floor: float,
) -> Evidence:
    """The evidence of a long run whose chains of each start are its `rows`."""
    energy = torch.stack([one.energy for one in run.observations], 1).double().numpy()
    energy /= snapshot.sampler.temperature or 1.0
    trajectories = {}
    for start, own in rows.items():
        grad_norm = torch.stack([one.grad_norm[own] for one in run.observations])
        rms = {multiple: float(x[own].double().square().mean().sqrt()) for multiple, x in run.states.items()}
        distance = {multiple: comparison.distance(x) for multiple, x in data[start].items()} if comparison else {}
        ratio = _gradient_to_noise(snapshot, grad_norm.flatten(), run.states[0][0].numel())
        trajectories[str(start)] = _trajectory(energy[own], rms, distance, ratio)
    own_start: ChainStart = "bank" if "bank" in rows else "noise"
    serving = [energy[own] for start, own in rows.items() if start in ("data", own_start)]
    d = snapshot.history.get("energy/gap", [])
    return Evidence(
        update=snapshot.update,
        attempt=snapshot.attempt,
        steps=snapshot.sampler.steps,
        reach=len(run.observations),
        chains=len(energy) // len(rows),
        temperature=snapshot.sampler.temperature,
        own_start=own_start,
        metric=comparison.name if comparison else "",
        floor=floor,
        trajectories=trajectories,
        rhat=_energy_mixing(np.concatenate(serving))[0],
        rhat_all=_energy_mixing(energy)[0],
        finite=run.finite,
        outside={name: n for name, n in snapshot.outside.items() if n},
        one_sided=abs(float(np.mean(np.sign(d[-RECENT_UPDATES:])))) if d else 0.0,
        growth=_growth(d),
    )


def _gradient_to_noise(snapshot: Snapshot, grad_norm: Tensor, dimensions: int) -> float:
    """Not a number for a kernel without such noise."""
    kernel = snapshot.sampler
    return float(kernel.gradient_to_noise(grad_norm, dimensions)) if isinstance(kernel, Langevin) else float("nan")


def _trajectory(
    energy: Float[ndarray, "n k"], rms: dict[int, float], distance: dict[int, float], ratio: float
) -> StartTrajectory:
    length = energy.shape[1]
    means = {k: float(energy[:, k - 1].mean()) for k in sorted({*ENERGY_MULTIPLES, length}) if k <= length}
    with np.errstate(all="ignore"):  # energies that are not finite are reported as they are
        shift = float((energy[:, length // 2 :].mean() - energy[:, 0].mean()) / energy[:, 0].std())
    return StartTrajectory(means, rms, distance, shift, *_energy_mixing(energy), ratio)


def _energy_mixing(energy: Float[ndarray, "n k"]) -> tuple[float, float]:
    """Split R-hat and effective number of draws in the second half; not numbers where that is short or not finite."""
    late = energy[:, energy.shape[1] // 2 :]
    if late.shape[1] < 4 or not np.isfinite(late).all():
        return float("nan"), float("nan")
    statistics = mixing(late[..., None])
    return float(statistics.rhat[0]), float(statistics.ess_bulk[0])


def _growth(d: list[float]) -> float:
    """Median |d| of the recent updates, at most half of all, over that of as many before; 1 where there are few."""
    window = min(RECENT_UPDATES, len(d) // 2)
    if window < RECENT_UPDATES // 4:
        return 1.0
    before, recent = (float(np.median(np.abs(part))) for part in (d[-2 * window : -window], d[-window:]))
    return recent / before if before else float("inf")
