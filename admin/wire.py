"""Shapes of requests and answers: the models that validate are those that the OpenAPI description is made of.

A body has no member that is not known: a slip of the pen must not be taken for a wish. Times are RFC 3339 in UTC; what
does not end has none.
"""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime, timedelta
from typing import Annotated, Any, Final

from pydantic import AwareDatetime, BaseModel, BeforeValidator, ConfigDict, Field

from engine.facts import ALWAYS, NEVER
from engine.values import SECOND, parse_time, show_time

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)


class Shape(BaseModel):
    """Something on the wire."""

    model_config = ConfigDict(extra="forbid", frozen=True)


def _text(value: object) -> object:
    """Take a time as RFC 3339 alone: a number, in quotes too, would be read as seconds by one, as milliseconds by
    another."""
    if not isinstance(value, str) or parse_time(value) is None:
        raise ValueError('a time is written "2027-01-01T00:00:00Z", and lies in the years 1 to 9999 of UTC')
    return value


#: Text as short as ids are.
Id = Annotated[str, Field(min_length=1, max_length=256, examples=["acme"])]
#: `"user:ann"`.
Ref = Annotated[str, Field(min_length=3, max_length=512, pattern=r"^[^:\x00]+:[^\x00\n]+$", examples=["user:ann"])]
Subject = Annotated[str, Field(min_length=3, max_length=512, examples=["user:ann", "group:staff", "anyone"])]
Role = Annotated[str, Field(min_length=1, max_length=256, examples=["project.editor"])]
Time = Annotated[AwareDatetime, BeforeValidator(_text), Field(examples=["2027-01-01T00:00:00Z"])]
#: The beginning of a reference, with its type.
RefPrefix = Annotated[str, Field(min_length=2, max_length=512, pattern=r"^[^:]+:", examples=["user:an"])]
Attributes = Annotated[dict[str, Any], Field(max_length=64, examples=[{"plan": "pro"}])]


def nanoseconds(moment: datetime | None, otherwise: int) -> int:
    """Turn a time into nanoseconds since 1970; what is not said is `otherwise`."""
    if moment is None:
        return otherwise
    return (moment - _EPOCH) // timedelta(microseconds=1) * (SECOND // 1_000_000)


def shown_time(moment: int) -> str | None:
    """Write an instant; None where it is no time, but always or never."""
    return None if moment in (ALWAYS, NEVER) else show_time(moment)


def etag_of(shape: BaseModel) -> str:
    """Name a state of a thing: two that look alike are alike."""
    said = json.dumps(shape.model_dump(mode="json"), sort_keys=True, separators=(",", ":"))
    return f'"{hashlib.sha256(said.encode()).hexdigest()[:32]}"'
