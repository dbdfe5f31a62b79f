"""Short-run MCMC (1904.09770) on digits as a plain script, with the settings of the preset `digits-K40`."""

import time

import torch
from sklearn.datasets import load_digits
from torch import nn

BATCH, STEPS, NOISE, DATA_NOISE, RATE, ANNEAL = 64, 40, 0.01, 0.05, 5e-4, 300


def network():
    return nn.Sequential(
        nn.Conv2d(1, 32, 3, 1, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.Conv2d(64, 1, 4, 1, 0),
    )  # fmt: skip


def sample(energy, n):
    x = (2 * torch.rand(n, 1, 8, 8) - 1).requires_grad_()
    for _ in range(STEPS):
        (slope,) = torch.autograd.grad(energy(x).sum(), x)
        x.data += -slope + NOISE * torch.randn_like(x)
    return x.detach()


def train(seed, updates, every, shown):
    """(CPU seconds of learning, samples) after each `every` updates."""
    torch.manual_seed(seed)
    data = torch.tensor(load_digits().images[:, None], dtype=torch.float32) / 8 - 1
    energy = network()
    optimizer = torch.optim.Adam(energy.parameters(), lr=RATE)
    spent, found = 0.0, []
    for update in range(updates):
        began = time.process_time()
        for group in optimizer.param_groups:
            group["lr"] = RATE * min(1.0, ANNEAL / max(update, 1))
        x = data[torch.randint(len(data), (BATCH,))]
        x = x + DATA_NOISE * torch.randn_like(x)
        for p in energy.parameters():
            p.requires_grad_(False)
        chains = sample(energy, BATCH)
        for p in energy.parameters():
            p.requires_grad_(True)
        loss = energy(x).mean() - energy(chains).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        spent += time.process_time() - began
        if (update + 1) % every == 0:
            found.append((spent, torch.cat([sample(energy, BATCH) for _ in range(-(-shown // BATCH))])[:shown]))
    return found


if __name__ == "__main__":
    for seconds, x in train(seed=0, updates=600, every=100, shown=BATCH):
        print(f"{seconds:.1f} CPU s, samples of mean {x.mean():.3f} and sd {x.std():.3f}")
