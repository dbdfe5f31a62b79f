"""`ray up` with cluster/launcher/local.yaml: a head and a worker over ssh, on two hosts."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest
from hosts import RAY, ROOT, hosts, missing
from watch import watch

LACKS = missing() or ", ".join(
    name for name in ("sshd", "ssh", "rsync") if not shutil.which(name, path="/usr/sbin:/usr/bin")
)
pytestmark = pytest.mark.skipif(bool(LACKS), reason=f"needs {LACKS} (apt-get install openssh-server rsync)")


def serve_ssh(host, folder):
    """Serve ssh on a host, for root, whose home there is a folder of its own."""
    home = folder / f"home{host.index}"
    (home / ".ray").mkdir(parents=True)
    users = Path("/etc/passwd").read_text().replace(":/root:", f":{home}:")
    (folder / f"passwd{host.index}").write_text(users)
    assert host.run(["mount", "--bind", str(folder / f"passwd{host.index}"), "/etc/passwd"]).returncode == 0
    own = f"HostKey={folder}/host AuthorizedKeysFile={folder}/id.pub StrictModes=no UsePAM=no PidFile=none"
    options = [word for one in own.split() for word in ("-o", one)]
    return host.popen(["/usr/sbin/sshd", "-D", "-f", "/dev/null", *options])


def test_own_machines_come_up_over_ssh_and_run(tmp_path):
    os.makedirs("/run/sshd", exist_ok=True)
    keys = tmp_path / "keys"
    keys.mkdir()
    for name in ("host", "id"):
        subprocess.run(["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(keys / name)], check=True)
    with hosts(2, tmp_path / "hosts") as (head, worker):
        servers = [serve_ssh(host, keys) for host in (head, worker)]
        home = keys / "home1"
        (home / ".ray/auth_token").write_text((tmp_path / "hosts/token").read_text())
        text = (ROOT / "cluster/launcher/local.yaml").read_text()
        for old, new in {
            "HEAD_ADDRESS": head.address,
            "[WORKER_ADDRESS_1, WORKER_ADDRESS_2]": f"[{worker.address}]",
            "USER": "root",
            "~/.ssh/id_ed25519": f"{keys}/id",
            "workers: 2": "workers: 1",
            "/opt/ebm": sys.prefix,
            "RAY_AUTH_MODE=token": "RAY_AUTH_MODE=token RAY_worker_niceness=0",
            "- ray stop": "- 'true'",  # each host is new; and tests never stop a Ray by name
            "--disable-usage-stats": "--disable-usage-stats --object-store-memory=100000000",
        }.items():
            assert old in text
            text = text.replace(old, new)
        (tmp_path / "local.yaml").write_text(text)
        began = time.monotonic()
        environment = [
            "env",
            f"HOME={home}",
            f"PATH={sys.prefix}/bin:{os.environ['PATH']}",
            f"RAY_ADDRESS={head.address}:6379",
        ]
        up = head.run(
            [*environment[:-1], RAY, "up", "--yes", "--no-config-cache", str(tmp_path / "local.yaml")], timeout=400
        )
        assert up.returncode == 0, up.stdout[-3000:] + up.stderr[-3000:]
        upped = time.monotonic()
        with watch(head, tmp_path / "count") as machines:
            later = machines.wait_for(2, 400)
        print(f"head after {upped - began:.0f} s, worker {later:.0f} s later")
        assert (keys / "home2/.ray/auth_token").read_text() == (home / ".ray/auth_token").read_text()
        flags = "--steps 5 --width 4 --batch-size 16 --updates 5 --eval-samples 0 --learners 0 --actors 2 --lanes 2"
        words = [sys.executable, "-m", "jobs.short_run", "digits", *flags.split(), "--cpus-per-actor", ".25"]
        ran = head.run([*environment, *words, "--out", str(tmp_path / "run")], timeout=400)
        assert ran.returncode == 0, ran.stderr
        assert json.loads((tmp_path / "run/result.json").read_text())["updates"] == 5
        for server in servers:
            server.terminate()
