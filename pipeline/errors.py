"""What ends a run with one line instead of a traceback."""

from dataclasses import dataclass


class InputError(Exception):
    """A setting, file or resource that the run cannot use; its text is one line that says which and why."""


class TaskTimeout(Exception):
    """A task came back from none of the actors it was given to; its text names the task."""


class RunWriteError(OSError):
    """A file of the run cannot be written (a full disk, a folder that is gone); its text names the file."""


class LeaseLost(Exception):
    """The run was begun or resumed elsewhere in the meantime; its text says by whom."""


class LearnersLost(Exception):
    """The learners died again and again without coming further; its text says of what."""


@dataclass(eq=False)
class Diverged(Exception):
    """A quantity is no longer what it may be. The newest checkpoint was written before that."""

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
