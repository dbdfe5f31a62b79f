"""Where long chains go: the distance to the data and the energy at multiples of a model's own K steps (1903.12370)."""

import math
from collections.abc import Callable, Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.chains.local_pool import Pool
from pipeline.evaluation.comparison import Comparison
from pipeline.evaluation.protocol import EvaluationContext, Measurement
from pipeline.rng import fold
from pipeline.runs.snapshot import Snapshot
from pipeline.sampling.draw import ChainStart, decode_states, start_states
from pipeline.sampling.long_chains import STRETCH, Observation, advance_repeatedly, tasks_by_start

Bar = Callable[[Iterable[Observation], int], Iterable[Observation]]
"""Shows how far chains have come that are looked at so many times."""


class LongRunTrajectory(NamedTuple):
    """Chains of one start."""

    data: dict[float, Tensor]
    """What the n states stand for, by multiple of K."""
    energy: Float[Tensor, " t"]
    """Their mean energy over temperature (not over 0), after each `unit` of steps."""


def stride(model: Snapshot, multiples: Sequence[float]) -> int:
    """Steps between energies: K, or what makes every multiple a whole number of steps, or what one task makes."""
    steps = model.kernel.steps
    common = math.gcd(steps, *(round(m * steps) for m in multiples))
    return common if common <= STRETCH else math.gcd(common, STRETCH)


def long_run_trajectories(
    pool: Pool, model: Snapshot, starts: Sequence[ChainStart], n: int, multiples: Sequence[float], seed: int, bar: Bar
) -> dict[ChainStart, LongRunTrajectory]:
    """N chains of each start that the model has, as far as the largest multiple of its K steps."""
    kernel, every = model.kernel, stride(model, multiples)
    begun = tasks_by_start(model, starts, n, seed)
    tasks = [task for some in begun.values() for task in some]
    wanted = {round(m * kernel.steps) // every: m for m in multiples}
    states = {start: {} if 0 not in wanted else {wanted[0]: start_states(some)} for start, some in begun.items()}
    energies: dict[ChainStart, list[Tensor]] = {start: [] for start in begun}
    walk = advance_repeatedly(pool, model, tasks, every, max(wanted))
    for i, seen in enumerate(bar(walk, max(wanted)), 1):
        for start, x, energy in zip(begun, seen.x.split(n), seen.energy.split(n), strict=True):
            energies[start].append(energy.mean() / (kernel.temperature or 1.0))
            if i in wanted:
                states[start][wanted[i]] = x
    recipe, nets = model.job.recipe, model.nets
    return {
        start: LongRunTrajectory(
            {m: decode_states(recipe, nets, x, seed) for m, x in of.items()}, torch.stack(energies[start])
        )
        for start, of in states.items()
    }


def long_run_metrics(
    bench: EvaluationContext,
    way: Comparison,
    starts: Sequence[ChainStart],
    n: int,
    multiples: Sequence[float],
    bar: Bar,
) -> tuple[list[Measurement], dict[ChainStart, LongRunTrajectory]]:
    """The distance to the reference, of n items that were learned from, and of n chains of each start at each multiple
    of K; and the chains.
    """
    seed, data = fold(bench.seed, "drift"), bench.model.data
    some = data.batch(np.random.default_rng(seed).permutation(data.size)[:n])["x"]
    told = [Measurement(f"{way.name}_data", way.distance(some), bench.protocol("drift of data", (), n, way.features))]
    found = long_run_trajectories(bench.pool, bench.model, starts, n, multiples, seed, bar)
    for start, chains in found.items():
        for m, x in chains.data.items():
            protocol = bench.protocol("drift", (start,), n, way.features, multiple=m)
            told.append(Measurement(f"{way.name}_{start}_{m:g}K", way.distance(x), protocol))
    return told, found
