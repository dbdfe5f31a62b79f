"""Bytes of weights that cross from node to node, per version: four nodes of Ray on this machine, 1, 2 and 4 learners.

Each learner has a pool of its own and sends every version to its actors, two on each node, as in a run: by turns, as
`handles[rank::ranks]` would deal them, and by node. Learners and actors compute nothing. Bytes are what the kernel
counted on the connections between the nodes' object managers, over which nothing else goes; copies are counted by the
actors, which name the object and the node of each fetch. Needs `ss` (iproute2). Memory and time are little, so other
work on the machine does not matter.
"""

import re
import subprocess
import sys
from collections.abc import Sequence
from types import SimpleNamespace

import numpy as np

NODES, ACTORS, LEARNERS = 4, 8, (1, 2, 4)
NUMBERS = 2_000_000
"""Of a version of the weights, float32: 8 MB."""
WARM_UP, VERSIONS = 2, 20
STORE = 150 * 2**20
"""Bytes of each node's object store."""


def actor_class():
    class Fetching:  # here, so that it travels by value and its process imports nothing else
        """Fetches weights as a ChainActor does, once a version, and says which object it fetched where."""

        def __init__(self):
            self.loaded, self.fetched = None, []

        def advance(self, task, weights):
            import ray

            if self.loaded != weights[0].hex():
                self.loaded = weights[0].hex()
                ray.get(weights[0])
                self.fetched.append((self.loaded, ray.get_runtime_context().get_node_id()))
            return SimpleNamespace(x=task.x)

        def fetches(self):
            return self.fetched

    return Fetching


def learner_class():
    class Sending:
        """A rank of a run without mathematics: sends each version, and waits for the chains."""

        def __init__(self, actors):
            from pipeline.distributed.actor_pool import ActorPool

            self.pool, self.lanes = ActorPool(actors), range(len(actors))

        def send(self, versions, numbers):
            tasks = [SimpleNamespace(chain="model", lane=SimpleNamespace(index=p), seed=p, x=0) for p in self.lanes]
            for version in versions:
                self.pool.submit(version, tasks, np.full(numbers, version, np.float32))
                self.pool.collect(version)

    return Sending


def object_manager_bytes(ports: Sequence[int]) -> int:
    """Bytes on all connections to these ports of this machine so far, in both directions, as the kernel counts them."""
    lines = subprocess.run(["ss", "-tinHO"], capture_output=True, text=True, check=True).stdout.splitlines()
    total = 0
    for line in lines:
        if int(line.split()[3].rpartition(":")[2]) in ports:  # this end accepted the connection
            total += sum(int(number) for number in re.findall(r"bytes_(?:sent|received):(\d+)", line))
    return total


def measured(nodes: Sequence[str], ports: Sequence[int], learners: int, by_node: bool) -> tuple[float, float]:
    """(copies of the weights that come from another node, MB on the network), per version."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from pipeline.distributed.locality import actors_by_rank

    def on(node, kind, *args):
        strategy = NodeAffinitySchedulingStrategy(node, soft=False)
        return ray.remote(num_cpus=0.01, scheduling_strategy=strategy)(kind).remote(*args)

    places = [nodes[i * NODES // ACTORS] for i in range(ACTORS)]  # as Ray places them: node by node
    homes = [nodes[i * NODES // learners] for i in range(learners)]
    actors = [on(node, actor_class()) for node in places]
    dealt = actors_by_rank(places, homes) if by_node else [range(r, ACTORS, learners) for r in range(learners)]
    ranks = [on(home, learner_class(), [actors[i] for i in own]) for home, own in zip(homes, dealt, strict=True)]

    def send(first, count):
        ray.get([rank.send.remote(range(first, first + count), NUMBERS) for rank in ranks])
        fetches = ray.get([actor.fetches.remote() for actor in actors])
        return {pair for own in fetches for pair in own}, object_manager_bytes(ports)

    (early, before), (late, after) = send(0, WARM_UP), send(WARM_UP, VERSIONS)
    local = VERSIONS * sum(any(places[i] == home for i in own) for home, own in zip(homes, dealt, strict=True))
    for one in [*ranks, *actors]:
        ray.kill(one)
    return (len(late - early) - local) / VERSIONS, (after - before) / VERSIONS / 1e6


def table() -> str:
    import ray
    from ray.cluster_utils import Cluster

    import pipeline.distributed  # noqa: F401  # before Ray, for its settings

    node = {"num_cpus": 1, "object_store_memory": STORE}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        for _ in range(NODES - 1):
            cluster.add_node(**node)
        ray.init(address=cluster.address, logging_level="error", log_to_driver=False)
        there = sorted((one["NodeID"], one["ObjectManagerPort"]) for one in ray.nodes())
        nodes, ports = zip(*there, strict=True)
        lines = ["| learners | copies by turns | MB | copies by node | MB |", "|---|---|---|---|---|"]
        for learners in LEARNERS:
            turns, own = (measured(nodes, ports, learners, by_node) for by_node in (False, True))
            lines.append(f"| {learners} | {turns[0]:g} | {turns[1]:.2f} | {own[0]:g} | {own[1]:.2f} |")
            print(lines[-1], file=sys.stderr)
    finally:
        ray.shutdown()
        cluster.shutdown()
    return "\n".join(lines)


if __name__ == "__main__":
    print(table())
