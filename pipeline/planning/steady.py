"""The steady state of a layout, out of its simulation."""

from dataclasses import dataclass

from pipeline.planning.costs import Costs
from pipeline.planning.machines import Layout, Machines
from pipeline.planning.simulation import Simulation


@dataclass(frozen=True)
class Steady:
    """A run in its steady state."""

    seconds: float
    """Of an update."""
    step_seconds: float
    """Of an update without log, as a run logs them (time/update)."""
    chain_seconds: float
    """Of these, until the chains were there (time/chains)."""
    cpu_seconds: float
    """Of an update, over all machines."""
    busy: dict[str, float]
    """Shares of the time: `chains` (the actors move them), `learning`, `pool` (the learner sends and receives),
    `all-reduce`, `network` (the busiest link), `cores` (of all machines), and `waiting` (the first
    learner, for chains or for other learners)."""
    deaths: int
    """Actors that died."""

    @property
    def bottleneck(self) -> str:
        """What is busy for the greatest share of the time."""
        return max((name for name in self.busy if name not in ("waiting", "cores")), key=self.busy.__getitem__)


def simulate(costs: Costs, machines: Machines, layout: Layout, updates: int = 12, seed: int = 0) -> Steady:
    """The steady state of a layout, over `updates` updates after those that fill the pipeline.

    Args:
        costs: of the job and of messages.
        machines: that it runs on.
        layout: of the job.
        updates: that are measured.
        seed: of the faults, and of how much equal tasks differ.
    """
    first = layout.lag + 2
    marks = Simulation(costs, machines, layout, first + updates, seed).run()
    begin, end, measured = marks[first - 1], marks[-1], marks[first:]
    total = end.time - begin.time
    busy = {name: (seconds - begin.parts.get(name, 0.0)) / total for name, seconds in end.parts.items()}
    busy["chains"] = (end.actors - begin.actors) / total / max(1, layout.actors)
    if not layout.actors:
        busy["chains"] = max(0.0, 1 - sum(busy.values()))
    busy["network"] = (end.link - begin.link) / total
    hosts = 1 if machines.one_host else machines.nodes
    busy["cores"] = (end.cores - begin.cores) / total / (hosts * machines.cores)
    return Steady(
        seconds=total / updates,
        step_seconds=sum(mark.step for mark in measured) / updates,
        chain_seconds=sum(mark.chains for mark in measured) / updates,
        cpu_seconds=(end.cores - begin.cores) / updates,
        busy=busy,
        deaths=end.deaths - begin.deaths,
    )
