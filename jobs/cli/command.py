"""Running a command: its errors become one line on stderr and an exit code."""

import atexit
import contextlib
import io
import os
import pwd
import select
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from difflib import get_close_matches
from typing import NoReturn
from urllib.parse import unquote

from pipeline import stop
from pipeline.errors import STOP_CODES, InputError, RunError, Stopped
from pipeline.progress import TerminalBar, bars_from
from pipeline.runs.uri import CREDENTIALS, without_secrets

FLAG_NAMES = {"source": "data"}
"""Flags whose name is not that of their field."""
POSITIONAL = {"run", "runs", "experiment", "preset"}
"""Fields that are arguments without a flag."""
CLOSED_PIPE = 141
"""Exit code of a shell for SIGPIPE."""


def run_command(main: Callable[[Sequence[str]], None], args: Sequence[str] | None = None) -> None:
    """Run a command; every RunError is one line on stderr and its exit code, and so is a request to stop.

    A reader that closes the pipe, as `| head` does, ends the command without a message.

    Args:
        main: the command.
        args: its arguments; None: those of this process.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a character that it cannot encode must not end a command
            stream.reconfigure(errors="backslashreplace")
    with stop.requests_handled(), bars_from(TerminalBar):
        try:
            try:
                _prepare_environment()
                words = sys.argv[1:] if args is None else args
                _check_words(words)
                main(take_credentials(words))
            finally:
                sys.stdout.flush()
        except Stopped as e:
            _end(stop.describe(e), e.exit_code)
        except KeyboardInterrupt:  # raised by a library for the signal
            _end(stop.describe(Stopped("SIGINT")), STOP_CODES["SIGINT"])
        except RunError as e:
            _end(f"error: {without_secrets(describe(e))}", e.exit_code)
        except BrokenPipeError:
            closed = [one for one in (sys.stdout, sys.stderr) if _is_closed(one.fileno())]
            if not closed:
                raise
            for one in closed:
                os.dup2(os.open(os.devnull, os.O_WRONLY), one.fileno())  # for what Python flushes at exit
            sys.exit(CLOSED_PIPE)
        except OSError as e:  # a full disk, a folder without permission, a name that is too long
            what = f": {e.filename}" if e.filename else ""
            line = without_secrets(f"error: {e.strerror or e}{what}")
            _end(line, RunError.exit_code if stop.is_under_way() else InputError.exit_code)


def _prepare_environment() -> None:
    """Give libraries a user's name and a home, where a container has none or its home cannot be written to."""
    try:
        home = pwd.getpwuid(os.getuid()).pw_dir
    except KeyError:  # an arbitrary uid
        os.environ.setdefault("LOGNAME", f"uid-{os.getuid()}")
        home = "/"
    home = os.environ.get("HOME") or home
    if os.path.isdir(home) and os.access(home, os.W_OK | os.X_OK):
        os.environ["HOME"] = home
        return
    folder = tempfile.mkdtemp(prefix="ebm-home-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["HOME"] = folder
    if not os.environ.get("EBM_CACHE"):
        print(f"the home folder {home} cannot be written to: nothing is cached beyond this command", file=sys.stderr)


def _check_words(words: Sequence[str]) -> None:
    """Raise InputError for a word that is not text, which no file of the project could hold."""
    for word in words:
        try:
            word.encode()
        except UnicodeEncodeError as e:
            raise InputError(f"{word!a} is not UTF-8") from e


def _end(line: str, code: int) -> NoReturn:
    stop.mark_described()
    with contextlib.suppress(BrokenPipeError):
        print(line, file=sys.stderr)
    sys.exit(code)


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
