"""Samplers: frozen values that are called, `sampler(energy, x, rng) -> (x, Stats)`.

Drift and noise are the primitives of Langevin dynamics; the temperature is derived from them. The papers' text writes
drift = step^2/2, noise = step (temperature 1); the code of the image papers uses drift 1, noise .01 (temperature 5e-5).
Both are values of one class.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.energies.energy import Energy, Gradient, autograd_gradient, gradient
from pipeline.samplers.kernel import Stats


@dataclass(frozen=True)
class Langevin:
    """Unadjusted Langevin dynamics, x <- x - drift dU/dx + noise xi (1904.09770 eq. 4; 1903.12370 eq. 4).

    Under `torch.no_grad` the returned states are detached, no graph is kept, and an energy that has a gradient of its
    own is asked for it (`energies.gradient`); with gradients enabled the result is differentiable through all steps.
    The state is float32 whatever the precision of the network. Nothing in the loop waits for the device.
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
    def textbook(cls, steps: int, step_size: float) -> "Langevin":
        """Temperature 1: drift = step^2/2 and noise = step."""
        return cls(steps, drift=step_size**2 / 2, noise=step_size)

    @property
    def temperature(self) -> float:
        """noise^2 / (2 drift): the chains target exp(-U / temperature) in the limit of small steps."""
        return self.noise**2 / (2 * self.drift) if self.drift else float("inf")

    @property
    def gradient_evaluations(self) -> int:
        """Gradients of the energy that one chain takes in one call."""
        return self.steps

    def gradient_to_noise(self, grad_norm: Float[Tensor, " n"], dimensions: int) -> Float[Tensor, ""]:
        """Mean of |drift dU/dx| over the noise's noise sqrt(dimensions): far above 1, the chains just descend."""
        return self.drift * grad_norm.mean() / (grad_norm.new_tensor(self.noise) * math.sqrt(dimensions))

    def __call__(self, energy: Energy, x: Float[Tensor, "n *d"], rng: torch.Generator) -> tuple[Tensor, Stats]:
        """Move n chains by `steps` steps."""
        differentiable = torch.is_grad_enabled()
        slope_at, x = self._gradient(energy), x if differentiable else x.clone()
        grad_norm, directions = torch.zeros(len(x), device=x.device), tuple(range(1, x.dim()))
        drawn, xi = _noise_buffer(x)
        with torch.autocast(x.device.type, torch.bfloat16, enabled=self.autocast):
            for _ in range(self.steps):
                slope = slope_at(x)
                drawn.normal_(generator=rng)
                grad_norm += torch.linalg.vector_norm(slope.detach(), dim=directions)
                x = torch.add(x, slope, alpha=-self.drift) if differentiable else x.add_(slope, alpha=-self.drift)
                x.add_(xi, alpha=self.noise)
            final = energy(x).float()
        return x, Stats(final, grad_norm / max(self.steps, 1), torch.ones_like(grad_norm))

    def _gradient(self, energy: Energy) -> Gradient:
        if torch.is_grad_enabled():
            return partial(_differentiable_gradient, energy)
        if self.compile:
            return partial(_compiled_gradient(), energy)
        return partial(autograd_gradient, energy) if self.autocast else gradient(energy)


def _noise_buffer(x: Tensor) -> tuple[Tensor, Tensor]:
    """Memory to draw noise into, and the same as a tensor like x.

    A CPU draws into a tensor that is not contiguous number by number, ten times slower: channels_last states have
    theirs drawn in the order of their memory.
    """
    if x.is_contiguous() or x.dim() != 4 or not x.is_contiguous(memory_format=torch.channels_last):
        drawn = torch.empty_like(x)
        return drawn, drawn
    drawn = torch.empty_like(x.permute(0, 2, 3, 1), memory_format=torch.contiguous_format)
    return drawn, drawn.permute(0, 3, 1, 2)


def _differentiable_gradient(energy: Energy, x: Tensor) -> Tensor:
    """dU/dx, itself differentiable in x and in what the energy is made of."""
    state = x if x.requires_grad else x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(energy(state).float().sum(), state, create_graph=True)
    return slope


@cache
def _compiled_gradient() -> Callable[[Energy, Tensor], Tensor]:
    def compiled(energy: Energy, x: Tensor) -> Tensor:
        return torch.func.grad(lambda state: energy(state).float().sum())(x)

    return torch.compile(compiled, dynamic=False)
