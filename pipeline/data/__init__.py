"""Data sets as batches of tensors, whatever they are made of."""

import os
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from numpy import ndarray

from pipeline.batch import Batch, Spec
from pipeline.data.sources import DENSITIES, named, source
from pipeline.data.store import Table, cached
from pipeline.energies import Density
from pipeline.errors import BadInput

FORMAT = 2
"""Of the cached files; a new number makes them anew."""


def cache_folder() -> Path:
    """Where data and classifiers are cached: EBM_CACHE, or ebm-pipeline in the user's cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    return Path(os.environ.get("EBM_CACHE") or f"{home}/ebm-pipeline").expanduser()


class Dataset(NamedTuple):
    """Items of a table whose column `x` holds images (uint8) or vectors (float32), and maybe a column `label`."""

    key: str
    """A hash of the content and of what is chosen of it."""
    table: Table
    rows: ndarray
    """(n,) of the table: item i is row rows[i]."""
    test_rows: ndarray
    """(m,) of the table that are held back for evaluation."""
    spec: Spec
    density: Density | None
    """The truth the data were drawn from, where it is known."""

    @property
    def size(self) -> int:
        """Number of items."""
        return len(self.rows)

    @property
    def test(self) -> "Dataset":
        """The items held back."""
        return self._replace(rows=self.test_rows)

    def batch(self, index: ndarray, device: torch.device | str = "cpu") -> Batch:
        """The items of `index` (n,): images as float32 in [-1, 1]."""
        rows = self.rows[index]
        x = torch.from_numpy(self.table.column("x")[rows]).to(device)
        x = x.float() / 127.5 - 1 if x.dtype == torch.uint8 else x
        found = {"x": x, "index": torch.from_numpy(index).to(device)}
        if "label" in self.table:
            found["label"] = torch.from_numpy(self.table.column("label")[rows]).to(device)
        return found


def located(data: str) -> str:
    """A name as it is, a path as an absolute one, so that every process finds it."""
    return data if named(data) else str(Path(data).expanduser().resolve())


def load(data: str, limit: int = 0, test_share: float = 0.0, held_out: int | None = None) -> Dataset:
    """The data set that a name or path stands for.

    Args:
        data: the name or path.
        limit: at most its first so many items; 0: all.
        test_share: share of the items that are held back for evaluation, drawn by a seed of their own.
        held_out: label that is taken out of the others (so that it is in the held back ones alone).

    Raises:
        BadInput: there is none, it cannot be read, or nothing is left of it.
    """
    cache = cache_folder()
    key, read = source(data, cache)
    digest = sha256(f"{FORMAT} {key}".encode()).hexdigest()[:16]
    try:
        table = cached(cache / "data" / f"{digest}.arrow", read)
    except BadInput as e:
        raise BadInput(str(e) if data in str(e) else f"{data}: {e}") from e
    shape, classes = table.column("x").shape[1:], 0
    if "label" in table:
        classes = int(np.max(table.column("label"))) + 1
    spec = Spec("image" if len(shape) == 3 else "vector", tuple(shape), classes)
    rows, test_rows = _split(table, min(limit or len(table), len(table)), test_share)
    if held_out is not None:
        rows = _without(table, rows, held_out, data)
    chosen = "" if held_out is None and not test_share else f"-{test_share:g}-{held_out}"
    return Dataset(table.content + chosen, table, rows, test_rows, spec, DENSITIES.get(data))


def _split(table: Table, size: int, test_share: float) -> tuple[ndarray, ndarray]:
    """Rows to learn from and rows to evaluate on, each in the table's order."""
    tested = round(test_share * size)
    if not 0 <= test_share < 1 or tested == size:
        raise BadInput(f"--test-share {test_share}: it must be 0 or more, and leave items to learn from")
    order = np.random.default_rng(0).permutation(size) if tested else np.arange(size)
    return np.sort(order[tested:]), np.sort(order[:tested])


def _without(table: Table, rows: ndarray, label: int, data: str) -> ndarray:
    if "label" not in table:
        raise BadInput(f"--held-out {label}: {data} has no labels")
    others = table.column("label")[rows] != label
    if others.all() or not others.any():
        raise BadInput(f"--held-out {label}: {'no' if others.all() else 'every'} item of {data} has that label")
    return rows[others]
