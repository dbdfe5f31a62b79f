"""The cached table: columns in a memory-mapped Arrow file, written once and opened by any number of processes."""

import contextlib
import io
import json
import math
import mmap
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, NamedTuple, TypeAlias

import numpy as np
import pyarrow as pa
from numpy import ndarray

from pipeline.data.files import one_line
from pipeline.data.labels import Label, are_numbers
from pipeline.errors import InputError

Columns: TypeAlias = Mapping[str, ndarray | list[ndarray]]
"""By name: an array (n, *shape) of items of one size, or a ragged column, a list of n arrays (length, )."""

ROWS_PER_PIECE = 1000
"""Rows that are in memory at once while a table is written."""
BYTES_AT_ONCE = 1 << 20
"""Bytes that are copied or hashed at once."""


class Content(NamedTuple):
    """What a table is written from."""

    pieces: Iterable[Columns]
    """The rows, a piece at a time. Every piece has the same columns, and at least one row."""
    words: list[str] | None = None
    """The words that the numbers in ragged columns stand for."""
    standardize: bool = True
    """Whether networks see vectors in units of their standard deviation, rather than as they are."""
    hash_prefix: str = ""
    """Hashed before the columns, to tell apart contents that differ in more than their columns."""
    classes: Sequence[Label] | None = None
    """What the numbers in the column `label` stand for; None: there is none."""
    names: Sequence[str] = ()
    """Of the features, where each has its own."""
    files: int = 0
    """Files that the rows are read from."""
    size: int = 0
    """Number of rows, for the progress bar; 0: not known."""
    notes: Sequence[str] = ()
    """What a user should know about how the rows were read, a sentence each; read after the pieces."""

    @property
    def prefix(self) -> str:
        """What is hashed before the columns."""
        usual = self.classes is None or are_numbers(self.classes)
        return self.hash_prefix if usual else f"{self.hash_prefix}{json.dumps(self.classes)}"


class Table:
    """An Arrow file of fixed-size and ragged columns, memory-mapped. A pickled table is the path of its file."""

    def __init__(self, path: Path):
        self.path = path.absolute()
        batch = pa.ipc.open_file(pa.memory_map(str(path))).get_batch(0)
        metadata = batch.schema.metadata
        self.content_hash: str = metadata[b"content"].decode()
        """A hash of the content, wherever it comes from."""
        self.words: list[str] = json.loads(metadata[b"words"])
        """The words that the numbers in ragged columns stand for; empty where there are none."""
        self.standardize: bool = json.loads(metadata[b"standardize"])
        """Whether networks see vectors in units of their standard deviation, rather than as they are."""
        about = json.loads(metadata.get(b"about", b"{}"))
        self.names: list[str] = about.get("names", [])
        """Of the features, where each has its own."""
        self.files: int = about.get("files", 0)
        """Files that the rows were read from."""
        self.notes: list[str] = about.get("notes", [])
        """What a user should know about how the rows were read, a sentence each."""
        self._rows = batch.num_rows
        self._columns = {
            field.name: _open_column(field, column) for field, column in zip(batch.schema, batch.columns, strict=True)
        }
        self.classes: list[Label] = about.get("classes", self._old_classes())
        """What the numbers in the column `label` stand for; empty where there are none."""

    def _old_classes(self) -> list[Label]:
        """The classes of a table that does not name them: all numbers up to the greatest label."""
        return list(range(int(self.column("label").max()) + 1)) if "label" in self else []

    def __len__(self) -> int:
        return self._rows

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    def __reduce__(self) -> tuple[Any, ...]:
        return Table, (self.path,)

    def column(self, name: str) -> ndarray:
        """A fixed-size column as an array (n, *shape), not copied."""
        column = self._columns[name]
        if isinstance(column, tuple):
            raise TypeError(f"column {name} is ragged: take its items")
        return column

    def ragged(self, name: str, rows: ndarray) -> list[ndarray]:
        """The items of a ragged column in some rows, not copied."""
        values, offsets = self._columns[name]
        return [values[offsets[i] : offsets[i + 1]] for i in rows]


def _open_column(field: pa.Field, column: pa.Array) -> ndarray | tuple[ndarray, ndarray]:
    if pa.types.is_large_list(field.type):
        return column.values.to_numpy(zero_copy_only=True), column.offsets.to_numpy(zero_copy_only=True)
    shape = tuple(int(size) for size in field.metadata[b"shape"].split(b"x") if size)
    return column.values.to_numpy(zero_copy_only=True).reshape(-1, *shape)


def cached_table(path: Path, read: Callable[[], Content]) -> Table:
    """Open the table at `path`, written from `read()` if it is not there yet, or cannot be read.

    Several processes may do so at once: each writes a file of its own and renames it, and all files are equal. A
    damaged file is written again.
    """
    try:
        return Table(path)
    except PermissionError:
        raise
    except (FileNotFoundError, NotADirectoryError):
        pass
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError):
        print(f"{path} is damaged, and is written again", file=sys.stderr)
    with _written_table(path.parent, read()) as (part, _):
        os.replace(part, path)
    return Table(path)


def store_table(folder: Path, content: Content) -> Path:
    """Write a table into a folder, under the hash of its content."""
    with _cache_errors(folder), _written_table(folder, content) as (part, content_hash):
        path = folder / f"{content_hash}.arrow"
        if not path.exists():
            os.replace(part, path)
    return path


def _cache_errors(folder: Path) -> contextlib.AbstractContextManager[None]:
    return one_line(f"the cache {folder} (EBM_CACHE) cannot be written to", OSError)


def pieces_of(n: int) -> Iterator[slice]:
    """The rows 0 to n - 1, a piece at a time."""
    return (slice(i, min(i + ROWS_PER_PIECE, n)) for i in range(0, n, ROWS_PER_PIECE))


@contextlib.contextmanager
def _written_table(folder: Path, content: Content) -> Iterator[tuple[Path, str]]:
    """A temporary file beside the final one, and the hash of the content.

    Each column goes to a file of its own first, since an Arrow file holds the columns of a batch one after the other.
    So memory holds one piece, and the table has one batch, whose columns are read without a copy.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=folder, suffix=".part") as temporary:
        columns: dict[str, _ColumnFile] = {}
        with _progress(content.size) as bar:
            for piece in content.pieces:
                for name, part in piece.items():
                    if name not in columns:
                        columns[name] = _ColumnFile(name, Path(temporary) / f"{name}.column", part)
                    columns[name].append(part)
                bar.update(len(piece["x"]))
        if not columns:
            raise InputError("holds no items")
        digest = sha256(content.prefix.encode())
        for column in columns.values():
            column.open_map()
            column.hash_into(digest)
        content_hash = digest.hexdigest()[:16]
        metadata = {"content": content_hash, "words": json.dumps(content.words or [])}
        metadata["standardize"] = json.dumps(content.standardize)
        about = {"names": list(content.names), "files": content.files, "notes": list(content.notes)}
        about |= {} if content.classes is None else {"classes": list(content.classes)}
        metadata["about"] = json.dumps(about)
        fields, arrays = zip(*(column.arrow() for column in columns.values()), strict=True)
        schema = pa.schema(list(fields), metadata=metadata)
        path = Path(temporary) / "table.arrow"
        with _ArrowSink(path, list(columns.values())) as sink, pa.ipc.new_file(sink, schema) as writer:
            writer.write_batch(pa.record_batch(list(arrays), schema=schema))
        yield path, content_hash


def _progress(size: int) -> Any:
    from tqdm import tqdm

    return tqdm(total=size or None, desc="reading the data", unit="item", delay=2, mininterval=1, leave=False)


class _ColumnFile:
    """A column that is written to a file, a piece at a time, and then read as a memory map."""

    def __init__(self, name: str, path: Path, part: ndarray | list[ndarray]):
        self.name, self.path = name, path
        self.ragged = isinstance(part, list)
        self.dtype, self.shape = part[0].dtype, part[0].shape[:0] if self.ragged else part[0].shape
        self.rows = 0
        self.lengths: list[int] = []
        """Of the rows, where they are ragged."""

    def append(self, part: ndarray | list[ndarray]) -> None:
        """Write rows."""
        self.rows += len(part)
        if isinstance(part, list):
            self.lengths += map(len, part)
            part = np.concatenate(part)
        elif part.shape[1:] != self.shape:
            part = self._match_channels(part)
        assert part.dtype == self.dtype
        with self.path.open("ab") as file:
            file.write(np.ascontiguousarray(part).data)

    def _match_channels(self, part: ndarray) -> ndarray:
        """Repeat the one channel of grey images as the colours of others: of `part`, or of all rows so far."""
        colour = (3, *self.shape[1:])
        if self.shape[0] == 1:
            grey, rows = self.path.rename(self.path.with_suffix(".grey")), self.rows - len(part)
            written = np.memmap(grey, self.dtype, "r", shape=(rows, *self.shape))
            with self.path.open("wb") as file:
                for some in pieces_of(rows):
                    file.write(np.repeat(written[some], 3, 1).data)
            grey.unlink()
            self.shape = colour
        return np.broadcast_to(part, (len(part), *colour))

    def open_map(self) -> None:
        """Map the whole column into memory."""
        with self.path.open("rb") as file:
            self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)

    def release(self) -> None:
        """Let go of the pages read so far, which otherwise count as memory of this process."""
        self._map.madvise(mmap.MADV_DONTNEED)

    def hash_into(self, digest: Any) -> None:
        """Hash the column as one array, or as one array per row where it is ragged."""
        start, view = 0, memoryview(self._map)
        for shape in [(n,) for n in self.lengths] if self.ragged else [(self.rows, *self.shape)]:
            digest.update(f"{self.name} {self.dtype} {shape}".encode())
            end = start + math.prod(shape) * self.dtype.itemsize
            for i in range(start, end, BYTES_AT_ONCE):
                digest.update(view[i : min(i + BYTES_AT_ONCE, end)])
                self.release()
            start = end

    def arrow(self) -> tuple[pa.Field, pa.Array]:
        """The column as an Arrow array in the memory map."""
        values = pa.array(np.frombuffer(self._map, self.dtype))
        if self.ragged:
            array = pa.LargeListArray.from_arrays(np.cumsum([0, *self.lengths], dtype=np.int64), values)
            return pa.field(self.name, array.type), array
        array = pa.FixedSizeListArray.from_arrays(values, math.prod(self.shape))
        return pa.field(self.name, array.type, metadata={"shape": "x".join(map(str, self.shape))}), array


class _ArrowSink(io.BufferedWriter):
    """A file that is written in parts, after each of which the mapped columns are released."""

    def __init__(self, path: Path, columns: list[_ColumnFile]):
        super().__init__(io.FileIO(path, "w"))
        self._columns = columns

    def write(self, data: Any) -> int:
        view = memoryview(data).cast("B")
        for i in range(0, len(view), BYTES_AT_ONCE):
            super().write(view[i : i + BYTES_AT_ONCE])
            for column in self._columns:
                column.release()
        return len(view)
