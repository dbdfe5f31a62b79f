"""Data sets as batches of tensors, whatever they are made of."""

from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import torch
from numpy import ndarray
from torch import Tensor

from pipeline.batch import Batch, Spec
from pipeline.data.arrow_table import Table, cached_table
from pipeline.data.cache import cache_folder
from pipeline.data.encoding import Encoding, TextAs, encode_table
from pipeline.data.sources import DENSITIES, find_source, is_name
from pipeline.data.splits import labelled_rows, split_rows, without_class
from pipeline.energies.toy_densities import ToyDensity
from pipeline.errors import InputError

FORMAT = 3
"""Of the cached files; a new number makes them anew."""


class Dataset(NamedTuple):
    """Items of a table whose column `x` holds images, vectors or texts, and which may have a column `label`."""

    key: str
    """A hash of the content and of what is chosen of it."""
    table: Table
    rows: ndarray
    """(n,) of the table: item i is row rows[i]."""
    test_rows: ndarray
    """(m,) of the table that are held back for evaluation."""
    view: Encoding
    """What they are to networks."""
    density: ToyDensity | None
    """The truth the data were drawn from, where it is known."""
    labelled: ndarray
    """(k,) of `rows` whose label is known to learning; all of them, unless few are chosen."""
    validation_rows: ndarray
    """(v,) of the table that are held back for choosing between runs, and that no final metric is taken on."""
    hidden: bool = False
    """Whether batches go without labels."""

    @property
    def spec(self) -> Spec:
        """Kind and shape of an item."""
        return self.view.spec

    @property
    def statistics(self) -> dict[str, Any]:
        """What of the data learned from is needed to read others alike: `words`, or `mean` and `sd` of features."""
        return self.view.statistics

    @property
    def size(self) -> int:
        """Number of items."""
        return len(self.rows)

    @property
    def test(self) -> "Dataset":
        """The items held back."""
        return self._replace(rows=self.test_rows)

    @property
    def validation(self) -> "Dataset":
        """The items held back for choosing between runs."""
        return self._replace(rows=self.validation_rows)

    def stream(self, name: str) -> "Dataset":
        """The items of a recipe's stream: `labelled` has those of known label; the others have all, without labels
        where only a few are known.
        """
        if name == "labelled":
            return self._replace(rows=self.labelled)
        return self._replace(hidden=len(self.labelled) < len(self.rows))

    def batch(self, index: ndarray, device: torch.device | str = "cpu") -> Batch:
        """The items of `index` (n,): `x`, `index`, and `label` where it is known, and `length` of sentences."""
        rows = self.rows[index]
        found = {**self.view.read(rows, device), "index": torch.from_numpy(index).to(device)}
        if "label" in self.table and not self.hidden:
            found["label"] = torch.from_numpy(self.table.column("label")[rows]).to(device)
        return found

    def sentences(self, x: Tensor) -> list[str]:
        """The sentences (n, longest) of a data set of text, in words, as they are split: without their end."""
        words = self.statistics["words"]
        return [" ".join(words[i] for i in row if i > 1) for row in x.tolist()]


def located(data: str) -> str:
    """A name as it is, a path as an absolute one, so that every process finds it."""
    return data if is_name(data) else str(Path(data).expanduser().resolve())


def load_data(
    data: str,
    max_items: int = 0,
    test_share: float = 0.0,
    held_out_class: int | None = None,
    labels_per_class: int = 0,
    seed: int = 0,
    text_as: TextAs = "sentences",
    vocabulary: int = 10_000,
    validation_share: float = 0.0,
) -> Dataset:
    """The data set that a name or path stands for.

    Args:
        data: the name or path.
        max_items: at most its first so many items; 0: all.
        test_share: share of the items that are held back for evaluation, drawn by a seed of their own.
        held_out: label that learning never sees: all its items are held back.
        labels_per_class: items a class whose label is known to learning; 0: all.
        seed: of the draw of these.
        text_as: what texts are read as.
        vocabulary: words of texts that are told apart, at most.
        validation_share: share of the items that are held back beside those, and of what is held back of a label.

    Raises:
        BadInput: there is none, it cannot be read, or nothing is left of it.
    """
    table = _table(data)
    size = min(max_items or len(table), len(table))
    parts = split_rows(size, test_share, validation_share)
    if held_out_class is not None:
        parts = without_class(
            table, parts, held_out_class, validation_share / (validation_share + test_share or 1.0), data
        )
    rows, test_rows, validation_rows = parts
    labelled = labelled_rows(table, rows, labels_per_class, seed, data) if labels_per_class else rows
    chosen = "" if held_out_class is None and not test_share else f"-{test_share:g}-{held_out_class}"
    chosen += f"-validation-{validation_share:g}" if validation_share else ""
    chosen += f"-{labels_per_class}-{seed}" if labels_per_class else ""
    chosen += f"-{text_as}-{vocabulary}" if table.words else ""
    try:
        seen = encode_table(table, rows, data in DENSITIES, text_as, vocabulary)
    except InputError as e:
        raise InputError(f"{data}: {e}") from e
    return Dataset(table.content + chosen, table, rows, test_rows, seen, DENSITIES.get(data), labelled, validation_rows)


def _table(data: str) -> Table:
    """The data as they are, read once and cached."""
    cache = cache_folder()
    key, read = find_source(data, cache)
    digest = sha256(f"{FORMAT} {key}".encode()).hexdigest()[:16]
    try:
        return cached_table(cache / "data" / f"{digest}.arrow", read)
    except InputError as e:
        raise InputError(str(e) if data in str(e) else f"{data}: {e}") from e
