"""The protocol, simulated by events: learners, pools, actors, weights over the network, lanes and lag.

It follows `training.worker.Worker.step` and `distributed.actor_pool`: at each update a learner makes and sends the
tasks that are due, each to the actor with the fewest open ones, waits for those of the update, learns, and adds up its
gradient with the other learners. An actor works its tasks one after the other, and fetches each version of the weights
once; a machine receives it once. What is left out: tasks that are sent twice because they are late, and the loss of a
whole machine, which `whole_run` has.
"""

import heapq
import math
import random
from collections.abc import Callable, Generator
from dataclasses import dataclass
from typing import Any, TypeAlias

import simpy

from pipeline.planning.costs import Costs
from pipeline.planning.machines import Layout, Machines, place
from pipeline.planning.nodes import Actor, Task, make_nodes
from pipeline.planning.sharing import Shared

Steps: TypeAlias = Generator[Any, Any, None]
CHUNKS = 64
"""Into which the tasks of a submission are split at most: the actors start while the learner still sends."""


@dataclass
class Mark:
    """What had happened when rank 0 ended an update."""

    time: float
    step: float
    """Seconds of `Worker.step` of this update (time/update in a run's log)."""
    chains: float
    """Of these, until the chains were there (time/chains)."""
    actors: float
    """Seconds that actors were at work, all together."""
    cores: float
    """CPU seconds of all machines."""
    link: float
    """Seconds of the busiest link."""
    deaths: int
    """Of actors."""
    parts: dict[str, float]
    """Seconds of rank 0 by what it did, since the beginning."""


class Simulation:
    """One run of so many updates."""

    def __init__(self, costs: Costs, machines: Machines, layout: Layout, updates: int, seed: int):
        self.costs, self.machines, self.layout, self.updates = costs, machines, layout, updates
        self.env, self.rng = simpy.Environment(), random.Random(seed)
        self.remote = layout.actors > 0
        self.place = place(machines, layout)
        self.nodes = make_nodes(self.env, machines, layout, self.place, costs.ray)
        pairs = zip(self.place.actors, self.place.actor_gpus, strict=True)
        self.actors = [Actor(self.env, node, gpu) for node, gpu in pairs]
        self.pending: dict[tuple[int, int], tuple[list[int], simpy.Event]] = {}
        self.weights: dict[tuple[int, int, int], simpy.Event] = {}
        self.barriers: dict[Any, tuple[list[int], simpy.Event]] = {}
        self.marks: list[Mark] = []
        self.parts: dict[str, float] = {}
        self.deaths = 0
        self.sizes = {name: round(one.bytes_per_chain * one.count / layout.lanes)
                      for name, one in costs.job.chains.items()}  # fmt: skip
        self.task_seconds = costs.job.task_seconds(layout.lanes)
        self.items = costs.job.batch_size / layout.lanes

    def run(self) -> list[Mark]:
        """The marks of all updates."""
        for actor in self.actors:
            self.env.process(self._work(actor))
        learners = [self.env.process(self._learn(rank)) for rank in range(self.layout.learners)]
        self.env.run(until=simpy.AllOf(self.env, learners))
        return self.marks

    # An actor

    def _work(self, actor: Actor) -> Steps:
        ray, job = self.costs.ray, self.costs.job
        while True:
            wake = 0.0 if actor.queue.items else ray.wake
            task: Task = yield actor.queue.get()
            began, extra = self.env.now, ray.receive(2 * task.size) + wake
            if actor.loaded != (task.rank, task.version):
                if arrival := self._fetch(task.rank, task.version, actor.node):
                    yield arrival
                    began = self.env.now
                extra += ray.fetch(job.weight_bytes) + job.load
                actor.loaded = task.rank, task.version
            seconds = task.seconds * max(0.0, self.rng.gauss(1.0, job.jitter) if job.jitter else 1.0)
            yield from self._compute(actor.node, actor.gpu, seconds, extra, self.machines.actor_faults / 3600)
            actor.busy += self.env.now - began
            actor.open -= 1
            self._send(actor.node, self.place.learners[task.rank], task.size, self._arrived(task.rank, task.update))

    def _compute(self, node: int, gpu: int, seconds: float, extra: float, fault_rate: float = 0.0) -> Steps:
        """Use the GPU, after `extra` seconds of a core; or a core for all of it."""
        cores, gpus = self.nodes[node].cores, self.nodes[node].gpus
        if gpus and extra:
            yield cores.use(extra)
        device, needed = (gpus[gpu], seconds) if gpus else (cores, seconds + extra)
        while fault_rate and self.rng.random() < -math.expm1(-fault_rate * needed):
            self.deaths += 1
            yield device.use(self.rng.random() * needed)
            yield self.env.timeout(self.machines.restart)
        yield device.use(needed)

    def _fetch(self, rank: int, version: int, node: int) -> simpy.Event | None:
        """When the machine has a version of the weights, which learners of one machine send once; None: it has."""
        source = self.place.learners[rank]
        if node == source:
            return None
        key = source, version, node
        if key not in self.weights:
            arrival = self.weights[key] = self.env.event()
            self._send(source, node, self.costs.job.weight_bytes, arrival.succeed, self.nodes[source].up)
        return None if self.weights[key].processed else self.weights[key]

    def _send(self, source: int, to: int, size: int, then: Callable[[], Any], link: Shared | None = None) -> None:
        """Call `then` when a message has arrived: at once on one machine, else after the link had its turn."""
        if source == to:
            then()
            return
        moved = (link or self.nodes[to].down).use(size / self.machines.bandwidth)
        moved.callbacks.append(lambda _: self.env.timeout(self.machines.latency).callbacks.append(lambda _: then()))

    # A learner

    def _expect(self, rank: int, update: int, count: int) -> None:
        self.pending[rank, update] = [count], self.env.event()

    def _arrived(self, rank: int, update: int) -> Callable[[], None]:
        def one_more() -> None:
            left, done = self.pending[rank, update]
            left[0] -= 1
            if not left[0]:
                done.succeed()

        return one_more

    def _submit(self, rank: int, update: int, version: int) -> Steps:
        """Make and send the tasks of an update; without actors, move their chains."""
        job, ray, node = self.costs.job, self.costs.ray, self.place.learners[rank]
        lanes, cores = self.layout.lanes_of(rank), self.nodes[self.place.learners[rank]].cores
        made = [(name, seconds) for _ in range(lanes) for name, seconds in self.task_seconds.items()]
        self._expect(rank, update, len(made))
        if not made:
            self.pending[rank, update][1].succeed()
            return
        yield from self._during("learning", rank, cores.use(lanes * job.prepare(self.items)))
        if not self.remote:
            seconds = sum(seconds for _, seconds in made)
            yield from self._compute(node, self.place.learner_gpus[rank], seconds, job.pack + job.load)
            self.pending[rank, update][1].succeed()
            return
        yield from self._during("pool", rank, cores.use(job.pack + ray.put(job.weight_bytes)))
        cores.use(ray.system_wake)
        queues, size = [(self.actors[k].open, k) for k in self.layout.actors_of(rank)], -(-len(made) // CHUNKS)
        heapq.heapify(queues)
        for first in range(0, len(made), size):
            chunk = made[first : first + size]
            yield from self._during("pool", rank, cores.use(sum(ray.submit(self.sizes[name]) for name, _ in chunk)))
            cores.use(sum(ray.system(self.sizes[name]) for name, _ in chunk))
            for name, seconds in chunk:
                length, index = queues[0]
                heapq.heapreplace(queues, (length + 1, index))
                actor = self.actors[index]
                actor.open += 1
                self._dispatch(node, actor, Task(rank, update, version, seconds, self.sizes[name]))

    def _dispatch(self, node: int, actor: Actor, task: Task) -> None:
        self._send(node, actor.node, task.size, lambda: actor.queue.put(task), self.nodes[node].up)

    def _collect(self, rank: int, update: int) -> Steps:
        """Wait for the results of an update, and take them."""
        ray, cores = self.costs.ray, self.nodes[self.place.learners[rank]].cores
        yield from self._during("waiting", rank, self.pending[rank, update][1])
        del self.pending[rank, update]
        if self.remote:
            lanes = self.layout.lanes_of(rank)
            seconds = ray.wait + lanes * sum(map(ray.collect, self.sizes.values()))
            yield from self._during("pool", rank, cores.use(seconds))

    def _learn(self, rank: int) -> Steps:
        job, lag, following = self.costs.job, self.layout.lag, 0
        node, gpu, lanes = self.place.learners[rank], self.place.learner_gpus[rank], self.layout.lanes_of(rank)
        cores = self.nodes[node].cores
        for update in range(self.updates):
            began = self.env.now
            while following <= min(update + lag, self.updates + lag):
                yield from self._submit(rank, following, update)
                following += 1
            yield from self._collect(rank, update)
            yield from self._during("learning", rank, cores.use(lanes * job.read(self.items)))
            stale = lag > 0 and update > 0
            if self.layout.bounded:
                yield from self._bound(rank, update, stale)
            collected, fresh = self.env.now, self._waits(update)
            seconds = lanes * (job.learn(self.items) + (job.compare(self.items) if stale and not fresh else 0.0))
            begun = self.env.now
            yield from self._compute(node, gpu, seconds, 0.0)
            self._add("learning", rank, begun)
            yield from self._reduce(rank, update)
            begun = self.env.now
            yield from self._compute(node, gpu, job.step, 0.0)
            self._add("learning", rank, begun)
            ended = self.env.now
            if rank == 0:
                yield cores.use(job.log / job.log_every)
                self._mark(ended - began, collected - began)

    def _waits(self, update: int) -> bool:
        """Whether an update waits for fresh chains: at even distances, as often as the layout says."""
        share = self.layout.waits
        return math.floor((update + 1) * share) > math.floor(update * share)

    def _bound(self, rank: int, update: int, stale: bool) -> Steps:
        """Measure the staleness, and move the chains again where an update waits."""
        node, gpu, lanes = self.place.learners[rank], self.place.learner_gpus[rank], self.layout.lanes_of(rank)
        if stale:
            begun = self.env.now
            yield from self._compute(node, gpu, lanes * self.costs.job.compare(self.items), 0.0)
            self._add("learning", rank, begun)
        yield from self._meet(rank, ("bound", update))
        if self._waits(update):
            yield from self._submit(rank, update, update)
            yield from self._collect(rank, update)

    def _meet(self, rank: int, what: Any) -> Steps:
        """Wait until every learner is here."""
        count, all_here = self.barriers.setdefault(what, ([0], self.env.event()))
        count[0] += 1
        if count[0] == self.layout.learners:
            all_here.succeed()
        yield from self._during("waiting", rank, all_here)

    def _reduce(self, rank: int, update: int) -> Steps:
        """A ring: 2 (W - 1) messages of a W-th of the vector, the fixed part as measured between two learners."""
        ranks, size = self.layout.learners, self.costs.job.gradient_bytes
        if ranks == 1:
            return
        yield from self._meet(rank, ("reduce", update))
        moved, cost = 2 * (ranks - 1) / ranks * size, self.costs.ray.reduce
        node = self.nodes[self.place.learners[rank]]
        yield from self._during("all-reduce", rank, node.cores.use(cost.fixed * (ranks - 1) + cost.per_byte * moved))
        if len(set(self.place.learners)) > 1:
            seconds = moved / self.machines.bandwidth + 2 * (ranks - 1) * self.machines.latency
            yield from self._during("all-reduce", rank, node.up.use(seconds))

    # Accounts

    def _during(self, what: str, rank: int, event: simpy.Event) -> Steps:
        begun = self.env.now
        yield event
        self._add(what, rank, begun)

    def _add(self, what: str, rank: int, begun: float) -> None:
        if rank == 0:
            self.parts[what] = self.parts.get(what, 0.0) + self.env.now - begun

    def _mark(self, step: float, chains: float) -> None:
        actors, cores = sum(one.busy for one in self.actors), sum(one.used for one in {n.cores for n in self.nodes})
        link = max(max(node.up.used, node.down.used) for node in self.nodes)
        self.marks.append(Mark(self.env.now, step, chains, actors, cores, link, self.deaths, dict(self.parts)))
