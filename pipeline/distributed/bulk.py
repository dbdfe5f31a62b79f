"""Bulk sampling on Ray Data: an autoscaling pool of actors over blocks. It knows no paper."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import ray
import ray.data
import torch
from numpy import ndarray

from pipeline.distributed.cluster import machines, missing
from pipeline.errors import InputError
from pipeline.process import configure_process
from pipeline.runs.job import Range
from pipeline.sampling.bulk import BulkSource


class BulkActor:
    """One of the pool's actors: the model once, then a block a call. Blocks are pure, so it may die at any time."""

    def __init__(self, source: list[ray.ObjectRef], threads: int):
        configure_process(threads)
        device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
        self.writer = ray.get(source[0]).writer(device)

    def __call__(self, batch: dict[str, ndarray]) -> dict[str, ndarray]:
        """Write the blocks of a batch, and say what `bulk.Writer.write` says of each."""
        told = [self.writer.write(int(i), int(rows)) for i, rows in zip(batch["block"], batch["rows"], strict=True)]
        return {name: np.array([one[name] for one in told]) for name in told[0]}


def check_room(actors: int | Range, cpus: float, gpus: float) -> None:
    """Raise BadInput where the cluster has no room for the fewest actors, each with its CPUs and GPUs."""
    least = actors if isinstance(actors, int) else actors.least
    asks = {name: amount for name, amount in (("CPU", cpus), ("GPU", gpus)) if amount}
    if lacks := missing([asks] * least, machines()):
        raise InputError(f"{least} actors need {lacks}; ask for less (--actors, --cpus-per-actor, --gpus-per-actor)")


def write_blocks(
    source: BulkSource, blocks: list[tuple[int, int]], actors: int | Range, cpus: float, gpus: float, threads: int
) -> Iterator[dict[str, Any]]:
    """Write blocks on Ray's cluster, which has room; what is said of each as they are done, in no order.

    Args:
        source: of the samples.
        blocks: each with its number of rows.
        actors: how many draw them at a time.
        cpus: that Ray sets aside for an actor.
        gpus: the same.
        threads: of an actor.
    """
    least, most = actors if isinstance(actors, Range) else (actors, actors)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars, context.print_on_execution_start = False, False
    logging.getLogger("ray.data").setLevel(logging.WARNING)
    here = [ray.put(source)]
    rows = [{"block": i, "rows": n} for i, n in blocks]
    pool = ray.data.ActorPoolStrategy(min_size=least, max_size=most, max_tasks_in_flight_per_actor=2)
    told = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        BulkActor, batch_size=1, compute=pool, num_cpus=cpus, num_gpus=gpus, fn_constructor_args=(here, threads)
    )
    yield from told.iter_rows()
