"""The loop of one rank: there is no other loop in the project."""

import dataclasses
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from jaxtyping import Float32
from numpy import ndarray

from pipeline import checkpoint, weights
from pipeline.batch import Batch
from pipeline.chains import Answers, Bank, ChainBatch, ChainTask
from pipeline.data import Dataset, load
from pipeline.errors import BadInput
from pipeline.evaluation import samples
from pipeline.job import Job, to_json
from pipeline.lanes import Lane, batch_indices, deal
from pipeline.learner import Learner, gather, world
from pipeline.report import Report, result
from pipeline.rng import fold, generator
from pipeline.storage import Storage


@runtime_checkable
class AnyPool(Protocol):
    """What moves chains: a LocalPool, or a Pool of actors."""

    next: int
    """The first update whose chains were not submitted yet."""
    ready: dict[int, Answers]
    """Answers that came back before they were asked for."""
    remote: bool
    """Whether other processes do the work."""

    def submit(self, update: int, tasks: list[ChainTask], flat: Float32[ndarray, " p"]) -> None:
        """Begin the tasks that `update` will use, under the weights `flat`."""

    def collect(self, update: int) -> Answers:
        """The answers of `update`, once all are there."""
        ...

    def drain(self) -> dict[int, Answers]:
        """All answers not collected yet, by update; they stay to be collected."""
        ...


@runtime_checkable
class Progress(Protocol):
    """A progress bar: tqdm's, or what tells one elsewhere."""

    def update(self, n: int = 1) -> Any:
        """Move on by n updates."""

    def set_description(self, desc: str, refresh: bool = True) -> Any:
        """What stands before the bar."""

    def close(self) -> Any:
        """Leave it as it is."""


@dataclasses.dataclass
class Spent:
    """What a run has cost so far, over all its processes and attempts."""

    wall_seconds: float = 0.0
    cpu_seconds: float = 0.0
    gradient_evaluations: int = 0


class Rank:
    """One rank's share of a run: its lanes, learner, banks and pool."""

    def __init__(self, job: Job[Any], data: Dataset, device: torch.device, pool: AnyPool):
        self.job, self.data, self.device, self.pool = job, data, device, pool
        self.rank, ranks = world()
        self.lanes = deal(job.lanes, self.rank, ranks)
        self.learner = Learner(job.recipe, data.spec, self.lanes, job.seed, device)
        self.banks = {name: Bank(chain, self.lanes) for name, chain in job.recipe.chains.items()}
        self.checkpoints = Storage.at(job.out) / "checkpoints"
        self.last: dict[str, float] = {}
        self.before, self.own = Spent(), Spent()
        self.began = time.perf_counter(), time.process_time()

    def batch(self, update: int, lane: Lane) -> dict[str, Batch]:
        """The lane's part of each stream."""
        recipe, seed = self.job.recipe, fold(self.job.seed, self.learner.attempt, "data")
        parts = {}
        for stream, size in recipe.streams.items():
            index = batch_indices(lane, self.data.size, size // lane.of, update, fold(seed, stream))
            parts[stream] = self.data.batch(index, self.device)
        return parts

    def tasks(self, update: int, version: int) -> list[ChainTask]:
        """The chains that `update` will use, one task a lane and chain."""
        recipe, nets, drawn = self.job.recipe, self.learner.nets, []
        for lane in self.lanes:
            batch = self.batch(update, lane) if recipe.chains else {}
            for name, chain in recipe.chains.items():
                rng = generator(self.learner.fold(f"start {name}", update, lane), self.device)
                fresh = recipe.start(name, chain.number // lane.of, rng, nets, batch).cpu().numpy()
                slots, x = self.banks[name].draw(lane, fresh, self.learner.fold(f"bank {name}", update, lane))
                context = {k: v.cpu().numpy() for k, v in batch[chain.context].items()} if chain.context else None
                sampler, seed = recipe.sampler(name, nets, update), self.learner.fold(f"chain {name}", update, lane)
                drawn.append(ChainTask(name, lane, slots, x, context, sampler, seed, version))
        return drawn

    def step(self, update: int) -> tuple[dict[str, float], Answers]:
        """One update: chains out, chains in, one step of the learner."""
        began = time.perf_counter()
        while self.pool.next <= update + self.job.lag:  # the first lag + 1 updates move under the first weights
            self.pool.submit(self.pool.next, self.tasks(self.pool.next, update), weights.flatten(self.learner.nets))
        answers = self.pool.collect(update)
        for (chain, _), answer in answers.items():
            self.banks[chain].put(answer.lane, answer.slots, answer.x)
            self.own.gradient_evaluations += answer.evaluations
            self.own.cpu_seconds += answer.cpu_seconds * self.pool.remote
        waited = time.perf_counter()
        batches = {lane.index: self.batch(update, lane) for lane in self.lanes}
        self.last = self.learner.update(update, batches, answers, self.last)
        now = time.perf_counter()
        return {
            **self.last,
            "time/chains": waited - began,
            "time/learn": now - waited,
            "time/update": now - began,
        }, answers

    def spent(self) -> Spent:
        """The cost so far over all ranks; a barrier."""
        cpu = self.own.cpu_seconds + time.process_time() - self.began[1]
        rows = gather((cpu, self.own.gradient_evaluations))
        return Spent(
            self.before.wall_seconds + time.perf_counter() - self.began[0],
            self.before.cpu_seconds + sum(row[0] for row in rows),
            self.before.gradient_evaluations + sum(row[1] for row in rows),
        )

    def due(self, update: int) -> bool:
        """Whether a run that has made `update` updates writes a checkpoint."""
        return update % self.job.checkpoint_every == 0 or update == self.job.updates

    def save_if_due(self, update: int) -> bool:
        """Write the checkpoint if it is due."""
        if self.due(update):
            self.save(update)
        return self.due(update)

    def save(self, update: int) -> None:
        """Write the checkpoint of a run that has made `update` updates; answers under way are collected first."""
        place, under_way = checkpoint.folder(self.checkpoints, update), self.pool.drain()
        if self.rank == 0 and place.exists():
            place.delete()
        gather(None)
        parts = [checkpoint.write_part(place, "learner", self.learner.state_dict())] if self.rank == 0 else []
        for lane in self.lanes:
            banks = {name: _tensors(bank.state_dict(lane)) for name, bank in self.banks.items()}
            answers = {
                u: {c: _pack(a) for (c, p), a in found.items() if p == lane.index} for u, found in under_way.items()
            }
            parts.append(checkpoint.write_part(place, f"lane-{lane.index:04d}", {"banks": banks, "under_way": answers}))
        written, spent = [part for parts in gather(parts) for part in parts], self.spent()
        if self.rank == 0:
            state = {"update": update, "attempt": self.learner.attempt, "last": self.last, "next": self.pool.next}
            identity = {"recipe": to_json(self.job)["recipe"], "lanes": self.job.lanes, "data": self.data.key}
            checkpoint.commit(place, written, {**state, **identity, **dataclasses.asdict(spent)})
            checkpoint.prune(self.checkpoints, self.job.keep)

    def restore(self) -> int:
        """Take over the newest whole checkpoint, if there is one; the number of updates made.

        Raises:
            BadInput: it is of another recipe, of other lanes or of other data.
        """
        name = gather(checkpoint.newest(self.checkpoints) if self.rank == 0 else None)[0]
        if name is None:
            return 0
        place = self.checkpoints / name
        state = checkpoint.read_state(place)
        identity = {"recipe": to_json(self.job)["recipe"], "lanes": self.job.lanes, "data": self.data.key}
        for what, value in identity.items():
            if state[what] != value:
                raise BadInput(f"{place.path} belongs to another run: its {what} is {state[what]}, not {value}")
        self.learner.load_state_dict(checkpoint.read_part(place, "learner"))
        self.learner.attempt, self.last, self.pool.next = state["attempt"], state["last"], state["next"]
        self.before = Spent(**{f.name: state[f.name] for f in dataclasses.fields(Spent)})
        for lane in self.lanes:
            part = checkpoint.read_part(place, f"lane-{lane.index:04d}")
            for chain, bank in part["banks"].items():
                self.banks[chain].load_state_dict(lane, {k: t.numpy() for k, t in bank.items()})
            for update, answers in part["under_way"].items():
                for chain, answer in answers.items():
                    unpacked = _unpack(lane, answer)
                    self.pool.ready.setdefault(update, {})[chain, lane.index] = unpacked
                    self.banks[chain].hold(lane, unpacked.slots)
        return int(state["update"])


def train(
    job: Job[Any], device: torch.device, pool: AnyPool, progress: Callable[..., Progress]
) -> dict[str, Any] | None:
    """Run a job on this rank, from its newest checkpoint; rank 0 returns what it wrote to result.json.

    Raises:
        Diverged: a number is not finite.
        BadInput: the data or the checkpoint are not the job's.
    """
    data = load(job.data, job.limit)
    run = Rank(job, data, device, pool)
    start = run.restore()
    if run.rank > 0:
        for update in range(start, job.updates):
            run.step(update)
            run.save_if_due(update + 1)
        run.spent()
        return None
    with closing(Report(Storage.at(job.out), start)) as report:
        bar = progress(total=job.updates, desc=job.name, unit="update")
        bar.update(start)
        for update in range(start, job.updates):
            metrics, answers = run.step(update)
            _tell(run, report, update, metrics, answers)
            bar.set_description(_line(job, metrics), refresh=False)
            bar.update(1)
            if run.save_if_due(update + 1):
                report.sync()
        bar.close()
        return _finish(run, report, run.spent())


def _tell(run: Rank, report: Report, update: int, metrics: Mapping[str, float], answers: Answers) -> None:
    job, done = run.job, update + 1
    if done % job.log_every == 0 or done == job.updates:
        report.log(update, metrics)
    if run.due(done):
        for (chain, lane), answer in answers.items():
            if lane == 0:
                report.histogram(f"{chain}/energy", torch.tensor(answer.energy), update)
                report.histogram(f"{chain}/grad_norm", torch.tensor(answer.grad_norm), update)
        if run.data.spec.kind == "image" and answers:
            x = np.concatenate([answers[key].x for key in sorted(answers)])
            report.samples(f"update-{done:08d}", torch.from_numpy(x), update)


def _line(job: Job[Any], metrics: Mapping[str, float]) -> str:
    shown = [
        f"{name.split('/')[1]} {metrics[name]:+.3f}"
        for name in ("chains/contrast", "chains/grad_norm")
        if name in metrics
    ]
    return ", ".join([job.name, *shown])


def _finish(run: Rank, report: Report, spent: Spent) -> dict[str, Any]:
    """Final samples, metrics, and result.json."""
    job, nets, data = run.job, run.learner.nets, run.data
    verdict = samples.Verdict({}, None)
    if job.samples and job.recipe.chains:
        drawn = samples.tasks(job.recipe, nets, data, job.samples, job.updates, job.seed)
        run.pool.submit(run.pool.next, drawn, weights.flatten(nets))
        answers = run.pool.collect(run.pool.next - 1)
        start, x = torch.from_numpy(np.concatenate([task.x for task in drawn])), samples.states(answers)
        verdict = samples.judge(job.recipe, nets, data, start, x, drawn[0].sampler.temperature)
        if data.spec.kind == "image":
            report.samples("final", x, job.updates)
    for name, value in verdict.metrics.items():
        report.board.add_scalar(f"final/{name}", value, job.updates)
    if verdict.figure:
        report.figure("densities", verdict.figure, job.updates)
    report.sync()
    found = result(to_json(job), dataclasses.asdict(spent), verdict.metrics, weights.digest(nets))
    Storage.at(job.out).write_json("result.json", found)
    return found


def _tensors(arrays: Mapping[str, ndarray]) -> dict[str, torch.Tensor]:
    return {name: torch.from_numpy(a) for name, a in arrays.items()}


def _pack(answer: ChainBatch) -> dict[str, Any]:
    """An answer as a checkpoint holds it, by its lane."""
    fields = answer._asdict()
    del fields["lane"]
    return {k: torch.tensor(v) if isinstance(v, ndarray) else v for k, v in fields.items()}


def _unpack(lane: Lane, fields: Mapping[str, Any]) -> ChainBatch:
    arrays: dict[str, Any] = {k: v.numpy() if isinstance(v, torch.Tensor) else v for k, v in fields.items()}
    return ChainBatch(lane=lane, **arrays)
