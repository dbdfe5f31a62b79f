"""Which machine has room for what: requests of processes against the resources of machines.

Ray places a process where it fits when it starts. Chain actors start before the learners, so they could take what is
left of every machine and leave room for no learner on any. So actors are placed around the learners to come.
"""

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from pipeline.runs.job import Job, Range, override

Bundle: TypeAlias = dict[str, float]
"""Numbers of CPUs and GPUs, under "CPU" and "GPU", that one process requests or one machine has."""


def job_bundles(job: Job[Any], most: bool = False) -> list[Bundle]:
    """What each learner, actor and observer of a job requests; of a range of learners, the least or the most."""
    settings = job.resources
    learners = settings.learners[most] if isinstance(settings.learners, Range) else settings.learners
    return (
        bundles(settings.cpus_per_learner, settings.gpus_per_learner, learners)
        + bundles(settings.cpus_per_actor, settings.gpus_per_actor, settings.actors)
        + bundles(settings.cpus_per_observer, settings.gpus_per_observer, settings.observers)
    )


def bundles(cpus: float, gpus: float, count: int = 1) -> list[Bundle]:
    """The requests of `count` equal processes; Ray refuses empty ones, so processes that need nothing have none."""
    bundle = {name: amount for name, amount in (("CPU", cpus), ("GPU", gpus)) if amount}
    return [bundle] * count if bundle else []


def missing_resources(wanted: Sequence[Bundle], machines: Sequence[Bundle]) -> str:
    """What the machines lack, as "4 CPU (2 there)"; empty if nothing. Each request has to fit on one machine."""
    missing = []
    for name in ("CPU", "GPU"):
        total, there = (sum(part.get(name, 0) for part in parts) for parts in (wanted, machines))
        if total > there + 1e-9:
            missing.append(f"{total:g} {name} ({there:g} there)")
    if missing:
        return " and ".join(missing)
    free = [Room(machine) for machine in machines]
    for bundle in sorted(wanted, key=_size):
        if not any(room.take(bundle) for room in free):
            return f"a machine with {' and '.join(_amount(*one) for one in bundle.items())} left"
    return ""


def _size(bundle: Bundle) -> tuple[float, float]:
    return -bundle.get("GPU", 0), -bundle.get("CPU", 0)


def _amount(name: str, amount: float) -> str:
    return f"{amount:g} of a GPU" if name == "GPU" and amount < 1 else f"{amount:g} {name}"


class Room:
    """What is left of a machine. A process takes whole GPUs, or a share of one: Ray does not add up shares."""

    def __init__(self, machine: Bundle):
        self.cpus, gpus = machine.get("CPU", 0.0), machine.get("GPU", 0.0)
        self.gpus = [1.0] * int(gpus) + [gpus % 1] * bool(gpus % 1)

    @property
    def left(self) -> tuple[float, float]:
        """GPUs and CPUs."""
        return sum(self.gpus), self.cpus

    def take(self, bundle: Bundle) -> bool:
        """Whether a request has room, which it takes then: a share on the fullest GPU that it fits."""
        cpus, gpus = bundle.get("CPU", 0.0), bundle.get("GPU", 0.0)
        share, count = min(gpus, 1.0), max(round(gpus), bool(gpus))
        fits = sorted((i for i, left in enumerate(self.gpus) if left >= share - 1e-9), key=self.gpus.__getitem__)
        if cpus > self.cpus + 1e-9 or len(fits) < count:
            return False
        self.cpus -= cpus
        for i in fits[:count]:
            self.gpus[i] -= share
        return True


def actor_places(job: Job[Any], free: Mapping[str, Bundle]) -> list[str | None]:
    """The machine of each chain actor, such that learners and observers have room: each where most is left.

    Args:
        job: of a range of learners, as many as fit beside all others are left room for, or the least.
        free: what each machine has left, by its name.

    Returns:
        names of machines; None for an actor that has no room now.
    """
    actors = bundles(job.resources.cpus_per_actor, job.resources.gpus_per_actor, job.resources.actors)
    alone = override(job, actors=0)
    fits_most = not missing_resources(job_bundles(job, most=True), list(free.values()))
    rooms = {name: Room(machine) for name, machine in free.items()}
    for bundle in sorted(job_bundles(alone, most=fits_most), key=_size):
        any(room.take(bundle) for room in rooms.values())
    places = list[str | None]()
    for bundle in actors:
        by_room = sorted(rooms, key=lambda name: rooms[name].left, reverse=True)
        places.append(next((name for name in by_room if rooms[name].take(bundle)), None))
    return places or [None] * job.resources.actors
