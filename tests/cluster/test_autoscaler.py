"""A cluster that adds machines by itself: Ray's autoscaler of version 2, whose machines are processes of one host."""

import json
import subprocess
import sys

import pytest
from ray.autoscaler._private.fake_multi_node.node_provider import FAKE_HEAD_NODE_ID
from test_hosts import SETTINGS, sha, sha_of  # noqa: F401  (a fixture)

PROVIDER = {
    "type": "external",
    "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
    "use_node_id_as_ip": True,
    "disable_node_updaters": True,
    "disable_launch_config_check": True,
    "launch_multiple": True,
    "head_node_id": FAKE_HEAD_NODE_ID,
}
WORKER = {"CPU": 2, "object_store_memory": 100_000_000}
CONFIG = {
    "cluster_name": "fake",
    "provider": PROVIDER,
    "max_workers": 2,
    "head_node_type": "ray.head.default",
    "available_node_types": {
        "ray.head.default": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 0},
        "worker": {"resources": WORKER, "node_config": {}, "min_workers": 0, "max_workers": 2},
    },
    "upscaling_speed": 1.0,
    "idle_timeout_minutes": 0.3,
    "auth": {},
    "docker": {},
    "file_mounts": {},
    "file_mounts_sync_continuously": False,
    "cluster_synced_files": [],
    "rsync_exclude": [],
    "rsync_filter": [],
    **{
        f"{name}_commands": []
        for name in (
            "initialization",
            "setup",
            "head_setup",
            "worker_setup",
            "head_start_ray",
            "worker_start_ray",
        )
    },
}
ENVIRONMENT = {
    "AUTOSCALER_UPDATE_INTERVAL_S": "1",
    "RAY_FAKE_CLUSTER": "1",
    "RAY_enable_autoscaler_v2": "1",
    "RAY_CLOUD_INSTANCE_ID": FAKE_HEAD_NODE_ID,
    "RAY_OVERRIDE_NODE_ID_FOR_TESTING": FAKE_HEAD_NODE_ID,
}
NODES = """
import ray
ray.init(address="10.77.0.1:6379", logging_level="error")
print(sum(node["Alive"] for node in ray.nodes()))
"""


@pytest.fixture
def growing(machines, tmp_path):
    """A host with a head of one CPU, whose autoscaler adds up to two machines of two CPUs."""
    (host,) = machines(1)
    config = tmp_path / "cluster.json"
    config.write_text(json.dumps(CONFIG))
    head = "--head --node-ip-address=10.77.0.1 --port=6379 --num-cpus=1 --include-dashboard=false"
    host.start_ray(f"{head} --autoscaling-config={config}", **ENVIRONMENT)
    return host


def train(host, out, actors, cpus=1):
    flags = f"{SETTINGS} --learners 0 --actors {actors} --cpus-per-actor {cpus} --out {out}"
    command = ["env", "RAY_ADDRESS=10.77.0.1:6379", sys.executable, "-m", "jobs.short_run", "digits", *flags.split()]
    with host.popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        out, err = process.communicate(timeout=500)
    return process.returncode, out, err


def nodes(host):
    done = host.run([sys.executable, "-c", NODES])
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


def test_a_run_waits_for_machines_that_the_cluster_adds_by_itself(growing, tmp_path, sha):  # noqa: F811
    assert nodes(growing) == 1
    code, _, err = train(growing, tmp_path / "run", 4)
    assert code == 0, err
    assert "waiting up to 1200 s" in err
    assert nodes(growing) == 3
    assert sha_of(tmp_path / "run") == sha


def test_what_the_cluster_can_never_have_is_refused_in_one_line(growing, tmp_path):
    code, _, err = train(growing, tmp_path / "run", 4, cpus=2)
    assert code == 2
    assert "0 learners and 4 actors need 8 CPU (1 there); lower actors" in err.splitlines()[-1]
    assert not (tmp_path / "run").exists()
