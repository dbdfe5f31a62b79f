"""What every process that computes does first."""

import contextlib
import ctypes
import os
import sys
from pathlib import Path

import torch

MMAP_THRESHOLD, TRIM_THRESHOLD = -3, -1
"""Of glibc's mallopt."""


def prepare(threads: int) -> None:
    """Take so many CPU threads, and keep memory that was freed for what comes next.

    A network's activations are allocated and freed at each step of a chain. glibc by itself hands such sizes back to
    the system each time and has them zeroed again: of a ConvNet's steps, up to a sixth of the time.
    """
    torch.set_num_threads(threads)
    if sys.platform == "linux" and hasattr(libc := ctypes.CDLL(None), "mallopt"):
        libc.mallopt(MMAP_THRESHOLD, 32 * 2**20)  # the largest that it takes
        libc.mallopt(TRIM_THRESHOLD, 2**31 - 1)


def yielding() -> None:
    """Let every other process go first: this one takes the time that is left, on all its threads.

    Where Linux groups processes by session before it looks at their niceness, that of the group counts; so it is
    lowered as well, but only where the session is this process's own: others in it would starve.
    """
    if sys.platform != "linux":
        os.nice(19)
        return
    with contextlib.suppress(OSError):  # it leads a group of processes already
        os.setsid()
    if os.getsid(0) == os.getpid():
        with contextlib.suppress(OSError):  # there are no such groups
            Path("/proc/self/autogroup").write_text("19")
    for thread in os.listdir("/proc/self/task"):
        with contextlib.suppress(ProcessLookupError):  # which has ended
            os.setpriority(os.PRIO_PROCESS, int(thread), 19)
