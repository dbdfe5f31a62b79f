"""On Path Integration of Grid Cells: Group Representation and Isotropic Scaling.

Ruiqi Gao, Jianwen Xie, Xue-Xin Wei, Song-Chun Zhu, Ying Nian Wu. NeurIPS 2021, arXiv:2006.10259.

As in the recipe of grid cells, motion turns a position's vector: v(x + dx) = exp(B(theta) |dx|) v(x), with a matrix
B(theta) for each direction theta. Place cells are read out by non-negative vectors: <v(x), u(x')> is a kernel of
distance. Instead of a scale alpha_k, blocks have isotropic scaling: |B_k(theta) v_k(x)| is the same in all directions.

Deviations from the paper and its code:
1. B(theta) is interpolated between its two nearest directions; exp acts by its series, of more than two terms.
2. The kernel's loss is a mean over all pairs of a lane's positions.
3. A component of a motion that would leave the square is reversed.
4. The learning rate falls by a cosine.
"""

from dataclasses import dataclass

import torch

from pipeline.evaluation.metrics.grid_maps import inspect_maps
from pipeline.nets.position_code import PositionCode, code_of, draw_motions
from pipeline.nets.position_losses import isotropy_loss, read_out_loss
from pipeline.nets.weights import Nets
from pipeline.positions import PositionRecipe
from pipeline.recipe import Batches, Chains, Inspection, LossesAndMetrics
from pipeline.settings import NonNegative, Positive, PositiveInt


@dataclass(frozen=True)
class PathIntegration(PositionRecipe):
    """Vectors for positions, matrices for directions, and a read-out.

    >>> recipe = PathIntegration(blocks=2, units=3, directions=8)
    >>> [tuple(p.shape) for p in recipe.code().parameters()]
    [(40, 40, 2, 3), (8, 2, 3, 3), (40, 40, 6)]
    """

    batch_size: PositiveInt = 100
    """Positions per update, over all lanes; a motion starts at each."""
    side: PositiveInt = 40
    """Points in a row of the lattice that v and u are tabulated on; their distance is a cell."""
    blocks: PositiveInt = 16
    """Number of blocks of a vector."""
    units: PositiveInt = 12
    """Numbers in a block."""
    directions: PositiveInt = 144
    """Directions that have a matrix of their own."""
    kernel_width: Positive = 0.07
    """Standard deviation of the kernel, in sides of the square (sigma)."""
    kernel_weight: NonNegative = 1.05
    """Weight of the kernel's loss."""
    motion_weight: NonNegative = 0.5
    """Weight of the motion's loss."""
    isotropy_weight: NonNegative = 0.5
    """Weight of the loss of isotropic scaling."""
    read_out_weight: NonNegative = 0.01
    """Weight of the mean |u|^2."""
    longest_motion: Positive = 3.0
    """Longest motion, in cells."""
    terms: PositiveInt = 5
    """Terms of the series of a motion, in learning."""
    lr: NonNegative = 0.003
    """Learning rate of Adam at first."""
    lr_updates: PositiveInt = 6000
    """Updates in which the learning rate falls, by a cosine, to a tenth."""

    @property
    def progress_metrics(self) -> tuple[str, ...]:
        """The losses of kernel and motion."""
        return ("code/kernel", "code/motion")

    def code(self) -> PositionCode:
        """v, B and u."""
        sizes = self.side, self.blocks, self.units, self.directions
        return PositionCode(*sizes, reads_out=True, unit_norm=True)

    def inspect(self, nets: Nets, rng: torch.Generator) -> Inspection:
        """Gridness of the blocks' response maps."""
        return inspect_maps(code_of(nets), None, rng)

    def losses(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator, update: int) -> LossesAndMetrics:
        """The sum of three losses: of kernel, motion and isotropic scaling (eqs. 9 to 11), and |u|^2."""
        code = code_of(nets)
        cells = code.to_cells(batch["data"]["x"])
        v, u = code.at_cells(cells), code.read_out_at(cells)
        motion = draw_motions(cells, self.longest_motion, self.side, rng)
        metrics = {
            "code/kernel": read_out_loss(v, u, cells, self.kernel_width * (self.side - 1)),
            "code/motion": (code.move(v, motion, self.terms) - code.at_cells(cells + motion))
            .square()
            .sum((1, 2))
            .mean(),
            "code/isotropy": isotropy_loss(code, v, rng),
            "code/read_out": u.square().sum(1).mean(),
        }
        weights = self.kernel_weight, self.motion_weight, self.isotropy_weight, self.read_out_weight
        loss = torch.stack([w * value for w, value in zip(weights, metrics.values(), strict=True)]).sum()
        return {"code": loss}, metrics
