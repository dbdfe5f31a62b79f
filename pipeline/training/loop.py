"""The training loop of one rank; there is no other loop in the project."""

import contextlib
from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
import torch
from torch import Tensor

from pipeline import stop
from pipeline.chains.local_pool import Pool
from pipeline.chains.task import ChainResults, advance
from pipeline.data.dataset import Dataset
from pipeline.energies.energy import Energy
from pipeline.errors import Diverged, InputError, Stopped
from pipeline.progress import ProgressBar, doing
from pipeline.rng import fold
from pipeline.runs import lease
from pipeline.runs.job import Job, load_dataset
from pipeline.runs.journal import RunJournal
from pipeline.runs.snapshot import Snapshot
from pipeline.runs.storage import Storage
from pipeline.sampling.draw import decode_states, draw_tasks, final_states
from pipeline.sampling.posterior import item_metrics, posterior_tasks
from pipeline.training.collective import gather, world
from pipeline.training.dynamics import gap_and_grad_norm, oscillation
from pipeline.training.rollback import next_attempt
from pipeline.training.stopping import save_interrupted, stop_if_requested
from pipeline.training.worker import Worker

GRID_SAMPLES = 100
"""Samples in a grid."""
HELD_OUT_ITEMS = 100
"""Held-out items, at most, that are measured at a checkpoint."""

Finish: TypeAlias = Callable[[Worker, RunJournal], dict[str, Any]]
"""Called on rank 0 after the last update; what it returns is the run's result."""


def train(
    job: Job[Any],
    device: torch.device,
    pool: Pool,
    progress: Callable[..., ProgressBar],
    finish: Finish,
    command: str = "",
    restart_count: Callable[[], int] = lambda: 0,
    requested: Callable[[], str] = stop.requested,
) -> dict[str, Any] | None:
    """Train a job on this rank, from its newest checkpoint; rank 0 returns what `finish` returns.

    Args:
        job: with job.json in its folder.
        device: of the learner.
        pool: moves the chains.
        progress: makes a progress bar.
        finish: called after the last update.
        command: the id from `lease.acquire`; empty: this call is the command, and acquires the lease.
        restart_count: how often the command's actors have been restarted so far.
        requested: why the run should stop; empty as long as it should not.

    Raises:
        Stopped: it should, and has a checkpoint of its last whole update; on all ranks alike.
        Diverged: a number is not finite or far outside its history, and the job does not roll back (any more).
        InputError: the data or the checkpoint do not belong to the job.
        TaskTimeout: no actor returned a task.
        RunWriteError: the run folder cannot be written to.
        LeaseLost: another command works on the run. Like the two before, it is raised on one rank alone.
    """
    data, out = _shared_dataset(job), Storage.at(job.out)
    own = lease.join(out, command or lease.acquire(out)) if world()[0] == 0 else None
    worker = Worker(job, data, device, pool, own, restart_count, requested)
    with doing("reading the checkpoint"):
        start = worker.restore()
    while True:
        try:
            return _attempt(worker, start, progress, finish)
        except Diverged as e:
            fault = e.with_traceback(None)  # its frames would keep the networks in memory
        worker, start = next_attempt(worker, fault)


def _attempt(worker: Worker, start: int, progress: Callable[..., ProgressBar], finish: Finish) -> dict[str, Any] | None:
    """The updates from `start` to the last; rank 0 returns what `finish` returns."""
    job = worker.job
    if worker.rank > 0:
        for update in range(start, job.updates):
            worker.step(update)
            worker.save_if_due(update + 1)
            stop_if_requested(worker, update + 1)
        worker.accounting.total()
        return None
    assert worker.lease
    worker.check_lease()
    if worker.data.record:
        Storage.at(job.out).write_json("data.json", worker.data.record)
    with contextlib.closing(RunJournal(Storage.at(job.out), start, job.logging.log_every, worker.lease)) as journal:
        with contextlib.closing(progress(total=job.updates, desc=job.name, unit="update")) as bar, stop.deferred():
            if start < job.updates:  # or every command would end before the final evaluation has
                stop.limit_minutes(job.resources.minutes)
            bar.update(start)
            try:
                for update in range(start, job.updates):
                    metrics, results = worker.step(update)
                    _log(worker, journal, update, metrics, results)
                    bar.set_description(_progress_line(job, {**metrics, **worker.held_out}), refresh=False)
                    bar.update(1)
                    worker.save_if_due(update + 1)
                    stop_if_requested(worker, update + 1, journal.sync)
            except Stopped:
                save_interrupted(worker, journal.sync)
                raise
        worker.accounting.total()
        return finish(worker, journal)


def _shared_dataset(job: Job[Any]) -> Dataset:
    """The job's data, once every rank has the same and sees the run folder; all ranks raise the fault of any."""
    data, fault = None, ""
    try:
        data = load_dataset(job)
        if not Storage.at(job.out).exists("job.json"):
            fault = f"{job.out} is not visible on every machine: learner {world()[0]} sees no job.json there"
    except InputError as e:
        fault = str(e)
    faults = gather((fault, data.fingerprint if data else ""))
    for fault, fingerprint in faults:
        if fault:
            raise InputError(fault)
        if fingerprint != faults[0][1]:
            raise InputError("not the same on every machine", "data", job.data.source)
    assert data is not None
    return data


def _log(worker: Worker, journal: RunJournal, update: int, metrics: Mapping[str, float], results: ChainResults) -> None:
    job, done, data = worker.job, update + 1, worker.data
    if update % job.logging.log_every == 0 or done == job.updates:
        journal.log(update, {**metrics, **{f"faults/{name}": n for name, n in worker.faults().items() if n}})
    if not worker.is_due(done):
        return
    worker.check_lease()
    for (chain, lane), result in results.items():
        if lane == 0:
            journal.histogram(f"{chain}/energy", torch.tensor(result.energy), update)
            journal.histogram(f"{chain}/grad_norm", torch.tensor(result.grad_norm), update)
    for name, value in oscillation(*gap_and_grad_norm(worker.learner.recipe, worker.monitor.history)).items():
        journal.scalar(f"dynamics/{name}", value, update)
    energy = worker.learner.recipe.energy(worker.learner.nets)
    if worker.learner.recipe.samples_are_data and (energy is not None or data.spec.kind in ("image", "text")):
        samples = _current_samples(worker, results, done)
        if energy is not None:
            _log_energies(worker, journal, update, energy, samples)
        if data.spec.kind == "image":
            journal.samples(f"update-{done:08d}", samples, update)
        if data.spec.kind == "text":
            journal.text(f"update-{done:08d}", data.to_sentences(samples), update)
    worker.held_out = _held_out_metrics(worker, done)
    for name, value in worker.held_out.items():
        journal.scalar(name, value, update)
    journal.sync()  # before the checkpoint, so that a resumed run finds every line up to it


def _current_samples(worker: Worker, results: ChainResults, update: int) -> Tensor:
    """Samples from this update's sample chains; where learning runs none, they are drawn for the purpose."""
    recipe, nets, seed = worker.learner.recipe, worker.learner.nets, worker.job.seed
    snapshot = Snapshot(worker.job, worker.data, nets, update)
    if recipe.sample_chain not in recipe.chains:
        tasks = draw_tasks(snapshot, GRID_SAMPLES, seed)
        results = {(task.chain, task.lane.index): advance(recipe, nets, task) for task in tasks}
    return decode_states(snapshot, final_states(results, recipe.sample_chain)[:GRID_SAMPLES], seed)


@torch.no_grad()
def _log_energies(worker: Worker, journal: RunJournal, update: int, energy: Energy, samples: Tensor) -> None:
    """The energies of samples and of as many items of the data, the same items each time, under one network."""
    index = np.linspace(0, worker.data.size - 1, min(worker.data.size, len(samples))).astype(np.int64)
    items = worker.data.batch(index, worker.device)["x"]
    journal.histogram("energies/data", energy(items).cpu(), update)
    journal.histogram("energies/samples", energy(samples.to(worker.device)).cpu(), update)


def _held_out_metrics(worker: Worker, update: int) -> dict[str, float]:
    """Means of the recipe's metrics of single items over some held-out items; {} where there is neither."""
    snapshot, items = Snapshot(worker.job, worker.data, worker.learner.nets, update), worker.data.test
    n = min(HELD_OUT_ITEMS, items.size)
    if not n or worker.job.data.held_out_class is not None:
        return {}
    tasks = posterior_tasks(snapshot, items, n, fold(worker.job.seed, "held out"))
    results = {(one.chain, one.lane.index): advance(snapshot.recipe, snapshot.nets, one) for one in tasks}
    metrics = item_metrics(snapshot, items, n, results)
    return {f"held_out/{name}": float(values.mean()) for name, values in metrics.items()}


def _progress_line(job: Job[Any], metrics: Mapping[str, float]) -> str:
    own = [(name.rpartition("/")[2], name) for name in job.recipe.progress_metrics]
    held_out = [(f"held-out {name}", f"held_out/{name}") for _, name in own]
    values = [f"{word} {metrics[name]:+.3f}" for word, name in (*own, *held_out) if name in metrics]
    attempt = [f"attempt {metrics['attempt']:.0f}"] if metrics["attempt"] else []
    return ", ".join([job.name, *attempt, *values])
