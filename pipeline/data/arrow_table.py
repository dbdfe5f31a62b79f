"""Columns in a memory-mapped Arrow file: read once, opened by any number of processes without a copy."""

import json
import os
import tempfile
from collections.abc import Callable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TypeAlias

import numpy as np
import pyarrow as pa
from numpy import ndarray

Columns: TypeAlias = Mapping[str, ndarray | list[ndarray]]
"""By name: an array (n, *shape) of items of one size, or a list of n arrays (length, ) of any length."""


class Table:
    """An Arrow file of fixed-size and ragged columns, memory-mapped."""

    def __init__(self, path: Path):
        self._table = pa.ipc.open_file(pa.memory_map(str(path))).read_all().combine_chunks()
        self.content: str = self._table.schema.metadata[b"content"].decode()
        """A hash of what is in it, wherever it came from."""
        self.words: list[str] = json.loads(self._table.schema.metadata.get(b"words", b"[]"))
        """What the numbers in ragged columns stand for."""
        self._columns = {name: self._open(name) for name in self._table.column_names}

    def __len__(self) -> int:
        return int(self._table.num_rows)

    def __contains__(self, name: str) -> bool:
        return name in self._columns

    def column(self, name: str) -> ndarray:
        """A fixed-size column as an array (n, *shape), not copied."""
        column = self._columns[name]
        if isinstance(column, tuple):
            raise TypeError(f"column {name} is ragged: take its items")
        return column

    def ragged(self, name: str, index: ndarray) -> list[ndarray]:
        """Items of a ragged column, not copied."""
        flat, offsets = self._columns[name]
        return [flat[offsets[i] : offsets[i + 1]] for i in index]

    def _open(self, name: str) -> ndarray | tuple[ndarray, ndarray]:
        chunk = self._table.column(name).chunk(0)
        if pa.types.is_large_list(chunk.type):
            return chunk.values.to_numpy(zero_copy_only=True), chunk.offsets.to_numpy(zero_copy_only=True)
        shape = tuple(int(s) for s in self._table.field(name).metadata[b"shape"].split(b"x") if s)
        return chunk.values.to_numpy(zero_copy_only=True).reshape(-1, *shape)


def _array(name: str, column: ndarray | list[ndarray]) -> tuple[pa.Field, pa.Array]:
    if isinstance(column, list):
        offsets = np.cumsum([0, *map(len, column)], dtype=np.int64)
        array = pa.LargeListArray.from_arrays(offsets, np.concatenate(column))
        return pa.field(name, array.type), array
    size = int(np.prod(column.shape[1:]))
    array = pa.FixedSizeListArray.from_arrays(pa.array(np.ascontiguousarray(column).reshape(-1)), size)
    return pa.field(name, array.type, metadata={"shape": "x".join(map(str, column.shape[1:]))}), array


def _content(columns: Columns, words: list[str]) -> str:
    digest = sha256(json.dumps(words).encode() if words else b"")
    for name, column in columns.items():
        for part in [column] if isinstance(column, ndarray) else column:
            digest.update(f"{name} {part.dtype} {part.shape}".encode())
            digest.update(np.ascontiguousarray(part).data)
    return digest.hexdigest()[:16]


def cached_table(path: Path, columns: Callable[[], Columns | tuple[Columns, list[str]]]) -> Table:
    """Open the table at `path`, made from `columns()` if it is not there yet: columns, or those of texts and the words.

    Safe when several processes do so at once: each writes a file of its own and renames it, and any of them is right.
    """
    if not path.exists():
        found = columns()
        made, words = found if isinstance(found, tuple) else (found, [])
        path.parent.mkdir(parents=True, exist_ok=True)
        fields, arrays = zip(*(_array(name, column) for name, column in made.items()), strict=True)
        about = {"content": _content(made, words), "words": json.dumps(words)}
        table = pa.table(list(arrays), schema=pa.schema(list(fields), metadata=about))
        handle, part = tempfile.mkstemp(dir=path.parent, suffix=".part")
        os.close(handle)
        try:
            with pa.OSFile(part, "wb") as sink, pa.ipc.new_file(sink, table.schema) as writer:
                writer.write_table(table)
            os.replace(part, path)
        finally:
            Path(part).unlink(missing_ok=True)
    return Table(path)
