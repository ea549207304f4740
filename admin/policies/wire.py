"""Policies on the wire."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from admin.paging import PageQuery
from admin.wire import Id, Shape

_TENANT = "tenant organization\n\ntype organization {\n  actions manage\n}\n"
_FILES = Field(
    min_length=1,
    max_length=1000,
    description="each file's text by its name, which ends in `.bylaw`",
    examples=[{"roles.bylaw": _TENANT}],
)


class Files(Shape):
    """The files of a policy."""

    files: dict[str, str] = _FILES


class NewPolicy(Shape):
    """A policy to be kept."""

    files: dict[str, str] = _FILES
    lock: dict[str, Any] | None = Field(default=None, description="what its `bylaw.lock` holds, if it is a bundle")
    note: str = Field(default="", max_length=1000, description="what it is, for people", examples=["editors may share"])


class Finding(Shape):
    """Something that was found in a policy; lines and columns count from 1."""

    code: str
    severity: Literal["error", "warning", "note"]
    message: str
    file: str
    line: int
    column: int
    end_line: int
    end_column: int
    fix: str | None = None
    help: str | None = None


class Linted(Shape):
    """What was found in a policy."""

    clean: bool = Field(description="whether it has no errors")
    diagnostics: list[Finding]


class Uploaded(Shape):
    """A policy that is kept, by which nothing decides yet."""

    id: str
    digest: str
    tests: int = Field(description="how many expectations of its tests held: all that there are")
    diagnostics: list[Finding]


class ListedPolicy(Shape):
    """A policy in a list."""

    id: str
    digest: str
    note: str
    made: str
    made_by: str


class Policy(Shape):
    """A policy as it was uploaded."""

    id: str
    digest: str
    note: str
    made: str
    made_by: str
    files: dict[str, str]
    lock: dict[str, Any] | None = None


class Publication(Shape):
    """What decides from a moment on."""

    policy: str | None = Field(default=None, description="null: what each process finds in its directory")
    number: int = Field(description="counts up; decisions' revisions hold it")
    at: str
    published_by: str


class Rollback(Shape):
    """To what is to be gone back."""

    to: Id | None = Field(default=None, description="a policy that was published; without it, the one before")


class PolicyQuery(PageQuery):
    """Which policies."""

    sort: Literal["made", "-made"] = "-made"


class PublicationQuery(PageQuery):
    """Which publications."""

    sort: Literal["number", "-number"] = "-number"
