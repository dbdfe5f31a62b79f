"""What a run costs while it works: CPU seconds of this process and all that it starts, between two of its updates."""

import contextlib
import json
import os
import statistics
import threading
import time
from pathlib import Path
from typing import NamedTuple

import psutil
import torch

from benchmarks import convnet
from pipeline.rng import generator
from pipeline.samplers.langevin import Langevin

SCAN_SECONDS = 1.0
"""Between two looks at all processes: what one has spent since the last is lost when it ends."""
POLL_SECONDS = 0.05
"""Between two looks at the log of a run."""
LONGEST_LINES = 8192
"""Bytes that have the last two lines of a log."""


class Spent:
    """CPU seconds of this process and of all that it has started, those that have ended included."""

    def __init__(self):
        self.own, self.seconds, self.lock = psutil.Process(), {}, threading.Lock()
        threading.Thread(target=self._watch, daemon=True).start()

    def _watch(self):
        while True:
            self.total()
            time.sleep(SCAN_SECONDS)

    def total(self) -> float:
        """Until now."""
        with self.lock:
            for process in [self.own, *self.own.children(recursive=True)]:
                with contextlib.suppress(psutil.Error):
                    times = process.cpu_times()
                    self.seconds[process.pid, process.create_time()] = times.user + times.system
            return sum(self.seconds.values())


class Others:
    """Cores that processes beside this one and its children use, of those that these may use."""

    def __init__(self, spent: Spent):
        self.spent = spent
        self.before, self.began = self._seconds(), time.perf_counter()

    def _seconds(self) -> float:
        cores = psutil.cpu_times(percpu=True)
        busy = sum(sum(cores[k]) - cores[k].idle - cores[k].iowait for k in os.sched_getaffinity(0))
        return busy - self.spent.total()

    def share(self) -> float:
        """Cores, since the start."""
        return max(0.0, self._seconds() - self.before) / (time.perf_counter() - self.began)


class Between(NamedTuple):
    """Two updates of a run."""

    wall: float
    """Seconds of an update."""
    cpu: float
    """CPU seconds of an update."""
    step: float
    """Mean of time/update."""


@contextlib.contextmanager
def between(spent: Spent, folder: Path, first: int, last: int):
    """A list that has the Between of two updates of the run in a folder, once they are in its log and the block ends.

    Nothing is looked at but then: to look at all processes costs as much as a small update.
    """
    marks, end, found = {}, threading.Event(), []

    def watch():
        while not end.wait(POLL_SECONDS):
            newest = newest_update(folder)
            for update in (first, last):
                if newest >= update and update not in marks:
                    marks[update] = newest, time.perf_counter(), spent.total()

    thread = threading.Thread(target=watch)
    thread.start()
    try:
        yield found
    finally:
        end.set()
        thread.join()
    if last not in marks:
        raise SystemExit(f"{folder}: the run has not come to update {last}: it diverged, or was stopped")
    (begin, *before), (until, *after) = marks[first], marks[last]
    wall, cpu = ((b - a) / (until - begin) for a, b in zip(before, after, strict=True))
    steps = [row["time/update"] for row in rows(folder) if first < row["update"] <= last]
    found.append(Between(wall, cpu, sum(steps) / len(steps)))


def newest_update(folder: Path) -> int:
    """Of the last whole line of a run's log so far; -1 if there is none."""
    path = folder / "metrics.jsonl"
    if not path.exists():
        return -1
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size - LONGEST_LINES))
        whole = file.read().rpartition(b"\n")[0].rpartition(b"\n")[2]
    return json.loads(whole)["update"] if whole else -1


def rows(folder: Path) -> list[dict]:
    """The lines of a run's log."""
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def reference() -> float:
    """Chain-steps a CPU second of `benchmarks.convnet` with 64 chains (nf 32): how fast the machine is now."""
    x = (2 * torch.rand(64, 3, 32, 32, generator=generator(0)) - 1).contiguous(memory_format=torch.channels_last)
    net, sampler, times = convnet.network(32, torch.channels_last), Langevin(2, 1.0, 0.01), []
    for _ in range(4):
        began = time.process_time()
        sampler(net, x, generator(0))
        times.append(time.process_time() - began)
    return 64 * 2 / statistics.median(times[1:])
