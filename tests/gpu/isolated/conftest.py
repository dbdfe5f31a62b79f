"""These tests run in a process of their own, which `test_simulated_gpu.py` starts: torch never forgets the device."""

import os

import pytest

from pipeline.process import configure_process


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """The cache of the process that started this one, so that classifiers are trained once."""
    os.environ["EBM_CACHE"] = os.environ.get("SIMULATED_GPU_CACHE") or str(tmp_path_factory.mktemp("cache"))
    configure_process(1)  # as every command does
