"""What a job's learner and actors compute, measured on a sample: seconds by size, in this process, without Ray.

The learner's part is `Worker.step` with a pool that has all results already, so it is what a run does. Chains are moved
by `advance`, for as many of their steps as fit the time. Sizes are the job's lanes, and a sixteenth, a quarter, half
and all of a batch; the simulation has straight lines between and beyond them. On a CPU with one thread these are CPU
seconds of the process, which hardly depend on what else the machine does; else wall seconds.

All measurements take turns: what slows a machine for some seconds would else slow one of them alone.
"""

import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import replace
from statistics import median, stdev
from typing import Any, TypeAlias

import torch

from pipeline.chains.lanes import Lane
from pipeline.chains.local_pool import LocalPool
from pipeline.chains.task import ChainTask, advance
from pipeline.errors import Diverged, InputError
from pipeline.nets.bfloat16 import NetsByPrecision
from pipeline.nets.weights import eval_copy, load
from pipeline.planning.costs import ChainCosts, Costs, Curve, JobCosts, MemoryCosts
from pipeline.process import configure_process, peak_memory
from pipeline.rng import generator
from pipeline.runs import lease
from pipeline.runs.job import Job, load_dataset, override
from pipeline.runs.journal import RunJournal, provenance
from pipeline.runs.storage import Storage
from pipeline.training.replay import ReplayPool, with_steps
from pipeline.training.worker import Worker

PASSES = 3
"""Over all measurements; the median counts, since a machine's speed varies, and a run has its mean."""
ROUNDS, MOST_ROUNDS, ROUNDS_SECONDS = 3, 20, 0.1
"""Of a measurement in a pass, after one to warm up: at least, and at most until so many seconds have passed. The median
counts."""
TASK_SECONDS = 0.2
"""About how long a measured task takes."""
SHARES = (16, 4, 2, 1)
"""A lane of the measured sizes is one of so many of a batch, or the job's own."""

Seconds: TypeAlias = dict[str, float]
"""By what was measured. `peak` and `device peak` are bytes, at the most so far; `jitter` is a ratio."""


def measure_job(job: Job[Any], device: torch.device) -> tuple[JobCosts, MemoryCosts]:
    """The costs of a job's learner and actors, of one thread each or as the job says.

    Args:
        job: as it would run; networks of other runs that it starts with need not be there.
        device: that chains move and learners learn on.

    Raises:
        InputError: the job's settings, or its data, cannot be used.
    """
    configure_process(job.resources.threads)
    before, batch = peak_memory(), job.recipe.batch_size
    passes, rests = dict[int, list[Seconds]](), list[Seconds]()
    sizes = sorted({batch // job.lanes, *(max(min(2, batch), batch // share) for share in SHARES)})
    for _ in range(PASSES):
        for n in sizes:
            try:
                with warnings.catch_warnings():
                    warnings.filterwarnings("ignore", ".*degrees of freedom")  # of the spread of one chain
                    passes.setdefault(n, []).append(_measure_lane(job, n, device))
            except (InputError, Diverged):  # some recipes need more than one item
                if n == batch:
                    raise
        own = min(sizes := list(passes), key=lambda size: abs(size - batch // max(2, job.lanes)))
        rests.append(_measure_rest(job, own, device))
    lanes = {n: _typical(measured) for n, measured in passes.items()}
    return _combine(job, lanes, own, _typical(rests), device), _memory(job, lanes, before, device)


def _typical(passes: list[Seconds]) -> Seconds:
    """The medians; of peaks the first, since later ones are of all sizes."""
    peaks = {name: size for name, size in passes[0].items() if name.endswith("peak")}
    return {name: median(one[name] for one in passes) for name in passes[0]} | peaks


def _combine(job: Job[Any], lanes: dict[int, Seconds], own: int, rest: Seconds, device: torch.device) -> JobCosts:
    sizes, update = tuple(lanes), lanes[own]["update"]  # of two lanes of this size, the sum is what was measured
    step = min(max(0.0, 2 * update - rest["two lanes"] - rest["pack"]), update)
    worker = _worker(job, sizes[-1], 1, device)

    def curve(seconds: Callable[[Seconds], float]) -> Curve:
        return Curve(sizes, tuple(max(0.0, seconds(lane)) for lane in lanes.values()))

    return JobCosts(
        chains={task.chain: _chain_costs(job, task, lanes) for task in worker.tasks(0, 0)},
        batch_size=job.recipe.batch_size,
        prepare=curve(lambda lane: lane["prepare"]),
        read=curve(lambda lane: lane["read"]),
        learn=curve(lambda lane: lane["update"] - lane["prepare"] - lane["read"] - rest["pack"] - step),
        compare=curve(lambda lane: lane["stale update"] - lane["update"]),
        step=step,
        pack=rest["pack"],
        load=rest["load"],
        weight_bytes=worker.learner.weights()[0].nbytes,
        gradient_bytes=_gradient_bytes(worker),
        log=rest["log"],
        log_every=job.logging.log_every,
        checkpoint=rest["checkpoint"],
        checkpoint_every=job.logging.checkpoint_every,
        jitter=max(0.0, median(lane["jitter"] for lane in lanes.values())),
    )


def _chain_costs(job: Job[Any], task: ChainTask, lanes: dict[int, Seconds]) -> ChainCosts:
    count, name = job.recipe.chains[task.chain].count, task.chain
    steps = {max(1, round(count * n / job.recipe.batch_size)): lane[f"{name} step"] for n, lane in lanes.items()}
    fixed = median(lane[f"{name} fixed"] for lane in lanes.values())
    curve = Curve(tuple(steps), tuple(steps.values()))
    return ChainCosts(count, task.sampler.gradient_evaluations, curve, fixed, _bytes_per_chain(task))


def _memory(job: Job[Any], lanes: dict[int, Seconds], before: int, device: torch.device) -> MemoryCosts:
    """Bytes by differences of the peaks at the two largest sizes; activations count for learner and actor alike."""
    last = list(lanes)[-2:]
    sizes = last[-1] - last[0]
    grown, on_device = (lanes[last[-1]][name] - lanes[last[0]][name] for name in ("peak", "device peak"))
    each, device_each = (max(0, round(one / sizes)) if sizes else 0 for one in (grown, on_device))
    bank = 0
    for task in _worker(job, last[-1], 1, device).tasks(0, 0):
        slots = job.recipe.chains[task.chain].bank
        bank += _bytes_per_chain(task) * (slots if isinstance(slots, int) else 0)
    return MemoryCosts(learner=before, item=each, chain=each, device_item=device_each, device_chain=device_each,
                       bank=3 * bank)  # fmt: skip


def _worker(job: Job[Any], n: int, lanes: int, device: torch.device) -> Worker:
    """A worker of lanes of n items."""
    recipe = replace(job.recipe, batch_size=n * lanes)
    own = override(job, recipe=recipe, lanes=lanes, lag=0, max_staleness=0.0, changes=(), init_from="", patience=0)
    data = load_dataset(job)
    worker = Worker(own, data, device, LocalPool(recipe, {}))
    for net in worker.learner.nets.values():
        net.to(device)
    recipe.data_dependent_init(worker.learner.nets, worker.batch(0, Lane(0, lanes)), generator(0, device), frozenset())
    return worker


def _measure_lane(job: Job[Any], n: int, device: torch.device) -> Seconds:
    """Of one lane of n items."""
    worker = _worker(job, n, 1, device)
    nets, lane = NetsByPrecision(eval_copy(worker.learner.nets)), Lane(0, 1)
    chains, spread = Seconds(), [0.0]
    for task in worker.tasks(0, 0):
        fixed, step, jitter = _task_seconds(job, nets.at(task.precision), task, device)
        chains[f"{task.chain} fixed"], chains[f"{task.chain} step"] = fixed, step
        spread.append(jitter)
    update = _learning_seconds(job, n, 1, device)
    return {
        "prepare": _prepare_seconds(worker, device),
        "read": _seconds(lambda: worker.batch(0, lane), device),
        "update": update,
        "stale update": _learning_seconds(job, n, 1, device, lag=1) if chains else update,
        "jitter": max(spread),
        "peak": peak_memory(),
        "device peak": torch.cuda.max_memory_allocated() if device.type == "cuda" else 0,
        **chains,
    }


def _measure_rest(job: Job[Any], n: int, device: torch.device) -> Seconds:
    """Of an update of two lanes of n items, and of what does not depend on the size."""
    worker = _worker(job, n, 1, device)
    flat, copies = worker.learner.weights()[0], eval_copy(worker.learner.nets)
    learning = {name: net for name, net in copies.items() if name not in job.recipe.frozen}
    return {
        "two lanes": _learning_seconds(job, n, 2, device),
        "pack": _seconds(worker.learner.weights, device),
        "load": _seconds(lambda: load(learning, flat), device),
        **_journal_seconds(job, n, device),
    }


def _task_seconds(job: Job[Any], nets: Any, task: ChainTask, device: torch.device) -> tuple[float, float, float]:
    """Fixed seconds of a task, those of a step, and the relative standard deviation of both."""
    evaluations = task.sampler.gradient_evaluations
    shortest = with_steps(task, 1)

    def move(one: ChainTask) -> Callable[[], object]:
        return lambda: advance(job.recipe, nets, one)

    first, least = _seconds(move(shortest), device), shortest.sampler.gradient_evaluations
    if evaluations <= least:
        return first, 0.0, 0.0
    steps = getattr(task.sampler, "steps", 1)
    longer = with_steps(task, max(2, min(steps, round(TASK_SECONDS / max(first, 1e-6)))))
    times, more = _rounds(move(longer), device), longer.sampler.gradient_evaluations - least
    step = max(0.0, median(times) - first) / more
    return max(0.0, first - least * step), step, stdev(times) / median(times)


def _prepare_seconds(worker: Worker, device: torch.device) -> float:
    """Seconds to make a lane's tasks, with a bank that has states."""
    count = iter(range(10**6))

    def make() -> None:
        for task in worker.tasks(next(count), 0):
            worker.banks[task.chain].put(task.lane, task.slots, task.x)

    return _seconds(make, device)


def _learning_seconds(job: Job[Any], n: int, lanes: int, device: torch.device, lag: int = 0) -> float:
    """Seconds of an update of lanes of n items, without its chains."""
    worker, count = _replaying(job, n, lanes, device, lag), iter(range(10**6))
    return _seconds(lambda: worker.step(next(count)), device)


def _replaying(job: Job[Any], n: int, lanes: int, device: torch.device, lag: int = 0) -> Worker:
    """A worker of lanes of n items, whose chains are there already."""
    worker = _worker(job, n, lanes, device)
    nets = eval_copy(worker.learner.nets)
    tasks = [with_steps(task, 1) for task in worker.tasks(0, 0) if task.lane.index == 0]
    results = {task.chain: advance(job.recipe, nets, task) for task in tasks}
    for name, bank in worker.banks.items():
        for lane in worker.lanes:
            bank.in_flight[lane.index][:] = False
        bank.settings = worker.job.recipe.chains[name]
    worker.pool = ReplayPool(worker, results, lag)
    worker.learner.lr_factor = 0.0  # or it would diverge from always the same results
    return worker


def _journal_seconds(job: Job[Any], n: int, device: torch.device) -> Seconds:
    """Of a line of the log, with an update's metrics, and of a checkpoint."""
    worker, count = _replaying(job, n, 1, device), iter(range(10**6))
    metrics = worker.step(0)[0]
    with tempfile.TemporaryDirectory() as folder:
        out = Storage.at(folder)
        worker.job, worker.checkpoints = override(worker.job, out=folder), out / "checkpoints"
        journal = RunJournal(out, 0, 1, lease.join(out, lease.acquire(out)))

        def log() -> None:  # of metrics that change: a constant one is not written into TensorBoard's file
            update = next(count)
            journal.log(update, {name: value + update for name, value in metrics.items()})

        seconds = {"log": _seconds(log, torch.device("cpu"))}
        journal.close()
        return seconds | {"checkpoint": _seconds(lambda: worker.save(worker.job.updates), torch.device("cpu"), 2)}


def _seconds(call: Callable[[], object], device: torch.device, rounds: int = ROUNDS) -> float:
    return median(_rounds(call, device, rounds))


def _rounds(call: Callable[[], object], device: torch.device, rounds: int = ROUNDS) -> list[float]:
    """Seconds of each of so many calls, or more of short ones, after one to warm up."""
    on_gpu = device.type == "cuda"
    clock = time.perf_counter if on_gpu or torch.get_num_threads() > 1 else time.process_time
    times: list[float] = []
    while len(times) <= rounds or (sum(times) < ROUNDS_SECONDS and len(times) < MOST_ROUNDS):
        began = clock()
        call()
        if on_gpu:
            torch.cuda.synchronize(device)
        times.append(clock() - began)
    return times[1:]


def as_costs(job: Job[Any], measured: tuple[JobCosts, MemoryCosts], device: torch.device) -> Costs:
    """A job's costs, with the defaults of Ray's."""
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else "cpu"
    about = {**provenance(), "date": time.strftime("%Y-%m-%d"), "threads": job.resources.threads}
    return Costs(measured[0], memory=measured[1], name=job.name, updates=job.updates, device=name, about=about)


def describe_job(job: Job[Any]) -> Costs:
    """A job's chains, steps and sizes, without any seconds of theirs: these are for the user to give.

    Raises:
        InputError: the job's settings, or its data, cannot be used.
    """
    worker = _worker(job, job.recipe.batch_size, 1, torch.device("cpu"))
    nothing, chains = Curve((1,), (0.0,)), {}
    for task in worker.tasks(0, 0):
        evaluations, count = task.sampler.gradient_evaluations, job.recipe.chains[task.chain].count
        chains[task.chain] = ChainCosts(count, evaluations, nothing, 0.0, _bytes_per_chain(task))
    size = worker.learner.weights()[0].nbytes
    costs = JobCosts(chains, job.recipe.batch_size, nothing, nothing, nothing, nothing, 0.0, 0.0, 0.0, size,
                     _gradient_bytes(worker), checkpoint_every=job.logging.checkpoint_every)  # fmt: skip
    return Costs(costs, name=job.name, updates=job.updates)


def _bytes_per_chain(task: ChainTask) -> int:
    return sum(a.nbytes for a in (task.x, *(task.context or {}).values(), *task.carried.values())) // len(task.x)


def _gradient_bytes(worker: Worker) -> int:
    return 4 * sum(p.numel() for net in worker.learner.nets.values() for p in net.parameters() if p.requires_grad)
