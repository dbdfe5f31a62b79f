"""Data sets: rows of a table as batches of tensors."""

from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import torch
from numpy import ndarray
from torch import Tensor

from pipeline.batch import LABELLED, Batch, Spec
from pipeline.data.arrays import Array, array_content
from pipeline.data.arrow_table import Table, cached_table, store_table
from pipeline.data.cache import cache_folder, temporary_cache
from pipeline.data.encoding import UNKNOWN, Encoding, TextAs, encode_table
from pipeline.data.sources import DENSITIES, find_file, find_source, resolve_source
from pipeline.data.splits import draw_labelled_rows, split_table
from pipeline.energies.toy_densities import ToyDensity
from pipeline.errors import InputError

FORMAT = 4
"""Version of the cached tables; tables of another version are written again."""


class Dataset(NamedTuple):
    """Rows of a table whose column `x` holds images, vectors or texts, and which may have a column `label`.

    >>> import numpy as np
    >>> data = Dataset.from_arrays(torch.randn(100, 2), labels=[0, 1] * 50)
    >>> {name: tuple(values.shape) for name, values in data.batch(np.arange(10)).items()}
    {'x': (10, 2), 'index': (10,), 'label': (10,)}
    """

    fingerprint: str
    """A hash of the table's content, and the arguments that select from it."""
    source: str
    """The name or absolute path that `load_data` reads the table from."""
    selection: Mapping[str, Any]
    """The other arguments of `load_data`, without `seed`."""
    table: Table
    rows: ndarray
    """(n,) of the table: item i is row rows[i]."""
    test_rows: ndarray
    """(m,) of the table, held out for evaluation."""
    validation_rows: ndarray
    """(v,) of the table, held out for model selection; no final metric uses them."""
    labelled_rows: ndarray
    """(k,) of `rows`, whose label is known to learning; all of them unless `labels_per_class` is set."""
    encoding: Encoding
    """How rows become tensors."""
    density: ToyDensity | None
    """The density that the data were drawn from, where it is known."""
    hide_labels: bool = False
    """Whether batches go without labels."""

    @classmethod
    def from_arrays(
        cls,
        x: Array,
        labels: Array | list[int] | None = None,
        *,
        test_share: float = 0.0,
        validation_share: float = 0.0,
        held_out_class: int | None = None,
        labels_per_class: int = 0,
        seed: int = 0,
        standardize: bool = False,
    ) -> "Dataset":
        """The data set of arrays, which are written to the cache, so that other processes and later runs find them.

        On a cluster, EBM_CACHE must be a folder that every machine sees.

        Args:
            x: images (n, h, w), (n, h, w, c) or (n, c, h, w) of 1 or 3 channels, uint8, or float in [-1, 1] of 256
                levels; or vectors (n, d), float.
            labels: (n,) integers, 0 or more.
            test_share: share of the items held out for evaluation.
            validation_share: share of the items held out for model selection.
            held_out_class: label whose items are all held out.
            labels_per_class: items per class whose label is known to learning; 0: all.
            seed: of the draw of items whose label is known.
            standardize: encode vectors less their mean, over their standard deviation, both of the training rows.

        Raises:
            InputError: `x` or `labels` is of another type or shape, or not finite, or nothing is left to learn from.

        >>> data = Dataset.from_arrays(torch.randn(100, 2), test_share=0.1)
        >>> data.spec.shape, data.size, data.test.size
        ((2,), 90, 10)
        """
        return load_data(
            str(store_table(cache_folder().resolve() / "arrays", array_content(x, labels, standardize))),
            test_share=test_share,
            validation_share=validation_share,
            held_out_class=held_out_class,
            labels_per_class=labels_per_class,
            seed=seed,
        )

    @property
    def spec(self) -> Spec:
        """Kind and shape of an item."""
        return self.encoding.spec

    @property
    def statistics(self) -> dict[str, Any]:
        """What it takes to encode other data alike: `words`, or `mean` and `sd` of the training rows."""
        return self.encoding.statistics

    @property
    def size(self) -> int:
        """Number of items."""
        return len(self.rows)

    @property
    def test(self) -> "Dataset":
        """The test items."""
        return self._replace(rows=self.test_rows)

    @property
    def validation(self) -> "Dataset":
        """The validation items."""
        return self._replace(rows=self.validation_rows)

    def stream(self, name: str) -> "Dataset":
        """The items of a recipe's stream.

        The stream `labelled` has the items whose label is known. Others have all items, without labels where only some
        are known.
        """
        if name == LABELLED:
            return self._replace(rows=self.labelled_rows)
        return self._replace(hide_labels=len(self.labelled_rows) < len(self.rows))

    def batch(self, index: ndarray, device: torch.device | str = "cpu") -> Batch:
        """The items of `index` (n,): `x` and `index`; `label` where it is known; `length` of sentences."""
        rows = self.rows[index]
        batch = {**self.encoding.read(rows, device), "index": torch.from_numpy(index).to(device)}
        if "label" in self.table and not self.hide_labels:
            batch["label"] = torch.from_numpy(self.table.column("label")[rows]).to(device)
        return batch

    def to_sentences(self, x: Tensor) -> list[str]:
        """The sentences of tokens (n, longest), words with spaces between them, without end and padding."""
        words = self.statistics["words"]
        return [" ".join(words[token] for token in row if token >= UNKNOWN) for row in x.tolist()]


def load_data(
    source: str,
    *,
    max_items: int = 0,
    test_share: float = 0.0,
    validation_share: float = 0.0,
    held_out_class: int | None = None,
    labels_per_class: int = 0,
    text_as: TextAs = "sentences",
    vocabulary: int = 10_000,
    seed: int = 0,
) -> Dataset:
    """The data set of a name or path.

    Args:
        source: a name, a .parquet file or a folder of them, an .npz file, or an .arrow file of `Dataset.from_arrays`.
        max_items: use only the first so many items; 0: all.
        test_share: share of the items held out for evaluation; which ones does not depend on `seed`.
        validation_share: share of the items held out for model selection.
        held_out_class: label whose items are all held out, split between test and validation by their shares.
        labels_per_class: items per class whose label is known to learning; 0: all.
        text_as: how texts are read.
        vocabulary: words in the vocabulary of texts, at most.
        seed: of the draw of items whose label is known.

    Raises:
        InputError: there is no such source, it cannot be read, or nothing is left to learn from.

    >>> data = load_data("rings", max_items=1000, test_share=0.1)
    >>> data.spec.kind, data.size, data.test.size
    ('vector', 900, 100)
    """
    selection = {
        "max_items": max_items,
        "test_share": test_share,
        "validation_share": validation_share,
        "held_out_class": held_out_class,
        "labels_per_class": labels_per_class,
        "text_as": text_as,
        "vocabulary": vocabulary,
    }
    return _select(source, _open_table(source), selection, seed)


def _select(source: str, table: Table, selection: Mapping[str, Any], seed: int) -> Dataset:
    split = split_table(
        table, *(selection[x] for x in ("max_items", "test_share", "validation_share", "held_out_class"))
    )
    labels = selection["labels_per_class"]
    labelled_rows = draw_labelled_rows(table, split.train, labels, seed) if labels else split.train
    try:
        encoding = encode_table(table, split.train, selection["text_as"], selection["vocabulary"])
    except InputError as e:
        raise InputError(e.why, "data", source) from e
    return Dataset(
        fingerprint=_fingerprint(table, selection, seed),
        source=resolve_source(source),
        selection=selection,
        table=table,
        rows=split.train,
        test_rows=split.test,
        validation_rows=split.validation,
        labelled_rows=labelled_rows,
        encoding=encoding,
        density=DENSITIES.get(source),
    )


def _fingerprint(table: Table, selection: Mapping[str, Any], seed: int) -> str:
    """The hash of the table's content, and the arguments that select from it and encode it, except `max_items`."""
    fingerprint, held_out_class = table.content_hash, selection["held_out_class"]
    if held_out_class is not None or selection["test_share"]:
        fingerprint += f"-{selection['test_share']:g}-{held_out_class}"
    if selection["validation_share"]:
        fingerprint += f"-validation-{selection['validation_share']:g}"
    if selection["labels_per_class"]:
        fingerprint += f"-{selection['labels_per_class']}-{seed}"
    if table.words:
        fingerprint += f"-{selection['text_as']}-{selection['vocabulary']}"
    return fingerprint


def _open_table(source: str) -> Table:
    """The source's table: an .arrow file as it is, anything else from the cache, where it is written first."""
    cache = cache_folder()
    try:
        if source.endswith(".arrow"):
            return _open_arrow(find_file(source))
        identity, read = find_source(source, cache)
        name = f"data/{sha256(f'{FORMAT} {identity}'.encode()).hexdigest()[:16]}.arrow"
        try:
            return cached_table(cache / name, read)
        except OSError as e:
            return cached_table(temporary_cache(e) / name, read)
    except OSError as e:
        file = e.filename or f"in the cache {cache_folder()}"
        raise InputError(f"cannot be read or cached: {e.strerror or e}: {file}", "data", source) from e
    except InputError as e:
        raise InputError(e.why, "data", source) from e


def _open_arrow(path: Path) -> Table:
    try:
        return Table(path)
    except (pa.ArrowException, OSError, KeyError, TypeError, ValueError) as e:
        raise InputError("it is no Arrow file that Dataset.from_arrays wrote") from e
