"""Changes that may wait for approval: done, or written down to be done later, exactly as they were asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from admin import circumstances
from admin.actors import EndUser, Key
from admin.endpoint import Ask
from admin.errors import PublicError
from admin.security.service import check_link
from engine.assign_changes import Actor, GiveLink, GiveRole, PutInGroup
from engine.claims import context_of
from engine.model import Model
from store.changes import Write
from store.ids import new_id
from store.writes import approvals, assignments, groups, links, platform_groups
from store.writes.circumstances import APPROVAL

Waitable = GiveRole | PutInGroup | GiveLink
_KINDS: Final[Mapping[str, type[Waitable]]] = {
    "give_role": GiveRole,
    "put_in_group": PutInGroup,
    "give_link": GiveLink,
}
GROUP: Final = "group:"


async def perform(ask: Ask, write: Write, change: Waitable) -> None:
    """Do what was asked for, in a write of the tenant; of a link, one that has locked its home, too.

    Raises:
        NeedsSharedError: a group of the platform gets a role, and what all tenants share is not locked: who is in it
            must not change meanwhile.
    """
    starts, expires = change.starts, change.expires
    match change:
        case GiveRole():
            if await platform_groups.is_one(write.connection, change.subject):
                write.want_shared()
            await assignments.give(write, change.subject, change.role, change.place, starts=starts, expires=expires)
        case GiveLink():
            await check_link(write, expires)
            async with ask.services.database.reading(change.home) as at_home:
                await links.make(
                    write,
                    change.subject,
                    change.role,
                    change.place,
                    target=write.owner,
                    home=change.home,
                    at_home=at_home,
                    starts=starts,
                    expires=expires,
                )
        case PutInGroup() if change.subject.startswith(GROUP):
            await groups.nest(write, change.subject.removeprefix(GROUP), change.group)
        case PutInGroup():
            await groups.add_member(write, change.group, change.subject, starts=starts, expires=expires)


async def ask_approval(ask: Ask, write: Write, change: Waitable) -> str:
    """Write a change down, to wait for the approval of another; return the request's id."""
    if isinstance(ask.actor, Key):
        raise RuntimeError("a key waits for nobody")
    kind = next(name for name, shape in _KINDS.items() if isinstance(change, shape))
    what = {"kind": kind, "change": {name: getattr(change, name) for name in change.__slots__}}
    if isinstance(change, GiveLink):
        await check_link(write, change.expires)
    identity = new_id(lambda: write.now)
    actor = asker_of(ask, ask.actor, ask.services.policy().model)
    said = circumstances.written(ask.services.ring, actor, circumstances.place_of(write.owner, APPROVAL, identity))
    role, place = (
        ("member", f"{GROUP}{change.group}") if isinstance(change, PutInGroup) else (change.role, change.place)
    )
    return await approvals.ask(
        write, what, subject=change.subject, role=role, place=place, identity=identity, said=said
    )


def read(what: Mapping[str, Any]) -> Waitable:
    """Read a change that waits.

    Raises:
        PublicError: this version does not know what it is.
    """
    shape = _KINDS.get(what.get("kind", ""))
    if shape is None:
        raise PublicError(409, "unknown_change", "this request was made by another version: ask for it anew")
    return shape(**what["change"])


def read_asker(ask: Ask, stored: approvals.Approval) -> Actor:
    """Say who asked for a change that waits, and how.

    Raises:
        PublicError: that cannot be read any more.
    """
    if stored.said is None and "actor" in stored.what:  # as an earlier version wrote it
        return circumstances.actor_of(stored.requested_by, stored.what["actor"])
    place = circumstances.place_of(ask.tenant, APPROVAL, stored.id)
    return circumstances.read_actor(ask.services.ring, stored.requested_by, stored.said, place)


def asker_of(ask: Ask, user: EndUser, model: Model) -> Actor:
    """Say who asks, in the engine's words."""
    return Actor(user.ref, context_of(ask.address, model, user.said) or {}, user.claims, user.tenant)
