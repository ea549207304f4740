"""Changes to who holds what, who asks for one, and what is ruled on it: plain values, without a rule.

References are written as in facts (`"user:ann"`, `"group:staff"`, `"anyone"`, `"project:p1"`, `"system"`), a role bare
or with its type; times are nanoseconds since 1970. What they mean, and who may, `assigning` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from engine.facts import ALWAYS, NEVER, Status


@dataclass(frozen=True, slots=True)
class Actor:
    """Who would make a change, and what his request says. `context` is JSON, as at a check; `claims` are the roles that
    his token claims: conditions see them, and they give no right."""

    reference: str
    context: Mapping[str, Any] = field(default_factory=dict)
    claims: tuple[str, ...] = ()
    token_tenant: str | None = None


@dataclass(frozen=True, slots=True)
class GiveRole:
    """Give a role on a place. It takes the place of what the subject was given of that role there before."""

    subject: str
    role: str
    place: str
    starts: int = ALWAYS
    expires: int = NEVER


@dataclass(frozen=True, slots=True)
class TakeRole:
    subject: str
    role: str
    place: str


@dataclass(frozen=True, slots=True)
class GiveLink:
    """Let a member of another tenant, `home`, hold a crossing role on a place in this one."""

    subject: str
    home: str
    role: str
    place: str
    starts: int = ALWAYS
    expires: int = NEVER


@dataclass(frozen=True, slots=True)
class TakeLink:
    subject: str
    home: str
    role: str
    place: str


@dataclass(frozen=True, slots=True)
class SetMembership:
    """Make a membership of the tenant, or change it."""

    subject: str
    status: Literal["active", "guest", "suspended"] = "active"
    starts: int = ALWAYS
    expires: int = NEVER


@dataclass(frozen=True, slots=True)
class EndMembership:
    subject: str


@dataclass(frozen=True, slots=True)
class MakeGroup:
    group: str


@dataclass(frozen=True, slots=True)
class DeleteGroup:
    group: str


@dataclass(frozen=True, slots=True)
class PutInGroup:
    """Put a user, a service or a group into a group."""

    subject: str
    group: str
    starts: int = ALWAYS
    expires: int = NEVER


@dataclass(frozen=True, slots=True)
class TakeFromGroup:
    subject: str
    group: str


@dataclass(frozen=True, slots=True)
class DefineRole:
    """Make or change a role of the tenant's own, held on places of type `on`; `name` is without `custom.`."""

    name: str
    on: str
    can: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeleteRole:
    name: str


@dataclass(frozen=True, slots=True)
class SetStatus:
    """Suspend or delete a user or service, or let him in again. No `assign` gives the right to it (the policy's action
    `manage` does), but the last holder of a role is kept from it: see `Assigner.guard`."""

    subject: str
    status: Status


Change = (
    GiveRole
    | TakeRole
    | GiveLink
    | TakeLink
    | SetMembership
    | EndMembership
    | MakeGroup
    | DeleteGroup
    | PutInGroup
    | TakeFromGroup
    | DefineRole
    | DeleteRole
)


@dataclass(frozen=True, slots=True)
class Pending:
    """A change that waits for approval: whose, where, and when it was asked for. `id` is the one that
    `Holdings.pending` knows it by."""

    id: str
    actor: Actor
    change: Change
    tenant: str | None
    asked: int


@dataclass(frozen=True, slots=True)
class Ruling:
    """Whether a change may be made. `code` is stable (all are listed in `assigning`), `message` says why, and what
    would cure it; `at` is the `assign` that counted, `file:line`, if one did."""

    outcome: Literal["allowed", "pending", "refused"]
    code: str
    message: str
    at: str | None = None
