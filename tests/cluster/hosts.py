"""Hosts on one machine, each in Linux namespaces of its own: to Ray they are machines with a network between them.

A host has its own network address, name, processes, /tmp/ray, /dev/shm and mounts. The switch between the hosts is a
bridge in a network namespace of its own, so nothing of it exists outside. Namespaces have no names: each lives as long
as its first process, which the kernel kills when the test process ends, however it ends. So nothing is left behind.
"""

import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parents[2]
RAY = str(Path(sys.executable).with_name("ray"))
SUBNET = "10.77.0"
TOOLS = ("ip", "unshare", "nsenter", "setpriv")
DIES_WITH_TESTS = ("setpriv", "--pdeathsig", "KILL")
"""Before a command: the kernel kills it when the process that has started it ends."""
MEGABYTES = 400
"""Size of each host's /tmp/ray and /dev/shm."""
COMMON = (
    "--num-gpus=0 --object-store-memory=100000000 --disable-usage-stats --metrics-export-port=8081"
    " --dashboard-agent-listen-port=52365 --dashboard-agent-grpc-port=52366 --runtime-env-agent-port=52367"
)
"""Flags of every `ray start`."""
STARTS = 5
"""Attempts to start Ray on a host."""
HEALTH_CHECKS = {
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "3000",
    "RAY_health_check_failure_threshold": "3",
}
"""Of the head: a host that does not answer is dead after some 12 seconds."""


def missing() -> str:
    """Why there can be no hosts here; empty if there can."""
    if os.geteuid():
        return "only root can make network namespaces"
    if absent := [tool for tool in TOOLS if not shutil.which(tool)]:
        return f"needs {', '.join(absent)} (apt-get install iproute2 util-linux)"
    made = subprocess.run(["unshare", "--net", "ip", "link", "add", "br0", "type", "bridge"], capture_output=True)
    return "" if made.returncode == 0 else f"no bridge can be made here: {made.stderr.decode().strip()}"


class Switch:
    """The bridge that links of hosts are plugged into."""

    def __init__(self):
        up = "ip link add br0 type bridge && ip link set br0 up && echo up && exec sleep infinity"
        self.process = _start([*DIES_WITH_TESTS, "unshare", "--net", "sh", "-c", up])

    def ip(self, words: str) -> None:
        """Run `ip` where the bridge is."""
        _in_network(self.process.pid, f"ip {words}")

    def remove(self, port: str) -> None:
        """Remove a port now, if it is there; the kernel takes its time once the host has gone."""
        words = ["nsenter", "--target", str(self.process.pid), "--net", "ip", "link", "delete", port]
        subprocess.run(words, capture_output=True)

    def close(self) -> None:
        """Remove the bridge."""
        _end(self.process)


class Host:
    """One host, which is up. Address 10.77.0.<index>, name node<index>."""

    def __init__(self, switch: Switch, index: int, folder: Path, env: dict[str, str]):
        self.switch, self.index, self.folder, self.env = switch, index, folder, env
        self.name, self.address = f"node{index}", f"{SUBNET}.{index}"
        self.wire: subprocess.Popen | None = None
        folder.mkdir(parents=True, exist_ok=True)
        self.boot()

    def boot(self) -> None:
        """Start it: its first process, its file systems and its link."""
        os.makedirs("/tmp/ray", exist_ok=True)
        names = "".join(f"{SUBNET}.{i} node{i}\n" for i in range(1, 10) if i != self.index)
        (self.folder / "hosts").write_text(f"127.0.0.1 localhost\n127.0.1.1 {self.name}\n{names}")
        script = f"""set -e
            hostname {self.name}
            mount -t tmpfs -o size={MEGABYTES}m tmpfs /tmp/ray
            mount -t tmpfs -o size={MEGABYTES}m tmpfs /dev/shm
            mount --bind {self.folder}/hosts /etc/hosts
            ip link set lo up
            echo up
            sleep infinity & wait"""
        spaces = ("--net", "--uts", "--mount", "--pid", "--fork", "--kill-child", "--mount-proc")
        self.process = _start([*DIES_WITH_TESTS, "unshare", *spaces, "sh", "-c", script])
        self.init = _child(self.process.pid)
        self.switch.ip(f"link add port{self.index} type veth peer name eth0 netns {self.init}")
        self._set_address()
        self.connect()

    def _set_address(self) -> None:
        _in_network(self.init, f"ip addr add {self.address}/24 dev eth0")
        _in_network(self.init, "ip link set eth0 up")

    def connect(self) -> None:
        """Plug the cable in."""
        self.switch.ip(f"link set port{self.index} master br0 up")

    def cut(self) -> None:
        """Cut the cable: what is sent is lost, and nobody is told."""
        self.switch.ip(f"link set port{self.index} down")

    def slow_down(self, milliseconds: float, loss: float) -> None:
        """Take a cable that delays what goes through it, each way, and loses a share of it. Before Ray starts."""
        self.switch.remove(f"port{self.index}")
        ends = f"{self.init}:eth0", f"{self.switch.process.pid}:port{self.index}"
        wire = [sys.executable, str(Path(__file__).with_name("slow_wire.py")), *ends, str(milliseconds), str(loss)]
        self.wire = _start([*DIES_WITH_TESTS, *wire])
        self._set_address()
        self.connect()

    def power_off(self) -> None:
        """Cut the power: all processes end at once, and say goodbye to nobody."""
        self.cut()
        _end(self.process)
        self.switch.remove(f"port{self.index}")

    def popen(self, words: list[str], **settings) -> subprocess.Popen:
        """Start a command on the host; it ends with the process that is returned."""
        spaces = ["nsenter", "--target", str(self.init), "--all", f"--wd={ROOT}"]
        return subprocess.Popen([*DIES_WITH_TESTS, *spaces, "--", *DIES_WITH_TESTS, *words], env=self.env, **settings)

    def run(self, words: list[str], timeout: float = 120) -> subprocess.CompletedProcess:
        """Run a command on the host to its end."""
        with self.popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
            try:
                out, err = process.communicate(timeout=timeout)
            except subprocess.TimeoutExpired:
                process.kill()
                process.communicate()
                raise
        return subprocess.CompletedProcess(words, process.returncode, out, err)

    def start_ray(self, words: str, **env: str) -> None:
        """Run `ray start`, and leave its processes to the host.

        A raylet waits 15 s for its agents and then dies (ray-project/ray#65983), which is too little on a machine at
        work: then the host boots again.
        """
        command = ["env", *(f"{k}={v}" for k, v in env.items()), RAY, "start", *words.split(), *COMMON.split()]
        for _ in range(STARTS):
            with (self.folder / "ray.log").open("a") as log, self.popen(command, stdout=log, stderr=log) as process:
                if process.wait(timeout=180) == 0:
                    return
            assert not self.wire, "a slow wire ends with its host"
            self.power_off()
            self.boot()
        raise AssertionError((self.folder / "ray.log").read_text()[-2000:])


@contextmanager
def hosts(count: int, folder: Path, **env: str) -> Iterator[list[Host]]:
    """`count` hosts on one switch, without Ray.

    Args:
        count: of hosts.
        folder: which all see, for their logs and Ray's token.
        env: more of their environment.
    """
    kept = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    own = {
        "PYTHONPATH": str(ROOT),
        "PYTHONDONTWRITEBYTECODE": "1",
        "OMP_NUM_THREADS": "1",
        "TMPDIR": "/tmp",
        "RAY_worker_niceness": "0",
        "RAY_max_direct_call_object_size": str(2**20),
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(folder / "token"),
    }
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "token").write_text("token-of-the-tests-of-thirty-two-characters-or-more")
    switch, running = Switch(), []
    try:
        for i in range(1, count + 1):
            running.append(Host(switch, i, folder / f"node{i}", kept | own | env))
        yield running
    finally:
        for host in running:
            _end(host.process)
            if host.wire:
                _end(host.wire)
        switch.close()


def start_cluster(machines: list[Host], cpus: int, head_cpus: int = 0, dashboard: bool = False) -> None:
    """Start Ray: a head on the first host, and workers of `cpus` CPUs each on the others."""
    head = machines[0]
    start_head(head, head_cpus, dashboard)
    for host in machines[1:]:
        join_cluster(host, head, cpus)


def start_head(head: Host, cpus: int = 0, dashboard: bool = False) -> None:
    """Start Ray's head; the dashboard, which takes submitted jobs, is ten processes more."""
    more = f"--dashboard-host={head.address}" if dashboard else "--include-dashboard=false"
    own = f"--node-ip-address={head.address} --port=6379 --num-cpus={cpus} {more}"
    head.start_ray(f"--head {own}", **HEALTH_CHECKS)


PORTS = "--node-manager-port=6380 --object-manager-port=6381 --min-worker-port=10002 --max-worker-port=10999"
"""Of workers, so that a firewall can leave Ray's own ports open."""


def join_cluster(host: Host, head: Host, cpus: int) -> None:
    """Start Ray on a worker."""
    host.start_ray(_worker(host, head, cpus))


def keep_joined(host: Host, head: Host, cpus: int) -> None:
    """Start Ray on a worker again whenever it ends, as a service manager does."""
    once = f"{RAY} start --block {_worker(host, head, cpus)} {COMMON}"
    log = (host.folder / "ray.log").open("a")
    host.popen(["sh", "-c", f"while :; do {once}; sleep 1; done"], stdout=log, stderr=log)


def _worker(host: Host, head: Host, cpus: int) -> str:
    return f"--address={head.address}:6379 --node-ip-address={host.address} --num-cpus={cpus} {PORTS}"


def _start(command: list[str]) -> subprocess.Popen:
    """Start a first process, and wait until it says that it is up."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    line = process.stdout.readline()
    assert line == "up\n", f"{command[-1]} ended with {process.wait()}"
    return process


def _child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text())


def _in_network(pid: int, words: str) -> None:
    subprocess.run(["nsenter", "--target", str(pid), "--net", *words.split()], check=True)


def _end(process: subprocess.Popen) -> None:
    """Kill a first process, and all that lives with it, unless it has been killed."""
    if process.returncode is not None:
        return
    init = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    process.kill()
    process.wait()
    process.stdout.close()
    deadline = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in init) and time.monotonic() < deadline:
        time.sleep(0.02)
