"""The density of short-run Langevin chains: the log-determinant of a chain as a map of its start (1912.01909, section 3.3)."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.energies.energy import Energy
from pipeline.samplers.langevin import Langevin


class PushForward(NamedTuple):
    """A Langevin chain as a map of its start."""

    end: Float[Tensor, "n l"]
    log_det: Float[Tensor, " n"]
    """log |det dz_K/dz_0|."""
    stiffness: Float[Tensor, " n"]
    """The largest of drift times the energy's second derivative along the chain: the map is sure to be one to one below
    1 (of a smooth energy), and stable below 2."""


def push_forward(langevin: Langevin, energy: Energy, z: Float[Tensor, "n l"], rng: torch.Generator) -> PushForward:
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
    return PushForward(z, log_det, stiffness)


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
    end, log_det, _ = push_forward(langevin, energy, z, rng)
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
