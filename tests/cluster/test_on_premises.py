"""cluster/on_premises on two hosts: a machine that was cut off comes back by itself."""

import json
import shutil
import subprocess
import sys
import time

import pytest
from hosts import ROOT, hosts, missing
from watch import watch

pytestmark = pytest.mark.skipif(bool(missing()), reason=missing() or "-")

HERE = ROOT / "cluster/on_premises"


def settings_in(folder, head):
    """ebm.env, as a user would change it."""
    own = {"EBM_ENVIRONMENT": sys.prefix, "EBM_HEAD": head, "EBM_CPUS": "2", "EBM_GPUS": "0"}
    own["RAY_AUTH_TOKEN_PATH"] = f"{folder}/token"
    lines = (HERE / "ebm.env").read_text().splitlines()
    changed = [f"{name}={own[name]}" if (name := line.partition("=")[0]) in own else line for line in lines]
    (folder / "ebm.env").write_text("\n".join(changed) + "\n")
    return str(folder / "ebm.env")


def test_a_worker_that_was_cut_off_comes_back(tmp_path):
    with hosts(2, tmp_path / "hosts") as (head, worker), watch(head, tmp_path / "count") as machines:
        settings = settings_in(tmp_path / "hosts", head.address)
        services = []
        for host, role in ((head, "head"), (worker, "worker")):
            log = (tmp_path / f"{role}.log").open("w")
            services.append(host.popen([f"{HERE}/supervise.sh", role, settings], stdout=log, stderr=log))
            machines.wait_for(len(services), 400)
        worker.cut()
        lost = machines.wait_for(1, 120)
        time.sleep(20)
        worker.connect()
        back = machines.wait_for(2, 600)
        print(f"a machine that was cut off is lost after {lost:.0f} s; linked again, it is back after {back:.0f} s")
        flags = "--steps 5 --width 4 --batch-size 16 --updates 10 --eval-samples 0 --learners 0 --actors 2 --lanes 2"
        words = [sys.executable, "-m", "jobs.short_run", "digits", *flags.split(), "--out", str(tmp_path / "run")]
        ran = head.run(["env", f"RAY_ADDRESS={head.address}:6379", *words], timeout=400)
        assert ran.returncode == 0, ran.stderr
        assert json.loads((tmp_path / "run/result.json").read_text())["updates"] == 10
        for service in services:
            service.terminate()
            service.wait()
    assert "Ray has ended with code" in (tmp_path / "worker.log").read_text()


@pytest.mark.skipif(not shutil.which("systemd-analyze"), reason="needs systemd-analyze (apt-get install systemd)")
@pytest.mark.parametrize("role", ["head", "worker"])
def test_systemd_accepts_the_units(role, tmp_path):
    unit = (HERE / f"ebm-{role}.service").read_text()
    assert f"ExecStart=/opt/ebm/cluster/on_premises/node.sh {role}\n" in unit
    (tmp_path / f"ebm-{role}.service").write_text(unit.replace("/opt/ebm", str(ROOT)).replace("User=ebm", "User=root"))
    shown = subprocess.run(
        ["systemd-analyze", "verify", str(tmp_path / f"ebm-{role}.service")], capture_output=True, text=True
    )
    assert (shown.returncode, shown.stderr) == (0, "")


def test_a_role_that_is_none_is_refused():
    for script in ("node.sh", "supervise.sh"):
        words = [str(HERE / script), "haed", str(HERE / "ebm.env")]
        shown = subprocess.run(words, capture_output=True, text=True, timeout=60)
        assert (shown.returncode, shown.stderr) == (2, "usage: node.sh head|worker [SETTINGS]\n")
