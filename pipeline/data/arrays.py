"""Arrays, from memory or from .npy and .npz files: checked, and turned into the columns of a table."""

import zipfile
import zlib
from collections.abc import Iterator, Sequence
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from pipeline.data.arrow_table import Columns, Content, pieces_of
from pipeline.data.files import one_line
from pipeline.data.labels import Label, encode_labels, find_classes
from pipeline.errors import InputError

Array: TypeAlias = ndarray | Tensor

MAX_ROUNDING = 1e-3
"""Distance of a pixel in [-1, 1] to the nearest of its 256 levels, at most: half precision is exact enough."""


def image_column(images: ndarray) -> ndarray:
    """Images (n, h, w) or (n, h, w, c) as (n, c, h, w).

    Raises:
        InputError: they are not uint8, or of another shape.
    """
    if images.dtype != np.uint8 or images.ndim not in (3, 4):
        shape = images.shape[1:]
        raise InputError(f"images must be uint8 of shape (h, w) or (h, w, c), not {images.dtype} of shape {shape}")
    x = images[:, None] if images.ndim == 3 else images.transpose(0, 3, 1, 2)
    if x.shape[1] not in (1, 3):
        raise InputError(f"images must have 1 or 3 channels, not {x.shape[1]}")
    return x


def vector_column(vectors: ndarray, standardize: bool) -> ndarray:
    """Vectors (n, d): float64 where they will be standardised, float32 otherwise; float32 stays as it is.

    Raises:
        InputError: a number is not finite.
    """
    wide = standardize and vectors.dtype not in (np.float32, np.float16)
    with np.errstate(over="ignore"):
        x = vectors.astype(np.float64 if wide else np.float32)
    if not np.isfinite(x).all():
        row, place = np.argwhere(~np.isfinite(x))[0]
        what = "missing" if np.isnan(vectors[row, place]) else "infinite, or beyond single precision"
        raise InputError(f"features must be finite: number {place} of item {row} of a piece is {what}")
    return x


def label_column(labels: Any, n: int) -> tuple[ndarray, list[Label]]:
    """(n,) numbers of the classes of n labels, and the classes. Raises InputError where they are no such labels."""
    column = np.asarray(labels)
    if column.shape != (n,):
        raise InputError(f"labels must be one per item, not of shape {column.shape} for {n} items")
    classes = find_classes([column])
    return encode_labels(column, classes), classes


def image_content(images: ndarray, labels: Any = None) -> Content:
    """The content of a table of images (n, h, w) or (n, h, w, c), uint8, and their labels."""
    if labels is None:
        return Content(({"x": image_column(images[rows])} for rows in pieces_of(len(images))), size=len(images))
    column, classes = label_column(labels, len(images))
    pieces = ({"x": image_column(images[rows]), "label": column[rows]} for rows in pieces_of(len(images)))
    return Content(pieces, classes=classes, size=len(images))


def read_npz(file: Any) -> Content:
    """The `images` and `labels` of an .npz file, named or open. Raises InputError where it has none."""
    if not zipfile.is_zipfile(file):
        raise InputError("cannot be read as .npz: it is no zip archive")
    with (
        one_line("cannot be read as .npz", OSError, ValueError, EOFError, zipfile.BadZipFile, zlib.error),
        np.load(file, allow_pickle=False) as archive,
    ):
        arrays = {name: archive[name] for name in ("images", "labels") if name in archive}
    if "images" not in arrays:
        raise InputError("it has no array `images`")
    images = arrays["images"]
    if images.ndim < 3:
        raise InputError(f"images must be of shape (n, h, w) or (n, h, w, c), not {images.shape}")
    return image_content(images, arrays.get("labels"))


def read_npy(path: str) -> Content:
    """The images or vectors of an .npy file, which is mapped into memory. Raises InputError where it has none."""
    with one_line("cannot be read as .npy", OSError, ValueError, EOFError):
        x = np.load(path, mmap_mode="r", allow_pickle=False)
    if x.ndim == 2 and x.dtype.kind in "iub":
        x = x.astype(np.float64)
    try:
        return array_content(x, None, standardize=True)
    except InputError as e:
        raise InputError(f"the array, {e.value}, {e.why}") from e


def array_content(x: Array, labels: Array | Sequence[Any] | None, standardize: bool) -> Content:
    """The content of a table of images or vectors, and of their labels.

    Args:
        x: images (n, h, w), (n, h, w, c) or (n, c, h, w), uint8 or float in [-1, 1]; or vectors (n, d), float.
        labels: (n,) whole numbers, words or booleans; -1 or None: unlabelled.
        standardize: whether networks see vectors in units of their standard deviation.

    Raises:
        InputError: `x` or `labels` is of another type or shape. Reading the content may raise it, too.
    """
    x = _numpy(x)
    try:
        images = _checked(x)
    except InputError as e:
        raise InputError(e.why, "x", _kind(x)) from None
    column, classes = None, None
    if labels is not None:
        try:
            column, classes = label_column(_numpy(labels), len(x))
        except InputError as e:
            raise InputError(e.why, "labels", _kind(_numpy(labels))) from None
    prefix = "standardize" if standardize and x.ndim == 2 else ""
    pieces = _pieces(images, column, standardize)
    return Content(pieces, standardize=standardize, hash_prefix=prefix, classes=classes, size=len(x))


def _checked(x: ndarray) -> ndarray:
    """Images with their channels, if any, last; vectors as they are."""
    dimensions = (3, 4) if x.dtype == np.uint8 else (2, 3, 4) if x.dtype.kind == "f" else ()
    if x.ndim not in dimensions:
        raise InputError("must be uint8 or float images, or float vectors of shape (n, d)")
    if not x.size:
        raise InputError("holds no items")
    if x.ndim < 4:
        return x
    axes = [axis for axis in (1, 3) if x.shape[axis] in (1, 3)]
    if len(axes) == 2:
        raise InputError("its channels may be first or last, by its shape; leave out the axis of a single one")
    return np.moveaxis(x, axes[0], 3) if axes else x


def _pieces(x: ndarray, labels: ndarray | None, standardize: bool) -> Iterator[Columns]:
    for rows in pieces_of(len(x)):
        try:
            if x.ndim == 2:
                column = vector_column(x[rows], standardize)
            else:
                column = image_column(_levels(x[rows]) if x.dtype.kind == "f" else x[rows])
        except InputError as e:
            raise InputError(e.why, "x", _kind(x)) from None
        yield {"x": column} if labels is None else {"x": column, "label": labels[rows]}


def _levels(images: ndarray) -> ndarray:
    """The integers k of pixels k / 127.5 - 1."""
    levels = np.round((images.astype(np.float64) + 1) * 127.5)
    inside = levels.min() >= 0 and levels.max() <= 255
    if not (inside and np.abs(levels / 127.5 - 1 - images).max() <= MAX_ROUNDING):
        raise InputError("pixels must be k / 127.5 - 1, for integers k of 0 to 255; pixels in [0, 1] become 2 * x - 1")
    return levels.astype(np.uint8)


def _numpy(array: Any) -> ndarray:
    if isinstance(array, Tensor):
        array = array.detach().cpu()
        return (array.float() if array.dtype == torch.bfloat16 else array).numpy()
    return np.asarray(array)


def _kind(x: ndarray) -> str:
    return f"{x.dtype} of shape {x.shape}"
