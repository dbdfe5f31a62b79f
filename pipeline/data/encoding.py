"""What rows of a table are to networks: images in [-1, 1], standardised vectors, sentences, counts of words.

A view is made once, from the rows that are learned from, so that nothing of what is held back is in it.
"""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np
import torch
from numpy import ndarray
from torch import Tensor

from pipeline.batch import Spec
from pipeline.data.arrow_table import Table
from pipeline.errors import InputError

Device: TypeAlias = torch.device | str
TextAs: TypeAlias = Literal["sentences", "counts"]

MAX_WORDS = 40
"""Words of a sentence that are read; what follows is cut."""
PADDING, END, UNKNOWN = 0, 1, 2
"""Numbers of what is no word of the vocabulary: behind the end; the end; a word that is not in it."""
SPECIAL_TOKENS = ("<pad>", "<end>", "<unknown>")


class Encoding(NamedTuple):
    """How rows become tensors."""

    spec: Spec
    read: Callable[[ndarray, Device], dict[str, Tensor]]
    """`x`, and `length` of sentences, of the rows given."""
    statistics: dict[str, Any]
    """What of the data learned from is needed to read others alike, for a JSON file: `words`, or `mean` and `sd`."""


def encode_table(table: Table, rows: ndarray, plain: bool, words: TextAs, vocabulary: int) -> Encoding:
    """The view of a table.

    Args:
        table: images, vectors or texts.
        rows: what is learned from.
        plain: whether vectors stay as they are, rather than being standardised.
        text_as: what texts are read as.
        vocabulary: words of texts that are told apart, at most.

    Raises:
        BadInput: there are no words in the texts.
    """
    classes = int(np.max(table.column("label"))) + 1 if "label" in table else 0
    if table.words:
        of_texts = sentences if words == "sentences" else counts
        return of_texts(table, rows, classes, vocabulary)
    if table.column("x").ndim == 4:
        return images(table, classes)
    return points(table, classes) if plain else features(table, rows, classes)


def images(table: Table, classes: int) -> Encoding:
    """Images as float32 in [-1, 1]."""
    column = table.column("x")

    def read(rows: ndarray, device: Device) -> dict[str, Tensor]:
        return {"x": torch.from_numpy(column[rows]).to(device).float() / 127.5 - 1}

    return Encoding(Spec("image", tuple(column.shape[1:]), classes), read, {})


def points(table: Table, classes: int) -> Encoding:
    """Vectors as they are."""
    column = table.column("x")

    def read(rows: ndarray, device: Device) -> dict[str, Tensor]:
        return {"x": torch.from_numpy(column[rows]).to(device)}

    return Encoding(Spec("vector", tuple(column.shape[1:]), classes), read, {})


def features(table: Table, rows: ndarray, classes: int) -> Encoding:
    """Columns less their mean over `rows`, in units of their standard deviation there (1 if a column is constant)."""
    column = table.column("x")
    mean, sd = column[rows].mean(0, dtype=np.float64), column[rows].std(0, dtype=np.float64)
    sd = np.where(sd > 0, sd, 1.0)

    def read(rows: ndarray, device: Device) -> dict[str, Tensor]:
        return {"x": torch.from_numpy(((column[rows] - mean) / sd).astype(np.float32)).to(device)}

    statistics = {"mean": mean.tolist(), "sd": sd.tolist()}
    return Encoding(Spec("vector", tuple(column.shape[1:]), classes), read, statistics)


def sentences(table: Table, rows: ndarray, classes: int, vocabulary: int) -> Encoding:
    """Numbers of words, the end, and padding up to the longest of `rows`."""
    numbers, words, frequency = _vocabulary(table, rows, vocabulary)
    longest = min(MAX_WORDS, max(len(text) for text in table.ragged("x", rows))) + 1

    def read(rows: ndarray, device: Device) -> dict[str, Tensor]:
        x, length = np.full((len(rows), longest), PADDING, np.int64), np.empty(len(rows), np.int64)
        for i, text in enumerate(table.ragged("x", rows)):
            known = numbers[text[: longest - 1]]
            x[i, : len(known)], x[i, len(known)], length[i] = known, END, len(known) + 1
        return {"x": torch.from_numpy(x).to(device), "length": torch.from_numpy(length).to(device)}

    return Encoding(Spec("text", (longest,), classes, tuple(frequency.tolist())), read, {"words": words})


def counts(table: Table, rows: ndarray, classes: int, vocabulary: int) -> Encoding:
    """How often each word is in a text; words that are not in the vocabulary are left out."""
    numbers, words, frequency = _vocabulary(table, rows, vocabulary)
    known = len(words) - len(SPECIAL_TOKENS)

    def read(rows: ndarray, device: Device) -> dict[str, Tensor]:
        x = np.zeros((len(rows), len(words)), np.float32)
        for i, text in enumerate(table.ragged("x", rows)):
            np.add.at(x[i], numbers[text], 1)
        return {"x": torch.from_numpy(x[:, len(SPECIAL_TOKENS) :]).to(device)}

    frequency = frequency[len(SPECIAL_TOKENS) :] / frequency[len(SPECIAL_TOKENS) :].sum()
    return Encoding(
        Spec("counts", (known,), classes, tuple(frequency.tolist())), read, {"words": words[len(SPECIAL_TOKENS) :]}
    )


def _vocabulary(table: Table, rows: ndarray, size: int) -> tuple[ndarray, list[str], ndarray]:
    """The number of each of the table's words, the words by number, and their frequencies, the marks among them.

    The vocabulary has the `size` most frequent words of `rows`, those that are there once alone left out.
    """
    texts = table.ragged("x", rows)
    seen = np.bincount(np.concatenate(texts), minlength=len(table.words))
    if not seen.max() > 1:
        raise InputError("there is no word that is in the texts twice")
    kept = [int(i) for i in np.argsort(-seen, kind="stable")[:size] if seen[i] > 1]
    numbers = np.full(len(table.words), UNKNOWN, np.int64)
    numbers[kept] = np.arange(len(kept)) + len(SPECIAL_TOKENS)
    frequency = np.bincount(numbers, seen, minlength=len(SPECIAL_TOKENS) + len(kept))
    frequency[END] = len(texts)
    return numbers, [*SPECIAL_TOKENS, *(table.words[i] for i in kept)], frequency / frequency.sum()
