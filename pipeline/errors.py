"""What ends a run with one line instead of a traceback."""


class BadInput(Exception):
    """A setting, file or resource that the run cannot use; its text is one line that says which and why."""


class Unanswered(Exception):
    """A task came back from none of the actors it was given to; its text names the task."""


class Unwritable(OSError):
    """A file of the run cannot be written (a full disk, a folder that is gone); its text names the file."""


class TakenOver(Exception):
    """The run was begun or resumed elsewhere in the meantime; its text says by whom."""


class Lost(Exception):
    """The learners died again and again without coming further; its text says of what."""
