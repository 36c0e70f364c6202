"""The base of all sections of params.yaml."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

# 2**32 - 1: every library that takes a seed takes one of this size.
Seed = Annotated[int, Field(ge=0, le=2**32 - 1)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
NotNegative = Annotated[float, Field(ge=0, allow_inf_nan=False)]
Rate = Annotated[float, Field(ge=0, lt=1)]
# What TensorFlow counts with int32 must stay below 2**31, also multiplied.
LARGEST_COUNT = 10**6
Count = Annotated[int, Field(ge=1, le=LARGEST_COUNT)]
# Of clients that train at the same time.
Concurrency = Literal["all"] | Count
# A number of samples, which may be none.
Size = Annotated[int, Field(ge=0)]
# The alpha of a Dirichlet draw. Below 0.001 NumPy's draw does not end: nearly every share underflows to 0.
Concentration = Annotated[float, Field(ge=1e-3, allow_inf_nan=False)]


class Section(BaseModel):
    """A part of params.yaml; a key that is not declared is an error, and so is a number written as text."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True)

    def changed(self, *keys: str) -> list[str]:
        """Those of ``keys`` whose value is another than their default."""
        values = self.model_dump(include=set(keys))
        return [key for key in keys if values[key] != type(self).model_fields[key].default]

    def check_chosen(self) -> None:
        """Checks what must hold only if this is the section of a chosen file (choices.py).

        Raises:
          ValueError: Something is missing that may be missing while another file is chosen.
        """
