"""One report on a machine with a GPU: is it correct, how fast is it, and what do the presets cost there?

  python -m benchmarks.gpu --out gpu-report.json

runs tests/gpu on the GPU (every recipe, held against the CPU), the benchmarks that compute on one, and measures the
parts of an update of the presets for GPUs, on random pictures. The file is to be sent: it has versions, the GPU and its
driver, every test with its errors, all rates and costs, and the last lines of whatever failed, which may name folders
of yours. Nothing that fails ends the command. Exit code 0: all passed; 1: something failed; 2: there is no GPU, or the
file cannot be written.
"""

import argparse
import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import traceback
from dataclasses import replace
from functools import partial
from importlib.metadata import version
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import torch

from jobs.cli.experiment import load_experiment, named_presets
from pipeline.planning.costs import to_json
from pipeline.runs.job import override
from pipeline.training.calibration import as_costs, measure_job

ROOT = Path(__file__).parents[1]
BENCHMARKS = ("convnet", "latent", "posterior", "flow")
"""Those that compute on a GPU where there is one."""
PRESETS = (
    "short_run cifar10",
    "short_run celeba",
    "anatomy cifar10-convergent",
    "latent_prior svhn",
    "latent_prior cifar10",
    "cooperative cifar10",
)
PACKAGES = ("torch", "torchvision", "ray", "numpy", "zuko", "ebm-pipeline")
PRECISIONS = ("highest", "tf32", "bf16")
LAST_LINES = 15
"""Of a failure."""


def machine(device: torch.device) -> dict[str, object]:
    """Versions and hardware."""
    about: dict[str, object] = {
        "date": time.strftime("%Y-%m-%d"),
        "python": platform.python_version(),
        "system": platform.platform(),
        "cores": os.cpu_count(),
        "packages": {name: version(name) for name in PACKAGES},
        "device": device.type,
        "cuda": torch.version.cuda,
        "cudnn": torch.backends.cudnn.version(),
    }
    if device.type == "cuda":
        gpus = [torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count())]
        about["gpus"] = [
            {"name": gpu.name, "capability": f"{gpu.major}.{gpu.minor}", "GB": round(gpu.total_memory / 1e9, 1)}
            for gpu in gpus
        ]
    if shutil.which("nvidia-smi"):
        query = ["nvidia-smi", "--query-gpu=name,driver_version,memory.used,utilization.gpu", "--format=csv,noheader"]
        about["driver"] = subprocess.run(query, capture_output=True, text=True).stdout.strip().splitlines()
    return about


def tests(device: torch.device, chosen: str) -> dict[str, object]:
    """Every test of tests/gpu on the device, with its errors; `chosen` as pytest's -k."""
    with tempfile.TemporaryDirectory() as folder:
        xml = f"{folder}/tests.xml"
        command = [sys.executable, "-m", "pytest", "tests/gpu/test_on_device.py", f"--junitxml={xml}", "-p", "no:xdist"]
        command += ["-p", "no:cacheprovider", "-o", "junit_family=xunit1", *(["-k", chosen] if chosen else [])]
        own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
        done = subprocess.run(
            command, cwd=ROOT, env={**own, "EBM_TEST_DEVICE": device.type}, capture_output=True, text=True
        )
        if not Path(xml).exists():
            return {"failed": 1, "output": (done.stdout + done.stderr).splitlines()[-LAST_LINES:]}
        cases = [_case(one) for one in ElementTree.parse(xml).iter("testcase")]
    counts = {kind: sum(one["outcome"] == kind for one in cases) for kind in ("passed", "failed", "skipped")}
    return {**counts, "cases": cases}


def _case(element: ElementTree.Element) -> dict[str, object]:
    about: dict[str, object] = {"name": element.get("name"), "seconds": float(element.get("time", 0))}
    about["errors"] = {one.get("name"): one.get("value") for one in element.iter("property")}
    for kind, outcome in (("failure", "failed"), ("error", "failed"), ("skipped", "skipped")):
        if (found := element.find(kind)) is not None:
            return {**about, "outcome": outcome, "why": (found.text or "").splitlines()[-LAST_LINES:]}
    return {**about, "outcome": "passed"}


def rates(names: list[str]) -> dict[str, object]:
    """The rows of these benchmarks."""

    def rows(name: str) -> list[dict[str, object]]:
        return [row._asdict() for row in importlib.import_module(f"benchmarks.{name}").rows()]

    return {name: attempt(partial(rows, name)) for name in names}


def costs(preset: str, precision: str, device: torch.device) -> dict[str, object]:
    """The costs of a preset, as `jobs.plan --costs` reads them."""
    experiment, name = preset.split()
    job, usual = named_presets(load_experiment(experiment))[name], ("digits", "eight-gaussians")
    with tempfile.TemporaryDirectory() as folder:
        if job.data.source not in usual:
            side, path = 64 if job.data.source == "celeba" else 32, f"{folder}/pictures.npz"
            images = np.random.default_rng(0).integers(0, 256, (2000, side, side, 3), np.uint8)
            np.savez(path, images=images, labels=np.arange(2000) % 10)
            job = override(job, source=path, max_items=0)
        return json.loads(to_json(as_costs(job, measure_job(replace(job, precision=precision), device), device)))


def attempt(call) -> object:
    """What a call returns; where it fails, the last lines of why, since the rest of the report is of use, too."""
    try:
        return call()
    except Exception:
        return {"failed": traceback.format_exc().splitlines()[-LAST_LINES:]}


def report(device: torch.device, chosen: str, benchmarks: list[str], presets: list[str]) -> dict[str, object]:
    content: dict[str, object] = {"machine": machine(device)}
    print("tests (minutes)", file=sys.stderr)
    content["tests"] = tests(device, chosen)
    print("benchmarks", file=sys.stderr)
    content["benchmarks"] = rates(benchmarks)
    content["costs"] = {}
    precisions = PRECISIONS if device.type == "cuda" else PRECISIONS[:1]
    for preset in presets:
        for precision in precisions:
            print(f"costs of {preset} at {precision}", file=sys.stderr)
            content["costs"][f"{preset}, {precision}"] = attempt(partial(costs, preset, precision, device))
    return content


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.gpu", description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)  # fmt: skip
    parser.add_argument("--out", default="gpu-report.json", help="new file of the report")
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="cpu: to try the command itself")
    parser.add_argument("--tests", default="", metavar="EXPRESSION", help="only these tests, as pytest's -k")
    parser.add_argument("--benchmarks", nargs="*", default=BENCHMARKS, choices=BENCHMARKS, metavar="NAME")
    parser.add_argument("--presets", nargs="*", default=PRESETS, metavar="'EXPERIMENT PRESET'")
    args = parser.parse_args()
    if args.device == "cuda" and not torch.cuda.is_available():
        built = f"for CUDA {torch.version.cuda}" if torch.version.cuda else "without CUDA"
        print(f"there is no GPU that torch {torch.__version__}, built {built}, can use", file=sys.stderr)
        return 2
    out = Path(args.out)
    if out.exists() or not out.absolute().parent.is_dir():
        why = "exists: choose another file" if out.exists() else "is in no folder that exists"
        print(f"--out {out} {why}", file=sys.stderr)
        return 2
    content = report(torch.device(args.device), args.tests, list(args.benchmarks), list(args.presets))
    out.write_text(json.dumps(content, indent=1) + "\n")
    counts = content["tests"]
    measured = [*content["benchmarks"].values(), *content["costs"].values()]
    others = sum(isinstance(one, dict) and "failed" in one for one in measured)
    print(f"{counts.get('passed', 0)} tests passed, {counts['failed']} failed, and {others} of {len(measured)} "
          f"measurements; the report is in {out}")  # fmt: skip
    return int(bool(counts["failed"] or others or not counts.get("passed")))


if __name__ == "__main__":
    sys.exit(main())
