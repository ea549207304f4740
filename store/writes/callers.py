"""Who may ask for decisions: by a key, or by a name in a client certificate; in which tenants, and what for (stream g).

Of a key its digest is stored, as `store.keys` says.

Callers are no facts that a policy reads. They lie here because they must change as facts do: at once, everywhere, with
an audit row and a revision that can be waited for. One who is removed leaves nothing but his audit rows, and his name
may be given again; of a key that is nobody's, no more is known than of any other text.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sqlalchemy import Row, select, true

from engine.facts import NEVER
from store.changes import Write
from store.database import Database
from store.errors import RefusedError
from store.ids import check_id
from store.keys import DIGEST, PREFIX_LENGTH
from store.queries import read_token
from store.streams import CALLERS, GLOBAL
from store.tables import callers, tenants
from store.times import read_end, read_time, write_end, write_time
from store.tokens import Token
from store.writes.rows import add as add_row
from store.writes.rows import count, find, where
from store.writes.rows import remove as remove_rows
from store.writes.standing import refuse_absent

SCOPES: Final = ("check", "search", "explain", "claims")
#: So many callers there may be: each process that decides holds all of them.
MAX_CALLERS: Final = 10_000
#: So many tenants a caller may be held to; one who needs more asks in all.
MAX_TENANTS: Final = 1000
#: How ids begin; what follows is a digest, or a name as `ssl` tells those in a certificate.
KEY, CERTIFICATE = "key:", "certificate:"
_CERTIFICATE_NAME: Final = re.compile(r"(?:uri|dns):.+", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Caller:
    """A caller as lists show him.

    Args:
        prefix: the first characters of his key; "" if he has a certificate.
        certificate: the name in it; None if he has a key.
        tenants: in which he may ask; None: in all.
        rate: his own limits of requests; None: those of everybody.
        expires: until when he may ask. made: since when he is there.
    """

    name: str
    prefix: str
    certificate: str | None
    tenants: tuple[str, ...] | None
    scopes: tuple[str, ...]
    rate: str | None
    expires: int
    made: int


async def add(
    write: Write,
    name: str,
    *,
    key_digest: str | None = None,
    certificate: str | None = None,
    prefix: str = "",
    tenants: Iterable[str] | None,
    scopes: Iterable[str],
    rate: str | None = None,
    expires: int = NEVER,
) -> Caller:
    """Let somebody ask for decisions: by the key of a digest, with the prefix of that key, or by a certificate's name.

    Args:
        tenants: in which; None: in all, those that are made later, too.
        rate: his own limits of requests. What they mean is for who counts to say.
    """
    check_id(name, "a caller's name")
    identity = _identity(key_digest, certificate, prefix)
    held, wanted = await _tenants(write, tenants), _scopes(scopes)
    if rate is not None:
        check_id(rate, "a rate")
    if expires <= write.now:
        raise RefusedError("bad_times", "it would be over already: name a time that is to come")
    await _refuse_taken(write, name, identity)
    if await count(write, callers, true()) >= MAX_CALLERS:
        raise RefusedError("too_many", f"there are at most {MAX_CALLERS} callers: remove some first")
    said = {"tenants": held, "scopes": wanted, "rate": rate, "expires": write_end(expires)}
    columns = said | {"tenants": None if held is None else _listed(held), "scopes": _listed(wanted)}
    await add_row(write, callers, id=identity, name=name, prefix=prefix, made=write_time(write.now), **columns)
    write.touch(GLOBAL, CALLERS)
    write.record("caller.added", GLOBAL, caller=name, id=identity, **said)
    return Caller(name, prefix, certificate, held, wanted, rate, expires, write.now)


async def remove(write: Write, name: str) -> None:
    """Let somebody ask no more."""
    gone = await remove_rows(write, callers, where(callers, name=check_id(name, "a caller's name")), "id")
    if not gone:
        raise refuse_absent(f"caller `{name}`")
    write.touch(GLOBAL, CALLERS)
    write.record("caller.removed", GLOBAL, caller=name, id=gone[0].id)


async def read_all(database: Database) -> tuple[Token, tuple[Caller, ...]]:
    """List all callers by name, with the state that this is."""
    async with database.reading() as connection:
        found = await connection.execute(select(callers).order_by(callers.c.name))
        return await read_token(connection), tuple(_caller(row) for row in found)


def _caller(row: Row[Any]) -> Caller:
    return Caller(
        row.name,
        row.prefix,
        row.id.removeprefix(CERTIFICATE) if row.id.startswith(CERTIFICATE) else None,
        None if row.tenants is None else tuple(json.loads(row.tenants)),
        tuple(json.loads(row.scopes)),
        row.rate,
        read_end(row.expires),
        read_time(row.made),
    )


# --- what is accepted -----------------------------------------------------------------------------------


def _identity(key_digest: str | None, certificate: str | None, prefix: str) -> str:
    if certificate is not None and key_digest is None and not prefix:
        return CERTIFICATE + _certificate_name(certificate)
    if key_digest is None or certificate is not None:
        raise RefusedError("bad_caller", "a caller has either a key or a certificate")
    if not DIGEST.fullmatch(key_digest) or len(prefix) != PREFIX_LENGTH:
        raise RefusedError(
            "bad_key", f"of a key its SHA-256 in hex is stored, and its first {PREFIX_LENGTH} characters, never more"
        )
    return KEY + key_digest


def _certificate_name(name: str) -> str:
    if not _CERTIFICATE_NAME.fullmatch(name):
        raise RefusedError(
            "bad_certificate",
            "a name in a certificate is written with its kind: `uri:spiffe://example.org/shop`, `dns:shop.example.org`",
        )
    return check_id(name, "a name in a certificate")


async def _tenants(write: Write, named: Iterable[str] | None) -> tuple[str, ...] | None:
    """Return the tenants, each once.

    Raises:
        RefusedError: one is not there, or there are none or too many.
    """
    if named is None:
        return None
    wanted = tuple(sorted(set(named)))
    if not 1 <= len(wanted) <= MAX_TENANTS:
        raise RefusedError("bad_tenants", f"a caller asks in 1 to {MAX_TENANTS} tenants, or in all")
    for tenant in wanted:
        row = await find(write, tenants, id=check_id(tenant, "a tenant's id"))
        if row is None:
            raise RefusedError("unknown", f"there is no tenant `{tenant}`")
        if row.status == "deleted":
            raise RefusedError("deleted", f"the tenant `{tenant}` is deleted, for ever")
    return wanted


def _scopes(named: Iterable[str]) -> tuple[str, ...]:
    wanted = set(named)
    if unknown := sorted(wanted.difference(SCOPES)):
        raise RefusedError("bad_scope", f"`{unknown[0]}` is no scope: known are {', '.join(SCOPES)}")
    if not wanted:
        raise RefusedError("bad_scope", f"a caller without a scope may do nothing: name one of {', '.join(SCOPES)}")
    return tuple(scope for scope in SCOPES if scope in wanted)


async def _refuse_taken(write: Write, name: str, identity: str) -> None:
    if await find(write, callers, name=name) is not None:
        raise RefusedError("taken", f"there is a caller `{name}`: choose another name, or remove that one first")
    known = await find(write, callers, id=identity)
    if known is not None:
        what = "certificate" if identity.startswith(CERTIFICATE) else "key"
        raise RefusedError("taken", f"this {what} is that of the caller `{known.name}`")


def _listed(texts: tuple[str, ...]) -> str:
    return json.dumps(texts, separators=(",", ":"), ensure_ascii=False)
