"""The base of all documents, and the numbers that stand in them."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

Seconds = Annotated[float, Field(ge=0, le=1e9)]  # 31 years, so that a date plus several of them is a valid date
Amount = Annotated[float, Field(ge=0, le=1e15)]  # of energy, power or carbon
Share = Annotated[float, Field(ge=0, le=1)]
Rate = Annotated[float, Field(gt=0, le=1e9)]  # requests a second


class Frozen(BaseModel):
    """Base of all documents: immutable; unknown fields, NaN and infinity are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)
