"""Retention: what is done with goes, in small steps that may be cut off anywhere, and no decision changes by it."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from sqlalchemy import insert, select, text, update

from admin.encryption import KeyRing, generate_key_line, parse_key_ring
from admin.retention.service import Job
from admin.retention.wire import Swept
from bylaw.cli import main
from store import pseudonyms, tables
from store.audit import all_streams, verify_chain
from store.changes import Writer
from store.database import Database
from store.keys import digest_of
from store.settling import Receipts
from store.streams import tenant_of
from store.times import write_time
from store.writes import (
    approvals,
    assignments,
    departures,
    groups,
    idempotency,
    invitations,
    links,
    memberships,
    personal_data,
    platform_groups,
    principals,
    retention,
    tenants,
)
from tests.admin.service import Asking, World, make_world, token
from tests.databases import StoreUrls, run
from tests.store.worlds import DAY, NOW, rows_of

STUDIO: Final = Path(__file__).parents[2] / "policies" / "studio"
FORGE: Final = STUDIO.parent / "forge"
WEEK: Final = 7 * DAY
YEARS: Final = 2557 * DAY
PLACE: Final = "organization:acme"
Play = Callable[[Asking], Awaitable[Any]]


def at(writer: Writer, now: int) -> Writer:
    """Write to the same store at another time."""
    return Writer(writer.database, clock=lambda: now)


def job(writer: Writer, now: int, **how: Any) -> Job:
    """Make a run with the usual periods."""
    return Job(at(writer, now), retention.cutoffs_of(retention.DEFAULTS, now), **how)


def counts(swept: Swept) -> dict[str, int]:
    """Return what a run counted, without what is nothing, and without what each run leaves: receipts, and changes."""
    said = swept.model_dump(exclude={"receipts", "changes"})
    return {name: found for name, found in said.items() if type(found) is int and found}


@asynccontextmanager
async def world(urls: StoreUrls) -> AsyncIterator[Writer]:
    """Open a store with two tenants, four users and a group in each place."""
    database = Database(urls.admin)
    writer = Writer(database, clock=lambda: NOW)
    try:
        for tenant in ("acme", "globex"):
            async with writer.write(tenant=tenant, making=True) as write:
                await tenants.make(write)
        async with writer.write() as write:
            for ref in ("user:ann", "user:bob", "user:eve", "service:mail"):
                await principals.make(write, ref)
            await platform_groups.make(write, "crew")
        for tenant, ref in (("acme", "user:ann"), ("acme", "user:bob"), ("globex", "user:eve"), ("globex", "user:bob")):
            async with writer.write(tenant=tenant) as write:
                await memberships.put(write, ref)
        async with writer.write(tenant="acme") as write:
            await groups.make(write, "staff")
        yield writer
    finally:
        await database.close()


async def fill(writer: Writer) -> None:
    """Put in one of everything that ends, and beside it one that does not."""
    soon = NOW + DAY
    async with writer.write(tenant="acme", actor="user:ann") as write:
        await assignments.give(write, "user:bob", "organization.viewer", PLACE, expires=soon)
        await assignments.give(write, "user:bob", "organization.editor", PLACE)
        await groups.add_member(write, "staff", "user:bob", expires=soon)
        await groups.add_member(write, "staff", "user:ann")
        await invitations.make(
            write, token_digest=digest_of("one"), email="v1.k.x", email_index="i", said='{"mfa": true}'
        )
        await invitations.make(write, token_digest=digest_of("two"), email="v1.k.y", expires=NOW + YEARS)
        await approvals.ask(write, {}, subject="user:bob", role="organization.owner", place=PLACE, said='{"ip": 1}')
        await memberships.put(write, "user:ann", expires=soon)
    async with writer.write(tenant="globex", shared=True, others=["acme"]) as write:
        await links.make(write, "user:eve", "organization.auditor", PLACE, target="acme", expires=soon)
        await links.make(write, "user:eve", "organization.partner", PLACE, target="acme")
    async with writer.write(actor="user:ann") as write:
        await assignments.give_system(write, "user:bob", "support", expires=soon)
        await platform_groups.add_member(write, "crew", "user:bob", expires=soon)
        await idempotency.begin(write, "k", "a" * 64)


def test_what_is_over_goes(store_urls: StoreUrls) -> None:
    """Ended roles, places and links go a day after, answers too; addresses and how things were asked for at once; the
    rows of invitations and approvals later. What goes on stays, and a membership that has ended, too."""

    async def play() -> Any:
        async with world(store_urls) as writer:
            await fill(writer)
            early = await job(writer, NOW + DAY + 1).run()
            week = await job(writer, NOW + WEEK + 1).run()
            year = await job(writer, NOW + 400 * DAY).run()
            return early, week, year

    early, week, year = run(play())
    rows = run(rows_of(store_urls, "assignments", "group_members", "links", "invitations", "approvals", "memberships"))
    rest = run(rows_of(store_urls, "circumstances", "invitation_tokens", "idempotency_keys", "presences"))

    assert counts(early) == {"answers": 1}
    assert counts(week) == {
        **{"assignments": 1, "group_places": 1, "links": 1, "system_roles": 1, "platform_places": 1},
        **{"addresses": 1, "circumstances": 2},
    }
    assert counts(year) == {"invitations": 1, "approvals": 1}
    assert [row[5] for row in rows["assignments"]] == ["organization.editor"]
    assert [row[2] for row in rows["group_members"]] == ["ann"]
    assert [row[6] for row in rows["links"]] == ["organization.partner"]
    assert [row[3] for row in rows["invitations"]] == ["v1.k.y"]
    assert ("acme", "user", "ann") in {row[:3] for row in rows["memberships"]}
    assert [rest["circumstances"], rest["idempotency_keys"], len(rest["invitation_tokens"])] == [set(), set(), 1]
    assert rest["presences"] == {("user", "ann", "acme"), ("user", "bob", "acme"), ("user", "bob", "globex"),
                                 ("user", "eve", "globex")}  # fmt: skip


def test_a_dry_run_counts_what_a_run_does(store_urls: StoreUrls) -> None:
    """It says the same numbers, and no revision moves; after the run nothing is due, and no tenant moves any more."""

    async def play() -> Any:
        async with world(store_urls) as writer:
            await fill(writer)
            before = await rows_of(store_urls, "revisions")
            counted = await job(writer, NOW + 400 * DAY).count()
            is_still = before == await rows_of(store_urls, "revisions")
            swept = await job(writer, NOW + 400 * DAY).run()
            after = (await rows_of(store_urls, "revisions"))["revisions"]
            again = await job(writer, NOW + 400 * DAY).run()
            moved = {row[0] for row in (await rows_of(store_urls, "revisions"))["revisions"] - after}
            return counted, is_still, swept, again, moved

    counted, is_still, swept, again, moved = run(play())

    assert is_still
    assert counts(counted) == counts(swept)
    assert (counted.dry_run, swept.dry_run, swept.complete) == (True, False, True)
    assert counts(again) == {}
    assert moved == {"g"}


def test_it_goes_in_small_steps_and_on_where_it_stopped(store_urls: StoreUrls) -> None:
    """A run whose time is over says where it is; the next goes on from there, and all is swept."""

    async def play() -> Any:
        async with world(store_urls) as writer:
            for tenant in ("acme", "globex"):
                async with writer.write(tenant=tenant) as write:
                    for number in range(5):
                        place = f"project:p{number}"
                        await assignments.give(write, "user:bob", "project.viewer", place, expires=NOW + 1)
            asked = iter(range(1000))
            cut = await job(writer, NOW + WEEK, limit=2, is_over=lambda: next(asked) >= 4).run()
            rest = await job(writer, NOW + WEEK, limit=2).run(cut.next or "")
            return cut, rest

    cut, rest = run(play())

    assert (cut.complete, rest.complete, rest.next) == (False, True, None)
    assert 0 < cut.assignments < 10
    assert cut.assignments + rest.assignments == 10


def test_a_step_that_fails_leaves_the_steps_before(store_urls: StoreUrls) -> None:
    """What was swept before the store broke is swept, nothing is half done, and the chains of the logs are whole."""

    async def play() -> Any:
        async with world(store_urls) as writer:
            await fill(writer)

            def breaking() -> bool:
                raise ConnectionError

            with pytest.raises(ConnectionError):
                await job(writer, NOW + 400 * DAY, is_over=breaking).run()
            left = await job(writer, NOW + 400 * DAY).count()
            return left, await job(writer, NOW + 400 * DAY).run(), await broken(writer.database)

    left, rest, faults = run(play())

    assert (left.answers, left.system_roles) == (0, 0)
    assert counts(left) == counts(rest)
    assert rest.invitations == 1
    assert faults == []


async def broken(database: Database) -> list[str]:
    """List the streams whose chain does not hold."""
    async with database.reading() as connection:
        streams = await all_streams(connection)
    found = []
    for stream in streams:
        async with database.reading(tenant_of(stream)) as connection:
            if await verify_chain(connection, stream) is not None:
                found.append(stream)
    return found


# --- who was deleted ------------------------------------------------------------------------------------


@pytest.mark.parametrize("ref", ["user:bob", "service:mail"])
def test_a_deletion_that_was_cut_off_is_finished(store_urls: StoreUrls, ref: str) -> None:
    """Rows that are left in tenants go with the next run; it is done with him once no older write can be under way."""

    async def play() -> Any:
        async with world(store_urls) as writer:
            for tenant in ("acme", "globex"):
                async with writer.write(tenant=tenant) as write:
                    await assignments.give(write, ref, "organization.viewer", f"organization:{tenant}")
            async with writer.write() as write:
                await principals.delete(write, ref)
            first = await job(writer, NOW + 1).run()
            rows = await rows_of(store_urls, "assignments", "presences")
            return first, rows, await job(writer, NOW + DAY).run(), await job(writer, NOW + DAY + 1).run()

    first, rows, second, third = run(play())

    assert rows["assignments"] == set()
    assert not [row for row in rows["presences"] if row[:2] == tuple(ref.split(":"))]
    assert [each.departures for each in (first, second, third)] == [0, 1, 0]


def test_a_group_of_the_platform_is_cleared_away(store_urls: StoreUrls) -> None:
    """What a deleted group still holds goes with the next run."""

    async def play() -> Any:
        async with world(store_urls) as writer:
            async with writer.write(tenant="acme", shared=True) as write:
                await assignments.give(write, "group:crew", "organization.viewer", PLACE)
            async with writer.write() as write:
                await platform_groups.delete(write, "crew")
            await job(writer, NOW + DAY).run()
            return await rows_of(store_urls, "assignments", "departures")

    rows = run(play())

    assert rows["assignments"] == set()
    assert [(row[:2], row[3] is not None) for row in rows["departures"]] == [(("group", "crew"), True)]


def test_who_was_deleted_elsewhere_is_found(store_urls: StoreUrls) -> None:
    """One whom a facts file says is deleted is noted by the run; one who lives again is left alone."""

    async def play() -> Any:
        async with world(store_urls) as writer:
            async with writer.write() as write:
                bob = tables.principals.c.id == "bob"
                await write.connection.execute(update(tables.principals).where(bob).values(status="deleted"))
                await departures.note(write, [("user", "ann")])
            await job(writer, NOW + 1).run()
            return await rows_of(store_urls, "memberships", "departures")

    rows = run(play())

    assert {row[2] for row in rows["memberships"]} == {"ann", "eve"}
    assert {row[1] for row in rows["departures"]} == {"ann", "bob"}


def test_who_was_deleted_long_ago_is_forgotten(store_urls: StoreUrls) -> None:
    """After seven years nothing is known of him, what he was answered neither, and no log says who it was; the chains
    hold. A write that names him once more does not undo it."""

    async def play() -> Any:
        async with world(store_urls) as writer:
            async with writer.write(actor="user:bob") as write:
                await personal_data.put(write, "user:bob", "email", "v1.k.x", blind_index="i")
                await idempotency.begin(write, "k", "a" * 64)
            async with writer.write() as write:
                await principals.delete(write, "user:bob")
            early = await job(writer, NOW + YEARS - DAY).run()
            kept = await rows_of(store_urls, "personal_data")
            late = await job(writer, NOW + YEARS + DAY).run()
            forgotten = await known(store_urls)
            async with writer.write() as write:
                await pseudonyms.pseudonym(write, "user:bob")
            once_more = await job(writer, NOW + YEARS + 2 * DAY).run()
            return early, kept, late, forgotten, once_more, await known(store_urls), await broken(writer.database)

    async def known(urls: StoreUrls) -> Any:
        rows = await rows_of(urls, "personal_data", "idempotency_keys", "pseudonyms")
        return (
            rows["personal_data"],
            rows["idempotency_keys"],
            [row for row in rows["pseudonyms"] if row[1] == "user:bob"],
        )

    early, kept, late, forgotten, once_more, still, faults = run(play())

    assert (early.forgotten, len(kept["personal_data"])) == (0, 1)
    assert (late.forgotten, forgotten) == (1, (set(), set(), []))
    assert (once_more.forgotten, still) == (1, (set(), set(), []))
    assert faults == []


def test_an_erasure_that_was_cut_off_is_finished(store_urls: StoreUrls) -> None:
    """Who was to be forgotten is forgotten by the next run, an hour after he asked; the register says when."""

    async def play() -> Any:
        async with world(store_urls) as writer:
            async with writer.write() as write:
                request = await personal_data.request_erasure(write, "user:bob")
                await principals.delete(write, "user:bob")
                await personal_data.remove_all(write, "user:bob")
            early = await job(writer, NOW + 1).run()
            late = await job(writer, NOW + DAY).run()
            rows = await rows_of(store_urls, "erasures", "pseudonyms", "memberships")
            return request, early.erasures, late.erasures, rows, await job(writer, NOW + DAY).count()

    request, early, late, rows, after = run(play())

    assert (early, late, after.erasures) == (0, 1, 0)
    assert [(row[0], row[4] is not None) for row in rows["erasures"]] == [(request, True)]
    assert "user:bob" not in {row[1] for row in rows["pseudonyms"]}
    assert "bob" not in {row[2] for row in rows["memberships"]}


# --- processes ------------------------------------------------------------------------------------------


def test_processes_that_decide_no_more_are_removed(store_urls: StoreUrls) -> None:
    """One that is long silent is given up by the run, and gone once somebody has waited as long as it might answer; one
    that was seen just now stays."""

    async def play() -> Any:
        async with world(store_urls) as writer:
            async with writer.database.changing() as connection:
                row = {"max_staleness_ms": 5000, "started": write_time(NOW)}
                for name, seen in (("dead", NOW), ("alive", NOW + DAY)):
                    await connection.execute(insert(tables.sidecars).values(id=name, seen=write_time(seen), **row))
                await connection.execute(
                    insert(tables.settle).values(id="old", token="t", streams="{}", at=write_time(NOW))
                )
            ended = job(writer, NOW + DAY)
            swept = await ended.run()
            times = iter(range(0, 1000, 6))
            receipts = Receipts(writer.database, clock=lambda: next(times))
            receipt = await receipts.find(str(ended.token))
            assert receipt is not None
            settled = await receipts.settled(receipt, timeout_s=100)
            return swept, settled, await rows_of(store_urls, "sidecars", "settle")

    swept, settled, rows = run(play())

    assert (swept.processes, swept.receipts) == (1, 1)
    assert settled.by == "bound"
    assert {row[0] for row in rows["sidecars"]} == {"alive"}
    assert len(rows["settle"]) == 1


# --- through HTTP -----------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def studio(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(STUDIO, STUDIO / "facts.yaml", tmp_path_factory.mktemp("studio"))


@pytest.fixture
def ring() -> KeyRing:
    return parse_key_ring("\n".join(generate_key_line(name) for name in ("first", "index")), place="test")


@pytest.fixture
def play(studio: World, tmp_path: Path, ring: KeyRing) -> Callable[[Play], Any]:
    async def served(what: Play) -> Any:
        async with studio.asked(tmp_path, ring=ring) as asking:
            return await what(asking)

    return lambda what: asyncio.run(served(what))


def test_periods_are_read_and_said(play: Callable[[Play], Any]) -> None:
    """They are the usual ones until somebody says otherwise; out of bounds is refused; a stale reader overwrites
    nothing."""

    async def talk(asking: Asking) -> Any:
        usual = await asking.ask("GET", "/retention")
        put = await asking.ask("PUT", "/retention", {"invitations": 30}, If_Match=usual.headers["ETag"])
        stale = await asking.ask("PUT", "/retention", {"invitations": 7}, If_Match=usual.headers["ETag"])
        wrong = [
            (await asking.ask("PUT", "/retention", body)).body["details"]["fields"]
            for body in ({"expired": 0}, {"approvals": 36_501}, {"logs": 1})
        ]
        return usual.body, put.body, stale.status, wrong, (await asking.ask("GET", "/retention")).body

    usual, put, stale, wrong, now = play(talk)

    assert (
        usual == {"invitations": 90, "approvals": 365, "expired": 1, "deleted_users": 2557} == dict(retention.DEFAULTS)
    )
    assert put == now == {**usual, "invitations": 30}
    assert stale == 412
    assert [list(each) for each in wrong] == [["body.expired"], ["body.approvals"], ["body.logs"]]


def test_a_run_is_asked_for(play: Callable[[Play], Any]) -> None:
    """It goes by the periods that were said; a dry run changes nothing; the answer has a revision."""

    async def talk(asking: Asking) -> Any:
        made = await asking.ask("POST", "/tenants/acme/invitations", {"email": "zoe@example.org"})
        asking.ahead[0] = 20 * DAY
        await asking.ask("PUT", "/retention", {"invitations": 10})
        dry = await asking.ask("POST", "/retention/run?dry_run=true")
        done = await asking.ask("POST", "/retention/run?await=settled")
        gone = await asking.ask("POST", "/invitations/accept", {"token": made.body["token"]}, who=token("user:zoe"))
        return dry, done, gone.status

    dry, done, gone = play(talk)

    assert (dry.status, dry.body["dry_run"], dry.body["invitations"]) == (200, True, 1)
    assert (done.status, done.body["dry_run"], done.body["invitations"], done.body["complete"]) == (200, False, 1, True)
    assert done.body["settled"]
    assert done.headers["Bylaw-Revision"]
    assert gone == 404


def test_only_the_platform_keeps_house(play: Callable[[Play], Any]) -> None:
    """Neither another scope than `system`, nor an end user."""

    async def talk(asking: Asking) -> Any:
        scopes = ("tenant:acme", "facts", "audit", "policies")
        keys = [(await asking.ask("POST", "/keys", {"name": each, "scopes": [each]})).body["key"] for each in scopes]
        asked = [("GET", "/retention"), ("POST", "/retention/run"), ("POST", "/encryption/reencrypt")]
        return [
            (await asking.ask(*each, who=who)).status for who in (*keys, token("user:ann", "acme")) for each in asked
        ]

    assert set(play(talk)) == {403}


CUT: Final = (
    "CREATE TRIGGER cut BEFORE DELETE ON memberships WHEN OLD.tenant_id = 'globex' "
    "BEGIN SELECT RAISE(ABORT, 'the power fails here'); END"
)


async def let(asking: Asking, statement: str) -> None:
    """Change the store behind the service's back."""
    async with asking.database.changing() as connection:
        await connection.execute(text(statement))


@pytest.mark.parametrize(("method", "path"), [("DELETE", "/users/pat"), ("POST", "/users/pat/erasure")])
def test_who_asks_again_finishes_a_deletion(play: Callable[[Play], Any], method: str, path: str) -> None:
    """A deletion that broke off between two tenants is gone on with; one that is whole is not done twice."""

    async def talk(asking: Asking) -> Any:
        await asking.ask("POST", "/users", {"id": "pat"})
        for tenant in ("acme", "globex"):
            await asking.ask("POST", f"/tenants/{tenant}/memberships", {"subject": "user:pat"})
        await let(asking, CUT)
        broken_off = await asking.ask(method, path)
        left = [
            (await asking.ask("GET", f"/tenants/{each}/memberships/user:pat")).status for each in ("acme", "globex")
        ]
        await let(asking, "DROP TRIGGER cut")
        again = await asking.ask(method, path)
        rest = [
            (await asking.ask("GET", f"/tenants/{each}/memberships/user:pat")).status for each in ("acme", "globex")
        ]
        register = await asking.ask("GET", "/erasures")
        return broken_off, left, again, rest, register, await asking.ask("DELETE", "/users/pat")

    broken_off, left, again, rest, register, once_more = play(talk)

    assert broken_off.status == 409
    assert "power" not in json.dumps(broken_off.body)
    assert left == [404, 200]
    assert (again.status, rest) == (204, [404, 404])
    assert again.headers["Bylaw-Revision"]
    assert [each["done_at"] is not None for each in register.body["items"]] == [True] * (method == "POST")
    assert (once_more.status, once_more.body["error"]) == (409, "deleted")


def test_who_forgets_himself_is_named_nowhere(tmp_path: Path) -> None:
    """One who may manage the platform, and erases himself, leaves no pseudonym behind that says who he was."""
    forge = make_world(FORGE, FORGE / "facts.yaml", tmp_path)

    async def talk() -> Any:
        async with forge.asked(tmp_path) as asking:
            await asking.ask("POST", "/users", {"id": "pat"})
            given = await asking.ask(
                "POST", "/assignments", {"subject": "user:pat", "role": "operator", "on": "system"}
            )
            erased = await asking.ask("POST", "/users/pat/erasure", who=token("user:pat"))
            async with asking.database.reading() as connection:
                refs = (await connection.execute(select(tables.pseudonyms.c.ref))).scalars().all()
            return given.status, erased, refs

    given, erased, refs = asyncio.run(talk())

    assert (given, erased.status) == (201, 204), erased.body
    assert "user:pat" not in refs


# --- on the command line ----------------------------------------------------------------------------------


def test_a_cron_entry_keeps_house(studio: World, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`bylaw admin retain` works on the store itself, counts first if it is told to, and says what is gone."""
    copy = tmp_path / "copy.db"
    shutil.copyfile(studio.path, copy)
    url = f"sqlite+aiosqlite:///{copy}"
    asyncio.run(leave_something(url))

    said = []
    for flags in (["--dry-run", "--json"], ["--json"], ["--dry-run"]):
        code = main(["admin", "retain", *flags, "--database-url", url])
        said.append((code, capsys.readouterr().out))

    assert [code for code, _ in said] == [0, 0, 0]
    due, gone = (json.loads(printed)["assignments"] for _, printed in said[:2])
    assert due == gone >= 1
    assert said[2][1] == "nothing is due\n"


async def leave_something(url: str) -> None:
    """Leave a role in a store that has ended years ago, and no receipt that would be due."""
    database = Database(url)
    async with Writer(database, clock=lambda: NOW).write(tenant="acme") as write:
        await assignments.give(write, "user:ann", "organization.viewer", PLACE, expires=NOW + 1)
    await database.close()


def test_a_store_that_is_not_there_is_not_kept(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a store, or without keys, the jobs say what to do, and end with 2."""
    url = f"sqlite+aiosqlite:///{tmp_path / 'none.db'}"

    codes = [main(["admin", step, "--database-url", url]) for step in ("retain", "reencrypt")]

    said = capsys.readouterr().err
    assert codes == [2, 2]
    assert "bylaw migrate up" in said
    assert "BYLAW_ENCRYPTION_KEYS" in said


@pytest.mark.parametrize("moment", ["0001-01-01T00:00:00+10:00", "9999-12-31T23:59:59-10:00"])
def test_a_time_outside_of_all_years_is_refused(play: Callable[[Play], Any], moment: str) -> None:
    """A time that leaves the years 1 to 9999 by its offset is the sender's mistake, and its member is named."""

    async def talk(asking: Asking) -> Any:
        return await asking.ask("POST", "/keys", {"name": "k", "scopes": ["audit"], "expires": moment})

    said = play(talk)

    assert said.status == 400
    assert list(said.body["details"]["fields"]) == ["body.expires"]
