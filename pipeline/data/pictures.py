"""Pictures: encoded images as the pixels that they show.

The first frame, turned as its EXIF orientation says, in grey or sRGB as its numbers are (colour profiles are ignored),
with transparent pixels on a background. 16-bit grey is scaled to 8 bits; 32-bit and float pictures have no range of
their own and are refused.
"""

import io
import os
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import cache, partial
from itertools import islice
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import pyarrow as pa
from numpy import ndarray

from pipeline.data.arrow_table import ROWS_PER_PIECE, Columns
from pipeline.data.files import Files, count, first_line, read_file
from pipeline.data.labels import encode_labels, find_classes, word_type
from pipeline.data.tables import FileTable, Rows
from pipeline.errors import InputError

if TYPE_CHECKING:
    from PIL.Image import Image as PILImage

THREADS = min(4, os.cpu_count() or 1)
"""Threads that decode; they change no number."""
BYTES_PER_PIECE = 1 << 22
"""Pixels that are decoded at a time, at most, beside one picture per thread."""
ROWS_AT_ONCE = 100
"""Encoded pictures that are in memory at once, beside those that pyarrow reads ahead in a file."""


class Picture(NamedTuple):
    """A picture to be read."""

    place: str
    """File and row, for a message."""
    read: Callable[[], bytes]
    label: int | None


class Decoded(NamedTuple):
    """What a picture shows."""

    pixels: ndarray
    """(h, w) or (h, w, 3) uint8."""
    is_transparent: bool
    has_frames: bool
    """Whether only the first of several frames is read."""


def parse_colour(colour: str) -> tuple[int, int, int]:
    """Red, green and blue of a colour by its name or as #rrggbb. Raises InputError where it is none."""
    from PIL import ImageColor

    try:
        red, green, blue, *alpha = ImageColor.getrgb(colour)
    except ValueError as e:
        raise InputError("must be a colour: black, white, #rrggbb", "background", colour) from e
    if alpha and alpha[0] < 255:
        raise InputError("must be opaque", "background", colour)
    return red, green, blue


def folder_pictures(files: Files, has_labels: bool) -> tuple[Iterable[Picture], list[Any] | None]:
    """The pictures of a folder, and their classes: the folders below it, if there are any."""
    names = [_class_folder(files, file.path) if has_labels else None for file in files.files]
    column = pa.array(names, pa.string()).cast(word_type(name for name in names if name))
    classes = find_classes([column])
    labels = encode_labels(column, classes) if classes else [None] * len(names)
    pictures = (
        Picture(files.name(file.path), partial(read_file, files, file.path), label)
        for file, label in zip(files.files, labels, strict=True)
    )
    return pictures, classes or None


def _class_folder(files: Files, path: str) -> str | None:
    """The first folder of a path that names no split, if there is one."""
    folders = files.name(path).split("/")[:-1]
    if files.in_splits:
        folders = folders[1:]
    return folders[0].removeprefix("label=") if folders else None


def table_pictures(table: FileTable, column: str) -> Iterator[Picture]:
    """The pictures in a column: bytes, paths relative to the file, or structs of `bytes` and `path`."""
    for rows in table.rows([column], ROWS_AT_ONCE):
        labels = [None] * len(rows.columns[column]) if rows.label is None else rows.label.tolist()
        for i, (cell, label) in enumerate(zip(rows.columns[column].to_pylist(), labels, strict=True)):
            yield Picture(rows.place(i), partial(_read_cell, table.files, rows, cell), label)


def _read_cell(files: Files, rows: Rows, cell: Any) -> bytes:
    data, path = (cell.get("bytes"), cell.get("path")) if isinstance(cell, dict) else (cell, cell)
    if isinstance(data, bytes):
        return data
    if not isinstance(path, str) or not path:
        raise InputError("it is missing" if cell is None or isinstance(cell, dict) else f"it is {cell!r:.40}")
    return read_file(files, path if os.path.isabs(path) else f"{os.path.dirname(rows.file)}/{path}")


def picture_pieces(pictures: Iterable[Picture], background: str, notes: list[str]) -> Iterator[Columns]:
    """uint8 `x` (n, c, h, w) and int64 `label` of pictures of one size, a piece at a time.

    Pictures are grey as long as none has colours. A few are decoded at a time, by threads.

    Args:
        pictures: to be read.
        background: the colour behind transparent pixels.
        notes: receives what was done to the pictures, at the end.

    Raises:
        InputError: a picture cannot be read, or is of another size.
    """
    from PIL import Image

    colour, stream, counts = parse_colour(background), iter(pictures), Counter[str]()
    first_size: tuple[str, tuple[int, ...]] | None = None
    with ThreadPoolExecutor(THREADS) as pool, warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)  # of a picture that claims to be huge
        n = 1
        while piece := list(islice(stream, n)):
            decoded = list(pool.map(partial(_read_picture, colour), piece))
            for picture, one in zip(piece, decoded, strict=True):
                first_size = first_size or (picture.place, one.pixels.shape[:2])
                if one.pixels.shape[:2] != first_size[1]:
                    raise InputError(_other_size(picture.place, one.pixels.shape[:2], *first_size))
            counts["transparent"] += sum(one.is_transparent for one in decoded)
            counts["frames"] += sum(one.has_frames for one in decoded)
            x = _stack([one.pixels for one in decoded])
            labels = [picture.label for picture in piece]
            yield {"x": x} if labels[0] is None else {"x": x, "label": np.array(labels, np.int64)}
            n = max(THREADS, min(ROWS_PER_PIECE, BYTES_PER_PIECE // max(1, decoded[0].pixels.size)))
    if counts["transparent"]:
        notes.append(f"{count(counts['transparent'], 'picture')} with transparent pixels, set on {background}")
    if counts["frames"]:
        notes.append(f"{count(counts['frames'], 'picture')} with several frames, of which the first is read")


def _other_size(place: str, size: tuple[int, ...], first: str, first_size: tuple[int, ...]) -> str:
    return f"images differ in size: {place} is {size}, {first} is {first_size} (height, width); make them alike"


def _stack(pictures: list[ndarray]) -> ndarray:
    if len({picture.ndim for picture in pictures}) > 1:
        pictures = [p if p.ndim == 3 else np.repeat(p[..., None], 3, 2) for p in pictures]
    x = np.stack(pictures)
    return x[:, None] if x.ndim == 3 else x.transpose(0, 3, 1, 2)


def _read_picture(background: tuple[int, int, int], picture: Picture) -> Decoded:
    try:
        return decode_picture(picture.read(), background)
    except InputError as e:
        raise InputError(f"the image in {picture.place} cannot be read: {e.why}") from e
    except Exception as e:  # whatever PIL's decoders, and the clients of stores, raise
        unknown = "it is of no known format" if type(e).__name__ == "UnidentifiedImageError" else first_line(e)
        raise InputError(f"the image in {picture.place} cannot be read: {unknown}") from e


def decode_picture(data: bytes, background: tuple[int, int, int]) -> Decoded:
    """The pixels that an encoded picture shows: grey where picture and background are.

    Args:
        data: the encoded picture.
        background: red, green, blue of what is behind transparent pixels.

    Raises:
        InputError: its numbers have no range.
        Exception: whatever PIL raises for a picture that is none, or not whole.
    """
    from PIL import Image, ImageOps

    image: Image.Image = Image.open(io.BytesIO(data))
    has_frames = image.format != "MPO" and getattr(image, "is_animated", False)  # cameras add small frames
    levels = _levels_of(image)
    image = ImageOps.exif_transpose(image)
    if levels:
        grey, alpha = _scaled(image, *levels)
        pixels = _behind(grey[..., None], alpha, background)
    elif image.has_transparency_data:
        rgba = np.asarray(image.convert("RGBA"))
        colours = rgba[..., :1] if image.mode in ("1", "L", "LA", "La") else rgba[..., :3]
        alpha, pixels = rgba[..., 3], _behind(colours, rgba[..., 3], background)
    else:
        alpha, pixels = None, np.asarray(_opaque(image))
    transparent = alpha is not None and bool((alpha < 255).any())
    return Decoded(pixels[..., 0] if pixels.ndim == 3 and pixels.shape[2] == 1 else pixels, transparent, has_frames)


def _levels_of(image: "PILImage") -> tuple[int, bool] | None:
    """The greatest grey of a 16-bit picture, and whether it is black; None for 8 bits."""
    if image.mode == "I" and image.format in ("PNG", "PPM"):  # PIL's mode for 16 bits there
        return 65535, False
    if image.mode.startswith("I;16"):
        tags = getattr(image, "tag_v2", {})  # of TIFF: bits, and 0 where white is 0
        bits = tags.get(258, (16,))[0]
        return (1 << bits) - 1, tags.get(262) == 0
    if image.mode in ("I", "F"):
        what = "32-bit integers" if image.mode == "I" else "floats"
        raise InputError(f"its pixels are {what} (mode {image.mode}), whose range is not known: save it with 8 or 16")
    return None


def _scaled(image: "PILImage", most: int, inverted: bool) -> tuple[ndarray, ndarray | None]:
    """8-bit grey, and alpha where one level is transparent."""
    values = np.asarray(image).astype(np.int64)
    grey = (values * 255 + most // 2) // most
    clear = image.info.get("transparency")
    alpha = None if clear is None else np.where(values == clear, 0, 255)
    return (255 - grey if inverted else grey).clip(0, 255).astype(np.uint8), alpha


def _behind(colours: ndarray, alpha: ndarray | None, background: tuple[int, int, int]) -> ndarray:
    """Colours (h, w, 1 or 3) on a background, in the numbers that are displayed."""
    if alpha is None or (alpha == 255).all():
        return colours
    if colours.shape[2] == 1 and len(set(background)) > 1:
        colours = np.repeat(colours, 3, 2)
    behind, a = np.array(background[: colours.shape[2]], np.int64), alpha[..., None].astype(np.int64)
    return ((a * colours + (255 - a) * behind + 127) // 255).astype(np.uint8)


def _opaque(image: "PILImage") -> "PILImage":
    if image.mode in ("L", "RGB"):
        return image
    if image.mode == "LAB":
        from PIL import ImageCms

        shown = ImageCms.applyTransform(image, _lab_to_srgb())
        assert shown
        return shown
    return image.convert("L" if image.mode == "1" else "RGB")  # of a palette, the colours


@cache
def _lab_to_srgb() -> Any:
    from PIL import ImageCms

    profiles = ImageCms.createProfile("LAB"), ImageCms.createProfile("sRGB")
    return ImageCms.buildTransform(*profiles, "LAB", "RGB")
