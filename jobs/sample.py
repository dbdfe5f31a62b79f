"""Draw samples from a run, finished or not, at its newest checkpoint, or at an older one (--checkpoint).

The chains are the run's own: initial distribution, steps, drift and noise are part of the model. Into a folder samples
are written in blocks, one Parquet file each. Block i depends on (run, seed, i) alone: any number of actors writes the
same files, and a second call writes only what is missing.
"""

import io
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import torch

from jobs.cli.command import run_command
from jobs.cli.open_run import RunArgs, open_snapshot, seed_of
from jobs.cli.parsing import parse
from jobs.cli.results import check_new_file
from pipeline import progress, stop
from pipeline.errors import InputError
from pipeline.nets.weights import flatten
from pipeline.progress import ProgressBar
from pipeline.runs.image_grid import image_grid
from pipeline.runs.job import Range
from pipeline.runs.snapshot import Snapshot
from pipeline.runs.storage import Storage
from pipeline.sampling import bulk
from pipeline.sampling.draw import ChainStart
from pipeline.sampling.long_chains import can_start_from_data
from pipeline.settings import Count, Gpus, NonNegative, Positive, PositiveInt

BLOCK_SIZE = {"image": 500, "vector": 10_000, "text": 1000, "counts": 1000}
"""Samples per block, by kind of data: some seconds, or minutes, of work."""
FILES = (".parquet", ".npy")

BlockSummary: TypeAlias = Mapping[str, Any]
"""What `BlockWriter.write` returns."""


@dataclass(frozen=True, kw_only=True)
class Sample(RunArgs):
    """The run, what is drawn, and where it goes."""

    out: str
    """A new file: .parquet (PNG images, features or text), or .npy (float32 samples, not clipped to [-1, 1], or int64
    word indices). Or a folder (a path, s3:// or gs://), new or to continue: Parquet files of PNG images, features or
    text, with the energy and seed of each chain."""
    n: PositiveInt = 1000
    """Number of samples."""
    actors: Count | Range = 0
    """Ray actors that draw the blocks of a folder: a number, or least:most, between which it follows the work; 0: this
    process draws them."""
    label: int | str | None = None
    """Class of the samples, as the data name it, for recipes that can sample one; None: the model's samples."""
    steps: Count | None = None
    """Steps of the chains; 0: what they start from; None: the recipe's own."""
    start: ChainStart = "noise"
    """Where chains start: from the recipe's initial distribution, the run's data (not latent vectors), or its bank."""
    block: Count = 0
    """Samples per block, which the samples depend on; 0: 500 images, 10,000 vectors, 1,000 texts."""
    cpus_per_actor: Positive = 1.0
    """CPUs that Ray reserves per actor."""
    gpus_per_actor: Gpus = 0.0
    """GPUs that Ray reserves per actor."""
    minutes: NonNegative = 0.0
    """Minutes after which the command stops, with exit code 0; the same command writes the blocks of the folder that
    are missing. 0: no limit."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if isinstance(self.actors, Range) and not 1 <= self.actors.least <= self.actors.most:
            raise InputError("must be 1 <= least <= most", "actors", f"{self.actors.least}:{self.actors.most}")


def main(argv: Sequence[str]) -> None:
    """The command."""
    args = parse(Sample, argv, "python -m jobs.sample", __doc__ or "")
    _check_out(args)
    snapshot = open_snapshot(args, needs_energy=False)
    writer = bulk.BlockWriter(_source(args, snapshot), snapshot)
    writer.sample(0, 1)  # what cannot be drawn is reported before anything is written
    if _is_file(args):
        _write_file(args, writer)
    else:
        _write_folder(args, writer)


def _is_file(args: Sample) -> bool:
    return Path(Storage.at(args.out).name).suffix in FILES


def _check_out(args: Sample) -> None:
    """Raise InputError for a file or folder that cannot be written to, whatever the run."""
    out = Storage.at(args.out)
    if _is_file(args):
        if args.actors:
            raise InputError("this process writes a file; name a folder for actors", "out", args.out)
        check_new_file(args.out, "out")
    elif Path(out.name).suffix and out.local and not args.out.endswith("/"):
        raise InputError("a file must end in .parquet or .npy; a folder with a dot must end in /", "out", args.out)


def _source(args: Sample, snapshot: Snapshot) -> bulk.BulkSource:
    """What is drawn. Raises InputError where the run has no such chains."""
    recipe, bank = snapshot.recipe, snapshot.bank if args.start == "bank" else None
    if args.start != "noise" and args.label is not None:
        raise InputError("chains of a class start as the recipe says: use it without a label", "start", args.start)
    if args.start == "data" and not can_start_from_data(snapshot):
        raise InputError(f"the states of {args.run} are latent vectors; use noise", "start", "data")
    if args.start == "bank" and bank is None:
        raise InputError(f"{args.run} has no bank", "start", "bank")
    chain = recipe.sample_chain if args.label is None else recipe.class_chain
    if args.steps and chain and not recipe.sampler(chain, snapshot.nets, snapshot.update).gradient_evaluations:
        raise InputError(f"{args.run} draws its samples without a chain", "steps", args.steps)
    size = args.block or BLOCK_SIZE[snapshot.data.spec.kind]
    blocks = bulk.BlockSettings(seed_of(args, snapshot), size, args.steps, args.start, args.label)
    states, out = None if bank is None else bank.numpy(), Storage.at(args.out)
    return bulk.BulkSource(snapshot.job, flatten(snapshot.nets), snapshot.update, states, blocks, out.uri)


def _write_file(args: Sample, writer: bulk.BlockWriter) -> None:
    source, parts = writer.source, []
    with _bar(args.n, source.update) as bar:
        for i, rows in bulk.blocks(args.n, source.blocks.size):
            parts.append(writer.sample(i, rows))
            bar.update(rows)
    block = bulk.Block(*(np.concatenate(column) for column in zip(*parts, strict=True)))
    out, file = Storage.at(source.out), io.BytesIO()
    if out.name.endswith(".npy"):
        np.save(file, block.x)
    else:
        import pyarrow.parquet as pq  # slow to import

        pq.write_table(writer.table(block, 0), file)
    out.parent.write(out.name, file.getvalue())
    print(f"{'samples':24} {len(block.x)} in {args.out}")


def _write_folder(args: Sample, writer: bulk.BlockWriter) -> None:
    source, began = writer.source, time.perf_counter()
    if args.actors:
        summaries = _write_on_ray(args, source)
    else:
        blocks = bulk.missing_blocks(source, args.n)
        summaries = _watch((writer.write(i, rows) for i, rows in blocks), blocks, source.update, args.minutes)
    _print_summary(args, writer, summaries, time.perf_counter() - began)


def _write_on_ray(args: Sample, source: bulk.BulkSource) -> list[BlockSummary]:
    from pipeline.distributed import bulk as distributed  # here: without actors Ray is not imported
    from pipeline.distributed import cluster

    with cluster.connected():
        resources = args.cpus_per_actor, args.gpus_per_actor
        distributed.check_room(args.actors, *resources)
        blocks = bulk.missing_blocks(source, args.n)
        if not blocks:
            return []
        summaries = distributed.write_blocks(source, blocks, args.actors, *resources, args.threads)
        return _watch(summaries, blocks, source.update, args.minutes)


def _bar(n: int, update: int) -> AbstractContextManager[ProgressBar]:
    return progress.bar(n, f"drawing {n:,} samples at update {update}", "sample")


def _watch(
    summaries: Iterable[BlockSummary], blocks: list[tuple[int, int]], update: int, minutes: float
) -> list[BlockSummary]:
    """The summaries of the blocks, while a bar shows how many samples are done, until the time is up."""
    done, total = list[BlockSummary](), sum(rows for _, rows in blocks)
    where = lambda: f"with {sum(round(one['rows']) for one in done):,} of {total:,} samples drawn"  # noqa: E731
    with _bar(total, update) as bar, stop.continuing(sys.orig_argv, where):
        for summary in summaries:
            done.append(summary)
            bar.update(round(summary["rows"]))
            stop.limit_minutes(minutes)  # here, since the first block is drawn in any case
    return done


def _print_summary(args: Sample, writer: bulk.BlockWriter, summaries: list[BlockSummary], seconds: float) -> None:
    count = round(sum(one["rows"] for one in summaries))
    if writer.data.spec.kind == "image" and writer.snapshot.recipe.samples_are_data:
        first = writer.sample(0, min(100, args.n)).x
        out = Storage.at(writer.source.out)
        out.write("grid.png", _grid(torch.from_numpy(first)))
        print(f"{'grid of the first':24} {out / 'grid.png'}")
    if count:
        mean = sum(one["rows"] * one["energy"] for one in summaries) / count
        square = sum(one["rows"] * (one["sd"] ** 2 + one["energy"] ** 2) for one in summaries) / count
        print(f"{'energy':24} {mean:.4g} ± {max(square - mean**2, 0) ** 0.5:.2g}")
        print(f"{'wall time':24} {seconds:.0f} s, {count / seconds:.3g} samples/s")
    print(f"{'samples':24} {args.n} in {args.out}, {count} of them new")


def _grid(x: torch.Tensor) -> bytes:
    from torchvision.utils import save_image  # slow to import

    file = io.BytesIO()
    save_image(image_grid(x), file, format="png")
    return file.getvalue()


if __name__ == "__main__":
    run_command(main)
