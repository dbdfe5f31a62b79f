"""The command that makes a report on a machine with a GPU, tried on the CPU."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from pipeline.planning.costs import from_json

ROOT = Path(__file__).parents[2]


def report(*flags):
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    command = [sys.executable, "-m", "benchmarks.gpu", *flags]
    return subprocess.run(command, cwd=ROOT, env=own, capture_output=True, text=True)


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_and_writes_nothing(tmp_path):
    done = report("--out", str(tmp_path / "report.json"))
    assert done.returncode == 2
    assert done.stderr.startswith("there is no GPU that torch")
    assert done.stderr.count("\n") == 1
    assert not list(tmp_path.iterdir())


def test_it_overwrites_no_file(tmp_path):
    (tmp_path / "report.json").write_text("mine")
    done = report("--device", "cpu", "--out", str(tmp_path / "report.json"))
    assert (done.returncode, (tmp_path / "report.json").read_text()) == (2, "mine")


@pytest.mark.slow
def test_the_report_has_versions_tests_with_errors_costs_and_what_failed(tmp_path):
    flags = [
        "--device",
        "cpu",
        "--tests",
        "rounding or noise",
        "--benchmarks",
        "--presets",
        "short_run eight-gaussians",
    ]
    done = report(*flags, "short_run nothing", "--out", str(tmp_path / "report.json"))
    assert done.returncode == 1, done.stderr  # one preset does not exist
    found = json.loads((tmp_path / "report.json").read_text())
    assert found["machine"]["packages"]["torch"] == torch.__version__.partition("+")[0]
    assert (found["tests"]["passed"], found["tests"]["failed"]) == (3, 0)
    errors = {one["name"]: one["errors"] for one in found["tests"]["cases"]}
    assert float(errors["test_rounding_stays_small[tf32]"]["tf32"].split()[0]) == 0  # a CPU rounds nothing
    assert float(errors["test_rounding_stays_small[bf16]"]["bf16"].split()[0]) > 0
    whole, none = found["costs"].values()
    costs = from_json(json.dumps(whole))
    assert (costs.name, costs.job.chains["model"].count) == ("short_run-eight-gaussians", 100)
    assert none["failed"][-1] == "KeyError: 'nothing'"
    assert "3 tests passed, 0 failed, and 1 of 2 measurements" in done.stdout
