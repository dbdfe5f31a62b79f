"""Ray's learners and actors on shares of a simulated GPU give the CPU's weights."""

import os
from pathlib import Path

import pytest
from running import CPU, run

from pipeline.distributed.train import run_on_ray
from pipeline.runs.job import load_dataset, override
from pipeline.runs.job_json import to_json
from pipeline.runs.storage import Storage

TESTS = Path(__file__).parents[2]
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def gpu_log(tmp_path_factory):
    """A Ray with one GPU, simulated in each worker; the folder where these report their work."""
    import ray

    log = tmp_path_factory.mktemp("log")
    paths = (TESTS.parent, TESTS / "gpu", TESTS / "support", os.environ.get("PYTHONPATH", ""))
    own = {"PYTHONPATH": ":".join(map(str, paths)), "SIMULATED_GPU_LOG": str(log), "EBM_CACHE": os.environ["EBM_CACHE"]}
    environment = {"worker_process_setup_hook": "simulated_gpu.simulate_in_workers", "env_vars": own}
    quiet = {"include_dashboard": False, "logging_level": "error", "log_to_driver": False}
    ray.init(address="local", num_cpus=4, num_gpus=1, runtime_env=environment, **quiet)
    yield log
    ray.shutdown()


@pytest.mark.parametrize(
    ("learners", "actors", "shares"), [(1, 1, (0.5, 0.5)), (2, 2, (0.25, 0.25)), (0, 2, (0.0, 0.5))]
)
def test_the_weights_are_those_of_a_run_on_the_cpu(small, gpu_log, tmp_path, learners, actors, shares):
    job = override(small, updates=3, lag=1)
    here = run(override(job, out=str(tmp_path / "here")))
    gpus = dict(zip(("gpus_per_learner", "gpus_per_actor"), shares, strict=True))
    job = override(job, learners=learners, actors=actors, cpus_per_learner=0.25, cpus_per_actor=0.25, **gpus)
    Storage.at(job.out).write_json("job.json", to_json(job))
    before = set(gpu_log.iterdir())
    there = run_on_ray(job, load_dataset(job).spec, CPU)
    assert there["weights_sha256"] == here["weights_sha256"]
    assert len(set(gpu_log.iterdir()) - before) == learners + actors
