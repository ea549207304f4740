"""Statements that read policies and publications."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from sqlalchemy import select

from admin.policies.wire import PolicyQuery, PublicationQuery
from admin.repository import Found, Order, order_of, paged
from store.database import Connection
from store.published import Publication, publication_of
from store.tables import policies, publications

#: An id tells when it was made.
ORDERS: Final[Mapping[str, Order]] = {"made": Order("policies", (policies.c.id,))}
PUBLICATIONS: Final[Mapping[str, Order]] = {"number": Order("publications", (publications.c.n,))}


async def list_page(connection: Connection, page: PolicyQuery) -> Sequence[Found]:
    """Read a page of policies, without what they say."""
    columns = [policies.c[name] for name in ("id", "digest", "note", "made", "made_by")]
    query = paged(select(*columns), order_of(ORDERS, page.sort), page)
    return list((await connection.execute(query)).all())


async def list_publications(connection: Connection, page: PublicationQuery) -> Sequence[Found]:
    """Read a page of publications."""
    query = paged(select(publications), order_of(PUBLICATIONS, page.sort), page)
    return list((await connection.execute(query)).all())


async def last_but(connection: Connection, policy: str | None) -> Publication | None:
    """Read the last publication of another policy than this."""
    newest = publications.c.n.desc()
    others = publications.c.policy_id.is_not(None) & publications.c.policy_id.is_distinct_from(policy)
    row = (await connection.execute(select(publications).where(others).order_by(newest).limit(1))).one_or_none()
    return None if row is None else publication_of(row)


async def published_locks(connection: Connection) -> Sequence[str]:
    """Read the locks of all bundles that were ever published."""
    is_published = select(publications.c.n).where(publications.c.policy_id == policies.c.id).exists()
    query = select(policies.c.lock).where(policies.c.lock.is_not(None), is_published)
    return list((await connection.execute(query)).scalars())


async def was_published(connection: Connection, policy: str) -> bool:
    found = await connection.execute(select(publications.c.n).where(publications.c.policy_id == policy).limit(1))
    return found.first() is not None
