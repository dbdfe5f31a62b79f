"""A cluster under autoscaler v2 grows for a run and shrinks after it; the machines are Ray's fakes, on one host."""

import json
import subprocess
import sys
import time

import pytest
import yaml
from hosts import ROOT, hosts, missing
from watch import watch

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")

HEAD_ID = "f" * 51 + "00000"
"""By which the fake provider knows the head."""
JOB = "digits --steps 5 --width 4 --batch-size 16 --updates 30 --eval-samples 0 --lanes 4 --checkpoint-every 10"


def autoscaling(folder):
    """The file of a head of one CPU, and up to two workers of two."""
    lists = ("initialization_commands", "setup_commands", "head_setup_commands", "worker_setup_commands")
    lists += ("head_start_ray_commands", "worker_start_ray_commands", "cluster_synced_files", "rsync_exclude")
    provider = {
        "type": "external",
        "module": "ray.autoscaler._private.fake_multi_node.node_provider.FakeMultiNodeProvider",
        "use_node_id_as_ip": True,
        "disable_node_updaters": True,
        "disable_launch_config_check": True,
        "launch_multiple": True,
        "head_node_id": HEAD_ID,
    }
    worker = {"CPU": 2, "object_store_memory": 100_000_000}
    config = {
        "cluster_name": "fake",
        "max_workers": 2,
        "provider": provider,
        "available_node_types": {
            "head": {"resources": {"CPU": 1}, "node_config": {}, "min_workers": 0, "max_workers": 0},
            "worker": {"resources": worker, "node_config": {}, "min_workers": 0, "max_workers": 2},
        },
        "head_node_type": "head",
        "upscaling_speed": 1.0,
        "idle_timeout_minutes": 0.3,
        **{name: {} for name in ("auth", "docker", "file_mounts")},
        **{name: [] for name in (*lists, "rsync_filter")},
        "file_mounts_sync_continuously": False,
    }
    (folder / "fake.yaml").write_text(yaml.safe_dump(config))
    return folder / "fake.yaml"


def test_a_cluster_grows_for_a_run_and_shrinks_after_it(tmp_path):
    plain = tmp_path / "plain"
    command = [sys.executable, "-m", "jobs.short_run", *JOB.split()]
    one = [*command, "--learners", "0", "--actors", "0", "--out", str(plain)]
    subprocess.run(one, check=True, cwd=ROOT, capture_output=True)
    with hosts(1, tmp_path / "hosts") as (head,):
        own = f"--head --node-ip-address={head.address} --port=6379 --num-cpus=1"
        head.start_ray(
            f"{own} --autoscaling-config={autoscaling(tmp_path)}",
            AUTOSCALER_UPDATE_INTERVAL_S="1",
            RAY_FAKE_CLUSTER="1",
            RAY_enable_autoscaler_v2="1",
            RAY_CLOUD_INSTANCE_ID=HEAD_ID,
            RAY_OVERRIDE_NODE_ID_FOR_TESTING=HEAD_ID,
        )
        with watch(head, tmp_path / "count") as machines:
            machines.wait_for(1, 120)
            began = time.monotonic()
            flags = f"--learners 0 --actors 4 --cpus-per-actor 1 --wait-for-resources 240 --out {tmp_path}/run"
            ran = head.run(["env", f"RAY_ADDRESS={head.address}:6379", *command, *flags.split()], timeout=600)
            assert ran.returncode == 0, ran.stderr
            assert max(machines.numbers()) == 3
            ended = time.monotonic()
            shrunk = machines.wait_for(1, 240)
        print(f"three machines for a run of {ended - began:.0f} s; one again {shrunk:.0f} s after it")
    sha = [json.loads((folder / "result.json").read_text())["weights_sha256"] for folder in (plain, tmp_path / "run")]
    assert sha[0] == sha[1]
