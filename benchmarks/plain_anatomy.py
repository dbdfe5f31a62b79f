"""Learning with persistent chains (1903.12370, algorithm 1), its convergent setting, as a plain script.

One state per image, SGD whose step does not depend on the noise, the energy at temperature 1 logged; in place of the
paper's 500 steps of noise .0075 behind non-local layers, 20 steps of noise .1 behind a plain ConvNet, from the data.
"""

import time

import torch

from benchmarks.plain_short_run import network

BATCH, STEPS, NOISE, DATA_NOISE, RATE, DECAY, LEAST, WIDTH, BANK = 100, 20, 0.1, 0.15, 0.03, 0.999, 1e-3, 16, 2000


def train(images, seed):
    """Learn for ever; after each update, the CPU seconds of learning so far, and one that draws n bank states."""
    torch.manual_seed(seed)
    energy = network(images.shape[1], images.shape[2], WIDTH)
    bank = images[torch.randperm(len(images))[:BANK]].clone()
    temperature = NOISE**2 / 2
    optimizer = torch.optim.SGD(energy.parameters(), lr=RATE * temperature)
    spent, update = 0.0, 0
    while True:
        began = time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = max(RATE * DECAY**update, LEAST) * temperature
        x = images[torch.randperm(len(images))[:BATCH]]
        x = x + DATA_NOISE * torch.randn_like(x)
        rows = torch.randperm(len(bank))[:BATCH]
        chains = bank[rows].requires_grad_()
        for p in energy.parameters():
            p.requires_grad_(False)
        for _ in range(STEPS):
            (slope,) = torch.autograd.grad(energy(chains).sum(), chains)
            chains.data += -slope + NOISE * torch.randn_like(chains)
        bank[rows] = chains = chains.detach()
        for p in energy.parameters():
            p.requires_grad_(True)
        gap = (energy(x).mean() - energy(chains).mean()) / temperature
        optimizer.zero_grad()
        gap.backward()
        optimizer.step()
        spent, update = spent + time.process_time() - began, update + 1
        yield spent, lambda n: bank[torch.randperm(len(bank))[:n]]
