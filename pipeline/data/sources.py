"""Sources of data: finding and reading names, torchvision's sets, Parquet (images, texts or features), .npz files."""

import io
import json
import re
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from numpy import ndarray

from pipeline.data.arrays import image_column, label_column, vector_column
from pipeline.data.arrow_table import ROWS_PER_PIECE, Columns, Content, pieces_of
from pipeline.energies.toy_densities import Checkerboard, EightGaussians, Rings, Spirals, ToyDensity
from pipeline.errors import InputError
from pipeline.rng import generator

DENSITIES: dict[str, ToyDensity] = {
    "eight-gaussians": EightGaussians(),
    "rings": Rings(),
    "checkerboard": Checkerboard(),
    "spirals": Spirals(),
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

SUFFIXES = (".parquet", ".npz", ".arrow")
"""Of the files that can be read; .arrow: tables that `Dataset.from_arrays` wrote."""

WORD = re.compile(r"[^\W_]+(?:'[^\W_]+)?|[^\w\s]")
"""A word, perhaps with an apostrophe, or a sign that stands alone; texts are in lower case."""

Piece: TypeAlias = tuple[Sequence[Any] | ndarray, Sequence[Any] | ndarray | None]
"""Some items, and their labels if they have any."""


class Source(NamedTuple):
    """A data set that can be read."""

    identity: str
    """It changes whenever the data do."""
    read: Callable[[], Content]


def is_named(source: str) -> bool:
    """Whether a source is the name of a data set, rather than a path."""
    return source == "digits" or source in DENSITIES or source in TORCHVISION


def resolve_source(source: str) -> str:
    """A name as it is, a path as an absolute one, so that every process finds it."""
    return source if is_named(source) else str(Path(source).expanduser().resolve())


def find_file(source: str) -> Path:
    """The file or folder of a source that is not a name. Raises InputError where there is none of a known type."""
    path = Path(source).expanduser()
    if not path.exists():
        names = ", ".join(["digits", *DENSITIES, *TORCHVISION])
        raise InputError(f"neither a data set ({names}) nor a file or folder that exists")
    if path.is_file() and path.suffix not in SUFFIXES:
        raise InputError(f"a file must be {', '.join(SUFFIXES[:-1])} or {SUFFIXES[-1]}")
    return path


def find_source(source: str, cache: Path) -> Source:
    """The data set that a name, a .parquet or .npz file, or a folder of .parquet files stands for.

    Args:
        source: the name or path.
        cache: the folder where downloads are.

    Raises:
        InputError: neither a known name nor a file or folder that exists.
    """
    if source == "digits":
        return Source(source, _read_digits)
    if source in DENSITIES:
        return Source(source, partial(_draw_density, source))
    if source in TORCHVISION:
        return Source(source, partial(_read_torchvision, source, cache))
    path = find_file(source)
    stamp = [(str(f.resolve()), f.stat().st_size, f.stat().st_mtime_ns) for f in _parquet_files(path)]
    return Source(f"{path.stem}-{stamp}", partial(_read_npz if path.suffix == ".npz" else _read_parquet, path))


def _read_digits() -> Content:
    from sklearn.datasets import load_digits

    data = load_digits()
    return _array_images(np.round(data.images * (255 / 16)).astype(np.uint8), data.target)


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
            reason = _first_line(e) or type(e).__name__
            raise InputError(f"it is not under {cache / 'torchvision'} and cannot be downloaded: {reason}") from e
    return Content(_image_pieces(_item_pieces(data)))


def _join_splits(make: Callable[..., Any], download: bool) -> Any:
    from torch.utils.data import ConcatDataset

    return ConcatDataset([make(split=split, download=download) for split in ("train", "val", "test")])


def _item_pieces(data: Any) -> Iterator[Piece]:
    for rows in pieces_of(len(data)):
        images, labels = zip(*(data[i] for i in range(rows.start, rows.stop)), strict=True)
        yield images, None if labels[0] is None else [int(label) for label in labels]


def _read_npz(path: Path) -> Content:
    if not zipfile.is_zipfile(path):
        raise InputError("cannot be read as .npz: it is no zip archive")
    try:
        with np.load(path, allow_pickle=False) as archive:
            arrays = {name: archive[name] for name in ("images", "labels") if name in archive}
    except (OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error) as e:
        raise InputError(f"cannot be read as .npz: {_first_line(e)}") from e
    if "images" not in arrays:
        raise InputError("it has no array `images`")
    images = arrays["images"]
    if images.ndim < 3:
        raise InputError(f"images must be of shape (n, h, w) or (n, h, w, c), not {images.shape}")
    return _array_images(images, arrays.get("labels"))


def _array_images(images: ndarray, labels: ndarray | None) -> Content:
    column = None if labels is None else label_column(labels, len(images))
    pieces = ((images[rows], None if column is None else column[rows]) for rows in pieces_of(len(images)))
    return Content(_image_pieces(pieces))


def _read_parquet(path: Path) -> Content:
    from pyarrow.dataset import dataset

    files = [str(file) for file in _parquet_files(path)]
    if not files:
        raise InputError("it holds no .parquet files")
    try:
        data = dataset(files, format="parquet")
    except (pa.ArrowException, OSError) as e:
        raise InputError(f"cannot be read as Parquet: {_first_line(e)}") from e
    names = data.schema.names
    if "image" in names:
        return Content(_image_pieces(_parquet_pieces(data, "image"), _decode_image))
    if "text" in names:
        words = _count_words(_parquet_pieces(data, "text"))
        pieces = _text_pieces(_parquet_pieces(data, "text"), words)
        return Content(pieces, words, hash_prefix=json.dumps(words))
    if "features" in names:
        return Content(_feature_pieces(_parquet_pieces(data, "features")))
    raise InputError(f"it has no column `image`, `text` or `features`, only {', '.join(names)}")


def _parquet_files(path: Path) -> list[Path]:
    return sorted(path.rglob("*.parquet")) if path.is_dir() else [path]


def _parquet_pieces(data: Any, name: str) -> Iterator[Piece]:
    """The cells of a column, and the labels. No batch is read ahead, since images may be large."""
    columns = [name, "label"] if "label" in data.schema.names else [name]
    try:
        for batch in data.to_batches(columns, batch_size=ROWS_PER_PIECE, batch_readahead=0, fragment_readahead=0):
            if len(batch):
                cells, *labels = (column.to_pylist() for column in batch.columns)
                yield cells, labels[0] if labels else None
    except (pa.ArrowException, OSError) as e:
        raise InputError(f"cannot be read as Parquet: {_first_line(e)}") from e


def _decode_image(cell: Any) -> ndarray:
    from PIL import Image

    try:
        image = Image.open(io.BytesIO(cell["bytes"]))
        return np.asarray(image if image.mode in ("L", "RGB") else image.convert("RGB"))  # of a palette, the colours
    except (OSError, KeyError, TypeError, AttributeError) as e:
        raise InputError(f"column `image` does not hold encoded images: {_first_line(e)}") from e


def _image_pieces(pieces: Iterable[Piece], decode: Callable[[Any], ndarray] = np.asarray) -> Iterator[Columns]:
    """Images (h, w[, c]) of one size -> uint8 `x` (n, c, h, w), and int64 `label`. One image is decoded at a time."""
    shapes: set[tuple[int, ...]] = set()
    for items, labels in pieces:
        for i, item in enumerate(items):
            image = decode(item)
            shapes.add(image.shape)
            if len(shapes) > 1:
                some = ", ".join(map(str, sorted(shapes)))
                raise InputError(f"images differ in size or colour: {some}; make them alike")
            if i == 0:
                images = np.empty((len(items), *image.shape), image.dtype)
            images[i] = image
        yield _with_labels(image_column(images), labels)


def _feature_pieces(pieces: Iterable[Piece]) -> Iterator[Columns]:
    """Lists of numbers of one length -> float32 `x` (n, d), and int64 `label`."""
    lengths: set[int] = set()
    for rows, labels in pieces:
        try:
            lengths.update(map(len, rows))
            if len(lengths) > 1 or not min(lengths):
                some = ", ".join(map(str, sorted(lengths)[:3]))
                raise InputError(f"features must be lists of one length, not of {some}")
            yield _with_labels(vector_column(np.array(rows, np.float32)), labels)
        except (TypeError, ValueError) as e:
            raise InputError(f"column `features` does not hold lists of numbers: {_first_line(e)}") from e


def _split_words(text: Any) -> list[str]:
    if not isinstance(text, str):
        raise InputError(f"column `text` does not hold texts, but {type(text).__name__}")
    return WORD.findall(text.lower())


def _count_words(pieces: Iterable[Piece]) -> list[str]:
    """All words, the most frequent first."""
    counts = Counter(word for texts, _ in pieces for text in texts for word in _split_words(text))
    if not counts:
        raise InputError("there is no word in any text")
    return sorted(counts, key=lambda word: (-counts[word], word))


def _text_pieces(pieces: Iterable[Piece], words: list[str]) -> Iterator[Columns]:
    """Texts -> ragged int32 `x` of the numbers of their words, and int64 `label`."""
    numbers = {word: i for i, word in enumerate(words)}
    for texts, labels in pieces:
        x = [np.array([numbers[word] for word in _split_words(text)], np.int32) for text in texts]
        yield _with_labels(x, labels)


def _with_labels(x: ndarray | list[ndarray], labels: Any) -> Columns:
    return {"x": x} if labels is None else {"x": x, "label": label_column(labels, len(x))}


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
