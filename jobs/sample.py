"""Draw samples from a run, finished or not, by its newest checkpoint.

The chains are the run's own: its start, steps, drift and noise are part of the model. Into a folder samples come in
blocks, a Parquet file each, and block i depends on (run, seed, i) alone: any number of actors writes the same files,
and a second call writes only what is missing.
"""

import io
import sys
import time
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import numpy as np
import pyarrow.parquet as pq
import torch
import tyro
from tqdm import tqdm

from jobs.cli.parsing import parse, run_command
from jobs.cli.results import SnapshotArgs, open_snapshot
from pipeline.errors import InputError
from pipeline.nets import weights
from pipeline.runs.image_grid import image_grid
from pipeline.runs.job import Range
from pipeline.runs.snapshot import Snapshot
from pipeline.runs.storage import Storage
from pipeline.sampling import bulk
from pipeline.sampling.long_chains import can_start_from_data

BLOCK = {"image": 500, "vector": 10_000, "text": 1000, "counts": 1000}
"""Samples of a block, by kind of data: some seconds, or minutes, of work."""

BlockSummary: TypeAlias = Mapping[str, Any]
"""What `bulk.Writer.write` says of a block."""


@dataclass(frozen=True)
class Sample:
    """What is drawn, and where it goes."""

    run: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="RUN")]
    """Folder of the run."""
    out: str
    """A new file, .parquet (PNG images, features or text) or .npy (samples as they are: float32, not clipped to
    [-1, 1]; int64 numbers of words). Or a folder (a path, s3:// or gs://), new or to go on with: Parquet files of PNG
    images, features or text, with each chain's energy and seed."""
    n: int = 1000
    """Number of samples to draw."""
    actors: int | Range = 0
    """Ray actors that draw the blocks of a folder: a number, or least:most, between which their number follows the
    work; 0: this process draws them."""
    label: int | None = None
    """Class of the samples, for recipes that have a chain for each; None: the model's samples."""
    steps: int = 0
    """Steps of the chains, for long runs; 0: the recipe's own."""
    start: Literal["noise", "data", "bank"] = "noise"
    """Where chains start: as the recipe says, from the run's data (not where states are latent vectors), its bank."""
    block: int = 0
    """Samples of a block, which is part of what is computed; 0: 500 images, 10,000 vectors, 1,000 texts."""
    seed: int = 0
    """Seed of starts and noise."""
    threads: int = 1
    """CPU threads of each process."""
    cpus_per_actor: float = 1.0
    """CPUs that Ray sets aside for an actor."""
    gpus_per_actor: float = 0.0
    """GPUs that Ray sets aside for an actor."""
    device: Literal["auto", "cpu", "cuda"] = "auto"
    """Of this process, where it draws; auto: a GPU where there is one."""


def main() -> None:
    """The command."""
    asked = parse(Sample, sys.argv[1:], "python -m jobs.sample", __doc__ or "")
    _check(asked)
    model = open_snapshot(
        SnapshotArgs(asked.run, seed=asked.seed, threads=asked.threads, device=asked.device), allow_latent=True
    )
    source = _source(asked, model)
    writer = bulk.BlockWriter(source, model.data, model.nets)
    writer.draw(0, 1)  # whatever cannot be drawn is said before anything is written
    if Path(asked.out).suffix in (".parquet", ".npy"):
        _file(asked, writer)
    else:
        _folder(asked, writer)


def _check(asked: Sample) -> None:
    """Raise BadInput for what no run could make right."""
    out = Path(asked.out).expanduser()
    least, most = asked.actors if isinstance(asked.actors, Range) else (asked.actors, asked.actors)
    if asked.n < 1:
        raise InputError(f"--n {asked.n}: it must be 1 or more")
    if asked.steps < 0 or asked.block < 0:
        raise InputError("--steps and --block must be 0 or more")
    if least > most or least < 0 or (isinstance(asked.actors, Range) and least < 1):
        raise InputError(f"--actors {least}:{most}: from 1 or more to as many or more")
    if asked.cpus_per_actor <= 0 or asked.gpus_per_actor < 0:
        raise InputError("--cpus-per-actor must be above 0, --gpus-per-actor 0 or more")
    if out.suffix in (".parquet", ".npy"):
        if asked.actors:
            raise InputError(f"--actors with --out {out}: a file is drawn by this process; name a folder for actors")
        if out.exists() or not out.absolute().parent.is_dir():
            raise InputError(f"--out {out} {'exists' if out.exists() else 'is in a folder that does not exist'}")
    elif out.suffix and "://" not in asked.out and not asked.out.endswith("/"):
        raise InputError(
            f"--out {out}: a file's name must end in .parquet or .npy, and that of a folder with a dot in /"
        )


def _source(asked: Sample, model: Snapshot) -> bulk.BulkSource:
    """What is drawn. Raises BadInput where the run has no such chains."""
    recipe, kind = model.job.recipe, model.data.spec.kind
    if asked.start != "noise" and asked.label is not None:
        raise InputError(f"--start {asked.start} with --label: chains of a class start as the recipe says")
    if asked.start == "data" and not can_start_from_data(model):
        raise InputError(f"--start data: the states of {asked.run} are latent vectors; use --start noise")
    bank = model.bank if asked.start == "bank" else None
    if asked.start == "bank" and bank is None:
        raise InputError(f"--start bank: {asked.run} has no bank")
    chain = recipe.sample_chain if asked.label is None else "class"
    if asked.steps and not recipe.sampler(chain, model.nets, model.update).gradient_evaluations:
        raise InputError(f"--steps {asked.steps}: {asked.run} draws from N(0, I), and no chain moves that")
    drawing = bulk.BlockSettings(asked.seed, asked.block or BLOCK[kind], asked.steps, asked.start, asked.label)
    states = None if bank is None else bank.numpy()
    flat, storage = weights.flatten(model.nets), Storage.at(asked.out)
    return bulk.BulkSource(model.job, flat, model.update, states, drawing, storage.path if storage.local else asked.out)


def _file(asked: Sample, writer: bulk.BlockWriter) -> None:
    source, parts = writer.source, []
    with _bar(asked.n, source.update) as bar:
        for i, rows in bulk.blocks(asked.n, source.drawing.size):
            parts.append(writer.draw(i, rows))
            bar.update(rows)
    block = bulk.Block(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    if source.out.endswith(".npy"):
        np.save(source.out, block.x)
    else:
        pq.write_table(bulk.block_table(block, writer.data, 0), source.out)
    print(f"{len(block.x)} samples in {asked.out}")


def _folder(asked: Sample, writer: bulk.BlockWriter) -> None:
    source, began = writer.source, time.perf_counter()
    if asked.actors:
        from pipeline.distributed import bulk as distributed
        from pipeline.distributed import cluster  # here: without actors Ray is not imported

        with cluster.connected():
            resources = asked.cpus_per_actor, asked.gpus_per_actor
            distributed.check_room(asked.actors, *resources)
            todo = bulk.missing_blocks(source, asked.n)
            words = distributed.write_blocks(source, todo, asked.actors, *resources, asked.threads) if todo else ()
            told = _told(words, todo, source.update)
    else:
        todo = bulk.missing_blocks(source, asked.n)
        told = _told((writer.write(i, rows) for i, rows in todo), todo, source.update)
    _conclude(asked, writer, told, time.perf_counter() - began)


def _bar(n: int, update: int) -> tqdm:
    return tqdm(total=n, desc=f"update {update}", unit="sample")


def _told(words: Iterable[BlockSummary], todo: list[tuple[int, int]], update: int) -> list[BlockSummary]:
    """What is said of each block, while a bar shows how many are done."""
    told = []
    with _bar(sum(rows for _, rows in todo), update) as bar:
        for one in words:
            told.append(one)
            bar.update(round(one["rows"]))
    return told


def _conclude(asked: Sample, writer: bulk.BlockWriter, told: list[BlockSummary], seconds: float) -> None:
    folder, drawn = Storage.at(writer.source.out), round(sum(one["rows"] for one in told))
    if writer.data.spec.kind == "image":
        first = writer.draw(0, min(100, asked.n)).x
        folder.write("grid.png", _picture(torch.from_numpy(first)))
        print(f"{'grid of the first':24} {asked.out.rstrip('/')}/grid.png")
    if drawn:
        mean = sum(one["rows"] * one["energy"] for one in told) / drawn
        square = sum(one["rows"] * (one["sd"] ** 2 + one["energy"] ** 2) for one in told) / drawn
        print(f"{'energy':24} {mean:.4g} ± {max(square - mean**2, 0) ** 0.5:.2g}")
        print(f"{'wall time':24} {seconds:.0f} s, {drawn / seconds:.3g} samples/s")
    print(f"{'samples':24} {asked.n} in {asked.out}, {drawn} of them drawn now")


def _picture(x: torch.Tensor) -> bytes:
    from torchvision.utils import save_image  # here, since it takes a second that --help need not wait for

    file = io.BytesIO()
    save_image(image_grid(x), file, format="png")
    return file.getvalue()


if __name__ == "__main__":
    run_command(main)
