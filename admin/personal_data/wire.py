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
    """All that is known of a user, beside facts. Null: it cannot be read with the keys of this service."""

    id: str
    fields: dict[str, str | None]


class Email(Shape):
    """An address to look for. It is sent in a body, so that it stands in no log of paths."""

    email: str = Field(min_length=3, max_length=320)


class Found(Shape):
    """Whose address it is."""

    id: str


class Block(Shape):
    """A token that counts no more."""

    jti: str
    until: str


class ExportedMembership(Shape):
    """As what he is in a tenant."""

    status: str
    starts: str | None
    expires: str | None


class HeldRole(Shape):
    """A role that he holds."""

    role: str
    on: str
    starts: str | None
    expires: str | None


class HeldGroup(Shape):
    """A group in which he is."""

    group: str
    starts: str | None
    expires: str | None


class HeldLink(Shape):
    """A role that he holds in a tenant as a member of another."""

    home: str
    tenant: str
    role: str
    on: str
    starts: str | None
    expires: str | None


class Asked(Shape):
    """A request for approval in which he had a part."""

    id: str
    for_himself: bool
    asked_by_himself: bool
    decided_by_himself: bool
    role: str
    on: str
    requested_at: str
    decided_at: str | None
    outcome: str | None


class Invited(Shape):
    """An invitation in which he had a part."""

    id: str
    made_by_himself: bool
    accepted_by_himself: bool
    status: str
    made: str
    accepted_at: str | None


class Entry(Shape):
    """One thing that was done; of other persons it does not say who they are."""

    action: str
    details: dict[str, Any]


class Record(Shape):
    """What a row of an audit log tells of him, or of what he did."""

    revision: int
    at: str
    by_himself: bool
    entries: list[Entry]


class Log(Shape):
    """The newest of what an audit log tells of him."""

    records: list[Record]
    more: bool = Field(description="the log goes further back: search it by `names` and by `actor`")


class OfPlatform(Shape):
    """What all tenants share of him."""

    valid_after: str | None = Field(description="tokens that were issued before count no more")
    blocked_tokens: list[Block]
    groups: list[HeldGroup]
    roles: list[HeldRole]
    links: list[HeldLink]
    audit: Log


class InTenant(Shape):
    """What a tenant has of him."""

    tenant: str
    membership: ExportedMembership | None
    roles: list[HeldRole]
    groups: list[HeldGroup]
    approvals: list[Asked]
    invitations: list[Invited]
    audit: Log


class Export(Shape):
    """All that is stored of a user, for himself."""

    id: str
    exported_at: str
    status: str
    attributes: dict[str, Any]
    personal_data: dict[str, str]
    platform: OfPlatform
    tenants: list[InTenant]


class Erasure(Shape):
    """A request to be forgotten, in the register; it names the pseudonym that the audit logs had."""

    id: str
    pseudonym: str
    requested_at: str
    requested_by: str
    done_at: str | None = None
