"""Langevin dynamics.

Drift and noise are the primitives; the temperature is derived from them. The papers' text writes drift = step^2/2 and
noise = step (temperature 1); the code of the image papers uses drift 1 and noise .01 (temperature 5e-5). Both are
values of one class.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache, partial

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.energies.energy import Energy, Gradient, evaluate, gradient
from pipeline.rng import parts_by_generator
from pipeline.samplers.kernel import Stats
from pipeline.settings import Count, NonNegative, Settings


@dataclass(frozen=True)
class Langevin(Settings):
    """Unadjusted Langevin dynamics, x <- x - drift dU/dx + noise xi (1904.09770 eq. 4; 1903.12370 eq. 4).

    A call keeps no graph, whether gradients are enabled or not, and uses an energy's own gradient where it brings one
    (`energies.energy.gradient`); `unrolled` is differentiable through all steps. The state is float32 whatever the
    precision of the network. Nothing in the loop waits for the device.

    Raises:
        InputError: a field is out of bounds.

    >>> rng = torch.Generator().manual_seed(0)
    >>> x, stats = Langevin.textbook(200, 0.1)(lambda x: x.square().sum(1) / 2, torch.zeros(1000, 1), rng)
    >>> bool((x.std() - 1).abs() < 0.1), x.requires_grad
    (True, False)
    """

    steps: Count
    """Langevin steps K."""
    drift: NonNegative
    """Coefficient of the energy's gradient in a step, in squared units of the state per unit of energy."""
    noise: NonNegative
    """Standard deviation of the noise in a step, in units of the state."""
    compile: bool = False
    """Compile the energy's gradient with torch.compile: worth its minute on a GPU and in long runs."""

    @classmethod
    def textbook(cls, steps: int, step_size: float) -> "Langevin":
        """Temperature 1: drift = step_size^2/2 and noise = step_size."""
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
        """Mean of |drift dU/dx| over noise sqrt(dimensions); far above 1, the chains only descend."""
        return self.mean_step(grad_norm, dimensions) / grad_norm.new_tensor(self.noise)

    def mean_step(self, grad_norm: Float[Tensor, " n"], dimensions: int) -> Float[Tensor, ""]:
        """Mean of |drift dU/dx| / sqrt(dimensions): how far the gradient moves a coordinate in a step."""
        return self.drift * grad_norm.mean() / math.sqrt(dimensions)

    def step_ratio(self, grad_norm: Float[Tensor, " n"], dimensions: int) -> Float[Tensor, ""]:
        """`mean_step` over 1 / steps + noise: what a chain needs to cross data of size 1 in all its steps, or to hold
        against its noise. Far above 1, chains jump across what they descend to.
        """
        return self.mean_step(grad_norm, dimensions) / (1 / max(self.steps, 1) + self.noise)

    @torch.no_grad()
    def __call__(
        self, energy: Energy, x: Float[Tensor, "n *d"], rng: torch.Generator | Sequence[torch.Generator]
    ) -> tuple[Tensor, Stats]:
        """Move n chains by `steps` steps; the states are detached. Raises InputError where U is not (n,).

        Of several generators each draws the noise of equally many chains, as if these moved alone.
        """
        gradient_at, x = self._gradient(energy, x), x.clone()
        grad_norm, directions = torch.zeros(len(x), device=x.device), tuple(range(1, x.dim()))
        buffer, xi = _noise_buffer(x)
        parts = parts_by_generator(buffer, rng)
        for _ in range(self.steps):
            slope = gradient_at(x)
            for part, own in parts:
                part.normal_(generator=own)
            grad_norm += torch.linalg.vector_norm(slope, dim=directions)
            x.add_(slope, alpha=-self.drift).add_(xi, alpha=self.noise)
        return x, Stats(evaluate(energy, x).float(), grad_norm / max(self.steps, 1), torch.ones_like(grad_norm))

    def unrolled(self, energy: Energy, x: Float[Tensor, "n *d"], rng: torch.Generator) -> Float[Tensor, "n *d"]:
        """The states after the same steps, differentiable in x and in the energy's parameters through all of them.

        Memory grows with `steps`; `sampling.short_run_map` recomputes segments to bound it.
        """
        buffer, xi = _noise_buffer(x)
        with torch.enable_grad():
            for _ in range(self.steps):
                slope = _differentiable_gradient(energy, x)
                buffer.normal_(generator=rng)
                x = torch.add(x, slope, alpha=-self.drift).add(xi, alpha=self.noise)
        return x

    def _gradient(self, energy: Energy, x: Tensor) -> Gradient:
        return partial(_compiled_gradient(), energy) if self.compile else gradient(energy)


def _noise_buffer(x: Tensor) -> tuple[Tensor, Tensor]:
    """Memory for the noise, and a view of it shaped like x.

    A CPU fills a non-contiguous tensor number by number, ten times slower; so noise for channels_last states is drawn
    in the order of their memory.
    """
    if x.is_contiguous() or x.dim() != 4 or not x.is_contiguous(memory_format=torch.channels_last):
        buffer = torch.empty_like(x)
        return buffer, buffer
    buffer = torch.empty_like(x.permute(0, 2, 3, 1), memory_format=torch.contiguous_format)
    return buffer, buffer.permute(0, 3, 1, 2)


def _differentiable_gradient(energy: Energy, x: Tensor) -> Tensor:
    """dU/dx, itself differentiable in x and in what the energy is made of."""
    state = x if x.requires_grad else x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(evaluate(energy, state).float().sum(), state, create_graph=True)
    return slope


@cache
def _compiled_gradient() -> Callable[[Energy, Tensor], Tensor]:
    def compiled(energy: Energy, x: Tensor) -> Tensor:
        return torch.func.grad(lambda state: energy(state).float().sum())(x)

    return torch.compile(compiled, dynamic=False)
