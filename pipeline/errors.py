"""What a user did that cannot be done, told in one line."""


class BadInput(Exception):
    """A setting, file or resource that the run cannot use; its text is one line that says which and why."""
