"""Images a second and core of bulk sampling on Ray Data, beside the same blocks drawn by one process alone.

The network of the preset `digits-K40` of short_run, as initialised, 40 steps; two actors, each with a core. The steady
state is from the first block that is done to the last; the rest is what it takes Ray to start, and to end.
"""

import tempfile
import time
from dataclasses import replace

import torch

from benchmarks.timing import Row, faster, smaller
from jobs.short_run import DIGITS_K40
from pipeline.data.dataset import load_data
from pipeline.distributed.bulk import write_blocks
from pipeline.distributed.cluster import connected
from pipeline.nets import weights
from pipeline.process import configure_process
from pipeline.recipe import init_networks
from pipeline.sampling import bulk

SIZE, BLOCKS, ALONE = 500, 60, 8


def rows() -> list[Row]:
    configure_process(1)
    nets = init_networks(DIGITS_K40.recipe, load_data("digits").spec, 0, torch.device("cpu"))
    with tempfile.TemporaryDirectory() as folder, connected():
        source = bulk.BulkSource(
            DIGITS_K40, weights.flatten(nets), 0, None, bulk.BlockSettings(0, SIZE), f"{folder}/many"
        )
        began = time.perf_counter()
        done = [time.perf_counter() for _ in write_blocks(source, bulk.blocks(SIZE * BLOCKS, SIZE), 2, 1.0, 0.0, 1)]
        ended = time.perf_counter()
        alone = replace(source, out=f"{folder}/alone").writer(torch.device("cpu"))
        spent = []
        for i in range(ALONE):
            before = time.perf_counter()
            alone.write(i, SIZE)
            spent.append(time.perf_counter() - before)
    steady = SIZE * (len(done) - 1) / (done[-1] - done[0]) / 2
    idle = ended - began - SIZE * BLOCKS / (2 * steady)
    return [
        faster("bulk sampling, digits, K = 40, on Ray Data: one process", "images/s a core", steady, SIZE / min(spent)),
        smaller("bulk sampling, Ray Data's start and end: a block drawn alone", "s", idle, min(spent)),
    ]


if __name__ == "__main__":
    for row in rows():
        print(row)
