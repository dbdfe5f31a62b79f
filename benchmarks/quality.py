"""CPU seconds to a given quality: the preset `digits-K40` of short_run beside the same in a plain script.

One process and one thread each, in turns, three seeds: the same network, batch, steps and rates, other random numbers.
The pipeline's seconds hold all that it does besides: logging, checkpoints, grids of samples.
"""

import tempfile
from functools import partial
from pathlib import Path

import numpy as np
import torch
from tqdm import tqdm

from benchmarks import plain_short_run
from benchmarks.timing import Row, smaller
from jobs.short_run import DIGITS_K40
from pipeline.chains.local_pool import LocalPool
from pipeline.chains.task import advance
from pipeline.data.dataset import load_data
from pipeline.evaluation.comparison import default_comparison
from pipeline.nets.weights import eval_copy
from pipeline.recipe import init_networks
from pipeline.run import run as run_whole
from pipeline.runs import checkpoint
from pipeline.runs.job import override
from pipeline.runs.job_json import to_json
from pipeline.runs.snapshot import Snapshot
from pipeline.runs.storage import Storage
from pipeline.sampling.draw import draw_tasks

SEEDS, UPDATES, EVERY, SHOWN = (0, 1, 2), 600, 50, 1000
GOALS = (30.0, 20.0)
"""Fréchet distances to come to."""
CPU = torch.device("cpu")


def of_pipeline(seed: int, folder: Path, distance) -> list[tuple[float, float]]:
    """(CPU seconds, Fréchet distance) at each checkpoint."""
    job = override(
        DIGITS_K40, learners=0, actors=0, lanes=1, seed=seed, updates=UPDATES, eval_samples=0, keep_checkpoints=1000
    )
    job = override(job, checkpoint_every=EVERY, out=str(folder / str(seed)))
    data = load_data("digits")
    Storage.at(job.out).write_json("job.json", to_json(job))
    pool = LocalPool(job.recipe, init_networks(job.recipe, data.spec, 0, CPU))
    run_whole(job, CPU, pool, partial(tqdm, disable=True))
    found, nets = [], eval_copy(init_networks(job.recipe, data.spec, 0, CPU))
    checkpoints = Storage.at(job.out) / "checkpoints"
    for name in checkpoint.whole_names(checkpoints):
        for net, weights in checkpoint.read_part(checkpoints / name, "learner")["networks"].items():
            nets[net].load_state_dict(weights)
        tasks = draw_tasks(Snapshot(job, data, nets, checkpoint.update_of(name)), SHOWN, seed)
        x = torch.from_numpy(np.concatenate([advance(job.recipe, nets, task).x for task in tasks]))
        found.append((checkpoint.read_state(checkpoints / name)["cpu_seconds"], distance.distance(x)))
    return found


def seconds_to(goal: float, curve: list[tuple[float, float]]) -> float:
    """CPU seconds at which the least distance so far comes to `goal`, on a straight line between two looks."""
    before, best = 0.0, float("inf")
    for seconds, value in curve:
        if value <= goal:
            share = 1.0 if best == float("inf") else (best - goal) / (best - value)
            return before + share * (seconds - before)
        if value < best:
            best = value
        before = seconds
    return float("nan")


def rows() -> list[Row]:
    distance = default_comparison(load_data("digits"), CPU)
    ours, other = [], []
    with tempfile.TemporaryDirectory() as folder:
        for seed in SEEDS:
            ours.append(of_pipeline(seed, Path(folder), distance))
            plain = plain_short_run.train(seed, UPDATES, EVERY, SHOWN)
            other.append([(seconds, distance.distance(x)) for seconds, x in plain])
    seeds = f"mean of {len(SEEDS)} seeds"
    spent = [float(np.mean([curve[-1][0] for curve in curves])) for curves in (ours, other)]
    found = [smaller(f"digits, {UPDATES} updates, {seeds}: plain script", "CPU s", *spent)]
    for goal in GOALS:
        to = [float(np.mean([seconds_to(goal, curve) for curve in curves])) for curves in (ours, other)]
        found.append(smaller(f"digits to Fréchet {goal:g}, {seeds}: plain script", "CPU s", *to))
    best = [float(np.mean([min(value for _, value in curve) for curve in curves])) for curves in (ours, other)]
    return [*found, smaller(f"digits, least Fréchet of {UPDATES} updates, {seeds}: plain script", "Fréchet", *best)]


if __name__ == "__main__":
    for row in rows():
        print(row)
