"""Every recipe on the simulated GPU gives the CPU's numbers, and its chains never wait for the host."""

from collections import Counter, defaultdict
from dataclasses import replace
from pprint import pformat

import known
import numpy as np
import pytest
import stages
import torch
from running import CPU, sentences_in
from simulated_gpu import simulated_gpu
from small_recipes import RECIPES, with_recipe

GPU = torch.device("cuda")
MEASURED = ("short_run on images", "symbol_vector on counts", "flow on points")
"""Recipes that the fast tests evaluate: a classifier's features, none, and a known density."""
STAGES = {
    **dict.fromkeys((stages.update, stages.checkpoint, stages.bulk), tuple(RECIPES)),
    **dict.fromkeys((stages.evaluation, stages.observation, stages.trial), MEASURED),
    stages.every_metric: (),
}
"""Stages, with the recipes of the fast tests."""
EXACT = (stages.update, stages.checkpoint, stages.bulk)
"""Stages whose numbers are the CPU's bit for bit; others sum in float64 over pieces that depend on the device."""

waits: dict[str, dict[str, Counter[str]]] = defaultdict(dict)
"""By stage and recipe: how often the host waited outside of samplers, by caller."""


@pytest.fixture
def workers(small, tmp_path):
    """A recipe's workers on the CPU and on the GPU."""

    def make(name):
        job = with_recipe(replace(small, lanes=2), name, sentences_in(tmp_path))
        on_cpu = stages.make_worker(job, CPU)
        with simulated_gpu():
            return on_cpu, stages.make_worker(replace(job, out=str(tmp_path / "gpu")), GPU)

    return make


def check(stage, name, on_cpu, on_gpu):
    """Go through a stage on both devices, and compare."""
    here = stage(on_cpu)
    with simulated_gpu() as record:
        there = stage(on_gpu)
    assert not record.refusals
    assert here.keys() == there.keys()
    tolerance = 0.0 if stage in EXACT and name not in known.ROUNDED else 1e-6
    for number, value in here.items():
        np.testing.assert_allclose(there[number], value, tolerance, tolerance, err_msg=f"{stage.__name__}: {number}")
    assert "tf32" not in {event.kind for event in record.events}
    assert record.waits(in_sampler=True).keys() <= known.SAMPLER_WAITS.get(name, {}).keys()
    waits[stage.__name__][name] = record.waits(in_sampler=False)


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_gives_the_cpus_numbers(name, workers):
    pair = workers(name)
    for stage, fast in STAGES.items():
        if name in fast:
            check(stage, name, *pair)


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_gives_the_cpus_numbers_at_every_stage(name, workers):
    pair = workers(name)
    for stage in STAGES:
        check(stage, name, *pair)


def test_the_host_waits_no_more_than_is_written_down():
    for stage, by_recipe in waits.items():
        most = Counter[str]()
        for counts in by_recipe.values():
            most |= counts
        allowed = Counter({caller: count for caller, (count, _) in known.WAITS[stage].items()})
        assert most <= allowed, f"new waits in {stage}:\n{pformat(dict(most - allowed))}"
        if by_recipe.keys() == RECIPES.keys():
            assert most == allowed, f"{stage} waits less often than known:\n{pformat(dict(allowed - most))}"
