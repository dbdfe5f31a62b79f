"""Several learners against one, over gloo and without Ray: the law of lanes."""

import json
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from running import CPU, Exploding, Fragile, local_pool, sentences_in
from small_recipes import RECIPES, recipe_names, with_recipe
from tqdm import tqdm

from pipeline.chains.local_pool import LocalPool
from pipeline.data.dataset import load_data
from pipeline.nets.weights import flatten
from pipeline.recipe import init_networks
from pipeline.recipes.anatomy import Anatomy
from pipeline.run import run as run_whole
from pipeline.runs.job import DataSettings, Job, ResourceSettings, load_dataset, override
from pipeline.runs.job_json import to_json
from pipeline.runs.storage import Storage
from pipeline.samplers.langevin import Langevin
from pipeline.training import learner
from pipeline.training.collective import gather
from pipeline.training.worker import Worker

RATE = {"adam": 1e-3, "sgd": 0.1}
WORLDS = {4: (2, 3, 4), 12: (3,)}
"""By number of lanes: of how many learners; three share four lanes unevenly, as learners do whose number changes."""


FALLS = {Fragile: 3, Exploding: 55}
"""How a run diverges, in numbers that are not finite or that are, and at which update."""


def job(optimizer, lanes):
    recipe = Anatomy(
        langevin=Langevin(5, 1.0, 0.01),
        batch_size=24,
        width=4,
        leaky_slope=0.2,
        bank=96,
        restart_prob=0.2,
        optimizer=optimizer,
        lr=RATE[optimizer],
    )
    return Job(
        name="ranks",
        recipe=recipe,
        updates=3,
        lanes=lanes,
        lag=1,
        out="x",
        data=DataSettings("digits"),
        resources=ResourceSettings(learners=0, actors=0),
    )


DRIFTING = replace(job("adam", 4), max_staleness=0.05, lag=2)
"""Some of whose updates wait for fresh chains."""


def recipe_job(name, folder):
    """A small job with a recipe; the folder holds the texts."""
    return with_recipe(job("adam", 4), name, f"{folder}/text.parquet")


def make_worker(job):
    """What carries a job here, on whatever rank this process is."""
    data = load_dataset(job)
    return Worker(job, data, CPU, LocalPool(job.recipe, init_networks(job.recipe, data.spec, 1, CPU)))


def updated(job):
    """The weights after three updates, on whatever rank this process is."""
    rank = make_worker(job)
    for update in range(3):
        rank.step(update)
    return flatten(rank.learner.nets)


def waited(job):
    """The weights after six updates, and which of them waited for fresh chains."""
    rank = make_worker(job)
    fresh = [rank.step(update)[0]["chains/fresh"] for update in range(6)]
    return np.array([*flatten(rank.learner.nets), *fresh])


def fallen(folder, falls, rank=0):
    """The result of a run that goes back once, on whatever rank this process is."""
    at = FALLS[falls]
    recipe = falls.like(replace(job("sgd", 4).recipe, batch_size=8), at=at, attempts=1)
    settings = {
        "updates": at + 5,
        "checkpoint_every": at - 1,
        "patience": 3,
        "eval_samples": 0,
        "on_divergence": "rollback",
    }
    fragile = override(job("sgd", 4), recipe=recipe, out=f"{folder}/{falls.__name__}", **settings)
    if rank == 0:
        Storage.at(fragile.out).write_json("job.json", to_json(fragile))
    gather(None)
    return run_whole(fragile, CPU, local_pool(fragile), partial(tqdm, disable=True))


def work(rank, folder, names):
    """Be a rank of each number of learners in turn, as far as there is one; `names` are those of recipes."""
    torch.set_num_threads(1)
    for lanes, worlds in WORLDS.items():
        for world in worlds:
            if rank < world:
                meeting = f"file://{folder}/meet-{lanes}-{world}"
                dist.init_process_group("gloo", init_method=meeting, rank=rank, world_size=world)
                if world == 2:
                    for falls in FALLS:
                        found = fallen(folder, falls, rank)
                        Path(f"{folder}/{falls.__name__}-{rank}.json").write_text(json.dumps(found))
                    np.save(f"{folder}/drifting-{rank}.npy", waited(DRIFTING))
                    for name in names:
                        np.save(f"{folder}/{name}-{rank}.npy", updated(recipe_job(name, folder)))
                for optimizer in RATE:
                    np.save(f"{folder}/{optimizer}-{lanes}-{world}-{rank}.npy", updated(job(optimizer, lanes)))
                dist.destroy_process_group()


pytestmark = pytest.mark.xdist_group("ranks")
"""One process of pytest-xdist runs all of these, so the learners' work is done once."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory, request):
    folder = tmp_path_factory.mktemp("ranks")
    sentences_in(folder)
    parameters = [item.callspec.params for item in request.session.items if hasattr(item, "callspec")]
    selected = {values["name"] for values in parameters if values.get("name") in RECIPES}
    mp.set_forkserver_preload(["torch", "pipeline.run", "pipeline.data.dataset", "pipeline.library"])  # once for all
    mp.start_processes(work, (str(folder), sorted(selected)), nprocs=4, start_method="forkserver")
    return folder


@pytest.mark.parametrize("optimizer", RATE)
@pytest.mark.parametrize(("lanes", "world"), [(lanes, world) for lanes, worlds in WORLDS.items() for world in worlds])
def test_learners_equal_one_learner(folder, optimizer, lanes, world):
    one = updated(job(optimizer, lanes))
    ranks = [np.load(folder / f"{optimizer}-{lanes}-{world}-{rank}.npy") for rank in range(world)]
    assert all(np.array_equal(rank, ranks[0]) for rank in ranks)
    assert not np.array_equal(
        one, flatten(init_networks(job(optimizer, lanes).recipe, load_data("digits").spec, 0, CPU))
    )
    if world == 2:
        assert np.array_equal(ranks[0], one)
    error = np.abs(ranks[0] - one).max()
    assert error <= (1e-5 if optimizer == "sgd" else 0.05 * RATE["adam"])


def test_two_learners_wait_for_fresh_chains_when_one_does(folder, monkeypatch):
    lanes, drift = [], learner.relative_change
    monkeypatch.setattr(
        learner, "relative_change", lambda *energies: lanes.append(float(drift(*energies))) or drift(*energies)
    )
    measure = learner.Learner.staleness
    apart = []

    def measured(self, *args):
        lanes.clear()
        mean = measure(self, *args)
        apart.append(lanes and len({sum(lanes[r::2]) / 2 > DRIFTING.max_staleness for r in range(2)}) > 1)
        return mean

    monkeypatch.setattr(learner.Learner, "staleness", measured)
    one = waited(DRIFTING)
    assert any(apart)  # where each rank by itself would have decided otherwise
    assert 0 < sum(one[-6:]) < 5
    for rank in range(2):
        assert np.array_equal(np.load(folder / f"drifting-{rank}.npy"), one)


@pytest.mark.parametrize("name", recipe_names("anatomy from data", "symbol_vector on counts"))
def test_two_learners_equal_one_bit_for_bit_with_every_recipe(folder, name):
    one = updated(recipe_job(name, folder))
    for rank in range(2):
        assert np.array_equal(np.load(folder / f"{name}-{rank}.npy"), one)


@pytest.mark.parametrize("falls", [Fragile, pytest.param(Exploding, marks=pytest.mark.slow)])
def test_two_learners_go_back_as_one_does(folder, tmp_path, falls):
    one, two = fallen(tmp_path, falls), json.loads((folder / f"{falls.__name__}-0.json").read_text())
    assert (len(one["rollbacks"]), len(two["rollbacks"])) == (1, 1)
    assert one["weights_sha256"] == two["weights_sha256"]
    assert one["gradient_evaluations"] == two["gradient_evaluations"]
    assert json.loads((folder / f"{falls.__name__}-1.json").read_text()) is None
