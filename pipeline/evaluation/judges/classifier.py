"""A small classifier, trained on the data set itself, whose features compare samples with data."""

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from pipeline.data.dataset import Dataset
from pipeline.evaluation.judges.cached import load_or_train
from pipeline.progress import track
from pipeline.rng import generator, seeded

FEATURE_DIM = 64
TRAINING_ITEMS = 60_000
"""Items that training processes, in random batches with repetition."""
BATCH_SIZE = 128
SMALLEST = 4
"""Pixels of a side, at least; the two poolings leave nothing of fewer."""


class Classifier(nn.Module):
    """Images (n, c, h, w) in [-1, 1] -> unnormalised log-probabilities of k classes; `features` is the layer before."""

    def __init__(self, shape: tuple[int, ...], num_classes: int):
        super().__init__()
        channels, *size = shape
        layers: list[nn.Module] = []
        for width in (32, 64):
            layers += [nn.Conv2d(channels, width, 3, 1, 1), nn.ReLU(), nn.MaxPool2d(2)]
            channels, size = width, [s // 2 for s in size]
        self.features = nn.Sequential(
            *layers, nn.Flatten(), nn.Linear(channels * size[0] * size[1], FEATURE_DIM), nn.ReLU()
        )
        self.head = nn.Linear(FEATURE_DIM, num_classes)

    def forward(self, x: Float[Tensor, "n c h w"]) -> Float[Tensor, "n k"]:
        """Unnormalised log-probabilities of the classes."""
        return self.head(self.features(x))


def why_no_classifier(data: Dataset) -> str:
    """Why a data set has no classifier of its own; empty where it has one."""
    known = data.labelled
    present = np.unique(known.table.column("label")[known.rows]) if known.size else ()
    reasons = {
        "the data are no images": data.spec.kind != "image",
        "the images have no labels": not known.size,
        f"all labelled images are of one class ({', '.join(str(data.classes[i]) for i in present)})": len(present) < 2,
        f"the images are smaller than {SMALLEST} pixels": min(data.spec.shape[1:], default=0) < SMALLEST,
    }
    return next((why for why, holds in reasons.items() if holds), "")


def trained_classifier(data: Dataset, device: torch.device | str = "cpu") -> Classifier:
    """The classifier of the labelled items on `device`, trained once with a fixed seed and then taken from the cache.

    It is trained on the CPU, whatever the device: so a run's distances do not depend on where it was first measured.
    """
    with seeded(0):
        net = Classifier(data.spec.shape, data.spec.num_classes)
    load_or_train("classifiers", data, net, lambda: _train(net, data))
    return net.eval().requires_grad_(False).to(device)


def _train(net: Classifier, data: Dataset) -> None:
    data, rng, steps = data.labelled, generator(0), TRAINING_ITEMS // BATCH_SIZE
    optimizer = torch.optim.Adam(net.parameters(), 2e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for _ in track(range(steps), steps, "training the classifier", "step"):
        items = data.batch(torch.randint(data.size, (BATCH_SIZE,), generator=rng).numpy())
        optimizer.zero_grad()
        nn.functional.cross_entropy(net(items["x"]), items["label"]).backward()
        optimizer.step()
        schedule.step()
