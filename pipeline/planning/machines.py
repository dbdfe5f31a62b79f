"""What a plan is made for: machines, and the layout of a job on them."""

from dataclasses import dataclass

from pipeline.errors import InputError
from pipeline.settings import Count, NonNegative, Positive, PositiveInt, Probability, Settings


@dataclass(frozen=True)
class Machines(Settings):
    """Equal machines, and the network between them."""

    nodes: PositiveInt = 1
    """Machines."""
    cores: Positive = 2.0
    """CPU cores of each."""
    one_host: bool = False
    """Whether all machines are of one host, whose `cores` they share: a test's, in containers or namespaces."""
    gpus: Count = 0
    """GPUs of each; 0: chains move, and learners learn, on CPU cores."""
    bandwidth: Positive = 1.25e9
    """Bytes a second of each machine's link, in each direction."""
    latency: NonNegative = 1e-4
    """Seconds of a message from one machine to another."""
    faults: NonNegative = 0.0
    """Machines lost, per machine and hour."""
    recovery: NonNegative = 60.0
    """Seconds from the loss of a machine until its processes are at work again, on another one."""
    actor_faults: NonNegative = 0.0
    """Actors that die, per actor and hour."""
    restart: NonNegative = 10.0
    """Seconds in which Ray starts a dead actor again."""


@dataclass(frozen=True)
class Layout(Settings):
    """How a job is spread."""

    lanes: PositiveInt = 2
    """Shares into which data, chains and seeds are split."""
    learners: PositiveInt = 1
    """Processes that learn."""
    actors: Count = 1
    """Processes that move chains; 0: chains move where the learner is."""
    lag: Count = 0
    """Updates by which the weights that move the chains may be older than those that learn from them."""
    bounded: bool = False
    """Whether staleness is measured before an update (--max-staleness)."""
    waits: Probability = 0.0
    """Share of the updates that wait for fresh chains."""

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.lanes % self.learners:
            raise InputError(f"must divide the lanes ({self.lanes})", "learners", self.learners)
        if self.actors > self.lanes:
            raise InputError(f"at most one per lane ({self.lanes})", "actors", self.actors)

    def actors_of(self, rank: int) -> list[int]:
        """The actors that a learner sends its tasks to, as `distributed.train` hands them out."""
        own = list(range(rank, self.actors, self.learners))
        return own or [rank % self.actors] if self.actors else []

    def lanes_of(self, rank: int) -> int:
        """Number of lanes that a learner works."""
        return len(range(rank, self.lanes, self.learners))


@dataclass(frozen=True)
class Placement:
    """Where processes run: the machine of each, and its GPU on that machine."""

    learners: tuple[int, ...]
    actors: tuple[int, ...]
    learner_gpus: tuple[int, ...]
    actor_gpus: tuple[int, ...]


def place(machines: Machines, layout: Layout) -> Placement:
    """Learners take turns on the machines; then each actor goes where it finds the most free GPUs, or cores.

    Learners and actors share a GPU only where there are more of them than GPUs.
    """
    slots = machines.gpus or max(1, int(machines.cores))
    load = [[0] * slots for _ in range(machines.nodes)]
    totals = [0] * machines.nodes

    def put(node: int) -> tuple[int, int]:
        slot = load[node].index(min(load[node]))
        load[node][slot] += 1
        totals[node] += 1
        return node, slot

    learners = [put(rank % machines.nodes) for rank in range(layout.learners)]
    actors: list[tuple[int, int]] = []
    while len(actors) < layout.actors:
        least = min(totals)
        free = [node for node in range(machines.nodes) if totals[node] == least]
        actors += [put(node) for node in free[: layout.actors - len(actors)]]
    return Placement(
        tuple(node for node, _ in learners),
        tuple(node for node, _ in actors),
        tuple(slot for _, slot in learners),
        tuple(slot for _, slot in actors),
    )
