"""Metrics and figures of a position code: gridness and spacing of its blocks, and errors of path integration."""

import math
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.evaluation.metrics.gridness import HEXAGONAL, Gridness, autocorrelogram, gridness, isotropic_noise
from pipeline.evaluation.metrics.path_integration import decoding_errors, integrate, path_errors, random_walks
from pipeline.nets.position_code import PositionCode
from pipeline.recipe import Inspection

if TYPE_CHECKING:
    from matplotlib.figure import Figure

STEPS, LONGEST_STEP = 60, 3.0
"""Number, and greatest length in cells, of the steps of the walks that a position's metrics are of."""
NOISE = 1.0
"""Noise of the vectors that positions are decoded from, in units of their norm."""
NEAR = 2.0
"""Cells within which a decoded position counts as right."""
NULL_MAPS = 100
"""Maps of noise, over all blocks, that gridness is compared with."""


class Block(NamedTuple):
    """A block's response maps, and what follows from them."""

    maps: Float[Tensor, "units side side"]
    correlogram: Float[Tensor, "m m"]
    gridness: Gridness


def describe_blocks(code: PositionCode) -> list[Block]:
    """The blocks in their order."""
    result = []
    for maps in code.lattice.detach().cpu().permute(2, 3, 0, 1):
        correlogram = autocorrelogram(maps)
        result.append(Block(maps, correlogram, gridness(correlogram)))
    return result


def null_scores(blocks: list[Block], rng: torch.Generator) -> Float[Tensor, " n"]:
    """Gridness of noise with the radial spectra of the blocks whose own is defined; where it is defined."""
    defined = [block for block in blocks if math.isfinite(block.gridness.score)]
    scores = [
        gridness(autocorrelogram(isotropic_noise(block.maps, rng))).score
        for block in defined
        for _ in range(-(-NULL_MAPS // len(defined)))
    ]
    return torch.tensor([score for score in scores if math.isfinite(score)])


def spacing_slope(spacings: Float[Tensor, " n"], scales: Float[Tensor, " n"]) -> float:
    """Slope of log spacing against log alpha by least squares (theory: -1/2); NaN for fewer than three."""
    known = spacings.isfinite()
    if known.sum() < 3:
        return math.nan
    return float(np.polyfit(scales[known].log().numpy(), spacings[known].log().numpy(), 1)[0])


def inspect_maps(
    code: PositionCode, scales: Float[Tensor, " blocks"] | None, rng: torch.Generator, least_scale: float = 0.0
) -> Inspection:
    """`gridness` and what belongs to it, over the blocks where it is defined.

    `gridness` is the median, `gridness_min` the least; `gridness_share` the share above HEXAGONAL,
    `gridness_undefined` the number of blocks where it is not defined, `gridness_null` the 95 % point for noise of the
    same spectra. With scales also `spacing_slope`, of the blocks above HEXAGONAL and from `least_scale` on.

    Args:
        code: the vectors.
        scales: alpha_k of the blocks, where they have one.
        rng: of the noise.
        least_scale: alpha below which the law of spacing does not hold.
    """
    blocks = describe_blocks(code)
    scores = torch.tensor([block.gridness.score for block in blocks])
    spacings = torch.tensor([block.gridness.spacing for block in blocks])
    defined = scores[scores.isfinite()]
    null = null_scores(blocks, rng)
    metrics = {
        "gridness": _or_nan(defined.quantile(0.5) if len(defined) else None),
        "gridness_min": _or_nan(defined.min() if len(defined) else None),
        "gridness_share": _or_nan((defined > HEXAGONAL).float().mean() if len(defined) else None),
        "gridness_undefined": float(len(scores) - len(defined)),
        "gridness_null": _or_nan(null.quantile(0.95) if len(null) else None),
    }
    figures: dict[str, Callable[[], Figure]] = {"maps": partial(maps_figure, blocks)}
    if scales is not None and len(scales) > 1:
        lawful = (scores > HEXAGONAL) & (scales >= least_scale)
        metrics["spacing_slope"] = spacing_slope(spacings[lawful], scales[lawful])
        figures["spacing"] = partial(spacing_figure, blocks, scales)
    return Inspection(metrics, figures)


def _or_nan(value: Tensor | None) -> float:
    return math.nan if value is None else float(value)


@torch.no_grad()
def walk_metrics(code: PositionCode, x: Float[Tensor, "n 2"], rng: torch.Generator) -> dict[str, Float[Tensor, " n"]]:
    """Errors in cells of single positions x in [-1, 1]^2.

    `path_error`: of a walk of STEPS steps from there, by its motions alone; `path_error_noise` and
    `path_error_reencoded`: with noise of half the vector's norm at each step, without and with re-encoding;
    `decoding_error`: of the position's vector with noise of its own norm; `decoding_near`: 1 where that is within NEAR.
    """
    cells = code.to_cells(x)
    walks = random_walks(cells, STEPS, LONGEST_STEP, code.side, rng)
    ways = {"path_error": (0.0, False), "path_error_noise": (0.5, False), "path_error_reencoded": (0.5, True)}
    errors = {name: path_errors(walks, integrate(code, walks, *way, rng))[-1] for name, way in ways.items()}
    decoding = decoding_errors(code, cells, NOISE, rng)
    return {**errors, "decoding_error": decoding, "decoding_near": (decoding <= NEAR).float()}


def maps_figure(blocks: list[Block]) -> "Figure":
    """For each block the maps of two units; how well each place fits the middle of the map; and its autocorrelogram."""
    from matplotlib.figure import Figure  # slow to import

    rows = -(-len(blocks) // 2) if len(blocks) > 1 else 1
    columns = 2 if len(blocks) > 1 else 1
    figure = Figure(figsize=(4.6 * columns, 1.35 * rows), layout="constrained")
    axes = figure.subplots(rows, 4 * columns, squeeze=False)
    for one in axes.flat:
        one.axis("off")
    for i, block in enumerate(blocks):
        own = axes[i % rows, 4 * (i // rows) : 4 * (i // rows) + 4]
        middle = block.maps.shape[-1] // 2
        shown = [*block.maps[:2], torch.einsum("uij,u->ij", block.maps, block.maps[:, middle, middle])]
        for one, values in zip(own, shown, strict=False):
            one.imshow(values, cmap="viridis")
        own[3].imshow(block.correlogram, cmap="RdBu_r", vmin=-1, vmax=1)
        score, spacing = block.gridness
        name = "undefined" if math.isnan(score) else f"{score:.2f}"
        own[3].set_title(f"{name}, {spacing:.1f} cells", fontsize=7, pad=2)
    return figure


def spacing_figure(blocks: list[Block], scales: Float[Tensor, " blocks"]) -> "Figure":
    """Spacing against alpha, on logarithmic scales, with the law of three plane waves."""
    from matplotlib.figure import Figure  # slow to import
    from matplotlib.ticker import LogLocator

    side = blocks[0].maps.shape[-1]
    figure = Figure(figsize=(5, 3.5), layout="constrained")
    axes = figure.subplots()
    for name, marker, hexagonal in (("gridness above", "o", True), ("below, or not defined", "x", False)):
        own = [(float(a), b.gridness.spacing) for a, b in zip(scales, blocks, strict=True)
               if (b.gridness.score > HEXAGONAL) is hexagonal]  # fmt: skip
        axes.plot(*np.array(own).reshape(-1, 2).T, marker, label=f"{name} {HEXAGONAL}" if hexagonal else name)
    line = torch.linspace(float(scales.min()), float(scales.max()), 50)
    axes.plot(line, wave_spacing(line, side), color="grey", linewidth=1, label="three plane waves")
    axes.set(xscale="log", yscale="log", xlabel="alpha", ylabel="spacing, cells", title="spacing of the blocks' grids")
    for axis in (axes.xaxis, axes.yaxis):
        axis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 5)))
        axis.set_major_formatter("{x:g}")
        axis.set_minor_formatter("")
    axes.legend()
    return figure


def wave_spacing(scales: Float[Tensor, " n"], side: int) -> Float[Tensor, " n"]:
    """Spacing in cells of three plane waves 60 degrees apart with |k| = 2.41 sqrt(alpha): 4 pi / (sqrt(3) |k|)."""
    return 4 * math.pi / (3**0.5 * WAVE_NUMBER * scales.sqrt()) * (side - 1)


WAVE_NUMBER = 2.41
"""|k| / sqrt(alpha) of the three plane waves that come nearest to 1 - alpha r^2 on the disc r^2 <= 1.5 / alpha."""
