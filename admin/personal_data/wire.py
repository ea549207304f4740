"""What is known of persons, on the wire."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field

from admin.wire import Shape

#: Fields that are kept. More would invite what no administration needs.
FieldName = Literal["email", "name", "phone", "note"]


class Value(Shape):
    """What is known in one field."""

    value: str = Field(min_length=1, max_length=1024, examples=["ann@example.org"])


class Known(Shape):
    """All that is known of a user, beside facts."""

    id: str
    fields: dict[str, str]


class Email(Shape):
    """An address to look for. It is sent in a body, so that it stands in no log of paths."""

    email: str = Field(min_length=3, max_length=320)


class Found(Shape):
    """Whose address it is."""

    id: str


class Export(Shape):
    """All that is stored of a user, for himself."""

    id: str
    exported_at: str
    status: str
    attributes: dict[str, Any]
    personal_data: dict[str, str]
    tenants: list[dict[str, Any]]


class Erasure(Shape):
    """A request to be forgotten, in the register; it names the pseudonym that the audit logs had."""

    id: str
    pseudonym: str
    requested_at: str
    requested_by: str
    done_at: str | None = None
