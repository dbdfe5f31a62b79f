"""The density of short-run Langevin chains: log-determinants of chains as maps of their starts (1912.01909, 3.3)."""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.energies.energy import Energy, evaluate
from pipeline.samplers.langevin import Langevin

DECOMPOSED_AT_ONCE = 1 << 22
"""Numbers in the Hessians that are kept until they are decomposed."""


class PushForward(NamedTuple):
    """n Langevin chains as maps z_0 -> z_K of their starts."""

    end: Float[Tensor, "n l"]
    log_det: Float[Tensor, " n"]
    """log |det dz_K/dz_0|."""
    stiffness: Float[Tensor, " n"]
    """Largest eigenvalue, along the chain, of drift times the Hessian of the energy. Below 1 the map of a smooth energy
    is one to one; below 2 it is stable."""


def push_forward(langevin: Langevin, energy: Energy, z: Float[Tensor, "n l"], rng: torch.Generator) -> PushForward:
    """The states z_K after the steps, and the log-determinant of the map z_0 -> z_K for the noise that is drawn.

    It is the sum of the log-determinants of the steps, each of I - drift times the Hessian of the energy. The Jacobian
    of all steps together would not do: its singular values span more digits than float32 has. Each chain's energy must
    depend on its own state alone; each step differentiates it l more times. Hessians of many steps are decomposed
    together, since a GPU is waited for each time.
    """
    log_det, stiffness = (torch.zeros(len(z), device=z.device) for _ in range(2))
    steps_at_once = max(1, DECOMPOSED_AT_ONCE // max(1, z.shape[1] * z.numel()))
    for done in range(0, langevin.steps, steps_at_once):
        curvatures = []
        for _ in range(min(steps_at_once, langevin.steps - done)):
            slope, curvature = _slope_and_curvature(energy, z)
            curvatures.append(curvature)
            xi = torch.empty_like(z).normal_(generator=rng)
            z = torch.add(z, slope, alpha=-langevin.drift).add_(xi, alpha=langevin.noise)
        for values in langevin.drift * _eigenvalues(torch.stack(curvatures)):
            log_det += (1 - values).abs().log().sum(1)
            stiffness = torch.maximum(stiffness, values[:, -1])
    return PushForward(z, log_det, stiffness)


def short_run_divergence(
    energy: Energy, langevin: Langevin, z: Float[Tensor, "n l"], rng: torch.Generator
) -> Float[Tensor, " n"]:
    """KL(q(z|x) || p(z|x)) of chains from z ~ N(0, I), up to terms that do not depend on the step (1912.01909, 3.3).

    Given the noise of the steps, log q(z_K) = log p(z_0) - log |det dz_K/dz_0|.

    Args:
        energy: energy of the posterior, normalised or not; z[i] belongs to item i.
        langevin: the chains' kernel.
        z: starts, drawn from N(0, I).
        rng: generator of the steps' noise; the same noise makes different step sizes comparable.
    """
    end, log_det, _ = push_forward(langevin, energy, z, rng)
    with torch.no_grad():
        return evaluate(energy, end) - z.square().sum(1) / 2 - log_det


def _slope_and_curvature(energy: Energy, z: Float[Tensor, "n l"]) -> tuple[Tensor, Float[Tensor, "n l l"]]:
    """First and second derivatives of each chain's energy."""
    n, dimensions = z.shape
    with torch.enable_grad():
        state = z.detach().requires_grad_()
        (slope,) = torch.autograd.grad(evaluate(energy, state).sum(), state, create_graph=True)
        rows = torch.eye(dimensions, device=z.device)[:, None].expand(dimensions, n, dimensions)
        (curvature,) = torch.autograd.grad(slope, state, rows, is_grads_batched=True)
    return slope.detach(), curvature.transpose(0, 1)


def _eigenvalues(symmetric: Float[Tensor, "*n l l"]) -> Float[Tensor, "*n l"]:
    """In ascending order; nan where the squares of the entries overflow float32, and the decomposition would fail."""
    is_small = symmetric.abs().amax((-1, -2)) < 1e18
    values = torch.linalg.eigvalsh(torch.where(is_small[..., None, None], symmetric, 0))
    return torch.where(is_small[..., None], values, torch.nan)
