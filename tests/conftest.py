"""Fixtures of all tests.

Shapes and types are checked in tests only; actors and learners in other processes run without. The fast tests check the
packages of the mathematics, the slow ones (EBM_CHECK_SHAPES=1) the whole pipeline.
"""

import os

os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ.setdefault("RAY_TRAIN_HEALTH_CHECK_INTERVAL_S", "0.1")

from jaxtyping import install_import_hook

MATHEMATICS = [f"pipeline.{name}" for name in ("energies", "samplers", "nets", "evaluation.metrics")]
install_import_hook(["pipeline"] if os.environ.get("EBM_CHECK_SHAPES") else MATHEMATICS, "type_checker.check_types")

import pytest
import torch
from store_servers import PORTS, serve

from pipeline.recipes.anatomy import Anatomy
from pipeline.runs.job import DataSettings, EvaluationSettings, Job, LoggingSettings, ResourceSettings
from pipeline.samplers.langevin import Langevin


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(items):
    """All tests that use Ray run in one process of pytest-xdist, so there is one Ray."""
    for item in items:
        if "ray_session" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.xdist_group("ray"))


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """One cache of data and classifiers for all tests and all processes of pytest-xdist, apart from the user's."""
    base = tmp_path_factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    os.environ["EBM_CACHE"] = str(shared / "cache")
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def ray_session(cache):
    """The one Ray of all tests: its own, whatever else runs on this machine."""
    import ray

    ray.init(address="local", num_cpus=2, include_dashboard=False, logging_level="error", log_to_driver=False)
    yield ray
    ray.shutdown()


@pytest.fixture(scope="session")
def s3_server():
    """The process of an S3 server."""
    with serve("s3", PORTS["s3"]) as server:
        yield server


@pytest.fixture(scope="session")
def gs_server():
    """The process of a server of Google's store."""
    with serve("gs", PORTS["gs"]) as server:
        yield server


@pytest.fixture
def small(tmp_path):
    """A job on digits that takes a second: small in everything, with a bank and restarts."""
    langevin = Langevin(steps=5, drift=1.0, noise=0.01)
    recipe = Anatomy(
        langevin=langevin, batch_size=16, width=4, leaky_slope=0.2, bank=80, restart_prob=0.2, data_noise=0.1
    )
    return Job(
        name="small",
        recipe=recipe,
        updates=6,
        lanes=4,
        out=str(tmp_path / "run"),
        data=DataSettings("digits"),
        resources=ResourceSettings(learners=0, actors=0),
        evaluation=EvaluationSettings(eval_samples=0),
        logging=LoggingSettings(checkpoint_every=2, log_every=1),
    )
