"""Settings of the operating system that every computing process makes first, and the memory that it took."""

import contextlib
import ctypes
import os
import resource
import sys

import torch

from pipeline.errors import InputError
from pipeline.precision import allow_tf32

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""Parameters of glibc's mallopt."""


def configure_process(threads: int, deterministic: bool = False) -> None:
    """Use `threads` CPU threads, round nothing to TF32, and keep freed memory for the next allocation.

    Where `deterministic`, operators take algorithms that repeat bit for bit on a GPU, too; one that has none says so in
    a warning when it is first used.

    Each step of a chain allocates and frees a network's activations. By default glibc returns blocks of this size to
    the system, which zeroes them again each time: up to a sixth of the time of a ConvNet's steps.
    """
    torch.set_num_threads(threads)
    allow_tf32(False)
    if deterministic:
        os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # as cuBLAS asks for
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]  # it is never read
    if deterministic != torch.are_deterministic_algorithms_enabled():  # to say so imports torch's compiler: seconds
        torch.use_deterministic_algorithms(deterministic, warn_only=True)
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(MMAP_THRESHOLD, 32 * 2**20)  # the largest value that glibc accepts
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)


def pick_device(name: str, on_ray: bool = False) -> torch.device:
    """The device that a setting `device` means for this process.

    Args:
        name: auto, cpu or cuda.
        on_ray: whether Ray gives GPUs to the command's other processes. It gives none to this one, which stays on the
            CPU then: the first GPU that it sees may be another process's.

    Raises:
        InputError: there is no such device for it.
    """
    if on_ray:
        if name == "cuda":
            why = "Ray gives GPUs to its own processes, not to this one: use gpus_per_learner or gpus_per_actor"
            raise InputError(why, "device", name)
        return torch.device("cpu")
    if name == "cuda" and not torch.cuda.is_available():
        raise InputError("this machine has no GPU that torch can use", "device", name)
    auto = "cuda" if torch.cuda.is_available() else "cpu"
    return torch.device(auto if name == "auto" else name)


def lower_priority() -> None:
    """Give every thread of this process the lowest priority, so that it uses only idle time."""
    if sys.platform != "linux":
        os.nice(19)
        return
    for thread in os.listdir("/proc/self/task"):  # on Linux, niceness belongs to a thread
        with contextlib.suppress(ProcessLookupError):  # a thread that has just ended
            os.setpriority(os.PRIO_PROCESS, int(thread), 19)


def peak_memory() -> int:
    """Resident bytes of this process at its most."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)
