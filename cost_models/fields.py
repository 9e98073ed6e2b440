"""Types of device-file fields, shared by the cost models: unknown keys, infinities and wrong signs are refused."""

from typing import Annotated

from pydantic import ConfigDict, Field

DEVICE_FILE = ConfigDict(extra="forbid")

Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NonNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Count = Annotated[int, Field(gt=0)]
Bits = Annotated[int, Field(ge=1, le=32)]
