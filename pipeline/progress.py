"""Progress on the terminal: bars, and what takes long without a measure. Whoever shows it is set once, by a command."""

import contextlib
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextvars import ContextVar
from typing import Any, Protocol, TypeVar, runtime_checkable

from pipeline import stop

T = TypeVar("T")

SILENCE_SECONDS = 4.0
"""The longest time without a sign of life, also of an update that takes longer."""
PATIENCE_SECONDS, RARE_SECONDS = 600.0, 60.0
"""Where no terminal shows a bar, it is a line now and then: after this time, only so often."""
DELAY_SECONDS = 1.5
"""What is done sooner is not shown, unless it is the main work."""


@runtime_checkable
class ProgressBar(Protocol):
    """A progress bar: tqdm's, or one like it."""

    def update(self, n: int = 1) -> Any:
        """Advance by n units."""

    def set_description(self, desc: str, refresh: bool = True) -> Any:
        """Set the text before the bar."""

    def close(self) -> Any:
        """Stop drawing it."""


Factory = Callable[..., ProgressBar]
"""`factory(total=..., desc=..., unit=...)`; a total of None: nobody knows how much there is to do."""


class NoBar:
    """A bar that nobody sees."""

    def __init__(self, **settings: Any):
        pass

    def update(self, n: int = 1) -> None:
        """Nothing."""

    def set_description(self, desc: str, refresh: bool = True) -> None:
        """Nothing."""

    def close(self) -> None:
        """Nothing."""


_factory: ContextVar[Factory] = ContextVar("factory", default=NoBar)


@contextlib.contextmanager
def bars_from(factory: Factory | None) -> Iterator[None]:
    """Let a factory make the bars of the block; None: there are none."""
    token = _factory.set(factory or NoBar)
    try:
        yield
    finally:
        _factory.reset(token)


@contextlib.contextmanager
def bar(total: int | None, desc: str, unit: str = "it") -> Iterator[ProgressBar]:
    """A bar for the length of the block."""
    one = _factory.get()(total=total, desc=desc, unit=unit)
    try:
        yield one
    finally:
        one.close()


def track(items: Iterable[T], total: int, desc: str, unit: str = "it") -> Iterator[T]:
    """The items, while a bar shows how many have been worked."""
    with bar(total, desc, unit) as one:
        for item in items:
            yield item
            one.update(1)


@contextlib.contextmanager
def doing(desc: str) -> Iterator[None]:
    """Show what takes long without a measure, and for how long it has taken."""
    with bar(None, desc):
        yield


class TerminalBar:
    """tqdm on stderr, drawn by a thread of its own, so that slow updates show a sign of life, too."""

    def __init__(self, total: int | None, desc: str, unit: str = "it", initial: int = 0):
        from tqdm import tqdm  # not before something is shown

        self._terminal = sys.stderr.isatty()
        line = "{desc}: {n_fmt}/{total_fmt} {unit}s, {elapsed}<{remaining}, {rate_fmt}"
        self._bar = tqdm(
            total=total,
            desc=desc,
            unit=unit,
            initial=initial,
            delay=float(sys.maxsize),  # tqdm itself draws nothing
            bar_format="{desc} ({elapsed})" if total is None else None if self._terminal else line,
            file=sys.stderr if self._terminal else _Lines(sys.stderr),
            dynamic_ncols=self._terminal,
        )
        self._drawn, self._end = False, threading.Event()
        self._thread = threading.Thread(target=self._draw_on_time, daemon=True)
        self._thread.start()

    def update(self, n: int = 1) -> None:
        """Advance by n units."""
        self._bar.n += n

    def set_description(self, desc: str, refresh: bool = True) -> None:
        """Set the text before the bar."""
        self._bar.set_description_str(desc, refresh=False)

    def close(self) -> None:
        """Draw it for the last time, unless it was not worth it."""
        self._end.set()
        self._thread.join()
        measured = self._bar.total is not None
        if self._drawn and not stop.is_hung_up() and (measured or self._terminal):
            self._bar.refresh()
            self._bar.fp.write("\n")
        self._bar.close()

    def _draw_on_time(self) -> None:
        measured = self._bar.total is not None
        begin, pause = time.monotonic(), DELAY_SECONDS if measured or self._terminal else SILENCE_SECONDS
        while not self._end.wait(pause):
            rare = not self._terminal and time.monotonic() > begin + PATIENCE_SECONDS
            pause = RARE_SECONDS if rare else 0.5 if self._terminal else SILENCE_SECONDS
            try:
                self._bar.refresh()
            except OSError:  # nobody reads
                return stop.hang_up()
            self._drawn = True


class _Lines:
    """What tqdm writes over and over in one line, as lines."""

    def __init__(self, stream: Any):
        self.stream = stream

    def write(self, text: str) -> None:
        """Write a line, unless it is empty."""
        if text := text.strip("\r\n "):
            self.stream.write(f"{text}\n")

    def flush(self) -> None:
        """Flush the stream."""
        self.stream.flush()
