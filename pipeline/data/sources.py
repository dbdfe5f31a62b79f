"""Sources of data: what a name, path or URI stands for, and how it is read into a table."""

import io
import os
from collections.abc import Callable
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa

from pipeline.data.arrow_table import Content, Table, cached_table
from pipeline.data.cache import cache_folder, temporary_cache
from pipeline.data.files import Files, SplitName, find_files, is_remote, read_file
from pipeline.data.named import DENSITIES, TORCHVISION, is_named, read_named
from pipeline.errors import InputError

FORMAT = 5
"""Version of the cached tables; tables of another version are written again."""


class ReadSettings(NamedTuple):
    """How files are read."""

    split: SplitName = "train"
    """Which files of a folder, where their names say `train`, `test` or `validation`."""
    columns: tuple[str, ...] = ()
    """Columns of numbers that are the features; empty: `features`, or all but the label."""
    label_column: str = "label"
    """The column of labels; empty: none."""
    image_column: str = "image"
    """The column of images."""
    text_column: str = "text"
    """The column of texts."""
    background: str = "white"
    """The colour behind transparent pixels."""


class Source(NamedTuple):
    """A data set that can be read."""

    identity: str
    """It changes whenever the data do."""
    read: Callable[[], Content]


def resolve_source(source: str) -> str:
    """A name or URI as it is, a path as an absolute one, so that every process finds it."""
    return source if is_named(source) or is_remote(source) else os.path.abspath(os.path.expanduser(source))


def check_path(source: str) -> None:
    """Raise InputError where a source that is no name is no file or folder either."""
    path = os.path.expanduser(source)
    if is_remote(source) or os.path.exists(path):
        return
    if os.path.islink(path):
        raise InputError("is a link to nothing")
    names = ", ".join(["digits", *DENSITIES, *TORCHVISION])
    raise InputError(f"neither a data set ({names}) nor a file or folder that exists")


def open_source(source: str, settings: ReadSettings) -> Table:
    """The source's table: an .arrow file as it is, anything else from the cache, where it is written first.

    Raises:
        InputError: there is no such source, or it cannot be read.
    """
    cache = cache_folder()
    try:
        if is_named(source) or source.endswith(".arrow"):
            _refuse(settings)
        if source.endswith(".arrow"):
            return _open_arrow(source)
        identity, read = find_source(source, settings, cache)
        name = f"{sha256(f'{FORMAT} {identity}'.encode()).hexdigest()[:16]}.arrow"
        try:
            return cached_table(cache / "data" / name, read)
        except OSError as e:
            return cached_table(temporary_cache(e) / "data" / name, read)
    except OSError as e:
        file = e.filename or f"in the cache {cache_folder()}"
        raise InputError(f"cannot be read or cached: {e.strerror or e}: {file}", "data", source) from e
    except InputError as e:
        raise e if e.field else InputError(e.why, "data", source) from e


def _refuse(settings: ReadSettings) -> None:
    """Raise InputError where settings of files are set for data that are in no such files."""
    for name, default in ReadSettings._field_defaults.items():
        if (value := getattr(settings, name)) != default:
            raise InputError("is for pictures and tables in files, which these data are not", name, value)


def _open_arrow(source: str) -> Table:
    check_path(source)
    try:
        return Table(Path(source).expanduser())
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as e:
        raise InputError("it is no Arrow file that Dataset.from_arrays wrote") from e


def find_source(source: str, settings: ReadSettings, cache: Path) -> Source:
    """The data set that a name, a path or a URI stands for.

    Args:
        source: the name, path or URI.
        settings: how files are read.
        cache: the folder where downloads are.

    Raises:
        InputError: neither a known name nor a file or folder that can be read.
    """
    if is_named(source):
        return Source(source, partial(read_named, source, cache))
    check_path(source)
    files = find_files(source, settings.split)
    digest = sha256("\n".join(file.stamp for file in files.files).encode(errors="surrogateescape")).hexdigest()
    return Source(f"{files.kind} {digest} {tuple(settings)}", partial(_read_files, files, settings))


def _read_files(files: Files, settings: ReadSettings) -> Content:
    if files.kind == "arrays":
        return _read_array(files)._replace(files=1)
    content = _read_pictures(files, settings) if files.kind == "pictures" else _read_table(files, settings)
    return content._replace(files=len(files.files), notes=files.notes)


def _read_array(files: Files) -> Content:
    from pipeline.data.arrays import read_npy, read_npz

    path = files.files[0].path
    if path.lower().endswith(".npy"):
        if not os.path.exists(path):
            raise InputError("an .npy file must be on this machine's disk: copy it first")
        return read_npy(path)
    return read_npz(path if os.path.exists(path) else io.BytesIO(read_file(files, path)))


def _read_pictures(files: Files, settings: ReadSettings) -> Content:
    from pipeline.data.pictures import folder_pictures, picture_pieces

    pictures, classes = folder_pictures(files, bool(settings.label_column))
    pieces = picture_pieces(pictures, settings.background, files.notes)
    return Content(pieces, classes=classes, size=len(files.files))


def _read_table(files: Files, settings: ReadSettings) -> Content:
    from pipeline.data.features import feature_names, feature_pieces
    from pipeline.data.pictures import picture_pieces, table_pictures
    from pipeline.data.tables import open_table
    from pipeline.data.texts import text_content

    words = settings.image_column, settings.text_column
    table = open_table(files, settings.label_column, words, ("features", *settings.columns))
    for field in ("label_column", "image_column", "text_column"):
        name = getattr(settings, field)
        if name not in table.schema.names and name and name != ReadSettings._field_defaults[field]:
            raise InputError(f"there is no such column, only {', '.join(table.schema.names)}", field, name)
    about: dict[str, Any] = {"classes": table.classes if table.label_column else None, "size": table.size}
    if not settings.columns and settings.image_column in table.schema.names:
        pictures = table_pictures(table, settings.image_column)
        return Content(picture_pieces(pictures, settings.background, files.notes), **about)
    if not settings.columns and settings.text_column in table.schema.names:
        return text_content(partial(table.rows, [settings.text_column]), settings.text_column)._replace(**about)
    columns = _feature_columns(table, settings)
    return Content(feature_pieces(table, columns), names=feature_names(table, columns), **about)


def _feature_columns(table: Any, settings: ReadSettings) -> tuple[str, ...]:
    """The columns that are features. Raises InputError where there are none."""
    names = [name for name in table.schema.names if name not in table.partition_columns]
    for name in settings.columns:
        if name not in names:
            raise InputError(f"there is no such column, only {', '.join(names)}", "columns", name)
    if settings.columns or "features" in names:
        return settings.columns or ("features",)
    from pipeline.data.features import is_numeric

    columns = tuple(name for name in names if name != table.label_column)
    if other := [name for name in columns if not is_numeric(table.schema.field(name).type)]:
        usual = ", ".join(f"`{name}`" for name in (settings.image_column, settings.text_column, "features"))
        why = f"it has no column {usual}, and {other[0]} holds {table.schema.field(other[0]).type}: choose columns"
        raise InputError(f"{why} of numbers among {', '.join(names)}")
    if not columns:
        raise InputError(f"it has no column but {', '.join(names)}")
    return columns
