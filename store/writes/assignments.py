"""Assignments: who holds which role where, in a tenant (stream t), and on the system (stream g)."""

from __future__ import annotations

from engine.facts import ALWAYS, NEVER
from store.changes import Write
from store.ids import check_id
from store.streams import GLOBAL, principal_key, subject_key
from store.tables import assignments, system_assignments
from store.writes.periods import end, put, said
from store.writes.presence import arrive, depart
from store.writes.standing import (
    Pair,
    place_of,
    principal_of,
    refuse_absent,
    subject_of,
    want_place,
    want_principal,
    want_role,
    want_subject,
)


async def give(
    write: Write,
    subject: str,
    role: str,
    place: str,
    *,
    starts: int = ALWAYS,
    expires: int = NEVER,
    beside: bool = False,
) -> None:
    """Give a role, `"project.editor"` or `"custom.helper"`, on a place of the write's tenant.

    Args:
        subject: `"user:ann"`, `"service:mail"`, `"group:staff"` or `"anyone"`. A principal need be neither stored nor a
            member: then it counts for nothing until he is.
        beside: as in `periods`.
    """
    who = await want_subject(write, subject)
    where = await want_place(write, place)
    held = _held(write, who, await want_role(write, role, where[0]), where)
    await put(write, assignments, held, starts, expires, beside=beside)
    await arrive(write, who)
    write.touch_own(subject_key(subject))
    write.record("assignment.given", subject=subject, role=role, on=place, tenant=write.owner, **said(starts, expires))


async def take(
    write: Write, subject: str, role: str, place: str, *, starts: int | None = None, missing_ok: bool = False
) -> None:
    """Take a role away: for all times, or for those that begin at `starts`."""
    who = subject_of(subject)
    if not await end(write, assignments, _held(write, who, role, place_of(place)), starts):
        return _absent(f"role `{role}` of `{subject}` on `{place}`", missing_ok)
    await depart(write, [who])
    write.touch_own(subject_key(subject))
    write.record("assignment.taken", subject=subject, role=role, on=place, tenant=write.owner)


async def give_system(
    write: Write, ref: str, role: str, *, starts: int = ALWAYS, expires: int = NEVER, beside: bool = False
) -> None:
    """Give a stored user or service a role over all tenants."""
    kind, identity = await want_principal(write, ref, stored=True)
    held = {"type": kind, "id": identity, "role": check_id(role, "a role")}
    await put(write, system_assignments, held, starts, expires, beside=beside)
    write.touch(GLOBAL, principal_key(ref))
    write.record("system_assignment.given", GLOBAL, subject=ref, role=role, **said(starts, expires))


async def take_system(
    write: Write, ref: str, role: str, *, starts: int | None = None, missing_ok: bool = False
) -> None:
    """Take a role over all tenants away: for all times, or for those that begin at `starts`."""
    kind, identity = principal_of(ref)
    if not await end(write, system_assignments, {"type": kind, "id": identity, "role": role}, starts):
        return _absent(f"role `{role}` of `{ref}` on the system", missing_ok)
    write.touch(GLOBAL, principal_key(ref))
    write.record("system_assignment.taken", GLOBAL, subject=ref, role=role)


def _held(write: Write, who: Pair, role: str, place: Pair) -> dict[str, str]:
    return {
        "tenant_id": write.owner,
        "subject_type": who[0],
        "subject_id": who[1],
        "place_type": place[0],
        "place_id": place[1],
        "role": role,
    }


def _absent(what: str, missing_ok: bool) -> None:
    if not missing_ok:
        raise refuse_absent(what)
