"""Couplings of vectors: zuko's networks and weights, applied with fewer operators and without a wait on a GPU.

zuko looks for the halves of each mask at every call, masks weights again at every call, transforms all coordinates
twice to invert a spline, and evaluates the networks once more for the log-determinant of an inverse. Here what depends
on the weights alone is computed once, each coordinate is inverted once, and log-determinants are functions, which
nobody calls who does not need them.

A coupling by splines transforms its first half, too, by a spline that depends on nothing.
"""

import math
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, TypeAlias, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.functional import linear, pad, relu

LogDet: TypeAlias = Callable[[], Float[Tensor, " n"]]
"""Computes log |det dz/dx| of a call that was made."""
Map: TypeAlias = Callable[[Tensor], tuple[Tensor, LogDet]]
"""A coupling, or its inverse, of vectors (n, d): what comes out, and log |det dz/dx| there."""

LOG_SLOPE = math.log(1e-3)
"""Logarithm of zuko's smallest slope of a transformation."""
BINS, BOUND = 8, 5.0
"""zuko's number of bins of a spline, and the end of its domain; beyond it, coordinates stay as they are."""


def encoders(flow: nn.Module) -> list[Map]:
    """From data to z: the couplings of zuko's RealNVP or NSF with their present weights."""
    transforms = list(cast(Any, flow).transform.transforms)
    if hasattr(transforms[0], "mask"):
        return [partial(_encode_affine, one.hyper, i % 2) for i, one in enumerate(transforms)]
    if hasattr(transforms[0], "order"):
        return [partial(_encode_spline, _masked_layers(one)) for one in transforms]
    return [partial(_encode_coordinate, one()) for one in transforms]


def decoders(flow: nn.Module) -> list[Map]:
    """From z to data: the inverses of `encoders`, the last one first."""
    transforms = list(cast(Any, flow).transform.transforms)
    if hasattr(transforms[0], "mask"):
        inverses: list[Map] = [partial(_decode_affine, one.hyper, i % 2) for i, one in enumerate(transforms)]
    elif hasattr(transforms[0], "order"):
        inverses = [_spline_decoder(_masked_layers(one), i % 2 == 1) for i, one in enumerate(transforms)]
    else:
        inverses = [partial(_decode_coordinate, one()) for one in transforms]
    return inverses[::-1]


def _encode_affine(net: nn.Module, first: int, x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], LogDet]:
    """(a, b) -> (a, b scale(a) + shift(a)), where a has every second coordinate, from `first` on."""
    a, b = _alternate(x, first)
    shift, log_scale = _shift_and_log_scale(net, a)
    return _interleave(a, b * log_scale.exp() + shift, first), lambda: log_scale.sum(1)


def _decode_affine(net: nn.Module, first: int, z: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], LogDet]:
    a, b = _alternate(z, first)
    shift, log_scale = _shift_and_log_scale(net, a)
    return _interleave(a, (b - shift) / log_scale.exp(), first), lambda: log_scale.sum(1)


def _shift_and_log_scale(net: nn.Module, a: Tensor) -> tuple[Tensor, Tensor]:
    shift, scale = net(a).unflatten(1, (-1, 2)).unbind(2)
    return shift, _soft_clip(scale)


def _alternate(x: Float[Tensor, "n d"], first: int) -> tuple[Tensor, Tensor]:
    """Every second coordinate, from `first` on; and the others."""
    pairs = x.shape[1] // 2
    even, odd = (x[:, ::2], x[:, 1::2]) if x.shape[1] % 2 else x.view(-1, pairs, 2).unbind(2)
    return (odd, even) if first else (even, odd)


def _interleave(a: Tensor, b: Tensor, first: int) -> Float[Tensor, "n d"]:
    """The inverse of `_alternate`."""
    even, odd = (b, a) if first else (a, b)
    pairs = odd.shape[1]
    x = torch.stack([even[:, :pairs], odd], 2).flatten(1)
    return x if even.shape[1] == pairs else torch.cat([x, even[:, pairs:]], 1)


class Spline(NamedTuple):
    """Monotonic rational-quadratic splines of m coordinates (Durkan et al. 2019, section 3.1)."""

    table: Float[Tensor, "n m 3 knots"]
    """Knots by x and by y, and the slopes there; n may be 1."""

    @classmethod
    def of(cls, parameters: Float[Tensor, "n m parameters"]) -> "Spline":
        """From a network's output: widths and heights of the bins, and slopes at the inner knots."""
        sizes, slopes = parameters.split([2 * BINS, BINS - 1], 2)
        sizes = sizes.unflatten(2, (2, BINS))
        sizes = _soft_clip(sizes, LOG_SLOPE / 2).softmax(3)
        knots = BOUND * (2 * pad(sizes, (1, 0)).cumsum(3) - 1)
        slopes = pad(_soft_clip(slopes), (1, 1)).exp()
        return cls(torch.cat([knots, slopes[:, :, None]], 2))

    def encode(self, x: Float[Tensor, "n m"]) -> tuple[Float[Tensor, "n m"], LogDet]:
        """y of each coordinate, and its log-determinant (eqs. 4, 5)."""
        inside, (x0, y0, d0, d1, dx, dy, s, t) = self._bin(x, 0)
        z = inside * (x - x0) / dx
        y = y0 + dy * (s * z**2 + d0 * z * (1 - z)) / (s + t * z * (1 - z))
        return torch.where(inside, y, x), lambda: _log_det(inside, z, d0, d1, s, t)

    def decode(self, y: Float[Tensor, "n m"]) -> tuple[Float[Tensor, "n m"], LogDet]:
        """The inverse of `encode`, and the log-determinant of `encode` there (eqs. 6 to 8)."""
        inside, (x0, y0, d0, d1, dx, dy, s, t) = self._bin(y, 1)
        above = inside * (y - y0)
        by_slope = above * t
        a, b, c = dy * (s - d0) + by_slope, dy * d0 - by_slope, s * above  # a z^2 + b z = c
        z = 2 * c / (b + (b**2 + 4 * a * c).sqrt())
        return torch.where(inside, x0 + z * dx, y), lambda: _log_det(inside, z, d0, d1, s, t)

    def _bin(self, value: Tensor, axis: int) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Which values are within the domain; and of the bin of each: its start, the slopes at its ends, its
        sides, their ratio s, and d0 + d1 - 2 s.
        """
        n, m = value.shape
        below = (self.table[:, :, axis] < value[..., None]).sum(2) - 1
        number = below.clamp(0, BINS - 1)
        ends = torch.stack([number, number + 1], 2)[:, :, None].expand(n, m, 3, 2)
        found = self.table.expand(n, m, 3, BINS + 1).gather(3, ends)
        x0, x1, y0, y1, d0, d1 = found.flatten(2).unbind(2)
        dx, dy = x1 - x0, y1 - y0
        s = dy / dx
        return below == number, (x0, y0, d0, d1, dx, dy, s, d0 + d1 - 2 * s)


def _log_det(inside: Tensor, z: Tensor, d0: Tensor, d1: Tensor, s: Tensor, t: Tensor) -> Float[Tensor, " n"]:
    """The logarithm of dy/dx, with t = d0 + d1 - 2 s, summed over coordinates."""
    slope = s**2 * (2 * s * z * (1 - z) + d0 * (1 - z) ** 2 + d1 * z**2) / (s + t * z * (1 - z)) ** 2
    return (inside * slope.log()).sum(1)


Layers: TypeAlias = list[tuple[Tensor, Tensor]]
"""Weights and biases of a network from x to the parameters of all coordinates' splines; what is masked is 0."""


def _masked_layers(transform: nn.Module) -> Layers:
    """Of zuko's masked autoregressive transform of two passes."""
    return [(layer.mask * layer.weight, layer.bias) for layer in list(cast(Any, transform).hyper)[::2]]


def _encode_spline(layers: Layers, x: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], LogDet]:
    """(a, b) -> (f(a), f(b; a)), both at once."""
    return _spline(layers, x).encode(x)


def _spline_decoder(layers: Layers, swapped: bool) -> Map:
    """The inverse: a, by biases alone, then b; a has the first half of the coordinates, if `swapped` the last."""
    *inner, (weight, bias) = layers
    d = weight.shape[0] // (3 * BINS - 1)
    count = -(-d // 2)
    sizes = (d - count, count) if swapped else (count, d - count)

    def halves(x: Tensor, dim: int) -> tuple[Tensor, ...]:
        parts = x.split(sizes, dim)
        return parts[::-1] if swapped else parts

    bias_a, bias_b = halves(bias.view(d, -1), 0)
    _, weight_b = halves(weight.view(d, -1, weight.shape[1]), 0)
    of_a, to_b = Spline.of(bias_a[None]), [*inner, (weight_b.flatten(0, 1), bias_b.flatten())]

    def decode(z: Float[Tensor, "n d"]) -> tuple[Float[Tensor, "n d"], LogDet]:
        z_a, z_b = halves(z, 1)
        a, log_det_a = of_a.decode(z_a)
        without_b = pad(a, (d - count, 0) if swapped else (0, d - count))  # a matrix product of the size that zuko has
        b, log_det_b = _spline(to_b, without_b).decode(z_b)
        return torch.cat([b, a] if swapped else [a, b], 1), lambda: log_det_a() + log_det_b()

    return decode


def _spline(layers: Layers, x: Float[Tensor, "n d"]) -> Spline:
    *inner, last = layers
    for layer in inner:
        x = relu(linear(x, *layer))
    return Spline.of(linear(x, *last).unflatten(1, (-1, 3 * BINS - 1)))


def _encode_coordinate(transform: Any, x: Float[Tensor, "n 1"]) -> tuple[Float[Tensor, "n 1"], LogDet]:
    """zuko's transform of a single coordinate, which depends on nothing."""
    z, log_det = transform.call_and_ladj(x)
    return z, lambda: log_det


def _decode_coordinate(transform: Any, z: Float[Tensor, "n 1"]) -> tuple[Float[Tensor, "n 1"], LogDet]:
    x = transform.inv(z)
    return x, lambda: transform.log_abs_det_jacobian(x, z)


def _soft_clip(x: Tensor, bound: float = LOG_SLOPE) -> Tensor:
    """x, softly bounded by +-|bound|."""
    return x / (1 + (x / bound).abs())
