"""Short-run MCMC (1904.09770, algorithm 1) as a plain script.

The paper's loop and, but for width, number of steps and rate, its settings: drift 1, noise .01, chains from U[-1, 1],
Adam, batches of 64.
"""

import time
from functools import partial

import torch
from torch import nn

BATCH, STEPS, NOISE, DATA_NOISE, RATE, WIDTH = 64, 40, 0.01, 0.05, 5e-4, 32


def network(channels, side, width):
    """3x3 at full size, then 4x4 convolutions of stride 2 down to 4x4 or less, then one number."""
    layers, inner = [nn.Conv2d(channels, width, 3, 1, 1), nn.LeakyReLU(0.2)], width
    while side > 4:
        outer, side = min(2 * inner, 8 * width), side // 2
        layers += [nn.Conv2d(inner, outer, 4, 2, 1), nn.LeakyReLU(0.2)]
        inner = outer
    return nn.Sequential(*layers, nn.Conv2d(inner, 1, side, 1, 0))


def sample(energy, shape, n):
    x = (2 * torch.rand(n, *shape) - 1).requires_grad_()
    for _ in range(STEPS):
        (slope,) = torch.autograd.grad(energy(x).sum(), x)
        x.data += -slope + NOISE * torch.randn_like(x)
    return x.detach()


def train(images, seed, rate=RATE, anneal=0, width=WIDTH):
    """Learn for ever; after each update, the CPU seconds of learning so far, and a function that draws n samples.

    `images` (n, c, h, w) are in [-1, 1]. The rate falls as anneal / update; 0: it is constant.
    """
    torch.manual_seed(seed)
    shape = tuple(images.shape[1:])
    energy = network(shape[0], shape[1], width)
    optimizer = torch.optim.Adam(energy.parameters(), lr=rate)
    spent, update = 0.0, 0
    while True:
        began = time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, anneal / max(update, 1)) if anneal else rate
        x = images[torch.randint(len(images), (BATCH,))]
        x = x + DATA_NOISE * torch.randn_like(x)
        for p in energy.parameters():
            p.requires_grad_(False)
        chains = sample(energy, shape, BATCH)
        for p in energy.parameters():
            p.requires_grad_(True)
        loss = energy(x).mean() - energy(chains).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        spent, update = spent + time.process_time() - began, update + 1
        yield spent, partial(sample, energy, shape)
