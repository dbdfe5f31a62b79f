"""Settings: frozen dataclasses whose fields carry their bounds.

A field's type states its bounds (`batch_size: PositiveInt`), and `Settings`, or `check_fields` after initialisation,
turns a violation into one InputError. So a notebook, a preset, a command line and job.json are held to the same bounds.
"""

import dataclasses
from functools import cache
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, TypeAlias, Union, get_args, get_origin, get_type_hints

from pydantic import AfterValidator, Field, TypeAdapter, ValidationError
from pydantic_core import PydanticCustomError

from pipeline.errors import InputError

Count: TypeAlias = Annotated[int, Field(ge=0)]
PositiveInt: TypeAlias = Annotated[int, Field(ge=1)]
NonNegative: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Positive: TypeAlias = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Probability: TypeAlias = Annotated[float, Field(ge=0, le=1)]
Share: TypeAlias = Annotated[float, Field(ge=0, lt=1)]
"""A part of a whole that leaves something of it."""
Decay: TypeAlias = Annotated[float, Field(gt=0, le=1)]
"""A factor that is applied again and again, and so must not let a quantity grow."""


def _whole_above_one(gpus: float) -> float:
    if gpus > 1 and gpus % 1:
        raise PydanticCustomError("gpus", "must be a share of one GPU, or a whole number of them")
    return gpus


Gpus: TypeAlias = Annotated[float, Field(ge=0, allow_inf_nan=False), AfterValidator(_whole_above_one)]
"""GPUs of one process, as Ray gives them: a share of one, or whole ones."""

PLAIN = (int, float, bool, str, NoneType)


class Settings:
    """A frozen dataclass whose fields are checked against their bounds."""

    def __post_init__(self) -> None:
        check_fields(self)


def check_fields(settings: Any) -> None:
    """Check every field of a frozen dataclass against its type and bounds; 1 becomes 1.0 where the type is float.

    Raises:
        InputError: a field has a value of another type, out of bounds or not finite; it names the field.
    """
    for name, adapter in _adapters(settings.__class__).items():
        value = getattr(settings, name)
        try:
            valid = adapter.validate_python(value, strict=True)
        except ValidationError as e:
            raise InputError(_reason(e), name, value) from None
        object.__setattr__(settings, name, valid)  # else 1 and 1.0 would have two protocol hashes


def _reason(error: ValidationError) -> str:
    return error.errors()[0]["msg"].replace("Input should be", "must be")


@cache
def _adapters(kind: Any) -> dict[str, Any]:
    """A validator for each field whose type is made of numbers, strings, literals and tuples of them."""
    hints = get_type_hints(kind, include_extras=True)
    return {f.name: TypeAdapter(hints[f.name]) for f in dataclasses.fields(kind) if _is_plain(hints[f.name])}


def _is_plain(hint: Any) -> bool:
    origin = get_origin(hint)
    if origin is Annotated:
        return _is_plain(get_args(hint)[0])
    if origin is Literal:
        return True
    if origin in (tuple, Union, UnionType):
        return all(part is Ellipsis or _is_plain(part) for part in get_args(hint))
    return hint in PLAIN or (isinstance(hint, type) and issubclass(hint, tuple))
