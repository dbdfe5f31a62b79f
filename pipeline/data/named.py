"""Data sets with a name: digits, draws from toy densities, and torchvision's."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.arrays import image_column, image_content
from pipeline.data.arrow_table import Columns, Content, pieces_of
from pipeline.data.files import first_line
from pipeline.data.labels import Label, encode_labels, find_classes
from pipeline.energies.toy_densities import Checkerboard, EightGaussians, Rings, Spirals, ToyDensity, UniformSquare
from pipeline.errors import InputError
from pipeline.rng import generator

DENSITIES: dict[str, ToyDensity] = {
    "eight-gaussians": EightGaussians(),
    "rings": Rings(),
    "checkerboard": Checkerboard(),
    "spirals": Spirals(),
    "square": UniformSquare(),
}
"""Toy densities on the plane, by name."""
TOY_ITEMS = 100_000
"""Draws from a toy density that make up its data set."""

TORCHVISION = {
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "svhn": "SVHN",
    "celeba": "CelebA",
    "flowers": "Flowers102",
}
"""torchvision's data sets, by our names."""
LABEL_NAMES = ("targets", "labels", "_labels")
"""What torchvision's data sets call their labels."""


def is_named(source: str) -> bool:
    """Whether a source is the name of a data set, rather than a path."""
    return source == "digits" or source in DENSITIES or source in TORCHVISION


def read_named(name: str, cache: Path) -> Content:
    """The data set of a name. Raises InputError where it cannot be downloaded into `cache`."""
    if name == "digits":
        return _read_digits()
    return _draw_density(name) if name in DENSITIES else _read_torchvision(name, cache)


def _read_digits() -> Content:
    from sklearn.datasets import load_digits

    data = load_digits()
    return image_content(np.round(data.images * (255 / 16)).astype(np.uint8), data.target)


def _draw_density(name: str) -> Content:
    return Content([{"x": DENSITIES[name].sample(TOY_ITEMS, generator(0)).numpy()}], standardize=False)


def _read_torchvision(name: str, cache: Path) -> Content:
    from torchvision import datasets, transforms

    make = partial(getattr(datasets, TORCHVISION[name]), str(cache / "torchvision"))
    if name == "celeba":
        # The square that the face fills, 64x64, as in the papers that use CelebA-64.
        crop = transforms.Compose([transforms.CenterCrop(148), transforms.Resize(64)])
        make = partial(make, target_type=[], transform=crop)
    if name == "flowers":
        # 32x32, and the three splits as one data set, as in 1903.12370.
        crop = transforms.Compose([transforms.Resize(32), transforms.CenterCrop(32)])
        make = partial(_join_splits, partial(make, transform=crop))
    try:
        data = make(download=False)
    except RuntimeError:
        try:
            data = make(download=True)
        except Exception as e:  # whatever the mirror and its client raise
            reason = first_line(e)
            raise InputError(f"it is not under {cache / 'torchvision'} and cannot be downloaded: {reason}") from e
    labels = _labels(data)
    classes = None if labels is None else find_classes([labels])
    return Content(_item_pieces(data, classes), classes=classes, size=len(data))


def _join_splits(make: Callable[..., Any], download: bool) -> Any:
    from torch.utils.data import ConcatDataset

    return ConcatDataset([make(split=split, download=download) for split in ("train", "val", "test")])


def _labels(data: Any) -> Any:
    from torch.utils.data import ConcatDataset

    if isinstance(data, ConcatDataset):
        return np.concatenate([np.asarray(_labels(part)) for part in data.datasets])
    return next((getattr(data, name) for name in LABEL_NAMES if hasattr(data, name)), None)


def _item_pieces(data: Any, classes: list[Label] | None) -> Iterator[Columns]:
    for rows in pieces_of(len(data)):
        images, labels = zip(*(data[i] for i in range(rows.start, rows.stop)), strict=True)
        x = image_column(np.stack([np.asarray(image) for image in images]))
        yield {"x": x} if classes is None else {"x": x, "label": encode_labels([int(y) for y in labels], classes)}
