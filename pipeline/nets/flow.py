"""Normalising flows: invertible maps between data and z ~ N(0, I) with known log-determinants.

Vectors: zuko's spline or affine couplings, or an affine map alone (a Gaussian). Images: Glow (`nets.glow`). A flow is a
module: calling it maps z (n, d) to x = g(z); `encode` and `decode` return log |det dz/dx| too.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from pipeline.batch import Spec
from pipeline.energies.energy import Energy
from pipeline.errors import InputError
from pipeline.nets.glow import Glow
from pipeline.settings import NonNegative, PositiveInt, Settings

EDGE = 2**-14
"""Margin of an interval of dequantisation noise, so that rounding cannot move a pixel into the next interval."""


@dataclass(frozen=True)
class FlowSettings(Settings):
    """Settings of a flow; a run that starts from another run's flow needs the same ones."""

    family: Literal["spline", "affine", "gaussian", "glow"] = "glow"
    """Vectors: couplings by rational-quadratic splines, affine couplings, or a Gaussian with the moments of the data.
    Images: glow."""
    couplings: PositiveInt = 4
    """Number of couplings; for images, at each scale."""
    scales: PositiveInt = 2
    """Scales for images: each halves the sides, and all but the last output half of the numbers."""
    hidden: PositiveInt = 64
    """Units, or channels, of the two hidden layers in a coupling."""
    margin: NonNegative = 0.0
    """For images: pixels are first mapped by log (1 + margin + x) / (1 + margin - x); 0: they are not."""
    levels: Annotated[int, Field(ge=2)] = 256
    """Number of values of a pixel, k / (levels - 1); dequantisation makes an interval of each."""

    def dequantize(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Data as flows and energies take them: pixels become (k + u) / levels, scaled to [-1, 1], with uniform u.

        Vectors are returned unchanged.
        """
        if x.dim() != 4:
            return x
        k = ((x + 1) / 2 * (self.levels - 1)).round()
        u = torch.empty_like(x).uniform_(generator=rng).clamp(EDGE, 1 - EDGE)
        return (k + u) / self.levels * 2 - 1

    def quantize(self, x: Tensor) -> Tensor:
        """The inverse of `dequantize`: each pixel's level; beyond [-1, 1], the nearest level."""
        if x.dim() != 4:
            return x
        k = ((x + 1) / 2 * self.levels).floor().clamp(0, self.levels - 1)
        return k / (self.levels - 1) * 2 - 1

    def metrics(self, energy: Float[Tensor, " n"], x: Tensor) -> dict[str, Float[Tensor, " n"]]:
        """The energies -log p of dequantized items x in usual units: `bits_per_dim` for images, else `nll_nats`."""
        if x.dim() != 4:
            return {"nll_nats": energy}
        return {"bits_per_dim": energy / (x[0].numel() * math.log(2)) + math.log2(self.levels / 2)}


@runtime_checkable
class Flow(Protocol):
    """An invertible map between data x and vectors z."""

    def __call__(self, z: Tensor) -> Tensor:
        """x = g(z) for z (n, d)."""
        ...

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """z = g^-1(x) (n, d) for data (n, *shape), and log |det dz/dx| (n,)."""
        ...

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """g(z), and log |det dz/dx| (n,) there."""
        ...

    def init_from_data(self, x: Tensor) -> None:
        """Set, from a batch and in place, what depends on data before learning."""


class VectorFlow(nn.Module):
    """Vectors (n, d): an affine map that whitens them, then zuko's couplings, if any.

    The affine map does not learn; `init_from_data` sets it to the moments of a batch.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, d: int, settings: FlowSettings):
        super().__init__()
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("scale", torch.eye(d))
        hidden, n = (settings.hidden, settings.hidden), settings.couplings
        if settings.family == "spline":
            from zuko.flows import NSF  # slow to import

            self.couplings = NSF(d, transforms=n, hidden_features=hidden, passes=min(2, d))
        elif settings.family == "affine":
            from zuko.flows import RealNVP

            self.couplings = RealNVP(d, transforms=n, hidden_features=hidden)
        else:
            self.couplings = None

    def encode(self, x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
        """Data -> z, and log |det dz/dx|."""
        z = torch.linalg.solve_triangular(self.scale, (x - self.mean).T, upper=False).T
        log_det = -self.scale.diagonal().log().sum().expand(len(x))
        if self.couplings is None:
            return z, log_det
        z, of_couplings = self.couplings().transform.call_and_ladj(z)
        return z, log_det + of_couplings

    def forward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The inverse of `encode`."""
        z = z if self.couplings is None else self.couplings().transform.inv(z)
        return z @ self.scale.T + self.mean

    def decode(self, z: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
        """The inverse of `encode`, and log |det dz/dx| there, for which zuko evaluates its networks once more."""
        log_det = -self.scale.diagonal().log().sum().expand(len(z))
        if self.couplings is not None:
            z, of_inverse = self.couplings().transform.inv.call_and_ladj(z)
            log_det = log_det - of_inverse
        return z @ self.scale.T + self.mean, log_det

    @torch.no_grad()
    def init_from_data(self, x: Float[Tensor, "n d"]) -> None:
        """Set mean and scale to the moments of x; a small ridge gives constant coordinates some width."""
        covariance = torch.cov(x.T.double()).reshape(len(self.mean), -1)
        ridge = 1e-4 * covariance.diagonal().mean().clamp(min=1e-4) * torch.eye(len(self.mean), device=x.device)
        self.mean.copy_(x.mean(0))
        self.scale.copy_(torch.linalg.cholesky(covariance + ridge))


def build_flow(settings: FlowSettings, spec: Spec) -> nn.Module:
    """The flow for data of one kind and shape.

    Raises:
        InputError: the family is not for this kind of data, or the images cannot be halved `scales` times.
    """
    if spec.kind == "image" and settings.family == "glow":
        return Glow(spec.shape, settings.scales, settings.couplings, settings.hidden, settings.margin)
    if spec.kind == "vector" and settings.family != "glow":
        return VectorFlow(spec.shape[0], settings)
    raise InputError("flows of images are glow, of vectors spline, affine or gaussian", "family", settings.family)


def flow_of(nets: Mapping[str, nn.Module]) -> Flow:
    """A recipe's network `flow`, typed."""
    return cast(Flow, nets["flow"])


def sample_with_energy(flow: Flow, z: Float[Tensor, "n d"]) -> tuple[Tensor, Float[Tensor, " n"]]:
    """x = g(z) and -log q(x), which needs no inverse since z is known; both are differentiable."""
    x, log_det = flow.decode(z)
    return x, _energy(z, log_det)


def flow_energy(flow: Flow) -> Energy:
    """-log q(x) in nats, normalised, of dequantized data."""

    def energy(x: Tensor) -> Tensor:
        return _energy(*flow.encode(x))

    return energy


def _energy(z: Float[Tensor, "n d"], log_det: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return z.square().sum(1) / 2 + z.shape[1] / 2 * math.log(2 * math.pi) - log_det
