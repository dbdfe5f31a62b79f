"""Learning V1 Simple Cells with Vector Representation of Local Content and Matrix Representation of Local Motion.

Ruiqi Gao, Jianwen Xie, Siyuan Huang, Yufan Ren, Song-Chun Zhu, Ying Nian Wu. arXiv:1902.03871; part (b) of 1911.11374.

A patch I of an image has the vector v = W I, and when the image moves by dx, v is turned by a block-diagonal matrix:
v(x + dx) = M(dx) v(x). Patches are reconstructed by W^T v. The rows of W become pairs of Gabor-like filters whose
phases differ by 90 degrees, tuned to the direction of motion that turns them.

Deviations from the paper:
1. Blocks are pairs, M(dx) their rotations by angles linear in dx; the paper has larger blocks and a matrix per motion.
2. Errors of reconstruction are weighted by a Gaussian about the patch's centre, which makes filters local.
3. Motions are the same for the whole patch, in whole pixels; images are whitened by a fixed filter.
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor
from torch.optim import Adam, Optimizer

from pipeline.batch import Spec
from pipeline.errors import InputError
from pipeline.evaluation.metrics.quadrature import inspect_pairs
from pipeline.nets.patch_code import MARGIN, PatchCode, patch_code_of, patches_at, whiten
from pipeline.nets.weights import Nets
from pipeline.recipe import Batches, Chains, Inspection, LossesAndMetrics, Recipe
from pipeline.settings import NonNegative, Positive, PositiveInt


@dataclass(frozen=True)
class SimpleCells(Recipe):
    """Vectors for patches, rotations for motion.

    >>> recipe = SimpleCells(size=8, pairs=3)
    >>> recipe.nets(Spec("image", (3, 32, 32), 0))["code"](torch.zeros(5, 8, 8)).shape
    torch.Size([5, 3, 2])
    """

    batch_size: PositiveInt = 100
    """Images per update, over all lanes."""
    patches: PositiveInt = 10
    """Patches per image, each with a motion."""
    size: PositiveInt = 12
    """Pixels in a row of a patch."""
    pairs: PositiveInt = 64
    """Blocks of two units."""
    longest_motion: PositiveInt = 2
    """Pixels, along rows and along columns."""
    motion_weight: NonNegative = 0.3
    """Weight of the motion's loss against that of reconstruction."""
    locality: Positive = 3.0
    """Standard deviation in pixels of the Gaussian that errors are weighted by."""
    lr: NonNegative = 0.01
    """Learning rate of Adam."""

    @property
    def data_kinds(self) -> frozenset[str]:
        """Images."""
        return frozenset({"image"})

    @property
    def samples_are_data(self) -> bool:
        """It samples nothing."""
        return False

    @property
    def progress_metrics(self) -> tuple[str, ...]:
        """Both losses."""
        return ("code/reconstruction", "code/motion")

    def nets(self, spec: Spec) -> Nets:
        """W and the angles of M. Raises InputError for images that are too small."""
        if min(spec.shape[1:]) < max(self.size + self.longest_motion, MARGIN + 1):
            raise InputError(f"images of {spec.shape[1:]} have no patch and motion of that size", "size", self.size)
        return {"code": PatchCode(self.size, self.pairs)}

    def optimizers(self, nets: Nets) -> dict[str, Optimizer]:
        """Adam."""
        return {"code": Adam(nets["code"].parameters(), self.lr)}

    def inspect(self, nets: Nets, rng: torch.Generator) -> Inspection:
        """Phases of the pairs, and the orientation of their filters."""
        return inspect_pairs(patch_code_of(nets))

    def losses(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator, update: int) -> LossesAndMetrics:
        """Weighted errors of reconstruction, and |M(dx) v(x) - v(x + dx)|^2, both per patch."""
        code, images = patch_code_of(nets), whiten(batch["data"]["x"])
        images = images.repeat_interleave(self.patches, 0)
        places, motion = self.draw_places(images, rng)
        before, after = patches_at(images, places, self.size), patches_at(images, places + motion, self.size)
        v, moved = code(before), code(after)
        errors = (code.decode(v) - before).square() * self.weights().to(before)
        metrics = {
            "code/reconstruction": errors.sum((1, 2)).mean(),
            "code/motion": (code.move(v, motion.to(v)) - moved).square().sum((1, 2)).mean(),
        }
        return {"code": metrics["code/reconstruction"] + self.motion_weight * metrics["code/motion"]}, metrics

    def draw_places(self, images: Tensor, rng: torch.Generator) -> tuple[Tensor, Tensor]:
        """Corners (n, 2) of patches, and motions (n, 2) that keep them within their images, uniform."""
        room = torch.tensor([length - self.size for length in images.shape[-2:]], device=images.device)
        places = (torch.rand(len(images), 2, generator=rng, device=images.device) * (room + 1)).long()
        motion = torch.randint(
            -self.longest_motion, self.longest_motion + 1, (len(images), 2), generator=rng, device=images.device
        )
        return places, torch.where((places + motion >= 0) & (places + motion <= room), motion, -motion)

    def weights(self) -> Float[Tensor, "size size"]:
        """Of the errors of a patch's pixels."""
        line = torch.arange(self.size) - (self.size - 1) / 2
        bell = (-line.square() / (2 * self.locality**2)).exp()
        return bell[:, None] * bell
