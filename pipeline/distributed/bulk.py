"""Bulk sampling on Ray Data: an autoscaling pool of actors over blocks. It knows no paper."""

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import ray
import ray.data
import torch
from numpy import ndarray

from pipeline.distributed.cluster import require_resources
from pipeline.distributed.placement import bundles
from pipeline.process import configure_process
from pipeline.runs.job import Range
from pipeline.sampling.bulk import BulkSource


class BulkActor:
    """Loads the model once, then writes one block a call. Blocks are pure, so it may die at any time."""

    def __init__(self, source: list[ray.ObjectRef], threads: int):
        configure_process(threads)
        device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
        self.writer = ray.get(source[0]).writer(device)

    def __call__(self, batch: dict[str, ndarray]) -> dict[str, ndarray]:
        """Write the blocks of a batch; what `BlockWriter.write` returns of each."""
        rows = [self.writer.write(int(i), int(n)) for i, n in zip(batch["block"], batch["rows"], strict=True)]
        return {name: np.array([row[name] for row in rows]) for name in rows[0]}


def check_room(actors: int | Range, cpus: float, gpus: float) -> None:
    """Raise InputError where the cluster has no room for the fewest actors, each with its CPUs and GPUs."""
    least = actors if isinstance(actors, int) else actors.least
    require_resources(bundles(cpus, gpus, least), f"{least} actors need", "actors, cpus_per_actor or gpus_per_actor")


def write_blocks(
    source: BulkSource, blocks: list[tuple[int, int]], actors: int | Range, cpus: float, gpus: float, threads: int
) -> Iterator[dict[str, Any]]:
    """Write blocks on the cluster that Ray is connected to; yields a summary of each block as it is done, in any order.

    Args:
        source: of the samples.
        blocks: each with its number of rows.
        actors: how many write at the same time.
        cpus: that Ray reserves per actor.
        gpus: the same.
        threads: CPU threads per actor.
    """
    least, most = actors if isinstance(actors, Range) else (actors, actors)
    context = ray.data.DataContext.get_current()
    context.enable_progress_bars, context.print_on_execution_start = False, False
    logging.getLogger("ray.data").setLevel(logging.ERROR)
    shared = [ray.put(source)]  # in a list, so that Ray hands over the reference and not the value
    rows = [{"block": i, "rows": n} for i, n in blocks]
    pool = ray.data.ActorPoolStrategy(min_size=least, max_size=most, max_tasks_in_flight_per_actor=2)
    summaries = ray.data.from_items(rows, override_num_blocks=len(rows)).map_batches(
        BulkActor, batch_size=1, compute=pool, num_cpus=cpus, num_gpus=gpus, fn_constructor_args=(shared, threads)
    )
    yield from summaries.iter_rows()
