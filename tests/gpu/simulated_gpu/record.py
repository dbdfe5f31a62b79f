"""What a simulated GPU was asked for: events with the line of the project that caused them, and operators."""

import sys
from collections import Counter
from pathlib import Path
from types import FrameType
from typing import NamedTuple

import torch
from torch import Tensor

WAITS = ("read", "shape", "to host", "to device", "synchronize")
"""Kinds of events for which the host waits: a number that it reads, a shape that depends on numbers, copies that it
does not leave to the device, and the wait that is asked for by name."""
SAMPLERS = (".__call__", ".unrolled")
"""Ends of the names of functions that are loops of samplers, in files of SAMPLER_FILES."""
SAMPLER_FILES = ("pipeline/samplers/", "pipeline/evaluation/metrics/annealing.py")


class Event(NamedTuple):
    """Something that happened on the device, and where in the project."""

    kind: str
    """One of WAITS, "float64" or "tf32"."""
    operator: str
    file: str
    """Relative to the project's folder."""
    line: int
    function: str
    in_sampler: bool
    """Whether the loop of a sampler is on the stack."""

    @property
    def place(self) -> str:
        """`file:line`."""
        return f"{self.file}:{self.line}"

    @property
    def caller(self) -> str:
        """`file function`, which stays when lines move."""
        return f"{self.file} {self.function}"


class Record:
    """Counts events and operators of a project's code: that of the folders in `root`."""

    def __init__(self, root: Path, folders: tuple[str, ...]):
        self.root, self.folders = f"{root}/", folders
        self.events: Counter[Event] = Counter()
        self.operators: Counter[str] = Counter()
        self.refusals: list[tuple[str, str]] = []
        """The place of each refusal, and what was refused."""
        self._pinned: dict[int, torch.UntypedStorage] = {}

    def add(self, kind: str, operator: str) -> None:
        """Count an event at the innermost line of the project."""
        self.events[self._event(kind, operator)] += 1

    def refuse(self, why: str) -> None:
        """Raise what torch would. Raises RuntimeError."""
        place = self._event("refusal", "").place
        self.refusals.append((place, why))
        raise RuntimeError(f"{why} (at {place})")

    def pin(self, tensor: Tensor) -> None:
        """Take a host tensor's memory for pinned."""
        storage = tensor.untyped_storage()
        self._pinned[storage.data_ptr()] = storage

    def is_pinned(self, tensor: Tensor) -> bool:
        """Whether a host tensor's memory is pinned."""
        return tensor.untyped_storage().data_ptr() in self._pinned

    def waits(self, in_sampler: bool | None = None) -> Counter[str]:
        """How often the host waited, by caller; with `in_sampler`, only inside or outside of samplers."""
        found: Counter[str] = Counter()
        for event, count in self.events.items():
            if event.kind in WAITS and in_sampler in (None, event.in_sampler):
                found[event.caller] += count
        return found

    def _event(self, kind: str, operator: str) -> Event:
        where, in_sampler = None, False
        frame: FrameType | None = sys._getframe(2)
        while frame:
            name = frame.f_code.co_filename
            if name.startswith(self.root) and name[len(self.root) :].startswith(self.folders):
                file, function = name[len(self.root) :], frame.f_code.co_qualname.partition(".<locals>")[0]
                where = where or (file, frame.f_lineno, function)
                in_sampler = in_sampler or (file.startswith(SAMPLER_FILES) and function.endswith(SAMPLERS))
            frame = frame.f_back
        return Event(kind, operator, *(where or ("outside of the project", 0, "")), in_sampler)
