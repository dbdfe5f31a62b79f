"""An update through Ray, one learner and two actors on two cores, beside the same update in one process of two threads.

Short-run chains of 100 steps on 32x32 images, at lag 0 and 1; the least of the runs' medians. The fixed cost is what
the machine spends on an update of hardly any work, through Ray and in one process, between the 50th and the 350th.
"""

import dataclasses
import json
import statistics
import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import psutil
import torch
from tqdm import tqdm

from benchmarks.timing import Row, faster, smaller
from pipeline.chains.local_pool import LocalPool
from pipeline.distributed import train as distributed
from pipeline.distributed.cluster import connected
from pipeline.process import configure_process
from pipeline.recipe import init_networks
from pipeline.recipes.short_run import ShortRun
from pipeline.run import run as run_whole
from pipeline.runs.job import DataSettings, Job, load_dataset, override
from pipeline.runs.job_json import to_json
from pipeline.runs.storage import Storage
from pipeline.samplers.langevin import Langevin

RECIPE = ShortRun(langevin=Langevin(steps=100, drift=1.0, noise=0.01), batch_size=64, width=32)
UPDATES, ROUNDS = 6, 2
TINY = dataclasses.replace(RECIPE, langevin=Langevin(steps=1, drift=1.0, noise=0.01), batch_size=2, width=4)
FEW, MANY = 50, 350


def job(folder: Path, number: int, **settings) -> Job:
    plain = Job(name="update", recipe=RECIPE, data=DataSettings(str(folder / "data.npz")), updates=UPDATES, lanes=2)
    quiet = {"eval_samples": 0, "log_every": 1, "checkpoint_every": 10**6, "out": str(folder / f"run-{number}")}
    return override(plain, **{**quiet, **settings})


def run(one: Job) -> list[dict]:
    """The metrics of each update but the first two, which warm up."""
    Storage.at(one.out).write_json("job.json", to_json(one))
    cpu, spec = torch.device("cpu"), load_dataset(one).spec
    resources = one.resources
    if resources.learners or resources.actors:
        distributed.run_on_ray(one, spec, cpu)
    else:
        configure_process(resources.threads)
        run_whole(one, cpu, LocalPool(one.recipe, init_networks(one.recipe, spec, 0, cpu)), partial(tqdm, disable=True))
        torch.set_num_threads(1)
    return [json.loads(line) for line in (Path(one.out) / "metrics.jsonl").read_text().splitlines()][2:]


def seconds(rows: list[dict], what: str) -> float:
    return statistics.median(row[f"time/{what}"] for row in rows)


def cpu_of_machine() -> float:
    spent = psutil.cpu_times()
    return spent.user + spent.system + spent.nice


def fixed(folder: Path, numbers, **settings) -> float:
    """CPU seconds of the machine an update of hardly any work."""
    spent = {}
    for updates in (FEW, MANY):
        before = cpu_of_machine()
        run(job(folder, next(numbers), recipe=TINY, updates=updates, log_every=10**6, **settings))
        spent[updates] = cpu_of_machine() - before
    return (spent[MANY] - spent[FEW]) / (MANY - FEW)


def rows() -> list[Row]:
    sides = {
        "process": {"learners": 0, "actors": 0, "threads": 2},
        "lag 0": {"learners": 1, "actors": 2},
        "lag 1": {"learners": 1, "actors": 2, "lag": 1},
        "two actors": {"learners": 0, "actors": 2},
        "one actor": {"learners": 0, "actors": 1},
    }
    least = dict.fromkeys(sides, float("inf"))
    with tempfile.TemporaryDirectory() as name, connected():
        folder, numbers = Path(name), iter(range(1000))
        images = np.random.default_rng(0).integers(0, 256, size=(1000, 32, 32, 3), dtype=np.uint8)
        np.savez(folder / "data.npz", images=images)
        for _ in range(ROUNDS):
            for side, settings in sides.items():
                what = "chains" if side.endswith("actor") or side.endswith("actors") else "update"
                least[side] = min(least[side], seconds(run(job(folder, next(numbers), **settings)), what))
        ray = fixed(folder, numbers, learners=1, actors=2)
        process = fixed(folder, numbers, learners=0, actors=0)
    return [
        smaller("update, K = 100, lag 0: one process of two threads", "s", least["lag 0"], least["process"]),
        smaller("update, K = 100, lag 1: lag 0", "s", least["lag 1"], least["lag 0"]),
        faster("chains of two actors: of one", "1/s", 1 / least["two actors"], 1 / least["one actor"]),
        smaller("fixed cost of an update through Ray: in one process", "CPU ms", 1e3 * ray, 1e3 * process),
    ]


if __name__ == "__main__":
    for row in rows():
        print(row)
