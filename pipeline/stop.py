"""One request to stop: by Ctrl-C, SIGTERM or a hang-up, or because a budget of time is used up.

Signals belong to a process, so this module's state does too. Where work can be interrupted anywhere, the request raises
Stopped in the main thread. Within `deferred()` it waits until the work asks for it at a place where it can go on later,
for GRACE_SECONDS at most. A second signal ends the process at once.
"""

import contextlib
import os
import shlex
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from pipeline.errors import Stopped

GRACE_SECONDS = 6.0
"""How long deferred work may take, after a signal, until it asks for the request. A budget of time never interrupts it.
"""
LAST_SECONDS = 11.0
"""Time from a signal to the end of the process, whatever still hangs then."""
SIGNALS = {signal.SIGINT: "SIGINT", signal.SIGTERM: "SIGTERM", signal.SIGHUP: "SIGHUP"}
START = time.monotonic()


@dataclass
class _State:
    """The request, and what the process does with it."""

    reason: str = ""
    deferrals: int = 0
    within_command: bool = False
    """Whether something on the stack catches Stopped."""
    describe: Callable[[], str] = str
    command: str = field(default_factory=lambda: shlex.join(sys.orig_argv))
    last: threading.Timer | None = None
    cleanups: list[Callable[[], object]] = field(default_factory=list)
    """Called before the process ends at once."""
    described: bool = False
    """Whether the command has written its last line."""


_state = _State()


def catch_signals() -> dict[int, Any]:
    """Let signals request a stop, but for those that are ignored, as by nohup; the handlers before, by signal."""
    before: dict[int, Any] = {number: signal.getsignal(number) for number in (*SIGNALS, signal.SIGALRM)}
    for number, handler in before.items():
        if handler is not signal.SIG_IGN:
            signal.signal(number, _handle)
    return before


def catch_signals_again() -> None:
    """Undo that a library has taken over the signals of a command."""
    if _state.within_command:
        catch_signals()


@contextlib.contextmanager
def requests_handled() -> Iterator[None]:
    """Turn signals into Stopped for the length of a command, which catches it; only in the main thread."""
    global _state
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before, _state = catch_signals(), _State(within_command=True)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        if _state.last:
            _state.last.cancel()
        for number, handler in before.items():
            signal.signal(number, handler)
        _state = _State()


def limit_minutes(minutes: float) -> None:
    """Request a stop so many minutes after the start of this process; 0: never.

    Called within `deferred()`, so that a budget that is too small still lets some work be done.
    """
    if minutes and _state.within_command:
        signal.setitimer(signal.ITIMER_REAL, max(minutes * 60 - (time.monotonic() - START), 1e-3))


@contextlib.contextmanager
def continuing(command: list[str], describe: Callable[[], str]) -> Iterator[None]:
    """Name the command that continues the work of the block, and what says how far it has come."""
    before = _state.command, _state.describe
    _state.command, _state.describe = shlex.join(command), describe
    yield
    _state.command, _state.describe = before  # not after an error: its line needs them


def is_under_way() -> bool:
    """Whether there is work that a command continues."""
    return _state.describe is not str


@contextlib.contextmanager
def deferred() -> Iterator[None]:
    """Let work that asks for the request itself reach a place where it can go on later.

    Raises:
        Stopped: at the end of the block, if there is a request.
    """
    _state.deferrals += 1
    try:
        yield
    finally:
        _state.deferrals -= 1
    if _state.reason and not _state.deferrals and _state.within_command:
        raise Stopped(_state.reason)


def requested() -> str:
    """Why the work should stop: SIGINT, SIGTERM, SIGHUP or time; empty as long as it should not."""
    return _state.reason


def hang_up() -> None:
    """Request a stop because nobody reads what a command writes; from any thread."""
    if _state.within_command:
        os.kill(os.getpid(), signal.SIGHUP)


def is_hung_up() -> bool:
    """Whether nobody reads any more."""
    return _state.reason == "SIGHUP"


def accept() -> None:
    """Say that the work stops by itself now, so that nothing interrupts it."""
    if _state.within_command:
        signal.setitimer(signal.ITIMER_REAL, 0)


def describe(error: BaseException) -> str:
    """One line: why the work stopped, how far it has come, and the command that goes on."""
    what = str(error)
    if isinstance(error, Stopped):
        what = "stopped: the time is up" if error.reason == "time" else f"stopped by {error.reason}"
    try:
        where = _state.describe()
    except Exception:  # a storage that is gone must not hide the rest
        where = ""
    return f"{what}{where and ', '}{where}; to go on: {_state.command}"


@contextlib.contextmanager
def cleaned_up_by(function: Callable[[], object]) -> Iterator[None]:
    """Call a function where the process ends at once within the block, and nothing else would clean up."""
    _state.cleanups.append(function)
    try:
        yield
    finally:
        _state.cleanups.remove(function)


def command() -> str:
    """The command that goes on, quoted for a shell."""
    return _state.command


def end_now(error: BaseException | None, code: int) -> None:
    """End the process from any thread, with the error's line unless another is written already."""
    if error and not _state.described:
        with contextlib.suppress(OSError):
            os.write(2, f"\n{describe(error)}\n".encode(errors="backslashreplace"))
    for function in _state.cleanups:
        with contextlib.suppress(Exception):
            function()
    os._exit(code)


def mark_described() -> None:
    """Say that the command has written its last line."""
    _state.described = True


def _handle(number: int, frame: FrameType | None) -> None:
    if number == signal.SIGALRM:
        grace_is_over = bool(_state.reason)
        _state.reason = _state.reason or "time"
    elif _state.reason in SIGNALS.values():
        end_now(None, 128 + number)
    else:
        grace_is_over, _state.reason = False, SIGNALS[signal.Signals(number)]
        _prepare_end(number)
    if grace_is_over or not _state.deferrals:
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise Stopped(_state.reason)
    signal.setitimer(signal.ITIMER_REAL, 0 if _state.reason == "time" else GRACE_SECONDS)


def _prepare_end(number: int) -> None:
    """Before a command catches Stopped, end the process; otherwise see to it that it ends in time."""
    if number == signal.SIGHUP:  # the terminal is gone: writing to it would fail
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
    if not _state.within_command:
        end_now(Stopped(_state.reason), 128 + number)
    _state.last = threading.Timer(LAST_SECONDS, end_now, [Stopped(_state.reason), 128 + number])
    _state.last.daemon = True
    _state.last.start()
