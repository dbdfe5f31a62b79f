"""Pairs of linear filters as simple cells of V1: phases in quadrature, and frequency along the motion they follow."""

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.nets.patch_code import PatchCode
from pipeline.recipe import Inspection

if TYPE_CHECKING:
    from matplotlib.figure import Figure

PADDED = 64
"""Filters are padded with zeros to so many pixels for their spectra."""
WITHIN = 20.0
"""Degrees off 90 that count as quadrature."""
SHOWN = 40
"""Pairs in the figure, at most."""


class PairSpectra(NamedTuple):
    """Of n pairs of filters."""

    frequency: Float[Tensor, "n 2"]
    """Cycles per pixel along rows and columns at which the pair's power is greatest."""
    phase: Float[Tensor, " n"]
    """Degrees from 0 to 180 between the two filters there."""


def pair_spectra(filters: Float[Tensor, "n 2 size size"]) -> PairSpectra:
    """Frequency and phase difference of pairs."""
    spectra = torch.fft.fft2(filters.double(), s=(PADDED, PADDED))
    peak = spectra.abs().square().sum(1).flatten(1).argmax(1)
    first, second = spectra.flatten(2)[torch.arange(len(filters)), :, peak].unbind(1)
    line = torch.fft.fftfreq(PADDED)
    frequency = torch.stack([line[peak // PADDED], line[peak % PADDED]], 1)
    return PairSpectra(frequency, torch.rad2deg((second * first.conj()).angle().abs()).float())


def inspect_pairs(code: PatchCode) -> Inspection:
    """`quadrature_share` and `orientation_cosine`.

    The share of pairs at 90 degrees, within WITHIN; and the median |cos| between a pair's frequency
    and the direction of motion that turns the pair most.
    """
    filters, turns = code.filters.detach().cpu(), code.turns.detach().cpu()
    spectra = pair_spectra(filters)
    cosine = torch.cosine_similarity(spectra.frequency, turns).abs()
    metrics = {
        "quadrature_share": float(((spectra.phase - 90).abs() <= WITHIN).float().mean()),
        "orientation_cosine": float(cosine.median()),
    }
    figures: dict[str, Callable[[], Figure]] = {"filters": lambda: filters_figure(filters, spectra)}
    return Inspection(metrics, figures)


def filters_figure(filters: Float[Tensor, "n 2 size size"], spectra: PairSpectra) -> "Figure":
    """Pairs of filters side by side, each under its phase difference in degrees."""
    from matplotlib.figure import Figure  # slow to import

    n, columns = min(SHOWN, len(filters)), 8
    rows = -(-n // columns)
    figure = Figure(figsize=(1.5 * columns, 0.95 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    for one in axes.flat:
        one.axis("off")
    for one, pair, phase in zip(axes.flat, filters[:n], spectra.phase, strict=False):
        limit = float(pair.abs().max())
        one.imshow(
            torch.cat([pair[0], torch.full_like(pair[0][:, :1], limit), pair[1]], 1),
            cmap="gray",
            vmin=-limit,
            vmax=limit,
        )
        one.set_title(f"{phase:.0f}°", fontsize=7, pad=2)
    return figure
