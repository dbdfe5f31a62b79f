"""Long runs of the sample chain: distance to the data, and energy, at multiples of the model's K steps (1903.12370)."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple, TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.chains.local_pool import Pool
from pipeline.evaluation.comparison import Comparison
from pipeline.evaluation.protocol import EvaluationSetup, Measurement
from pipeline.rng import fold
from pipeline.runs.snapshot import Snapshot
from pipeline.sampling.draw import ChainStart, decode_states, start_states
from pipeline.sampling.long_chains import STRETCH, Observation, advance_repeatedly, tasks_by_start

Progress: TypeAlias = Callable[[Iterable[Observation], int], Iterable[Observation]]
"""Shows the progress of chains with a given number of observations, which pass through it."""


class LongRunTrajectory(NamedTuple):
    """n chains of one start."""

    data: dict[float, Tensor]
    """(n, *d) data decoded from their states, by multiple of K."""
    energy: Float[Tensor, " t"]
    """Their mean energy over the temperature (not over 0), once every `stride` steps."""


def stride(snapshot: Snapshot, multiples: Sequence[float]) -> int:
    """Steps between energies: the most that divide K, all multiples of it and, if need be, the steps of one task."""
    steps = snapshot.sampler.steps
    common = math.gcd(steps, *(round(m * steps) for m in multiples))
    return common if common <= STRETCH else math.gcd(common, STRETCH)


def long_run_trajectories(
    pool: Pool,
    snapshot: Snapshot,
    starts: Sequence[ChainStart],
    n: int,
    multiples: Sequence[float],
    seed: int,
    progress: Progress,
) -> dict[ChainStart, LongRunTrajectory]:
    """n chains of each start that the model has, up to the largest multiple of its K steps."""
    sampler, every = snapshot.sampler, stride(snapshot, multiples)
    by_start = tasks_by_start(snapshot, starts, n, seed)
    tasks = [task for some in by_start.values() for task in some]
    wanted = {round(m * sampler.steps) // every: m for m in multiples}
    states = {start: {} if 0 not in wanted else {wanted[0]: start_states(some)} for start, some in by_start.items()}
    energies: dict[ChainStart, list[Tensor]] = {start: [] for start in by_start}
    observations = advance_repeatedly(pool, snapshot, tasks, every, max(wanted))
    for i, observation in enumerate(progress(observations, max(wanted)), 1):
        for start, x, energy in zip(by_start, observation.x.split(n), observation.energy.split(n), strict=True):
            energies[start].append(energy.mean() / (sampler.temperature or 1.0))
            if i in wanted:
                states[start][wanted[i]] = x
    return {
        start: LongRunTrajectory(
            {m: decode_states(snapshot, x, seed) for m, x in by_multiple.items()}, torch.stack(energies[start])
        )
        for start, by_multiple in states.items()
    }


def long_run_metrics(
    setup: EvaluationSetup,
    way: Comparison,
    starts: Sequence[ChainStart],
    n: int,
    multiples: Sequence[float],
    progress: Progress,
) -> tuple[list[Measurement], dict[ChainStart, LongRunTrajectory], dict[ChainStart, dict[float, float]]]:
    """`<distance>_data`, the floor of n, and `<distance>_<start>_<multiple>K` of n chains per start.

    Returns:
        The measurements, that of the data first; the chains; and their distances, by start and multiple.
    """
    seed, protocol = fold(setup.seed, "drift"), setup.protocol("long runs: data", (), n, way.features)
    result = [Measurement(f"{way.name}_data", way.distance_floor(n), protocol)]
    trajectories = long_run_trajectories(setup.pool, setup.snapshot, starts, n, multiples, seed, progress)
    curves = {start: {m: way.distance(x) for m, x in one.data.items()} for start, one in trajectories.items()}
    for start, curve in curves.items():
        for m, distance in curve.items():
            protocol = setup.protocol("long runs", (start,), n, way.features, multiple=m)
            result.append(Measurement(f"{way.name}_{start}_{m:g}K", distance, protocol))
    return result, trajectories, curves
