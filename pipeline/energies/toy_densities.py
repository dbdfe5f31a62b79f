"""Densities on the plane with a known normaliser, so that a learned density can be compared with the truth."""

import math
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor


@runtime_checkable
class ToyDensity(Protocol):
    """A density on the plane with a known normaliser."""

    @property
    def half_width(self) -> float:
        """The square [-half_width, half_width]^2 holds nearly all of the mass."""
        ...

    def energy(self, x: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
        """-log p(x) in nats, normalised."""
        ...

    def sample(self, n: int, rng: torch.Generator) -> Float[Tensor, "n 2"]:
        """Exact draws, n of them."""
        ...


@dataclass(frozen=True)
class EightGaussians:
    """Eight Gaussians of equal weight on a circle: the toy of 1903.12370 (radius 1, sd .15)."""

    radius: float = 1.0
    sd: float = 0.15

    @property
    def half_width(self) -> float:
        """The square [-half_width, half_width]^2 holds nearly all of the mass."""
        return 2 * self.radius

    @property
    def modes(self) -> Float[Tensor, "8 2"]:
        """The centres."""
        angle = torch.arange(8) * (2 * math.pi / 8)
        return self.radius * torch.stack([angle.cos(), angle.sin()], 1)

    def energy(self, x: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
        """-log p(x) in nats, normalised."""
        centres = self.modes.to(x)
        exponent = -(x[:, None] - centres).square().sum(2) / (2 * self.sd**2)
        return math.log(8 * 2 * math.pi * self.sd**2) - exponent.logsumexp(1)

    def sample(self, n: int, rng: torch.Generator) -> Float[Tensor, "n 2"]:
        """Exact draws, n of them."""
        which = torch.randint(8, (n,), generator=rng)
        return self.modes[which] + self.sd * torch.randn(n, 2, generator=rng)


@dataclass(frozen=True)
class Rings:
    """Rings of equal weight about the origin, at radii 1, 2, ...: the other toy of 1903.12370 (4 rings, sd .15).

    The radius is normal about a ring's radius, and the angle is uniform. (The paper's code divides the density by the
    circumference of the ring; here it is that of the circle through the point.)
    """

    rings: int = 4
    sd: float = 0.15

    @property
    def half_width(self) -> float:
        """The square [-half_width, half_width]^2 holds nearly all of the mass."""
        return self.rings + 1.0

    def energy(self, x: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
        """-log p(x) in nats, normalised up to the mass 1e-10 of radii below 0."""
        radius = x.norm(dim=1)
        exponent = -(radius[:, None] - torch.arange(1, self.rings + 1).to(x)).square() / (2 * self.sd**2)
        normaliser = math.log(self.rings * (2 * math.pi) ** 1.5 * self.sd)
        return normaliser + radius.clamp(min=1e-6).log() - exponent.logsumexp(1)

    def sample(self, n: int, rng: torch.Generator) -> Float[Tensor, "n 2"]:
        """Exact draws, n of them."""
        radius = 1 + torch.randint(self.rings, (n,), generator=rng) + self.sd * torch.randn(n, generator=rng)
        angle = 2 * math.pi * torch.rand(n, generator=rng)
        return radius[:, None] * torch.stack([angle.cos(), angle.sin()], 1)


@dataclass(frozen=True)
class Checkerboard:
    """Uniform on the black squares of a 4 x 4 board, [-half_width, half_width]^2; elsewhere the energy is infinite."""

    half_width: float = 2.0

    def energy(self, x: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
        """-log p(x) in nats, normalised."""
        square = (x / (self.half_width / 2)).floor()
        inside = (x.abs() < self.half_width).all(1) & (square.sum(1) % 2 == 0)
        return torch.where(inside, math.log(2 * self.half_width**2), math.inf)

    def sample(self, n: int, rng: torch.Generator) -> Float[Tensor, "n 2"]:
        """Exact draws, n of them."""
        column, row = torch.randint(4, (n,), generator=rng), torch.randint(2, (n,), generator=rng)
        corner = torch.stack([column, 2 * row + column % 2], 1) - 2
        return (corner + torch.rand(n, 2, generator=rng)) * (self.half_width / 2)


@dataclass(frozen=True)
class UniformSquare:
    """Uniform on the square [-half_width, half_width]^2; elsewhere the energy is infinite."""

    half_width: float = 1.0

    def energy(self, x: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
        """-log p(x) in nats, normalised."""
        return torch.where((x.abs() <= self.half_width).all(1), 2 * math.log(2 * self.half_width), math.inf)

    def sample(self, n: int, rng: torch.Generator) -> Float[Tensor, "n 2"]:
        """Exact draws, n of them."""
        return self.half_width * (2 * torch.rand(n, 2, generator=rng) - 1)


@dataclass(frozen=True)
class Spirals:
    """Two spirals of one and a half turns about the origin, each a mixture of 200 Gaussians along its arm."""

    sd: float = 0.08
    half_width: float = 2.5

    def _centres(self) -> Float[Tensor, "400 2"]:
        angle = 3 * math.pi * ((torch.arange(200) + 0.5) / 200).sqrt()  # about equally spaced along the arm
        arm = angle[:, None] / (3 * math.pi) * 2 * torch.stack([angle.cos(), angle.sin()], 1)
        return torch.cat([arm, -arm])

    def energy(self, x: Float[Tensor, "n 2"]) -> Float[Tensor, " n"]:
        """-log p(x) in nats, normalised."""
        centres = self._centres().to(x)
        exponent = -torch.cdist(x, centres).square() / (2 * self.sd**2)
        return math.log(len(centres) * 2 * math.pi * self.sd**2) - exponent.logsumexp(1)

    def sample(self, n: int, rng: torch.Generator) -> Float[Tensor, "n 2"]:
        """Exact draws, n of them."""
        which = torch.randint(400, (n,), generator=rng)
        return self._centres()[which] + self.sd * torch.randn(n, 2, generator=rng)
