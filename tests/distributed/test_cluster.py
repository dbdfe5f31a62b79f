import os
import time

import pytest
from torch import distributed

from pipeline.distributed import RAY_ENVIRONMENT
from pipeline.distributed.cluster import (
    _connect,
    bundles,
    connected,
    job_bundles,
    missing_resources,
    wait_for_resources,
)
from pipeline.distributed.train import _backend
from pipeline.errors import InputError
from pipeline.runs.job import Range, override

pytestmark = pytest.mark.xdist_group("ray")


def test_rays_environment_is_set_and_a_users_own_value_stays():
    assert RAY_ENVIRONMENT.keys() <= os.environ.keys()
    assert os.environ["RAY_AUTH_MODE"] == "disabled"  # as the tests' configuration sets it, not as the package would


def test_missing_resources_are_named_by_kind(small):
    job = override(small, learners=2, actors=4, gpus_per_actor=1.0)
    assert job_bundles(job) == [{"CPU": 0.5}] * 2 + [{"CPU": 0.5, "GPU": 1.0}] * 4
    assert missing_resources(job_bundles(job), [{"CPU": 3.0, "GPU": 4.0}]) == ""
    assert missing_resources(job_bundles(job), [{"CPU": 2.0}]) == "3 CPU (2 there) and 4 GPU (0 there)"


def test_a_range_of_learners_requests_the_least_or_the_most(small):
    job = override(small, learners=Range(1, 3), observers=2)
    assert job_bundles(job) == [{"CPU": 0.5}]
    assert job_bundles(job, most=True) == [{"CPU": 0.5}] * 3


def test_each_process_has_to_fit_on_one_machine():
    assert missing_resources(bundles(2.0, 0.0, 3), [{"CPU": 2.0}] * 3) == ""
    assert missing_resources(bundles(4.0, 0.0), [{"CPU": 2.0}] * 3) == "a machine with 4 CPU left"
    assert (
        missing_resources(bundles(1.0, 1.0), [{"CPU": 8.0}, {"CPU": 0.0, "GPU": 1.0}])
        == "a machine with 1 CPU and 1 GPU left"
    )


@pytest.mark.parametrize(
    ("gpus", "machines", "missing"),
    [
        ([0.6] * 3, [2.0], "a machine with 0.6 of a GPU left"),  # 1.8 of 2, but no GPU has room for two
        ([0.6, 0.4, 0.6, 0.4], [2.0], ""),
        ([0.5] * 4, [1.0, 1.0], ""),
        ([0.25] * 4 + [1.0], [2.0], ""),
        ([0.5, 0.5, 0.5, 1.0, 1.0], [2.0, 2.0], ""),
        ([0.6, 0.6, 1.0], [2.0, 1.0], ""),
        ([0.6, 0.6, 0.6, 2.0], [3.0, 1.0], "a machine with 0.6 of a GPU left"),
        ([2.0, 2.0], [3.0, 1.0], "a machine with 2 GPU left"),
        ([0.3, 0.3, 0.3], [0.9], ""),  # what is left of one GPU
    ],
)
def test_a_share_of_a_gpu_has_to_fit_on_one(gpus, machines, missing):
    wanted = [bundle for one in gpus for bundle in bundles(0.0, one)]
    assert missing_resources(wanted, [{"CPU": 8.0, "GPU": there} for there in machines]) == missing


def test_learners_with_gpus_send_what_is_on_the_host_over_gloo():
    backends = distributed.BackendConfig(distributed.Backend(_backend(1.0))).get_device_backend_map()
    assert backends == {"cpu": "gloo", "cuda": "nccl"}
    assert _backend(0.5) == _backend(0.0) == "gloo"  # nccl refuses two ranks on one GPU


def test_a_request_that_is_too_large_fails_at_once(ray_session, small):
    start = time.monotonic()
    with pytest.raises(InputError, match=r"^0 learners and 4 actors need 40 CPU \(2 there\); lower actors"):
        wait_for_resources(override(small, actors=4, cpus_per_actor=10.0))
    assert time.monotonic() - start < 2


def test_an_address_without_a_cluster_is_an_error(monkeypatch):
    monkeypatch.setattr("ray.is_initialized", lambda: False)
    monkeypatch.setenv("RAY_ADDRESS", "127.0.0.1:1")
    with pytest.raises(InputError, match=r"no Ray cluster answers at RAY_ADDRESS=127\.0\.0\.1:1"), connected():
        pass


def test_waiting_ends_at_the_deadline(ray_session, small, capsys):
    with pytest.raises(InputError, match=r"need 1 GPU \(0 there\), still, after"):
        wait_for_resources(override(small, actors=1, gpus_per_actor=1.0, wait_for_resources=0.2))
    assert "waiting up to 0.2 s" in capsys.readouterr().err


@pytest.mark.parametrize("address", ["http://127.0.0.1:8265", "127.0.0.1:1"])
def test_an_address_where_no_cluster_is_is_refused(address):
    with pytest.raises(InputError, match="RAY_ADDRESS="):
        _connect(address)
