"""CPU seconds to a given quality: the preset `digits-K40` of short_run beside the same in a plain script.

One process and one thread each, in turns, three seeds: the same network, batch, steps and rates, other random numbers.
The pipeline's seconds hold all that it does besides: logging, checkpoints, grids of samples.
"""

from itertools import islice

import numpy as np
import torch

from benchmarks import plain_short_run
from benchmarks.curves import SHOWN, pipeline_curve
from benchmarks.timing import Row, smaller
from jobs.short_run import DIGITS_K40
from pipeline.data.dataset import load_data
from pipeline.evaluation.comparison import default_comparison
from pipeline.runs.job import override

SEEDS, UPDATES, EVERY = (0, 1, 2), 600, 50
GOALS = (30.0, 20.0)
"""Fréchet distances to come to."""


def of_pipeline(seed: int, distance) -> list[tuple[float, float]]:
    """(CPU seconds, Fréchet distance) at each checkpoint."""
    job = override(DIGITS_K40, lanes=1, seed=seed, updates=UPDATES)
    looks = pipeline_curve(job, load_data("digits"), EVERY, distance)
    return [(one["seconds"], one["distance"]) for one in looks]


def of_script(seed: int, distance) -> list[tuple[float, float]]:
    """The same of the plain script."""
    data = load_data("digits")
    loop = plain_short_run.train(data.batch(np.arange(data.size))["x"], seed, anneal=DIGITS_K40.recipe.anneal)
    looks = islice(loop, EVERY - 1, UPDATES, EVERY)
    return [(seconds, distance.distance(sample(SHOWN))) for seconds, sample in looks]


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
    distance = default_comparison(load_data("digits"), torch.device("cpu"))
    ours, other = [], []
    for seed in SEEDS:
        ours.append(of_pipeline(seed, distance))
        other.append(of_script(seed, distance))
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
