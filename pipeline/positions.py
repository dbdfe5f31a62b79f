"""What recipes of positions share: items are positions in [-1, 1]^2, the network `code` makes vectors of them."""

import math
from collections.abc import Mapping

import torch
from torch.optim import Adam, Optimizer

from pipeline.batch import Batch, Spec
from pipeline.errors import InputError
from pipeline.evaluation.metrics.grid_maps import walk_metrics
from pipeline.nets.position_code import PositionCode, code_of, require_room
from pipeline.nets.weights import Nets
from pipeline.recipe import Batches, Chains, Metrics, Recipe


class PositionRecipe(Recipe):
    """A recipe whose one network gives vectors to positions and moves them. It runs no chain and samples nothing."""

    side: int
    longest_motion: float
    lr: float
    lr_updates: int

    def __post_init__(self) -> None:
        super().__post_init__()
        require_room("longest_motion", self.longest_motion, self.side)

    @property
    def data_kinds(self) -> frozenset[str]:
        """Vectors."""
        return frozenset({"vector"})

    @property
    def samples_are_data(self) -> bool:
        """It samples nothing."""
        return False

    def code(self) -> PositionCode:
        """The network, initialised from torch's global generator."""
        raise NotImplementedError

    def nets(self, spec: Spec) -> Nets:
        """The vectors and matrices. Raises InputError for data that are not positions in the plane."""
        if spec.shape != (2,):
            raise InputError(f"positions have two numbers, not {spec.size}", "data")
        return {"code": self.code()}

    def check_items(self, batch: Batch) -> None:
        """Positions are in [-1, 1]^2."""
        if batch["x"].shape[1:] == (2,) and not bool((batch["x"].abs() <= 1).all()):
            raise InputError("positions must be in the square [-1, 1]^2", "data")

    def optimizers(self, nets: Nets) -> dict[str, Optimizer]:
        """Adam."""
        return {"code": Adam(nets["code"].parameters(), self.lr)}

    def learning_rate_factors(self, update: int, last: Mapping[str, float]) -> Mapping[str, float]:
        """A cosine from 1 to 1/10, over `lr_updates` updates."""
        return {"code": 0.55 + 0.45 * math.cos(math.pi * min(update / self.lr_updates, 1.0))}

    def item_metrics(self, nets: Nets, batch: Batches, chains: Chains, rng: torch.Generator) -> Metrics:
        """`path_error` of walks that start at the positions, and `decoding_error` of their vectors with noise."""
        return walk_metrics(code_of(nets), batch["data"]["x"], rng)
