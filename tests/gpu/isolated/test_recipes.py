"""Every recipe on the simulated GPU gives the CPU's numbers, and its chains never wait for the host."""

from collections import Counter, defaultdict
from dataclasses import replace
from pprint import pformat

import counting
import known
import numpy as np
import operators
import pytest
import stages
import torch
from counting import GPU
from running import CPU, sentences_in
from simulated_gpu import simulated_gpu
from small_recipes import ARCHETYPES, RECIPES, with_recipe

STAGES = {
    stages.update: tuple(RECIPES),
    **dict.fromkeys((stages.checkpoint, stages.bulk), ARCHETYPES),
    stages.evaluation: ("symbol_vector on counts",),
    **dict.fromkeys((stages.observation, stages.trial), ()),
}
"""Stages, with the recipes of the fast tests; evaluated is one without a classifier, whose training would take longer
than all."""
ROUNDING = 1e-6
"""What numbers may differ by, absolutely and relatively: a GPU's batches hold several lanes and its evaluation other
pieces, and how a CPU sums a product depends on its shape, its layout, and the CPU."""

waits: dict[str, dict[str, Counter[str]]] = defaultdict(dict)
"""By stage and recipe: how often the host waited outside of samplers, by caller."""
waits_of_samplers: dict[str, Counter[str]] = defaultdict(Counter)
"""The same inside of samplers, by recipe."""
counts: dict[str, dict[str, int]] = {}
"""Operators of a step of each chain and of the first update, by recipe; of a step, by preset."""


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
    with simulated_gpu() as record, counting.of_updates(on_gpu.learner, record) as of_updates:
        there = stage(on_gpu)
    assert not record.refusals
    assert here.keys() == there.keys()
    for number, value in here.items():
        np.testing.assert_allclose(there[number], value, ROUNDING, ROUNDING, err_msg=f"{stage.__name__}: {number}")
    assert "tf32" not in {event.kind for event in record.events}
    waits[stage.__name__][name] = record.waits(in_sampler=False)
    waits_of_samplers[name] |= record.waits(in_sampler=True)
    if stage is stages.update:
        counts[name] = {**counting.of_steps(on_gpu), "update": of_updates[0]}


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_gives_the_cpus_numbers(name, workers):
    pair = workers(name)
    for stage, fast in STAGES.items():
        if name in fast:
            check(stage, name, *pair)


@pytest.mark.parametrize("name", counting.PRESETS)
def test_a_step_of_a_preset_is_counted(name):
    counts[name] = counting.of_preset(name)
    if not name.startswith("HMC"):
        counts[name]["step of 2 lanes"] = counting.of_two_lanes(name)


@pytest.mark.skipif(torch.__version__.rpartition(".")[0] != operators.TORCH, reason="counted with another torch")
def test_operators_are_as_many_as_are_written_down():
    found = {(name, what): count for name, own in counts.items() for what, count in own.items()}
    known_counts = {
        (name, what): n for name, own in operators.OPERATORS.items() if name in counts for what, n in own.items()
    }
    assert found.keys() == known_counts.keys()
    more = {key: (known_counts[key], count) for key, count in found.items() if count > known_counts[key]}
    assert not more, f"a GPU is given more operators than known:\n{pformat(more)}"
    less = {key: (known_counts[key], count) for key, count in found.items() if count < known_counts[key]}
    assert not less, f"a GPU is given fewer operators than known; write them down:\n{pformat(less)}"


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_gives_the_cpus_numbers_at_every_stage(name, workers):
    pair = workers(name)
    for stage in STAGES:
        check(stage, name, *pair)


def test_samplers_never_wait():
    assert waits_of_samplers
    assert not {caller for counts in waits_of_samplers.values() for caller in counts}


def test_an_update_waits_no_more_than_is_known():
    most = Counter[str]()
    for counts in waits["update"].values():
        most |= counts
    known_counts = Counter({caller: count for caller, (count, _) in known.UPDATE_WAITS.items()})
    more = {caller: count for caller, count in most.items() if count > known_counts[caller]}
    assert not more, f"an update waits more often than known:\n{pformat(more)}"
    if waits["update"].keys() == RECIPES.keys():
        less = {caller: most[caller] for caller, count in known_counts.items() if most[caller] < count}
        assert not less, f"an update waits less often than known:\n{pformat(less)}"


def test_an_evaluation_waits_nowhere_else_than_is_known():
    callers = {caller for counts in waits["evaluation"].values() for caller in counts}
    assert callers <= known.EVALUATION_WAITS.keys(), callers - known.EVALUATION_WAITS.keys()
    if waits["evaluation"].keys() == RECIPES.keys():
        assert callers == known.EVALUATION_WAITS.keys(), known.EVALUATION_WAITS.keys() - callers


def test_at_tf32_only_learning_is_rounded(workers):
    on_cpu, _ = workers("short_run on images")
    with simulated_gpu() as record:
        worker = stages.make_worker(replace(on_cpu.job, precision="tf32", out=f"{on_cpu.job.out}-tf32"), GPU)
        worker.step(0)
        rounded = {event.in_sampler for event in record.events if event.kind == "tf32"}
        worker.save(1)
    assert rounded == {True, False}  # chains and losses
    with simulated_gpu() as record:
        stages.bulk(worker)
    assert record.operators
    assert "tf32" not in {event.kind for event in record.events}
