"""How tests run a job in their own process, and look at what it left."""

import io
from functools import partial

import torch
from tqdm import tqdm

from pipeline import checkpoint
from pipeline.chains import LocalPool
from pipeline.data import load
from pipeline.job import to_json
from pipeline.learner import build
from pipeline.loop import train
from pipeline.storage import Storage

CPU = torch.device("cpu")


def local_pool(job):
    return LocalPool(job.recipe, build(job.recipe, load(job.data).spec, 1, CPU))


def run(job, pool=None):
    """The result of a job, in this process; job.json is written as a command would."""
    Storage.at(job.out).write_json("job.json", to_json(job))
    return train(job, CPU, pool or local_pool(job), partial(tqdm, file=io.StringIO()))


def newest(job):
    place = Storage.at(job.out) / "checkpoints"
    return place / checkpoint.newest(place)
