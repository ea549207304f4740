"""Who and what can be referred to: names that are given once, and what is deleted."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text

from engine.facts import ANYONE
from store.changes import Write
from store.errors import RefusedError
from store.ids import check_id, check_type, split_ref
from store.tables import custom_roles, groups, platform_groups, principals, resources
from store.writes.rows import find

PRINCIPALS: Final = ("user", "service")
GROUP: Final = "group"
CUSTOM: Final = "custom."
Pair = tuple[str, str]


def refuse_absent(what: str) -> RefusedError:
    """Make the refusal of what is to change something that is not there."""
    return RefusedError("not_there", f"there is no {what}")


async def take_name(write: Write, kind: str, identity: str) -> None:
    """Give a name for the first and only time.

    Raises:
        RefusedError: it is, or was once, somebody else's.
    """
    taken = await write.connection.execute(
        text("INSERT INTO names (kind, id) VALUES (:kind, :id) ON CONFLICT DO NOTHING"),
        {"kind": kind, "id": identity},
    )
    if taken.rowcount != 1:
        raise RefusedError("taken", f"the {kind} id `{identity}` is given, or was once: choose another")


def principal_of(ref: str) -> Pair:
    """Split the reference of a user or service.

    Raises:
        RefusedError: it is none.
    """
    kind, identity = split_ref(ref, "a principal")
    if kind not in PRINCIPALS:
        raise RefusedError("bad_id", f"`{kind}` is no type of principals: known are {' and '.join(PRINCIPALS)}")
    return kind, identity


def place_of(ref: str) -> Pair:
    """Split the reference of a place in a tenant."""
    return split_ref(ref, "a place", spaces=True)


async def want_principal(write: Write, ref: str, *, stored: bool = False) -> Pair:
    """Return who is meant.

    A write of a tenant does not lock who is deleted: one that runs beside the deletion may leave a row. It is dead by
    the principal's status, and `leave_everything` finds it when it is called again.

    Args:
        stored: refuse one whom only the identity provider knows, too. What counts in all tenants hangs on a row.

    Raises:
        RefusedError: he is deleted.
    """
    kind, identity = principal_of(ref)
    row = await find(write, principals, type=kind, id=identity)
    if row is None and stored:
        raise RefusedError("unknown", f"there is no {kind} `{identity}`")
    if row is not None and row.status == "deleted":
        raise RefusedError("deleted", f"the {kind} `{identity}` is deleted, for ever")
    return kind, identity


async def want_subject(write: Write, ref: str) -> Pair:
    """Return who is to hold something in the write's tenant: a principal, a live group, or `anyone`."""
    if ref == ANYONE:
        return ANYONE, ANYONE
    if not ref.startswith(f"{GROUP}:"):
        return await want_principal(write, ref)
    _, name = split_ref(ref, "a group")
    own = await find(write, groups, tenant_id=write.owner, id=name, deleted=False)
    if own is None and await find(write, platform_groups, id=name, deleted=False) is None:
        raise RefusedError("unknown", f"there is no group `{name}`")
    return GROUP, name


def subject_of(ref: str) -> Pair:
    """Split the reference of a subject, whether or not it is there."""
    if ref == ANYONE:
        return ANYONE, ANYONE
    kind, identity = split_ref(ref, "a subject")
    if kind not in (*PRINCIPALS, GROUP):
        raise RefusedError("bad_id", f"`{kind}` holds no roles: a user, a service, a group or `anyone` does")
    return kind, identity


async def want_place(write: Write, ref: str) -> Pair:
    """Return where something is to be held.

    What has no row may be known to the application alone, so only what is known to be gone is refused.
    """
    kind, identity = place_of(ref)
    if kind == "system":
        raise RefusedError("bad_place", "`system` lies in no tenant")
    row = await find(write, resources, tenant_id=write.owner, type=kind, id=identity)
    if kind == GROUP:
        row = await find(write, groups, tenant_id=write.owner, id=identity)
    if row is not None and row.deleted:
        raise RefusedError("deleted", f"`{ref}` is deleted, for ever")
    return kind, identity


async def want_role(write: Write, role: str, place_type: str) -> str:
    """Return the role that is to be held: one that the tenant made must be there, and be one for such a place."""
    check_id(role, "a role")
    if not role.startswith(CUSTOM):
        return role
    row = await find(write, custom_roles, tenant_id=write.owner, name=role.removeprefix(CUSTOM), deleted=False)
    if row is None:
        raise RefusedError("unknown", f"there is no role `{role}`")
    if row.place_type != place_type:
        raise RefusedError("bad_place", f"`{role}` is held on a `{row.place_type}`, not on a `{place_type}`")
    return role


def want_type(name: str) -> str:
    """Return the name of a type of places."""
    return check_type(name, "the name of a type")
