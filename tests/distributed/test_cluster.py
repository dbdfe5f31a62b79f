import os
import time
from types import SimpleNamespace

import pytest
from torch import distributed

from pipeline.distributed import RAY_ENVIRONMENT, cluster
from pipeline.distributed.cluster import _connect, connected, require_reachable, wait_for_resources
from pipeline.distributed.network import use_node_interface
from pipeline.distributed.placement import job_bundles
from pipeline.distributed.ray_private import AutoscalerAnswer
from pipeline.distributed.train import _backend
from pipeline.errors import InputError
from pipeline.runs.job import Range, override

pytestmark = pytest.mark.xdist_group("ray")


def test_rays_environment_is_set_and_a_users_own_value_stays():
    assert RAY_ENVIRONMENT.keys() <= os.environ.keys()
    assert os.environ["RAY_AUTH_MODE"] == "disabled"  # as the tests' configuration sets it, not as the package would


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


def test_learners_talk_over_the_interface_of_their_nodes_address(monkeypatch):
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "127.0.0.1")
    monkeypatch.setenv("GLOO_SOCKET_IFNAME", "chosen")
    use_node_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "chosen"
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    use_node_interface()
    assert os.environ["GLOO_SOCKET_IFNAME"] == "lo"
    monkeypatch.delenv("GLOO_SOCKET_IFNAME")
    monkeypatch.setattr("ray.util.get_node_ip_address", lambda: "203.0.113.1")  # of no interface here
    use_node_interface()
    assert "GLOO_SOCKET_IFNAME" not in os.environ


@pytest.fixture
def autoscaler(monkeypatch):
    """An autoscaler that can add machines for so many bundles; the requests that it has had."""
    requests = [[]]

    def make(most):
        monkeypatch.setattr(cluster, "request_resources", lambda bundles: requests.append(bundles))
        monkeypatch.setattr(cluster, "max_cluster_resources", lambda: None)
        monkeypatch.setattr(cluster, "_machines", lambda: [{"CPU": 2.0}])
        monkeypatch.setattr("ray.get_runtime_context", lambda: SimpleNamespace(gcs_address="127.0.0.1:1"))
        answer = lambda *_: AutoscalerAnswer(len(requests), len(requests), len(requests[-1]) > most)  # noqa: E731
        monkeypatch.setattr(cluster, "autoscaler_answer", answer)
        return requests

    return make


def test_an_autoscaling_cluster_is_waited_for_without_a_flag(small, autoscaler, monkeypatch, capsys):
    requests = autoscaler(most=8)
    job, big = override(small, actors=4, cpus_per_actor=1.0), [{"CPU": 2.0}] * 2
    machines = iter([[{"CPU": 1.0}], [{"CPU": 1.0}], big])
    monkeypatch.setattr(cluster, "_machines", lambda: next(machines))
    wait_for_resources(job)
    assert "waiting up to 1200 s" in capsys.readouterr().err
    assert requests[-2:] == [job_bundles(job), []]


def test_an_autoscaler_is_asked_for_the_most_learners_and_then_for_the_fewest(small, autoscaler):
    requests = autoscaler(most=2)
    job = override(small, learners=Range(2, 3))
    assert cluster._accepted_request(job) == job_bundles(job)
    assert requests[-2:] == [job_bundles(job, most=True), job_bundles(job)]
    assert cluster._accepted_request(override(small, learners=3)) == []


def test_what_an_autoscaler_refuses_fails_without_waiting(small, autoscaler):
    requests = autoscaler(most=2)
    with pytest.raises(InputError, match=r"need 40 CPU \(2 there\); lower actors"):
        wait_for_resources(override(small, actors=4, cpus_per_actor=10.0))
    assert requests[-1] == []


def test_a_machine_that_others_do_not_reach_is_named():
    require_reachable(["127.0.0.1", "127.0.0.1"])  # several nodes of one machine
    require_reachable(["10.0.0.1", "10.0.0.2"])
    with pytest.raises(InputError, match=r"no other machine reaches 127\.0\.1\.1; start Ray there with"):
        require_reachable(["127.0.1.1", "10.0.0.2"])
