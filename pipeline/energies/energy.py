"""Energies: functions from n states to n numbers, low where likely.

Every target of the project is made of energies by functions of them: a network; a tilted Gaussian; a posterior. An
energy may bring its own `gradient`, which chains then take in place of autograd's (`gradient`).
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

Energy: TypeAlias = Callable[[Tensor], Tensor]
"""(n, *d) states -> (n,) energies; low = likely."""
Gradient: TypeAlias = Callable[[Tensor], Tensor]
"""(n, *d) states -> dU/dx of each, (n, *d)."""


def gradient(energy: Energy) -> Gradient:
    """dU/dx of states, with no graph: the energy's own, if it brings one, or else autograd's.

    An energy brings its own by a method `gradient() -> Gradient`, which is asked for once before many steps, so that
    it can prepare them; the weights stay as they are meanwhile. What it returns is called under `no_grad`, without
    autocast, gives the dtype of its states, keeps no memory of them and leaves them as they are. A sum of energies
    takes each part's, so a part without does not cost the others theirs.
    """
    own: Callable[[], Gradient] | None = getattr(energy, "gradient", None)
    return own() if own else partial(autograd_gradient, energy)


def autograd_gradient(energy: Energy, x: Float[Tensor, "n *d"]) -> Float[Tensor, "n *d"]:
    """dU/dx of each state, detached: parameters get no gradient, and no graph outlives the call."""
    with torch.enable_grad():
        state = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(energy(state).float().sum(), state)
    return slope


def gaussian(sd: float = 1.0) -> Energy:
    """The energy of N(0, sd^2 I): |x|^2 / (2 sd^2), without its normaliser."""
    return Gaussian(sd)


def tilt(energy: Energy, base: Energy) -> Energy:
    """The exponential tilt of a base density: p(x) ~ exp(-energy(x)) exp(-base(x))."""
    return Tilted(energy, base)


@dataclass(frozen=True)
class Gaussian:
    """|x|^2 / (2 sd^2)."""

    sd: float

    def __call__(self, x: Float[Tensor, "n *d"]) -> Float[Tensor, " n"]:
        """The energy of each state."""
        return x.flatten(1).square().sum(1) / (2 * self.sd**2)

    def gradient(self) -> Gradient:
        """It is x / sd^2."""
        precision = 1 / self.sd**2
        return lambda x: x * precision


@dataclass(frozen=True)
class Tilted:
    """The sum of two energies."""

    energy: Energy
    base: Energy

    def __call__(self, x: Float[Tensor, "n *d"]) -> Float[Tensor, " n"]:
        """The energy of each state."""
        return self.energy(x) + self.base(x)

    def gradient(self) -> Gradient:
        """The sum of both parts' gradients."""
        by_energy = gradient(self.energy)
        if isinstance(self.base, Gaussian):
            precision = 1 / self.base.sd**2
            return lambda x: torch.add(by_energy(x), x, alpha=precision)
        by_base = gradient(self.base)
        return lambda x: by_energy(x) + by_base(x)
