"""Endpoints of what is known of persons: kept, found, exported, and forgotten. They are the platform's to manage."""

from __future__ import annotations

from typing import Final, get_args

from admin.door import want, want_someone_left
from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.errors import bad_request, not_found
from admin.paging import Page, PageQuery, read_cursor, write_cursor
from admin.personal_data import export as exporting
from admin.personal_data import repository, service
from admin.personal_data.wire import Email, Erasure, Export, FieldName, Found, Known, Value
from admin.principals import service as principals_service
from admin.wire import shown_time
from admin.writing import Sharing, changing, reading, rewriting
from store.changes import SYSTEM_ACTOR
from store.writes import personal_data, principals, traces
from store.writes.personal_data import Erasure as Stored

_ORDER: Final = "erasures"
USER: Final = "user"


async def read_known(ask: Ask) -> Answer:
    ring = service.ring_of(ask)
    async with reading(ask) as connection:
        await want(ask, connection, "manage")
        await principals_service.read(connection, USER, ask.path["id"])
        known = await service.read(ring, connection, _ref(ask))
    return Answer(Known(id=ask.path["id"], fields=dict(known)))


async def put_value(ask: Ask) -> Answer:
    ring, field, wanted = service.ring_of(ask), ask.path["field"], ask.body
    if field not in get_args(FieldName):
        raise bad_request("not as it must be: path.field", {"path.field": f"one of {', '.join(get_args(FieldName))}"})
    async with changing(ask) as changed:
        await want(ask, changed.write.connection, "manage")
        await principals_service.read(changed.write.connection, USER, ask.path["id"])
        value: Value = wanted
        await service.put(ring, changed.write, _ref(ask), field, value.value)
        known = Known(id=ask.path["id"], fields=await service.read_some(ring, changed.write.connection, _ref(ask)))
    return changed.answer(known)


async def find_user(ask: Ask) -> Answer:
    ring, wanted = service.ring_of(ask), ask.body
    email: Email = wanted
    async with reading(ask) as connection:
        await want(ask, connection, "manage")
        ref = await service.find(ring, connection, email.email)
    if ref is None:
        raise not_found("user with this address")
    return Answer(Found(id=ref.partition(":")[2]))


async def export(ask: Ask) -> Answer:
    """Read all that is stored of a user, and tell the audit log that it was given out."""
    ref = _ref(ask)
    async with reading(ask) as connection:
        await want(ask, connection, "manage")
        known = await principals_service.read(connection, USER, ask.path["id"])
        kept = await service.read(ask.services.ring, connection, ref)
        platform = await exporting.of_platform(connection, ref)
    tenants = await exporting.of_tenants(ask.services.database, ref)
    async with changing(ask) as changed:
        connection = changed.write.connection
        await want(ask, connection, "manage")
        # Who is forgotten must not be named by this: he would get another pseudonym.
        is_known = known.status != "deleted" or await repository.is_named(connection, ref)
        changed.write.record("personal_data.exported", **({"principal": ref} if is_known else {}))
    return Answer(
        Export(
            id=known.id,
            exported_at=shown_time(ask.now) or "",
            status=known.status,
            attributes=known.attributes,
            personal_data=kept,
            platform=platform,
            tenants=tenants,
        )
    )


async def erase_user(ask: Ask) -> Answer:
    """Forget a user: what he holds, what is known of him, and who stands behind his pseudonym in the audit logs.

    It is several writes, since no transaction shows two tenants; the register says from the first on that it is to be
    done, and whoever asks again goes on where it was cut off.
    """
    ref = _ref(ask)
    request = ""

    async def work(shared: Sharing) -> Answer:
        nonlocal request
        async with changing(ask, shared=shared) as changed:
            await want(ask, changed.write.connection, "manage")
            known = await principals_service.read(changed.write.connection, USER, ask.path["id"])
            request = await personal_data.request_erasure(changed.write, ref)
            if known.status != "deleted":
                await principals.delete(changed.write, ref)
                await want_someone_left(ask, changed.write, ref, "deleted")
            await personal_data.remove_all(changed.write, ref)
        return changed.answer(None)

    await rewriting(work)
    # Who is forgotten must not be named by the very writes that forget him.
    actor = SYSTEM_ACTOR if ask.actor.ref == ref else ask.actor.ref
    await traces.leave_no_trace(ask.services.writer, ref, actor=actor)
    async with ask.services.writer.write(actor=actor) as write:
        if ask.receipt:
            write.want_receipt()
        await personal_data.forget(write, ref)
        await personal_data.finish_erasure(write, request, done_ok=True)
    return Answer(token=write.token)


async def list_erasures(ask: Ask) -> Answer:
    page: PageQuery = ask.query
    after = str(read_cursor(page.cursor, _ORDER, 1)[0]) if page.cursor is not None else ""
    async with reading(ask) as connection:
        await want(ask, connection, "read_audit")
        found = await personal_data.read_erasures(connection, after=after, limit=page.limit + 1)
    shown = found[: page.limit]
    more = write_cursor(_ORDER, [shown[-1].id]) if len(found) > page.limit else None
    return Answer(Page[Erasure](items=[_shown(each) for each in shown], next=more))


def _ref(ask: Ask) -> str:
    return f"{USER}:{ask.path['id']}"


def _shown(stored: Stored) -> Erasure:
    return Erasure(
        id=stored.id,
        pseudonym=stored.pseudonym,
        requested_at=shown_time(stored.requested_at) or "",
        requested_by=stored.requested_by,
        done_at=None if stored.done_at is None else shown_time(stored.done_at),
    )


#: Nothing of persons is for keys that only keep facts.
_NEED: Final = Need("manage", frozenset())
_AUDIT: Final = Need("read_audit", frozenset({"audit"}))
_DATA: Final = "/users/{id}/personal-data"
ENDPOINTS: Final = (
    Endpoint("GET", _DATA, "Read what is known of a user", read_known, _NEED, Known, errors=(409,), is_private=True),
    Endpoint("PUT", f"{_DATA}/{{field}}", "Say what is known of a user", put_value, _NEED, Known, Value,
             is_private=True),
    Endpoint("POST", "/users/find", "Find a user by an address", find_user, _NEED, Found, Email, is_alone=True),
    Endpoint("GET", "/users/{id}/export", "Export all that is stored of a user", export, _NEED, Export,
             errors=(409,), is_private=True),
    Endpoint("POST", "/users/{id}/erasure", "Forget a user, for ever", erase_user, _NEED,
             is_repeatable=True),
    Endpoint("GET", "/erasures", "List who was to be forgotten", list_erasures, _AUDIT, Page[Erasure],
             query=PageQuery),
)  # fmt: skip
