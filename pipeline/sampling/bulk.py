"""Samples in bulk: block i is a function of (model, seed, i), whoever draws it, and is one file, whole or not there."""

import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from hashlib import sha256
from typing import Any, Literal, NamedTuple

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from jaxtyping import Float32
from numpy import ndarray
from PIL import Image
from torch import Tensor

from pipeline.chains.task import ChainTask, advance
from pipeline.data.dataset import Dataset
from pipeline.errors import InputError
from pipeline.nets.weights import Nets, eval_copy, load
from pipeline.recipe import init_networks
from pipeline.rng import fold
from pipeline.runs.job import Job, load_dataset
from pipeline.runs.storage import Storage
from pipeline.sampling.draw import CHAINS_PER_TASK, class_tasks, decode_states, draw_tasks
from pipeline.sampling.long_chains import stretches, with_steps

DESCRIPTION_FILE = "sampling.json"
"""What the samples of a folder are of."""


@dataclass(frozen=True)
class BlockSettings:
    """What decides the samples of a block, beside the model."""

    seed: int
    size: int
    """Samples of a block."""
    steps: int = 0
    """Steps of the chains; 0: as many as the recipe's."""
    start: Literal["noise", "data", "bank"] = "noise"
    """Where they start: as the recipe says, from the run's data, or from its bank."""
    label: int | None = None
    """Class of the samples; None: the model's samples."""


class Block(NamedTuple):
    """Samples with what drew them."""

    x: ndarray
    """(n, *shape) data: float32, or int64 numbers of words."""
    energy: Float32[ndarray, " n"]
    """U of each chain's final state, under the chain's own target."""
    seed: ndarray
    """(n,) int64: of the task that moved the chain; a task is up to `draw.CHAINS_PER_TASK` rows in their order."""


@dataclass(frozen=True)
class BulkSource:
    """A model, what is drawn of it, and the folder that its blocks go to; it travels to whoever draws them."""

    job: Job[Any]
    weights: Float32[ndarray, " p"]
    update: int
    bank: ndarray | None
    """(n, *d) states of the model's bank, where chains start from it."""
    drawing: BlockSettings
    out: str = ""

    def writer(self, device: torch.device) -> "BlockWriter":
        """What draws and writes blocks, on a device."""
        data = load_dataset(self.job)
        nets = eval_copy(init_networks(self.job.recipe, data.spec, self.job.seed, device))
        load(nets, self.weights)
        return BlockWriter(self, data, nets)


class BlockWriter:
    """Draws blocks with networks of its own."""

    def __init__(self, source: BulkSource, data: Dataset, nets: Nets):
        self.source, self.data, self.nets = source, data, nets

    def write(self, i: int, rows: int) -> dict[str, float]:
        """Write the first `rows` rows of block i as a Parquet file; its number of rows, mean and sd of their energy."""
        block, first = self.draw(i, rows), i * self.source.drawing.size
        file = io.BytesIO()
        pq.write_table(block_table(block, self.data, first), file)
        Storage.at(self.source.out).write(block_name(i), file.getvalue())
        return {"rows": float(rows), "energy": float(block.energy.mean()), "sd": float(block.energy.std())}

    def draw(self, i: int, rows: int) -> Block:
        """The first `rows` rows of block i. Raises BadInput where the model has no such samples."""
        recipe, size = self.source.job.recipe, self.source.drawing.size
        piece, parts = CHAINS_PER_TASK[self.data.spec.kind], []
        for task in self._tasks(i, min(size, -(-rows // piece) * piece)):  # whole tasks, whatever is kept of the last
            states, energy = self._moved(task)
            x = decode_states(recipe, self.nets, states, task.seed).numpy()
            parts.append(Block(x, energy, np.full(len(x), task.seed)))
        return Block(*(np.concatenate(column)[:rows] for column in zip(*parts, strict=True)))

    def _tasks(self, i: int, n: int) -> list[ChainTask]:
        source, drawing, recipe = self.source, self.source.drawing, self.source.job.recipe
        seed = fold(drawing.seed, "block", i)
        if drawing.label is not None:
            labels = np.full(n, drawing.label)
            return class_tasks(recipe, self.nets, self.data, labels, source.update, seed)
        bank = None if source.bank is None else torch.from_numpy(source.bank)
        return draw_tasks(recipe, self.nets, self.data, n, source.update, seed, drawing.start, bank)

    def _moved(self, task: ChainTask) -> tuple[Tensor, ndarray]:
        """States and energies after the task's steps, or after those asked for, in stretches."""
        lengths = stretches(self.source.drawing.steps)
        tasks = [with_steps([task], steps)[0] for steps in lengths] or [task]
        for k, part in enumerate(tasks):
            seed = fold(task.seed, "stretch", k) if lengths else task.seed
            answer = advance(self.source.job.recipe, self.nets, part._replace(x=task.x, seed=seed))
            task = task._replace(x=answer.x)
        return torch.from_numpy(answer.x), answer.energy


def block_name(i: int) -> str:
    """The file of block i."""
    return f"block-{i:06d}.parquet"


def blocks(n: int, size: int) -> list[tuple[int, int]]:
    """The blocks of n samples, with the rows of each: all whole but perhaps the last."""
    return [(i, min(size, n - i * size)) for i in range(-(-n // size))]


def missing_blocks(source: BulkSource, n: int) -> list[tuple[int, int]]:
    """The blocks, with their rows, that the folder lacks of n samples; of what it is, is written there if it is new.

    Raises:
        BadInput: there are samples of another model, seed or kind in it, or files that are no samples.
    """
    folder = Storage.at(source.out)
    about = description(source)
    if folder.check_exists(DESCRIPTION_FILE):
        found = folder.read_json(DESCRIPTION_FILE)
        if differ := [name for name in about if found.get(name) != about[name]]:
            name = differ[0]
            raise InputError(f"--out {source.out} has samples of another {name}: {found.get(name)}, not {about[name]}")
    elif folder.names():
        raise InputError(f"--out {source.out} has files that are no samples: choose a new folder")
    else:
        try:
            folder.write_json(DESCRIPTION_FILE, about)
        except OSError as e:
            raise InputError(f"--out {source.out} cannot be written to: {str(e).splitlines()[0]}") from e
    there = set(folder.names())
    return [
        (i, rows) for i, rows in blocks(n, source.drawing.size) if block_name(i) not in there or _rows(folder, i) < rows
    ]


def _rows(folder: Storage, i: int) -> int:
    with folder.fs.open_input_file(f"{folder.path}/{block_name(i)}") as file:
        return int(pq.read_metadata(file).num_rows)


def description(source: BulkSource) -> dict[str, Any]:
    """What samples in one folder have in common."""
    drawing = {"block" if name == "size" else name: value for name, value in asdict(source.drawing).items()}
    sha = sha256(source.weights.tobytes()).hexdigest()
    return {"run": source.job.name, "update": source.update, "weights_sha256": sha, **drawing}


def block_table(block: Block, data: Dataset, first: int) -> pa.Table:
    """Rows of a block: `image` in the Hugging Face layout (PNG), `features`, or `text`; with `energy` and `seed`."""
    more = {"energy": pa.array(block.energy, pa.float32()), "seed": pa.array(block.seed, pa.int64())}
    return pa.table({**_data(block.x, data, first), **more})


def _data(x: ndarray, data: Dataset, first: int) -> Mapping[str, pa.Array]:
    if data.spec.kind == "text":
        return {"text": pa.array(data.to_sentences(torch.from_numpy(x)))}
    if data.spec.kind != "image":
        flat = x.reshape(len(x), -1)
        return {"features": pa.FixedSizeListArray.from_arrays(pa.array(flat.reshape(-1)), flat.shape[1])}
    pixels = np.round((x.clip(-1, 1) + 1) * 127.5).astype(np.uint8).transpose(0, 2, 3, 1)
    cells = [{"bytes": _png(image.squeeze()), "path": f"{first + i}.png"} for i, image in enumerate(pixels)]
    return {"image": pa.array(cells, pa.struct([("bytes", pa.binary()), ("path", pa.string())]))}


def _png(image: ndarray) -> bytes:
    file = io.BytesIO()
    Image.fromarray(image).save(file, "PNG")
    return file.getvalue()
