"""Samplers: frozen values that are called, `sampler(energy, x, rng) -> (x, Stats)`.

Drift and noise are the primitives of Langevin dynamics; the temperature is derived from them. The papers' text writes
drift = step^2/2, noise = step (temperature 1); the code of the image papers uses drift 1, noise .01 (temperature 5e-5).
Both are values of one class.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.energies import Energy


class Stats(NamedTuple):
    """What an observer needs of n chains that have moved; the next move needs none of it."""

    energy: Float[Tensor, " n"]
    """U of the returned state."""
    grad_norm: Float[Tensor, " n"]
    """|dU/dx|, averaged over the path."""
    accept: Float[Tensor, " n"]
    """Share of accepted proposals; 1 where nothing is rejected."""


@runtime_checkable
class Sampler(Protocol):
    """A Markov kernel, run for a fixed number of steps."""

    @property
    def evaluations(self) -> int:
        """Gradients of the energy that one chain takes in one call."""
        ...

    @property
    def temperature(self) -> float:
        """The chains target exp(-U / temperature)."""
        ...

    def __call__(self, energy: Energy, x: Tensor, rng: torch.Generator) -> tuple[Tensor, Stats]:
        """Move the chains `x` (n, *d) under `energy`, with noise from `rng` alone."""
        ...


@dataclass(frozen=True)
class Langevin:
    """Unadjusted Langevin dynamics, x <- x - drift dU/dx + noise xi (1904.09770 eq. 4; 1903.12370 eq. 4).

    Under `torch.no_grad` the returned states are detached and no graph is kept; with gradients enabled the result is
    differentiable through all steps. The state is float32 whatever the precision of the network. Nothing in the loop
    waits for the device.
    """

    steps: int
    """Langevin steps K."""
    drift: float
    """Coefficient of the energy's gradient in a step, in squared units of the state per unit of energy."""
    noise: float
    """Standard deviation of the noise in a step, in units of the state."""
    autocast: bool = False
    """Evaluate the network in bfloat16 where autocast allows it; the state stays float32."""
    compile: bool = False
    """Compile the gradient of the energy with torch.compile: worth its minute on a GPU and in long runs."""

    @classmethod
    def textbook(cls, steps: int, step: float) -> "Langevin":
        """Temperature 1: drift = step^2/2 and noise = step."""
        return cls(steps, drift=step**2 / 2, noise=step)

    @property
    def temperature(self) -> float:
        """noise^2 / (2 drift): the chains target exp(-U / temperature) in the limit of small steps."""
        return self.noise**2 / (2 * self.drift) if self.drift else float("inf")

    @property
    def evaluations(self) -> int:
        """Gradients of the energy that one chain takes in one call."""
        return self.steps

    def __call__(self, energy: Energy, x: Float[Tensor, "n *d"], rng: torch.Generator) -> tuple[Tensor, Stats]:
        """Move n chains by `steps` steps."""
        differentiable = torch.is_grad_enabled()
        gradient = _compiled_gradient() if self.compile and not differentiable else _gradient
        grad_norm = torch.zeros(len(x), device=x.device)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            for _ in range(self.steps):
                slope = gradient(energy, x, differentiable)
                xi = torch.empty_like(x).normal_(generator=rng)
                grad_norm += slope.detach().flatten(1).norm(dim=1)
                x = torch.add(x, slope, alpha=-self.drift).add_(xi, alpha=self.noise)
            final = energy(x).float()
        return x, Stats(final, grad_norm / max(self.steps, 1), torch.ones_like(grad_norm))


def _gradient(energy: Energy, x: Tensor, differentiable: bool) -> Tensor:
    """dU/dx and nothing else: parameters get no gradient, and no graph outlives the call unless asked for."""
    with torch.enable_grad():
        state = x if x.requires_grad else x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(energy(state).float().sum(), state, create_graph=differentiable)
    return slope


@cache
def _compiled_gradient() -> Callable[[Energy, Tensor, bool], Tensor]:
    def gradient(energy: Energy, x: Tensor, differentiable: bool) -> Tensor:
        return torch.func.grad(lambda state: energy(state).float().sum())(x)

    return torch.compile(gradient, dynamic=False)
