"""A small classifier, trained on the data set itself, whose features compare samples with data."""

import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.data.dataset import Dataset
from pipeline.evaluation.judges.cached import load_or_train
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


def trained_classifier(data: Dataset, device: torch.device | str = "cpu") -> Classifier:
    """The classifier of a labelled data set: trained once with a fixed seed, then taken from the cache folder."""
    with seeded(0):
        net = Classifier(data.spec.shape, data.spec.num_classes)
    net = net.to(device)
    load_or_train("classifiers", data, net, lambda: _train(net, data, device))
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
def classifier_features(net: Classifier, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n f"]:
    """Features of images, in pieces of 500; float64."""
    device = next(net.parameters()).device
    return torch.cat([net.features(part.to(device)).double() for part in x.split(500)])
