"""Short-run MCMC as a map x = M(z), K Langevin steps from z; interpolation and inference of z (1904.09770, 3.4).

Where a network is piecewise linear in x (LeakyReLU, max-pooling), its second derivatives are zero almost everywhere, so
the derivative of M is the identity: gradient descent on |x - M(z)|^2 through the steps moves z by the residual. Smooth
networks give other gradients.
"""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from pipeline.energies.energy import Energy
from pipeline.rng import generator
from pipeline.samplers.langevin import Langevin

SEGMENT = 10
"""Steps whose graph is in memory at once; the backward pass recomputes one segment after the other."""


def generate(energy: Energy, langevin: Langevin, z: Float[Tensor, "n *d"]) -> Float[Tensor, "n *d"]:
    """M(z) without noise, differentiable in z by `backward`, with the graph of SEGMENT steps in memory at a time."""
    x = z
    for done in range(0, langevin.steps, SEGMENT):
        part = replace(langevin, steps=min(SEGMENT, langevin.steps - done), noise=0.0)
        if torch.is_grad_enabled() and x.requires_grad:
            x = checkpoint(_segment, energy, part, x, use_reentrant=True, preserve_rng_state=False)
        else:
            x, _ = part(energy, x, generator(0, x.device))
    return x


def _segment(energy: Energy, langevin: Langevin, x: Tensor) -> Tensor:
    rng = generator(0, x.device)
    return langevin.unrolled(energy, x, rng) if torch.is_grad_enabled() else langevin(energy, x, rng)[0]


def interpolate_starts(a: Float[Tensor, " *d"], b: Float[Tensor, " *d"], n: int) -> Float[Tensor, "n *d"]:
    """n starts rho a + sqrt(1 - rho^2) b from b (rho = 0) to a (rho = 1), each with the variance of a and b."""
    rho = torch.linspace(0, 1, n, device=a.device).view(-1, *[1] * a.dim())
    return rho * a + (1 - rho.square()).sqrt() * b


def reconstruct(
    energy: Energy,
    langevin: Langevin,
    x: Float[Tensor, "n *d"],
    z: Float[Tensor, "n *d"],
    iterations: int,
    lr: float,
    tick: Callable[[], object] = lambda: None,
) -> tuple[Float[Tensor, "n *d"], Float[Tensor, "t n"]]:
    """Infer z with M(z) near x, by Adam on |x - M(z)|^2 (section 3.4).

    The backward pass through the steps is skipped once the first one has shown that it changes nothing (a piecewise
    linear network).

    Args:
        energy: of the chains.
        langevin: their kernel; its noise is not used.
        x: what to reconstruct.
        z: where inference starts.
        iterations: of Adam.
        lr: of Adam.
        tick: called at every iteration, for a progress bar.

    Returns:
        The z of least error for each item, and the mean squared error of each item before every iteration and after
        the last (t = iterations + 1).
    """
    z, least, errors = z.detach().clone().requires_grad_(), torch.full((len(x),), torch.inf, device=x.device), []
    best, optimizer, through = z.detach().clone(), torch.optim.Adam([z], lr), True
    for i in range(iterations + 1):
        with torch.set_grad_enabled(through and i < iterations):
            end = generate(energy, langevin, z)
        residual = end.detach() - x
        errors.append(residual.square().flatten(1).mean(1))
        best[errors[-1] < least] = z.detach()[errors[-1] < least]
        least = torch.minimum(least, errors[-1])
        if i < iterations:
            z.grad = None if through else residual
            if through:
                end.backward(residual)
                through = i > 0 or not torch.equal(torch.as_tensor(z.grad), residual)
            optimizer.step()
            tick()
    return best, torch.stack(errors)
