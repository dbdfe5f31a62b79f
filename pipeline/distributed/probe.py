"""NodeProbe: a process on one node that says what it finds there, and asking all of them. It knows no paper."""

import hashlib
import os
import platform
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import ray
import torch
from ray.actor import ActorHandle
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import pipeline
from pipeline.batch import Spec
from pipeline.chains.task import ChainTask, advance
from pipeline.distributed.network import use_node_interface
from pipeline.recipe import Recipe, init_networks
from pipeline.runs.storage import Storage
from pipeline.training.collective import measure_all_reduce

Probes: TypeAlias = dict[str, ActorHandle]
"""The probe of each node, by the node's address."""

CONNECT_SECONDS = 5.0
"""How long one node tries to reach a port of another."""
DRIVER_SECONDS = 20.0
"""How long the programs may take that ask for GPUs."""
GPU_QUERY = "nvidia-smi --query-gpu=name,driver_version --format=csv,noheader"
TORCH_QUERY = "import torch; print(torch.cuda.device_count() if torch.cuda.is_available() else 0)"


class NodeProbe:
    """An actor that is pinned to a node and reserves nothing there."""

    def __init__(self) -> None:
        self._listener: socket.socket | None = None

    def versions(self) -> dict[str, str]:
        """Versions of what a run depends on; of this package a digest of its source, too."""
        return versions()

    def clock(self) -> float:
        """The node's time, in seconds since 1970."""
        return time.time()

    def copy(self, folder: str, source: str, target: str) -> None:
        """Write a file with the content of another one of a folder that all nodes should see."""
        Storage.at(folder).write(target, Storage.at(folder).read(source))

    def listen(self) -> int:
        """Open a port that the system chooses, as gloo and Ray do, and return it; it stays open."""
        self._listener = socket.create_server(("", 0), backlog=128)
        return int(self._listener.getsockname()[1])

    def unreachable(self, places: list[tuple[str, int]]) -> list[str]:
        """Those of the ports, each of an address, that no connection from this node reaches, as host:port."""
        return [f"{host}:{port}" for host, port in places if not _connects(host, port)]

    def free_port(self) -> int:
        """A port of this node that nobody uses now."""
        with socket.create_server(("", 0)) as free:
            return int(free.getsockname()[1])

    def all_reduce(self, rank: int, ranks: int, place: str, numbers: int, seconds: float) -> float:
        """As `measure_all_reduce`; on the GPU that Ray gave this probe, or else on the CPU."""
        use_node_interface()
        device = torch.device("cuda" if ray.get_gpu_ids() else "cpu")
        return measure_all_reduce(rank, ranks, place, numbers, seconds, device)

    def fetch(self, reference: list[ray.ObjectRef]) -> float:
        """Seconds until an object is in this node's store and readable, touching each page."""
        began = time.perf_counter()
        float(np.asarray(ray.get(reference[0]))[::512].sum())
        return time.perf_counter() - began

    def gpus(self) -> tuple[list[str], int]:
        """GPUs as "name, driver version" of the driver's own program, and how many torch can use."""
        if not shutil.which("nvidia-smi"):
            return [], 0
        names = _output(GPU_QUERY.split()).splitlines()
        return names, int(_output([sys.executable, "-c", TORCH_QUERY]) or 0)

    def chain(self, recipe: Recipe, spec: Spec, task: ChainTask) -> str:
        """Digest of the end of a chain under fresh networks of seed 0."""
        return chain_digest(recipe, spec, task)


@contextmanager
def probes(seconds: float) -> Iterator[tuple[Probes, dict[str, str]]]:
    """A probe on every living node, for the length of the block, and the reasons why a node has none, both by address.

    A node has none where it does not start one in time.
    """
    started: Probes = {}
    for node in ray.nodes():
        if node["Alive"]:
            pinned = NodeAffinitySchedulingStrategy(node["NodeID"], soft=False)
            place = node["NodeManagerAddress"]
            name = place if place not in started else f"{place}/{node['NodeID'][:6]}"
            started[name] = ray.remote(num_cpus=0, scheduling_strategy=pinned)(NodeProbe).remote()
    try:
        answers, faults = ask(started, lambda probe, _: probe.clock.remote(), seconds)
        yield {place: started[place] for place in answers}, faults
    finally:
        end_probes(started)


def end_probes(started: Probes) -> None:
    """End their processes."""
    for probe in started.values():
        with suppress(ray.exceptions.RayError):
            ray.kill(probe)


def ask(
    asked: Probes, call: Callable[[ActorHandle, int], ray.ObjectRef], seconds: float
) -> tuple[dict[str, Any], dict[str, str]]:
    """Ask all probes at once.

    Args:
        asked: the probes.
        call: of a probe and its number.
        seconds: to wait for all answers.

    Returns:
        The answers, and the reasons why there are none, each by address.
    """
    references = {place: call(probe, i) for i, (place, probe) in enumerate(asked.items())}
    ray.wait(list(references.values()), num_returns=len(references), timeout=seconds) if references else None
    answers, faults = dict[str, Any](), dict[str, str]()
    for place, reference in references.items():
        try:
            answers[place] = ray.get(reference, timeout=0)
        except ray.exceptions.GetTimeoutError:
            faults[place] = f"no answer in {seconds:g} s"
        except ray.exceptions.RayTaskError as e:
            faults[place] = first_line(e.cause)
        except ray.exceptions.RayError as e:
            faults[place] = first_line(e)
    return answers, faults


def first_line(error: object) -> str:
    """The first line of an error that says something."""
    return next((line.strip() for line in str(error).splitlines() if line.strip()), type(error).__name__)[:200]


def versions() -> dict[str, str]:
    """Of Python, Ray, torch and numpy, and the digest of this package's source, as this process has them."""
    root, digest = Path(pipeline.__file__).parent, hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    packages = {"ray": ray.__version__, "torch": torch.__version__, "numpy": np.__version__}
    return {"python": platform.python_version(), **packages, "pipeline": f"source {digest.hexdigest()[:8]}"}


def chain_digest(recipe: Recipe, spec: Spec, task: ChainTask) -> str:
    """Digest of the states at the end of a task under fresh networks of seed 0, on the CPU."""
    result = advance(recipe, init_networks(recipe, spec, 0, torch.device("cpu")), task)
    return hashlib.sha256(result.x.tobytes()).hexdigest()


def _connects(host: str, port: int) -> bool:
    try:
        socket.create_connection((host, port), timeout=CONNECT_SECONDS).close()
    except OSError:
        return False
    return True


def _output(command: list[str]) -> str:
    """What a command prints; empty if it fails. It sees the GPUs that Ray hides from processes without one."""
    env = {k: v for k, v in os.environ.items() if k != "CUDA_VISIBLE_DEVICES"}
    try:
        return subprocess.run(command, capture_output=True, text=True, timeout=DRIVER_SECONDS, env=env).stdout.strip()
    except (OSError, subprocess.TimeoutExpired):
        return ""
