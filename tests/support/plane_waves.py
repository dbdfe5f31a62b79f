"""A code of positions whose blocks are three plane waves 60 degrees apart: what learning should come to."""

import math

import torch

from pipeline.nets.position_code import MOTION_UNIT, PositionCode

SPACINGS = (8.0, 10.0, 12.5)


def wave_vectors(spacing):
    """Of the hexagonal lattice, in radians per cell."""
    angle = math.pi / 3 * torch.arange(3) + 0.2
    return 4 * math.pi / (3**0.5 * spacing) * torch.stack([angle.cos(), angle.sin()], 1)


def plane_wave_code(side=40, spacings=SPACINGS):
    """Exact up to interpolation: M(dx) turns cosine and sine of each wave."""
    code = PositionCode(side, len(spacings), 6)
    line = torch.arange(float(side))
    x = torch.stack(torch.meshgrid(line, line, indexing="ij"), 2)
    with torch.no_grad():
        code.raw_generators.zero_()
        for block, spacing in enumerate(spacings):
            k = wave_vectors(spacing)
            phase = x @ k.T
            waves = torch.stack([phase.cos(), phase.sin()], 3).flatten(2)
            code.table[:, :, block] = waves / (3 * len(spacings)) ** 0.5
            for wave in range(3):
                code.raw_generators[:, block, 2 * wave + 1, 2 * wave] = MOTION_UNIT * k[wave]
    return code
