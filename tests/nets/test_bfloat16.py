"""Weights sent as bfloat16: torch's rounding, and the same run whoever moves the chains."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from running import CPU, local_pool, run
from small_recipes import COUPLINGS, TRANSPORT

from pipeline.nets.bfloat16 import pack, unpack
from pipeline.nets.weights import flatten
from pipeline.runs.job import load_dataset, override
from pipeline.runs.job_json import from_json, to_json
from pipeline.training.worker import Worker


class Recording:
    """A pool that keeps the weights it is sent."""

    next, remote, faults = 0, False, {"resent": 0, "died": 0}

    def submit(self, update, tasks, flat, frozen=None):
        self.sent, self.next = (flat, frozen), update + 1

    def collect(self, update):
        raise StopIteration


def sent(job):
    worker = Worker(job, load_dataset(job), CPU, Recording())
    worker.restore()
    with pytest.raises(StopIteration):
        worker.step(0)
    return worker, *worker.pool.sent


def test_numbers_are_rounded_as_torch_rounds_them_and_half_as_many_bytes_travel():
    flat = (np.random.default_rng(0).normal(size=10_000) * np.logspace(-30, 30, 10_000)).astype(np.float32)
    flat[:6] = 0, -0.0, np.inf, -np.inf, np.nan, 1e-40
    packed = pack(flat)
    assert packed.nbytes == flat.nbytes / 2
    expected = torch.from_numpy(flat).bfloat16().float()
    assert torch.equal(torch.from_numpy(unpack(packed)).nan_to_num(7.0), expected.nan_to_num(7.0))
    assert np.isnan(unpack(packed)[4])
    error = np.abs(unpack(packed)[6:] - flat[6:]) / np.abs(flat[6:])
    assert 2**-9 < error.max() <= 2**-8
    assert np.array_equal(pack(unpack(packed)[6:]), packed[6:])  # rounded once is rounded for good
    assert unpack(flat) is flat


def test_job_json_has_the_type_of_weights(small):
    job = replace(small, weights_dtype="bfloat16")
    assert to_json(job)["weights_dtype"] == "bfloat16"
    assert from_json(to_json(job)) == job


def test_learners_send_bfloat16_but_float32_to_chains_that_accept_or_reject(small):
    worker, weights, _ = sent(replace(small, weights_dtype="bfloat16"))
    assert np.array_equal(weights, pack(flatten(worker.learner.nets)))
    _, weights, _ = sent(small)
    assert weights.dtype == np.float32
    transport = replace(TRANSPORT, flow=COUPLINGS)
    for kernel, dtype in (("hmc", np.float32), ("langevin", np.uint16)):
        recipe = replace(transport, kernel=kernel)
        job = override(small, recipe=recipe, source="eight-gaussians", weights_dtype="bfloat16")
        _, weights, frozen = sent(job)
        assert (weights.dtype, frozen.dtype) == (dtype, np.float32)


def test_chains_move_under_rounded_weights_and_the_learner_keeps_its_own(small, tmp_path):
    exact = override(small, out=str(tmp_path / "exact"))
    job = override(small, weights_dtype="bfloat16")
    data = load_dataset(job)
    worker = Worker(job, data, CPU, local_pool(job))
    worker.restore()
    worker.step(0)
    moving, own = flatten(worker.pool.nets), flatten(worker.learner.nets)
    initial = flatten(Worker(exact, data, CPU, local_pool(exact)).learner.nets)
    assert np.array_equal(moving, unpack(pack(initial)))
    assert not np.array_equal(own, unpack(pack(own)))
    assert run(job)["weights_sha256"] != run(exact)["weights_sha256"]
