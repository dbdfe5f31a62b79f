"""Normalising flows: maps between data and N(0, I) that can be gone both ways, and whose change of volume is known.

Vectors: spline or affine couplings by zuko, or an affine map alone (a Gaussian). Images: Glow (`nets/glow.py`). Each
is a module that is called, x = g(z), z (n, d) flat, with `encode` and `decode`, which say log |det dz/dx| too.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Literal, Protocol, cast, runtime_checkable

import torch
import zuko
from jaxtyping import Float
from pydantic import Field
from torch import Tensor, nn

from pipeline.batch import Spec
from pipeline.energies.energy import Energy
from pipeline.errors import InputError
from pipeline.nets.glow import Glow
from pipeline.settings import NonNegative, PositiveInt, check_fields

EDGE = 2**-14
"""Of an interval, within which rounding could take a pixel's noise to the next."""


@dataclass(frozen=True)
class FlowSettings:
    """What a flow is made of; a run that begins with another's flow needs the same."""

    family: Literal["spline", "affine", "gaussian", "glow"] = "glow"
    """Of vectors: couplings by rational-quadratic splines, affine ones, or the Gaussian of the data's moments alone. Of
    images: glow."""
    couplings: PositiveInt = 4
    """Couplings; of images, at each scale."""
    scales: PositiveInt = 2
    """Scales of images: each halves their sides, and all but the last give away half of the numbers."""
    hidden: PositiveInt = 64
    """Units, or channels, of the two hidden layers in a coupling."""
    margin: NonNegative = 0.0
    """Of images: pixels are stretched by log (1 + margin + x) / (1 + margin - x) first; 0: they are not."""
    levels: Annotated[int, Field(ge=2)] = 256
    """Values that a pixel takes (k of k / (levels - 1)): noise makes an interval of each."""

    def __post_init__(self) -> None:
        check_fields(self)

    def dequantize(self, x: Tensor, rng: torch.Generator) -> Tensor:
        """Data as flows and energies see them: pixels dequantised, (k + u) / levels in the place of [-1, 1], u uniform;
        vectors as they are.
        """
        if x.dim() != 4:
            return x
        k = ((x + 1) / 2 * (self.levels - 1)).round()
        u = torch.empty_like(x).uniform_(generator=rng).clamp(EDGE, 1 - EDGE)
        return (k + u) / self.levels * 2 - 1

    def quantize(self, x: Tensor) -> Tensor:
        """The data that what was seen is of: pixels back to their levels, the nearest for those beyond [-1, 1]."""
        if x.dim() != 4:
            return x
        k = ((x + 1) / 2 * self.levels).floor().clamp(0, self.levels - 1)
        return k / (self.levels - 1) * 2 - 1

    def metrics(self, energy: Float[Tensor, " n"], x: Tensor) -> dict[str, Float[Tensor, " n"]]:
        """The energy -log q of dequantized x in common units: `bits_per_dim` for images, `nll_nats` for vectors."""
        if x.dim() != 4:
            return {"nll_nats": energy}
        return {"bits_per_dim": energy / (x[0].numel() * math.log(2)) + math.log2(self.levels / 2)}


@runtime_checkable
class Flow(Protocol):
    """What flows have in common."""

    def __call__(self, z: Tensor) -> Tensor:
        """X = g(z) of z (n, d)."""
        ...

    def encode(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Data (n, *shape) -> z (n, d), and log |det dz/dx| (n,)."""
        ...

    def decode(self, z: Tensor) -> tuple[Tensor, Tensor]:
        """G(z), and log |det dz/dx| (n,) there."""
        ...

    def initialise(self, x: Tensor) -> None:
        """Set what depends on data before learning, from a batch of them."""


class VectorFlow(nn.Module):
    """Vectors (n, d): an affine map that gives them no mean and unit covariance, then couplings of zuko's, if any.

    The affine map is fixed, by the moments of the batch that `initialise` sees.
    """

    mean: Tensor
    scale: Tensor

    def __init__(self, d: int, settings: FlowSettings):
        super().__init__()
        self.register_buffer("mean", torch.zeros(d))
        self.register_buffer("scale", torch.eye(d))
        hidden, n = (settings.hidden, settings.hidden), settings.couplings
        if settings.family == "spline":
            self.couplings = zuko.flows.NSF(d, transforms=n, hidden_features=hidden, passes=min(2, d))
        elif settings.family == "affine":
            self.couplings = zuko.flows.RealNVP(d, transforms=n, hidden_features=hidden)
        else:
            self.couplings = None

    def encode(self, x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
        """Data -> z, and log |det dz/dx|."""
        z = torch.linalg.solve_triangular(self.scale, (x - self.mean).T, upper=False).T
        log_det = -self.scale.diagonal().log().sum().expand(len(x))
        if self.couplings is None:
            return z, log_det
        z, more = self.couplings().transform.call_and_ladj(z)
        return z, log_det + more

    def forward(self, z: Float[Tensor, "n d"]) -> Float[Tensor, "n d"]:
        """The inverse."""
        z = z if self.couplings is None else self.couplings().transform.inv(z)
        return z @ self.scale.T + self.mean

    def decode(self, z: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], Float[Tensor, " n"]]:
        """The inverse, and log |det dz/dx| there, for which zuko asks its networks once more."""
        log_det = -self.scale.diagonal().log().sum().expand(len(z))
        if self.couplings is not None:
            z, less = self.couplings().transform.inv.call_and_ladj(z)
            log_det = log_det - less
        return z @ self.scale.T + self.mean, log_det

    @torch.no_grad()
    def initialise(self, x: Float[Tensor, "n d"]) -> None:
        """Take over the moments of x; a coordinate that is constant keeps a little width."""
        covariance = torch.cov(x.T.double()).reshape(len(self.mean), -1)
        ridge = 1e-4 * covariance.diagonal().mean().clamp(min=1e-4) * torch.eye(len(self.mean), device=x.device)
        self.mean.copy_(x.mean(0))
        self.scale.copy_(torch.linalg.cholesky(covariance + ridge))


def build_flow(settings: FlowSettings, spec: Spec) -> nn.Module:
    """The flow of data of one kind and shape.

    Raises:
        InputError: the family is not for the kind of data, or a number does not fit them.
    """
    if spec.kind == "image" and settings.family == "glow":
        return Glow(spec.shape, settings.scales, settings.couplings, settings.hidden, settings.margin)
    if spec.kind == "vector" and settings.family != "glow":
        return VectorFlow(spec.shape[0], settings)
    raise InputError("flows of images are glow, of vectors spline, affine or gaussian", "family", settings.family)


def flow_of(nets: Mapping[str, nn.Module]) -> Flow:
    """The network `flow`."""
    return cast(Flow, nets["flow"])


def sample_with_energy(flow: Flow, z: Float[Tensor, "n d"]) -> tuple[Tensor, Float[Tensor, " n"]]:
    """X = g(z), and -log q(x), exact without the inverse since z is known; both differentiable."""
    x, log_det = flow.decode(z)
    return x, _energy(z, log_det)


def flow_energy(flow: Flow) -> Energy:
    """-log q(x) in nats, normalised, of data as they are seen."""

    def energy(x: Tensor) -> Tensor:
        return _energy(*flow.encode(x))

    return energy


def _energy(z: Float[Tensor, "n d"], log_det: Float[Tensor, " n"]) -> Float[Tensor, " n"]:
    return z.square().sum(1) / 2 + z.shape[1] / 2 * math.log(2 * math.pi) - log_det
