"""Hamiltonian Monte Carlo and MALA, Metropolis-corrected; the step size is tuned by dual averaging."""

import math
from dataclasses import dataclass, replace

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.energies.energy import Energy
from pipeline.samplers.kernel import Stats


@dataclass(frozen=True)
class HMC:
    """Hamiltonian Monte Carlo at temperature 1, Metropolis-corrected; one leapfrog step a proposal is MALA.

    Momenta are N(0, I). A proposal that leaves the finite numbers is rejected, which the acceptance shows. Under
    gradients no graph is kept: acceptance is not differentiable.
    """

    steps: int
    """Proposals."""
    leapfrog_steps: int
    """Leapfrog steps of a proposal."""
    step_size: float
    """Length of a leapfrog step, in units of the state."""

    @property
    def temperature(self) -> float:
        """1."""
        return 1.0

    @property
    def gradient_evaluations(self) -> int:
        """Gradients of the energy that one chain takes in one call."""
        return self.steps * self.leapfrog_steps + 1

    def __call__(self, energy: Energy, x: Float[Tensor, "n *d"], rng: torch.Generator) -> tuple[Tensor, Stats]:
        """Move n chains by `steps` proposals."""
        here, slope = value_and_gradient(energy, x)
        norm, accepted = (torch.zeros(len(x), device=x.device) for _ in range(2))
        for _ in range(self.steps):
            momentum = torch.empty_like(x).normal_(generator=rng)
            there, p, u, g = leapfrog(energy, x, momentum, slope, self.step_size, self.leapfrog_steps)
            log_ratio = here + _kinetic(momentum) - u - _kinetic(p)
            uniform = torch.empty_like(here).uniform_(generator=rng)
            accept = uniform.log() < log_ratio
            chosen = accept.view(-1, *[1] * (x.dim() - 1))
            x, slope = torch.where(chosen, there, x), torch.where(chosen, g, slope)
            here = torch.where(accept, u, here)
            norm, accepted = norm + slope.flatten(1).norm(dim=1), accepted + accept
        share = max(self.steps, 1)
        return x, Stats(here, norm / share, accepted / share)


def warm_up(
    hmc: HMC, energy: Energy, x: Tensor, rng: torch.Generator, rounds: int = 200, target: float = 0.8
) -> tuple[HMC, Tensor]:
    """A new frozen sampler whose step gives the acceptance `target`, and the chains, moved by `rounds` proposals.

    Dual averaging (Hoffman and Gelman 2014, algorithm 5, with its constants). Only here is a step adapted: chains that
    count are moved by a fixed one.
    """
    centre, average, error, log_step_size = math.log(10 * hmc.step_size), 0.0, 0.0, math.log(hmc.step_size)
    with torch.no_grad():
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
    """N leapfrog steps from (x, momentum), where `slope` is dU/dx at x: the new x, momentum, U and dU/dx.

    Reversible in time (with the momentum turned round), of second order, and of volume 1.
    """
    u = torch.zeros(len(x), device=x.device)
    for _ in range(n):
        momentum = momentum - step_size / 2 * slope
        x = x + step_size * momentum
        u, slope = value_and_gradient(energy, x)
        momentum = momentum - step_size / 2 * slope
    return x, momentum, u, slope


def value_and_gradient(energy: Energy, x: Tensor) -> tuple[Float[Tensor, " n"], Tensor]:
    """U and dU/dx, detached."""
    with torch.enable_grad():
        state = x.detach().requires_grad_()
        u = energy(state).float()
        (slope,) = torch.autograd.grad(u.sum(), state)
    return u.detach(), slope


def _kinetic(momentum: Tensor) -> Float[Tensor, " n"]:
    return momentum.flatten(1).square().sum(1) / 2
