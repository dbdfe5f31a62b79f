"""Learning Grid Cells as Vector Representation of Self-Position Coupled with Matrix Representation of Self-Motion.

Ruiqi Gao, Jianwen Xie, Song-Chun Zhu, Ying Nian Wu. ICLR 2019, arXiv:1810.05597; part (b) of the review 1911.11374.

A position x has a vector v(x) of blocks, a motion dx a matrix M(dx) that is block-diagonal, and v(x + dx) = M(dx) v(x).
Inner products of vectors are a kernel of distance (as place cells are), and each block keeps small angles on a scale
alpha_k of its own: <v_k(x), v_k(x + dx)> = (1 - alpha_k |dx|^2) / K. Response maps of blocks become hexagonal grids.

Deviations from the paper and its code:
1. M(dx) = exp(B_1 dx_1 + B_2 dx_2) with B antisymmetric, not I + a quadratic function of dx; it acts by its series.
2. Kernel and isometry are means over all pairs of a lane's positions, so that weights do not depend on their number.
3. The weight of motion rises while learning goes on: vectors first, then their motion.
4. alpha_k are evenly spaced and fixed; learned, by their logarithms, they fall until isometry asks for nothing.
5. A component of a motion that would leave the square is reversed.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from pipeline.evaluation.metrics.grid_maps import inspect_maps
from pipeline.nets.position_code import PositionCode, code_of, draw_motions
from pipeline.nets.position_losses import DISC, isometry_loss, kernel_loss, pair_squares
from pipeline.nets.weights import Nets
from pipeline.positions import PositionRecipe
from pipeline.recipe import Batches, Chains, Inspection, LossesAndMetrics
from pipeline.settings import NonNegative, Positive, PositiveInt

FARTHEST_CELLS = 10.0  # isometry is asked for no farther, whatever alpha_k


@dataclass(frozen=True)
class GridCells(PositionRecipe):
    """Vectors for positions, matrices for motion.

    >>> GridCells(blocks=3, smallest_scale=20.0, largest_scale=100.0).scales.tolist()
    [20.0, 60.0, 100.0]
    """

    batch_size: PositiveInt = 100
    """Positions per update, over all lanes; a motion starts at each."""
    side: PositiveInt = 40
    """Points in a row of the lattice that v is tabulated on; their distance is a cell."""
    blocks: PositiveInt = 16
    """Number of blocks of a vector (K)."""
    units: PositiveInt = 6
    """Numbers in a block."""
    smallest_scale: Positive = 5.0
    """Least alpha_k, in units of 1 / (side of the square)^2."""
    largest_scale: Positive = 110.0
    """Greatest alpha_k."""
    kernel_width: Positive = 0.08
    """Standard deviation of the kernel, in sides of the square (sigma)."""
    kernel_weight: NonNegative = 0.2
    """Weight of the kernel's loss."""
    isometry_weight: NonNegative = 9.0
    """Weight of the isometry's loss."""
    energy_weight: NonNegative = 0.17
    """Weight of the loss by which all units have the same mean square."""
    motion_weights: tuple[Positive, Positive] = (0.02, 0.2)
    """Weight of the motion's loss at first, and at the end of its rise, which is geometric."""
    motion_rise: PositiveInt = 4000
    """Updates in which it rises."""
    longest_motion: Positive = 3.0
    """Longest motion, in cells."""
    terms: PositiveInt = 8
    """Terms of the series of a motion, in learning."""
    lr: NonNegative = 0.006
    """Learning rate of Adam at first."""
    lr_updates: PositiveInt = 6000
    """Updates in which the learning rate falls, by a cosine, to a tenth."""

    @property
    def scales(self) -> Tensor:
        """alpha_k of the blocks."""
        return torch.linspace(self.smallest_scale, self.largest_scale, self.blocks)

    @property
    def progress_metrics(self) -> tuple[str, ...]:
        """The losses of motion and isometry."""
        return ("code/motion", "code/isometry")

    def code(self) -> PositionCode:
        """v and B."""
        return PositionCode(self.side, self.blocks, self.units)

    def inspect(self, nets: Nets, rng: torch.Generator) -> Inspection:
        """Gridness and spacing of the blocks' response maps; the slope over alpha whose disc is not cut."""
        return inspect_maps(code_of(nets), self.scales, rng, DISC * ((self.side - 1) / FARTHEST_CELLS) ** 2)

    def losses(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator, update: int) -> LossesAndMetrics:
        """The sum of four losses: of kernel, motion, isometry (9, 5 and 8 of the paper), and energies of units."""
        code, (first, last), rise = code_of(nets), self.motion_weights, min(update / self.motion_rise, 1.0)
        cells = code.to_cells(batch["data"]["x"])
        v, motion = code.at_cells(cells), draw_motions(cells, self.longest_motion, self.side, rng)
        pairs, farthest = pair_squares(cells, self.side), FARTHEST_CELLS / (self.side - 1)
        metrics = {
            "code/kernel": kernel_loss(v, *pairs, self.kernel_width) if self.kernel_weight else v.new_zeros(()),
            "code/motion": (code.move(v, motion, self.terms) - code.at_cells(cells + motion))
            .square()
            .sum((1, 2))
            .mean(),
            "code/isometry": isometry_loss(v, *pairs, self.scales.to(v), farthest),
            "code/energy": (v.square().mean(0) - 1 / v[0].numel()).square().sum(),
        }
        weights = self.kernel_weight, first * (last / first) ** rise, self.isometry_weight, self.energy_weight
        loss = torch.stack([w * value for w, value in zip(weights, metrics.values(), strict=True)]).sum()
        return {"code": loss}, metrics
