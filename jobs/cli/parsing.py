"""Command lines: flags to dataclasses, and errors to one line and an exit code."""

import contextlib
import io
import itertools
import re
import sys
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeVar

import tyro

from pipeline.errors import Diverged, InputError, LearnersLost, LeaseLost, RunWriteError, TaskTimeout
from pipeline.runs.job import Range

T = TypeVar("T")


RULE = re.compile("[─-]{4,}")


FLAGS = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)


REGISTRY = tyro.constructors.ConstructorRegistry()
"""How flags are read whose types tyro does not know."""


def fail(reason: str) -> NoReturn:
    """One line on stderr, exit code 2."""
    print(f"error: {reason}", file=sys.stderr)
    sys.exit(2)


def run_command(main: Callable[[], None]) -> None:
    """Run a command: bad input is one line and exit code 2; what ends a run on its way, one line and exit code 1."""
    try:
        main()
    except InputError as e:
        fail(str(e))
    except (Diverged, TaskTimeout, RunWriteError, LeaseLost, LearnersLost) as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(1)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        sys.exit(130)


def parse(kind: type[T], args: Sequence[str], prog: str, description: str, default: Any = tyro.MISSING_NONPROP) -> T:
    """A dataclass from flags. Raises BadInput with tyro's complaint in one line."""
    told = io.StringIO()
    try:
        with contextlib.redirect_stderr(told):
            return tyro.cli(
                kind, args=args, prog=prog, description=description, default=default, config=FLAGS, registry=REGISTRY
            )
    except SystemExit as e:
        if not e.code:
            raise
        raise InputError(_complaint(told.getvalue())) from e


@REGISTRY.primitive_rule
def _range(about: tyro.constructors.PrimitiveTypeInfo) -> tyro.constructors.PrimitiveConstructorSpec[Any] | None:
    """`int | Between`, perhaps `| None`: a number, or two with a colon between."""
    if about.type not in (int | Range, int | Range | None):
        return None
    return tyro.constructors.PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT|INT:INT",
        instance_from_str=lambda words: _number_or_range(words[0]),
        is_instance=lambda value: isinstance(value, int | Range),
        str_from_instance=lambda value: [":".join(map(str, value)) if isinstance(value, Range) else str(value)],
    )


def _number_or_range(word: str) -> int | Range:
    numbers = [int(part) for part in word.split(":")]
    return Range(*numbers) if len(numbers) == 2 else int(word)


def _complaint(box: str) -> str:
    """What tyro says in a box, on one line: without its frame, title and advice."""
    lines = re.sub(r"\x1b\[[0-9;]*m|[│|]", "", box).splitlines()[1:]
    sections = [list(part) for rule, part in itertools.groupby(lines, lambda line: bool(RULE.search(line))) if not rule]
    return " ".join(" ".join(sections[0]).split())
