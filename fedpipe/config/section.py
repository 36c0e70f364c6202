"""What every section of params.yaml is made of."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

# 2**32 - 1: every library that takes a seed takes one of this size.
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, lt=1)]
# What TensorFlow counts with int32 must stay below 2**31, also multiplied.
Count = Annotated[int, Field(ge=1, le=10**6)]


class Section(BaseModel):
    """A part of params.yaml; a key that is not declared is an error, and so is a number written as text."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)
