"""Worker: one rank's lanes, learner, banks and pool; one update, and the rank's part of a checkpoint."""

import contextlib
import dataclasses
import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import torch
from numpy import ndarray

from pipeline.chains.bank import Bank
from pipeline.chains.lanes import Lane, batch_indices, lanes_of_rank
from pipeline.chains.local_pool import Pool
from pipeline.chains.task import ChainResults, ChainTask, initial_arrays
from pipeline.data.dataset import Dataset
from pipeline.errors import Diverged, InputError, RunWriteError
from pipeline.nets.bfloat16 import pack
from pipeline.precision import at_precision, without_bfloat16
from pipeline.recipe import Batches
from pipeline.rng import fold, generator
from pipeline.runs import checkpoint
from pipeline.runs.job import Job
from pipeline.runs.job_json import check_identity, identity
from pipeline.runs.lease import Lease
from pipeline.runs.storage import Storage
from pipeline.samplers.langevin import Langevin
from pipeline.training.accounting import Accounting
from pipeline.training.collective import gather, world
from pipeline.training.divergence import DivergenceMonitor, Rollback
from pipeline.training.learner import Learner
from pipeline.training.pretrained import load_pretrained


class Worker:
    """One rank's share of a run."""

    def __init__(
        self,
        job: Job[Any],
        data: Dataset,
        device: torch.device,
        pool: Pool,
        lease: Lease | None = None,
        restart_count: Callable[[], int] = lambda: 0,
        requested: Callable[[], str] = lambda: "",
    ):
        """A worker at update 0.

        Args:
            job: the run.
            data: its data.
            device: of the learner.
            pool: moves the chains.
            lease: rank 0's right to write into the run folder; None on the other ranks.
            restart_count: how often this command's actors have been restarted so far; only rank 0 calls it.
            requested: why the run should stop, empty as long as it should not; only rank 0 calls it.
        """
        self.job, self.data, self.device, self.pool = job, data, device, pool
        self.lease, self.restart_count, self.requested = lease, restart_count, requested
        self.rank, ranks = world()
        if data.size < job.lanes and any(chain.bank == "datum" for chain in job.recipe.chains.values()):
            raise InputError(
                f"one chain per item needs as many items as lanes; there are {data.size}", "lanes", job.lanes
            )
        self.lanes = lanes_of_rank(job.lanes, self.rank, ranks)
        self.learner = Learner(job.recipe, data.spec, self.lanes, job.seed, device)
        self.banks = {name: Bank(chain, self.lanes, data.size) for name, chain in job.recipe.chains.items()}
        self.checkpoints = Storage.at(job.out) / "checkpoints"
        self.last: dict[str, float] = {}
        self.held_out: dict[str, float] = {}
        self.monitor = DivergenceMonitor(job.divergence.patience)
        self.rollbacks: list[Rollback] = []
        self.accounting = Accounting(pool, restart_count if self.rank == 0 else lambda: 0)
        self.whole: int | None = None
        """Updates that everything here has made; None while an update changes it."""

    def batch(self, update: int, lane: Lane) -> Batches:
        """The lane's part of each stream."""
        seed, parts = fold(self.job.seed, self.learner.attempt, "data"), {}
        for stream, size in self.job.recipe.streams.items():
            data = self.data.stream(stream)
            index = batch_indices(lane, data.size, size // lane.count, update, fold(seed, stream))
            parts[stream] = data.batch(index, self.device)
        return parts

    def tasks(self, update: int, version: int, again: bool = False) -> list[ChainTask]:
        """The tasks of `update`, one per lane and chain; with seeds of their own where they are drawn `again`."""
        for net in self.learner.nets.values():
            net.eval()
        chains = self.job.recipe.chains
        needs_data = any(chain.context or chain.starts_from for chain in chains.values())
        tasks = []
        for lane in self.lanes:
            batch = self.batch(update, lane) if needs_data else {}
            tasks += [self._task(name, update, version, lane, batch, "fresh " if again else "") for name in chains]
        return tasks

    def _task(self, name: str, update: int, version: int, lane: Lane, batch: Batches, prefix: str) -> ChainTask:
        recipe, nets, bank = self.job.recipe_at(update), self.learner.nets, self.banks[name]
        chain = bank.settings = recipe.chains[name]
        rng = generator(self.learner.fold(f"{prefix}start {name}", update, lane), self.device)
        stream = chain.starts_from or chain.context
        initial_context, carried = batch[stream] if stream else None, dict[str, ndarray]()

        def initial_states(n: int) -> ndarray:
            x, own = initial_arrays(recipe, name, n, rng, nets, self.data.spec, initial_context)
            if own and chain.bank:
                raise InputError(f"its {name} chains carry {', '.join(own)}, which no bank keeps", "bank", chain.bank)
            carried.update(own)
            return x

        context = {k: v.cpu().numpy() for k, v in batch[chain.context].items()} if chain.context else None
        n, seed = chain.count // lane.count, self.learner.fold(f"{prefix}bank {name}", update, lane)
        slots, x = bank.draw(
            lane, n, initial_states, seed, context["index"] if context and chain.bank == "datum" else None
        )
        seed, sampler = self.learner.fold(f"{prefix}chain {name}", update, lane), recipe.sampler(name, nets, update)
        settings = self.job.settings_at(update)
        precision = self.job.precision if isinstance(sampler, Langevin) else "highest"  # others accept or reject
        return ChainTask(name, lane, slots, x, context, sampler, seed, version, settings, carried, precision)

    def _submit(self, update: int, tasks: list[ChainTask]) -> None:
        """Submit tasks under the present weights; those that are rounded move no chains that accept or reject."""
        weights, frozen = self.learner.weights()
        if self.job.weights_dtype == "bfloat16" and all(isinstance(task.sampler, Langevin) for task in tasks):
            weights = pack(weights)
        self.pool.submit(update, tasks, weights, frozen)

    def step(self, update: int) -> tuple[dict[str, float], ChainResults]:
        """One update: submit chains, collect chains, one step of the learner; its metrics, and the chains."""
        start, self.whole = time.perf_counter(), update
        self.learner.set_recipe(self.job.recipe_at(update))
        while self.pool.next <= update + self.job.lag:  # the first lag + 1 updates use the initial weights
            self._submit(self.pool.next, self.tasks(self.pool.next, update))
        results, fresh, more = self._collect(update), False, dict[str, float]()
        batches = {lane.index: self.batch(update, lane) for lane in self.lanes}
        if self.job.max_staleness:
            staleness = self.learner.staleness(update, batches, results)
            fresh = not (math.isfinite(staleness) and staleness <= self.job.max_staleness)
            results = self._refresh(update, results) if fresh else results
            more = {"chains/discarded_staleness": staleness, "chains/fresh": float(fresh)}
        collected = time.perf_counter()
        with at_precision(without_bfloat16(self.job.precision), self.device):
            self.last = self.learner.update(update, batches, results, self.last, fresh)
        name = self.monitor.update(self.last)
        if update + 1 == self.job.updates:  # nothing is left in which it could come back
            name = name or self.monitor.first_outside()
        if name:
            version = next((result.version for result in results.values()), update)
            raise Diverged(name, update, version, -1, self.job.seed, self.monitor.explain(name))
        self.whole = update + 1
        end = time.perf_counter()
        more |= {f"lr/{name}": rate for name, rate in self.learner.learning_rates.items()}
        more |= {"attempt": float(self.learner.attempt), "time/chains": collected - start}
        return {**self.last, **more, "time/learn": end - collected, "time/update": end - start}, results

    def _collect(self, update: int) -> ChainResults:
        """The results of `update`; their states go back into the bank."""
        results = self.pool.collect(update)
        self.whole = None
        for (chain, _), result in results.items():
            self.banks[chain].put(result.lane, result.slots, result.x)
        self.accounting.add(results)
        return results

    def _refresh(self, update: int, stale: ChainResults) -> ChainResults:
        """Results under the present weights, in place of stale ones.

        Raises:
            Diverged: a stale result is not finite; on all ranks alike.
        """
        self.learner.stop_if_diverged({update: stale})  # nothing else checks them
        self.accounting.staleness_waits += 1
        self._submit(update, self.tasks(update, update, again=True))
        return self._collect(update)

    def faults(self) -> dict[str, int]:
        """The faults that the run has survived, over all its processes, as of the last checkpoint."""
        return {**self.accounting.faults(), "learner_restarts": self.lease.restarts if self.lease else 0}

    def check_lease(self) -> None:
        """Raise LeaseLost if this rank may no longer write into the run folder."""
        if self.lease:
            self.lease.check()

    def is_due(self, update: int) -> bool:
        """Whether a run writes a checkpoint after `update` updates: at its end, and whenever it is healthy."""
        return update == self.job.updates or self._is_healthy(update)

    def _is_healthy(self, update: int) -> bool:
        """Whether a rollback may return to this checkpoint: a longer run has it too, and no metric is outside."""
        return update % self.job.logging.checkpoint_every == 0 and not self.monitor.any_outside

    def save_if_due(self, update: int) -> None:
        """Write the checkpoint after `update` updates if it is due."""
        if self.is_due(update):
            self.save(update)

    def save(self, update: int) -> None:
        """Write the checkpoint after `update` updates; results in flight are collected first.

        Raises:
            Diverged: a result in flight is not finite; on all ranks alike, and nothing is written.
            RunWriteError: it cannot be written; what was written of it is removed again where possible.
            LeaseLost: another command or group of learners works on the run.
        """
        place, in_flight = checkpoint.checkpoint_folder(self.checkpoints, update), self.pool.drain()
        self.learner.stop_if_diverged(in_flight)
        self.check_lease()
        if self.rank == 0 and place.exists():
            place.delete()
        gather(None)
        try:
            self._write(place, update, in_flight)
        except RunWriteError:
            with contextlib.suppress(OSError):
                place.delete()
            raise
        if self.rank == 0:
            every = self.job.logging.checkpoint_every if update < self.job.updates else 1
            checkpoint.prune(self.checkpoints, self.job.logging.keep_checkpoints, every)

    def _write(self, place: Storage, update: int, in_flight: Mapping[int, ChainResults]) -> None:
        own = {**self.learner.state_dict(), "monitor": self.monitor.state_dict()}
        parts = [checkpoint.write_part(place, "learner", own)] if self.rank == 0 else []
        for lane in self.lanes:
            banks = {name: bank.state_dict(lane) for name, bank in self.banks.items()}
            results = {
                u: {chain: checkpoint.pack(result) for (chain, p), result in some.items() if p == lane.index}
                for u, some in in_flight.items()
            }
            tree = {"banks": banks, "in_flight": results}
            parts.append(checkpoint.write_part(place, f"lane-{lane.index:04d}", tree))
        all_parts, counters = [part for some in gather(parts) for part in some], self.accounting.total()
        if self.rank == 0:
            state = {"update": update, "rollbacks": self.rollbacks, "last": self.last, "next": self.pool.next}
            state["identity"] = identity(self.job, self.data.fingerprint, self.pool.next)
            state |= {"healthy": self._is_healthy(update), "has_history": self.monitor.has_history}
            restarts, command = self.accounting.current_faults()["actor_restarts"], self.lease and self.lease.command
            state |= {"command": command or "", "restarts_of_command": restarts}
            self.check_lease()
            checkpoint.commit(place, all_parts, {**state, **dataclasses.asdict(counters)})

    def restore(self, in_flight: bool = True) -> int:
        """Take over the newest whole checkpoint if there is one; the number of updates it has made.

        Args:
            in_flight: whether results that were in flight are taken over too.

        Raises:
            InputError: it belongs to another recipe, other lanes or other data.
        """
        name = gather(checkpoint.newest_name(self.checkpoints) if self.rank == 0 else None)[0]
        if name is None:
            self._initialise()
            return 0
        place = self.checkpoints / name
        state = checkpoint.read_state(place)
        check_identity(self.job, self.data.fingerprint, state, str(place))
        if self.rank == 0:
            checkpoint.remove_after(self.checkpoints, name)
        own = checkpoint.read_part(place, "learner")
        self.learner.set_recipe(self.job.recipe_at(state["update"] - 1))
        self.learner.load_state_dict(own)
        self.monitor.load_state_dict(own["monitor"])
        self.set_rollbacks([Rollback(*one) for one in state["rollbacks"]])
        self.last, self.pool.next = state["last"], state["next"] if in_flight else state["update"]
        self.accounting.restore(state, bool(self.lease and state.get("command") == self.lease.command))
        self.pool.ready |= {update: {} for update in range(state["update"], self.pool.next)}
        for lane in self.lanes:
            self._restore_lane(lane, checkpoint.read_part(place, f"lane-{lane.index:04d}"), in_flight)
        return int(state["update"])

    def _restore_lane(self, lane: Lane, part: Any, in_flight: bool) -> None:
        for chain, bank in part["banks"].items():
            self.banks[chain].load_state_dict(lane, {k: t.numpy() for k, t in bank.items()})
        for update, results in part["in_flight"].items() if in_flight else ():
            for chain, fields in results.items():
                result = checkpoint.unpack(lane, fields)
                self.pool.ready[update][chain, lane.index] = result
                self.banks[chain].mark_in_flight(lane, result.slots)

    def _initialise(self) -> None:
        """Take over pretrained networks, then initialise what depends on data; the same on every rank."""
        nets, rng = self.learner.nets, generator(fold(self.job.seed, "prepare"), self.device)
        pretrained = load_pretrained(self.job, nets)
        self.job.recipe.data_dependent_init(nets, self.batch(0, Lane(0, self.job.lanes)), rng, pretrained)

    def set_rollbacks(self, rollbacks: list[Rollback]) -> None:
        """Take over the rollbacks so far, with the attempt's random numbers and rates."""
        self.rollbacks, self.learner.attempt = rollbacks, len(rollbacks)
        self.learner.lr_factor = self.job.divergence.rollback_lr_factor ** len(rollbacks)
