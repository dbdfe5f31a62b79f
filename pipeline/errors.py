"""Errors that end a command with one line instead of a traceback."""

from dataclasses import dataclass
from typing import ClassVar


class RunError(Exception):
    """Base of the errors that a run or a command reports in one line.

    >>> from pipeline import Langevin
    >>> try:
    ...     Langevin(steps=-1, drift=1.0, noise=0.1)
    ... except RunError as error:
    ...     print(error)
    steps=-1: must be greater than or equal to 0
    """

    exit_code: ClassVar[int] = 1
    """Exit code of a command that ends with this error."""


class InputError(RunError):
    """A setting, file or resource that cannot be used.

    Args:
        why: the reason, one line.
        field: the setting in question; empty where there is no single one.
        value: its value.

    >>> str(InputError("must be 1 or more", "width", 0))
    'width=0: must be 1 or more'
    """

    exit_code = 2

    def __init__(self, why: str, field: str = "", value: object = None):
        super().__init__(why, field, value)
        self.why, self.field, self.value = why, field, value

    def __str__(self) -> str:
        return f"{self.field}={self.value}: {self.why}" if self.field else self.why


class TaskTimeout(RunError):
    """No actor returned a task, after several tries."""


class RunWriteError(RunError, OSError):
    """A file of the run cannot be written: the disk is full, or the folder is gone."""


class RunReadError(RunError):
    """A file of the run cannot be read, though it may exist: the object store does not answer."""


class LeaseLost(RunError):
    """Another command, or a newer group of learners, took over the run."""


class LearnersLost(RunError):
    """The learners died again and again without a new checkpoint in between."""


@dataclass(eq=False)
class Diverged(RunError):
    """A quantity is not finite, or far outside its history. The newest checkpoint was written before that.

    >>> print(Diverged("energy/gap", update=70, version=69, lane=-1, seed=3))
    diverged: energy/gap not finite at update 70 (all lanes, seed 3, chains moved under the weights of update 69)
    """

    quantity: str
    update: int
    version: int
    """The update whose weights moved the chains."""
    lane: int
    """-1 where the quantity belongs to no lane."""
    seed: int
    """The seed of the lane's chains, or the run's."""
    fault: str = "not finite"

    def __str__(self) -> str:
        place = f"lane {self.lane}" if self.lane >= 0 else "all lanes"
        return (
            f"diverged: {self.quantity} {self.fault} at update {self.update} ({place}, seed {self.seed}, "
            f"chains moved under the weights of update {self.version})"
        )

    def __reduce__(self) -> tuple[object, ...]:
        return type(self), (self.quantity, self.update, self.version, self.lane, self.seed, self.fault)


STOP_CODES = {"time": 0, "SIGHUP": 129, "SIGINT": 130, "SIGTERM": 143}
"""Exit codes of a command that was asked to stop, by reason: those of a shell, and 0 for a budget of time."""


class Stopped(KeyboardInterrupt):
    """A signal or a budget of time ended the work, which can go on where it stopped.

    It is a KeyboardInterrupt, so that no `except Exception` takes it for a fault.

    Args:
        reason: a key of STOP_CODES.
    """

    def __init__(self, reason: str):
        super().__init__(reason)
        self.reason = reason

    @property
    def exit_code(self) -> int:
        """Exit code of a command that ends with it."""
        return STOP_CODES[self.reason]
