"""Endpoints of policies. They take a key: who may change what end users may do is not for the policy itself to say.

A policy is uploaded, and so judged: it compiles, and its tests hold. To publish one is to let it decide, in every
process over this store, in the place of what lies in their directories; to go back is to publish again.
"""

from __future__ import annotations

import asyncio
import json
from typing import Final

from admin.endpoint import Answer, Ask, Endpoint, Need
from admin.errors import PublicError, not_found
from admin.paging import Page, page_of
from admin.policies import repository, service
from admin.policies.wire import (
    Files,
    Linted,
    ListedPolicy,
    NewPolicy,
    Policy,
    PolicyQuery,
    Publication,
    PublicationQuery,
    Rollback,
    Uploaded,
)
from admin.repository import Found, order_of
from admin.wire import shown_time
from admin.writing import changing, reading
from engine import BylawError
from store import published
from store.published import StoredPolicy
from store.times import read_time
from store.writes import policies

#: A policy holds at most 4 MiB of text, which JSON may write longer.
MAX_BODY: Final = 8 << 20


async def lint_policy(ask: Ask) -> Answer:
    wanted: Files = ask.body
    return Answer(await service.lint(service.sources_of(wanted.files)))


async def upload_policy(ask: Ask) -> Answer:
    new: NewPolicy = ask.body
    sources = service.sources_of(new.files)
    lock = service.lock_of(new.lock, sources)
    proof = await service.prove(sources)
    async with changing(ask, publishing=True) as changed:
        made = await policies.upload(changed.write, sources, lock, digest=proof.digest, note=new.note)
    said = Uploaded(id=made, digest=proof.digest, tests=proof.tests, diagnostics=proof.findings)
    return changed.answer(said, location=f"/policies/{made}")


async def list_policies(ask: Ask) -> Answer:
    async with reading(ask) as connection:
        rows = await repository.list_page(connection, ask.query)
    return Answer(page_of(rows, order_of(repository.ORDERS, ask.query.sort), ask.query, _listed))


async def read_policy(ask: Ask) -> Answer:
    stored = await _stored(ask, ask.path["id"])
    return Answer(
        Policy(
            id=stored.id,
            digest=stored.digest,
            note=stored.note,
            made=shown_time(stored.made) or "",
            made_by=stored.made_by,
            files={source.name: source.text for source in stored.sources},
            lock=None if stored.lock is None else json.loads(stored.lock),
        )
    )


async def publish_policy(ask: Ask) -> Answer:
    return await _publish(ask, ask.path["id"], await _now(ask))


async def roll_back(ask: Ask) -> Answer:
    wanted: Rollback = ask.body
    async with reading(ask) as connection:
        now = await published.publication_at(connection)
        before = await repository.last_but(connection, now.policy) if wanted.to is None else None
        if wanted.to is not None and not await repository.was_published(connection, wanted.to):
            raise not_found("policy of this id that was ever published")
    target = wanted.to if before is None else before.policy
    if target is None:
        raise PublicError(409, "conflict", "no other policy was published before: publish one by its id")
    return await _publish(ask, target, now)


async def withdraw(ask: Ask) -> Answer:
    now = await _now(ask)
    if now.policy is not None:
        try:
            await ask.services.policies.judge_directory()
        except BylawError as error:
            raise service.refused(error) from error
    return await _replace(ask, None, now)


async def read_published(ask: Ask) -> Answer:
    return Answer(_publication(await _now(ask)))


async def list_publications(ask: Ask) -> Answer:
    async with reading(ask) as connection:
        rows = await repository.list_publications(connection, ask.query)
    order = order_of(repository.PUBLICATIONS, ask.query.sort)
    return Answer(page_of(rows, order, ask.query, lambda row: _publication(published.publication_of(row))))


async def _publish(ask: Ask, identity: str, before: published.Publication) -> Answer:
    """Judge a policy by the one that decides, and let it decide in its place if nobody published meanwhile.

    A bundle is held to all that were published, and not to the last alone: a process need not have seen them all, and
    is to take it after whichever it saw.
    """
    stored = await _stored(ask, identity)
    async with reading(ask) as connection:
        earlier = await repository.published_locks(connection) if stored.lock is not None else []
    await ask.services.catch_up()  # else it would be judged by one that was published before `before`
    try:
        await asyncio.to_thread(service.check_follows, stored.lock, earlier)
        await ask.services.policies.judge(stored.sources, stored.lock)
    except BylawError as error:
        raise service.refused(error) from error
    return await _replace(ask, identity, before)


async def _replace(ask: Ask, identity: str | None, before: published.Publication) -> Answer:
    async with changing(ask, publishing=True) as changed:
        made = await policies.publish(changed.write, identity, after=before.n)
    return changed.answer(_publication(made))


async def _now(ask: Ask) -> published.Publication:
    async with reading(ask) as connection:
        return await published.publication_at(connection)


async def _stored(ask: Ask, identity: str) -> StoredPolicy:
    async with reading(ask) as connection:
        stored = await published.policy_of(connection, identity)
    if stored is None:
        raise not_found(f"policy `{identity}`")
    return stored


def _listed(row: Found) -> ListedPolicy:
    made = shown_time(read_time(row.made)) or ""
    return ListedPolicy(id=row.id, digest=row.digest, note=row.note, made=made, made_by=row.made_by)


def _publication(found: published.Publication) -> Publication:
    return Publication(policy=found.policy, number=found.n, at=shown_time(found.at) or "", published_by=found.by)


_NEED: Final = Need(None, frozenset({"policies"}))
ENDPOINTS: Final = (
    Endpoint(
        "POST",
        "/policies/lint",
        "Find mistakes in a policy; nothing is kept",
        lint_policy,
        _NEED,
        Linted,
        Files,
        is_question=True,
        max_body=MAX_BODY,
    ),
    Endpoint(
        "GET",
        "/policies/published",
        "Read what decides, and since when",
        read_published,
        _NEED,
        Publication,
    ),
    Endpoint("DELETE", "/policies/published", "Let directories decide again", withdraw, _NEED, Publication),
    Endpoint(
        "GET",
        "/policies/publications",
        "List what was published, the newest first",
        list_publications,
        _NEED,
        Page[Publication],
        query=PublicationQuery,
    ),
    Endpoint(
        "POST",
        "/policies/rollback",
        "Publish the policy before the one that decides, or another that was published",
        roll_back,
        _NEED,
        Publication,
        Rollback,
        errors=(409,),
    ),
    Endpoint(
        "GET",
        "/policies",
        "List policies that were uploaded, the newest first",
        list_policies,
        _NEED,
        Page[ListedPolicy],
        query=PolicyQuery,
    ),
    Endpoint(
        "POST",
        "/policies",
        "Upload a policy; its tests must hold",
        upload_policy,
        _NEED,
        Uploaded,
        NewPolicy,
        status=201,
        max_body=MAX_BODY,
    ),
    Endpoint("GET", "/policies/{id}", "Read a policy with its files", read_policy, _NEED, Policy),
    Endpoint(
        "POST",
        "/policies/{id}/publish",
        "Let a policy decide, in every process",
        publish_policy,
        _NEED,
        Publication,
        errors=(409,),
    ),
)
