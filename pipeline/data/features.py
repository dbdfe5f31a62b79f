"""Features: columns of numbers, or of lists of numbers of one length, as vectors."""

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy import ndarray

from pipeline.data.arrow_table import Columns
from pipeline.data.tables import FileTable, Rows
from pipeline.errors import InputError


def feature_pieces(table: FileTable, columns: Sequence[str]) -> Iterator[Columns]:
    """`x` (n, d), the columns side by side, and int64 `label`, a piece at a time.

    Numbers are float64, or float32 where all columns are.

    Raises:
        InputError: a column holds no numbers, or one is missing or not finite, or lists differ in length.
    """
    types = [_number_type(table.schema.field(name).type, name) for name in columns]
    single = all(pa.types.is_float32(kind) or pa.types.is_float16(kind) for kind in types)
    lengths: dict[str, int] = {}
    for rows in table.rows(columns):
        blocks = [_block(rows, name, lengths).astype(np.float32 if single else np.float64) for name in columns]
        x = np.concatenate(blocks, 1)
        yield {"x": x} if rows.label is None else {"x": x, "label": rows.label}


def feature_names(table: FileTable, columns: Sequence[str]) -> list[str]:
    """The names of the coordinates of plain columns; empty where a column is one of lists."""
    return [] if any(_is_list(table.schema.field(name).type) for name in columns) else list(columns)


def is_numeric(kind: Any) -> bool:
    """Whether a column of a type holds numbers, or lists of them, which can be features."""
    try:
        _number_type(kind, "")
    except InputError:
        return False
    return True


def _is_list(kind: Any) -> bool:
    types = pa.types
    return types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind)


def _number_type(kind: Any, name: str) -> Any:
    """The type of a column's numbers. Raises InputError where it holds none."""
    one = kind.value_type if _is_list(kind) else kind
    one = one.value_type if pa.types.is_dictionary(one) else one
    types = pa.types
    is_number = types.is_integer(one) or types.is_floating(one) or types.is_boolean(one)
    is_number = is_number or types.is_decimal(one) or types.is_temporal(one) or types.is_null(one)
    if not is_number or types.is_interval(one):
        raise InputError(f"column {name} holds {kind}, which are no numbers")
    return one


def _block(rows: Rows, name: str, lengths: dict[str, int]) -> ndarray:
    """(n, k) numbers of a column."""
    column = rows.columns[name]
    if column.null_count:
        raise _bad(rows, name, int(np.argmax(column.is_null().to_numpy(zero_copy_only=False))), "is missing")
    width = 1
    if _is_list(column.type):
        sizes = pc.list_value_length(column).to_numpy(zero_copy_only=False)
        width = lengths.setdefault(name, int(sizes[0]))
        if (sizes != width).any() or not width:
            some = ", ".join(map(str, sorted({width, *sizes.tolist()})[:3]))
            first = rows.place(int(np.argmax(sizes != width)))
            raise InputError(f"features must be lists of one length, not of {some}: column {name}, {first}")
        column = column.flatten()
    numbers = _numbers(column, rows, name).reshape(-1, width)
    finite = np.isfinite(numbers)
    if not finite.all():
        row, place = np.argwhere(~finite)[0]
        which = name if width == 1 else f"{name}[{place}]"
        raise _bad(rows, which, int(row), "is missing" if np.isnan(numbers[row, place]) else "is infinite")
    return numbers


def _numbers(column: Any, rows: Rows, name: str) -> ndarray:
    if pa.types.is_dictionary(column.type):
        column = column.dictionary_decode()
    if pa.types.is_date32(column.type) or pa.types.is_time32(column.type):
        column = column.cast(pa.int32())
    if pa.types.is_temporal(column.type):
        column = column.cast(pa.int64())
    try:
        numbers = column.cast(pa.float64(), safe=False)
    except pa.ArrowException as e:
        raise InputError(f"column {name} of {rows.name} holds {column.type}, which are no numbers: {e}") from e
    return numbers.to_numpy(zero_copy_only=False)


def _bad(rows: Rows, name: str, row: int, what: str) -> InputError:
    why = f"features must be finite: {name} {what} in {rows.place(row)}; fill in or drop what is missing"
    return InputError(why)
