"""Types of device-file fields, shared by the cost models: unknown keys, infinities and wrong signs are refused."""

from math import inf
from typing import Annotated

from pydantic import BeforeValidator, ConfigDict, Field, PlainValidator

from cost_models.formula import check_formula

DEVICE_FILE = ConfigDict(extra="forbid", use_attribute_docstrings=True)

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Share = Annotated[float, Field(gt=0, le=1)]
Count = Annotated[int, Field(gt=0)]
Bits = Annotated[int, Field(ge=1, le=32)]


def _formula(value: object) -> float | str:
    if isinstance(value, str):
        return check_formula(value)
    if isinstance(value, int | float) and 0 <= value < inf:
        return value
    raise ValueError(f"a formula is a number that is not negative, or text; got {value!r}")


Formula = Annotated[float | str, PlainValidator(_formula, float | str)]
"""A number, or an expression of a layer's shape and bits (:mod:`cost_models.formula`)."""


def listed(value: object) -> object:
    """A list as it is; anything else as a list of one."""
    return value if isinstance(value, list | tuple) else (value,)


# A value, or a list of them.
SomeBits = Annotated[tuple[Bits, ...], Field(min_length=1), BeforeValidator(listed, Bits | list[Bits])]
SomeText = Annotated[tuple[str, ...], Field(min_length=1), BeforeValidator(listed, str | list[str])]
