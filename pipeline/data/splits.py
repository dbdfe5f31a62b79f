"""Which rows learning sees, and which are held back."""

from typing import TypeAlias

import numpy as np
from numpy import ndarray

from pipeline.data.arrow_table import Table
from pipeline.errors import InputError

Split: TypeAlias = tuple[ndarray, ndarray, ndarray]
"""Rows to learn from, to evaluate on, and to choose by."""


def split_rows(size: int, test_share: float, validation_share: float) -> Split:
    """Rows to learn from, to evaluate on and to choose by, each in the table's order."""
    if not (test_share >= 0 and validation_share >= 0 and test_share + validation_share < 1):
        shares = f"--test-share {test_share}, --validation-share {validation_share}"
        raise InputError(f"{shares}: each must be 0 or more, and both leave items to learn from")
    tested, chosen_by = round(test_share * size), round(validation_share * size)
    if tested + chosen_by >= size:
        raise InputError(f"--test-share {test_share}: it must leave items to learn from")
    order = np.random.default_rng(0).permutation(size) if tested + chosen_by else np.arange(size)
    parts = np.split(order, [tested, tested + chosen_by])
    return np.sort(parts[2]), np.sort(parts[0]), np.sort(parts[1])


def labelled_rows(table: Table, rows: ndarray, labels: int, seed: int, data: str) -> ndarray:
    """That many of the rows of each class."""
    if "label" not in table:
        raise InputError(f"--labels {labels}: {data} has no labels")
    rng, of = np.random.default_rng(seed), table.column("label")[rows]
    classes = {int(label): rows[of == label] for label in np.unique(of)}
    if min(map(len, classes.values())) < labels:
        raise InputError(f"--labels {labels}: a class of {data} has {min(map(len, classes.values()))} items")
    return np.sort(np.concatenate([rng.choice(own, labels, replace=False) for own in classes.values()]))


def without_class(table: Table, parts: Split, label: int, share: float, data: str) -> Split:
    """The parts with no row of a label among those to learn from: a share of them is to choose by, others to test."""
    rows, test_rows, validation_rows = parts
    if "label" not in table:
        raise InputError(f"--held-out {label}: {data} has no labels")
    others = table.column("label")[rows] != label
    if others.all() or not others.any():
        raise InputError(f"--held-out {label}: {'no' if others.all() else 'every'} item of {data} has that label")
    out = np.random.default_rng(0).permutation(rows[~others])
    test, validation = np.split(out, [len(out) - round(share * len(out))])
    return (
        rows[others],
        np.sort(np.concatenate([test_rows, test])),
        np.sort(np.concatenate([validation_rows, validation])),
    )
