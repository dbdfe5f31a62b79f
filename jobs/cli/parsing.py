"""Command lines: flags to dataclasses."""

import ast
import contextlib
import dataclasses
import inspect
import io
import itertools
import re
import shutil
import sys
import textwrap
from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Annotated, Any, TypeVar, get_args, get_origin

import tyro
from tyro.constructors import (
    ConstructorRegistry,
    PrimitiveConstructorSpec,
    PrimitiveTypeInfo,
    StructConstructorSpec,
    StructFieldSpec,
    StructTypeInfo,
)

from jobs.cli.command import FLAG_NAMES
from pipeline.errors import InputError
from pipeline.runs.job import Range
from pipeline.schedule import Change

T = TypeVar("T")

RULE = re.compile("[─-]{4,}")
"""The rules between the sections of tyro's messages."""
HELP_LINE = re.compile(r"\s{8}")
"""How lines of help begin in tyro's messages."""
MARKERS = (tyro.conf.OmitArgPrefixes, tyro.conf.FlagCreatePairsOff, tyro.conf.DisallowNone)
REGISTRY = ConstructorRegistry()
"""How flags are read where tyro needs help."""
OWN_RULE = object()
"""Marks a type that tyro itself shall read."""


def parse(
    kind: type[T],
    args: Sequence[str],
    prog: str,
    description: str,
    default: Any = tyro.MISSING_NONPROP,
    notes: str = "",
) -> T:
    """A dataclass from flags, or the help.

    Args:
        kind: the dataclass; each of its groups of settings is a panel of the help.
        args: the words of the command line.
        prog: the command, as the help shows it.
        description: above the flags in the help.
        default: an instance that holds the flags' defaults.
        notes: below the flags in the help.

    Raises:
        InputError: a flag is unknown, or its value out of bounds.
    """
    out, errors = io.StringIO(), io.StringIO()
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(errors):
            return tyro.cli(
                kind, args=args, prog=prog, description="", default=default, config=MARKERS, registry=REGISTRY
            )
    except SystemExit as e:
        if e.code:
            raise InputError(_one_line(errors.getvalue())) from e
        usage, _, panels = out.getvalue().partition("\n\n")
        print("\n\n".join(part for part in (usage, wrap(description), _plain(panels), wrap(notes)) if part))
        raise


def _plain(panels: str) -> str:
    """tyro's panels without rules, with short titles: `recipe.langevin options` becomes `Recipe, langevin`."""
    lines = [line.rstrip() for line in panels.splitlines() if not RULE.search(line)]
    title = re.compile(r"^ (\w\S*)( options| arguments)?$")
    plain = [title.sub(lambda match: match[1].replace(".", ", ").capitalize(), line) for line in lines]
    return "\n".join(plain).strip("\n")


def wrap(text: str) -> str:
    """Paragraphs, wrapped to the terminal's width; those with indented lines, as tables have them, stay as they are."""
    width = shutil.get_terminal_size().columns
    parts = inspect.cleandoc(text).split("\n\n")
    return "\n\n".join(
        part if "\n  " in part else textwrap.fill(" ".join(part.split()), width, break_on_hyphens=False)
        for part in parts
    )


@REGISTRY.struct_rule
def _dataclass(info: StructTypeInfo) -> StructConstructorSpec | None:
    """A dataclass as tyro reads it, but with the flags of `FLAG_NAMES`, and help texts that take no second to find."""
    if not dataclasses.is_dataclass(info.type) or OWN_RULE in info.markers:
        return None
    spec = ConstructorRegistry.get_struct_spec(replace(info, markers=(*info.markers, OWN_RULE)))
    if not isinstance(spec, StructConstructorSpec):
        return None
    docs = _field_docs(info.type)
    return replace(spec, fields=tuple(_with_help(field, docs.get(field.name, "")) for field in spec.fields))


def _with_help(field: StructFieldSpec, doc: str) -> StructFieldSpec:
    """The field with its flag's name and help; a group without a docstring has the first paragraph of its class's."""
    if not doc and dataclasses.is_dataclass(field.default):
        doc = " ".join((type(field.default).__doc__ or "").partition("\n\n")[0].split())
    name = FLAG_NAMES.get(field.name)
    kind: Any = Annotated[field.type, tyro.conf.arg(name=name)] if name else field.type
    return replace(field, type=kind, helptext=doc)


@cache
def _field_docs(kind: type) -> dict[str, str]:
    """The docstrings below the fields of a dataclass and its bases."""
    docs: dict[str, str] = {}
    for base in filter(dataclasses.is_dataclass, reversed(kind.__mro__)):
        for field, doc in itertools.pairwise(_class_body(base.__module__, base.__qualname__)):
            match field, doc:
                case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                    docs[name] = " ".join(text.split())
    return docs


def _class_body(module: str, name: str) -> list[ast.stmt]:
    statements = _module_body(inspect.getsourcefile(sys.modules[module]) or "")
    return next((c.body for c in statements if isinstance(c, ast.ClassDef) and c.name == name), [])


@cache
def _module_body(file: str) -> list[ast.stmt]:
    return ast.parse(Path(file).read_text(encoding="utf-8")).body


@REGISTRY.primitive_rule
def _range(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """`int | Range`: a number, or two with a colon between them."""
    parts = {get_args(part)[0] if get_origin(part) is Annotated else part for part in get_args(info.type)}
    if parts != {int, Range}:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="INT|INT:INT",
        instance_from_str=lambda words: _number_or_range(words[0]),
        is_instance=lambda value: isinstance(value, int | Range),
        str_from_instance=lambda value: [":".join(map(str, value)) if isinstance(value, Range) else str(value)],
    )


@REGISTRY.primitive_rule
def _change(info: PrimitiveTypeInfo) -> PrimitiveConstructorSpec[Any] | None:
    """`Change`: an update, a colon, and settings with commas between them."""
    if info.type is not Change:
        return None
    return PrimitiveConstructorSpec(
        nargs=1,
        metavar="UPDATE:FIELD=VALUE,...",
        instance_from_str=lambda words: _read_change(words[0]),
        is_instance=lambda value: isinstance(value, Change),
        str_from_instance=lambda value: [str(value)],
    )


def _read_change(word: str) -> Change:
    update, _, rest = word.partition(":")
    pairs = [part.partition("=") for part in rest.split(",")]
    if not all(name and value for name, _, value in pairs):
        raise ValueError(word)
    return Change(int(update), {name.replace("-", "_"): _literal(value) for name, _, value in pairs})


def _literal(word: str) -> bool | int | float | str:
    """A number, True or False as Python writes it; else the word itself."""
    try:
        value = ast.literal_eval(word)
    except (ValueError, SyntaxError):
        return word
    return value if isinstance(value, bool | int | float) else word


def _number_or_range(word: str) -> int | Range:
    numbers = [int(part) for part in word.split(":")]
    return Range(*numbers) if len(numbers) == 2 else int(word)


def _one_line(box: str) -> str:
    """tyro's message, which comes in a box, without its frame, title and advice, but with its first suggestion."""
    lines = re.sub(r"\x1b\[[0-9;]*m|[│|]", "", box).splitlines()[1:]
    sections = [list(part) for rule, part in itertools.groupby(lines, lambda line: bool(RULE.search(line))) if not rule]
    message = " ".join(" ".join(line for line in sections[0] if not HELP_LINE.match(line)).split())
    close = re.search(r"Perhaps you meant:\s+(--[\w-]+)", "\n".join(lines))
    return f"{message} (did you mean {close[1]}?)" if close else message
