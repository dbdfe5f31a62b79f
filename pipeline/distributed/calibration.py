"""What messages cost on a cluster, measured on a sample: two chain actors and this process as their learner.

All are CPU seconds: of this process's main thread, of the actors, and of Ray's own processes. So they hold on a machine
that is busy with other things, too; the simulation adds the waiting.
"""

import os
import socket
import tempfile
import time
from collections.abc import Sequence
from dataclasses import replace
from statistics import median
from typing import Any

import numpy as np
import psutil  # type: ignore[import-untyped]
import ray
import torch
import torch.distributed as dist
from ray.train import RunConfig, ScalingConfig

from pipeline.batch import Spec
from pipeline.chains.lanes import Lane
from pipeline.chains.task import ChainResult, ChainTask
from pipeline.distributed.actor_pool import ActorPool
from pipeline.distributed.actors import ChainActor, start_chain_actors
from pipeline.distributed.aside import call_aside
from pipeline.distributed.ray_private import LearnerConfig, Trainer
from pipeline.distributed.status import RemoteProgress, RemoteRequest, StatusActor
from pipeline.errors import InputError
from pipeline.planning.costs import Costs, Line, RayCosts
from pipeline.process import peak_memory, pick_device
from pipeline.runs.job import Job, load_dataset, override
from pipeline.samplers.langevin import Langevin
from pipeline.training.calibration import as_costs, measure_job

PASSES, UPDATES = 3, 20
"""Measurements of the pool take turns in so many passes, of so many updates each after some to warm up; of the passes
the median counts."""
WARM_UP = 5
WAIT = 0.01
"""Seconds that a task waits: then messages come one by one, to processes that sleep, as they do in a run."""
ACTORS = 2
FEW, MANY = 2, 16
"""Tasks of an update: one for each actor, or a queue for each."""
LAG = 2
"""With which no actor waits for its tasks."""
ARRAY = 4_000, 4_000_000
"""Bytes of the small and the large array of weights."""
STATES = 400, 400_000
"""Bytes of the small and the large states of a task."""
IDLE_SECONDS = 2.0
LEARNER_SECONDS, LEARNER_WAIT = 5.0, 0.05
"""How long a learner that learns nothing is at work, and the length of its updates."""


class SampleActor(ChainActor):
    """A chain actor whose tasks only wait, and which says what it has cost."""

    def advance(self, task: ChainTask, weights: list[ray.ObjectRef]) -> Any:
        """The task's own states, after a wait; weights are fetched as a chain actor fetches them."""
        if self.loaded != weights:
            ray.get(weights)
            self.loaded = weights
        time.sleep(WAIT)
        none = np.zeros(1, np.float32)
        return ChainResult(task.lane, task.slots, task.x, none, none, none, 0.0, 0, 1.0, 0, 0.0)

    def cpu_seconds(self) -> tuple[float, float, float]:
        """CPU seconds so far: of this process, of Ray's own ones on this machine, and of all that Ray runs here."""
        return time.process_time(), sum(map(_cpu, _ray_processes())), _all_cpu()

    def peak(self) -> int:
        """Resident bytes so far, at most."""
        return peak_memory()

    def address(self) -> str:
        """This machine's address, with a free port."""
        with socket.socket() as one:
            one.bind(("", 0))
            return f"{ray.util.get_node_ip_address()}:{one.getsockname()[1]}"

    def reduce(self, rank: int, address: str) -> Line:
        """Seconds of an all-reduce of two over gloo, by bytes: CPU seconds of this process."""
        dist.init_process_group("gloo", f"tcp://{address}", world_size=2, rank=rank)
        times = []
        for size in ARRAY:
            vector = torch.zeros(size // 4)
            dist.all_reduce(vector)
            began = time.process_time()
            for _ in range(10):
                dist.all_reduce(vector)
            times.append((time.process_time() - began) / 10)
        dist.destroy_process_group()
        return _line(ARRAY, times)


def _ray_processes() -> list[Any]:
    """Ray's own processes on the machine of an actor: its raylet, the raylet's agents, and what started with it."""
    raylet = psutil.Process(os.getppid())
    agents = [one for one in raylet.children() if "Agent" in one.name() or "agent" in " ".join(one.cmdline())]
    names = ("gcs_server", "log_monitor", "monitor.py", "dashboard")
    parent = raylet.parent()
    beside = parent.children() if parent and parent.pid > 1 else []
    return [raylet, *agents, *(one for one in beside if any(name in " ".join(one.cmdline()) for name in names))]


def _all_cpu() -> float:
    """CPU seconds of all processes that an actor's raylet has started, with those that have started it."""
    raylet = psutil.Process(os.getppid())
    parent = raylet.parent()
    root = parent if parent and parent.pid > 1 else raylet
    return sum(map(_cpu, [root, *root.children(recursive=True)]))


def _cpu(process: Any) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def calibrate(job: Job[Any], on_gpu: bool = False) -> Costs:
    """The costs of a job on a machine of the cluster that Ray is connected to.

    Args:
        job: as it would run.
        on_gpu: whether chains and learning are measured on a GPU.

    Raises:
        InputError: the job's settings, or its data, cannot be used; or the cluster has no GPU.
    """
    if on_gpu and not ray.cluster_resources().get("GPU"):
        raise InputError("no machine here has one: calibrate on a cluster that has (RAY_ADDRESS)", "gpus")
    measure = ray.remote(num_cpus=1, num_gpus=1.0 if on_gpu else 0.0, max_calls=1)(_measure_job)
    costs: Costs = call_aside(lambda: ray.get(measure.remote(job)))
    spec = load_dataset(job).spec
    messages, actor = measure_messages(override(job, threads=1), spec)
    return replace(costs, ray=messages, memory=replace(costs.memory, actor=actor))


def _measure_job(job: Job[Any]) -> Costs:
    device = pick_device("cuda" if ray.get_gpu_ids() else "cpu")
    return as_costs(job, measure_job(job, device), device)


def measure_messages(job: Job[Any], spec: Spec) -> tuple[RayCosts, int]:
    """The costs of messages, and the resident bytes of an actor before its first task."""
    handles = start_chain_actors(job, spec, [None] * ACTORS, 0.25, 0.0, SampleActor)
    try:
        memory = max(ray.get([handle.peak.remote() for handle in handles]))
        reduce, (idle, idle_actor, everything) = _measure_reduce(handles), _measure_idle(handles)
        rest = {"actor": ACTORS * idle_actor, "system": idle}
        sizes = [
            (FEW, ARRAY[0], STATES[0], 0),
            (FEW, ARRAY[0], STATES[0], LAG),
            (MANY, ARRAY[0], STATES[0], 0),
            (FEW, ARRAY[0], STATES[1], 0),
            (FEW, ARRAY[1], STATES[0], 0),
        ]
        passes = [[_measure_pool(handles, *one, rest) for one in sizes] for _ in range(PASSES)]
        few, queued, many, states, weights = map(_medians, zip(*passes, strict=True))
        train = max(0.0, _measure_train() - everything) if len(ray.nodes()) == 1 else RayCosts().train
    finally:
        for handle in handles:
            ray.kill(handle)
    task = {name: max(0.0, many[name] - few[name]) / (MANY - FEW) for name in few}
    once = {name: max(0.0, few[name] - FEW * task[name]) for name in few}
    waited, there = few["actor"] / FEW, min(few["actor"], queued["actor"]) / FEW
    by_states = {name: _slope(STATES, few[name], states[name]) / FEW for name in few}
    by_weights = {name: _slope(ARRAY, few[name], weights[name]) for name in few}
    return RayCosts(
        put=Line(once["submit"], by_weights["submit"]),
        submit=Line(task["submit"], by_states["submit"]),
        wait=once["collect"],
        collect=Line(task["collect"], by_states["collect"]),
        receive=Line(there, by_states["actor"] / 2),  # task and result have these bytes
        wake=waited - there,
        fetch=Line(0.0, by_weights["actor"] / ACTORS),
        system_wake=once["system"],
        system=Line(task["system"], by_states["system"]),
        reduce=reduce,
        idle=idle,
        idle_actor=idle_actor,
        train=train,
    ), memory


def _medians(rows: Sequence[dict[str, float]]) -> dict[str, float]:
    return {name: median(row[name] for row in rows) for name in rows[0]}


def _measure_pool(
    handles: list[Any], count: int, weight_bytes: int, state_bytes: int, lag: int, rest: dict[str, float]
) -> dict[str, float]:
    """CPU seconds of an update of so many tasks, by who spends them, less the cores that they keep busy anyway."""
    pool, weights = ActorPool(handles), np.zeros(weight_bytes // 4, np.float32)
    x, slots, sampler = np.zeros((1, state_bytes // 4), np.float32), np.zeros(1, np.int64), Langevin(0, 1.0, 0.0)
    tasks = [ChainTask("sample", Lane(p, count), slots, x, None, sampler, 0, 0) for p in range(count)]
    spent = {"submit": 0.0, "collect": 0.0}
    for update in range(lag):
        pool.submit(update, tasks, weights)
    for update in range(WARM_UP + UPDATES):
        if update == WARM_UP:
            before, spent = _processes(handles), dict.fromkeys(spent, 0.0)
            began, own = time.perf_counter(), time.process_time()
        start = time.thread_time()
        pool.submit(update + lag, tasks, weights)
        sent = time.thread_time()
        pool.collect(update)
        spent["submit"] += sent - start
        spent["collect"] += time.thread_time() - sent
    own, passed = time.process_time() - own, time.perf_counter() - began
    actors, system, _ = (b - a for a, b in zip(before, _processes(handles), strict=True))
    pool.drain()
    spent |= {"actor": actors, "system": system + own - sum(spent.values())}
    return {name: max(0.0, seconds - passed * rest.get(name, 0.0)) / UPDATES for name, seconds in spent.items()}


def _processes(handles: list[Any]) -> tuple[float, float, float]:
    """CPU seconds of the actors, and of Ray's own and of all processes on the first one's machine."""
    rows = ray.get([handle.cpu_seconds.remote() for handle in handles])
    return sum(own for own, _, _ in rows), rows[0][1], rows[0][2]


def _measure_reduce(handles: list[Any]) -> Line:
    address = ray.get(handles[0].address.remote())
    lines = ray.get([handle.reduce.remote(rank, address) for rank, handle in enumerate(handles)])
    return Line(*(float(np.mean([getattr(line, name) for line in lines])) for name in ("fixed", "per_byte")))


def _measure_idle(handles: list[Any]) -> tuple[float, float, float]:
    """Cores in use while nothing happens: by Ray's own processes on a machine, by an actor, and by all there."""
    before, began = _processes(handles), time.perf_counter()
    time.sleep(IDLE_SECONDS)
    seconds = time.perf_counter() - began
    actors, system, everything = (b - a for a, b in zip(before, _processes(handles), strict=True))
    return system / seconds, actors / seconds / len(handles), everything / seconds


def _measure_train() -> float:
    """Cores in use on a machine while Ray Train runs a learner that learns nothing, and says how far it is."""
    status = ray.remote(num_cpus=0)(StatusActor).remote()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            _learn_nothing,
            train_loop_config={"status": status},
            scaling_config=ScalingConfig(num_workers=1, resources_per_worker={"CPU": 0.25}),
            torch_config=LearnerConfig(backend="gloo"),
            run_config=RunConfig(name="calibration", storage_path=folder),
        )
        try:
            return float(call_aside(trainer.fit).return_value)
        finally:
            ray.kill(status)


def _learn_nothing(config: dict[str, Any]) -> float:
    progress, requested = RemoteProgress(config["status"], 1, "calibration", ""), RemoteRequest(config["status"])
    before, began = _all_cpu(), time.perf_counter()
    while time.perf_counter() < began + LEARNER_SECONDS:
        time.sleep(LEARNER_WAIT)
        progress.update(0)
        requested()
    return (_all_cpu() - before) / (time.perf_counter() - began)


def _slope(sizes: tuple[int, int], small: float, large: float) -> float:
    return max(0.0, large - small) / (sizes[1] - sizes[0])


def _line(sizes: tuple[int, int], times: list[float]) -> Line:
    """A line through the seconds of two sizes; neither part is less than 0."""
    slope = _slope(sizes, *times)
    return Line(max(0.0, times[0] - slope * sizes[0]), slope)
