"""Annealed importance sampling by a pool: any chain of a recipe, its normaliser, and so the likelihood of data.

An annealed chain's state is a point and the logarithm of its weight (Neal 2001, section 2): so annealing is a sampler,
and its chains are tasks like any others.
"""

import math
from dataclasses import dataclass, replace
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
from pipeline.nets.weights import device_of
from pipeline.rng import fold, generator, standard_normal
from pipeline.runs.snapshot import Snapshot
from pipeline.samplers.hmc import HMC
from pipeline.samplers.kernel import Stats
from pipeline.sampling.draw import run_tasks

PIECE = {True: 100, False: 250}
"""Annealed chains in one task, by whether they are of images."""
PILOTS = 50
"""Chains whose acceptance chooses the steps of those that count."""
ACCEPTANCE = 0.8
"""That is aimed at."""
TRUSTED = 10
"""Effective chains below which a few of them are the whole estimate, and it is too low by an unknown amount."""


@dataclass(frozen=True)
class GaussianBase:
    """The Gaussian that annealed chains start from, with independent coordinates."""

    shape: tuple[int, ...]
    mean: tuple[float, ...]
    sd: tuple[float, ...]

    @classmethod
    def like(cls, x: Float[Tensor, "n *d"]) -> "GaussianBase":
        """With the means and deviations of data; of coordinates that hardly vary, a hundredth of the largest one."""
        flat = x.flatten(1).double()
        sd = flat.std(0)
        floor = float(sd.max()) / 100 or 1.0
        return cls(tuple(x.shape[1:]), tuple(flat.mean(0).tolist()), tuple(sd.clamp(min=floor).tolist()))

    @classmethod
    def standard(cls, dimensions: int) -> "GaussianBase":
        """N(0, I)."""
        return cls((dimensions,), (0.0,) * dimensions, (1.0,) * dimensions)

    @property
    def log_normaliser(self) -> float:
        """Log of the integral of exp(-|z|^2/2) over x = mean + sd z."""
        return sum(math.log(sd) + math.log(2 * math.pi) / 2 for sd in self.sd)

    def within(self, energy: Energy, temperature: float) -> Energy:
        """The energy over its temperature, of z (n, d) where x = mean + sd z."""

        def of(z: Float[Tensor, "n d"]) -> Float[Tensor, " n"]:
            x = z * z.new_tensor(self.sd) + z.new_tensor(self.mean)
            return energy(x.view(-1, *self.shape)).float() / temperature

        return of


@dataclass(frozen=True)
class AnnealedSampler:
    """A sampler of states (z, log weight), (n, d + 1): from z ~ N(0, I) and 0 to where exp(-U / temperature) is."""

    base: GaussianBase
    moves: tuple[HMC, ...]
    """Of z, at each temperature between."""
    temperature: float

    @property
    def gradient_evaluations(self) -> int:
        """Gradients of the energy that one chain takes in one call."""
        return sum(move.gradient_evaluations for move in self.moves)

    def __call__(self, energy: Energy, x: Float[Tensor, "n e"], rng: torch.Generator) -> tuple[Tensor, Stats]:
        """Anneal n chains; `energy` in Stats is U / temperature, and the norm of its gradient is not looked at."""
        target = self.base.within(energy, self.temperature)
        found = weigh(gaussian(), target, x[:, :-1], self.moves, rng)
        state = torch.cat([found.x, (x[:, -1] + found.log_weight)[:, None]], 1)
        return state, Stats(target(found.x), torch.zeros_like(found.acceptance_rate), found.acceptance_rate)


def tune_annealing(
    base: GaussianBase, energy: Energy, temperature: float, n: int, temperatures: int, rng: torch.Generator
) -> AnnealedSampler:
    """The sampler with steps of its own at each temperature, as n pilot chains choose them; theirs are not counted."""
    target, moves, move = base.within(energy, temperature), [], KERNEL
    z = standard_normal((n, len(base.sd)), rng)
    with torch.no_grad():
        for k in range(1, temperatures):
            z, stats = move(interpolate_energy(gaussian(), target, (k / temperatures) ** 2), z, rng)
            move = replace(move, step_size=move.step_size * math.exp(float(stats.acceptance_rate.mean()) - ACCEPTANCE))
            moves.append(move)
    return AnnealedSampler(base, tuple(moves), temperature)


def log_normalizer(
    pool: Pool, snapshot: Snapshot, base: GaussianBase, temperature: float, chains: int, temperatures: int, seed: int
) -> LogRatios:
    """Log of the integral of exp(-U / temperature), U of the model's chain, by `chains` annealed ones: n = 1 ratio."""
    rng = generator(fold(seed, "pilot"), device_of(snapshot.nets))
    sampler = tune_annealing(base, snapshot.energy, temperature, PILOTS, temperatures, rng)
    sizes = [len(part) for part in np.array_split(np.arange(chains), -(-chains // PIECE[len(base.shape) > 1]))]
    tasks = [
        _task(snapshot, snapshot.job.recipe.sample_chain, Lane(i, len(sizes)), size, sampler, None, seed)
        for i, size in enumerate(sizes)
    ]
    answers = run_tasks(pool, snapshot.nets, tasks)
    parts = [answers[task.chain, task.lane.index] for task in tasks]
    log_weight = torch.from_numpy(np.concatenate([part.x[:, -1] for part in parts])).double()
    found = log_mean_weight(log_weight[:, None], float(np.concatenate([part.acceptance_rate for part in parts]).mean()))
    return found._replace(log_ratio=found.log_ratio + base.log_normaliser)


class PosteriorIntegrals(NamedTuple):
    """Of n items, the integrals of exp(-U) over the states of a chain whose context they are."""

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
    """By `chains` annealed chains of each item, in tasks of as many items as make PIECE chains, or of one."""
    n, device, tasks = len(items["x"]), device_of(snapshot.nets), []
    cuts = np.array_split(np.arange(n), -(-n // max(PIECE[len(base.shape) > 1] // chains, 1)))
    for i, index in enumerate(cuts):
        some = {name: t[torch.from_numpy(index).to(t.device)] for name, t in items.items()}
        energy = snapshot.job.recipe.target(chain, snapshot.nets, some)
        rng = generator(fold(seed, f"pilot {chain}", i), device)
        sampler = tune_annealing(base, energy, 1.0, len(index), temperatures, rng)
        context = {name: t.repeat(chains, *[1] * (t.dim() - 1)).cpu().numpy() for name, t in some.items()}
        tasks.append(_task(snapshot, chain, Lane(i, len(cuts)), chains * len(index), sampler, context, seed))
    answers, found = run_tasks(pool, snapshot.nets, tasks), []
    for task, index in zip(tasks, cuts, strict=True):
        answer = answers[task.chain, task.lane.index]
        log_weight = torch.from_numpy(answer.x[:, -1].copy()).double().view(chains, len(index))
        found.append(log_mean_weight(log_weight, float(answer.acceptance_rate.mean())))
    log_integral = torch.cat([one.log_ratio for one in found]) + base.log_normaliser
    return PosteriorIntegrals(log_integral, torch.cat([one.ess for one in found]))


def _task(
    snapshot: Snapshot,
    chain: str,
    lane: Lane,
    n: int,
    sampler: AnnealedSampler,
    context: dict[str, ndarray] | None,
    seed: int,
) -> ChainTask:
    own = fold(seed, f"annealed {chain}", lane.index)
    z = standard_normal((n, len(sampler.base.sd)), generator(fold(own, "start"))).numpy()
    x = np.concatenate([z, np.zeros((n, 1), np.float32)], 1)
    return ChainTask(chain, lane, np.arange(n), x, context, sampler, own, snapshot.update)
