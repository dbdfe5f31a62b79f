"""Fréchet distance between images, over features of a small classifier of the same data.

The features are this project's own, so the distance compares models of one data set and is no FID.
"""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.data import Dataset
from pipeline.evaluation.kept import kept
from pipeline.rng import generator, seeded

FEATURES = 64
EPOCH_ITEMS = 60_000
"""Items the classifier sees, in passes over at most as many of the data."""


class Classifier(nn.Module):
    """Images (n, c, h, w) in [-1, 1] -> class scores; `features` is its last layer but one, (n, 64)."""

    def __init__(self, shape: tuple[int, ...], classes: int):
        super().__init__()
        channels, *size = shape
        layers: list[nn.Module] = []
        for width in (32, 64):
            layers += [nn.Conv2d(channels, width, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)]
            channels, size = width, [s // 2 for s in size]
        self.features = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(channels * size[0] * size[1], FEATURES), nn.ReLU()
        )
        self.head = nn.Linear(FEATURES, classes)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Unnormalised log-probabilities of the classes."""
        return self.head(self.features(x))


def classifier(data: Dataset, device: torch.device | str = "cpu") -> Classifier:
    """The classifier of a labelled data set: trained once with a fixed seed, then taken from the cache folder."""
    with seeded(0):
        net = Classifier(data.spec.shape, data.spec.classes)
    net = net.to(device)
    kept("classifiers", data, net, lambda: _train(net, data, device))
    return net.eval().requires_grad_(False)


def _train(net: Classifier, data: Dataset, device: torch.device | str) -> None:
    rng, batch = generator(0), 128
    steps = EPOCH_ITEMS // batch
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in range(steps):
        items = data.batch(torch.randint(data.size, (batch,), generator=rng).numpy(), device)
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(items["x"]), items["label"]).backward()
        optimizer.step()
        schedule.step()


@torch.no_grad()
def features(net: Classifier, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f"]:
    """Features of images, in pieces of 500; float64."""
    device = next(net.parameters()).device
    return torch.cat([net.features(part.to(device)).double() for part in x.split(500)])


def frechet(a: Float[Tensor, "n f"], b: Float[Tensor, "m f"]) -> float:
    """|mu_a - mu_b|^2 + tr(C_a + C_b - 2 (C_a^1/2 C_b C_a^1/2)^1/2), the distance of Gaussians fitted to features.

    The square roots are of symmetric matrices, by their eigenvalues.
    """
    mean = (a.mean(0) - b.mean(0)).square().sum()
    cov_a, cov_b = a.T.cov(), b.T.cov()
    values, vectors = torch.linalg.eigh(cov_a)
    root = vectors * values.clamp(min=0).sqrt() @ vectors.T
    cross = torch.linalg.eigvalsh(root @ cov_b @ root).clamp(min=0).sqrt().sum()
    return float(mean + cov_a.trace() + cov_b.trace() - 2 * cross)
