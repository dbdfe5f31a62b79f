"""The tests in `isolated`, in a process of their own: torch learns of the simulated GPU once, for good."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch.utils import backend_registration

pytestmark = pytest.mark.skipif(
    not hasattr(backend_registration, "_setup_privateuseone_for_python_backend"),
    reason=f"torch {torch.__version__} has no devices written in Python",
)


@pytest.mark.parametrize("chosen", [["-m", "not slow"], pytest.param([], marks=pytest.mark.slow)], ids=["fast", "all"])
def test_the_project_on_a_simulated_gpu(chosen):
    tests = [str(Path(__file__).with_name("isolated")), "-p", "no:cacheprovider"]
    own = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    own["SIMULATED_GPU_CACHE"] = own["EBM_CACHE"]
    done = subprocess.run([sys.executable, "-m", "pytest", *tests, *chosen], env=own, capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-10_000:] + done.stderr[-2000:]
