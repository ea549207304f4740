"""Audit logs on the wire."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field

from admin.paging import PageQuery
from admin.wire import Shape, Time

_Name = Annotated[str, Field(min_length=1, max_length=1024)]
#: Which of the two logs that belong to no tenant.
Log = Literal["g", "p"]
#: What was done, or what was refused: each is a log of its own, with a chain of its own.
Outcome = Annotated[
    Literal["done", "refused"], Field(description="done: what was written; refused: what was wished, and not let")
]


class AuditQuery(PageQuery):
    """What to look for; whatever is not said may be anything."""

    outcome: Outcome = "done"
    actor: _Name | None = Field(default=None, description="who wrote", examples=["user:ann"])
    action: _Name | None = Field(
        default=None,
        description="what was done, or with a dot at its end how that begins",
        examples=["assignment.given", "assignment."],
    )
    names: _Name | None = Field(default=None, description="what an entry names", examples=["project:p1"])
    since: Time | None = Field(default=None, description="this instant is in")
    until: Time | None = Field(default=None, description="this instant is out")


class PlatformAuditQuery(AuditQuery):
    """The same, in a log of the platform."""

    log: Log = Field(
        default="g", description="g: what all tenants share; p: policies; of what was refused there is one"
    )


class VerifyQuery(Shape):
    """Which log, and from where to verify on."""

    outcome: Outcome = "done"
    cursor: str | None = Field(default=None, max_length=2048, description="from the answer before: its `next`")


class PlatformVerifyQuery(VerifyQuery):
    """The same, of a log of the platform."""

    log: Log = "g"


class LogQuery(Shape):
    """Which log."""

    outcome: Outcome = "done"


class PlatformLogQuery(LogQuery):
    """The same, of the platform."""

    log: Log = "g"


class AuditEntry(Shape):
    """One thing that a write did."""

    action: str
    details: dict[str, Any]


class AuditRecord(Shape):
    """A row of the log. `entries` is null where what stands there was not written by this service."""

    revision: int
    at: str
    actor: str
    entries: list[AuditEntry] | None
    hash: str


class Break(Shape):
    """Where the chain does not hold, and why."""

    revision: int
    why: str


class Verified(Shape):
    """How far the chain holds. It is whole if it holds up to its head: then `next` is null.

    `revision` and `hash` are those of the last row that holds: keep them elsewhere, and later nobody can write another
    history without its being seen.
    """

    whole: bool
    revision: int
    hash: str
    fault: Break | None = None
    next: str | None = None
