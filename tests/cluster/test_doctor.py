"""`jobs.doctor` on a healthy cluster of three hosts, and on the same one broken in five ways."""

import shutil
import sys
import time
from pathlib import Path

import hosts
import pytest
import torch


@pytest.fixture(scope="module")
def cluster(can_make_hosts, tmp_path_factory):
    """A head without CPUs and two workers, and a folder that all see."""
    folder = tmp_path_factory.mktemp("doctor")
    (folder / "runs").mkdir()
    with hosts.hosts(3, folder / "hosts") as three:
        hosts.start_cluster(three, cpus=2)
        yield three, folder / "runs"


@pytest.fixture
def examine(cluster, request):
    """Ask the doctor on the head: its exit code, and its findings by check."""
    three, runs = cluster

    def run(*words, **env):
        own = {"RAY_ADDRESS": "10.77.0.1:6379", **env}
        command = [
            "env",
            *(f"{k}={v}" for k, v in own.items()),
            sys.executable,
            "-m",
            "jobs.doctor",
            "--out",
            str(runs),
        ]
        began = time.monotonic()
        done = three[0].run([*command, *words], timeout=550)
        print(f"\n# {request.node.name}: exit code {done.returncode}, {time.monotonic() - began:.0f} s\n{done.stdout}")
        assert "Traceback" not in done.stderr, done.stderr
        lines = done.stdout.splitlines()[:-1]
        return done.returncode, {line[6:25].strip(): (line[:6].strip(), line[25:]) for line in lines}

    return run


def failed(findings):
    return [check for check, (status, _) in findings.items() if status == "fail"]


def test_a_healthy_cluster(examine):
    code, findings = examine()
    assert (code, {status for status, _ in findings.values()}) == (0, {"ok"})


def test_a_wrong_token(examine, tmp_path):
    (tmp_path / "token").write_text("another-token-of-thirty-two-characters-or-more")
    code, findings = examine(RAY_AUTH_TOKEN_PATH=str(tmp_path / "token"))
    assert (code, failed(findings)) == (1, ["ray"])
    assert "RAY_AUTH_TOKEN_PATH" in findings["ray"][1]


def test_no_shared_folder(examine, cluster):
    three, runs = cluster
    three[2].run(["mount", "-t", "tmpfs", "tmpfs", str(runs)])
    try:
        code, findings = examine()
    finally:
        three[2].run(["umount", str(runs)])
    assert (code, failed(findings)) == (1, ["folder"])
    assert "10.77.0.3" in findings["folder"][1]
    assert "10.77.0.2" not in findings["folder"][1]


def test_another_torch(examine, cluster, tmp_path):
    own, three = Path(torch.__file__).with_name("version.py"), cluster[0]
    other = tmp_path / "version.py"
    other.write_text(own.read_text().replace(torch.__version__, "1.13.0"))
    three[2].run(["mount", "--bind", str(other), str(own)])
    try:
        code, findings = examine()
    finally:
        three[2].run(["umount", str(own)])
    assert (code, failed(findings)) == (1, ["versions"])
    assert "10.77.0.3 (torch 1.13.0)" in findings["versions"][1]


@pytest.mark.skipif(not shutil.which("iptables"), reason="needs iptables")
def test_a_blocked_port(examine, cluster):
    block = "INPUT -p tcp --syn --dport 32768:65535 -j DROP"
    three = cluster[0]
    assert three[2].run(["iptables", "-A", *block.split()]).returncode == 0
    try:
        code, findings = examine("--seconds", "20")
    finally:
        three[2].run(["iptables", "-D", *block.split()])
    assert code == 1
    assert "ports" in failed(findings)  # gloo fails besides where others have to connect to this node
    assert "does not reach 10.77.0.3:" in findings["ports"][1]


def test_a_dead_node(examine, cluster):
    cluster[0][2].cut()
    time.sleep(20)  # until the head takes it for dead
    code, findings = examine()
    assert (code, failed(findings)) == (1, ["nodes"])
    assert "died: 10.77.0.3" in findings["nodes"][1]
    assert examine("--nodes", "2")[0] == 0
