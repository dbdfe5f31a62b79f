"""Precision: a setting of learning; what is measured, and what accepts or rejects, has the highest."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from running import CPU, local_pool, run
from small_recipes import COUPLINGS, LATENT, TRANSPORT

from pipeline.chains.task import advance
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.options import EvaluationOptions
from pipeline.precision import at_precision
from pipeline.process import configure_process
from pipeline.runs.job import load_dataset, override
from pipeline.runs.job_json import from_json, to_json
from pipeline.runs.snapshot import Snapshot
from pipeline.sampling.draw import draw_tasks
from pipeline.training.worker import Worker


def flags():
    return torch.get_float32_matmul_precision(), torch.backends.cudnn.allow_tf32, torch.is_autocast_enabled("cpu")


@pytest.fixture
def make_worker():
    return lambda job: Worker(job, load_dataset(job), CPU, local_pool(job))


def test_a_process_rounds_nothing_and_a_block_has_its_own_precision():
    torch.backends.cudnn.allow_tf32 = True  # as torch has it
    configure_process(1)
    assert flags() == ("highest", False, False)
    with at_precision("tf32", CPU):
        assert flags() == ("high", True, False)
        with at_precision("highest", CPU):
            assert flags() == ("highest", False, False)
        assert flags() == ("high", True, False)
    with at_precision("bf16", CPU):
        assert flags() == ("high", True, True)
    assert flags() == ("highest", False, False)


def test_job_json_has_the_precision(small):
    job = replace(small, precision="bf16")
    assert to_json(job)["precision"] == "bf16"
    assert from_json(to_json(job)) == job


def test_chains_move_at_the_runs_precision_unless_they_accept_or_reject(small, make_worker):
    learning = make_worker(override(small, recipe=LATENT, precision="bf16")).tasks(0, 0)
    assert {task.precision for task in learning} == {"bf16"}
    corrected = override(small, recipe=replace(TRANSPORT, flow=COUPLINGS), source="eight-gaussians", precision="bf16")
    assert {task.precision for task in make_worker(corrected).tasks(0, 0)} == {"highest"}


def test_samples_are_drawn_and_measured_at_the_highest_precision(small, make_worker):
    worker = make_worker(replace(small, precision="bf16"))
    snapshot = Snapshot(worker.job, worker.data, worker.learner.nets, 1)
    assert {task.precision for task in draw_tasks(snapshot, 5, seed=0)} == {"highest"}
    with at_precision("tf32", CPU):
        result = evaluate(snapshot, worker.pool, ["samples"], EvaluationOptions(n=10))
    exact = evaluate(snapshot, worker.pool, ["samples"], EvaluationOptions(n=10))
    assert result.measurements == exact.measurements
    assert {one.protocol.content()["precision"] for one in exact.measurements} == {"highest"}


def test_chains_in_bfloat16_keep_a_float32_state_and_are_near_the_exact_ones(small, make_worker):
    worker = make_worker(small)
    task = worker.tasks(0, 0)[0]
    exact, rough = (advance(small.recipe, worker.learner.nets, task._replace(precision=p)) for p in ("highest", "bf16"))
    assert rough.x.dtype == rough.energy.dtype == np.float32
    error = np.linalg.norm(rough.x - exact.x) / np.linalg.norm(exact.x - task.x)
    assert 1e-5 < error < 0.05


def test_on_a_cpu_tf32_changes_nothing_and_bfloat16_does(small, tmp_path):
    digests = [
        run(override(small, updates=2, precision=precision, out=str(tmp_path / precision)))["weights_sha256"]
        for precision in ("highest", "tf32", "bf16")
    ]
    assert digests[0] == digests[1] != digests[2]


def test_deterministic_algorithms_are_asked_for_and_what_has_none_says_so():
    try:
        configure_process(1, deterministic=True)
        assert torch.are_deterministic_algorithms_enabled()
        with pytest.warns(UserWarning, match="put_ does not have a deterministic implementation"):
            torch.zeros(3).put_(torch.tensor([0]), torch.ones(1))
    finally:
        configure_process(1)
    assert not torch.are_deterministic_algorithms_enabled()
