"""What is encrypted, and encrypted anew: answers, how things were asked for, addresses, what is known of persons."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import select, text

from admin.encryption import KeyRing, Place, generate_key_line, head_of, is_sealed, parse_key_ring
from admin.reencryption.service import Job
from bylaw.cli import main
from engine import Policy
from store.changes import Writer
from store.database import Database
from store.keys import digest_of
from store.tables import approvals, circumstances, idempotency_keys, invitations, personal_data
from store.writes import ciphertexts, principals, tenants
from store.writes import circumstances as circumstances_writes
from store.writes import idempotency as idempotency_writes
from store.writes import invitations as invitations_writes
from store.writes import personal_data as personal_writes
from store.writes.ciphertexts import Cells
from tests.admin.service import Asking, World, make_world, served, token
from tests.databases import StoreUrls, run
from tests.store.worlds import NOW, rows_of

ASSIGN: Final = Path(__file__).parents[1] / "conformance" / "assign"
LINES: Final = {name: generate_key_line(name) for name in ("old", "new", "index")}
TENANTS: Final = ("acme", "globex")
STEWARD: Final = {"roles": [{"role": "steward", "on": "org:acme"}]}
ADM: Final = token("user:adm", "acme", mfa=True)
NEW: Final = token("user:new")


def ring_of(*ids: str) -> KeyRing:
    return parse_key_ring("\n".join(LINES[each] for each in (*ids, "index")), place="test")


OLD, BOTH, ONLY_NEW = ring_of("old"), ring_of("new", "old"), ring_of("new")


# --- the job --------------------------------------------------------------------------------------------


@asynccontextmanager
async def filled(urls: StoreUrls) -> AsyncIterator[Writer]:
    """Open a store with one of everything that is encrypted, and one thing that was written without keys."""
    database = Database(urls.admin)
    writer = Writer(database, clock=lambda: NOW)
    try:
        async with writer.write() as write:
            for name in ("ann", "bob", "eve"):
                await principals.make(write, f"user:{name}")
                place = Place("", "personal_data", "value", ("user", name, "name"))
                await personal_writes.put(write, f"user:{name}", "name", OLD.encrypt(name, place))
            await idempotency_writes.begin(write, "k", "a" * 64)
            kept = OLD.encrypt("[]", Place("", "idempotency_keys", "body", (write.actor, "k")))
            await idempotency_writes.finish(write, "k", idempotency_writes.Answer(200, kept, {}))
        for tenant in TENANTS:
            async with writer.write(tenant=tenant, making=True) as write:
                await tenants.make(write)
            async with writer.write(tenant=tenant) as write:
                email = OLD.encrypt("zoe@example.org", Place(tenant, "invitations", "email", ("i1",)))
                await invitations_writes.make(
                    write, token_digest=digest_of(tenant), identity="i1", email=email, said='{"context": {}}'
                )
        yield writer
    finally:
        await database.close()


def test_everything_comes_under_the_current_key(store_urls: StoreUrls) -> None:
    """Each value reads with the new key alone then, what was written without keys is encrypted, too, and it is said
    that the old key is needed no more. A second run finds nothing to do."""

    async def play() -> Any:
        async with filled(store_urls) as writer:
            return await Job(writer, BOTH, limit=2).run(), await Job(writer, BOTH).run()

    first, second = run(play())
    rows = run(rows_of(store_urls, "personal_data", "invitations", "circumstances", "idempotency_keys"))

    assert first.renewed == {"personal_data": 3, "idempotency_keys": 1, "invitations": 2, "circumstances": 2}
    assert set(second.renewed.values()) == set(first.unreadable.values()) == {0}
    assert first.in_use == second.in_use == {"new": 8, "old": 0}
    assert (first.complete, first.next) == (True, None)
    for kind, name, field, value, *_ in rows["personal_data"]:
        assert ONLY_NEW.decrypt(value, Place("", "personal_data", "value", (kind, name, field))) == name
    for tenant, identity, _, email, *_ in rows["invitations"]:
        assert ONLY_NEW.decrypt(email, Place(tenant, "invitations", "email", (identity,))) == "zoe@example.org"
    for tenant, kind, identity, said in rows["circumstances"]:
        place = Place(tenant, "circumstances", "said", (kind, identity))
        assert ONLY_NEW.decrypt(said, place) == '{"context": {}}'


def test_it_goes_on_where_it_was_cut_off(store_urls: StoreUrls) -> None:
    """A run whose time is over says so, and names no key as needless; the next one does the rest."""

    async def play() -> Any:
        async with filled(store_urls) as writer:
            asked = iter(range(100))
            cut = await Job(writer, BOTH, limit=1, is_over=lambda: next(asked) >= 7).run()
            return cut, await Job(writer, BOTH, limit=1).run(cut.next or "")

    cut, rest = run(play())

    assert (cut.complete, cut.in_use) == (False, None)
    assert 0 < sum(cut.renewed.values()) < 8
    assert sum(cut.renewed.values()) + sum(rest.renewed.values()) == 8
    assert rest.in_use == {"new": 8, "old": 0}


def test_what_no_key_decrypts_is_counted_and_left(store_urls: StoreUrls) -> None:
    """A value under a key that is gone, or that was moved here, stays as it is, and the others are renewed."""

    async def play() -> Any:
        async with filled(store_urls) as writer:
            async with writer.database.changing() as connection:
                moved = "UPDATE personal_data SET value = (SELECT value FROM personal_data WHERE id = 'bob') "
                await connection.execute(text(f"{moved} WHERE id = 'ann'"))
            before = await rows_of(store_urls, "personal_data")
            return await Job(writer, BOTH, limit=1).run(), await Job(writer, ONLY_NEW).run(), before

    found, without, before = run(play())
    after = run(rows_of(store_urls, "personal_data"))["personal_data"]

    assert (found.renewed["personal_data"], found.unreadable["personal_data"]) == (2, 1)
    assert found.in_use == {"new": 7, "old": 1}
    assert without.unreadable["personal_data"] == 1
    assert {row for row in after if row[1] == "ann"} <= before["personal_data"]


def test_who_writes_meanwhile_has_the_last_word(store_urls: StoreUrls) -> None:
    """A value that was changed since it was read is not overwritten."""

    async def play() -> Any:
        async with filled(store_urls) as writer:
            cells = ciphertexts.ALL[0]
            async with writer.database.reading() as connection:
                page = await ciphertexts.read_page(connection, cells, None, head_of("new"), limit=1)
            async with writer.write() as write:
                await personal_writes.put(write, "user:ann", "name", "v1.new.meanwhile")
            async with writer.write() as write:
                return await ciphertexts.replace(write, cells, page[0], "v1.new.late")

    done = run(play())
    rows = run(rows_of(store_urls, "personal_data"))["personal_data"]

    assert not done
    assert {row[3] for row in rows if row[1] == "ann"} == {"v1.new.meanwhile"}


def test_every_column_of_ciphertexts_is_known() -> None:
    """What is encrypted anywhere is renewed; its place is its table, its column, and its key without the tenant."""
    named = {(cells.table.name, cells.column, tuple(c.name for c in cells.key), cells.is_owned) for cells in _ALL}

    assert named == {
        ("personal_data", "value", ("type", "id", "field"), False),
        ("idempotency_keys", "body", ("actor", "key"), False),
        ("invitations", "email", ("id",), True),
        ("circumstances", "said", ("kind", "id"), True),
    }


_ALL: Final[tuple[Cells, ...]] = ciphertexts.ALL


# --- what is encrypted, through HTTP ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(ASSIGN / "policy", ASSIGN / "facts.yaml", tmp_path_factory.mktemp("assign"))


@asynccontextmanager
async def anew(asking: Asking, policy: Policy, ring: KeyRing | None) -> AsyncIterator[Asking]:
    """Start the service anew over the same store, with other keys."""
    async with served(policy, str(asking.database.url), asking.key, ring=ring) as again:
        yield again


async def stored(asking: Asking) -> str:
    """Return all that the store holds of answers and of how things were asked for."""
    async with asking.database.reading() as connection:
        tables = (idempotency_keys, circumstances, approvals, invitations, personal_data)
        return str([(await connection.execute(select(each))).all() for each in tables])


async def invite(asking: Asking, who: str = ADM) -> Any:
    return await asking.ask("POST", "/tenants/acme/invitations", STEWARD, who=who)


async def accept(asking: Asking, made: Any) -> Any:
    return await asking.ask("POST", "/invitations/accept", {"token": made.body["token"]}, who=NEW)


@pytest.mark.parametrize("ring", [None, OLD], ids=["plain", "sealed"])
def test_an_invitation_is_judged_as_it_was_made(world: World, tmp_path: Path, ring: KeyRing | None) -> None:
    """Where an `assign` reads the context, it holds at acceptance as it did when the invitation was made, and nothing
    of it is kept then. Who is asked by the policy for what his token does not say promises nothing."""

    async def talk() -> Any:
        async with world.asked(tmp_path, ring=ring) as asking:
            refused = await invite(asking, token("user:adm", "acme"))
            made = await invite(asking)
            kept = await stored(asking)
            return refused, kept, await accept(asking, made), await stored(asking)

    refused, kept, accepted, rest = asyncio.run(talk())

    assert refused.status == 403
    assert ("mfa" in kept) == (ring is None)
    assert (accepted.status, accepted.body["roles"]) == (200, [{"role": "org.steward", "on": "org:acme"}]), (
        accepted.body
    )
    assert "mfa" not in rest
    assert "v1.old." not in rest


def test_a_promise_without_its_circumstances_is_none(world: World, tmp_path: Path) -> None:
    """Where how it was made is lost, or its key is, what depends on it is refused, with the reason."""

    async def talk() -> Any:
        async with world.asked(tmp_path, ring=OLD) as asking:
            made = await invite(asking)
            async with anew(asking, world.policy, ONLY_NEW) as other:
                unread = await accept(other, made)
            async with Writer(asking.database).write(tenant="acme") as write:
                listed = await asking.ask("GET", "/tenants/acme/invitations")
                await circumstances_writes.forget(write, "invitation", listed.body["items"][0]["id"])
            return unread, await accept(asking, made)

    unread, lost = asyncio.run(talk())

    assert (unread.status, unread.body["error"]) == (409, "no_keys")
    assert (lost.status, lost.body["error"]) == (403, "giver")


@pytest.mark.parametrize("ring", [None, OLD], ids=["plain", "sealed"])
def test_an_approval_keeps_how_it_was_asked_for(world: World, tmp_path: Path, ring: KeyRing | None) -> None:
    """It is encrypted where there are keys, judged by when somebody approves, and forgotten then."""

    async def talk() -> Any:
        async with world.asked(tmp_path, ring=ring) as asking:
            body = {"subject": "user:bob", "role": "auditor", "on": "org:acme"}
            waits = await asking.ask("POST", "/tenants/acme/assignments", body, who=token("user:own", "acme", mfa=True))
            kept = await stored(asking)
            path = f"/tenants/acme/approvals/{waits.body['approval']}/approve"
            return (
                waits.status,
                kept,
                await asking.ask("POST", path, who=token("user:wif", "acme")),
                await stored(asking),
            )

    waits, kept, approved, rest = asyncio.run(talk())

    assert waits == 202
    assert ("mfa" in kept) == (ring is None)
    assert ("v1.old." in kept) == (ring is not None)
    assert (approved.status, approved.body["outcome"]) == (200, "approved"), approved.body
    assert "mfa" not in rest
    assert "v1.old." not in rest


def test_a_kept_answer_is_encrypted_and_told_again(world: World, tmp_path: Path) -> None:
    """What was answered is told again with the same keys or newer ones; where the key is gone it is said that it was
    done, and it is not done twice. What was kept without keys reads on."""

    async def talk() -> Any:
        async with world.asked(tmp_path) as asking:
            make = ("POST", "/users", {"id": "zoe", "attributes": {"senior": True}})
            plain = await asking.ask(*make, Idempotency_Key="plain")
            async with anew(asking, world.policy, OLD) as old:
                told = await old.ask(*make, Idempotency_Key="plain")
                first = await old.ask("POST", "/users", {"id": "yan"}, Idempotency_Key="sealed")
                kept = await stored(old)
            found = []
            for ring in (BOTH, ONLY_NEW, None):
                async with anew(asking, world.policy, ring) as other:
                    found.append(await other.ask("POST", "/users", {"id": "yan"}, Idempotency_Key="sealed"))
            return plain, told, first, kept, found

    plain, told, first, kept, found = asyncio.run(talk())

    assert (plain.status, told.status, told.body) == (201, 201, plain.body)
    assert "yan" not in kept
    assert (found[0].status, found[0].body, found[0].headers["Location"]) == (
        201,
        first.body,
        first.headers["Location"],
    )
    assert [(each.status, each.body["error"]) for each in found[1:]] == [(409, "no_keys")] * 2


def test_keys_are_changed_without_a_stop(world: World, tmp_path: Path) -> None:
    """The endpoint encrypts anew, and says which key may go; without keys it says what to do."""

    async def talk() -> Any:
        async with world.asked(tmp_path, ring=OLD) as asking:
            await asking.ask("PUT", "/users/own/personal-data/email", {"value": "own@example.org"})
            await invite(asking)
            async with anew(asking, world.policy, BOTH) as both:
                renewed = await both.ask("POST", "/encryption/reencrypt")
            async with anew(asking, world.policy, ONLY_NEW) as new:
                known = await new.ask("GET", "/users/own/personal-data")
                found = await new.ask("POST", "/users/find", {"email": "OWN@example.org"})
            async with anew(asking, world.policy, None) as without:
                return renewed, known, found, await without.ask("POST", "/encryption/reencrypt")

    renewed, known, found, without = asyncio.run(talk())

    assert (renewed.status, renewed.body["in_use"]) == (200, {"new": 2, "old": 0}), renewed.body
    assert renewed.headers["Bylaw-Revision"]
    assert (known.body["fields"], found.body["id"]) == ({"email": "own@example.org"}, "own")
    assert (without.status, without.body["error"]) == (409, "no_keys")


def test_json_is_never_taken_for_ciphertext() -> None:
    """What was written without keys is told apart by how it begins."""
    sealed = OLD.encrypt("{}", Place("", "t", "c", ("k",)))

    assert is_sealed(sealed)
    assert not any(map(is_sealed, ("{}", "[]", "", '"v1.x"')))


def test_the_command_says_which_key_may_go(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """`bylaw admin reencrypt` renews with the keys of the file, and ends with 1 while something is under none."""
    keys = tmp_path / "keys"
    monkeypatch.setenv("BYLAW_ENCRYPTION_KEYS", str(keys))

    async def fill() -> str:
        async with world.asked(tmp_path, ring=OLD) as asking:
            await asking.ask("PUT", "/users/own/personal-data/email", {"value": "own@example.org"})
            return str(asking.database.url)

    url = asyncio.run(fill())
    said = []
    for ids in (("new",), ("new", "old")):
        keys.write_text("\n".join(LINES[each] for each in (*ids, "index")))
        code = main(["admin", "reencrypt", "--database-url", url])
        said.append((code, capsys.readouterr().out))

    assert [code for code, _ in said] == [1, 0]
    assert "1 values are under no key of these" in said[0][1]
    assert "key new: 1 values, the current one\nkey old: 0 values: may be removed\n" in said[1][1]
