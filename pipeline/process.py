"""What every process that computes does first."""

import contextlib
import ctypes
import os
import sys

import torch

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""Of glibc's mallopt."""


def configure_process(threads: int) -> None:
    """Take so many CPU threads, and keep memory that was freed for what comes next.

    A network's activations are allocated and freed at each step of a chain. glibc by itself hands such sizes back to
    the system each time and has them zeroed again: of a ConvNet's steps, up to a sixth of the time.
    """
    torch.set_num_threads(threads)
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(MMAP_THRESHOLD, 32 * 2**20)  # the largest that it takes
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)


def lower_priority() -> None:
    """Let every other process go first: this one takes the time that is left, on all its threads."""
    if sys.platform != "linux":
        os.nice(19)
        return
    for thread in os.listdir("/proc/self/task"):  # of which each has a niceness of its own
        with contextlib.suppress(ProcessLookupError):  # which has ended
            os.setpriority(os.PRIO_PROCESS, int(thread), 19)
