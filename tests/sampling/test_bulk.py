"""Samples in bulk: blocks that depend on (model, seed, number) alone, of every recipe."""

from dataclasses import replace

import numpy as np
import pyarrow.parquet as pq
import pytest
from running import CPU, sentences_in
from small_recipes import ARCHETYPES, COOP, recipe_names, with_recipe

from pipeline.data.dataset import load_data
from pipeline.errors import InputError
from pipeline.nets import weights
from pipeline.recipe import Recipe, init_networks
from pipeline.recipes.short_run import ShortRun
from pipeline.rng import fold
from pipeline.runs.job import load_dataset
from pipeline.runs.storage import Storage
from pipeline.samplers.langevin import Langevin
from pipeline.sampling import bulk
from pipeline.sampling.draw import CHAINS_PER_TASK, draw_tasks, start_states
from pipeline.sampling.long_chains import STRETCH


def source(job, **settings):
    nets = init_networks(job.recipe, load_dataset(job).spec, 0, CPU)
    drawing = bulk.BlockSettings(**{"seed": 3, "size": 250, **settings})
    return bulk.BulkSource(job, weights.flatten(nets), 5, None, drawing, f"{job.out}-samples")


@pytest.mark.parametrize("name", recipe_names(*ARCHETYPES))
def test_a_block_is_a_function_of_its_number_and_its_rows_go_on(small, tmp_path, name):
    one = source(with_recipe(small, name, sentences_in(tmp_path)))
    if type(one.job.recipe).initial_states is Recipe.initial_states:
        with pytest.raises(InputError, match="has no chain model, and so no samples"):
            one.writer(CPU).sample(0, 20)
        return
    some, all_, other = (one.writer(CPU).sample(i, rows) for i, rows in ((1, 20), (1, 250), (0, 250)))
    assert (len(some.x), len(all_.x)) == (20, 250)
    for short, long in zip(some, all_, strict=True):
        assert np.isfinite(long).all()
        assert np.array_equal(short, long[:20])
    assert not np.array_equal(other.x, all_.x)  # energies may be the same: those of uniform noise are
    assert not np.array_equal(other.seed, all_.seed)


def test_energies_are_those_of_the_rows(small):
    one = source(small)
    writer = one.writer(CPU)
    block, energy = writer.sample(0, 130), one.job.recipe.energy(writer.snapshot.nets)
    pieces = CHAINS_PER_TASK["image"]
    assert len(set(block.seed[:pieces])) == len(set(block.seed[pieces:])) == 1
    assert block.seed[0] != block.seed[-1]
    x = load_data("digits").batch(np.arange(1))["x"].new_tensor(block.x)
    np.testing.assert_allclose(energy(x).detach().numpy(), block.energy, rtol=1e-4, atol=1e-5)


def test_long_chains_are_cut_into_stretches_and_end_elsewhere(small):
    short, long = (source(small, steps=steps).writer(CPU) for steps in (3, 4))
    assert not np.array_equal(short.sample(0, 20).x, long.sample(0, 20).x)
    many = source(small, steps=STRETCH + 2, size=20).writer(CPU)
    assert np.isfinite(many.sample(0, 20).energy).all()


def test_chains_start_from_data_and_from_the_bank(small):
    job = replace(small, recipe=ShortRun(langevin=Langevin(steps=1, drift=0.0, noise=0.0), width=4))
    of_data = source(job, start="data").writer(CPU).sample(0, 50).x
    items = load_dataset(job).batch(np.arange(load_dataset(job).size))["x"].numpy().reshape(-1, 64)
    assert {x.tobytes() for x in of_data.reshape(50, 64)} <= {x.tobytes() for x in items}
    bank = np.random.default_rng(0).normal(size=(7, 1, 8, 8)).astype(np.float32)
    of_bank = replace(source(job, start="bank"), bank=bank).writer(CPU).sample(0, 50).x
    assert {x.tobytes() for x in of_bank} == {x.tobytes() for x in bank}


def test_only_what_is_missing_is_asked_for(small):
    one = source(small)
    folder = Storage.at(one.out)
    assert bulk.missing_blocks(one, 600) == [(0, 250), (1, 250), (2, 100)]
    writer = one.writer(CPU)
    for i, rows in bulk.missing_blocks(one, 600):
        writer.write(i, rows)
    assert bulk.missing_blocks(one, 600) == bulk.missing_blocks(one, 10) == []
    assert bulk.missing_blocks(one, 800) == [(2, 250), (3, 50)]
    folder.remove(bulk.block_name(1))
    assert bulk.missing_blocks(one, 600) == [(1, 250)]


def test_samples_of_another_kind_are_refused(small):
    one = source(small)
    bulk.missing_blocks(one, 10)
    before = Storage.at(one.out).names()
    for other in (source(small, seed=4), source(small, size=100), replace(one, update=6)):
        with pytest.raises(InputError, match="has samples of another"):
            bulk.missing_blocks(other, 10)
    assert Storage.at(one.out).names() == before


def test_a_folder_of_samples_is_data(small):
    one = source(small)
    writer = one.writer(CPU)
    for i, rows in bulk.missing_blocks(one, 300):
        writer.write(i, rows)
    found = load_data(one.out)
    assert (found.size, found.spec.shape) == (300, (1, 8, 8))
    x = np.concatenate([writer.sample(i, rows).x for i, rows in bulk.blocks(300, 250)])
    assert np.abs(found.batch(np.arange(300))["x"].numpy() - x.clip(-1, 1)).max() <= 1 / 255 + 1e-6
    rows = pq.read_table(f"{one.out}/{bulk.block_name(1)}")
    assert rows.column_names == ["image", "energy", "seed"]
    assert rows["image"][0].as_py()["path"] == "250.png"


def test_chains_without_steps_are_what_they_start_from(small):
    job = replace(small, recipe=COOP)
    writer = source(job, steps=0).writer(CPU)
    starts = start_states(draw_tasks(writer.snapshot, 250, fold(3, "block", 1))).numpy()
    assert np.array_equal(writer.sample(1, 250).x, starts)
    assert not np.array_equal(source(job).writer(CPU).sample(1, 250).x, starts)
