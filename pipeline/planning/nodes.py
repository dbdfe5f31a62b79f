"""The machines of a simulation, with the processes that work on them and the tasks that they are sent."""

from typing import Any, NamedTuple

import simpy

from pipeline.planning.costs import RayCosts
from pipeline.planning.machines import Layout, Machines, Placement
from pipeline.planning.sharing import Shared


class Node:
    """One machine: its cores, GPUs, and link."""

    def __init__(self, env: simpy.Environment, gpus: int, cores: Shared):
        self.cores, self.gpus = cores, [Shared(env, 1.0) for _ in range(gpus)]
        self.up, self.down = Shared(env, 1.0), Shared(env, 1.0)


class Task(NamedTuple):
    """A task on its way."""

    rank: int
    update: int
    version: int
    seconds: float
    size: int
    """Bytes, of task and result alike."""


class Actor:
    """Moves chains, one task after the other."""

    def __init__(self, env: simpy.Environment, node: int, gpu: int):
        self.queue: Any = simpy.Store(env)
        self.node, self.gpu, self.open, self.loaded, self.busy = node, gpu, 0, (-1, -1), 0.0


def make_nodes(
    env: simpy.Environment, machines: Machines, layout: Layout, place: Placement, ray: RayCosts
) -> list[Node]:
    """The machines, less the cores that Ray's processes keep busy while they wait."""
    idle, processes = [], []
    for node in range(machines.nodes):
        actors, learners = place.actors.count(node), place.learners.count(node)
        own = ray.idle + ray.train * (node == place.learners[0])
        idle.append(own + ray.idle_actor * actors if layout.actors else 0.0)
        processes.append(actors + (2 if layout.actors else 1) * learners)
    if machines.one_host:
        idle, processes = [sum(idle)], [sum(processes)]
    cores = [Shared(env, max(0.05, machines.cores - one), n) for one, n in zip(idle, processes, strict=True)]
    return [Node(env, machines.gpus, cores[node % len(cores)]) for node in range(machines.nodes)]
