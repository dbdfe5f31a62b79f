"""Every recipe on a real GPU gives the CPU's numbers, up to rounding; `python -m benchmarks.gpu` runs this.

The device is that of EBM_TEST_DEVICE: cuda, or cpu, which `make test` takes to see that these tests work. The noise is
drawn on the host for both. Where a number is compared, the greatest error is recorded for the report.
"""

import os
from dataclasses import replace

import numpy as np
import pytest
import stages
import torch
from host_noise import HostNoise
from running import CPU, run, sentences_in
from small_recipes import RECIPES, with_recipe

from pipeline.chains.local_pool import LocalPool
from pipeline.precision import Precision
from pipeline.process import configure_process
from pipeline.recipe import init_networks
from pipeline.runs.job import load_dataset, override
from pipeline.runs.job_json import to_json
from pipeline.runs.storage import Storage

DEVICE = torch.device(os.environ.get("EBM_TEST_DEVICE", "cpu"))
TOLERANCES: dict[Precision, float] = {"highest": 1e-3, "tf32": 3e-2, "bf16": 0.2}
"""By precision: the greatest error of a number x, or array, over |x| + 1, after an update or two."""
FAST = ("short_run on points", "latent_prior on images")


def names():
    return [name if name in FAST or DEVICE.type == "cuda" else pytest.param(name, marks=pytest.mark.slow)
            for name in RECIPES]  # fmt: skip


@pytest.fixture(autouse=True)
def exact():
    """Products of this process are not rounded, as in every command."""
    configure_process(1)


@pytest.fixture
def make(small, tmp_path):
    """A recipe's worker on a device."""

    def worker(name, device, precision="highest"):
        job = with_recipe(replace(small, lanes=2, precision=precision), name, sentences_in(tmp_path))
        return stages.make_worker(replace(job, out=str(tmp_path / f"run-{len(list(tmp_path.iterdir()))}")), device)

    return worker


def relative_error(found, expected):
    found, expected = np.asarray(found, np.float64), np.asarray(expected, np.float64)
    return float(np.linalg.norm(found - expected) / (np.linalg.norm(expected) + 1))


def compare(here, there, tolerance, record_property, what):
    """Hold all numbers of a stage against the CPU's, and record the greatest error."""
    assert here.keys() == there.keys()
    errors = {number: relative_error(there[number], value) for number, value in here.items()}
    worst = max(errors, key=errors.__getitem__, default="")
    record_property(what, f"{errors[worst]:.2g} ({worst})" if worst else "0")
    assert all(error <= tolerance for error in errors.values()), errors


@pytest.mark.parametrize("name", names())
def test_a_recipe_gives_the_cpus_numbers(name, make, record_property):
    on_cpu, on_device = make(name, CPU), make(name, DEVICE)
    for stage in (stages.update, stages.checkpoint, stages.bulk):
        here = stage(on_cpu)
        with HostNoise(DEVICE):
            there = stage(on_device)
        tolerance = TOLERANCES["highest"] if DEVICE.type == "cuda" else 1e-6
        compare(here, there, tolerance, record_property, stage.__name__)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_rounding_stays_small(precision, make, record_property):
    here = stages.update(make("short_run on images", CPU))
    with HostNoise(DEVICE):
        there = stages.update(make("short_run on images", DEVICE, precision))
    compare(here, there, TOLERANCES[precision], record_property, precision)


def test_host_noise_is_that_of_a_generator_with_the_same_seed():
    """On the CPU, where both can be compared: in place, in any layout, and by size, all in one sequence."""
    rng, noise = (torch.Generator().manual_seed(3) for _ in range(2))
    x = torch.empty(4, 3, 5, 5).contiguous(memory_format=torch.channels_last)
    with HostNoise(CPU) as mode:
        drawn = [x.clone().normal_(generator=noise), torch.rand(2, 3, generator=noise, device="cpu")]
        drawn += [torch.multinomial(torch.ones(2, 5), 1, generator=noise)]
    assert mode.draws == 3
    expected = [x.clone().normal_(generator=rng), torch.rand(2, 3, generator=rng), torch.multinomial(
        torch.ones(2, 5), 1, generator=rng)]  # fmt: skip
    assert all(torch.equal(a, b) for a, b in zip(drawn, expected, strict=True))
    assert drawn[0].is_contiguous(memory_format=torch.channels_last)


@pytest.mark.skipif(DEVICE.type != "cuda", reason="needs a real GPU")
def test_learner_and_actor_on_one_gpu_give_the_weights_of_one_process(small, tmp_path):
    import ray

    from pipeline.distributed.train import run_on_ray

    job = override(small, updates=3, deterministic=True)
    configure_process(1, deterministic=True)
    here = override(job, out=str(tmp_path / "here"))
    data = load_dataset(here)
    pool = LocalPool(here.recipe, init_networks(here.recipe, data.spec, here.seed, DEVICE))
    whole = run(here, pool, DEVICE)
    shares = {"gpus_per_learner": 0.5, "gpus_per_actor": 0.5, "cpus_per_learner": 0.25, "cpus_per_actor": 0.25}
    there = override(job, learners=1, actors=1, **shares)
    Storage.at(there.out).write_json("job.json", to_json(there))
    ray.init(address="local", include_dashboard=False, logging_level="error", log_to_driver=False)
    try:
        assert run_on_ray(there, data.spec, CPU)["weights_sha256"] == whole["weights_sha256"]
    finally:
        ray.shutdown()
