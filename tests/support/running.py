"""How tests run a job in their own process, and look at what it left."""

import io
from dataclasses import dataclass, fields
from functools import partial

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from tqdm import tqdm

from pipeline.chains.local_pool import LocalPool
from pipeline.chains.task import ChainResult
from pipeline.recipe import init_networks
from pipeline.recipes.anatomy import Anatomy
from pipeline.rng import fold
from pipeline.run import run as run_whole
from pipeline.runs import checkpoint
from pipeline.runs.job import load_dataset
from pipeline.runs.job_json import to_json
from pipeline.runs.storage import Storage

CPU = torch.device("cpu")
SMALL = "--learners 0 --actors 0 --steps 3 --width 4 --batch-size 8 --eval-samples 0"
"""Flags of an image job that takes a second."""


def local_pool(job):
    return LocalPool(job.recipe, init_networks(job.recipe, load_dataset(job).spec, 1, CPU))


def run(job, pool=None, device=CPU):
    """The result of a job, in this process; job.json is written as a command would."""
    Storage.at(job.out).write_json("job.json", to_json(job))
    return run_whole(job, device, pool or local_pool(job), partial(tqdm, file=io.StringIO()))


def newest(job):
    place = Storage.at(job.out) / "checkpoints"
    return place / checkpoint.newest_name(place)


def everything(job):
    """All tensors of the newest checkpoint, by part and name: weights, optimizers, banks, history of divergence."""
    place = newest(job)
    names = ["learner", *(f"lane-{p:04d}" for p in range(job.lanes))]
    trees = {name: checkpoint.read_part(place, name) for name in names}
    return {(name, k): t for name, tree in trees.items() for k, t in checkpoint.split_tensors(tree)[1].items()}


@dataclass(frozen=True)
class Fragile(Anatomy):
    """A recipe whose loss is no number at update `at` of the first `attempts` attempts, with seed 0."""

    at: int = 0
    attempts: int = 0

    @classmethod
    def like(cls, recipe, at, attempts):
        """The same settings, but fragile."""
        settings = {f.name: getattr(recipe, f.name) for f in fields(Anatomy)}
        return cls(**settings, at=at, attempts=attempts)

    def breaks(self, rng):
        """Whether these losses are taken on lane 1 at the update, in an attempt, that breaks."""
        return rng.initial_seed() in [fold(0, attempt, "losses", self.at, 1) for attempt in range(self.attempts)]

    def losses(self, nets, batch, chains, rng, update):
        broken = float("nan") if self.breaks(rng) else 1.0
        losses, metrics = super().losses(nets, batch, chains, rng, update)
        return {"energy": broken * losses["energy"]}, metrics


@dataclass(frozen=True)
class Exploding(Fragile):
    """The network's output grows thirtyfold where it breaks: finite numbers, far from all before."""

    def losses(self, nets, batch, chains, rng, update):
        if self.breaks(rng):
            with torch.no_grad():
                nets["energy"][-1].weight.mul_(30)
        return super(Fragile, self).losses(nets, batch, chains, rng, update)


@dataclass(frozen=True)
class RunningAway(Fragile):
    """From the update on where it breaks, the network's output grows by a tenth at each update, in such an attempt."""

    def losses(self, nets, batch, chains, rng, update):
        begun = [fold(0, attempt, "losses", update, 1) for attempt in range(self.attempts)]
        if update >= self.at and rng.initial_seed() in begun:
            with torch.no_grad():
                nets["energy"][-1].weight.mul_(1.1)
        return super(Fragile, self).losses(nets, batch, chains, rng, update)


def answer(lane, x, version=0, energy=None):
    """Chains of a lane that have come to x (n, *d)."""
    n = len(x)
    zeros = np.zeros(n, np.float32)
    energy = zeros if energy is None else energy
    return ChainResult(lane, np.arange(n), x, energy, zeros, zeros, 0.0, version, 1.0, n, 0.0)


def parts(lanes, data, chains):
    """Lane p's part of data and chains (n, 1): rows p, p + P, ..."""
    batches = {lane.index: {"data": {"x": torch.tensor(data[lane.index :: lane.count])}} for lane in lanes}
    answers = {("model", lane.index): answer(lane, chains[lane.index :: lane.count]) for lane in lanes}
    return batches, answers


def sentences_in(folder, n=240):
    """A Parquet file of n sentences, `the cat sees a dog .`, of eight nouns and eight verbs, which are the labels."""
    nouns = ("cat", "dog", "man", "woman", "child", "bird", "horse", "fish")
    verbs = ("sees", "likes", "hears", "meets", "helps", "seeks", "holds", "leads")
    drawn = np.random.default_rng(0).integers(8, size=(n, 3))
    text = [f"The {nouns[i]} {verbs[j]} a {nouns[k]}." for i, j, k in drawn]
    pq.write_table(pa.table({"text": text, "label": drawn[:, 1]}), folder / "text.parquet")
    return str(folder / "text.parquet")


def features_in(folder, n=60):
    """A Parquet file of n points in the plane, about (-2, 0) or (2, 0) as their label is 0 or 1."""
    label = np.arange(n) % 2
    x = np.random.default_rng(0).normal(size=(n, 2)) + np.stack([4 * label - 2, 0 * label], 1)
    pq.write_table(pa.table({"features": x.astype(np.float32).tolist(), "label": label}), folder / "table.parquet")
    return str(folder / "table.parquet")
