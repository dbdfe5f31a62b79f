"""What a VAE of similar size reconstructs of held-out images: the other side of `python -m jobs.reconstruct`.

A convolutional encoder and its mirror image, Gaussian noise whose variance is the optimal one of each batch
(arXiv:2006.13202), Adam at 1e-3. Errors are mean squares over pixels in [-1, 1], as `jobs.reconstruct` has them, on the
images that it draws with the same seed.

    python -m benchmarks.vae_reconstruction --data mnist_train.parquet --test mnist_test.parquet
"""

import json
from dataclasses import dataclass

import numpy as np
import torch
from torch import nn
from tqdm import trange

from jobs.cli.command import run_command
from jobs.cli.open_run import random_items
from jobs.cli.parsing import parse
from pipeline.data.dataset import load_data
from pipeline.rng import fold, generator, seeded


@dataclass(frozen=True)
class Settings:
    data: str
    """What it is trained on."""
    test: str
    """What it reconstructs."""
    n: int = 200
    """Items to reconstruct."""
    updates: int = 6000
    """Updates, of 128 items each."""
    width: int = 8
    """Channels of the first layer."""
    latent_dim: int = 32
    """Dimension of z."""
    seed: int = 0
    """Seed of weights, batches, noise and of the choice of items."""


class VAE(nn.Module):
    """Images (n, c, h, w) whose sides are multiples of 4."""

    def __init__(self, shape, width, latent_dim):
        super().__init__()
        channels, height, breadth = shape
        inner = (4 * width, height // 4, breadth // 4)
        size = int(np.prod(inner))
        self.encoder = nn.Sequential(
            nn.Conv2d(channels, width, 3, 1, 1), nn.GELU(),
            nn.Conv2d(width, 2 * width, 4, 2, 1), nn.GELU(),
            nn.Conv2d(2 * width, 4 * width, 4, 2, 1), nn.GELU(),
            nn.Flatten(), nn.Linear(size, 2 * latent_dim),
        )  # fmt: skip
        self.decoder = nn.Sequential(
            nn.Linear(latent_dim, size), nn.GELU(), nn.Unflatten(1, inner),
            nn.ConvTranspose2d(4 * width, 2 * width, 4, 2, 1), nn.GELU(),
            nn.ConvTranspose2d(2 * width, width, 4, 2, 1), nn.GELU(),
            nn.Conv2d(width, channels, 3, 1, 1), nn.Tanh(),
        )  # fmt: skip

    def loss(self, x, rng):
        mean, log_var = self.encoder(x).chunk(2, 1)
        z = mean + (log_var / 2).exp() * torch.empty_like(mean).normal_(generator=rng)
        error = (self.decoder(z) - x).square().mean()
        kl = (mean.square() + log_var.exp() - 1 - log_var).sum(1).mean() / 2
        return x[0].numel() / 2 * error.log() + kl


def main(argv):
    args = parse(Settings, argv, "python -m benchmarks.vae_reconstruction", __doc__)
    data, test = load_data(args.data), load_data(args.test)
    with seeded(args.seed):
        vae = VAE(data.spec.shape, args.width, args.latent_dim)
    optimizer, rng = torch.optim.Adam(vae.parameters(), 1e-3), generator(args.seed)
    for _ in trange(args.updates, unit="update"):
        loss = vae.loss(data.batch(torch.randint(data.size, (128,), generator=rng).numpy())["x"], rng)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    x = random_items(test, args.n, fold(args.seed, "items"))
    with torch.no_grad():
        mean = vae.encoder(x).chunk(2, 1)[0]
        error = (vae.decoder(mean) - x).square().mean()
    size = sum(p.numel() for p in vae.parameters())
    print(json.dumps({"parameters": size, "latent": args.latent_dim, "mse": error.item(), "variance": x.var().item()}))


if __name__ == "__main__":
    run_command(main)
