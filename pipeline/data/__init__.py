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
    """A table whose column `x` holds images (uint8) or vectors (float32), and maybe a column `label`."""

    key: str
    """A hash of the content."""
    table: Table
    size: int
    spec: Spec
    density: Density | None
    """The truth the data were drawn from, where it is known."""

    def batch(self, index: ndarray, device: torch.device | str = "cpu") -> Batch:
        """The items of `index` (n,): images as float32 in [-1, 1]."""
        x = torch.from_numpy(self.table.column("x")[index]).to(device)
        x = x.float() / 127.5 - 1 if x.dtype == torch.uint8 else x
        found = {"x": x, "index": torch.from_numpy(index).to(device)}
        if "label" in self.table:
            found["label"] = torch.from_numpy(self.table.column("label")[index]).to(device)
        return found


def located(data: str) -> str:
    """A name as it is, a path as an absolute one, so that every process finds it."""
    return data if named(data) else str(Path(data).expanduser().resolve())


def load(data: str, limit: int = 0) -> Dataset:
    """The data set that a name or path stands for; at most its first `limit` items, if that is not 0.

    Raises:
        BadInput: there is none, or it cannot be read.
    """
    cache = cache_folder()
    key, read = source(data, cache)
    digest = sha256(f"{FORMAT} {key}".encode()).hexdigest()[:16]
    try:
        table = cached(cache / "data" / f"{digest}.arrow", read)
    except BadInput as e:
        raise BadInput(str(e) if data in str(e) else f"{data}: {e}") from e
    size = min(limit or len(table), len(table))
    shape, classes = table.column("x").shape[1:], 0
    if "label" in table:
        classes = int(np.max(table.column("label"))) + 1
    spec = Spec("image" if len(shape) == 3 else "vector", tuple(shape), classes)
    return Dataset(table.content, table, size, spec, DENSITIES.get(data))
