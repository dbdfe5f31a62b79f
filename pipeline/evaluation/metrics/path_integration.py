"""Path integration: a position followed by motions alone, v <- M(dx) v, and read from the vector (1810.05597, 3.3).

Positions and motions are in cells. Noise of standard deviation `noise` |v|, over the whole vector, may disturb it at
every step; where it is re-encoded, each step replaces it by the vector of the position that is read from it.
"""

from typing import NamedTuple

import torch
from jaxtyping import Float
from torch import Tensor

from pipeline.nets.position_code import PositionCode, draw_motions
from pipeline.rng import standard_normal


class Walks(NamedTuple):
    """Random walks within the square; every step is uniform in a disc, and reflected at the border."""

    positions: Float[Tensor, "steps_and_1 n 2"]
    motions: Float[Tensor, "steps n 2"]


def random_walks(start: Float[Tensor, "n 2"], steps: int, longest: float, side: int, rng: torch.Generator) -> Walks:
    """Walks from given positions, of steps of at most `longest` cells."""
    positions, motions = [start], list[Tensor]()
    for _ in range(steps):
        motions.append(draw_motions(positions[-1], longest, side, rng))
        positions.append(positions[-1] + motions[-1])
    return Walks(torch.stack(positions), torch.stack(motions))


@torch.no_grad()
def integrate(
    code: PositionCode, walks: Walks, noise: float, reencodes: bool, rng: torch.Generator
) -> Float[Tensor, "steps_and_1 n 2"]:
    """The positions that are read from the vectors before the first step and after each."""
    v = code.at_cells(walks.positions[0])
    decoded, scale = [code.decode(v)], noise * v.flatten(1).norm(dim=1)
    for motion in walks.motions:
        v = disturb(code.move(v, motion), scale, rng)
        decoded.append(code.decode(v))
        if reencodes:
            v = code.at_cells(decoded[-1])
    return torch.stack(decoded)


def disturb(v: Float[Tensor, "n blocks units"], scale: Tensor, rng: torch.Generator) -> Float[Tensor, "n blocks units"]:
    """The vectors with Gaussian noise of root mean square norm `scale` (n,)."""
    return v + (scale / v[0].numel() ** 0.5)[:, None, None] * standard_normal(tuple(v.shape), rng)


def path_errors(walks: Walks, decoded: Float[Tensor, "steps_and_1 n 2"]) -> Float[Tensor, "steps_and_1 n"]:
    """Distance in cells between where the walks are and what is read."""
    return (walks.positions - decoded).norm(dim=2)


@torch.no_grad()
def decoding_errors(
    code: PositionCode, cells: Float[Tensor, "n 2"], noise: float, rng: torch.Generator
) -> Float[Tensor, " n"]:
    """Distance in cells between positions and what is read from their vectors with noise."""
    v = code.at_cells(cells)
    return (cells - code.decode(disturb(v, noise * v.flatten(1).norm(dim=1), rng))).norm(dim=1)
