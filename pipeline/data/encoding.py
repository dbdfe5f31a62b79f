"""The encoding of a table's rows as tensors: images in [-1, 1], vectors, sentences, counts of words.

Vocabulary and feature statistics are computed on the training split.
"""

from collections.abc import Callable
from functools import partial
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
"""Longer sentences are cut to so many words."""
PADDING, END, UNKNOWN = 0, 1, 2
"""Tokens that are no words of the vocabulary: after the end; the end; a word outside the vocabulary."""
SPECIAL_TOKENS = ("<pad>", "<end>", "<unknown>")


class Encoding(NamedTuple):
    """How rows become tensors."""

    spec: Spec
    read: Callable[[ndarray, Device], dict[str, Tensor]]
    """`x`, and `length` of sentences, of some rows."""
    statistics: dict[str, Any]
    """What it takes to encode other data alike, for a JSON file: `words`, or `mean` and `sd` of the training rows."""
    notes: tuple[str, ...] = ()
    """What a user should know about the training rows, a sentence each."""


def encode_table(table: Table, rows: ndarray, text_as: TextAs, vocabulary: int) -> Encoding:
    """The encoding of a table.

    Args:
        table: images, vectors or texts.
        rows: the training rows.
        text_as: how texts are read.
        vocabulary: words in the vocabulary, at most.

    Raises:
        InputError: no word is frequent enough for the vocabulary, or features are too large.
    """
    num_classes = len(table.classes)
    if table.words:
        encode = encode_sentences if text_as == "sentences" else encode_counts
        return encode(table, rows, num_classes, vocabulary)
    if table.column("x").ndim == 4:
        return encode_images(table, num_classes)
    if table.standardize:
        return standardize_vectors(table, rows, num_classes)
    return encode_vectors(table, num_classes)


def encode_images(table: Table, num_classes: int) -> Encoding:
    """Images as float32 in [-1, 1]."""
    shape = table.column("x").shape[1:]
    return Encoding(Spec("image", shape, num_classes), partial(_read_images, table), {})


def _read_images(table: Table, rows: ndarray, device: Device) -> dict[str, Tensor]:
    return {"x": torch.from_numpy(table.column("x")[rows]).to(device).float() / 127.5 - 1}


def encode_vectors(table: Table, num_classes: int) -> Encoding:
    """Vectors as they are."""
    shape = table.column("x").shape[1:]
    return Encoding(Spec("vector", shape, num_classes), partial(_read_vectors, table), {})


def _read_vectors(table: Table, rows: ndarray, device: Device) -> dict[str, Tensor]:
    return {"x": torch.from_numpy(table.column("x")[rows]).to(device)}


def standardize_vectors(table: Table, rows: ndarray, num_classes: int) -> Encoding:
    """Features less their mean over `rows`, over their standard deviation there (1 for a constant feature).

    Raises:
        InputError: the standard deviation of a feature is beyond double precision.
    """
    x = table.column("x")
    with np.errstate(over="ignore", invalid="ignore"):
        mean, sd = x[rows].mean(0, dtype=np.float64), x[rows].std(0, dtype=np.float64)
    constant = x[rows].min(0) == x[rows].max(0)  # rounding would leave a small deviation
    mean, sd = np.where(constant, x[rows[0]], mean), np.where(constant, 1.0, sd)
    if not np.isfinite(sd).all():
        raise InputError(f"{_feature_name(table, int(np.argmin(np.isfinite(sd))))} is too large to be standardised")
    names = [_feature_name(table, int(i)) for i in np.flatnonzero(constant)]
    notes = (f"constant, and therefore 0: {', '.join(names[:10])}{', ...' if names[10:] else ''}",) if names else ()
    read, shape = partial(_read_standardized, table, mean, sd), x.shape[1:]
    return Encoding(Spec("vector", shape, num_classes), read, {"mean": mean.tolist(), "sd": sd.tolist()}, notes)


def _feature_name(table: Table, i: int) -> str:
    return f"feature {table.names[i] if table.names else i}"


def _read_standardized(table: Table, mean: ndarray, sd: ndarray, rows: ndarray, device: Device) -> dict[str, Tensor]:
    return {"x": torch.from_numpy(((table.column("x")[rows] - mean) / sd).astype(np.float32)).to(device)}


def encode_sentences(table: Table, rows: ndarray, num_classes: int, vocabulary: int) -> Encoding:
    """Sentences as tokens: their words, the end, and padding up to the longest sentence of `rows`."""
    tokens, words, frequency = _build_vocabulary(table, rows, vocabulary)
    longest = min(MAX_WORDS, max(len(text) for text in table.ragged("x", rows))) + 1
    spec = Spec("text", (longest,), num_classes, tuple(frequency.tolist()))
    return Encoding(spec, partial(_read_sentences, table, tokens, longest), {"words": words})


def _read_sentences(table: Table, tokens: ndarray, longest: int, rows: ndarray, device: Device) -> dict[str, Tensor]:
    x, length = np.full((len(rows), longest), PADDING, np.int64), np.empty(len(rows), np.int64)
    for i, text in enumerate(table.ragged("x", rows)):
        sentence = tokens[text[: longest - 1]]
        x[i, : len(sentence)], x[i, len(sentence)], length[i] = sentence, END, len(sentence) + 1
    return {"x": torch.from_numpy(x).to(device), "length": torch.from_numpy(length).to(device)}


def encode_counts(table: Table, rows: ndarray, num_classes: int, vocabulary: int) -> Encoding:
    """How often each word of the vocabulary is in a text, as float32."""
    tokens, words, frequency = _build_vocabulary(table, rows, vocabulary)
    words, frequency = words[len(SPECIAL_TOKENS) :], frequency[len(SPECIAL_TOKENS) :]
    spec = Spec("counts", (len(words),), num_classes, tuple((frequency / frequency.sum()).tolist()))
    return Encoding(spec, partial(_read_counts, table, tokens, len(words)), {"words": words})


def _read_counts(table: Table, tokens: ndarray, size: int, rows: ndarray, device: Device) -> dict[str, Tensor]:
    x = np.zeros((len(rows), len(SPECIAL_TOKENS) + size), np.float32)
    for i, text in enumerate(table.ragged("x", rows)):
        np.add.at(x[i], tokens[text], 1)
    return {"x": torch.from_numpy(x[:, len(SPECIAL_TOKENS) :]).to(device)}


def _build_vocabulary(table: Table, rows: ndarray, size: int) -> tuple[ndarray, list[str], ndarray]:
    """The token of each of the table's words; the words by token, and their frequencies, special tokens included.

    The vocabulary has the `size` most frequent words of `rows`, without those that occur once.
    """
    texts = table.ragged("x", rows)
    counts = np.bincount(np.concatenate(texts), minlength=len(table.words))
    if not counts.max() > 1:
        raise InputError("there is no word that is in the texts twice")
    frequent = [int(i) for i in np.argsort(-counts, kind="stable")[:size] if counts[i] > 1]
    tokens = np.full(len(table.words), UNKNOWN, np.int64)
    tokens[frequent] = np.arange(len(frequent)) + len(SPECIAL_TOKENS)
    frequency = np.bincount(tokens, counts, minlength=len(SPECIAL_TOKENS) + len(frequent))
    frequency[END] = len(texts)
    return tokens, [*SPECIAL_TOKENS, *(table.words[i] for i in frequent)], frequency / frequency.sum()
