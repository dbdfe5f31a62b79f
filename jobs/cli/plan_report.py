"""What a plan says: a table, plan.json, and the figure over numbers of actors."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from jobs.cli.results import png
from pipeline.planning.costs import Costs
from pipeline.planning.machines import Machines
from pipeline.planning.recommend import Plan

PARTS = ("chains", "learning", "pool", "all-reduce", "network")
"""What may be the bottleneck, in the order of the figure."""


def content(
    costs: Costs, machines: Machines, best: Plan, curve: Sequence[Plan], args: Mapping[str, Any]
) -> dict[str, Any]:
    """The content of plan.json."""
    return {
        "args": dict(args),
        "name": costs.name,
        "updates": costs.updates,
        "machines": asdict(machines),
        "recommended": _plan(best),
        "by_actors": [_plan(one) for one in curve],
    }


def _plan(plan: Plan) -> dict[str, Any]:
    steady, run = plan.steady, plan.run
    return {
        **asdict(plan.layout),
        "seconds_per_update": steady.seconds,
        "updates_per_second": 1 / steady.seconds if steady.seconds else math.inf,
        "busy": steady.busy,
        "bottleneck": steady.bottleneck,
        "memory_bytes": asdict(plan.memory),
        "hours": run.hours,
        "machines_lost": run.faults,
        "updates_repeated": run.repeated,
        "devices": plan.devices,
        "device_hours": plan.device_hours,
    }


def as_text(tree: Mapping[str, Any]) -> str:
    """JSON, as in plan.json."""
    return json.dumps(tree, indent=1)


def table(costs: Costs, machines: Machines, best: Plan, curve: Sequence[Plan]) -> str:
    """The recommended plan, and one line for each number of actors."""
    layout, steady, run, what = best.layout, best.steady, best.run, "GPU" if machines.gpus else "core"
    busy = ", ".join(f"{name} {share:.0%}" for name, share in steady.busy.items() if share >= 0.005)
    where = f"{machines.nodes} x ({machines.gpus} GPUs, {machines.cores:g} cores)"
    rows = {
        "job": f"{costs.name}, {costs.updates:,} updates on {where}",
        "costs": f"of {costs.device}" + (f", made {costs.speed:g} times as fast" if costs.speed != 1 else ""),
        "recommended": f"--lanes {layout.lanes} --learners {layout.learners} --actors {layout.actors} "
        f"--lag {layout.lag}",
        "updates per second": f"{1 / steady.seconds:.4g}, one takes {steady.seconds:.3g} s",
        "busy": busy,
        "bottleneck": steady.bottleneck,
        "memory": f"{best.memory.node / 1e9:.1f} GB a machine"
        + (f", {best.memory.gpu / 1e9:.1f} GB a GPU" if machines.gpus else ""),
        "the whole run": f"{run.hours:.3g} h, {best.device_hours:.4g} {what}-hours on {best.devices} {what}s"
        + (f"; {run.faults} machines lost, {run.repeated:,} updates repeated" if machines.faults else ""),
    }
    lines = [f"{name:24} {text}" for name, text in rows.items()]
    head = ("actors", "lanes", "learners", "lag", "updates/s", "chains", "learning", "pool", f"{what}-hours")
    cells = [(*head, "bottleneck"), *map(_cells, curve)]
    return "\n".join([*lines, "", *("".join(f"{cell:>12}" for cell in row) for row in cells), ""])


def _cells(plan: Plan) -> tuple[str, ...]:
    layout, steady = plan.layout, plan.steady
    numbers = map(str, (layout.actors, layout.lanes, layout.learners, layout.lag))
    shares = (f"{steady.busy.get(name, 0.0):.0%}" for name in ("chains", "learning", "pool"))
    return (*numbers, f"{1 / steady.seconds:.4g}", *shares, f"{plan.device_hours:.4g}", steady.bottleneck)


def picture(costs: Costs, machines: Machines, best: Plan, curve: Sequence[Plan]) -> bytes:
    """The figure, as PNG."""
    return png(figure(costs, machines, best, curve))


def figure(costs: Costs, machines: Machines, best: Plan, curve: Sequence[Plan]) -> Figure:
    """Updates a second, shares of the time, and device-hours over numbers of actors, at each lag."""
    what = "GPU" if machines.gpus else "core"
    result = Figure(figsize=(13, 4), layout="constrained")
    speed, shares, price = result.subplots(1, 3)
    for lag in dict.fromkeys(plan.layout.lag for plan in curve):
        plans = [plan for plan in curve if plan.layout.lag == lag]
        actors = [plan.layout.actors for plan in plans]
        speed.plot(actors, [1 / plan.steady.seconds for plan in plans], marker=".", label=f"lag {lag}")
        price.plot(actors, [plan.device_hours for plan in plans], marker=".", label=f"lag {lag}")
    if curve:
        first, lag = curve[0], best.layout.lag
        plans = [plan for plan in curve if plan.layout.lag == lag]
        actors = [plan.layout.actors for plan in plans]
        scale = 1 / first.steady.seconds / first.layout.actors
        speed.plot(actors, [n * scale for n in actors], color="grey", linestyle=":", label="in proportion")
        for name in PARTS:
            if any(plan.steady.busy.get(name, 0.0) >= 0.005 for plan in plans):
                shares.plot(actors, [plan.steady.busy.get(name, 0.0) for plan in plans], marker=".", label=name)
    for axes, value in ((speed, 1 / best.steady.seconds), (price, best.device_hours)):
        axes.plot([max(1, best.layout.actors)], [value], "o", color="black", fillstyle="none", markersize=10,
                  label="recommended")  # fmt: skip
        axes.set_yscale("log")
    speed.set(title=costs.name, ylabel="updates a second")
    shares.set(title=f"lag {best.layout.lag}", ylabel="busy share of the time", ylim=(0, 1.05))
    price.set(title=f"{costs.updates:,} updates", ylabel=f"{what}-hours")
    numbers = sorted({max(1, plan.layout.actors) for plan in (*curve, best)})
    for axes in (speed, shares, price):
        _scale_actors(axes, numbers)
    for axes in (speed, price):
        axes.yaxis.set_major_formatter("{x:g}")
        least, most = axes.get_ylim()
        axes.yaxis.set_minor_formatter("{x:g}" if most < 10 * least else "")
    return result


def _scale_actors(axes: Axes, numbers: Sequence[int]) -> None:
    """A logarithmic scale with these numbers of actors."""
    axes.set_xscale("log", base=2)
    axes.set_xticks(numbers, list(map(str, numbers)), fontsize=8, rotation=60 if len(numbers) > 9 else 0)
    axes.set_xticks([], minor=True)
    axes.set_xlabel("actors")
    axes.grid(alpha=0.3)
    if axes.lines:
        axes.legend(fontsize=8)
