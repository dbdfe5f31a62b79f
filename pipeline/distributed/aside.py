"""Calls of Ray that would take over Ctrl-C, do not end on a request to stop, or end the process without a word."""

import subprocess
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import Future
from contextlib import contextmanager, suppress
from typing import TypeVar

from pipeline import stop
from pipeline.errors import Stopped

T = TypeVar("T")

GUARD = 'trap "" INT TERM HUP; read -r end || printf "\\n%s\\n" "$0" >&2'
"""A shell's script: say $0 unless a line comes before the end of the input."""

POLL_SECONDS = 0.2
"""Between two checks whether those who were asked to stop have done so."""


@contextmanager
def guarded() -> Iterator[None]:
    """Let a shell say the last words where this process cannot: Ray ends it without any if the raylet has gone."""
    line = f"error: Ray has gone away, or something else has ended this command; to go on: {stop.command()}"
    guard = subprocess.Popen(["sh", "-c", GUARD, line], stdin=subprocess.PIPE, start_new_session=True)

    def release() -> None:
        with suppress(OSError, ValueError):
            guard.communicate(b"\n")

    with stop.cleaned_up_by(release):
        try:
            yield
        finally:
            release()


def call_aside(function: Callable[[], T], minutes: float = 0.0, has_settled: Callable[[], bool] = lambda: False) -> T:
    """The result of a function that runs in a thread of its own, while this one waits and takes signals.

    Args:
        function: the call.
        minutes: budget of the process's time, after which there is a request; 0: none.
        has_settled: whether, after a request to stop, there is nothing left that the call should be waited for.

    Raises:
        Stopped: after a request, once the call has ended or everything has settled, or when the grace is over.
    """
    done = Future[T]()

    def call() -> None:
        try:
            done.set_result(function())
        except BaseException as e:
            done.set_exception(e)

    threading.Thread(target=call, daemon=True).start()
    with stop.deferred():
        stop.limit_minutes(minutes)
        while True:
            try:
                return done.result(timeout=POLL_SECONDS)
            except TimeoutError:
                if done.done():
                    raise
            if (reason := stop.requested()) and has_settled():
                raise Stopped(reason)
