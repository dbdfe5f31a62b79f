"""Vectors for positions on a square, and matrices for motion between them (1911.11374; 1810.05597; 2006.10259).

A position x is a vector v(x) of blocks v_k(x), a motion dx turns it by orthogonal matrices: v(x + dx) = M(dx) v(x) with
M(dx) = exp(B(dx)) and B antisymmetric, a block on its own. Positions are data in [-1, 1]^2; inside this file, and for
all motions, the unit is a cell, the distance of two neighbours on the lattice that the vectors are tabulated on.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.errors import InputError
from pipeline.nets.sizes import require_at_least
from pipeline.nets.weights import Nets

MOTION_UNIT = 3.0
"""Cells that the generators' unit of length has."""
SMALLEST_SIDE = 8
"""Points in a row of a lattice that holds motions of the unit's length from every point."""
TERMS = 16
"""Terms of the Taylor series where a motion must be exact."""


def exp_action(act: Callable[[Tensor], Tensor], v: Tensor, terms: int) -> Tensor:
    """exp(B) v for a linear map B, by `terms` actions of B on a vector: v + B v + B (B v) / 2 + ...

    >>> bool(exp_action(lambda v: -v, torch.ones(1), 12).isclose(torch.ones(1) / math.e))
    True
    """
    total = term = v
    for i in range(1, terms + 1):
        term = act(term) / i
        total = total + term
    return total


def interpolate(table: Float[Tensor, "n n d"], cells: Float[Tensor, "m 2"]) -> Float[Tensor, "m d"]:
    """A function on a lattice at positions in cells, bilinearly; beyond the lattice the last cell goes on."""
    side = table.shape[0]
    low = cells.detach().floor().clamp(0, side - 2)
    fraction, (i, j) = cells - low, low.long().unbind(1)
    row, column = fraction[:, :1], fraction[:, 1:]
    first = i * side + j
    corners = table.flatten(0, 1)[torch.stack([first, first + 1, first + side, first + side + 1])]
    weights = torch.stack([(1 - row) * (1 - column), (1 - row) * column, row * (1 - column), row * column])
    return (weights * corners).sum(0)


class PositionCode(nn.Module):
    """v(x), B(dx) and, if asked, a non-negative read-out u(x), as tables.

    Args:
        side: points of the lattice in a row.
        blocks: of a vector.
        units: numbers in a block.
        directions: in which motions have generators of their own; 0: B(dx) = B_1 dx_1 + B_2 dx_2.
        reads_out: whether places are read out by vectors u(x) of their own, not by v(x).
        unit_norm: whether every |v_k|^2 is 1 / blocks.

    >>> code = PositionCode(10, 3, 4)
    >>> v = code(torch.zeros(5, 2))
    >>> v.shape, code.move(v, torch.ones(5, 2)).shape, code.scores(v).shape
    (torch.Size([5, 3, 4]), torch.Size([5, 3, 4]), torch.Size([5, 100]))
    """

    def __init__(
        self,
        side: int,
        blocks: int,
        units: int,
        directions: int = 0,
        reads_out: bool = False,
        unit_norm: bool = False,
    ):
        require_at_least(SMALLEST_SIDE, side=side)
        super().__init__()
        self.side, self.blocks, self.units, self.directions, self.unit_norm = side, blocks, units, directions, unit_norm
        self.table = nn.Parameter(torch.randn(side, side, blocks, units) / math.sqrt(blocks * units))
        self.raw_generators = nn.Parameter(0.1 * torch.randn(directions or 2, blocks, units, units))
        self.read_out = nn.Parameter(torch.rand(side, side, blocks * units) / side) if reads_out else None

    @property
    def generators(self) -> Float[Tensor, "directions blocks units units"]:
        """Antisymmetric matrices, per MOTION_UNIT cells."""
        return self.raw_generators - self.raw_generators.mT

    @property
    def lattice(self) -> Float[Tensor, "side side blocks units"]:
        """v at the points of the lattice."""
        return self._normalize(self.table)

    def _normalize(self, v: Float[Tensor, "*n blocks units"]) -> Float[Tensor, "*n blocks units"]:
        return v / (v.norm(dim=-1, keepdim=True) * math.sqrt(self.blocks)) if self.unit_norm else v

    def to_cells(self, x: Float[Tensor, "n 2"]) -> Float[Tensor, "n 2"]:
        """Positions in cells, from 0 to side - 1, for positions in [-1, 1]^2."""
        return (x + 1) * ((self.side - 1) / 2)

    def to_square(self, cells: Float[Tensor, "n 2"]) -> Float[Tensor, "n 2"]:
        """The inverse of `to_cells`."""
        return cells * (2 / (self.side - 1)) - 1

    def forward(self, x: Float[Tensor, "n 2"]) -> Float[Tensor, "n blocks units"]:
        """v(x) for positions in [-1, 1]^2."""
        return self.at_cells(self.to_cells(x))

    def at_cells(self, cells: Float[Tensor, "n 2"]) -> Float[Tensor, "n blocks units"]:
        """v at positions in cells."""
        return self._normalize(interpolate(self.table.flatten(2), cells).unflatten(1, (self.blocks, self.units)))

    def read_out_at(self, cells: Float[Tensor, "n 2"]) -> Float[Tensor, "n d"]:
        """u at positions in cells, blocks one after the other."""
        assert self.read_out is not None
        return interpolate(self.read_out, cells).relu()

    def act(self, motion: Float[Tensor, "n 2"]) -> Callable[[Tensor], Tensor]:
        """The linear map B(dx) on vectors (n, blocks, units), for motions in cells."""
        scaled = motion / MOTION_UNIT
        if not self.directions:
            both, (along, across) = self.generators.permute(1, 3, 0, 2).flatten(2), scaled[:, :, None].unbind(1)

            def act(v: Tensor) -> Tensor:
                first, second = torch.bmm(v.transpose(0, 1), both).chunk(2, 2)
                return (along * first + across * second).transpose(0, 1)

            return act
        by_motion = scaled.norm(dim=1)[:, None, None, None] * self._towards(scaled)
        return lambda v: torch.einsum("nkij,nkj->nki", by_motion, v)

    def _towards(self, motion: Float[Tensor, "n 2"]) -> Float[Tensor, "n blocks units units"]:
        """Generators per unit of length in the direction of motions, between the two nearest of the table."""
        turn = torch.atan2(motion[:, 1], motion[:, 0]) / (2 * math.pi) * self.directions
        low, b = turn.floor(), self.raw_generators
        upper, i = (turn - low)[:, None, None, None], low.long() % self.directions
        raw = (1 - upper) * b[i] + upper * b[(i + 1) % self.directions]
        return raw - raw.mT

    def move(
        self, v: Float[Tensor, "n blocks units"], motion: Float[Tensor, "n 2"], terms: int = TERMS
    ) -> Float[Tensor, "n blocks units"]:
        """M(dx) v for motions in cells."""
        return exp_action(self.act(motion), v, terms)

    def scores(self, v: Float[Tensor, "n blocks units"]) -> Float[Tensor, "n side2"]:
        """How well a vector fits each point of the lattice: <v, u(x)> with the read-out, else <v, v(x)>."""
        table = self.lattice if self.read_out is None else self.read_out.relu()
        return v.flatten(1) @ table.flatten(2).flatten(0, 1).T

    @torch.no_grad()
    def decode(self, v: Float[Tensor, "n blocks units"]) -> Float[Tensor, "n 2"]:
        """Positions in cells: where the scores are greatest, refined by parabolas through the neighbours' scores."""
        scores = self.scores(v).view(-1, self.side, self.side)
        best = scores.flatten(1).argmax(1)
        n, i, j = torch.arange(len(v), device=v.device), best // self.side, best % self.side
        row = _peak(*(scores[n, (i + k).clamp(0, self.side - 1), j] for k in (-1, 0, 1)))
        column = _peak(*(scores[n, i, (j + k).clamp(0, self.side - 1)] for k in (-1, 0, 1)))
        return torch.stack([i + row, j + column], 1).clamp(0, self.side - 1)


def _peak(before: Tensor, at: Tensor, after: Tensor) -> Tensor:
    """Where the parabola through three neighbours is greatest, from -1/2 to 1/2 cell off the middle one."""
    curvature = (2 * at - before - after).clamp(min=torch.finfo(at.dtype).tiny)
    return ((after - before) / (2 * curvature)).clamp(-0.5, 0.5)


def draw_motions(cells: Float[Tensor, "n 2"], longest: float, side: int, rng: torch.Generator) -> Float[Tensor, "n 2"]:
    """Motions in cells from given positions, uniform in a disc; a component that would leave the square is reversed."""
    length, turn = torch.rand(2, len(cells), generator=rng, device=cells.device)
    angle = 2 * math.pi * turn
    motion = longest * length.sqrt()[:, None] * torch.stack([angle.cos(), angle.sin()], 1)
    inside = (cells + motion >= 0) & (cells + motion <= side - 1)
    return torch.where(inside, motion, -motion)


def code_of(nets: Nets) -> PositionCode:
    """The network `code` of a recipe."""
    code = nets["code"]
    assert isinstance(code, PositionCode)
    return code


def require_room(field: str, longest: float, side: int) -> None:
    """Raise InputError where motions so long could leave the square in one direction and in the opposite one."""
    if longest > (side - 1) / 2:
        raise InputError(f"must be at most {(side - 1) / 2:g} cells, half a side of the square", field, longest)
