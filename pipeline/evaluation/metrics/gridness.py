"""Gridness: how hexagonal the response maps of a block of units are, from their autocorrelograms.

A block's vectors are defined up to a rotation, so single units mean little: the autocorrelogram of a block pools its
units, and does not depend on that rotation. Gridness is the least correlation of the autocorrelogram with itself turned
by 60 and 120 degrees, less the greatest by 30, 90 and 150, within a ring that holds the six nearest peaks (Sargolini et
al., Science 2006). It is not defined where that ring reaches beyond the map.
"""

import math
from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.nets.position_code import interpolate
from pipeline.rng import standard_normal

RING = (0.5, 1.5)
"""Inner and outer radius of the ring, in units of the spacing."""
HEXAGONAL = 0.37
"""Gridness above which a map counts as a grid (1810.05597)."""
PEAK_TO_RING = 4 * math.pi / 3**0.5 / 7.0156
"""Distance of a hexagonal grid's nearest peaks over the radius at which its radial mean peaks.

The grid of three plane waves of length |k| has peaks at 4 pi / (sqrt(3) |k|); its radial mean is J_0(|k| r), which has
its first peak beyond the centre at |k| r = 7.0156.
"""
FEWEST_POINTS = 20
"""Points in which two shifted maps overlap, below which their correlation is not defined."""


class Gridness(NamedTuple):
    """Of one block."""

    score: float
    """From -2 to 2; NaN where it is not defined."""
    spacing: float
    """Distance of the nearest peaks from the centre, in cells; NaN where there is none within the map."""


def autocorrelogram(maps: Float[Tensor, "units n n"]) -> Float[Tensor, "2*n-1 2*n-1"]:
    """Pearson's correlation of a block's maps with themselves shifted, pooled over units, for shifts up to n - 1.

    Means and variances are those of the overlap alone. NaN where fewer than FEWEST_POINTS points overlap.
    """
    f = maps.double() - maps.double().mean((1, 2), keepdim=True)
    ones = torch.ones_like(f[:1])
    count = _correlate(ones, ones)[0].round()
    first, second = _correlate(f, ones), _correlate(ones, f)
    squares = f.square().sum(0, keepdim=True)
    covariance = count * _correlate(f, f).sum(0) - (first * second).sum(0)
    variances = [
        count * _correlate(*pair)[0] - sums.square().sum(0)
        for pair, sums in (((squares, ones), first), ((ones, squares), second))
    ]
    result = covariance / (variances[0] * variances[1]).clamp(min=0).sqrt()
    return torch.where((count >= FEWEST_POINTS) & result.isfinite(), result, torch.nan).float()


def _correlate(f: Tensor, g: Tensor) -> Tensor:
    """Sum over x of f(x + shift) g(x), for shifts -(n - 1), ..., n - 1 in both directions."""
    n = f.shape[-1]
    size = 2 * n - 1
    product = torch.fft.rfft2(f, s=(size, size)) * torch.fft.rfft2(g, s=(size, size)).conj()
    return torch.fft.irfft2(product, s=(size, size)).roll((n - 1, n - 1), (-2, -1))


def radial_profile(correlogram: Float[Tensor, "m m"]) -> Float[Tensor, " n"]:
    """Mean at each distance from the centre, in rings one cell wide, for distances 0 to (m - 1) / 2."""
    middle = correlogram.shape[0] // 2
    ring, known = _distance(correlogram.shape[0]).round().long(), correlogram.isfinite()
    total = torch.zeros(int(ring.max()) + 1).index_add(0, ring[known], correlogram[known])
    return (total / torch.bincount(ring[known], minlength=len(total)))[: middle + 1]


def first_peak(profile: Float[Tensor, " n"]) -> float:
    """Radius of the first peak beyond the first trough, by a parabola; NaN where there is none."""
    values = profile.tolist()
    inside = range(1, len(values) - 1)
    trough = next((i for i in inside if values[i] <= values[i + 1]), None)
    if trough is None:
        return math.nan
    peak = next((i for i in inside if i > trough and values[i] >= values[i + 1]), None)
    if peak is None:
        return math.nan
    before, at, after = values[peak - 1 : peak + 2]
    curvature = 2 * at - before - after
    return peak + ((after - before) / (2 * curvature) if curvature > 0 else 0.0)


def gridness(correlogram: Float[Tensor, "m m"]) -> Gridness:
    """Gridness and spacing of an autocorrelogram."""
    spacing, size = PEAK_TO_RING * first_peak(radial_profile(correlogram)), correlogram.shape[0]
    distance = _distance(size)
    ring = (distance >= RING[0] * spacing) & (distance <= RING[1] * spacing)
    if not RING[1] * spacing <= size // 2 or not correlogram[ring].isfinite().all():
        return Gridness(math.nan, spacing)
    points = ring.nonzero() - size // 2
    values = correlogram[ring]
    at = {degrees: _correlation(values, _turned(correlogram, points, degrees)) for degrees in range(30, 180, 30)}
    return Gridness(min(at[60], at[120]) - max(at[30], at[90], at[150]), spacing)


def _distance(size: int) -> Tensor:
    line = torch.arange(size) - size // 2
    return torch.hypot(line[:, None].float(), line.float())


def _turned(correlogram: Tensor, points: Tensor, degrees: float) -> Tensor:
    """The correlogram's values at points (row and column from the centre) turned about it."""
    angle, middle = math.radians(degrees), correlogram.shape[0] // 2
    turn = torch.tensor([[math.cos(angle), -math.sin(angle)], [math.sin(angle), math.cos(angle)]])
    known = correlogram.nan_to_num(0.0)  # its corners, which no ring reaches
    return interpolate(known[..., None], points.float() @ turn.T + middle)[:, 0]


def _correlation(a: Tensor, b: Tensor) -> float:
    return float(torch.corrcoef(torch.stack([a, b]))[0, 1])


def isotropic_noise(maps: Float[Tensor, "units n n"], rng: torch.Generator) -> Float[Tensor, "units n n"]:
    """Gaussian noise with the radial power spectrum of a block's maps, but no direction or phase of theirs."""
    n = maps.shape[-1]
    line = torch.fft.fftfreq(n, 1 / n)
    ring = torch.hypot(line[:, None], line).round().long().flatten()
    window = torch.hann_window(n, periodic=False)  # else the edges of the map are power along the axes
    power = torch.fft.fft2((maps - maps.mean((1, 2), keepdim=True)) * window[:, None] * window).abs().square().sum(0)
    mean = torch.zeros(int(ring.max()) + 1).index_add(0, ring, power.flatten()) / torch.bincount(ring)
    noise = torch.fft.fft2(standard_normal(tuple(maps.shape), rng).cpu())
    return torch.fft.ifft2(noise * mean[ring].sqrt().view(n, n)).real
