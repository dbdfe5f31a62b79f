"""Energies: functions from n states to n numbers, low where likely.

Every target in this project is built from energies: a network; a tilted Gaussian; a posterior. An energy may bring its
own gradient, by a method `gradient() -> Gradient`, which chains then use in place of autograd's.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.errors import InputError

Energy: TypeAlias = Callable[[Tensor], Tensor]
"""(n, *d) states -> (n,) energies; low = likely."""
Gradient: TypeAlias = Callable[[Tensor], Tensor]
"""(n, *d) states -> dU/dx of each, (n, *d)."""


def evaluate(energy: Energy, x: Float[Tensor, "n *d"]) -> Float[Tensor, " n"]:
    """U of each state.

    Raises:
        InputError: the energy does not return one number per state; the error names it and the shape it returned.

    >>> evaluate(gaussian(), torch.ones(3, 2))
    tensor([1., 1., 1.])
    """
    u = energy(x)
    if u.shape != (len(x),):
        name = getattr(energy, "__name__", type(energy).__name__)
        raise InputError(f"{name} returned energies of shape {tuple(u.shape)} for {len(x)} states, not ({len(x)},)")
    return u


def gradient(energy: Energy) -> Gradient:
    """dU/dx of states, without a graph: the energy's own gradient where it brings one, autograd's otherwise.

    An energy's `gradient()` is called once before many steps, so that it can prepare them; neither the weights nor
    autocast change in the meantime. What it returns is called under `no_grad`. It returns the dtype of its states,
    keeps no reference to them and does not change them. A sum of energies takes each part's own gradient.

    >>> gradient(lambda x: x.pow(4).sum(1))(torch.tensor([[1.0, 2.0]]))
    tensor([[ 4., 32.]])
    """
    own: Callable[[], Gradient] | None = getattr(energy, "gradient", None)
    return own() if own else partial(autograd_gradient, energy)


def autograd_gradient(energy: Energy, x: Float[Tensor, "n *d"]) -> Float[Tensor, "n *d"]:
    """dU/dx of each state, detached: parameters get no gradient, and no graph outlives the call."""
    with torch.enable_grad():
        state = x.detach().requires_grad_()
        (slope,) = torch.autograd.grad(evaluate(energy, state).float().sum(), state)
    return slope


def gaussian(sd: float = 1.0) -> Energy:
    """The energy of N(0, sd^2 I): |x|^2 / (2 sd^2), without its normaliser.

    >>> gaussian(sd=2.0)(torch.tensor([[2.0, 0.0], [2.0, 2.0]]))
    tensor([0.5000, 1.0000])
    """
    return Gaussian(sd)


def tilt(energy: Energy, base: Energy) -> Energy:
    """The exponential tilt of a base density: p(x) ~ exp(-energy(x)) exp(-base(x)).

    >>> tilt(lambda x: x.sum(1), gaussian())(torch.ones(1, 2))
    tensor([3.])
    """
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
        return evaluate(self.energy, x) + evaluate(self.base, x)

    def gradient(self) -> Gradient:
        """The sum of both parts' gradients."""
        by_energy = gradient(self.energy)
        if isinstance(self.base, Gaussian):
            precision = 1 / self.base.sd**2
            return lambda x: torch.add(by_energy(x), x, alpha=precision)
        by_base = gradient(self.base)
        return lambda x: by_energy(x) + by_base(x)
