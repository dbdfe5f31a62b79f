"""Where the simulated GPU is there: inside a block, or in all threads of a worker process of Ray."""

import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch.optim import optimizer
from torch.utils import backend_registration

from simulated_gpu import autocast
from simulated_gpu.device import Device, records
from simulated_gpu.generators import Generator
from simulated_gpu.record import Record
from simulated_gpu.tensor import BACKEND, GpuTensor

PROJECT = Path(__file__).parents[3]
"""Folder of the project whose lines a record names."""
PROPERTIES = SimpleNamespace(name="simulated", major=9, minor=0, total_memory=80 << 30, multi_processor_count=132)


class _Backend(backend_registration._DummyBackendModule):
    """What torch asks a foreign backend for."""

    def get_rng_state(self, device: Any = None) -> torch.Tensor:
        return torch.get_rng_state()

    def set_rng_state(self, state: torch.Tensor, device: Any = None) -> None:
        torch.set_rng_state(state)


@cache
def _register() -> None:
    """Tell torch of the device; it never forgets it."""
    backend_registration._setup_privateuseone_for_python_backend(BACKEND, backend_module=_Backend())
    autocast.register()
    torch._C._ensureCUDADeviceGuardSet()  # so that "cuda" without an index is cuda:0


def _cuda() -> dict[str, Callable[..., Any]]:
    """What stands for functions of `torch.cuda`. The GPU's global generator is the CPU's."""

    def wait(*args: Any) -> None:
        records[-1].add("synchronize", "torch.cuda.synchronize")

    return {
        "_lazy_init": lambda: None,
        "current_device": lambda: 0,
        "_exchange_device": lambda device: 0,
        "_maybe_exchange_device": lambda device: 0,
        "device_count": lambda: 1,
        "empty_cache": lambda: None,
        "get_device_capability": lambda device=None: (PROPERTIES.major, PROPERTIES.minor),
        "get_device_properties": lambda device=None: PROPERTIES,
        "get_rng_state": lambda device=None: torch.get_rng_state(),
        "is_available": lambda: True,
        "is_bf16_supported": lambda *args, **kwargs: True,
        "manual_seed": lambda seed: None,
        "manual_seed_all": lambda seed: None,
        "set_device": lambda device: None,
        "set_rng_state": lambda state, device=None: torch.set_rng_state(state),
        "synchronize": wait,
    }


@contextmanager
def simulated_gpu(root: Path = PROJECT, folders: tuple[str, ...] = ("pipeline/", "jobs/")) -> Iterator[Record]:
    """Inside the block there is a GPU; yields the record of what it is asked for.

    Args:
        root: folder of the project.
        folders: in it, whose lines the record names.
    """
    _register()
    record = Record(root, folders)
    with ExitStack() as stack:
        for name, function in _cuda().items():
            stack.enter_context(mock.patch.object(torch.cuda, name, function))
        stack.enter_context(mock.patch.object(torch, "Generator", Generator))
        enable = autocast.set_enabled(torch.set_autocast_enabled)
        stack.enter_context(mock.patch.object(torch, "set_autocast_enabled", enable))
        optimizer._foreach_supported_types.append(GpuTensor)  # as for a GPU, many tensors at once
        stack.callback(optimizer._foreach_supported_types.remove, GpuTensor)
        records.append(record)
        stack.callback(records.pop)
        stack.enter_context(_in_this_thread())
        yield record


@contextmanager
def _in_this_thread() -> Iterator[None]:
    """What torch has for each thread of its own."""
    lifts = torch._C._only_lift_cpu_tensors()
    torch._C._set_only_lift_cpu_tensors(True)  # torch.tensor(..., device="cuda") is made on the host, and then copied
    try:
        with torch.autograd.set_multithreading_enabled(False), Device():  # the way back has the caller's stack, too
            yield
    finally:
        torch._C._set_only_lift_cpu_tensors(lifts)


def simulate_in_workers() -> None:
    """Give a worker process a simulated GPU for good, in each of its threads: a `worker_process_setup_hook` of Ray.

    Where SIMULATED_GPU_LOG names a folder, the process writes the number of its operators into a file there, from time
    to time.
    """
    entered = ExitStack()
    record = entered.enter_context(simulated_gpu())
    _forever.append(entered)
    run = threading.Thread.run

    def run_with_gpu(self: threading.Thread) -> None:
        with _in_this_thread():
            run(self)

    threading.Thread.run = run_with_gpu  # type: ignore[method-assign]
    if folder := os.environ.get("SIMULATED_GPU_LOG"):
        threading.Thread(target=_report, args=(record, Path(folder)), daemon=True).start()


_forever: list[ExitStack] = []


def _report(record: Record, folder: Path) -> None:
    pause = threading.Event()
    while not pause.wait(0.5):
        if record.operators:
            (folder / f"{os.getpid()}").write_text(str(record.operators.total()))
