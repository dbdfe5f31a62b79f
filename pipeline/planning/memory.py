"""The memory that a layout needs, by machine."""

from dataclasses import dataclass

from pipeline.planning.costs import Costs
from pipeline.planning.machines import Layout, Machines, place


@dataclass(frozen=True)
class Memory:
    """Bytes, of the machine and the GPU that need most."""

    node: int
    """Resident, of all its processes."""
    gpu: int
    """Activations and weights, of all its processes; 0 without GPUs."""


def memory(costs: Costs, machines: Machines, layout: Layout) -> Memory:
    """The memory of a layout: processes, activations of a lane's items or a task's chains, banks, weights in flight."""
    own, job, at = costs.memory, costs.job, place(machines, layout)
    items = job.batch_size / layout.lanes
    chains = max((one.count / layout.lanes for one in job.chains.values()), default=0.0)
    weights = (layout.lag + 2) * job.weight_bytes
    on_gpu = machines.gpus > 0
    learner = own.learner + own.bank / layout.learners + (0 if on_gpu else own.item * items)
    actor = own.actor + job.weight_bytes + (0 if on_gpu else own.chain * chains)
    if not layout.actors and not on_gpu:
        learner += own.chain * chains
    nodes = [at.learners.count(n) * learner + at.actors.count(n) * actor + weights for n in range(machines.nodes)]
    gpus: dict[tuple[int, int], float] = {}
    if on_gpu:
        for place_of in zip(at.learners, at.learner_gpus, strict=True):
            gpus[place_of] = gpus.get(place_of, 0.0) + own.device_item * items + 4 * job.weight_bytes
        for place_of in zip(at.actors, at.actor_gpus, strict=True):
            gpus[place_of] = gpus.get(place_of, 0.0) + own.device_chain * chains + job.weight_bytes
    return Memory(round(max(nodes)), round(max(gpus.values(), default=0.0)))
