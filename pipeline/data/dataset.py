"""Data sets: rows of a table as batches of tensors."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import torch
from numpy import ndarray
from torch import Tensor

from pipeline.batch import LABELLED, Batch, Spec
from pipeline.data.arrays import Array, array_content
from pipeline.data.arrow_table import Table, store_table
from pipeline.data.cache import cache_folder
from pipeline.data.encoding import UNKNOWN, Encoding, TextAs, encode_table
from pipeline.data.files import SplitName, count
from pipeline.data.labels import UNLABELLED, Label, encode_labels, name_classes
from pipeline.data.named import DENSITIES
from pipeline.data.sources import ReadSettings, open_source, resolve_source
from pipeline.data.splits import draw_labelled_rows, labelled, split_table
from pipeline.data.texts import join_words
from pipeline.energies.toy_densities import ToyDensity
from pipeline.errors import InputError


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
    """(k,) of `rows`, whose label is known to learning: those with a label, or `labels_per_class` of each class."""
    encoding: Encoding
    """How rows become tensors."""
    density: ToyDensity | None
    """The density that the data were drawn from, where it is known."""
    hide_labels: bool = False
    """Whether batches go without labels."""
    recoding: ndarray | None = None
    """(k,) number that a batch has for each of the table's k classes; None: their own."""

    @classmethod
    def from_arrays(
        cls,
        x: Array,
        labels: Array | Sequence[Any] | None = None,
        *,
        test_share: float = 0.0,
        validation_share: float = 0.0,
        held_out_class: Label | None = None,
        labels_per_class: int = 0,
        seed: int = 0,
        standardize: bool = False,
    ) -> "Dataset":
        """The data set of arrays, which are written to the cache, so that other processes and later runs find them.

        On a cluster, EBM_CACHE must be a folder that every machine sees.

        Args:
            x: images (n, h, w), (n, h, w, c) or (n, c, h, w) of 1 or 3 channels, uint8, or float in [-1, 1] of 256
                levels; or vectors (n, d), float.
            labels: (n,) whole numbers, words or booleans, whose distinct values are the classes; -1 or None:
                unlabelled.
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
    def classes(self) -> Sequence[Label]:
        """What the data call the classes 0 to k - 1; empty where there are no labels."""
        return self.table.classes

    @property
    def record(self) -> dict[str, Any]:
        """What a run's data.json holds: `statistics`, `classes`, and names of the features where each has one."""
        classes = {"classes": list(self.classes)} if self.classes else {}
        return {**self.statistics, **classes, **({"columns": self.table.names} if self.table.names else {})}

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

    @property
    def labelled(self) -> "Dataset":
        """The items that have a label, whether or not learning knows it."""
        return self._replace(rows=labelled(self.table, self.rows))

    def with_classes(self, classes: Sequence[Label]) -> "Dataset":
        """The same items, whose labels are numbers of these classes; those of other classes are unlabelled."""
        if list(classes) == list(self.classes):
            return self
        spec = self.spec._replace(num_classes=len(classes))
        recoding = encode_labels(pa.array(self.classes), classes) if self.classes else None
        return self._replace(recoding=recoding, encoding=self.encoding._replace(spec=spec))

    def stream(self, name: str) -> "Dataset":
        """The items of a recipe's stream.

        The stream `labelled` has the items whose label is known. Others have all items, without labels where only some
        are known.
        """
        if name == LABELLED:
            return self._replace(rows=self.labelled_rows)
        return self._replace(hide_labels=len(self.labelled_rows) < len(self.rows))

    def batch(self, index: ndarray, device: torch.device | str = "cpu") -> Batch:
        """The items of `index` (n,): `x` and `index`; `label`, -1 where there is none; `length` of sentences."""
        rows = self.rows[index]
        batch = {**self.encoding.read(rows, device), "index": torch.from_numpy(index).to(device)}
        if self.classes and not self.hide_labels:
            label = self.table.column("label")[rows]
            if self.recoding is not None:
                label = np.where(label >= 0, self.recoding[label], UNLABELLED)
            batch["label"] = torch.from_numpy(label).to(device)
        return batch

    def describe(self) -> list[str]:
        """What was read: files, items, classes and shape in one line, and notes, a line each."""
        table, spec = self.table, self.spec
        held_out = len(self.test_rows) + len(self.validation_rows)
        parts = [count(table.files, "file")] if table.files else []
        parts.append(count(len(table), "item"))
        if len(table) > self.size:
            parts.append(f"{self.size:,} to learn from and {held_out:,} held out")
        if self.classes:
            word = "class" if len(self.classes) == 1 else "classes"
            parts.append(f"{len(self.classes):,} {word} ({name_classes(self.classes)})")
            if missing := len(table) - len(labelled(table, np.arange(len(table)))):
                parts.append(f"{missing:,} unlabelled")
        else:
            parts.append("no labels")
        parts.append(f"{spec.kind} of shape {'x'.join(map(str, spec.shape))}")
        return [f"{self.source}: {', '.join(parts)}", *table.notes, *self.encoding.notes]

    def to_sentences(self, x: Tensor) -> list[str]:
        """The sentences of tokens (n, longest), words with spaces between them, without end and padding."""
        words = self.statistics["words"]
        return [join_words(words[token] for token in row if token >= UNKNOWN) for row in x.tolist()]


def load_data(
    source: str,
    *,
    max_items: int = 0,
    test_share: float = 0.0,
    validation_share: float = 0.0,
    held_out_class: Label | None = None,
    labels_per_class: int = 0,
    text_as: TextAs = "sentences",
    vocabulary: int = 10_000,
    split: SplitName = "train",
    columns: Sequence[str] = (),
    label_column: str = "label",
    image_column: str = "image",
    text_column: str = "text",
    background: str = "white",
    seed: int = 0,
) -> Dataset:
    """The data set of a name, path or URI.

    Args:
        source: a name; a .parquet, .csv, .npz or .npy file, or a picture; a folder of .parquet or .csv files or
            pictures, on disk or at a URI; or an .arrow file of `Dataset.from_arrays`.
        max_items: use only the first so many items; 0: all.
        test_share: share of the items held out for evaluation; which ones does not depend on `seed`.
        validation_share: share of the items held out for model selection.
        held_out_class: label whose items are all held out, split between test and validation by their shares.
        labels_per_class: items per class whose label is known to learning; 0: all.
        text_as: how texts are read.
        vocabulary: words in the vocabulary of texts, at most.
        split: which files of a folder, where their names say `train`, `test` or `validation`; all: all of them.
        columns: columns of numbers that are the features; empty: `features`, or all but the label.
        label_column: the column of labels; empty: none.
        image_column: the column of images.
        text_column: the column of texts.
        background: the colour behind transparent pixels.
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
    settings = ReadSettings(split, tuple(columns), label_column, image_column, text_column, background)
    return _select(source, open_source(source, settings), {**selection, **settings._asdict()}, seed)


def _select(source: str, table: Table, selection: Mapping[str, Any], seed: int) -> Dataset:
    split = split_table(
        table, *(selection[x] for x in ("max_items", "test_share", "validation_share", "held_out_class"))
    )
    if labels := selection["labels_per_class"]:
        labelled_rows = draw_labelled_rows(table, split.train, labels, seed)
    else:
        labelled_rows = labelled(table, split.train) if table.classes else split.train
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
