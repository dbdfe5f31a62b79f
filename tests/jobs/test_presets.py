"""The presets that carry a paper's numbers, run for a few updates on stand-ins of their data."""

from dataclasses import replace

import pytest
from running import run

from jobs import short_run
from pipeline.job import check, from_json, to_json


@pytest.mark.parametrize("name", short_run.PRESETS)
def test_every_preset_is_sound_and_survives_its_json(name):
    job = short_run.PRESETS[name]
    check(job)
    assert from_json(to_json(job)) == job


@pytest.mark.parametrize(("name", "width"), [("cifar10", 128), ("celeba", 64)])
def test_the_papers_numbers(name, width):
    recipe = short_run.PRESETS[name].recipe
    langevin = recipe.langevin
    assert (langevin.steps, langevin.drift, langevin.noise, recipe.data_noise) == (100, 1.0, 0.01, 0.03)
    assert (recipe.width, recipe.learning_rate, recipe.slope, recipe.start_from) == (width, 1e-4, 0.2, "uniform")
    assert (short_run.PRESETS[name].updates, short_run.PRESETS[name].limit) == (200_000, 40_000)


@pytest.mark.parametrize("name", ["mnist", "fashion-mnist", "cifar10", "celeba"])
def test_a_few_updates_on_a_stand_in(name, tmp_path, monkeypatch):
    from test_sources import stand_in

    monkeypatch.setenv("EBM_CACHE", str(tmp_path))
    stand_in(name, tmp_path / "torchvision", monkeypatch)
    job = short_run.PRESETS[name]
    recipe = replace(job.recipe, width=4, batch=8, langevin=replace(job.recipe.langevin, steps=3))
    few = replace(job, recipe=recipe, updates=2, samples=0, learners=0, actors=0, out=str(tmp_path / "run"))
    assert run(few)["gradient_evaluations"] == 2 * 8 * 3
