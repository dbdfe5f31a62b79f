"""Where data come from: names, torchvision's sets, Parquet (images, texts or features), .npz files."""

import io
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.dataset
from numpy import ndarray
from PIL import Image

from pipeline.data.arrow_table import Columns
from pipeline.energies.toy_densities import Checkerboard, EightGaussians, Rings, Spirals, ToyDensity
from pipeline.errors import InputError
from pipeline.rng import generator

DENSITIES: dict[str, ToyDensity] = {
    "eight-gaussians": EightGaussians(),
    "rings": Rings(),
    "checkerboard": Checkerboard(),
    "spirals": Spirals(),
}
"""Toy densities on the plane, by name: their truth is known."""

TOY_ITEMS = 100_000
"""Draws from a toy density that make up its data set."""


def _columns(images: Iterable[Any], labels: Iterable[Any] | None) -> dict[str, ndarray]:
    """PIL images or arrays (h, w[, c]) of one size -> uint8 `x` (n, c, h, w), and int64 `label`."""
    arrays = [np.asarray(image) for image in images]
    if not arrays:
        raise InputError("there are no images in the data")
    shapes = {a.shape for a in arrays}
    if len(shapes) > 1:
        raise InputError(f"images differ in size or colour: {', '.join(map(str, sorted(shapes)[:3]))}; make them alike")
    x = np.stack(arrays)
    if x.dtype != np.uint8 or x.ndim not in (3, 4):
        raise InputError(f"images must be uint8 of (h, w) or (h, w, c), not {x.dtype} of {x.shape[1:]}")
    x = x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)
    if x.shape[1] not in (1, 3):
        raise InputError(f"images must have 1 or 3 channels, not {x.shape[1]}")
    return {"x": x} if labels is None else {"x": x, "label": _labels(labels, len(x))}


def _labels(labels: Iterable[Any], n: int) -> ndarray:
    found = np.asarray(list(labels))
    if found.shape != (n,) or found.dtype.kind not in "iu" or found.min() < 0:
        raise InputError(f"labels must be one whole number of 0 or more for each of {n} items")
    return found.astype(np.int64)


def _digits() -> Columns:
    from sklearn.datasets import load_digits  # here, since only the first run on a machine needs it

    data = load_digits()
    return _columns(np.round(data.images * (255 / 16)).astype(np.uint8), data.target)


def _density(name: str) -> Columns:
    return {"x": DENSITIES[name].sample(TOY_ITEMS, generator(0)).numpy()}


WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?|[^\w\s]")
"""A word, perhaps with an apostrophe, or a sign that stands alone; texts are in lower case."""

TORCHVISION = {
    "mnist": "MNIST",
    "fashion-mnist": "FashionMNIST",
    "cifar10": "CIFAR10",
    "svhn": "SVHN",
    "celeba": "CelebA",
    "flowers": "Flowers102",
}
"""torchvision's data sets, by our names."""


def _torchvision(name: str, cache: Path) -> Columns:
    from torchvision import datasets, transforms  # here, since only the first run on a machine needs it

    make = partial(getattr(datasets, TORCHVISION[name]), str(cache / "torchvision"))
    if name == "celeba":
        # the square that the face fills, 64x64, as the papers that use CelebA-64 do
        crop = transforms.Compose([transforms.CenterCrop(148), transforms.Resize(64)])
        make = partial(make, target_type=[], transform=crop)
    if name == "flowers":  # 32x32, as 1903.12370 does; its three splits are one data set there
        crop = transforms.Compose([transforms.Resize(32), transforms.CenterCrop(32)])
        make = partial(_concatenated, partial(make, transform=crop))
    try:
        data = make(download=False)
    except RuntimeError:
        try:
            data = make(download=True)
        except Exception as e:  # whatever the mirror and its client raise: it cannot be had
            reason = str(e).splitlines()[0] if str(e) else type(e).__name__
            raise InputError(f"{name} is not under {cache / 'torchvision'} and cannot be downloaded: {reason}") from e
    images, labels = zip(*(data[i] for i in range(len(data))), strict=True)
    return _columns(images, None if labels[0] is None else [int(label) for label in labels])


def _concatenated(make: Callable[..., Any], download: bool) -> list[Any]:
    return [item for split in ("train", "val", "test") for item in make(split=split, download=download)]


def _parquet(path: Path) -> Columns | tuple[Columns, list[str]]:
    files = [str(f) for f in _files(path)]
    if not files:
        raise InputError(f"{path} holds no .parquet files")
    try:
        table = pa.dataset.dataset(files, format="parquet").to_table()
    except (pa.ArrowException, OSError) as e:
        raise InputError(f"{path} cannot be read as Parquet: {str(e).splitlines()[0]}") from e
    kind = next((name for name in ("image", "text", "features") if name in table.column_names), None)
    if kind is None:
        raise InputError(f"{path} has no column `image`, `text` or `features`, only {', '.join(table.column_names)}")
    cells = table.column(kind).to_pylist()
    labels = table.column("label").to_pylist() if "label" in table.column_names else None
    if not cells:
        raise InputError(f"{path} holds no items")
    try:
        if kind == "text":
            return _texts(cells, labels)
        return (
            _features(cells, labels) if kind == "features" else _columns([_decoded(c["bytes"]) for c in cells], labels)
        )
    except (OSError, KeyError, TypeError, AttributeError) as e:
        holds = {"image": "encoded images", "text": "texts", "features": "lists of numbers"}[kind]
        raise InputError(f"{path}: column `{kind}` does not hold {holds}: {str(e).splitlines()[0]}") from e


def _features(rows: list[list[float | None]], labels: list[Any] | None) -> Columns:
    """Lists of numbers of one length -> float32 `x` (n, d), and int64 `label`; a missing number is refused."""
    lengths = {len(row) for row in rows}
    if len(lengths) > 1 or not min(lengths):
        raise InputError(f"features must be lists of one length, not of {', '.join(map(str, sorted(lengths)[:3]))}")
    x = np.array(rows, np.float32)
    if not np.isfinite(x).all():
        raise InputError("features must be finite numbers; fill in or drop what is missing")
    return {"x": x} if labels is None else {"x": x, "label": _labels(labels, len(x))}


def _texts(texts: list[str], labels: list[Any] | None) -> tuple[Columns, list[str]]:
    """Texts -> ragged `x` of the numbers of their words, int64 `label`; and the words, the most frequent first."""
    split = [WORD.findall(text.lower()) for text in texts]
    seen = Counter(word for text in split for word in text)
    words = sorted(seen, key=lambda word: (-seen[word], word))
    if not words:
        raise InputError("there is no word in any text")
    numbers = {word: i for i, word in enumerate(words)}
    x = [np.array([numbers[word] for word in text], np.int32) for text in split]
    return {"x": x} if labels is None else {"x": x, "label": _labels(labels, len(x))}, words


def _files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.parquet")) if path.is_dir() else [path]


def _decoded(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    return image if image.mode in ("L", "RGB") else image.convert("RGB")  # a palette's indices are no picture


def _npz(path: Path) -> Columns:
    if not zipfile.is_zipfile(path):
        raise InputError(f"{path} cannot be read as .npz: it is no zip archive")
    try:
        with np.load(path, allow_pickle=False) as archive:
            found = {name: archive[name] for name in ("images", "labels") if name in archive}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as e:
        raise InputError(f"{path} cannot be read as .npz: {str(e).splitlines()[0]}") from e
    if "images" not in found:
        raise InputError(f"{path} has no array `images`")
    if found["images"].ndim < 3:
        raise InputError(f"{path}: images must be (n, h, w) or (n, h, w, c), not of shape {found['images'].shape}")
    return _columns(found["images"], found.get("labels"))


def is_name(data: str) -> bool:
    """Whether it is a data set's name."""
    return data == "digits" or data in DENSITIES or data in TORCHVISION


def find_source(data: str, cache: Path) -> tuple[str, Callable[[], Columns | tuple[Columns, list[str]]]]:
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
        raise InputError(f"data {data}: neither a data set ({names}) nor a file or folder that exists")
    if path.is_file() and path.suffix not in (".parquet", ".npz"):
        raise InputError(f"data {data}: a file must be .parquet or .npz")
    stamp = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in _files(path)]
    return f"{path.stem}-{stamp}", partial(_npz if path.suffix == ".npz" else _parquet, path)
