"""Energies: functions from n states to n numbers, low where likely.

Every target of the project is made of energies by functions of them: a network; a tilted Gaussian; a posterior. An
energy may bring its own `gradient`, which chains then take in place of autograd's (`gradient`). The densities at the
end have a known normaliser, so that what is learned can be compared with the truth.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Protocol, TypeAlias, runtime_checkable

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
    return own() if own else partial(by_autograd, energy)


def by_autograd(energy: Energy, x: Float[Tensor, "n *d"]) -> Float[Tensor, "n *d"]:
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


@runtime_checkable
class Density(Protocol):
    """A density on the plane whose normaliser is known."""

    @property
    def half(self) -> float:
        """The square [-half, half]^2 holds nearly all of it."""
        ...

    def energy(self, x: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
        """-log p(x) in nats, normalised."""
        ...

    def sample(self, n: int, rng: torch.Generator) -> Float[Tensor, "n 2"]:
        """N exact draws."""
        ...


@dataclass(frozen=True)
class EightGaussians:
    """Eight Gaussians of equal weight on a circle: the toy of 1903.12370 (radius 1, sd .15)."""

    radius: float = 1.0
    sd: float = 0.15

    @property
    def half(self) -> float:
        """The square [-half, half]^2 holds nearly all of it."""
        return 2 * self.radius

    def _centres(self) -> Float[Tensor, "8 2"]:
        angle = torch.arange(8) * (2 * math.pi / 8)
        return self.radius * torch.stack([angle.cos(), angle.sin()], 1)

    def energy(self, x: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
        """-log p(x) in nats, normalised."""
        centres = self._centres().to(x)
        exponent = -(x[:, None] - centres).square().sum(2) / (2 * self.sd**2)
        return math.log(8 * 2 * math.pi * self.sd**2) - exponent.logsumexp(1)

    def sample(self, n: int, rng: torch.Generator) -> Float[Tensor, "n 2"]:
        """N exact draws."""
        which = torch.randint(8, (n,), generator=rng)
        return self._centres()[which] + self.sd * torch.randn(n, 2, generator=rng)


@dataclass(frozen=True)
class Rings:
    """Rings of equal weight about the origin, at radii 1, 2, ...: the other toy of 1903.12370 (4 rings, sd .15).

    The radius is normal about a ring's, the angle uniform. (The paper's code divides by the ring's circumference where
    the density has that of the point's own circle.)
    """

    rings: int = 4
    sd: float = 0.15

    @property
    def half(self) -> float:
        """The square [-half, half]^2 holds nearly all of it."""
        return self.rings + 1.0

    def energy(self, x: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
        """-log p(x) in nats, normalised but for the 1e-10 of radii below 0."""
        radius = x.norm(dim=1)
        exponent = -(radius[:, None] - torch.arange(1, self.rings + 1).to(x)).square() / (2 * self.sd**2)
        normaliser = math.log(self.rings * (2 * math.pi) ** 1.5 * self.sd)
        return normaliser + radius.clamp(min=1e-6).log() - exponent.logsumexp(1)

    def sample(self, n: int, rng: torch.Generator) -> Float[Tensor, "n 2"]:
        """N exact draws."""
        radius = 1 + torch.randint(self.rings, (n,), generator=rng) + self.sd * torch.randn(n, generator=rng)
        angle = 2 * math.pi * torch.rand(n, generator=rng)
        return radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
