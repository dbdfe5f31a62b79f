"""Rows of results.json and docs/scale.md, of an idle machine of two cores, for the planner to predict."""

import dataclasses
import json
import re
from pathlib import Path

from benchmarks import pool_limit
from pipeline.planning.costs import Costs, Curve, from_json, to_json
from pipeline.planning.machines import Layout

RESULTS = json.loads((Path(__file__).parent / "results.json").read_text())
SCALE = Path(__file__).parents[1] / "docs" / "scale.md"
STALENESS_ROW = r"\| ([\w-]+) \| (lag \d[^|]*?) \|[^|]*\|[^|]*\| (\d+)% \| ([\d.]+) \([^|]*\| ([\d.]+)"


def faster(costs: Costs, factor: float) -> Costs:
    """The costs of a machine on which what torch computes takes 1 / factor of the CPU seconds."""

    def scaled(value):
        if isinstance(value, Curve):
            return value.scaled(1 / factor)
        return value / factor

    chains = {
        name: dataclasses.replace(one, step=scaled(one.step), fixed=one.fixed / factor)
        for name, one in costs.job.chains.items()
    }
    names = ("prepare", "read", "learn", "compare", "step", "pack", "load", "log", "checkpoint")
    job = dataclasses.replace(costs.job, chains=chains, **{name: scaled(getattr(costs.job, name)) for name in names})
    return dataclasses.replace(costs, job=job)


def documented(content: dict) -> dict:
    """The rows of an idle machine of two cores, with these costs as on that machine."""
    then = next(row["ours"] for row in RESULTS["convnet"]["rows"] if row["name"].startswith("ConvNet nf 32, 64 chains"))
    costs = {
        name: json.loads(to_json(faster(from_json(json.dumps(one)), then / now)))
        for (name, one), now in zip(
            content["costs"].items(), content["chain_steps_per_cpu_second"].values(), strict=True
        )
    }
    rows, found = [], {row["name"].partition(":")[0]: row for name in ("update", "pool_limit")
                       for row in RESULTS[name]["rows"]}  # fmt: skip

    def add(name: str, cost: str, what: str, layout: Layout, measured: float, **more) -> None:
        if cost in costs or not cost:
            rows.append({"name": name, "costs": cost, "what": what, "layout": dataclasses.asdict(layout),
                         "measured": measured, "others": 0.0, **more})  # fmt: skip

    two, fixed_cost = found["chains of two actors"], found["fixed cost of an update through Ray"]
    add(
        "update, K = 100: lag 0", "update", "step", Layout(2, 1, 2), found["update, K = 100, lag 0"]["ours"], train=True
    )
    add(
        "update, K = 100: lag 1",
        "update",
        "step",
        Layout(2, 1, 2, 1),
        found["update, K = 100, lag 1"]["ours"],
        train=True,
    )
    add("update, K = 100: chains of two actors", "update", "chains", Layout(2, 1, 2), 1 / two["ours"])
    add("update, K = 100: chains of one actor", "update", "chains", Layout(2, 1, 1), 1 / two["other"])
    add("fixed cost of an update through Ray", "update, tiny", "cpu", Layout(2, 1, 2), fixed_cost["ours"], train=True)
    add("fixed cost of an update in one process", "update, tiny", "cpu", Layout(2, 1, 0), fixed_cost["other"])
    for number in pool_limit.ACTORS:
        name = f"{number} actors, tasks of 250 ms"
        add(f"{name}: busy share", "", "busy", Layout(number, 1, number, 1), found[name]["ours"])
    rate = found["16 actors"]["ours"]
    add("16 actors: rate at which the pool saturates", "", "saturation", Layout(16, 1, 16, 1), rate)
    slower, faster_one = Layout(2, 1, 2), Layout(2, 1, 2, 1)
    times = found["update, K = 100, lag 0"]["ours"] / found["update, K = 100, lag 1"]["ours"]
    add("update, K = 100: lag 1, times as fast", "update", "step ratio", faster_one, times, base=vars(slower))
    add("chains of two actors, times as fast as of one", "update", "chains ratio", slower, two["ratio"],
        base=vars(Layout(2, 1, 1)))  # fmt: skip
    for case, arm, waits, seconds, times in re.findall(STALENESS_ROW, SCALE.read_text()):
        lag, bounded = int(arm[4]), "bounded" in arm
        layout = Layout(2, 1, 2, lag, bounded, int(waits) / 100)
        add(f"{case}, {arm}", case, "step", layout, float(seconds), updates=50)
        if lag:
            add(
                f"{case}, {arm}, times as fast", case, "step ratio", layout, float(times), updates=50, base=vars(slower)
            )
    return {"cores": 2.0, "costs": costs, "rows": rows}
