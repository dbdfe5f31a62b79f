"""Samplers: frozen values that are called, `sampler(energy, x, rng) -> (x, Stats)`.

Drift and noise are the primitives of Langevin dynamics; the temperature is derived from them. The papers' text writes
drift = step^2/2, noise = step (temperature 1); the code of the image papers uses drift 1, noise .01 (temperature 5e-5).
Both are values of one class.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cache, partial
from typing import NamedTuple, Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.energies import Energy, Gradient, by_autograd, gradient


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

    def gradient_to_noise(self, grad_norm: Float[Tensor, " n"], dimensions: int) -> Float[Tensor, ""]:
        """Mean of |drift dU/dx| over the noise's noise sqrt(dimensions): far above 1, the chains just descend."""
        return self.drift * grad_norm.mean() / (grad_norm.new_tensor(self.noise) * math.sqrt(dimensions))

    def __call__(self, energy: Energy, x: Float[Tensor, "n *d"], rng: torch.Generator) -> tuple[Tensor, Stats]:
        """Move n chains by `steps` steps."""
        differentiable = torch.is_grad_enabled()
        slope_at, x = self._gradient(energy), x if differentiable else x.clone()
        grad_norm, directions = torch.zeros(len(x), device=x.device), tuple(range(1, x.dim()))
        drawn, xi = _buffer(x)
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
            return partial(_graph, energy)
        if self.compile:
            return partial(_compiled_gradient(), energy)
        return partial(by_autograd, energy) if self.autocast else gradient(energy)


def _buffer(x: Tensor) -> tuple[Tensor, Tensor]:
    """Memory to draw noise into, and the same as a tensor like x.

    A CPU draws into a tensor that is not contiguous number by number, ten times slower: channels_last states have
    theirs drawn in the order of their memory.
    """
    if x.is_contiguous() or x.dim() != 4 or not x.is_contiguous(memory_format=torch.channels_last):
        drawn = torch.empty_like(x)
        return drawn, drawn
    drawn = torch.empty_like(x.permute(0, 2, 3, 1), memory_format=torch.contiguous_format)
    return drawn, drawn.permute(0, 3, 1, 2)


class Transport(NamedTuple):
    """A Langevin chain as a map of its start."""

    end: Float[Tensor, "n l"]
    log_det: Float[Tensor, " n"]
    """log |det dz_K/dz_0|."""
    stiffness: Float[Tensor, " n"]
    """The largest of drift times the energy's second derivative along the chain: the map is sure to be one to one below
    1 (of a smooth energy), and stable below 2."""


def transport(langevin: Langevin, energy: Energy, z: Float[Tensor, "n l"], rng: torch.Generator) -> Transport:
    """Where `langevin` takes z, and how the map that it is for the noise it draws changes volumes (1912.01909, 3.3).

    The determinant is the product of the steps', each I - drift times the energy's second derivatives: of the Jacobian
    of all steps, whose singular values span more than float32's digits, it would be lost to rounding. Each chain's
    energy is its own, and at each step is differentiated l times more.
    """
    log_det, stiffness = (torch.zeros(len(z), device=z.device) for _ in range(2))
    for _ in range(langevin.steps):
        slope, curvature = _slope_and_curvature(energy, z)
        values = langevin.drift * _eigenvalues(curvature)
        log_det += (1 - values).abs().log().sum(1)
        stiffness = torch.maximum(stiffness, values[:, -1])
        xi = torch.empty_like(z).normal_(generator=rng)
        z = torch.add(z, slope, alpha=-langevin.drift).add_(xi, alpha=langevin.noise)
    return Transport(z, log_det, stiffness)


def short_run_divergence(
    energy: Energy, langevin: Langevin, z: Float[Tensor, "n l"], rng: torch.Generator
) -> Float[Tensor, " n"]:
    """KL(q(z|x) || p(z|x)) of chains from z ~ N(0, I), up to terms free of the step (1912.01909, 3.3).

    Log q(z_K) = log p(z_0) - log |det dz_K/dz_0|, given the noise of the steps.

    Args:
        energy: the posterior's, normalised or not; of item i at z[i].
        langevin: the chains' kernel.
        z: their starts, drawn from N(0, I).
        rng: of the steps' noise; the same again makes steps of other sizes comparable.
    """
    end, log_det, _ = transport(langevin, energy, z, rng)
    with torch.no_grad():
        return energy(end) - z.square().sum(1) / 2 - log_det


def _slope_and_curvature(energy: Energy, z: Float[Tensor, "n l"]) -> tuple[Tensor, Float[Tensor, "n l l"]]:
    """First and second derivatives of each chain's energy."""
    n, dimensions = z.shape
    with torch.enable_grad():
        state = z.detach().requires_grad_()
        (slope,) = torch.autograd.grad(energy(state).sum(), state, create_graph=True)
        rows = torch.eye(dimensions, device=z.device)[:, None].expand(dimensions, n, dimensions)
        (curvature,) = torch.autograd.grad(slope, state, rows, is_grads_batched=True)
    return slope.detach(), curvature.transpose(0, 1)


def _eigenvalues(symmetric: Float[Tensor, "n l l"]) -> Float[Tensor, "n l"]:
    """In ascending order; nan for a matrix beyond float32's squares, whose decomposition would fail."""
    sound = symmetric.abs().amax((1, 2)) < 1e18
    values = torch.linalg.eigvalsh(torch.where(sound[:, None, None], symmetric, 0))
    return torch.where(sound[:, None], values, torch.nan)


def _graph(energy: Energy, x: Tensor) -> Tensor:
    """dU/dx, itself differentiable in x and in what the energy is made of."""
    state = x if x.requires_grad else x.detach().requires_grad_()
    (slope,) = torch.autograd.grad(energy(state).float().sum(), state, create_graph=True)
    return slope


@cache
def _compiled_gradient() -> Callable[[Energy, Tensor], Tensor]:
    def compiled(energy: Energy, x: Tensor) -> Tensor:
        return torch.func.grad(lambda state: energy(state).float().sum())(x)

    return torch.compile(compiled, dynamic=False)


@dataclass(frozen=True)
class HMC:
    """Hamiltonian Monte Carlo at temperature 1, Metropolis-corrected; one leapfrog step a proposal is MALA.

    Momenta are N(0, I). A proposal that leaves the finite numbers is rejected, which the acceptance shows. Under
    gradients no graph is kept: acceptance is not differentiable.
    """

    steps: int
    """Proposals."""
    leapfrogs: int
    """Leapfrog steps of a proposal."""
    step: float
    """Length of a leapfrog step, in units of the state."""

    @property
    def temperature(self) -> float:
        """1."""
        return 1.0

    @property
    def evaluations(self) -> int:
        """Gradients of the energy that one chain takes in one call."""
        return self.steps * self.leapfrogs + 1

    def __call__(self, energy: Energy, x: Float[Tensor, "n *d"], rng: torch.Generator) -> tuple[Tensor, Stats]:
        """Move n chains by `steps` proposals."""
        here, slope = value_and_gradient(energy, x)
        norm, accepted = (torch.zeros(len(x), device=x.device) for _ in range(2))
        for _ in range(self.steps):
            momentum = torch.empty_like(x).normal_(generator=rng)
            there, p, u, g = leapfrog(energy, x, momentum, slope, self.step, self.leapfrogs)
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
    centre, average, error, log_step = math.log(10 * hmc.step), 0.0, 0.0, math.log(hmc.step)
    with torch.no_grad():
        for i in range(1, rounds + 1):
            x, stats = replace(hmc, steps=1, step=math.exp(log_step))(energy, x, rng)
            error += (target - stats.accept.mean().item() - error) / (i + 10)
            log_step = centre - math.sqrt(i) / 0.05 * error
            weight = i**-0.75
            average = weight * log_step + (1 - weight) * average
    return replace(hmc, step=math.exp(average)), x


def leapfrog(
    energy: Energy, x: Tensor, momentum: Tensor, slope: Tensor, step: float, n: int
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """N leapfrog steps from (x, momentum), where `slope` is dU/dx at x: the new x, momentum, U and dU/dx.

    Reversible in time (with the momentum turned round), of second order, and of volume 1.
    """
    u = torch.zeros(len(x), device=x.device)
    for _ in range(n):
        momentum = momentum - step / 2 * slope
        x = x + step * momentum
        u, slope = value_and_gradient(energy, x)
        momentum = momentum - step / 2 * slope
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
