"""Normalising flows: invertible maps between data and z ~ N(0, I) with known log-determinants.

Vectors: zuko's spline or affine couplings, or an affine map alone (a Gaussian). Images: Glow (`nets.glow`). A flow is a
module: calling it maps z (n, d) to x = g(z); `encode` and `decode` return log |det dz/dx| too.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from pipeline.batch import Spec
from pipeline.energies.energy import Energy
from pipeline.errors import InputError
from pipeline.nets.couplings import LogDet, Map, decoders, encoders
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

    def decoder(self) -> Callable[[Tensor], Tensor]:
        """g for many calls, by the present weights: what depends on them alone is computed once."""
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
        z, of_couplings = _apply([] if self.couplings is None else encoders(self.couplings), z)
        return z, self._log_det(len(x), of_couplings)

    def forward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The inverse of `encode`."""
        return self.decoder()(z)

    def decode(self, z: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
        """The inverse of `encode`, and log |det dz/dx| there."""
        z, of_couplings = _apply(self._decoders(), z)
        return self._unwhiten(z), self._log_det(len(z), of_couplings)

    def decoder(self) -> Callable[[Tensor], Tensor]:
        """`forward` for many calls, by the present weights."""
        maps = self._decoders()
        return lambda z: self._unwhiten(_apply(maps, z)[0])

    def _decoders(self) -> list[Map]:
        return [] if self.couplings is None else decoders(self.couplings)

    def _unwhiten(self, z: Tensor) -> Tensor:
        return z @ self.scale.T + self.mean

    def _log_det(self, n: int, of_couplings: list[LogDet]) -> Tensor:
        """Of the affine map, and of the couplings in the order in which they were called."""
        log_det = -self.scale.diagonal().log().sum().expand(n)
        return log_det + sum(of_one() for of_one in of_couplings) if of_couplings else log_det

    @torch.no_grad()
    def init_from_data(self, x: Float[Tensor, "n d"]) -> None:
        """Set mean and scale to the moments of x; a small ridge gives constant coordinates some width."""
        covariance = torch.cov(x.T.double()).reshape(len(self.mean), -1)
        ridge = 1e-4 * covariance.diagonal().mean().clamp(min=1e-4) * torch.eye(len(self.mean), device=x.device)
        self.mean.copy_(x.mean(0))
        self.scale.copy_(torch.linalg.cholesky(covariance + ridge))


def _apply(maps: list[Map], x: Tensor) -> tuple[Tensor, list[LogDet]]:
    """What comes out of all maps, one after the other, and their log-determinants."""
    log_dets = []
    for one in maps:
        x, log_det = one(x)
        log_dets.append(log_det)
    return x, log_dets


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
