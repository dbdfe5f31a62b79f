"""Annealed importance sampling by a pool: the normaliser of any chain's target, and so the likelihood of data.

The state of an annealed chain is a point and the logarithm of its weight (Neal 2001, section 2). So annealing is a
sampler, and its chains are tasks like any others.
"""

import math
from dataclasses import dataclass, replace
from functools import cache
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from numpy import ndarray
from torch import Tensor

from pipeline.batch import Batch
from pipeline.chains.lanes import Lane
from pipeline.chains.local_pool import Pool
from pipeline.chains.task import ChainTask
from pipeline.energies.energy import Energy, gaussian
from pipeline.evaluation.metrics.importance_sampling import (
    KERNEL,
    LogRatios,
    interpolate_energy,
    log_mean_weight,
    weigh,
)
from pipeline.nets.weights import to_device
from pipeline.progress import track
from pipeline.rng import fold, generator, standard_normal
from pipeline.runs.snapshot import Snapshot
from pipeline.samplers.hmc import HMC
from pipeline.samplers.kernel import Stats
from pipeline.sampling.draw import run_tasks

IMAGES_PER_TASK, VECTORS_PER_TASK = 100, 250
"""Annealed chains of one task."""
PILOT_CHAINS = 50
"""Chains that tune the step sizes; they do not enter the estimate."""
TARGET_ACCEPTANCE = 0.8
"""Acceptance rate that step sizes are tuned to."""
RELIABLE_ESS = 10
"""Effective chains below which a few chains dominate the estimate, which is then too low by an unknown amount."""


@dataclass(frozen=True)
class GaussianBase:
    """A Gaussian with independent coordinates, where annealed chains start."""

    shape: tuple[int, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]

    @classmethod
    def fit(cls, x: Float[Tensor, "n *d"]) -> "GaussianBase":
        """With the means and standard deviations of data, but no deviation below a hundredth of the largest."""
        flat = x.flatten(1).double()
        sd = flat.std(0)
        floor = float(sd.max()) / 100 or 1.0
        return cls(tuple(x.shape[1:]), tuple(flat.mean(0).tolist()), tuple(sd.clamp(min=floor).tolist()))

    @classmethod
    def standard(cls, dimensions: int) -> "GaussianBase":
        """N(0, I)."""
        return cls((dimensions,), (0.0,) * dimensions, (1.0,) * dimensions)

    @property
    def log_normalizer(self) -> float:
        """Log of the integral of exp(-|z|^2/2) over x = mean + sd z."""
        return sum(math.log(sd) + math.log(2 * math.pi) / 2 for sd in self.sd)

    def standardize(self, energy: Energy, temperature: float) -> Energy:
        """The energy over its temperature, as a function of z (n, d), where x = mean + sd z."""

        @cache
        def constants(device: torch.device, dtype: torch.dtype) -> tuple[Tensor, ...]:
            return to_device(torch.tensor([self.sd, self.mean], dtype=dtype), device).unbind()

        def standardized(z: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
            sd, mean = constants(z.device, z.dtype)
            x = z * sd + mean
            return energy(x.view(-1, *self.shape)).float() / temperature

        return standardized


@dataclass(frozen=True)
class AnnealedSampler:
    """A sampler of states (z, log weight), (n, d + 1), from z ~ N(0, I) with log weight 0 to exp(-U / temperature)."""

    base: GaussianBase
    moves: tuple[HMC, ...]
    """Kernels of z, one per temperature in between."""
    temperature: float

    @property
    def gradient_evaluations(self) -> int:
        """Gradients of the energy that one chain takes in one call."""
        return sum(move.gradient_evaluations for move in self.moves)

    def __call__(self, energy: Energy, x: Float[Tensor, "n e"], rng: torch.Generator) -> tuple[Tensor, Stats]:
        """Anneal n chains. Stats has the energy U / temperature; its gradient norm is 0, as it is not computed."""
        target = self.base.standardize(energy, self.temperature)
        end = weigh(gaussian(), target, x[:, :-1], self.moves, rng)
        state = torch.cat([end.x, (x[:, -1] + end.log_weight)[:, None]], 1)
        return state, Stats(target(end.x), torch.zeros_like(end.acceptance_rate), end.acceptance_rate)


def tune_annealing(
    base: GaussianBase, energy: Energy, temperature: float, n: int, temperatures: int, rng: torch.Generator
) -> AnnealedSampler:
    """A sampler whose step size at each temperature is tuned by n pilot chains."""
    target, moves, move = base.standardize(energy, temperature), [], KERNEL
    z = standard_normal((n, len(base.sd)), rng)
    with torch.no_grad():
        for k in range(1, temperatures):
            z, stats = move(interpolate_energy(gaussian(), target, (k / temperatures) ** 2), z, rng)
            excess = float(stats.acceptance_rate.mean()) - TARGET_ACCEPTANCE
            move = replace(move, step_size=move.step_size * math.exp(excess))
            moves.append(move)
    return AnnealedSampler(base, tuple(moves), temperature)


def log_normalizer(
    pool: Pool, snapshot: Snapshot, base: GaussianBase, temperature: float, chains: int, temperatures: int, seed: int
) -> LogRatios:
    """Log of the integral of exp(-U / temperature), U the sample chain's target, as one ratio by `chains` chains."""
    rng = generator(fold(seed, "pilot"), snapshot.device)
    sampler = tune_annealing(base, snapshot.energy, temperature, PILOT_CHAINS, temperatures, rng)
    sizes = [len(part) for part in np.array_split(np.arange(chains), -(-chains // _chains_per_task(base)))]
    tasks = [
        _task(snapshot, snapshot.recipe.sample_chain, Lane(i, len(sizes)), size, sampler, None, seed)
        for i, size in enumerate(sizes)
    ]
    results = run_tasks(pool, snapshot.nets, tasks, "annealing")
    parts = [results[task.chain, task.lane.index] for task in tasks]
    log_weight = torch.from_numpy(np.concatenate([part.x[:, -1] for part in parts])).double()
    acceptance_rate = float(np.concatenate([part.acceptance_rate for part in parts]).mean())
    ratio = log_mean_weight(log_weight[:, None], acceptance_rate)
    return ratio._replace(log_ratio=ratio.log_ratio + base.log_normalizer)


class PosteriorIntegrals(NamedTuple):
    """For n items, the integrals of exp(-U) over the states of a chain whose context they are."""

    log_integral: Float[Tensor, " n"]
    """In nats."""
    ess: Float[Tensor, " n"]
    """Effective number of the chains of each item."""


def posterior_integrals(
    pool: Pool,
    snapshot: Snapshot,
    chain: str,
    items: Batch,
    base: GaussianBase,
    chains: int,
    temperatures: int,
    seed: int,
) -> PosteriorIntegrals:
    """Integrals by `chains` annealed chains per item; a task has as many items as fit, but at least one."""
    n, device, tasks = len(items["x"]), snapshot.device, []
    cuts = np.array_split(np.arange(n), -(-n // max(_chains_per_task(base) // chains, 1)))
    for i, index in enumerate(track(cuts, len(cuts), "tuning the annealing", "part")):
        some = {name: t[torch.from_numpy(index).to(t.device)] for name, t in items.items()}
        energy = snapshot.recipe.target(chain, snapshot.nets, some)
        rng = generator(fold(seed, f"pilot {chain}", i), device)
        sampler = tune_annealing(base, energy, 1.0, len(index), temperatures, rng)
        context = {name: t.repeat(chains, *[1] * (t.dim() - 1)).cpu().numpy() for name, t in some.items()}
        tasks.append(_task(snapshot, chain, Lane(i, len(cuts)), chains * len(index), sampler, context, seed))
    results, ratios = run_tasks(pool, snapshot.nets, tasks, "annealing"), []
    for task, index in zip(tasks, cuts, strict=True):
        result = results[task.chain, task.lane.index]
        log_weight = torch.from_numpy(result.x[:, -1].copy()).double().view(chains, len(index))
        ratios.append(log_mean_weight(log_weight, float(result.acceptance_rate.mean())))
    log_integral = torch.cat([one.log_ratio for one in ratios]) + base.log_normalizer
    return PosteriorIntegrals(log_integral, torch.cat([one.ess for one in ratios]))


def _chains_per_task(base: GaussianBase) -> int:
    return IMAGES_PER_TASK if len(base.shape) > 1 else VECTORS_PER_TASK


def _task(
    snapshot: Snapshot,
    chain: str,
    lane: Lane,
    n: int,
    sampler: AnnealedSampler,
    context: dict[str, ndarray] | None,
    seed: int,
) -> ChainTask:
    own_seed = fold(seed, f"annealed {chain}", lane.index)
    z = standard_normal((n, len(sampler.base.sd)), generator(fold(own_seed, "start"))).numpy()
    x = np.concatenate([z, np.zeros((n, 1), np.float32)], 1)
    return ChainTask(chain, lane, np.arange(n), x, context, sampler, own_seed, snapshot.update, snapshot.settings)
