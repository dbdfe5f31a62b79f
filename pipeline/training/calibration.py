"""What a job's learner and actors compute, measured on a sample: seconds by size, in this process, without Ray.

The learner's part is `Worker.step` with a pool that has all results already, so it is what a run does. Chains are moved
by `advance`, for as many of their steps as fit the time. Sizes are lanes of a sixteenth, a quarter, half and all of a
batch; the simulation has straight lines between and beyond them. On a CPU with one thread these are CPU seconds of the
process, which hardly depend on what else the machine does; else wall seconds.
"""

import resource
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from statistics import median, stdev
from typing import Any

import torch

from pipeline.chains.lanes import Lane
from pipeline.chains.local_pool import LocalPool
from pipeline.chains.task import ChainResults, ChainTask, advance
from pipeline.errors import InputError
from pipeline.nets.bfloat16 import NetsByPrecision
from pipeline.nets.weights import eval_copy, load
from pipeline.planning.costs import ChainCosts, Costs, Curve, JobCosts, MemoryCosts
from pipeline.process import configure_process
from pipeline.rng import generator
from pipeline.runs import lease
from pipeline.runs.job import Job, load_dataset, override
from pipeline.runs.journal import RunJournal, provenance
from pipeline.runs.storage import Storage
from pipeline.training.replay import ReplayPool, with_steps
from pipeline.training.worker import Worker

ROUNDS, MOST_ROUNDS, ROUNDS_SECONDS = 5, 50, 0.2
"""Of each measurement, after one to warm up: at least, and at most until so many seconds have passed. The median
counts."""
TASK_SECONDS = 0.3
"""About how long a measured task takes."""
SHARES = (16, 4, 2, 1)
"""A lane of the measured sizes is one of so many of a batch."""


@dataclass(frozen=True)
class _Lane:
    """Seconds of one size."""

    prepare: float
    read: float
    learn: float
    compare: float
    chains: dict[str, tuple[float, float, int]]
    """Fixed seconds, seconds of a step, and bytes of a chain."""
    jitter: float
    peak: int
    """Bytes of the process at its most, so far."""
    device_peak: int


def measure_job(job: Job[Any], device: torch.device) -> tuple[JobCosts, MemoryCosts]:
    """The costs of a job's learner and actors, of one thread each or as the job says.

    Args:
        job: as it would run; networks of other runs that it starts with need not be there.
        device: that chains move and learners learn on.

    Raises:
        InputError: the job's settings, or its data, cannot be used.
    """
    configure_process(job.resources.threads)
    batch = job.recipe.batch_size
    before, sizes = peak_memory(), sorted({max(min(2, batch), batch // share) for share in SHARES})
    lanes: dict[int, _Lane] = {}
    for n in sizes:
        try:
            lanes[n] = _measure_lane(job, n, device)
        except InputError:  # some recipes need more than one item
            if n == sizes[-1]:
                raise
    return _combine(job, lanes, device, before)


def _combine(job: Job[Any], lanes: dict[int, _Lane], device: torch.device, before: int) -> tuple[JobCosts, MemoryCosts]:
    sizes, recipe = tuple(lanes), job.recipe
    worker = _worker(job, sizes[-1], 1, device)
    whole, pack = _learning_seconds(job, sizes[-1], 1, device), _seconds(worker.learner.weights, device)
    flat, copies = worker.learner.weights()[0], eval_copy(worker.learner.nets)
    learning = {name: net for name, net in copies.items() if name not in recipe.frozen}
    two, one = (_learning_seconds(job, sizes[0], lanes, device) for lanes in (2, 1))
    step = min(max(0.0, 2 * one - two - pack), whole)
    chains = _chain_costs(worker, job, lanes)
    log, checkpoint = _journal_seconds(worker)

    def curve(name: str) -> Curve:
        return Curve(sizes, tuple(getattr(lanes[n], name) for n in sizes))

    costs = JobCosts(
        chains=chains,
        batch_size=recipe.batch_size,
        prepare=curve("prepare"),
        read=curve("read"),
        learn=Curve(sizes, tuple(max(0.0, lanes[n].learn - pack - step) for n in sizes)),
        compare=curve("compare"),
        step=step,
        pack=pack,
        load=_seconds(lambda: load(learning, flat), device),
        weight_bytes=flat.nbytes,
        gradient_bytes=_gradient_bytes(worker),
        log=log,
        log_every=job.logging.log_every,
        checkpoint=checkpoint,
        checkpoint_every=job.logging.checkpoint_every,
        jitter=median(lane.jitter for lane in lanes.values()),
    )
    return costs, _memory(job, lanes, before, device)


def _chain_costs(worker: Worker, job: Job[Any], lanes: dict[int, _Lane]) -> dict[str, ChainCosts]:
    recipe, largest, costs = job.recipe, lanes[max(lanes)], {}
    for name, chain in recipe.chains.items():
        fixed, steps = (tuple(lane.chains[name][i] for lane in lanes.values()) for i in (0, 1))
        counts = (max(1, round(chain.count * n / recipe.batch_size)) for n in lanes)
        points = dict(zip(counts, steps, strict=True))
        evaluations = recipe.sampler(name, worker.learner.nets, 0).gradient_evaluations
        costs[name] = ChainCosts(
            chain.count,
            evaluations,
            Curve(tuple(points), tuple(points.values())),
            median(fixed),
            largest.chains[name][2],
        )
    return costs


def _memory(job: Job[Any], lanes: dict[int, _Lane], before: int, device: torch.device) -> MemoryCosts:
    """Bytes by differences of the peaks at the two largest sizes; activations count for learner and actor alike."""
    last = list(lanes)[-2:]
    grown, sizes = lanes[last[-1]].peak - lanes[last[0]].peak, last[-1] - last[0]
    on_device = lanes[last[-1]].device_peak - lanes[last[0]].device_peak
    each, device_each = (max(0, round(one / sizes)) if sizes else 0 for one in (grown, on_device))
    chains, bank = job.recipe.chains.values(), 0
    for chain, (_, _, size) in zip(chains, lanes[last[-1]].chains.values(), strict=True):
        bank += size * (chain.bank if isinstance(chain.bank, int) else 0)
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


def _measure_lane(job: Job[Any], n: int, device: torch.device) -> _Lane:
    worker = _worker(job, n, 1, device)
    nets, lane = NetsByPrecision(eval_copy(worker.learner.nets)), Lane(0, 1)
    chains: dict[str, tuple[float, float, int]] = {}
    spread: list[float] = []
    for task in worker.tasks(0, 0):
        fixed, step, jitter = _task_seconds(job, nets.at(task.precision), task, device)
        chains[task.chain] = fixed, step, _bytes_per_chain(task)
        spread.append(jitter)
    prepare, read = _prepare_seconds(worker, device), _seconds(lambda: worker.batch(0, lane), device)
    learn = _learning_seconds(job, n, 1, device)
    stale = _learning_seconds(job, n, 1, device, lag=1) if chains else learn
    on_device = torch.cuda.max_memory_allocated() if device.type == "cuda" else 0
    return _Lane(
        prepare, read, max(0.0, learn - prepare - read), max(0.0, stale - learn), chains, max(spread, default=0.0),
        peak_memory(), on_device,
    )  # fmt: skip


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
    count = iter(range(10**6))
    return _seconds(lambda: worker.step(next(count)), device)


def _journal_seconds(worker: Worker) -> tuple[float, float]:
    """Seconds of a line of the log, and of a checkpoint."""
    with tempfile.TemporaryDirectory() as folder:
        out = Storage.at(folder)
        worker.job, worker.checkpoints = override(worker.job, out=folder), out / "checkpoints"
        results: ChainResults = {}
        worker.pool = ReplayPool(worker, {}, 0)
        worker.learner.learning_rates = dict.fromkeys(worker.learner.optimizers, 0.0)
        journal = RunJournal(out, 0, 1, lease.join(out, lease.acquire(out)))
        metrics = {f"metric-{k}": 0.1 for k in range(20)}
        log = _seconds(lambda: journal.log(0, metrics), torch.device("cpu"))
        journal.close()
        worker.pool.ready = {0: results} if results else {}
        return log, _seconds(lambda: worker.save(worker.job.updates), torch.device("cpu"), rounds=2)


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


def peak_memory() -> int:
    """Resident bytes of this process at its most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


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
