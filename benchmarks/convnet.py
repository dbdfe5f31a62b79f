"""Chain-steps a second under a ConvNet energy of 32x32 images, beside others' loops and beside its convolutions alone.

All take steps of drift 1 and noise .01; ours gives the energy of the end and the gradients' norms besides. The plain
loop has everything contiguous, as the papers' code has; torchebm and ebmkit have our network, channels_last, and
contiguous states, whose noise is drawn faster. The limit is the network's convolutions alone, forth and back to their
inputs, in the faster layout.
"""

from functools import partial

import torch
from torch import nn

from benchmarks.loops import DEVICE, peers, plain
from benchmarks.timing import Row, faster, in_turns
from pipeline.nets.conv import ConvEnergy
from pipeline.rng import generator, seeded
from pipeline.samplers.langevin import Langevin

WIDTHS = (32, 64)
SIZES = {16: (40, 3), 64: (20, 2), 256: (10, 2)}
"""Numbers of chains, with their steps and rounds."""
DRIFT, NOISE = 1.0, 0.01
LIMIT_STEPS = 3
LAYOUTS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


def network(width: int, layout: torch.memory_format) -> ConvEnergy:
    with seeded(0):
        net = ConvEnergy((3, 32, 32), width, 0.2).to(DEVICE)
    return net.to(memory_format=layout).eval().requires_grad_(False)


def convolutions(width: int, x, layout: torch.memory_format):
    """Forth and back to their inputs, of numbers that are computed here, outside of what is timed."""
    layers = [layer for layer in network(width, layout) if isinstance(layer, nn.Conv2d)]
    inputs, slopes = [x.contiguous(memory_format=layout)], []
    for layer in layers:
        inputs.append(layer(inputs[-1]))
        slopes.append(torch.ones_like(inputs[-1]))

    def run():
        for _ in range(LIMIT_STEPS):
            for layer, x in zip(layers, inputs, strict=False):
                layer(x)
            for layer, x, slope in zip(layers, inputs, slopes, strict=False):
                torch.ops.aten.convolution_backward(
                    slope, x, layer.weight, None, layer.stride, layer.padding, layer.dilation, False, [0, 0], 1,
                    [True, False, False],
                )  # fmt: skip

    return run


def measured(width: int, n: int, steps: int, rounds: int, others: dict) -> list[Row]:
    x = (2 * torch.rand(n, 3, 32, 32, generator=generator(0)) - 1).to(DEVICE)
    last, rng, sampler = (
        x.contiguous(memory_format=torch.channels_last),
        generator(0, DEVICE),
        Langevin(steps, DRIFT, NOISE),
    )
    ours, theirs = network(width, torch.channels_last), nn.Sequential(*network(width, torch.contiguous_format))

    def move():
        with torch.no_grad():
            sampler(ours, last, rng)

    sides = {"ours": move, "plain loop": partial(plain, theirs, x, steps, DRIFT, NOISE)}
    for name, run in others.items():
        sides[name] = partial(run, ours, x, steps, DRIFT, NOISE)
    for name, layout in LAYOUTS.items():
        sides[name] = convolutions(width, x, layout)
    seconds = in_turns(sides, rounds, DEVICE)
    rates = {name: n * (LIMIT_STEPS if name in LAYOUTS else steps) / spent for name, spent in seconds.items()}
    rates["limit, its convolutions alone"] = max(rates.pop(name) for name in LAYOUTS)
    mine = rates.pop("ours")
    return [
        faster(f"ConvNet nf {width}, {n} chains: {name}", "chain-steps/s", mine, rate) for name, rate in rates.items()
    ]


def rows() -> list[Row]:
    others = peers()
    return [row for width in WIDTHS for n, size in SIZES.items() for row in measured(width, n, *size, others)]
