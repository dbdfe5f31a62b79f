"""One rank's share of a run: what its lanes need, one update, and its part of a checkpoint."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch

from pipeline.batch import Batch
from pipeline.chains.bank import Bank
from pipeline.chains.lanes import Lane, batch_indices, lanes_of_rank
from pipeline.chains.local_pool import Pool
from pipeline.chains.task import ChainResults, ChainTask
from pipeline.data.dataset import Dataset
from pipeline.errors import Diverged, InputError, RunWriteError
from pipeline.recipe import stream_context
from pipeline.rng import fold, generator
from pipeline.runs import checkpoint
from pipeline.runs.counters import FAULTS, Counters
from pipeline.runs.job import Job, check_identity, identity
from pipeline.runs.lease import Lease
from pipeline.runs.storage import Storage
from pipeline.training.collective import gather, world
from pipeline.training.divergence import DivergenceMonitor, Rollback
from pipeline.training.learner import Learner
from pipeline.training.pretrained import load_pretrained


class Worker:
    """One rank's share of a run: its lanes, learner, banks and pool."""

    def __init__(
        self,
        job: Job[Any],
        data: Dataset,
        device: torch.device,
        pool: Pool,
        lease: Lease | None = None,
        restarts: Callable[[], int] = lambda: 0,
    ):
        """A rank at update 0.

        Args:
            job: the run.
            data: its data.
            device: of the learner.
            pool: what moves the chains.
            owner: rank 0's right to write into the run folder; None: of a rank that writes only its parts.
            restarts: says how often this command's actors were restarted so far; rank 0 asks it.
        """
        self.job, self.data, self.device, self.pool = job, data, device, pool
        self.lease, self.restarts = lease, restarts
        self.rank, ranks = world()
        if data.size < job.lanes and any(chain.bank == "datum" for chain in job.recipe.chains.values()):
            raise InputError(f"{data.size} items for {job.lanes} lanes: a chain a datum needs as many items as lanes")
        self.lanes = lanes_of_rank(job.lanes, self.rank, ranks)
        self.learner = Learner(job.recipe, data.spec, self.lanes, job.seed, device)
        self.banks = {name: Bank(chain, self.lanes, data.size) for name, chain in job.recipe.chains.items()}
        self.checkpoints = Storage.at(job.out) / "checkpoints"
        self.last: dict[str, float] = {}
        self.monitor = DivergenceMonitor(job.divergence.patience)
        self.rollbacks: list[Rollback] = []
        self.before, self.own, self.known = Counters(), Counters(), Counters()
        self.uncounted = {**self._faults(), "actor_restarts": 0}
        self.began = time.perf_counter(), time.process_time()

    def batch(self, update: int, lane: Lane) -> dict[str, Batch]:
        """The lane's part of each stream."""
        recipe, seed = self.job.recipe, fold(self.job.seed, self.learner.attempt, "data")
        parts = {}
        for stream, size in recipe.streams.items():
            data = self.data.stream(stream)
            index = batch_indices(lane, data.size, size // lane.count, update, fold(seed, stream))
            parts[stream] = data.batch(index, self.device)
        return parts

    def tasks(self, update: int, version: int, again: bool = False) -> list[ChainTask]:
        """The chains that `update` will use, one task a lane and chain; with other seeds where drawn `again`."""
        recipe, nets, drawn, kind = self.job.recipe, self.learner.nets, [], "fresh " if again else ""
        for net in nets.values():
            net.eval()
        needed = any(chain.context or chain.starts_from for chain in recipe.chains.values())
        spec = self.data.spec
        for lane in self.lanes:
            batch = self.batch(update, lane) if needed else {}
            for name, chain in recipe.chains.items():
                rng = generator(self.learner.fold(f"{kind}start {name}", update, lane), self.device)
                n, given = chain.count // lane.count, stream_context(recipe, name, batch)
                with torch.no_grad():
                    fresh = recipe.initial_states(name, n, rng, nets, spec, given).cpu().numpy()
                context = {k: v.cpu().numpy() for k, v in batch[chain.context].items()} if chain.context else None
                index = context["index"] if context and chain.bank == "datum" else None
                seed = self.learner.fold(f"{kind}bank {name}", update, lane)
                slots, x = self.banks[name].draw(lane, fresh, seed, index)
                seed = self.learner.fold(f"{kind}chain {name}", update, lane)
                sampler = recipe.sampler(name, nets, update)
                drawn.append(ChainTask(name, lane, slots, x, context, sampler, seed, version))
        return drawn

    def step(self, update: int) -> tuple[dict[str, float], ChainResults]:
        """One update: chains out, chains in, one step of the learner."""
        began = time.perf_counter()
        while self.pool.next <= update + self.job.lag:  # the first lag + 1 updates move under the first weights
            self.pool.submit(self.pool.next, self.tasks(self.pool.next, update), *self.learner.weights())
        answers, told, fresh = self._collected(update), dict[str, float](), False
        batches = {lane.index: self.batch(update, lane) for lane in self.lanes}
        if self.job.max_staleness:
            drift = self.learner.drift(update, batches, answers)
            fresh = not (math.isfinite(drift) and drift <= self.job.max_staleness)
            answers = self._refreshed(update, answers) if fresh else answers
            told = {"chains/discarded_staleness": drift, "chains/fresh": float(fresh)}
        waited = time.perf_counter()
        self.last = self.learner.update(update, batches, answers, self.last, fresh)
        if name := self.monitor.update(self.last):
            version = next((answer.version for answer in answers.values()), update)
            raise Diverged(name, update, version, -1, self.job.seed, self.monitor.explain(name))
        now = time.perf_counter()
        return {
            **self.last,
            **told,
            "attempt": float(self.learner.attempt),
            "time/chains": waited - began,
            "time/learn": now - waited,
            "time/update": now - began,
        }, answers

    def _collected(self, update: int) -> ChainResults:
        """The answers of `update`; their states are back in the bank."""
        answers = self.pool.collect(update)
        for (chain, _), answer in answers.items():
            self.banks[chain].put(answer.lane, answer.slots, answer.x)
            self.own.gradient_evaluations += answer.gradient_evaluations
            self.own.cpu_seconds += answer.cpu_seconds * self.pool.remote
        return answers

    def _refreshed(self, update: int, stale: ChainResults) -> ChainResults:
        """Answers that moved under the weights as they are, in the place of those that drifted too far.

        Raises:
            Diverged: a stale answer is not finite; on all ranks alike.
        """
        self.learner.stop_if_diverged({update: stale})  # since nothing else will look at them
        self.own.staleness_waits += 1
        self.pool.submit(update, self.tasks(update, update, again=True), *self.learner.weights())
        return self._collected(update)

    def spent(self) -> Counters:
        """The cost so far over all ranks; a barrier."""
        cpu = self.own.cpu_seconds + time.process_time() - self.began[1]
        faults = {name: count - self.uncounted[name] for name, count in self._faults().items()}
        rows = gather({"cpu_seconds": cpu, "gradient_evaluations": self.own.gradient_evaluations, **faults})
        summed = {name: getattr(self.before, name) + sum(row[name] for row in rows) for name in rows[0]}
        wall = self.before.wall_seconds + time.perf_counter() - self.began[0]
        summed["staleness_waits"] = (
            self.before.staleness_waits + self.own.staleness_waits
        )  # of which every rank has the same
        self.known = Counters(wall_seconds=wall, **summed)
        return self.known

    def _faults(self) -> dict[str, int]:
        """What this rank's pool has seen, and, on rank 0, how often this command's actors were restarted."""
        restarts = self.restarts() if self.rank == 0 else 0
        return dict(zip(FAULTS, (self.pool.faults["resent"], self.pool.faults["died"], restarts), strict=True))

    def faults(self) -> dict[str, int]:
        """What the run has survived, over all its processes, as counted at the last checkpoint or by `spent`."""
        counts = {name: getattr(self.known, name) for name in FAULTS}
        return {**counts, "learner_restarts": self.lease.restarts if self.lease else 0}

    def check_lease(self) -> None:
        """Go on only while this rank is one that may write into the run folder. Raises TakenOver."""
        if self.lease:
            self.lease.check()

    def due(self, update: int) -> bool:
        """Whether a run that has made `update` updates writes a checkpoint: at its end, and whenever it is healthy."""
        return update == self.job.updates or self._healthy(update)

    def _healthy(self, update: int) -> bool:
        """Whether it is a checkpoint to go back to: one that a longer run has too, and no metric is outside."""
        return update % self.job.logging.checkpoint_every == 0 and not self.monitor.any_outside

    def save_if_due(self, update: int) -> None:
        """Write the checkpoint if it is due."""
        if self.due(update):
            self.save(update)

    def save(self, update: int) -> None:
        """Write the checkpoint of a run that has made `update` updates; answers under way are collected first.

        Raises:
            Diverged: an answer under way is not finite; on all ranks alike, and nothing is written.
            Unwritable: it cannot be written; what was written of it is removed again, if that can be done.
            TakenOver: another command or group of learners works on the run.
        """
        place, under_way = checkpoint.checkpoint_folder(self.checkpoints, update), self.pool.drain()
        self.learner.stop_if_diverged(under_way)
        self.check_lease()
        if self.rank == 0 and place.exists():
            place.delete()
        gather(None)
        try:
            self._write(place, update, under_way)
        except RunWriteError:
            with contextlib.suppress(OSError):
                place.delete()
            raise
        if self.rank == 0:
            checkpoint.prune(self.checkpoints, self.job.logging.keep_checkpoints)

    def _write(self, place: Storage, update: int, under_way: Mapping[int, ChainResults]) -> None:
        own = {**self.learner.state_dict(), "monitor": self.monitor.state_dict()}
        parts = [checkpoint.write_part(place, "learner", own)] if self.rank == 0 else []
        for lane in self.lanes:
            banks = {name: checkpoint.to_tensors(bank.state_dict(lane)) for name, bank in self.banks.items()}
            answers = {
                u: {c: checkpoint.pack(a) for (c, p), a in found.items() if p == lane.index}
                for u, found in under_way.items()
            }
            parts.append(checkpoint.write_part(place, f"lane-{lane.index:04d}", {"banks": banks, "under_way": answers}))
        written, spent = [part for parts in gather(parts) for part in parts], self.spent()
        if self.rank == 0:
            state = {"update": update, "rollbacks": self.rollbacks, "last": self.last, "next": self.pool.next}
            state |= {"identity": identity(self.job, self.data.key), "healthy": self._healthy(update)}
            state |= {"settled": self.monitor.has_history, "command": self.lease.start if self.lease else ""}
            state["restarts_of_command"] = self._faults()["actor_restarts"]
            self.check_lease()
            checkpoint.commit(place, written, {**state, **dataclasses.asdict(spent)})

    def restore(self, under_way: bool = True) -> int:
        """Take over the newest whole checkpoint, if there is one; the number of updates made.

        Args:
            under_way: whether with the answers that were under way.

        Raises:
            BadInput: it is of another recipe, of other lanes or of other data.
        """
        name = gather(checkpoint.newest_name(self.checkpoints) if self.rank == 0 else None)[0]
        if name is None:
            self._begin()
            return 0
        place = self.checkpoints / name
        state = checkpoint.read_state(place)
        check_identity(self.job, self.data.key, state["identity"], place.path)
        if self.rank == 0:
            checkpoint.remove_after(self.checkpoints, name)
        own = checkpoint.read_part(place, "learner")
        self.learner.load_state_dict(own)
        self.monitor.load_state_dict(own["monitor"])
        self._attempt([Rollback(*one) for one in state["rollbacks"]])
        self.last, self.pool.next = state["last"], state["next"] if under_way else state["update"]
        self.before = self.known = Counters(**{f.name: state.get(f.name, 0) for f in dataclasses.fields(Counters)})
        if self.lease and state.get("command") == self.lease.start:
            self.uncounted["actor_restarts"] = state["restarts_of_command"]
        self.pool.ready |= {update: {} for update in range(state["update"], self.pool.next)}  # those of no chains, too
        for lane in self.lanes:
            part = checkpoint.read_part(place, f"lane-{lane.index:04d}")
            for chain, bank in part["banks"].items():
                self.banks[chain].load_state_dict(lane, {k: t.numpy() for k, t in bank.items()})
            for update, answers in part["under_way"].items() if under_way else ():
                for chain, answer in answers.items():
                    unpacked = checkpoint.unpack(lane, answer)
                    self.pool.ready[update][chain, lane.index] = unpacked
                    self.banks[chain].hold(lane, unpacked.slots)
        return int(state["update"])

    def _begin(self) -> None:
        """Take over networks from another run, and set what depends on data, on every rank alike."""
        nets, seed = self.learner.nets, fold(self.job.seed, "prepare")
        given = load_pretrained(self.job, nets)
        self.job.recipe.data_dependent_init(
            nets, self.batch(0, Lane(0, self.job.lanes)), generator(seed, self.device), given
        )

    def _attempt(self, rollbacks: list[Rollback]) -> None:
        self.rollbacks, self.learner.attempt = rollbacks, len(rollbacks)
        self.learner.lr_factor = self.job.divergence.rollback_lr_factor ** len(rollbacks)

    def rolled_back(self, fault: Diverged) -> tuple["Worker", int]:
        """The run at its last healthy checkpoint, for another attempt; this one is given up.

        If it fell from that checkpoint before, it goes one further back, as long as there is one; or to the start, if
        that checkpoint is from before there was a history to judge it by. Answers under way at the checkpoint are
        dropped: they belong to the data and random numbers of the attempt that failed.

        Returns:
            The rank to go on with, and the number of updates it has made.

        Raises:
            Diverged: the fault, where the job does not roll back, or not once more.
        """
        if self.job.divergence.on_divergence == "stop" or len(self.rollbacks) >= self.job.divergence.rollbacks:
            raise fault
        spent = self.spent()
        if self.rank == 0:
            self.check_lease()
            checkpoint.remove_unhealthy(self.checkpoints, self.rollbacks[-1].to if self.rollbacks else None)
        del self.learner, self.banks  # their memory is what the next attempt's need
        again = Worker(self.job, self.data, self.device, self.pool, self.lease, self.restarts)
        self.pool.forget()
        to = again.restore(under_way=False)
        again._attempt([*self.rollbacks, Rollback(fault.update, to, str(fault))])
        again.before, again.uncounted = spent, again._faults()
        return again, to
