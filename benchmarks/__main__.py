"""Run the benchmarks, one after the other, and keep what they measure.

Each is a module of this package with a function `rows`; `--only` chooses some. Rows go to results.json, beside those
that were measured before, with the machine, torch, threads and date of each; `--table` writes them as Markdown.
"""

import argparse
import importlib
import json
import os
import platform
import sys
import time
from pathlib import Path

import torch

from benchmarks.timing import quiet

NAMES = (
    "convnet",
    "latent",
    "posterior",
    "flow",
    "update",
    "pool_limit",
    "memory",
    "data",
    "bulk_sampling",
    "search",
    "quality",
)
"""Those that there are, in the order in which they run."""
RESULTS = Path(__file__).parent / "results.json"


def machine() -> dict[str, object]:
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    known = Path("/proc/cpuinfo")
    lines = known.read_text().splitlines() if known.exists() else []
    model = next((line.split(":")[1].strip() for line in lines if "model name" in line), platform.processor())
    return {"cpu": model, "cores": os.cpu_count(), "gpu": gpu, "torch": torch.__version__}


def _told(number: float) -> str:
    return f"{number:,.0f}" if number >= 1000 else f"{number:.3g}"


def table(results: dict[str, dict]) -> str:
    lines = ["| measured | ours | other | ratio | unit |", "|---|---|---|---|---|"]
    for found in results.values():
        lines += [
            f"| {row['name']} | {_told(row['ours'])} | {_told(row['other'])} | {row['ratio']:.2f} | {row['unit']} |"
            for row in found["rows"]
        ]
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", nargs="+", choices=NAMES, default=NAMES, metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--table", action="store_true", help="measure nothing; print what was measured as Markdown")
    asked = parser.parse_args()
    results = json.loads(RESULTS.read_text()) if RESULTS.exists() else {}
    if not asked.table:
        torch.set_num_threads(1)
        for name in asked.only:
            quiet()
            began = time.time()
            rows = importlib.import_module(f"benchmarks.{name}").rows()
            about = {**machine(), "date": time.strftime("%Y-%m-%d"), "seconds": round(time.time() - began)}
            results[name] = {**about, "rows": [row._asdict() for row in rows]}
            ordered = {known: results[known] for known in NAMES if known in results}
            RESULTS.write_text(json.dumps(ordered, indent=2) + "\n")
            print(table({name: results[name]}), file=sys.stderr)
    print(table(results))


if __name__ == "__main__":
    main()
