"""What ends a run with one line instead of a traceback."""


class BadInput(Exception):
    """A setting, file or resource that the run cannot use; its text is one line that says which and why."""


class Unanswered(Exception):
    """A task came back from none of the actors it was given to; its text names the task."""
