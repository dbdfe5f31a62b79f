"""Settings as Python source."""

import dataclasses
from collections.abc import Iterator
from typing import Any


def source(value: Any) -> str:
    """An expression that is equal to the value; of dataclasses, it names the fields that differ from the default."""
    if dataclasses.is_dataclass(value):
        return f"{type(value).__name__}({', '.join(source_fields(value))})"
    return repr(value)


def source_fields(value: Any) -> list[str]:
    """`name=expression` of the fields of a dataclass that differ from the default."""
    fields = ((f, getattr(value, f.name)) for f in dataclasses.fields(value))
    return [f"{f.name}={source(v)}" for f, v in fields if v != _default(f)]


def source_imports(value: Any) -> str:
    """The lines that import what `source` names."""
    return "\n".join(sorted({f"from {kind.__module__} import {kind.__name__}" for kind in _types(value)}))


def _default(field: Any) -> Any:
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _types(value: Any) -> Iterator[type]:
    """The classes that `source` names."""
    if dataclasses.is_dataclass(value):
        yield type(value)
        for field in dataclasses.fields(value):
            if getattr(value, field.name) != _default(field):
                yield from _types(getattr(value, field.name))
    elif isinstance(value, tuple):
        if hasattr(value, "_fields"):  # a named one
            yield type(value)
        for one in value:
            yield from _types(one)
