"""The planner beside what is measured: the benchmarks of update and pool_limit, the study of staleness, several hosts.

The costs are calibrated in the same go, and kept with the rows: `--again` predicts them once more, without measuring.
`others` is what other processes used of the same cores meanwhile: where it is not small, only rows in CPU seconds, of
this process and all that it starts, mean anything. They are the wall seconds of a core that nobody else uses.

    taskset -c 1 python -m benchmarks.planner --cores 1 --out planner.json
    python -m benchmarks.planner --again planner.json

`--documented` predicts what results.json and docs/scale.md have of an idle machine of two cores, from the same costs.
If they were calibrated on a machine that was busy, or slower, these are first made as much faster as the machine of the
documents was at `chain_steps_per_cpu_second`, a row of `benchmarks.convnet` that nothing is predicted of.
"""

import argparse
import dataclasses
import json
import os
import tempfile
from itertools import product
from pathlib import Path

import numpy as np
import torch

from benchmarks import pool_limit, update
from benchmarks.planner_cpu import Between, Others, Spent, between, reference
from benchmarks.planner_documented import documented
from jobs.studies import staleness
from pipeline.distributed.calibration import measure_messages
from pipeline.distributed.cluster import connected
from pipeline.planning.costs import ChainCosts, Costs, Curve, JobCosts, RayCosts, from_json, to_json
from pipeline.planning.machines import Layout, Machines
from pipeline.planning.steady import simulate
from pipeline.runs.job import load_dataset, override
from pipeline.training.calibration import as_costs, measure_job

LAGS = (0, 1, 2, 4)
SEEDS = (4, 5, 6)
NODES, HOSTS_LAGS, STORE = 4, (0, 1), 150 * 2**20
"""Of a cluster on this machine, with the bytes of each node's object store."""
SKIP, FIXED_ROUNDS = 5, 2
"""Updates at the start of a run that do not count, and runs of hardly any work."""
CPU = torch.device("cpu")


class Table:
    """Costs and measured rows, on disk as they come."""

    def __init__(self, cores: float, out: Path):
        self.out, self.content, self.spent = out, {"cores": cores, "costs": {}, "rows": []}, Spent()

    def others(self) -> Others:
        return Others(self.spent)

    def calibrate(self, name: str, job, ray: RayCosts) -> None:
        """The costs of a job; where there are some already, the least of each."""
        costs = dataclasses.replace(as_costs(job, measure_job(job, CPU), CPU), ray=ray)
        tree, speed = json.loads(to_json(costs)), self.content.setdefault("chain_steps_per_cpu_second", {})
        self.content["costs"][name] = least(self.content["costs"].get(name, tree), tree)
        speed[name] = max(speed.get(name, 0.0), reference())
        self.out.write_text(json.dumps(self.content, indent=1))

    def add(self, name: str, costs: str, what: str, layout: Layout, measured: float, others: float, **more) -> None:
        row = {"name": name, "costs": costs, "what": what, "layout": dataclasses.asdict(layout), "measured": measured,
               "others": others, **more}  # fmt: skip
        self.content["rows"].append(row)
        self.out.write_text(json.dumps(self.content, indent=1))
        print(line(self.content, row), flush=True)


def least(one, other):
    """The numbers of a tree where they are less than those of another of the same shape, else the other's."""
    if isinstance(one, dict):
        return {name: least(one[name], other[name]) for name in one}
    if isinstance(one, list):
        return [least(*pair) for pair in zip(one, other, strict=True)]
    return min(one, other) if isinstance(one, float) else other


def predicted(content: dict, row: dict) -> float:
    """What the planner says of a row."""
    layout, what = Layout(**row["layout"]), row["what"]
    if what.endswith("ratio"):
        own = {**row, "what": what.split()[0]}
        return predicted(content, {**own, "layout": row["base"]}) / predicted(content, own)
    machines = Machines(cores=content["cores"], nodes=row.get("nodes", 1), one_host=True)
    if what in ("busy", "saturation"):
        ray = from_json(json.dumps(next(iter(content["costs"].values())))).ray
        machines, ray = dataclasses.replace(machines, gpus=layout.actors + 1), dataclasses.replace(ray, train=0.0)

        def busy(wait: float) -> float:
            return wait / simulate(waiting_costs(ray, layout.actors, wait), machines, layout, 20).seconds

        if what == "busy":
            return busy(pool_limit.WAIT)
        waits = [wait for wait in np.geomspace(0.25, 0.005, 60) if busy(wait) >= pool_limit.ENOUGH]
        return layout.actors / min(waits, default=np.inf)
    costs = from_json(json.dumps(content["costs"][row["costs"]]))
    if not row.get("train"):
        costs = dataclasses.replace(costs, ray=dataclasses.replace(costs.ray, train=0.0))
    steady = simulate(costs, machines, layout, row.get("updates", 12))
    own = machines.nodes * costs.ray.idle + costs.ray.train
    idle = own + layout.actors * costs.ray.idle_actor if layout.actors else 0.0
    cpu = steady.cpu_seconds + idle * row.get("wall", steady.seconds)
    return {"step": steady.step_seconds, "chains": steady.chain_seconds, "cpu": 1e3 * cpu}[what]


def line(content: dict, row: dict) -> str:
    ours = predicted(content, row)
    numbers = f"{ours:.4g}", f"{row['measured']:.4g}", UNITS[row["what"]], f"{ours / row['measured'] - 1:+.1%}"
    cells = (row["name"], *numbers, f"{row['others']:.2f}")
    return f"| {' | '.join(cells)} |"


UNITS = {
    "step": "s",
    "chains": "s",
    "cpu": "CPU ms",
    "busy": "1",
    "saturation": "tasks/s",
    "step ratio": "1",
    "chains ratio": "1",
}
HEAD = "| row | predicted | measured | unit | difference | cores that others used |\n|---|---|---|---|---|---|"

UPDATE_SIDES = {
    "one process": ({"learners": 0, "actors": 0, "threads": 1}, Layout(2, 1, 0)),
    "lag 0": ({"learners": 1, "actors": 2}, Layout(2, 1, 2)),
    "lag 1": ({"learners": 1, "actors": 2, "lag": 1}, Layout(2, 1, 2, 1)),
    "chains of two actors": ({"learners": 0, "actors": 2}, Layout(2, 1, 2)),
    "chains of one actor": ({"learners": 0, "actors": 1}, Layout(2, 1, 1)),
}


def update_rows(table: Table, ray: RayCosts) -> None:
    """The benchmark of update, on these cores."""
    with tempfile.TemporaryDirectory() as name:
        folder, numbers = Path(name), iter(range(1000))
        images = np.random.default_rng(0).integers(0, 256, size=(1000, 32, 32, 3), dtype=np.uint8)
        np.savez(folder / "data.npz", images=images)
        table.calibrate("update", update.job(folder, 0), ray)
        table.calibrate("update, tiny", update.job(folder, 0, recipe=update.TINY, log_every=10**6), ray)
        for side, (settings, layout) in UPDATE_SIDES.items():
            what = "chains" if side.startswith("chains") else "update"
            others, train = table.others(), settings["learners"] > 0
            measured = update.seconds(update.run(update.job(folder, next(numbers), **settings)), what)
            table.add(f"update, K = 100: {side}", "update", "step" if what == "update" else what, layout, measured,
                      others.share(), train=train)  # fmt: skip
        for side, learners, actors in (("through Ray", 1, 2), ("in one process", 0, 0)):
            cpu, wall, share = min(fixed(table, folder, next(numbers), learners, actors) for _ in range(FIXED_ROUNDS))
            table.add(f"fixed cost of an update {side}", "update, tiny", "cpu", Layout(2, 1, actors), 1e3 * cpu,
                      share, train=learners > 0, wall=wall, updates=50)  # fmt: skip


def fixed(table: Table, folder: Path, number: int, learners: int, actors: int) -> tuple[float, float, float]:
    """CPU and wall seconds of an update of hardly any work, and the cores that others used."""
    others, every = table.others(), update.FEW
    job = update.job(folder, number, recipe=update.TINY, updates=update.MANY + 2, log_every=every, learners=learners,
                     actors=actors)  # fmt: skip
    with between(table.spent, Path(job.out), update.FEW, update.MANY) as measured:
        update.run(job)
    return measured[0].cpu, measured[0].wall, others.share()


def waiting_costs(ray: RayCosts, actors: int, wait: float) -> Costs:
    """The costs of `benchmarks.pool_limit`, whose actors only wait: each on a GPU, so to speak."""
    chain = ChainCosts(actors, 1, Curve((1,), (wait,)), 0.0, pool_limit.STATES.nbytes)
    nothing, size = Curve((1,), (0.0,)), pool_limit.WEIGHTS.nbytes
    job = JobCosts({"model": chain}, actors, nothing, nothing, nothing, nothing, 0.0, 0.0, 0.0, size, 0)
    return Costs(job, ray, name="waiting")


def pool_rows(table: Table) -> None:
    """The benchmark of pool_limit, on these cores."""
    import ray

    remote = ray.remote(num_cpus=0.001)(pool_limit.actor_class())
    actors = []
    for number in pool_limit.ACTORS:
        actors += [remote.remote() for _ in range(number - len(actors))]
        ray.get([actor.__ray_ready__.remote() for actor in actors])
        others, layout = table.others(), Layout(number, 1, number, 1)
        share = pool_limit.busy_share(actors, pool_limit.WAIT)
        table.add(f"{number} actors, tasks of 250 ms: busy share", "", "busy", layout, share, others.share())
        if number == 16:
            others = table.others()
            rate = pool_limit.saturation(actors)
            table.add("16 actors: rate at which the pool saturates", "", "saturation", layout, rate, others.share())
    for actor in actors:
        ray.kill(actor)


def staleness_rows(table: Table, ray: RayCosts, folder: Path, seeds: tuple[int, ...], updates: int, cases: list[str]):
    """The study of staleness, on these cores, without its qualities; the arms take turns, and the least run counts."""
    args = staleness.Staleness(lags=LAGS, seeds=seeds, updates=updates, out=str(folder))
    arms = [staleness.Arm(lag, False) for lag in LAGS] + [staleness.Arm(max(LAGS), True)]
    for case in cases or staleness.CASES:
        found = {arm: [] for arm in arms}
        for seed in seeds:
            table.calibrate(case, staleness._job(args, case, seed, arms[0]), ray)
            for arm in arms:
                job = override(staleness._job(args, case, seed, arm), checkpoint_every=10**6)
                found[arm].append(run_between(table, job))
        for arm, runs in found.items():
            add_runs(table, f"{case}, {arm}", case, Layout(2, 1, 2, arm.lag, arm.bounded), runs)


def run_between(table: Table, job) -> tuple[Between, float, float]:
    """A run without its first updates; the share of the updates that waited, and the cores that others used."""
    others = table.others()
    with between(table.spent, Path(job.out), SKIP, job.updates - 2) as measured:
        staleness._run(job)
    return *measured, staleness._costs(job)["waits"], others.share()


def add_runs(table: Table, name: str, costs: str, layout: Layout, runs: list, **more) -> None:
    """Two rows of the run that took the least."""
    (wall, cpu, step), waits, share = min(runs, key=lambda run: run[0].cpu)
    layout = dataclasses.replace(layout, waits=waits)
    table.add(name, costs, "step", layout, step, share, updates=50, **more)
    table.add(name, costs, "cpu", layout, 1e3 * cpu, share, updates=50, wall=wall, **more)


def hosts_rows(table: Table, ray: RayCosts, folder: Path, seeds: tuple[int, ...], updates: int) -> None:
    """Short-run chains on digits over four nodes of Ray on these cores, one actor on each; this process learns."""
    from ray.cluster_utils import Cluster

    case = "digits-short-run"
    args = staleness.Staleness(lags=HOSTS_LAGS, seeds=seeds, updates=updates, out=str(folder), actors=NODES)
    found = {staleness.Arm(lag, False): [] for lag in HOSTS_LAGS}
    node = {"num_cpus": 1, "object_store_memory": STORE}
    cluster = Cluster(initialize_head=True, head_node_args={**node, "include_dashboard": False})
    os.environ["RAY_ADDRESS"] = cluster.address
    try:
        for _ in range(NODES - 1):
            cluster.add_node(**node)
        with connected():
            for seed, arm in product(seeds, found):
                table.calibrate(case, staleness._job(args, case, seed, arm), ray)
                job = override(staleness._job(args, case, seed, arm), checkpoint_every=10**6, lanes=NODES,
                               cpus_per_actor=1.0)  # fmt: skip
                found[arm].append(run_between(table, job))
    finally:
        del os.environ["RAY_ADDRESS"]
        cluster.shutdown()
    for arm, runs in found.items():
        add_runs(table, f"{NODES} hosts, {case}, {arm}", case, Layout(NODES, 1, NODES, arm.lag), runs, nodes=NODES)


def measure(cores: float, only: list[str], seeds: list[int], updates: int, cases: list[str], out: Path) -> dict:
    table = Table(cores, out)
    with tempfile.TemporaryDirectory() as name:
        with connected():
            job = staleness.CASES["digits-short-run"].job
            ray, _ = measure_messages(job, load_dataset(job).spec)
            table.calibrate("digits", job, ray)
            print(ray, flush=True)
            if "update" in only:
                update_rows(table, ray)
            if "staleness" in only:
                staleness_rows(table, ray, Path(name) / "staleness", tuple(seeds), updates, cases)
            if "pool" in only:
                pool_rows(table)
        if "hosts" in only:
            hosts_rows(table, ray, Path(name) / "hosts", tuple(seeds), updates)
    return table.content


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planner", description=__doc__)
    parser.add_argument("--cores", type=float, default=float(len(os.sched_getaffinity(0))))
    parser.add_argument("--only", nargs="+", default=["update", "staleness", "pool", "hosts"])
    parser.add_argument("--seeds", type=int, nargs="+", default=list(SEEDS))
    parser.add_argument("--updates", type=int, default=0, help="of the runs of the study of staleness; 0: the study's")
    parser.add_argument("--cases", nargs="*", default=[], help="of the study of staleness; none: all")
    parser.add_argument("--out", type=Path, default=Path("planner.json"))
    parser.add_argument("--again", type=Path)
    parser.add_argument("--documented", type=Path)
    asked = parser.parse_args()
    if asked.documented:
        content = documented(json.loads(asked.documented.read_text()))
    elif asked.again:
        content = json.loads(asked.again.read_text())
    else:
        content = measure(asked.cores, asked.only, asked.seeds, asked.updates, asked.cases, asked.out)
    print("\n".join([HEAD, *(line(content, row) for row in content["rows"])]))


if __name__ == "__main__":
    main()
