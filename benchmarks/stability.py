"""How many runs of a preset hold on data that it was not made on: data sets by seeds, and a table of them.

python -m benchmarks.stability DATA [DATA ...] --out FOLDER [--job short_run mnist] [--seeds 10] [--flags "..."]: each
run is `python -m jobs.<job> --data DATA --seed SEED FLAGS` in one process without Ray, in FOLDER/<data>-<seed>.
What has been run is not run again, and a second command on the same folder takes the runs that the first has not begun.
A run holds where it finishes with exit code 0, and has diverged where its result says so. A run that was interrupted is
named below the table; remove its folder to run it again.
"""

import argparse
import json
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from tqdm import tqdm


def run_once(job: list[str], flags: list[str], data: str, seed: int, folder: Path) -> None:
    """One run, unless its folder has been claimed."""
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        return
    line = [sys.executable, "-m", f"jobs.{job[0]}", *job[1:], "--data", data, "--seed", str(seed), *flags]
    with (folder / "log").open("w") as log:
        done = subprocess.run(
            [*line, "--learners", "0", "--actors", "0", "--out", str(folder / "run")], stdout=log, stderr=log
        )
    if done.returncode == 2:
        error = (folder / "log").read_text()
        shutil.rmtree(folder)
        raise SystemExit(error)
    (folder / "exit.json").write_text(json.dumps({"code": done.returncode, "command": line[1:]}))


def outcome(folder: Path) -> dict[str, Any]:
    """Whether a run held, its last numbers, and where it diverged."""
    code = json.loads((folder / "exit.json").read_text())["code"]
    path = folder / "run" / "result.json"
    result = json.loads(path.read_text()) if path.exists() else {}
    metrics = result.get("metrics", {})
    logged = folder / "run" / "metrics.jsonl"
    rows = [json.loads(row) for row in logged.read_text().splitlines()] if logged.exists() else []
    ratios = [value for row in rows for name, value in row.items() if name.endswith("step_ratio")]
    return {
        "held": code == 0,
        "diverged": result.get("diverged"),
        "frechet": metrics.get("frechet", {}).get("value", float("nan")),
        "floor": metrics.get("frechet_floor", {}).get("value", float("nan")),
        "step_ratio": max(ratios, default=float("nan")),
        "cpu_seconds": result.get("cpu_seconds", float("nan")),
    }


def table(folder: Path) -> Iterator[str]:
    """Lines in Markdown, one a data set."""
    yield "| data | held | Fréchet: median, range | floor | greatest step_ratio | CPU s a run | diverged at, by seed |"
    yield "|---|---|---|---|---|---|---|"
    by_data: dict[str, dict[int, dict[str, Any]]] = {}
    for path in sorted(folder.glob("*/exit.json")):
        data, _, seed = path.parent.name.rpartition("-")
        by_data.setdefault(data, {})[int(seed)] = outcome(path.parent)
    for data, runs in by_data.items():
        held = [one for one in runs.values() if one["held"]]
        lost = {seed: (one["diverged"] or {}).get("update", "?") for seed, one in runs.items() if not one["held"]}
        frechet, floor, seconds = (
            [one[name] for one in held] or [float("nan")] for name in ("frechet", "floor", "cpu_seconds")
        )
        frechet = [one for one in frechet if not np.isnan(one)] or [float("nan")]  # of the runs that were evaluated
        ratio = max(one["step_ratio"] for one in runs.values())
        yield (
            f"| {data} | {len(held)} of {len(runs)}"
            f" | {np.median(frechet):.3g}, {min(frechet):.3g} to {max(frechet):.3g} | {np.nanmean(floor):.2g}"
            f" | {ratio:.2g} | {np.mean(seconds):.0f} | {', '.join(f'{k}: {u}' for k, u in sorted(lost.items()))} |"
        )


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.stability", description=__doc__)
    parser.add_argument("data", nargs="+", help="as --data of a job takes it")
    parser.add_argument("--out", type=Path, required=True, help="folder of the runs")
    parser.add_argument("--job", nargs=2, default=["short_run", "mnist"], metavar=("JOB", "PRESET"))
    parser.add_argument("--seeds", type=int, default=10, help="seeds 0, 1, ... a data set")
    parser.add_argument("--flags", default="", help="further flags of the job, in one string")
    asked = parser.parse_args()
    if len({Path(data).stem for data in asked.data}) < len(asked.data):
        parser.error("two data sets of one name would share their folders")
    for seed, data in tqdm([(seed, data) for seed in range(asked.seeds) for data in asked.data], unit="run"):
        run_once(asked.job, shlex.split(asked.flags), data, seed, asked.out / f"{Path(data).stem}-{seed}")
    print("\n".join(table(asked.out)))
    for folder in sorted(asked.out.iterdir()):
        if not (folder / "exit.json").exists():
            print(f"not ended: {folder}")


if __name__ == "__main__":
    main()
