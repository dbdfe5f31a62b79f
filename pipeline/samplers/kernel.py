"""The interface of samplers: Markov kernels that are called, `sampler(energy, x, rng) -> (x, Stats)`."""

from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.energies.energy import Energy


class Stats(NamedTuple):
    """Statistics of n chains over one call of a sampler; the next call needs none of them.

    >>> from pipeline import Langevin, gaussian
    >>> rng = torch.Generator().manual_seed(0)
    >>> x, stats = Langevin.textbook(10, 0.1)(gaussian(), torch.zeros(5, 2), rng)
    >>> stats.acceptance_rate
    tensor([1., 1., 1., 1., 1.])
    """

    energy: Float[Tensor, " n"]
    """U of the returned states."""
    grad_norm: Float[Tensor, " n"]
    """|dU/dx|, averaged over the steps."""
    acceptance_rate: Float[Tensor, " n"]
    """Share of accepted proposals; 1 where nothing is rejected."""


@runtime_checkable
class Sampler(Protocol):
    """A Markov kernel, applied a fixed number of times.

    >>> from pipeline import HMC
    >>> sampler = HMC(steps=10, leapfrog_steps=3, step_size=0.1)
    >>> isinstance(sampler, Sampler), sampler.gradient_evaluations, sampler.temperature
    (True, 31, 1.0)
    """

    @property
    def gradient_evaluations(self) -> int:
        """Gradients of the energy that one chain takes in one call."""
        ...

    @property
    def temperature(self) -> float:
        """The chains target exp(-U / temperature)."""
        ...

    def __call__(self, energy: Energy, x: Tensor, rng: torch.Generator) -> tuple[Tensor, Stats]:
        """Move the chains `x` (n, *d) under `energy`, with randomness from `rng` alone; no graph is kept."""
        ...
