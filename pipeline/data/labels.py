"""Labels: the distinct values of a column, in order, are the classes; an item's label is the number of its class."""

import json
from collections.abc import Iterable, Sequence
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np
import pyarrow as pa
from numpy import ndarray

from pipeline.errors import InputError

Label: TypeAlias = int | str
"""A class as the data name it: a whole number, a word, or a boolean."""

UNLABELLED = -1
"""The number of no class: of items whose label is -1 or missing."""
MAX_CLASSES = 30_000
"""More distinct values are no classes, but numbers or names of items."""
NAMED_CLASSES = 10
"""Classes that a message names, at most."""


def find_classes(columns: Iterable[Any]) -> list[Label]:
    """The distinct labels of some columns, in order, without -1 and what is missing.

    Raises:
        InputError: labels are neither whole numbers nor words nor booleans, or there are too many.
    """
    classes: set[Label] = set()
    for column in columns:
        classes.update(label for label in _distinct(column)[0] if label is not None)
        if len(classes) > MAX_CLASSES:
            raise InputError(f"labels have more than {MAX_CLASSES:,} distinct values: they name no classes")
    try:
        return sorted(classes)
    except TypeError as e:
        raise InputError("labels are in part words and in part numbers") from e


def encode_labels(column: Any, classes: Sequence[Label]) -> ndarray:
    """(n,) int64 numbers of the classes of n labels; UNLABELLED where a label is -1, missing or none of the classes."""
    labels, index = _distinct(column)
    numbers = {label: i for i, label in enumerate(classes)}
    found = [UNLABELLED if label is None else numbers.get(label, UNLABELLED) for label in labels]
    return np.array(found, np.int64)[index]


def class_number(classes: Sequence[Label], label: Label, field: str) -> int:
    """The number of a class that a user names. Raises InputError of `field` where there is no such class."""
    numbers = {str(name): i for i, name in enumerate(classes)}
    if str(label) not in numbers:
        raise InputError(f"the classes are {name_classes(classes)}", field, label)
    return numbers[str(label)]


def name_classes(classes: Sequence[Label]) -> str:
    """Some of the classes, for a message."""
    names = [str(name) for name in classes]
    if are_numbers(classes) and len(names) > 2:
        return f"0 to {len(names) - 1}"
    if len(names) <= NAMED_CLASSES:
        return ", ".join(names)
    return f"{', '.join(names[: NAMED_CLASSES - 2])}, ..., {names[-1]}"


def are_numbers(classes: Sequence[Label]) -> bool:
    """Whether the classes are 0 to k - 1, so that a label is the number of its class."""
    return json.dumps(list(classes)) == json.dumps(list(range(len(classes))))


def word_type(words: Iterable[str]) -> pa.DataType:
    """The type of labels that are written as words: numbers where all are, without leading zeros."""
    values = pa.array(words, pa.string())
    if any(word.lstrip("-")[:1] == "0" and word.lstrip("-0")[:1].isdigit() for word in values.to_pylist()):
        return pa.string()
    for kind in (pa.int64(), pa.float64()):
        try:
            values.cast(kind)
            return kind
        except pa.ArrowInvalid:
            continue
    return pa.string()


def _distinct(column: Any) -> tuple[list[Label | None], ndarray]:
    """The distinct labels of a column, None for no label; and the (n,) place of each item's label among them."""
    try:
        array = column if isinstance(column, pa.Array) else pa.array(np.asarray(column))
        if pa.types.is_dictionary(array.type):
            array = array.dictionary_decode()
        if pa.types.is_null(array.type):
            return [None], np.zeros(len(array), np.int64)
        if pa.types.is_float16(array.type):
            array = array.cast(pa.float32())
        encoded = array.dictionary_encode("encode")
        labels, index = encoded.dictionary.to_pylist(), encoded.indices.to_numpy(zero_copy_only=False)
    except (pa.ArrowException, TypeError, ValueError) as e:
        raise InputError(f"labels must be whole numbers, words or booleans: {_first_line(e)}") from e
    return [_label(label) for label in labels], index


def _label(value: Any) -> Label | None:
    if value is None or value == "" or value != value:
        return None
    if isinstance(value, str | bool):
        return value
    if isinstance(value, int | float | Decimal) and value % 1 == 0:
        return None if value == UNLABELLED else int(value)
    raise InputError(f"labels must be whole numbers, words or booleans, not {value!r:.40}")


def _first_line(error: Exception) -> str:
    return str(error).partition("\n")[0]
