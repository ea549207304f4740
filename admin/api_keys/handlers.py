"""Endpoints of keys. Only a key with the scope `system` may do anything with them."""

from __future__ import annotations

from typing import Final

from admin.api_keys import repository
from admin.api_keys.wire import Key, KeyQuery, MadeKey, NewKey
from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.paging import Page, page_of
from admin.repository import order_of
from admin.security.service import check_key
from admin.wire import nanoseconds, shown_time
from admin.writing import changing, reading
from engine.facts import NEVER
from store.keys import new_key
from store.writes import api_keys
from store.writes.api_keys import ApiKey


async def list_keys(ask: Ask) -> Answer:
    async with reading(ask) as connection:
        rows = await repository.list_page(connection, ask.query)
    order = order_of(repository.ORDERS, ask.query.sort)
    return Answer(page_of(rows, order, ask.query, lambda row: _shown(api_keys.key_of(row))))


async def make_key(ask: Ask) -> Answer:
    new: NewKey = ask.body
    key = new_key()
    expires = nanoseconds(new.expires, NEVER)
    async with changing(ask) as changed:
        made = await api_keys.make(changed.write, key, new.name, scopes=new.scopes, expires=expires)
        await check_key(ask.services.database, new.scopes, expires, now=ask.now)
    said = MadeKey(id=made, key=key, name=new.name, scopes=sorted(set(new.scopes)))
    return changed.answer(said, location=f"/keys/{made}")


async def revoke_key(ask: Ask) -> Answer:
    async with changing(ask) as changed:
        await api_keys.revoke(changed.write, ask.path["id"])
    return changed.answer(None)


def _shown(key: ApiKey) -> Key:
    times = {name: getattr(key, name) for name in ("revoked_at", "last_used")}
    return Key(
        id=key.id,
        name=key.name,
        prefix=key.prefix,
        scopes=list(key.scopes),
        made=shown_time(key.made) or "",
        expires=shown_time(key.expires),
        **{name: None if moment is None else shown_time(moment) for name, moment in times.items()},
    )


_NEED: Final = Need(None, frozenset())
ENDPOINTS: Final = (
    Endpoint("GET", "/keys", "List keys, the oldest first", list_keys, _NEED, Page[Key], query=KeyQuery),
    Endpoint("POST", "/keys", "Make a key", make_key, _NEED, MadeKey, NewKey, status=201),
    Endpoint("DELETE", "/keys/{id}", "Revoke a key, for ever", revoke_key, _NEED),
)
