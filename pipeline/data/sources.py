"""Where data come from: names, torchvision's sets, Parquet in the Hugging Face image layout, .npz files."""

import io
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset
from numpy import ndarray
from PIL import Image

from pipeline.data.store import Columns
from pipeline.energies import EightGaussians
from pipeline.errors import BadInput
from pipeline.rng import generator

DENSITIES = {"eight-gaussians": EightGaussians()}
"""Toy densities on the plane, by name: their truth is known."""

TOY_ITEMS = 100_000
"""Draws from a toy density that make up its data set."""


def _columns(images: Iterable[Any], labels: Iterable[Any] | None) -> dict[str, ndarray]:
    """PIL images or arrays (h, w[, c]) of one size -> uint8 `x` (n, c, h, w), and int64 `label`."""
    arrays = [np.asarray(image) for image in images]
    if not arrays:
        raise BadInput("there are no images in the data")
    shapes = {a.shape for a in arrays}
    if len(shapes) > 1:
        raise BadInput(f"images differ in size or colour: {', '.join(map(str, sorted(shapes)[:3]))}; make them alike")
    x = np.stack(arrays)
    if x.dtype != np.uint8 or x.ndim not in (3, 4):
        raise BadInput(f"images must be uint8 of (h, w) or (h, w, c), not {x.dtype} of {x.shape[1:]}")
    x = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)
    return {"x": x} if labels is None else {"x": x, "label": np.fromiter(labels, np.int64, len(x))}


def _digits() -> Columns:
    from sklearn.datasets import load_digits  # here, since only the first run on a machine needs it

    data = load_digits()
    return _columns(np.round(data.images * (255 / 16)).astype(np.uint8), data.target)


def _density(name: str) -> Columns:
    return {"x": DENSITIES[name].sample(TOY_ITEMS, generator(0)).numpy()}


TORCHVISION = {
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "svhn": "SVHN",
    "celeba": "CelebA",
}
"""torchvision's data sets, by our names."""


def _torchvision(name: str, cache: Path) -> Columns:
    from torchvision import datasets, transforms  # here, since only the first run on a machine needs it

    make = partial(getattr(datasets, TORCHVISION[name]), str(cache / "torchvision"))
    if name == "celeba":
        # the square that the face fills, 64x64, as the papers that use CelebA-64 do
        crop = transforms.Compose([transforms.CenterCrop(148), transforms.Resize(64)])
        make = partial(make, target_type=[], transform=crop)
    try:
        data = make(download=False)
    except RuntimeError:
        try:
            data = make(download=True)
        except Exception as e:
            reason = str(e).splitlines()[0] if str(e) else type(e).__name__
            raise BadInput(f"{name} is not under {cache / 'torchvision'} and cannot be downloaded: {reason}") from e
    images, labels = zip(*(data[i] for i in range(len(data))), strict=True)
    return _columns(images, None if labels[0] is None else [int(label) for label in labels])


def _parquet(path: Path) -> Columns:
    try:
        table = pa.dataset.dataset(path, format="parquet").to_table()
    except (pa.ArrowException, OSError) as e:
        raise BadInput(f"{path} cannot be read as Parquet: {str(e).splitlines()[0]}") from e
    if "image" not in table.column_names:
        raise BadInput(f"{path} has no column `image`, only {', '.join(table.column_names)}")
    try:
        images = [Image.open(io.BytesIO(cell["bytes"])) for cell in table.column("image").to_pylist()]
        return _columns(images, table.column("label").to_pylist() if "label" in table.column_names else None)
    except (OSError, KeyError, TypeError) as e:
        raise BadInput(f"{path}: column `image` does not hold encoded images: {str(e).splitlines()[0]}") from e


def _npz(path: Path) -> Columns:
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in ("images", "labels") if name in archive}
    except (OSError, ValueError, EOFError) as e:
        raise BadInput(f"{path} cannot be read as .npz: {str(e).splitlines()[0]}") from e
    if "images" not in found:
        raise BadInput(f"{path} has no array `images`")
    return _columns(found["images"], found.get("labels"))


def source(data: str, cache: Path) -> tuple[str, Callable[[], Columns]]:
    """What a name or path stands for: a key that changes when the data do, and how to read them.

    Raises:
        BadInput: neither a known name nor a file or folder that exists.
    """
    if data == "digits":
        return "digits", _digits
    if data in DENSITIES:
        return data, partial(_density, data)
    if data in TORCHVISION:
        return data, partial(_torchvision, data, cache)
    path = Path(data).expanduser()
    if not path.exists():
        names = ", ".join(["digits", *DENSITIES, *TORCHVISION])
        raise BadInput(f"data {data}: neither a data set ({names}) nor a file or folder that exists")
    files = sorted(path.rglob("*.parquet")) if path.is_dir() else [path]
    stamp = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in files]
    return f"{path.stem}-{stamp}", partial(_npz if path.suffix == ".npz" else _parquet, path)
