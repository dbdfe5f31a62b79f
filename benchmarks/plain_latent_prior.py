"""The latent-space energy-based prior (2006.08205, algorithm 1) as a plain script.

The settings of the paper's SVHN experiment, with a narrower generator and, for minutes in place of hours, five times
its rates.
"""

import time
from functools import partial

import torch
from torch import nn

BATCH, LATENT, WIDTH, SIGMA = 100, 100, 16, 0.3
PRIOR_STEPS, PRIOR_STEP, POSTERIOR_STEPS, POSTERIOR_STEP = 60, 0.4, 20, 0.1
ENERGY_RATE, GENERATOR_RATE, BETAS = 1e-4, 5e-4, (0.5, 0.999)


def networks(channels):
    """The energy of latent vectors, and a generator of images of 32x32."""
    energy = nn.Sequential(nn.Linear(LATENT, 200), nn.LeakyReLU(0.2), nn.Linear(200, 200), nn.LeakyReLU(0.2),
                           nn.Linear(200, 1))  # fmt: skip
    generator = nn.Sequential(
        nn.Unflatten(1, (LATENT, 1, 1)),
        nn.ConvTranspose2d(LATENT, 8 * WIDTH, 4, 1, 0), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(8 * WIDTH, 4 * WIDTH, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(4 * WIDTH, 2 * WIDTH, 4, 2, 1), nn.LeakyReLU(0.2),
        nn.ConvTranspose2d(2 * WIDTH, channels, 4, 2, 1), nn.Tanh(),
    )  # fmt: skip
    return energy, generator


def chains(target, n, steps, step):
    z = torch.randn(n, LATENT, requires_grad=True)
    for _ in range(steps):
        (slope,) = torch.autograd.grad(target(z).sum(), z)
        z.data += -0.5 * step**2 * slope + step * torch.randn_like(z)
    return z.detach()


def prior(energy, n):
    return chains(lambda z: energy(z).squeeze(1) + z.square().sum(1) / 2, n, PRIOR_STEPS, PRIOR_STEP)


def posterior(energy, generator, x):
    def target(z):
        likelihood = (x - generator(z)).square().flatten(1).sum(1) / (2 * SIGMA**2)
        return likelihood + energy(z).squeeze(1) + z.square().sum(1) / 2

    return chains(target, len(x), POSTERIOR_STEPS, POSTERIOR_STEP)


def sample(energy, generator, n):
    return generator(prior(energy, n)).detach()


def train(images, seed):
    """Learn for ever; after each update, the CPU seconds of learning so far, and a function that draws n samples."""
    torch.manual_seed(seed)
    energy, generator = networks(images.shape[1])
    of_energy = torch.optim.Adam(energy.parameters(), ENERGY_RATE, betas=BETAS)
    of_generator = torch.optim.Adam(generator.parameters(), GENERATOR_RATE, betas=BETAS)
    spent = 0.0
    while True:
        began = time.process_time()
        x = images[torch.randint(len(images), (BATCH,))]
        for p in (*energy.parameters(), *generator.parameters()):
            p.requires_grad_(False)
        z_prior, z_posterior = prior(energy, BATCH), posterior(energy, generator, x)
        for p in (*energy.parameters(), *generator.parameters()):
            p.requires_grad_(True)
        of_generator.zero_grad()
        (x - generator(z_posterior)).square().flatten(1).sum(1).mean().backward()
        of_generator.step()
        of_energy.zero_grad()
        (energy(z_posterior).mean() - energy(z_prior).mean()).backward()
        of_energy.step()
        spent += time.process_time() - began
        yield spent, partial(sample, energy, generator)
