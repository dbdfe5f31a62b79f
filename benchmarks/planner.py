"""The planner beside what is measured: rows of the benchmark of update, of pool_limit, and of the study of staleness.

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
import contextlib
import dataclasses
import json
import os
import statistics
import tempfile
import time
from pathlib import Path

import numpy as np
import psutil
import torch

from benchmarks import convnet, pool_limit, update
from benchmarks.planner_documented import documented
from jobs.studies import staleness
from pipeline.distributed.calibration import measure_messages
from pipeline.distributed.cluster import connected
from pipeline.planning.costs import ChainCosts, Costs, Curve, JobCosts, RayCosts, from_json, to_json
from pipeline.planning.machines import Layout, Machines
from pipeline.planning.steady import simulate
from pipeline.rng import generator
from pipeline.runs.job import load_dataset, override
from pipeline.samplers.langevin import Langevin
from pipeline.training.calibration import as_costs, measure_job
from pipeline.training.worker import Worker

LAGS = (0, 1, 2, 4)
SEEDS = (4, 5, 6)
CPU = torch.device("cpu")


class Others:
    """Cores that processes beside this one and its children use, of those that these may use."""

    def __init__(self):
        self.before, self.began = self._spent(), time.perf_counter()

    def _spent(self) -> float:
        cores = psutil.cpu_times(percpu=True)
        busy = sum(sum(cores[k]) - cores[k].idle - cores[k].iowait for k in os.sched_getaffinity(0))
        return busy - own_cpu()

    def share(self) -> float:
        """Cores, since the start."""
        return max(0.0, self._spent() - self.before) / (time.perf_counter() - self.began)


class Table:
    """Costs and measured rows, on disk as they come."""

    def __init__(self, cores: float, out: Path):
        self.out, self.content = out, {"cores": cores, "costs": {}, "rows": []}

    def calibrate(self, name: str, job, ray: RayCosts) -> None:
        costs = dataclasses.replace(as_costs(job, measure_job(job, CPU), CPU), ray=ray)
        self.content["costs"][name] = json.loads(to_json(costs))
        self.content.setdefault("chain_steps_per_cpu_second", {})[name] = reference()
        self.out.write_text(json.dumps(self.content, indent=1))

    def add(self, name: str, costs: str, what: str, layout: Layout, measured: float, others: float, **more) -> None:
        row = {"name": name, "costs": costs, "what": what, "layout": dataclasses.asdict(layout), "measured": measured,
               "others": others, **more}  # fmt: skip
        self.content["rows"].append(row)
        self.out.write_text(json.dumps(self.content, indent=1))
        print(line(self.content, row), flush=True)


def reference() -> float:
    """Chain-steps a CPU second of `benchmarks.convnet` with 64 chains (nf 32): how fast the machine is now."""
    x = (2 * torch.rand(64, 3, 32, 32, generator=generator(0)) - 1).contiguous(memory_format=torch.channels_last)
    net, sampler, times = convnet.network(32, torch.channels_last), Langevin(2, 1.0, 0.01), []
    for _ in range(4):
        began = time.process_time()
        sampler(net, x, generator(0))
        times.append(time.process_time() - began)
    return 64 * 2 / statistics.median(times[1:])


def predicted(content: dict, row: dict) -> float:
    """What the planner says of a row."""
    layout, what = Layout(**row["layout"]), row["what"]
    if what.endswith("ratio"):
        own = {**row, "what": what.split()[0]}
        return predicted(content, {**own, "layout": row["base"]}) / predicted(content, own)
    machines = Machines(cores=content["cores"])
    if what in ("busy", "saturation"):
        ray = from_json(json.dumps(next(iter(content["costs"].values())))).ray
        machines = dataclasses.replace(machines, gpus=layout.actors + 1)

        def busy(wait: float) -> float:
            return wait / simulate(waiting_costs(ray, layout.actors, wait), machines, layout, 20).seconds

        if what == "busy":
            return busy(pool_limit.WAIT)
        waits = [wait for wait in np.geomspace(0.25, 0.005, 60) if busy(wait) >= pool_limit.ENOUGH]
        return layout.actors / min(waits, default=np.inf)
    steady = simulate(from_json(json.dumps(content["costs"][row["costs"]])), machines, layout, row.get("updates", 12))
    costs = from_json(json.dumps(content["costs"][row["costs"]]))
    idle = costs.ray.idle + layout.actors * costs.ray.idle_actor if layout.actors else 0.0
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
            others = Others()
            measured = update.seconds(update.run(update.job(folder, next(numbers), **settings)), what)
            table.add(f"update, K = 100: {side}", "update", "step" if what == "update" else what, layout, measured,
                      others.share())  # fmt: skip
        for side, learners, actors in (("through Ray", 1, 2), ("in one process", 0, 0)):
            others = Others()
            spent = 1e3 * update.fixed(folder, numbers, learners=learners, actors=actors)
            table.add(f"fixed cost of an update {side}", "update, tiny", "cpu", Layout(2, 1, actors), spent,
                      others.share())  # fmt: skip


def own_cpu() -> float:
    """CPU seconds of this process and its children, those that have ended included."""
    own, total = psutil.Process(), 0.0
    for process in [own, *own.children(recursive=True)]:
        with contextlib.suppress(psutil.Error):
            times = process.cpu_times()
            total += times.user + times.system + times.children_user + times.children_system
    return total


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
        others, layout = Others(), Layout(number, 1, number, 1)
        share = pool_limit.busy_share(actors, pool_limit.WAIT)
        table.add(f"{number} actors, tasks of 250 ms: busy share", "", "busy", layout, share, others.share())
        if number == 16:
            others = Others()
            rate = pool_limit.saturation(actors)
            table.add("16 actors: rate at which the pool saturates", "", "saturation", layout, rate, others.share())
    for actor in actors:
        ray.kill(actor)


class Steps:
    """CPU seconds of this process and all that it starts, at the updates of a run that learns in this process."""

    def __init__(self, skip: int):
        self.skip, self.marks = skip, []

    @contextlib.contextmanager
    def counted(self):
        step = Worker.step

        def counted(worker, update):
            if update % self.skip == 0:
                self.marks.append((update, time.perf_counter(), own_cpu()))
            return step(worker, update)

        Worker.step = counted
        try:
            yield
        finally:
            Worker.step = step

    def per_update(self) -> tuple[float, float]:
        """Wall and CPU seconds, but for the first updates."""
        (first, *before), (last, *after) = self.marks[1], self.marks[-1]
        return tuple((b - a) / (last - first) for a, b in zip(before, after, strict=True))


def staleness_rows(table: Table, ray: RayCosts, folder: Path, seeds: tuple[int, ...], updates: int, cases: list[str]):
    """The study of staleness, on these cores, without its qualities."""
    args = staleness.Staleness(lags=LAGS, seeds=seeds, updates=updates, out=str(folder))
    arms = [staleness.Arm(lag, False) for lag in LAGS] + [staleness.Arm(max(LAGS), True)]
    for case in cases or staleness.CASES:
        table.calibrate(case, staleness._job(args, case, seeds[0], arms[0]), ray)
        for arm in arms:
            others, found = Others(), []
            for seed in seeds:
                job, steps = override(staleness._job(args, case, seed, arm), checkpoint_every=10**6), Steps(5)
                with steps.counted():
                    staleness._run(job)
                wall, cpu = steps.per_update()
                found.append({**staleness._costs(job), "wall": wall, "cpu": cpu})
            means = {name: statistics.mean(one[name] for one in found) for name in ("seconds", "waits", "wall", "cpu")}
            layout, share = Layout(2, 1, 2, arm.lag, arm.bounded, means["waits"]), others.share()
            table.add(f"{case}, {arm}", case, "step", layout, means["seconds"], share, updates=50)
            table.add(f"{case}, {arm}", case, "cpu", layout, 1e3 * means["cpu"], share, updates=50, wall=means["wall"])


def measure(cores: float, only: list[str], seeds: list[int], updates: int, cases: list[str], out: Path) -> dict:
    table = Table(cores, out)
    with tempfile.TemporaryDirectory() as name, connected():
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
    return table.content


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.planner", description=__doc__)
    parser.add_argument("--cores", type=float, default=float(len(os.sched_getaffinity(0))))
    parser.add_argument("--only", nargs="+", default=["update", "staleness", "pool"])
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
