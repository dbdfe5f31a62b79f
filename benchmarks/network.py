"""Bytes of weights that cross from node to node, per version, between four nodes of Ray on this machine.

Each learner has a pool of its own and sends every version to its actors, as in a run. First 1, 2 and 4 learners, on
nodes of their own, with two actors on each node: actors dealt by turns, as `handles[rank::ranks]` would, and by node.
Then learners that share nodes, beside nodes of actors alone: each puts its own copy of the weights, or one a node puts
it for all (`distributed/shared_weights.py`). Learners and actors compute nothing. Bytes are what the kernel
counted on the connections between the nodes' object managers, over which nothing else goes; copies are counted by the
actors, which name the object and the node of each fetch. Needs `ss` (iproute2). Memory and time are little, so other
work on the machine does not matter.
"""

import re
import subprocess
import sys
import time
from collections.abc import Sequence
from types import SimpleNamespace
from typing import NamedTuple

import numpy as np

import pipeline.distributed  # noqa: F401  # before Ray, for its settings

NODES, ACTORS, LEARNERS = 4, 8, (1, 2, 4)
SHARING = (("a" * 4, "bbcc"), ("a" * 8, "bbbbbbbbcccccccc"), ("a" * 8, "aabbccdd"), ("aaaabbbb", "ccccdddd"))
"""Nodes of learners, and of actors."""
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

        def __init__(self, actors, *sharing):
            from pipeline.distributed.actor_pool import ActorPool
            from pipeline.distributed.shared_weights import SharedWeights

            self.pool = ActorPool(actors, SharedWeights(*sharing) if sharing else None)
            self.lanes = range(len(actors))

        def send(self, versions, numbers):
            """CPU seconds of this process."""
            start = time.process_time()
            tasks = [SimpleNamespace(chain="model", lane=SimpleNamespace(index=p), seed=p, x=0) for p in self.lanes]
            for version in versions:
                self.pool.submit(version, tasks, np.full(numbers, version, np.float32))
                self.pool.collect(version)
            return time.process_time() - start

    return Sending


def object_manager_bytes(ports: Sequence[int]) -> int:
    """Bytes on all connections to these ports of this machine so far, in both directions, as the kernel counts them."""
    lines = subprocess.run(["ss", "-tinHO"], capture_output=True, text=True, check=True).stdout.splitlines()
    total = 0
    for line in lines:
        if int(line.split()[3].rpartition(":")[2]) in ports:  # this end accepted the connection
            total += sum(int(number) for number in re.findall(r"bytes_(?:sent|received):(\d+)", line))
    return total


class Measured(NamedTuple):
    """What one layout costs, per version."""

    copies: float
    """Copies of the weights that come from another node."""
    megabytes: float
    """Of them, on the network."""
    puts: float
    """Copies that learners put into their nodes' stores."""
    cpu_ms: float
    """Of all learners' processes."""


def measured(ports: Sequence[int], places: Sequence[str], homes: Sequence[str], by_node=True, shares=False) -> Measured:
    """What a layout costs, given the nodes of its actors and of its learners; actors are dealt by node, or by turns."""
    import ray
    from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

    from pipeline.distributed.locality import actors_by_rank, sources_by_rank
    from pipeline.distributed.shared_weights import readers_by_rank, start_board

    def on(node, kind, *args):
        strategy = NodeAffinitySchedulingStrategy(node, soft=False)
        return ray.remote(num_cpus=0.01, scheduling_strategy=strategy)(kind).remote(*args)

    count = len(homes)
    actors = [on(node, actor_class()) for node in places]
    dealt = actors_by_rank(places, homes) if by_node else [range(r, len(places), count) for r in range(count)]
    sources = sources_by_rank(places, homes, dealt) if shares else [[r] * len(own) for r, own in enumerate(dealt)]
    readers, board = readers_by_rank(sources), start_board(count) if shares else None
    sharing = [(board, r, sources[r], readers[r]) if shares else () for r in range(count)]
    ranks = [on(homes[r], learner_class(), [actors[i] for i in dealt[r]], *sharing[r]) for r in range(count)]

    def send(first, versions):
        seconds = sum(ray.get([rank.send.remote(range(first, first + versions), NUMBERS) for rank in ranks]))
        fetches = ray.get([actor.fetches.remote() for actor in actors])
        return {pair for own in fetches for pair in own}, object_manager_bytes(ports), seconds

    (early, before, _), (late, after, seconds) = send(0, WARM_UP), send(WARM_UP, VERSIONS)
    new = late - early
    pairs = {(s, places[i]) for own, by in zip(dealt, sources, strict=True) for i, s in zip(own, by, strict=True)}
    local = VERSIONS * sum(homes[source] == node for source, node in pairs)
    for one in [*ranks, *actors, *([board] if shares else [])]:
        ray.kill(one)
    puts = len({name for name, _ in new})
    return Measured(*(x / VERSIONS for x in (len(new) - local, (after - before) / 1e6, puts, 1e3 * seconds)))


def table_of_dealing(nodes: Sequence[str], ports: Sequence[int]) -> list[str]:
    """By turns and by node."""
    lines = ["| learners | copies by turns | MB | copies by node | MB |", "|---|---|---|---|---|"]
    for count in LEARNERS:
        places = [nodes[i * NODES // ACTORS] for i in range(ACTORS)]  # as Ray places them: node by node
        homes = [nodes[i * NODES // count] for i in range(count)]
        turns, own = (measured(ports, places, homes, by_node) for by_node in (False, True))
        lines.append(f"| {count} | {turns.copies:g} | {turns.megabytes:.2f} | {own.copies:g} | {own.megabytes:.2f} |")
        print(lines[-1], file=sys.stderr)
    return lines


def table_of_sharing(nodes: Sequence[str], ports: Sequence[int]) -> list[str]:
    """Each its own, and one a node for all."""
    lines = ["| learners | actors | puts: its own | copies | MB | CPU ms | puts: shared | copies | MB | CPU ms |"]
    lines.append("|" + "---|" * 10)
    for homes, places in SHARING:
        row = [", ".join(f"{where.count(n)} on {n}" for n in sorted({*where})) for where in (homes, places)]
        for shares in (False, True):
            one = measured(
                ports, *([nodes["abcd".index(n)] for n in where] for where in (places, homes)), shares=shares
            )
            row += [f"{one.puts:g}", f"{one.copies:g}", f"{one.megabytes:.2f}", f"{one.cpu_ms:.0f}"]
        lines.append(f"| {' | '.join(row)} |")
        print(lines[-1], file=sys.stderr)
    return lines


def tables() -> str:
    import ray
    from ray.cluster_utils import Cluster

    node = {"num_cpus": 1, "object_store_memory": STORE}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    try:
        for _ in range(NODES - 1):
            cluster.add_node(**node)
        ray.init(address=cluster.address, logging_level="error", log_to_driver=False)
        there = sorted((one["NodeID"], one["ObjectManagerPort"]) for one in ray.nodes())
        nodes, ports = zip(*there, strict=True)
        return "\n".join([*table_of_dealing(nodes, ports), "", *table_of_sharing(nodes, ports)])
    finally:
        ray.shutdown()
        cluster.shutdown()


if __name__ == "__main__":
    print(tables())
