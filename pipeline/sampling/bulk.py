"""Bulk sampling in blocks: block i depends on (model, seed, i) alone, and is one file, whole or absent."""

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float32
from numpy import ndarray
from torch import Tensor

from pipeline.chains.task import ChainTask, advance
from pipeline.data.dataset import Dataset
from pipeline.data.labels import Label
from pipeline.errors import InputError, RunWriteError
from pipeline.nets.weights import eval_copy, load
from pipeline.recipe import init_networks
from pipeline.rng import fold
from pipeline.runs.job import Job, load_dataset
from pipeline.runs.snapshot import Snapshot
from pipeline.runs.storage import Storage, read_errors
from pipeline.sampling.draw import CHAINS_PER_TASK, ChainStart, class_tasks, decode_states, draw_tasks, symbol_of
from pipeline.sampling.long_chains import stretches, with_steps

DESCRIPTION_FILE = "sampling.json"
"""What the samples of a folder have in common."""


@dataclass(frozen=True)
class BlockSettings:
    """What determines the samples of a block, beside the model."""

    seed: int
    size: int
    """Samples per block."""
    steps: int | None = None
    """Steps of the chains; 0: what they start from; None: the recipe's own."""
    start: ChainStart = "noise"
    """Where the chains start."""
    label: Label | None = None
    """Class of the samples, as the data name it; None: the model's samples."""


class Block(NamedTuple):
    """Samples, with what identifies their chains."""

    x: ndarray
    """(n, *shape) data: float32, or int64 word indices."""
    energy: Float32[ndarray, " n"]
    """U of each chain's final state, under the chain's own target."""
    seed: ndarray
    """(n,) int64 seed of the task that moved the chain; `draw.CHAINS_PER_TASK` rows share a task, in their order."""


@dataclass(frozen=True)
class BulkSource:
    """A model, the settings of its blocks, and the folder they go to; it can be sent to other processes."""

    job: Job[Any]
    weights: Float32[ndarray, " p"]
    update: int
    bank: ndarray | None
    """(n, *d) states of the model's bank, where chains start from it."""
    blocks: BlockSettings
    out: str = ""

    def writer(self, device: torch.device) -> "BlockWriter":
        """A writer with networks of its own, on a device."""
        data = load_dataset(self.job)
        nets = eval_copy(init_networks(self.job.recipe, data.spec, self.job.seed, device))
        load(nets, self.weights)
        bank = None if self.bank is None else torch.from_numpy(self.bank)
        return BlockWriter(self, Snapshot(self.job, data, nets, self.update, bank))


class BlockWriter:
    """Samples and writes blocks."""

    def __init__(self, source: BulkSource, snapshot: Snapshot):
        self.source, self.snapshot, self.data = source, snapshot, snapshot.data

    def write(self, i: int, rows: int) -> dict[str, float]:
        """Write the first `rows` rows of block i as a Parquet file; their number, and mean and sd of their energy."""
        block, first = self.sample(i, rows), i * self.source.blocks.size
        file = io.BytesIO()
        pq.write_table(self.table(block, first), file)
        Storage.at(self.source.out).write(block_name(i), file.getvalue())
        return {"rows": float(rows), "energy": float(block.energy.mean()), "sd": float(block.energy.std())}

    def table(self, block: Block, first: int) -> pa.Table:
        """The rows of a block, of which the first is the folder's number `first` (`block_table`)."""
        return block_table(block, self.data, first, self.snapshot.recipe.samples_are_data)

    def sample(self, i: int, rows: int) -> Block:
        """The first `rows` rows of block i. Raises InputError where the model has no such samples."""
        size, piece, parts = self.source.blocks.size, CHAINS_PER_TASK[self.data.spec.kind], []
        for task in self._tasks(
            i, min(size, -(-rows // piece) * piece)
        ):  # whole tasks, even if only part of the last is needed
            states, energy = self._advance(task)
            x = decode_states(self.snapshot, states, task.seed).numpy()
            parts.append(Block(x, energy, np.full(len(x), task.seed)))
        return Block(*(np.concatenate(column)[:rows] for column in zip(*parts, strict=True)))

    def _tasks(self, i: int, n: int) -> list[ChainTask]:
        settings, seed = self.source.blocks, fold(self.source.blocks.seed, "block", i)
        if settings.label is not None:
            labels = np.full(n, symbol_of(self.snapshot, settings.label))
            return class_tasks(self.snapshot, labels, seed)
        return draw_tasks(self.snapshot, n, seed, settings.start)

    def _advance(self, task: ChainTask) -> tuple[Tensor, ndarray]:
        """States and energies after the task's steps, or after another number of steps, in stretches."""
        steps = self.source.blocks.steps
        tasks = [task] if steps is None else [with_steps([task], part)[0] for part in stretches(steps) or [0]]
        for k, part in enumerate(tasks):
            seed = task.seed if steps is None else fold(task.seed, "stretch", k)
            result = advance(self.snapshot.recipe, self.snapshot.nets, part._replace(x=task.x, seed=seed))
            task = task._replace(x=result.x)
        return torch.from_numpy(result.x), result.energy


def block_name(i: int) -> str:
    """The name of block i's file."""
    return f"block-{i:06d}.parquet"


def blocks(n: int, size: int) -> list[tuple[int, int]]:
    """The blocks of n samples, each with its number of rows; only the last may be partial."""
    return [(i, min(size, n - i * size)) for i in range(-(-n // size))]


def missing_blocks(source: BulkSource, n: int) -> list[tuple[int, int]]:
    """The blocks of n samples, with their rows, that are not in the folder yet; a new folder gets its description.

    Raises:
        InputError: the folder holds samples of another model, seed or kind, or other files, or cannot be written to.
    """
    folder, own = Storage.at(source.out), description(source)
    if folder.check_exists(DESCRIPTION_FILE):
        existing = folder.read_json(DESCRIPTION_FILE)
        if name := next((name for name in own if existing.get(name) != own[name]), None):
            raise InputError(f"has samples of another {name}: {existing.get(name)}, not {own[name]}", "out", source.out)
    elif folder.names():
        raise InputError("has other files: choose a new folder", "out", source.out)
    else:
        try:
            folder.write_json(DESCRIPTION_FILE, own)
        except RunWriteError as e:
            raise InputError(str(e)) from e
    names = set(folder.names())
    return [
        (i, rows) for i, rows in blocks(n, source.blocks.size) if block_name(i) not in names or _rows(folder, i) < rows
    ]


def _rows(folder: Storage, i: int) -> int:
    name = block_name(i)
    with read_errors(folder / name), folder.fs.open_input_file(f"{folder.path}/{name}") as file:
        return int(pq.read_metadata(file).num_rows)


def description(source: BulkSource) -> dict[str, Any]:
    """What the samples of one folder have in common."""
    settings = {"block" if name == "size" else name: value for name, value in asdict(source.blocks).items()}
    sha = sha256(source.weights.tobytes()).hexdigest()
    return {"run": source.job.name, "update": source.update, "weights_sha256": sha, **settings}


def block_table(block: Block, data: Dataset, first: int, are_data: bool = True) -> pa.Table:
    """Rows of a block: `image` in the Hugging Face layout (PNG), `features`, or `text`; with `energy` and `seed`.

    Samples that are not data are `features`, too.
    """
    more = {"energy": pa.array(block.energy, pa.float32()), "seed": pa.array(block.seed, pa.int64())}
    return pa.table({**(_data(block.x, data, first) if are_data else _features(block.x)), **more})


def _data(x: ndarray, data: Dataset, first: int) -> Mapping[str, pa.Array]:
    if data.spec.kind == "text":
        return {"text": pa.array(data.to_sentences(torch.from_numpy(x)))}
    if data.spec.kind != "image":
        return _features(x)
    pixels = np.round((x.clip(-1, 1) + 1) * 127.5).astype(np.uint8).transpose(0, 2, 3, 1)
    cells = [{"bytes": _png(image.squeeze()), "path": f"{first + i}.png"} for i, image in enumerate(pixels)]
    return {"image": pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))}


def _features(x: ndarray) -> Mapping[str, pa.Array]:
    flat = x.reshape(len(x), -1)
    return {"features": pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1])}


def _png(image: ndarray) -> bytes:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
