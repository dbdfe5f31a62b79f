"""Hamiltonian Monte Carlo and MALA, Metropolis-corrected; dual averaging tunes the step size."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.energies.energy import Energy, evaluate, gradient
from pipeline.samplers.kernel import Stats
from pipeline.settings import Count, Positive, PositiveInt, Settings


@dataclass(frozen=True)
class HMC(Settings):
    """Hamiltonian Monte Carlo at temperature 1, Metropolis-corrected; with one leapfrog step it is MALA.

    Momenta are N(0, I). A proposal that is not finite is rejected, which the acceptance rate shows. No graph is kept:
    acceptance is not differentiable.

    Raises:
        InputError: a field is out of bounds.

    >>> rng = torch.Generator().manual_seed(0)
    >>> x, stats = HMC(50, 3, 0.3)(lambda x: x.square().sum(1) / 2, torch.zeros(1000, 1), rng)
    >>> bool((x.std() - 1).abs() < 0.1), bool(stats.acceptance_rate.mean() > 0.9)
    (True, True)
    """

    steps: Count
    """Proposals."""
    leapfrog_steps: PositiveInt
    """Leapfrog steps per proposal."""
    step_size: Positive
    """Length of a leapfrog step, in units of the state."""

    @property
    def temperature(self) -> float:
        """1."""
        return 1.0

    @property
    def gradient_evaluations(self) -> int:
        """Gradients of the energy that one chain takes in one call."""
        return self.steps * self.leapfrog_steps + 1

    @torch.no_grad()
    def __call__(self, energy: Energy, x: Float[Tensor, "n *d"], rng: torch.Generator) -> tuple[Tensor, Stats]:
        """Move n chains by `steps` proposals; the states are detached. Raises InputError where U is not (n,)."""
        x = x.detach()
        u, slope = value_and_gradient(energy, x)
        norm, accepted = (torch.zeros(len(x), device=x.device) for _ in range(2))
        for _ in range(self.steps):
            momentum = torch.empty_like(x).normal_(generator=rng)
            proposal = leapfrog(energy, x, momentum, slope, self.step_size, self.leapfrog_steps)
            log_ratio = u + _kinetic(momentum) - proposal[2] - _kinetic(proposal[1])
            uniform = torch.empty_like(u).uniform_(generator=rng)
            accept = uniform.log() < log_ratio
            mask = accept.view(-1, *[1] * (x.dim() - 1))
            x, slope = torch.where(mask, proposal[0], x), torch.where(mask, proposal[3], slope)
            u = torch.where(accept, proposal[2], u)
            norm, accepted = norm + slope.flatten(1).norm(dim=1), accepted + accept
        count = max(self.steps, 1)
        return x, Stats(u, norm / count, accepted / count)


@torch.no_grad()
def warm_up(
    hmc: HMC, energy: Energy, x: Tensor, rng: torch.Generator, rounds: int = 200, target: float = 0.8
) -> tuple[HMC, Tensor]:
    """A sampler whose step size gives the acceptance rate `target`, and the chains after `rounds` proposals.

    Dual averaging (Hoffman and Gelman 2014, algorithm 5, with its constants). Only here is a step size adapted: chains
    that are used afterwards move by a fixed one.

    >>> from pipeline import gaussian
    >>> rng = torch.Generator().manual_seed(0)
    >>> hmc, x = warm_up(HMC(20, 3, 0.01), gaussian(), torch.randn(100, 2, generator=rng), rng)
    >>> bool((hmc(gaussian(), x, rng)[1].acceptance_rate.mean() - 0.8).abs() < 0.05)
    True
    """
    centre, average, error, log_step_size = math.log(10 * hmc.step_size), 0.0, 0.0, math.log(hmc.step_size)
    for i in range(1, rounds + 1):
        x, stats = replace(hmc, steps=1, step_size=math.exp(log_step_size))(energy, x, rng)
        error += (target - stats.acceptance_rate.mean().item() - error) / (i + 10)
        log_step_size = centre - math.sqrt(i) / 0.05 * error
        weight = i**-0.75
        average = weight * log_step_size + (1 - weight) * average
    return replace(hmc, step_size=math.exp(average)), x


def leapfrog(
    energy: Energy, x: Tensor, momentum: Tensor, slope: Tensor, step_size: float, n: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """n leapfrog steps from (x, momentum), where `slope` is dU/dx at x: the new x, momentum, U and dU/dx.

    Reversible in time (with the momentum negated), of second order, and volume-preserving. Only the last step needs U;
    the others use the energy's own gradient where it brings one.
    """
    gradient_at = gradient(energy)
    kick = step_size / 2 * slope
    for i in range(n):
        momentum = momentum - kick
        x = x + step_size * momentum
        if i < n - 1:
            slope = gradient_at(x)
        else:
            u, slope = value_and_gradient(energy, x)
        kick = step_size / 2 * slope  # ends this step, and begins the next one
        momentum = momentum - kick
    return x, momentum, u, slope


def value_and_gradient(energy: Energy, x: Tensor) -> tuple[Float[Tensor, " n"], Tensor]:
    """U and dU/dx, detached."""
    with torch.enable_grad():
        state = x.detach().requires_grad_()
        u = evaluate(energy, state).float()
        (slope,) = torch.autograd.grad(u.sum(), state)
    return u.detach(), slope


def _kinetic(momentum: Tensor) -> Float[Tensor, " n"]:
    return momentum.flatten(1).square().sum(1) / 2
