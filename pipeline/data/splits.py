"""Which rows learning uses, and which are held out."""

from typing import NamedTuple

import numpy as np
from numpy import ndarray

from pipeline.data.arrow_table import Table
from pipeline.data.labels import Label, class_number
from pipeline.errors import InputError


class Split(NamedTuple):
    """Disjoint rows of a table, each in the table's order."""

    train: ndarray
    test: ndarray
    validation: ndarray


def split_table(
    table: Table, max_items: int, test_share: float, validation_share: float, held_out_class: Label | None
) -> Split:
    """Split a table's first `max_items` rows (0: all); the items of a held-out class divide as the shares do."""
    split = split_rows(min(max_items or len(table), len(table)), test_share, validation_share)
    if held_out_class is None:
        return split
    return hold_out_class(table, split, held_out_class, validation_share / (validation_share + test_share or 1.0))


def split_rows(size: int, test_share: float, validation_share: float) -> Split:
    """Split the rows 0 to size - 1; the shuffle has a seed of its own, the same for every run.

    Raises:
        InputError: no rows are left to learn from.
    """
    shares = test_share >= 0 and validation_share >= 0 and test_share + validation_share < 1
    tested, validated = (round(test_share * size), round(validation_share * size)) if shares else (size, size)
    if tested + validated >= size:
        why = f"beside validation_share={validation_share} it must leave items to learn from; both are 0 or more"
        raise InputError(why, "test_share", test_share)
    order = np.random.default_rng(0).permutation(size) if tested + validated else np.arange(size)
    test, validation, train = np.split(order, [tested, tested + validated])
    return Split(np.sort(train), np.sort(test), np.sort(validation))


def hold_out_class(table: Table, split: Split, label: Label, validation_share: float) -> Split:
    """Move the rows of a label from training to validation, a share of them, and to test, the others.

    Unlabelled rows, which may be of that label, are left out of training.

    Raises:
        InputError: the training rows have no labels, none of that label, or no other.
    """
    if not table.classes:
        raise InputError("the data have no labels", "held_out_class", label)
    number, labels = class_number(table.classes, label, "held_out_class"), table.column("label")[split.train]
    own, others = labels == number, (labels != number) & (labels >= 0)
    if not own.any() or not others.any():
        raise InputError(f"{'every' if own.any() else 'no'} item has that label", "held_out_class", label)
    held_out = np.random.default_rng(0).permutation(split.train[own])
    test, validation = np.split(held_out, [len(held_out) - round(validation_share * len(held_out))])
    return Split(
        split.train[others],
        np.sort(np.concatenate([split.test, test])),
        np.sort(np.concatenate([split.validation, validation])),
    )


def labelled(table: Table, rows: ndarray) -> ndarray:
    """Those of the rows that have a label; none where the data have no labels."""
    return rows[table.column("label")[rows] >= 0] if table.classes else rows[:0]


def draw_labelled_rows(table: Table, rows: ndarray, labels_per_class: int, seed: int) -> ndarray:
    """Draw `labels_per_class` of the rows of each class with the seed.

    Raises:
        InputError: there are no labels, or a class has fewer rows.
    """
    if not table.classes:
        raise InputError("the data have no labels", "labels_per_class", labels_per_class)
    rows = labelled(table, rows)
    rng, labels = np.random.default_rng(seed), table.column("label")[rows]
    classes = [rows[labels == label] for label in np.unique(labels)]
    if not classes:
        raise InputError("no item that learning may use is labelled", "labels_per_class", labels_per_class)
    fewest = min(map(len, classes))
    if fewest < labels_per_class:
        raise InputError(f"a class of the data has {fewest} items", "labels_per_class", labels_per_class)
    return np.sort(np.concatenate([rng.choice(own, labels_per_class, replace=False) for own in classes]))
