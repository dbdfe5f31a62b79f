"""Running a command: its errors become one line on stderr and an exit code."""

import os
import select
import sys
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from urllib.parse import unquote

from pipeline.errors import InputError, RunError
from pipeline.runs.uri import CREDENTIALS, without_secrets

FLAG_NAMES = {"source": "data"}
"""Flags whose name is not that of their field."""
POSITIONAL = {"run", "runs", "experiment", "preset"}
"""Fields that are arguments without a flag."""
INTERRUPTED = 130
CLOSED_PIPE = 141
"""Exit codes of a shell for SIGINT and SIGPIPE."""


def run_command(main: Callable[[Sequence[str]], None], args: Sequence[str] | None = None) -> None:
    """Run a command; every RunError is one line on stderr and its exit code.

    A reader that closes the pipe, as `| head` does, ends the command without a message.

    Args:
        main: the command.
        args: its arguments; None: those of this process.
    """
    try:
        try:
            main(take_credentials(sys.argv[1:] if args is None else args))
        finally:
            sys.stdout.flush()
    except RunError as e:
        print(f"error: {without_secrets(describe(e))}", file=sys.stderr)
        sys.exit(e.exit_code)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(INTERRUPTED)
    except BrokenPipeError:
        if not _is_closed(sys.stdout.fileno()):
            raise
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at exit
        sys.exit(CLOSED_PIPE)


def take_credentials(args: Sequence[str]) -> list[str]:
    """The arguments without the keys in s3:// URIs, so that no run writes them down.

    This process, and those that it starts, find the keys in their environment instead.

    Raises:
        InputError: the URIs have different keys, or other secrets.
    """
    keys = {match.group("user", "password") for arg in args for match in CREDENTIALS.finditer(arg)}
    bare = [CREDENTIALS.sub(r"\g<scheme>", arg) if "s3://" in arg else arg for arg in args]
    if len(keys) > 1 or any(without_secrets(arg) != arg for arg in bare):
        raise InputError("URIs hold different keys, or secrets that only the environment may hold")
    for user, password in keys:
        os.environ.update(AWS_ACCESS_KEY_ID=unquote(user), AWS_SECRET_ACCESS_KEY=unquote(password))
        os.environ.pop("AWS_SESSION_TOKEN", None)
    return bare


def _is_closed(descriptor: int) -> bool:
    """Whether nobody reads the other end of a pipe."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return bool(poll.poll(0))


def describe(error: RunError) -> str:
    """The error in one line, with the flag of the field that it names."""
    if not isinstance(error, InputError) or not error.field:
        return str(error)
    value = "" if error.value is None else f" {_word(error.value)}"
    return f"{flag_of(error.field)}{value}: {error.why}"


def flag_of(field: str) -> str:
    """How a command line names a field."""
    return field if field in POSITIONAL else f"--{FLAG_NAMES.get(field, field).replace('_', '-')}"


def _word(value: object) -> str:
    return " ".join(map(str, value)) if isinstance(value, list | tuple) else str(value)


def find_name(word: str, names: Iterable[str], what: str) -> str:
    """The name that a word means, with - or _ and in any case. Raises InputError where there is none."""
    by_word = {name.replace("-", "_").lower(): name for name in names}
    if name := by_word.get(word.replace("-", "_").lower()):
        return name
    close = get_close_matches(word, by_word.values(), n=1)
    hint = f" (did you mean {close[0]}?)" if close else ""
    raise InputError(f"{what} {word}: not one of {', '.join(by_word.values())}{hint}")
