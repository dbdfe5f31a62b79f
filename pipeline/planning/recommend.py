"""Which layout to take: all that machines have room for, compared by the simulation."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pipeline.errors import InputError
from pipeline.planning.costs import Costs
from pipeline.planning.machines import Layout, Machines
from pipeline.planning.memory import Memory, memory
from pipeline.planning.steady import Steady, simulate
from pipeline.planning.whole_run import WholeRun, whole_run
from pipeline.settings import Count, PositiveInt, Settings

WITHIN = 1.05
"""Layouts whose updates take at most so many times those of the fastest are as good; the one with the fewest processes
is recommended."""
TASKS = 8_000
"""About how many tasks one simulation has."""
UPDATES = 3, 20
"""The fewest and most updates that a simulation measures."""


@dataclass(frozen=True)
class Wanted(Settings):
    """What the user has chosen already; 0 or nothing leaves it open."""

    lanes: Count = 0
    learners: Count = 0
    actors: Count | None = None
    lags: tuple[Count, ...] = (0, 1)
    max_learners: PositiveInt = 64


@dataclass(frozen=True)
class Plan:
    """A layout, and what it comes to."""

    layout: Layout
    steady: Steady
    run: WholeRun
    memory: Memory
    devices: int
    """GPUs that it uses or, without any, cores: one for each learner and actor, as far as there are."""
    device_hours: float
    """GPU-hours, or core-hours, of the run."""


def evaluate(costs: Costs, machines: Machines, layout: Layout, seed: int = 0) -> Plan:
    """The plan of a layout."""
    tasks = max(1, layout.lanes * max(1, len(costs.job.chains)))
    steady = simulate(costs, machines, layout, min(UPDATES[1], max(UPDATES[0], TASKS // tasks)), seed)
    run = whole_run(costs.job, machines, layout, steady, costs.updates, seed)
    devices = min(layout.learners + layout.actors, _devices(machines))
    return Plan(layout, steady, run, memory(costs, machines, layout), devices, devices * run.hours)


def layouts(costs: Costs, machines: Machines, wanted: Wanted) -> list[Layout]:
    """The layouts that fit: actors in powers of two up to one per GPU or core, lanes for them, learners that divide.

    Raises:
        InputError: none fits what is wanted.
    """
    lanes, there = _possible_lanes(costs), _devices(machines)
    found = list(_fitting(lanes, there, wanted, bool(costs.job.chains)))
    if not found:
        numbers = ", ".join(map(str, lanes))
        raise InputError(f"no layout has these lanes, learners and actors: lanes may be {numbers}; actors are at most "
                         "as many, and learners divide them")  # fmt: skip
    return found


def _fitting(lanes: Sequence[int], there: int, wanted: Wanted, has_chains: bool) -> Iterator[Layout]:
    for count in [wanted.lanes] if wanted.lanes in lanes else [] if wanted.lanes else lanes:
        learners = [wanted.learners] if wanted.learners else _powers(min(wanted.max_learners, count))
        for learner_count in learners:
            if count % learner_count:
                continue
            room = max(1, there - learner_count)
            actors = [n for n in (0, *_powers(min(count, room)), min(count, room)) if has_chains or not n]
            if wanted.actors is not None:
                actors = [wanted.actors] if wanted.actors <= count else []
            for actor_count in dict.fromkeys(actors):
                if actor_count and count % actor_count and count < 4 * actor_count:
                    continue  # some actors would have twice the work of others
                for lag in wanted.lags if actor_count else (min(wanted.lags),):
                    yield Layout(count, learner_count, actor_count, lag)


def _powers(most: int) -> list[int]:
    return [2**k for k in range(most.bit_length()) if 2**k <= most]


def least_seconds(costs: Costs, machines: Machines, layout: Layout) -> float:
    """Seconds below which no update of a layout can be: its actors, and its learners, without any waiting."""
    job, ray, lanes = costs.job, costs.ray, layout.lanes
    own, items = -(-lanes // layout.learners), job.batch_size / layout.lanes
    learning = own * (job.prepare(items) + job.read(items) + job.learn(items)) + job.step
    task = sum(job.task_seconds(lanes).values())
    if not layout.actors:
        return learning + own * task + job.pack + job.load
    sizes = [one.bytes_per_chain * one.count / lanes for one in job.chains.values()]
    pool = (
        job.pack
        + ray.put(job.weight_bytes)
        + ray.wait
        + own * sum(ray.submit(size) + ray.collect(size) for size in sizes)
    )
    chains = lanes * task / layout.actors
    if not layout.lag:
        return max(chains + own * (job.read(items) + job.learn(items)) + job.step, learning + pool)
    return max(chains, learning + pool)


def recommend(costs: Costs, machines: Machines, wanted: Wanted, seed: int = 0) -> tuple[Plan, list[Plan]]:
    """The recommended plan, and all that were simulated: those that may be as fast as the fastest, by their bounds."""
    bounds = {layout: least_seconds(costs, machines, layout) for layout in layouts(costs, machines, wanted)}
    plans: list[Plan] = []
    best = None
    for layout in sorted(bounds, key=lambda one: (bounds[one], _preference(one))):
        if best and not _may_replace(layout, bounds[layout], best, min(plan.steady.seconds for plan in plans)):
            continue
        plans.append(evaluate(costs, machines, layout, seed))
        fastest = min(plan.steady.seconds for plan in plans)
        good = [plan for plan in plans if plan.steady.seconds <= WITHIN * fastest]
        best = min(good, key=lambda plan: (_preference(plan.layout), plan.steady.seconds))
    assert best
    return best, plans


def _may_replace(layout: Layout, bound: float, best: Plan, fastest: float) -> bool:
    """Whether a layout of that bound may be better than the best so far: so fast that this is not good any more, or
    good, too, and smaller.
    """
    is_smaller = _preference(layout) < _preference(best.layout)
    return bound * WITHIN < best.steady.seconds or (is_smaller and bound <= WITHIN * fastest)


def _preference(layout: Layout) -> tuple[int, ...]:
    return layout.learners + layout.actors, layout.lag, layout.lanes


def over_actors(
    costs: Costs, machines: Machines, best: Layout, lags: Sequence[int], most: int = 0, seed: int = 0
) -> list[Plan]:
    """Plans over numbers of actors, in powers of two and as recommended, at each lag.

    Args:
        costs: of the job.
        machines: that it runs on.
        best: the recommended layout, whose learners all plans have (one, if it has no actors), and whose lanes where
            these suit the actors.
        lags: of which there is a plan each.
        most: the greatest number of actors; 0: as many as there is room for.
        seed: as of `evaluate`.
    """
    learners = best.learners if best.actors else 1
    most = min(most or max(1, _devices(machines) - learners), max(_possible_lanes(costs)))
    plans = []
    for actors in sorted({*_powers(most), most, best.actors} - {0}):
        suitable = [n for n in _possible_lanes(costs) if n % actors == 0 and n % learners == 0]
        if suitable:
            lanes = best.lanes if best.lanes in suitable else suitable[0]
            plans += [evaluate(costs, machines, Layout(lanes, learners, actors, lag), seed) for lag in lags]
    return plans


def _devices(machines: Machines) -> int:
    """GPUs or, without any, cores."""
    return machines.nodes * (machines.gpus or max(1, int(machines.cores)))


def _possible_lanes(costs: Costs) -> list[int]:
    """Numbers of lanes that divide batches and chains alike."""
    counts = [costs.job.batch_size, *(one.count for one in costs.job.chains.values())]
    return [n for n in range(1, min(counts) + 1) if all(count % n == 0 for count in counts)]
