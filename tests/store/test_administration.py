"""What administration keeps in the store: keys, invitations, approvals, answers, personal data, and who sees them."""

from __future__ import annotations

import asyncio
import base64
import hashlib
import json
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from typing import Any

import pytest
from sqlalchemy import event, select

from engine.facts import NEVER
from store import keys, pseudonyms, tables
from store.changes import Write, Writer
from store.database import Database
from store.errors import RefusedError, UnfitError
from store.keys import digest_of
from store.writes import api_keys, approvals, idempotency, invitations, personal_data, principals, resources, tenants
from store.writes.idempotency import Answer, RepeatedError
from tests.databases import StoreUrls, run
from tests.store.worlds import DAY, NOW, Work, opened, refusal, rows_of

KEY = "bylaw_" + "k" * 43
TOKEN = digest_of("an invitation's token")
MINUTE = 60 * 1_000_000_000
ANN, BOB, EVE = "user:ann", "user:bob", "user:eve"
ADDRESS, INDEX = "v1.sealed-address", "5" * 64
REQUEST, OTHER_REQUEST = "a" * 64, "b" * 64
MADE = Answer(201, '{"id":"x"}', {"Location": "/x"})

ops = partial(api_keys.make, key=KEY, name="ops", scopes=["system"])
invite = partial(invitations.make, token_digest=TOKEN, email=ADDRESS, email_index=INDEX)
asked = partial(approvals.ask, what={"b": 1, "a": ["x"]}, subject=BOB, role="project.owner", place="project:p1")


@asynccontextmanager
async def settled(urls: StoreUrls) -> AsyncIterator[Writer]:
    """Open a store with three users and three tenants, one of them deleted, and a project in the first."""
    async with opened(urls) as writer:
        for tenant in ("acme", "globex", "gone"):
            async with writer.write(tenant=tenant, making=True) as write:
                await tenants.make(write)
        async with writer.write(tenant="gone", shared=True) as write:
            await tenants.set_status(write, "deleted")
            for ref in (ANN, BOB, EVE):
                await principals.make(write, ref)
        async with writer.write(tenant="acme") as write:
            await resources.make(write, "project:p1")
        yield writer


def at(writer: Writer, now: int) -> Writer:
    """Write to the same store at another time."""
    return Writer(writer.database, clock=lambda: now)


async def done(writer: Writer, work: Callable[[Write], Awaitable[Any]], **how: Any) -> Any:
    """Do work in a write; return what it returns."""
    async with writer.write(**how) as write:
        return await work(write)


async def seen(
    writer: Writer, look: Callable[..., Awaitable[Any]], *args: Any, tenant: str | None = None, **rest: Any
) -> Any:
    """Read in a transaction of a tenant, or of none."""
    async with writer.database.reading(tenant) as connection:
        return await look(connection, *args, **rest)


async def said(urls: StoreUrls) -> list[tuple[str, dict[str, Any]]]:
    """Read what the audit logs say of administration."""
    rows = await rows_of(urls, "audit_log", "platform_audit_log")
    entries = [each for found in rows.values() for row in sorted(found) for each in json.loads(row[4])]
    mine = ("api_key.", "invitation.", "approval.", "idempotency.", "personal_data.", "erasure.")
    return [(action, detail) for action, detail in entries if action.startswith(mine)]


# --- keys ---------------------------------------------------------------------------------------------


def test_a_key_is_long_and_known_by_its_look() -> None:
    """A key is `bylaw_` and 43 characters of base64url, made of 32 random bytes, and none is like another."""
    made = keys.new_key(lambda count: bytes(range(count)))

    assert made == "bylaw_" + base64.urlsafe_b64encode(bytes(range(32))).decode().rstrip("=")
    assert keys.KEY.fullmatch(made)
    assert keys.new_key() != keys.new_key()


def test_a_digest_is_one_or_refused() -> None:
    """The digest of a key is its SHA-256 in hex; what is none is refused, and not repeated."""
    assert digest_of(KEY) == hashlib.sha256(KEY.encode()).hexdigest() == keys.check_digest(digest_of(KEY), "a key")
    for wrong in (KEY, "0" * 63, "0" * 63 + "A", "0" * 64 + "\n", ""):
        with pytest.raises(RefusedError) as caught:
            keys.check_digest(wrong, "a key")

        assert caught.value.code == "bad_digest"
        assert not wrong or wrong not in caught.value.message


def test_an_api_key_is_found_by_its_digest(store_urls: StoreUrls) -> None:
    """A key is found with what it is for, in one statement; it is stored nowhere, and no other digest finds it."""
    statements: list[str] = []

    async def scene() -> tuple[Any, ...]:
        async with settled(store_urls) as writer:
            many = partial(ops, name="the ops", scopes=["tenant:acme", "audit", "facts", "audit"], expires=NOW + DAY)
            made = await done(writer, many, actor=ANN)
            async with writer.database.reading() as connection:
                engine = writer.database.engine.sync_engine
                event.listen(engine, "before_cursor_execute", lambda *args: statements.append(args[2]))
                found = await api_keys.find_by_digest(connection, digest_of(KEY))
                counted = len(statements)
            none = await seen(writer, api_keys.find_by_digest, digest_of(KEY + "k"))
            return made, found, none, counted, repr(await rows_of(store_urls, *tables.meta.tables))

    made, found, none, counted, stored = run(scene())

    scopes = ("facts", "audit", "tenant:acme")
    assert found == api_keys.ApiKey(made, "the ops", KEY[:8], scopes, NOW, ANN, NOW + DAY, None, None)
    assert (none, counted) == (None, 1)
    assert digest_of(KEY) in stored
    assert KEY[:9] not in stored


#: What is refused where `ops` is: the code, and what is done.
REFUSED_KEYS: list[tuple[str, Work]] = [
    ("taken", ops),
    ("bad_key", partial(ops, key=digest_of(KEY))),
    ("bad_key", partial(ops, key=KEY + "k")),
    ("bad_key", partial(ops, key="bylaw_guess")),
    ("bad_id", partial(ops, key=keys.new_key(), name="")),
    ("bad_id", partial(ops, key=keys.new_key(), name="a\nb")),
    ("bad_times", partial(ops, key=keys.new_key(), expires=NOW)),
    ("bad_scope", partial(ops, key=keys.new_key(), scopes=[])),
    ("bad_scope", partial(ops, key=keys.new_key(), scopes=["system", "root"])),
    ("bad_scope", partial(ops, key=keys.new_key(), scopes=["Tenant:acme"])),
    ("bad_scope", partial(ops, key=keys.new_key(), scopes=[f"tenant:t{n}" for n in range(1001)])),
    ("unknown", partial(ops, key=keys.new_key(), scopes=["tenant:nowhere"])),
    ("deleted", partial(ops, key=keys.new_key(), scopes=["tenant:gone"])),
    ("bad_id", partial(ops, key=keys.new_key(), scopes=["tenant:"])),
    ("not_there", partial(api_keys.revoke, identity="nobody's")),
]


def test_what_is_refused_of_api_keys(store_urls: StoreUrls) -> None:
    """What contradicts itself, or what is stored, is refused with its code, and nothing is changed by it."""

    async def scene() -> tuple[list[str], bool]:
        async with settled(store_urls) as writer:
            await done(writer, ops)
            before = await rows_of(store_urls, "api_keys", "changes", "platform_audit_log")
            found = [await refusal(writer, work) for _, work in REFUSED_KEYS]
            return found, before == await rows_of(store_urls, "api_keys", "changes", "platform_audit_log")

    found, is_unchanged = run(scene())

    assert found == [code for code, _ in REFUSED_KEYS]
    assert is_unchanged


def test_a_key_is_revoked_once(store_urls: StoreUrls) -> None:
    """Of two who revoke a key at once, in writes that do not wait for each other, one does; its row stays."""

    async def scene() -> tuple[list[str], Any]:
        async with settled(store_urls) as writer:
            revoke = partial(api_keys.revoke, identity=await done(writer, ops))
            later = at(writer, NOW + 5)
            codes = await asyncio.gather(*(refusal(later, revoke, tenant=name) for name in ("acme", "globex")))
            return codes, await seen(writer, api_keys.find_by_digest, digest_of(KEY))

    codes, found = run(scene())

    assert sorted(codes) == ["done", "over"]
    assert found.revoked_at == NOW + 5


def test_use_is_noted_once_a_minute(store_urls: StoreUrls) -> None:
    """When a key was last used is written at most once a minute, never back, and moves no revision."""

    async def scene() -> tuple[list[bool], int, bool]:
        async with settled(store_urls) as writer:
            await done(writer, ops)
            before = await rows_of(store_urls, "revisions", "changes", "platform_audit_log")
            fresh = await seen(writer, api_keys.find_by_digest, digest_of(KEY))
            noted = []
            for key, now in (
                (fresh, NOW),
                (fresh, NOW + 1),  # as another process has it, that has read it before
                (replace(fresh, last_used=NOW), NOW + MINUTE - 1),
                (replace(fresh, last_used=NOW), NOW + MINUTE),
                (fresh, NOW + 1),
            ):
                noted.append(await api_keys.note_use(writer.database, key, now=now))
            found = await seen(writer, api_keys.find_by_digest, digest_of(KEY))
            after = await rows_of(store_urls, "revisions", "changes", "platform_audit_log")
            return noted, found.last_used, before == after

    assert run(scene()) == ([True, False, False, True, False], NOW + MINUTE, True)


def test_lists_go_on_behind_an_id(store_urls: StoreUrls) -> None:
    """Page by page each list shows everything once, in the order in which it was made."""

    async def scene() -> list[tuple[list[str], list[str]]]:
        found = []
        async with settled(store_urls) as writer:
            made: dict[str, list[str]] = {"keys": [], "invitations": [], "approvals": [], "erasures": []}
            for number in range(5):
                later = at(writer, NOW + number * 1_000_000)
                async with later.write(tenant="acme", shared=True) as write:
                    made["keys"].append(await ops(write, key=keys.new_key()))
                    made["invitations"].append(await invite(write, token_digest=digest_of(str(number))))
                    made["approvals"].append(await asked(write))
                    made["erasures"].append(await personal_data.request_erasure(write, f"user:u{number}"))
            looks: list[tuple[str, Callable[..., Awaitable[Any]], tuple[str, ...]]] = [
                ("keys", api_keys.read_page, ()),
                ("invitations", invitations.read_page, ("acme",)),
                ("approvals", approvals.read_page, ("acme",)),
                ("erasures", personal_data.read_erasures, ()),
            ]
            for name, look, args in looks:
                listed: list[str] = []
                while page := await seen(
                    writer, look, *args, tenant="acme", after=listed[-1] if listed else "", limit=2
                ):
                    assert len(page) <= 2
                    listed.extend(each.id for each in page)
                found.append((made[name], listed))
        return found

    for made, listed in run(scene()):
        assert listed == made


# --- invitations --------------------------------------------------------------------------------------


def test_an_invitation_is_found_by_its_token(store_urls: StoreUrls) -> None:
    """A token leads from no tenant to the one that invites, and there to the invitation, as it was made."""

    async def scene() -> tuple[Any, ...]:
        async with settled(store_urls) as writer:
            roles = [("project.owner", "project:p1"), ("project.owner", "project:p1")]
            made = await done(writer, partial(invite, roles=roles, status="guest"), tenant="acme", actor=ANN)
            tenant = await seen(writer, invitations.tenant_of_token, TOKEN)
            found = await seen(writer, invitations.find_by_digest, tenant, TOKEN, tenant=tenant)
            nobody = await seen(writer, invitations.tenant_of_token, digest_of("guessed"))
            return made, tenant, found, nobody

    made, tenant, found, nobody = run(scene())

    assert (tenant, nobody) == ("acme", None)
    assert found == invitations.Invitation(
        made, "acme", ADDRESS, (("project.owner", "project:p1"),), "guest", ANN, NOW, NOW + 7 * DAY, None, None, None
    )
    assert found.is_open(NOW + 7 * DAY - 1)
    assert not found.is_open(NOW + 7 * DAY)


REFUSED_INVITATIONS: list[tuple[str, Work]] = [
    ("taken", invite),
    ("bad_digest", partial(invite, token_digest="an invitation's token")),
    ("bad_status", partial(invite, token_digest="0" * 64, status="suspended")),
    ("bad_times", partial(invite, token_digest="0" * 64, expires=NOW)),
    ("bad_times", partial(invite, token_digest="0" * 64, expires=NEVER)),
    ("unknown", partial(invite, token_digest="0" * 64, roles=[("custom.none", "project:p1")])),
    ("bad_place", partial(invite, token_digest="0" * 64, roles=[("root", "system:system")])),
    ("bad_id", partial(invite, token_digest="0" * 64, roles=[("owner", "p1")])),
    ("too_many", partial(invite, token_digest="0" * 64, roles=[("owner", f"project:p{n}") for n in range(101)])),
    ("not_there", partial(invitations.accept, token_digest="0" * 64, ref=BOB)),
    ("bad_id", partial(invitations.accept, token_digest=TOKEN, ref="group:staff")),
    ("not_there", partial(invitations.withdraw, identity="nobody's")),
]


def test_what_is_refused_of_invitations(store_urls: StoreUrls) -> None:
    """What contradicts itself, or what is stored, is refused with its code, and nothing is changed by it."""

    async def scene() -> tuple[list[str], bool, str]:
        tables_of = ("invitations", "invitation_tokens", "changes", "audit_log")
        async with settled(store_urls) as writer:
            await done(writer, invite, tenant="acme")
            before = await rows_of(store_urls, *tables_of)
            found = [await refusal(writer, work, tenant="acme") for _, work in REFUSED_INVITATIONS]
            elsewhere = await refusal(writer, invite, tenant="globex")
            return found, before == await rows_of(store_urls, *tables_of), elsewhere

    found, is_unchanged, elsewhere = run(scene())

    assert found == [code for code, _ in REFUSED_INVITATIONS]
    assert elsewhere == "taken"
    assert is_unchanged


def test_an_invitation_is_accepted_once(store_urls: StoreUrls) -> None:
    """Of two who accept at once one does; then its token leads nowhere, and no address is kept."""

    async def scene() -> tuple[list[str], Any, Any, str]:
        async with settled(store_urls) as writer:
            await done(writer, invite, tenant="acme")
            codes = await asyncio.gather(
                *(
                    refusal(writer, partial(invitations.accept, token_digest=TOKEN, ref=ref), tenant="acme")
                    for ref in (ANN, BOB)
                )
            )
            rows = await rows_of(store_urls, "invitations", "invitation_tokens")
            (left,) = await seen(writer, invitations.read_page, "acme", tenant="acme", limit=9)
            withdrawn = await refusal(writer, partial(invitations.withdraw, identity=left.id), tenant="acme")
            return codes, rows, left, withdrawn

    codes, rows, left, withdrawn = run(scene())

    assert sorted(codes) == ["done", "over"]
    assert left.accepted_by == (ANN if codes[0] == "done" else BOB)
    assert (left.accepted_at, left.is_open(NOW), withdrawn) == (NOW, False, "over")
    assert rows["invitation_tokens"] == set()
    assert ADDRESS not in repr(rows)
    assert INDEX not in repr(rows)


def test_who_accepts_is_told_the_address(store_urls: StoreUrls) -> None:
    """Accepting returns the invitation as it was, so that the address can be kept as the new member's own."""

    async def scene() -> Any:
        async with settled(store_urls) as writer:
            await done(writer, invite, tenant="acme")
            return await done(writer, partial(invitations.accept, token_digest=TOKEN, ref=BOB), tenant="acme")

    accepted = run(scene())

    assert (accepted.email, accepted.accepted_at) == (ADDRESS, None)


def test_an_invitation_ends_on_time(store_urls: StoreUrls) -> None:
    """At the instant of its end it is accepted no more, a nanosecond before it is; withdrawing forgets its address."""

    async def scene() -> tuple[list[str], str]:
        async with settled(store_urls) as writer:
            short = partial(invite, expires=NOW + 10)
            first = await done(writer, short, tenant="acme")
            await done(writer, partial(short, token_digest="1" * 64), tenant="acme")
            accept = partial(invitations.accept, token_digest=TOKEN, ref=BOB)
            withdraw = partial(invitations.withdraw, identity=first)
            steps: list[tuple[int, Work]] = [
                (10, accept),
                (9, partial(accept, token_digest="1" * 64)),
                (11, withdraw),
                (11, withdraw),
                (9, accept),
            ]
            codes = [await refusal(at(writer, NOW + after), work, tenant="acme") for after, work in steps]
            return codes, repr(await rows_of(store_urls, "invitations", "invitation_tokens"))

    codes, left = run(scene())

    assert codes == ["over", "done", "done", "over", "over"]
    assert ADDRESS not in left


def test_who_is_deleted_accepts_nothing(store_urls: StoreUrls) -> None:
    """A deleted user does not come back by an invitation."""

    async def scene() -> str:
        async with settled(store_urls) as writer:
            await done(writer, invite, tenant="acme")
            await done(writer, partial(principals.delete, ref=BOB))
            return await refusal(writer, partial(invitations.accept, token_digest=TOKEN, ref=BOB), tenant="acme")

    assert run(scene()) == "deleted"


# --- approvals ----------------------------------------------------------------------------------------


def test_a_request_is_kept_as_it_was_asked(store_urls: StoreUrls) -> None:
    """What was asked for is kept as canonical JSON, with what it would give, and told to who decides."""

    async def scene() -> list[Any]:
        async with settled(store_urls) as writer:
            made = await done(writer, asked, tenant="acme", actor=ANN)
            (stored,) = (await rows_of(store_urls, "approvals"))["approvals"]
            waiting = await seen(writer, approvals.read, "acme", made, tenant="acme")
            decide = partial(approvals.decide, identity=made, is_approved=True)
            decided = await done(writer, decide, tenant="acme", actor=EVE)
            left = await seen(writer, approvals.read, "acme", made, tenant="acme")
            return [made, stored[2], waiting, decided, left]

    made, text, waiting, decided, left = run(scene())

    ends = NOW + 7 * DAY
    assert text == '{"a":["x"],"b":1}'
    assert waiting == approvals.Approval(
        made, {"a": ["x"], "b": 1}, BOB, "project.owner", "project:p1", ANN, NOW, ends, None, None, None
    )
    assert decided == left == replace(waiting, decided_by=EVE, decided_at=NOW, outcome="approved")


def test_a_request_is_decided_once(store_urls: StoreUrls) -> None:
    """Of two who decide at once, and one who withdraws, one does."""

    async def scene() -> tuple[list[str], list[Any]]:
        async with settled(store_urls) as writer:
            made = await done(writer, asked, tenant="acme", actor=ANN)
            works: list[tuple[Work, str]] = [
                (partial(approvals.decide, identity=made, is_approved=True), EVE),
                (partial(approvals.decide, identity=made, is_approved=False), "key:1"),
                (partial(approvals.withdraw, identity=made), ANN),
            ]
            codes = await asyncio.gather(*(refusal(writer, work, tenant="acme", actor=actor) for work, actor in works))
            (left,) = await seen(writer, approvals.read_page, "acme", tenant="acme", limit=9)
            return codes, [left.outcome, left.decided_by]

    codes, outcome = run(scene())

    assert Counter(codes) == {"done": 1, "over": 2}
    assert outcome == [["approved", EVE], ["refused", "key:1"], ["withdrawn", ANN]][codes.index("done")]


def test_nobody_decides_for_himself(store_urls: StoreUrls) -> None:
    """Neither who asked nor who is to get the role decides, either way; and a request ends on time."""

    async def scene() -> list[str]:
        async with settled(store_urls) as writer:
            made = await done(writer, asked, tenant="acme", actor=ANN)
            steps = [(ANN, True, 0), (ANN, False, 0), (BOB, True, 0), (BOB, False, 0), (EVE, True, 7 * DAY)]
            steps.append((EVE, True, 7 * DAY - 1))
            return [
                await refusal(
                    at(writer, NOW + after),
                    partial(approvals.decide, identity=made, is_approved=is_approved),
                    tenant="acme",
                    actor=actor,
                )
                for actor, is_approved, after in steps
            ]

    assert run(scene()) == ["not_self"] * 4 + ["over", "done"]


def test_what_is_refused_of_approvals(store_urls: StoreUrls) -> None:
    """A request for what is not there, and a decision on none, is refused with its code."""
    works: list[tuple[str, Work]] = [
        ("unknown", partial(asked, subject="group:none")),
        ("unknown", partial(asked, role="custom.none")),
        ("bad_place", partial(asked, place="system:system")),
        ("bad_attributes", partial(asked, what={"a": float("nan")})),
        ("not_there", partial(approvals.decide, identity="nobody's", is_approved=True)),
        ("not_there", partial(approvals.withdraw, identity="nobody's")),
    ]

    async def scene() -> list[str]:
        async with settled(store_urls) as writer:
            return [await refusal(writer, work, tenant="acme") for _, work in works]

    assert run(scene()) == [code for code, _ in works]


def test_what_is_pending_is_counted(store_urls: StoreUrls) -> None:
    """Counted is what is neither decided nor over, of one role on one place of one tenant, within a write too."""

    async def scene() -> list[int]:
        async with settled(store_urls) as writer:
            for work in (asked, partial(asked, role="project.viewer"), partial(asked, place="project:p2")):
                await done(writer, work, tenant="acme", actor=ANN)
            await done(writer, asked, tenant="globex", actor=ANN)
            refused = await done(writer, asked, tenant="acme", actor=ANN)
            await done(at(writer, NOW + 1), asked, tenant="acme", actor=ANN)
            look = partial(approvals.count_pending, tenant="acme", role="project.owner", place="project:p1")
            ends = NOW + 7 * DAY
            found = [
                await seen(writer, partial(look, now=now), tenant="acme") for now in (NOW, ends - 1, ends, ends + 1)
            ]
            async with writer.write(tenant="acme", actor=EVE) as write:
                await approvals.decide(write, refused, is_approved=False)
                found.append(await look(write.connection, now=NOW))
            return found

    assert run(scene()) == [3, 3, 1, 0, 2]


# --- the wall -----------------------------------------------------------------------------------------


def test_no_other_tenant_sees_or_ends_anything(store_urls: StoreUrls) -> None:
    """A read or write of another tenant, or of none, finds neither an invitation nor a request, and changes none."""

    async def scene() -> tuple[list[Any], list[str], bool]:
        async with settled(store_urls) as writer:
            invited = await done(writer, invite, tenant="acme")
            waiting = await done(writer, asked, tenant="acme", actor=ANN)
            before = await rows_of(store_urls, "invitations", "approvals", "invitation_tokens")
            looks: list[Callable[..., Awaitable[Any]]] = [
                partial(invitations.find_by_digest, token_digest=TOKEN),
                partial(invitations.read_page, limit=9),
                partial(approvals.read, identity=waiting),
                partial(approvals.read_page, limit=9),
                partial(approvals.count_pending, role="project.owner", place="project:p1", now=NOW),
            ]
            reads = [await seen(writer, look, "globex", tenant="globex") for look in looks]
            works: list[Work] = [
                partial(invitations.accept, token_digest=TOKEN, ref=BOB),
                partial(invitations.withdraw, identity=invited),
                partial(approvals.decide, identity=waiting, is_approved=True),
                partial(approvals.withdraw, identity=waiting),
            ]
            codes = [await refusal(writer, work, tenant="globex", shared=True) for work in works]
            after = await rows_of(store_urls, "invitations", "approvals", "invitation_tokens")
            return reads, codes, before == after

    assert run(scene()) == ([None, (), None, (), 0], ["not_there"] * 4, True)


@pytest.mark.parametrize("tenant", [None, "globex"])
def test_the_wall_holds_who_names_another_tenant(postgres_urls: StoreUrls, tenant: str | None) -> None:
    """Even a read that names the tenant sees nothing of it in a transaction that is not its."""

    async def scene() -> list[Any]:
        async with settled(postgres_urls) as writer:
            await done(writer, invite, tenant="acme")
            await done(writer, asked, tenant="acme", actor=ANN)
            looks: list[Callable[..., Awaitable[Any]]] = [
                partial(invitations.find_by_digest, tenant="acme", token_digest=TOKEN),
                partial(invitations.read_page, tenant="acme", limit=9),
                partial(approvals.read_page, tenant="acme", limit=9),
                partial(approvals.count_pending, tenant="acme", role="project.owner", place="project:p1", now=NOW),
            ]
            found = []
            for own in (tenant, "acme"):
                async with writer.database.reading(own) as connection:
                    found.append([bool(await look(connection)) for look in looks])
            return found

    assert run(scene()) == [[False] * 4, [True] * 4]


def test_who_decides_may_read_none_of_it(postgres_urls: StoreUrls) -> None:
    """The login of the decision service has no right on any table of administration, in a tenant or in none."""
    named = ("api_keys", "invitations", "approvals", "personal_data")
    others = ("invitation_tokens", "idempotency_keys", "erasures")

    async def look(database: Database, name: str, tenant: str | None) -> str:
        try:
            async with database.reading(tenant) as connection:
                await connection.execute(select(tables.meta.tables[name]))
        except UnfitError as error:
            return error.code
        return "read"

    async def scene() -> set[str]:
        database = Database(postgres_urls.sidecar)
        codes = {await look(database, name, tenant) for name in (*named, *others) for tenant in (None, "acme")}
        await database.close()
        return codes

    assert run(scene()) == {"no_rights"}


# --- answers ------------------------------------------------------------------------------------------


async def once(writer: Writer, key: str = "k", request: str = REQUEST, answer: Answer = MADE, **how: Any) -> object:
    """Make a resource as a request with a key; return what it is answered."""
    try:
        async with writer.write(**{"tenant": "acme", "actor": ANN, **how}) as write:
            await idempotency.begin(write, key, request)
            await resources.make(write, "task:once")
            await idempotency.finish(write, key, answer)
    except RepeatedError as error:
        return error.answer
    except RefusedError as error:
        return error.code
    return "done"


def test_a_request_is_done_once(store_urls: StoreUrls) -> None:
    """A second time is answered as the first was, and moves no revision; of another actor it is another request."""

    async def scene() -> tuple[list[object], bool]:
        async with settled(store_urls) as writer:
            found = [await once(writer)]
            before = await rows_of(store_urls, *tables.meta.tables)
            found += [await once(writer), await once(writer, request=OTHER_REQUEST), await once(writer, key="a b")]
            found += [await once(writer, actor=BOB)]
            return found, before == await rows_of(store_urls, *tables.meta.tables)

    found, is_unchanged = run(scene())

    assert found == ["done", MADE, "key_reused", "bad_id", "taken"]
    assert is_unchanged


@pytest.mark.parametrize("names", [("acme", "acme"), ("acme", "globex")])
def test_two_at_once_do_it_once(store_urls: StoreUrls, names: tuple[str, str]) -> None:
    """Of two at once with one key, in writes that wait for each other or not, one does it, the other has its answer."""

    async def scene() -> tuple[list[object], int]:
        async with settled(store_urls) as writer:
            found = await asyncio.gather(*(once(writer, tenant=name) for name in names))
            return found, len((await rows_of(store_urls, "resources"))["resources"]) - 1

    found, made = run(scene())

    assert sorted(map(str, found)) == sorted(["done", str(MADE)])
    assert made == 1


def test_what_was_refused_may_be_tried_again(store_urls: StoreUrls) -> None:
    """A write that is taken back leaves its key free."""

    async def scene() -> list[object]:
        async with settled(store_urls) as writer:
            await done(writer, partial(resources.make, ref="task:once"), tenant="globex")
            return [await once(writer, tenant="globex"), await once(writer)]

    assert run(scene()) == ["taken", "done"]


def test_a_key_that_was_kept_without_an_answer_is_under_way(store_urls: StoreUrls) -> None:
    """Whoever comes meanwhile is told so, until a day is over."""

    async def scene() -> list[object]:
        async with settled(store_urls) as writer:
            await done(writer, partial(idempotency.begin, key="k", request=REQUEST), tenant="acme", actor=ANN)
            return [await once(writer), await once(at(writer, NOW + DAY - 1)), await once(at(writer, NOW + DAY))]

    assert run(scene()) == [None, None, "done"]


def test_answers_are_forgotten_after_a_day(store_urls: StoreUrls) -> None:
    """Sweeping removes answers that are older than a day, so many at a time, and no others."""

    async def scene() -> tuple[list[int], list[str]]:
        async with settled(store_urls) as writer:
            for number in range(4):
                work = partial(idempotency.begin, key=f"k{number}", request=REQUEST)
                await done(at(writer, NOW + number), work)
            later = at(writer, NOW + DAY + 2)
            swept = [await done(later, partial(idempotency.prune, limit=2)) for _ in range(3)]
            return swept, [row[1] for row in (await rows_of(store_urls, "idempotency_keys"))["idempotency_keys"]]

    assert run(scene()) == ([2, 1, 0], ["k3"])


def test_no_answer_with_a_key_is_kept(store_urls: StoreUrls) -> None:
    """An answer that shows a key takes its write back rather than be stored."""

    async def scene() -> str:
        async with settled(store_urls) as writer:
            for answer in (Answer(201, f'{{"key": "{KEY}"}}', {}), Answer(201, "", {"X-Key": KEY})):
                with pytest.raises(RuntimeError, match="shows a key"):
                    await once(writer, answer=answer)
            return repr(await rows_of(store_urls, *tables.meta.tables))

    stored = run(scene())

    assert "task" not in stored
    assert KEY not in stored


def test_an_answer_needs_its_key(store_urls: StoreUrls) -> None:
    """What was not begun, or is finished, cannot be finished."""

    async def scene() -> None:
        async with settled(store_urls) as writer:
            await once(writer)
            for key in ("k", "another"):
                with pytest.raises(RuntimeError, match="not begun, or is finished"):
                    await done(writer, partial(idempotency.finish, key=key, answer=MADE), actor=ANN)

    run(scene())


# --- personal data ------------------------------------------------------------------------------------

email = partial(personal_data.put, ref=ANN, field="email", value=ADDRESS, blind_index=INDEX)


def test_what_is_known_is_read_and_found(store_urls: StoreUrls) -> None:
    """Values are read by whom they are of, and found by index; a new one takes the place of the old; all go at once."""

    async def scene() -> list[Any]:
        async with settled(store_urls) as writer:
            for work in (email, partial(email, value="v1.anew"), partial(email, ref=BOB, blind_index=None)):
                await done(writer, work)
            await done(writer, partial(email, field="phone", value="v1.phone"))
            found = [await seen(writer, personal_data.read, ref) for ref in (ANN, BOB, EVE)]
            for field, index in (("email", INDEX), ("phone", INDEX), ("email", "6" * 64)):
                found.append(await seen(writer, personal_data.find_by_index, field, index))
            found.append(await done(writer, partial(personal_data.remove_all, ref=ANN)))
            found.append(await seen(writer, personal_data.read, ANN))
            found.append(await seen(writer, personal_data.find_by_index, "email", INDEX))
            return found

    known = [{"email": "v1.anew", "phone": "v1.phone"}, {"email": ADDRESS}, {}]
    assert run(scene()) == [*known, ANN, ANN, None, 2, {}, None]


def test_what_is_refused_of_personal_data(store_urls: StoreUrls) -> None:
    """No two have one value, none who is deleted has any, and nothing is put outside the lock that deletions take."""
    works: list[tuple[str, Work, dict[str, Any]]] = [
        ("taken", partial(email, ref=BOB), {}),
        ("done", partial(email, ref=BOB, blind_index="6" * 64), {}),
        ("taken", partial(email, blind_index="7" * 64), {"tenant": "acme", "shared": True}),
        ("deleted", partial(email, ref=EVE, blind_index=None), {}),
        ("bad_id", partial(email, ref="group:g"), {}),
        ("bad_id", partial(email, field=""), {}),
        ("needs_shared", email, {"tenant": "acme"}),
        ("needs_shared", partial(personal_data.remove_all, ref=ANN), {"tenant": "acme"}),
        ("needs_shared", partial(personal_data.request_erasure, ref=ANN), {"tenant": "acme"}),
        ("bad_id", partial(personal_data.request_erasure, ref="service:mail"), {}),
        ("not_there", partial(personal_data.finish_erasure, identity="nobody's"), {}),
    ]

    async def scene() -> list[str]:
        async with settled(store_urls) as writer:
            await done(writer, partial(principals.delete, ref=EVE))
            await done(writer, email)
            await done(writer, partial(email, ref="service:mail", blind_index="7" * 64))
            return [await refusal(writer, work, **how) for _, work, how in works]

    assert run(scene()) == [code for code, _, _ in works]


def test_two_at_once_do_not_get_one_address(store_urls: StoreUrls) -> None:
    """Of two who are given one address at once one gets it."""

    async def scene() -> list[str]:
        async with settled(store_urls) as writer:
            return await asyncio.gather(*(refusal(writer, partial(email, ref=ref)) for ref in (ANN, BOB)))

    assert sorted(run(scene())) == ["done", "taken"]


def test_who_is_forgotten_stays_forgotten(store_urls: StoreUrls) -> None:
    """The register says that it was done, once, and by then nothing says any more who it was, whoever asked for it."""

    async def scene() -> tuple[Any, list[str], str]:
        async with settled(store_urls) as writer:
            await done(writer, email)
            asked_for = await done(writer, partial(personal_data.request_erasure, ref=ANN), actor=ANN)
            async with at(writer, NOW + 5).write(actor="key:1") as write:
                await personal_data.remove_all(write, ANN)
                await personal_data.finish_erasure(write, asked_for)
                await pseudonyms.erase(write, ANN)
            again = await refusal(writer, partial(personal_data.finish_erasure, identity=asked_for))
            register = await seen(writer, personal_data.read_erasures, limit=9)
            left = await rows_of(
                store_urls, "personal_data", "erasures", "pseudonyms", "audit_log", "platform_audit_log"
            )
            return register, [again], repr(left)

    (erasure,), codes, left = run(scene())

    assert (erasure.requested_at, erasure.done_at, codes) == (NOW, NOW + 5, ["over"])
    assert erasure.requested_by == f"user:{erasure.pseudonym}"
    assert ANN not in left
    assert ADDRESS not in left
    assert INDEX not in left


# --- logs ---------------------------------------------------------------------------------------------


def test_the_audit_log_tells_and_keeps_secrets(store_urls: StoreUrls) -> None:
    """Everything that is done leaves an entry, and none holds a key, a digest, an address, an index or a name."""

    async def scene() -> tuple[list[Any], str]:
        async with settled(store_urls) as writer:
            key = await done(writer, partial(ops, name="of Ann"), actor=ANN)
            await done(writer, partial(api_keys.revoke, identity=key))
            first = await done(writer, partial(invite, roles=[("user.reader", ANN)]), tenant="acme", actor=ANN)
            second = await done(writer, partial(invite, token_digest="2" * 64), tenant="acme", actor=ANN)
            await done(writer, partial(invitations.accept, token_digest=TOKEN, ref=BOB), tenant="acme", actor=BOB)
            await done(writer, partial(invitations.withdraw, identity=second), tenant="acme")
            waiting = await done(writer, asked, tenant="acme", actor=ANN)
            await done(writer, partial(approvals.decide, identity=waiting, is_approved=False), tenant="acme", actor=EVE)
            await done(
                writer, partial(approvals.withdraw, identity=await done(writer, asked, tenant="acme")), tenant="acme"
            )
            await once(writer)
            await done(writer, idempotency.prune)
            await done(writer, email)
            await done(writer, partial(personal_data.remove_all, ref=ANN))
            erasure = await done(writer, partial(personal_data.request_erasure, ref=ANN))
            await done(writer, partial(personal_data.finish_erasure, identity=erasure))
            logged = await rows_of(store_urls, "audit_log", "platform_audit_log")
            return await said(store_urls), f"{first}{logged}"

    entries, logged = run(scene())

    assert Counter(action for action, _ in entries) == {
        **dict.fromkeys(("api_key.made", "api_key.revoked", "invitation.accepted", "invitation.withdrawn"), 1),
        **dict.fromkeys(("invitation.made", "approval.asked"), 2),
        **dict.fromkeys(("approval.refused", "approval.withdrawn", "idempotency.pruned"), 1),
        **dict.fromkeys(("personal_data.put", "personal_data.removed", "erasure.requested", "erasure.done"), 1),
    }
    for secret in (KEY[:8], digest_of(KEY), TOKEN, ADDRESS, INDEX, ANN, BOB, EVE, "of Ann", MADE.body):
        assert secret not in logged
