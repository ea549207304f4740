"""The second level: what one process loaded another takes, as long as it is what is stored."""

from __future__ import annotations

import asyncio
import hashlib
import json

import pytest

from engine import BylawError
from engine.facts import Belonging, CustomRole, Grant, Link, MemberFact, Membership
from sidecar import second_level
from sidecar.cache_key import cache_key
from sidecar.second_level import (
    MAX_ASKED,
    MAX_ENTRY_BYTES,
    MAX_PENDING,
    Entry,
    RefusedEntryError,
    parse_cache_key,
    seal,
    unseal,
)
from sidecar.views import MAX_HEADS, StreamViews
from store.answers import Loaded, Moment
from store.redis_port import Redis
from store.streams import ANYONE_KEY, EVERYTHING, GLOBAL, NOWHERE, Position, stream_of
from store.tokens import Line
from store.views import GroupView, PrincipalView, ProfileView, ResourceView, View, Views, Wanted, dump
from tests.databases import Redis as Server
from tests.databases import run
from tests.sidecar.neighbours import KEY, LINE, PATIENCE_S, Process, Slot, Slots, made, shared_by

ANN, BOB, STAFF, TASK = "principal:user:ann", "principal:user:bob", "group:staff", "resource:task:t1"
#: More than the 50 ms of a read, since the machine may be busy, and less than the second after which all is given up.
SOON_S = 0.4

MANY_SORTS: dict[Slot, View] = {
    ("", ANN): PrincipalView(
        "active",
        '{"age": 3, "näme": "\\ud83d\\ude00"}',
        (Belonging("ops", 1, 2),),
        (
            Link("globex", "acme", "task.reader", "task:t1", 5, 6, Membership("guest", 7, 8)),
            Link("globex", "acme", "task.reader", "task:t2"),
        ),
        (Grant("system.admin", "system:system", 3, 4),),
        ("jti-1", "jti-2"),
        99,
    ),
    ("", BOB): PrincipalView(None, blocked=("jti-3",)),
    ("", "group:ops"): GroupView('{"x": 1}', ("all",)),
    ("", "tenant:acme"): "suspended",
    ("acme", ANN): MemberFact(Membership("active", 1, 2), (Belonging("staff"),), (Grant("task.reader", "task:a:b"),)),
    ("acme", BOB): MemberFact(None, (), None),
    ("acme", STAFF): GroupView("{}", ("b", "c"), (Grant("custom.helper", "tenant:acme"),)),
    ("acme", "group:many"): GroupView("{}", (), None),
    ("acme", ANYONE_KEY): GroupView(None),
    ("acme", TASK): ResourceView("folder:f:1", '{"a": [1, null]}', deleted=True),
    ("acme", "resource:task:a:b"): ResourceView(None),
    ("acme", "tenant"): ProfileView('{"plan": "gold"}', (CustomRole("helper", "task", ("task.*", "!task.drop")),)),
}


# --- what comes through -------------------------------------------------------------------------------


def test_every_kind_of_view_comes_through(redis: Server) -> None:
    """What one process loaded and put, another holds as it was, without asking the database."""

    async def talk() -> None:
        base, port = made(MANY_SORTS), Redis(redis.url)
        first = await Process(base, port).begin("acme")
        wanted = Wanted(
            {key for tenant, key in MANY_SORTS if not tenant}, {key for tenant, key in MANY_SORTS if tenant}
        )
        first.put("acme", wanted)
        await first.written()
        other = await Process(base, port).begin("acme")

        rest = await other.second.get("acme", wanted)

        assert not rest
        assert {("", key): view for key, view in other.held("").items()} | {
            ("acme", key): view for key, view in other.held("acme").items()
        } == MANY_SORTS
        assert first.second.written == other.second.hits == len(MANY_SORTS)
        assert not other.second.refused
        await port.close()

    run(talk())


def test_the_loader_needs_no_snapshot_for_what_others_loaded(redis: Server) -> None:
    """A process that starts finds in Redis what its neighbour has read."""

    async def talk() -> None:
        base, port = made({("acme", ANN): MemberFact(None), ("", "tenant:acme"): "active"}), Redis(redis.url)
        wanted = Wanted({"tenant:acme"}, {ANN})
        first, other = await Process(base, port).begin(), await Process(base, port).begin()
        await first.loader.load("acme", wanted, lambda _: Wanted())
        await first.written()

        await other.loader.load("acme", wanted, lambda _: Wanted())

        assert (first.loader.loads, other.loader.loads) == (1, 0)
        assert other.held("acme") == {ANN: MemberFact(None)}
        await port.close()

    run(talk())


def test_what_views_name_is_taken_along() -> None:
    """Groups, parents and homes of links come with the views that name them, as a load would bring them."""
    named: dict[Slot, View] = {
        ("", ANN): PrincipalView(
            "active", "{}", (Belonging("ops"),), (Link("globex", "acme", "task.reader", "task:t1"),)
        ),
        ("", "group:ops"): GroupView("{}"),
        ("", "tenant:globex"): "active",
        ("acme", "group:ops"): GroupView(None),
        ("acme", ANN): MemberFact(None, (Belonging("staff"),)),
        ("acme", STAFF): GroupView("{}"),
        ("acme", TASK): ResourceView("folder:f1"),
        ("acme", "resource:folder:f1"): ResourceView(None),
    }

    async def talk() -> None:
        base, memory = made(named), Slots()
        first = await Process(base, memory).begin("acme")
        shared, own = ({key for tenant, key in named if tenant == scope} for scope in ("", "acme"))
        first.put("acme", Wanted(shared, own))
        await first.written()
        other = await Process(base, memory).begin("acme")

        rest = await other.second.get("acme", Wanted({ANN}, {ANN, TASK}))

        assert not rest
        assert other.held("").keys() == shared
        assert other.held("acme").keys() == own

    run(talk())


def test_what_all_share_is_taken_where_no_tenant_is_active() -> None:
    """Without a tenant only what all share is looked for."""

    async def talk() -> None:
        base, memory = made({("", ANN): PrincipalView("active", "{}", (Belonging("ops"),))}), Slots()
        first = await Process(base, memory).begin()
        first.put("", Wanted({ANN}))
        await first.written()
        other = await Process(base, memory).begin()

        rest = await other.second.get("", Wanted({ANN, BOB}))

        assert rest == Wanted({BOB})
        assert other.held("").keys() == {ANN}

    run(talk())


def test_a_tenant_that_is_not_in_use_takes_nothing() -> None:
    """Own views have their place only while the tenant is followed."""

    async def talk() -> None:
        base, memory = made({("acme", ANN): MemberFact(None)}), Slots()
        await shared_by(base, memory, ANN)
        other = await Process(base, memory).begin()

        assert not await other.get("acme", ANN)
        assert not other.cache.tenants

    run(talk())


def test_absence_and_places_are_not_put() -> None:
    """Who asks for ids that are not there leaves nothing behind, nor does a group that nobody made."""

    async def talk() -> None:
        base, memory = made({("", "group:ops"): GroupView("{}"), ("acme", ANN): MemberFact(None)}), Slots()
        process = await Process(base, memory).begin("acme")
        empty = GroupView(None)
        loaded = Loaded(
            Moment(LINE),
            {GLOBAL: base.at(GLOBAL), stream_of("acme"): base.at(stream_of("acme"))},
            {BOB: None, "group:ops": GroupView("{}"), "group:nobodys": None},
            {BOB: None, "group:nobodys": empty, "group:ops": empty, ANYONE_KEY: empty},
            {(ANN, "task:t1"): (Grant("task.reader", "task:t1"),)},
        )

        process.second.put("acme", loaded)
        await process.written()

        assert memory.held.keys() == {
            cache_key("", "group:ops"),
            cache_key("acme", "group:ops"),
            cache_key("acme", ANYONE_KEY),
        }

    run(talk())


@pytest.mark.parametrize("loaded", [Moment(LINE, is_replica=True), Moment(LINE)])
def test_what_has_no_certain_place_in_history_is_not_put(loaded: Moment) -> None:
    """What a replica showed, or what belongs to no stream, is not given to others."""

    async def talk() -> None:
        memory = Slots()
        process = await Process(made({}), memory).begin()
        at = {GLOBAL: NOWHERE} if loaded.is_replica else {}

        process.second.put("acme", Loaded(loaded, at, {ANN: PrincipalView("active")}, {ANN: MemberFact(None)}))
        await process.written()

        assert not memory.held

    run(talk())


# --- what is refused ----------------------------------------------------------------------------------


def test_every_changed_byte_is_noticed() -> None:
    """Whatever byte of an entry is changed, cut off or added, it is no entry any more."""
    raw = seal(KEY, Entry(LINE, ("", ANN), Position(7, "f" * 64), MANY_SORTS["", ANN]))
    places = [*range(40), *range(40, len(raw), 5), len(raw) - 1]
    changed = [raw[:place] + bytes([raw[place] ^ 1 << bit]) + raw[place + 1 :] for place in places for bit in (0, 7)]
    cut = [raw[:place] for place in places]

    for tampered in (*changed, *cut, raw + b" ", b"", raw[32:], bytes(32) + raw[32:]):
        with pytest.raises(RefusedEntryError, match="mac"):
            unseal(KEY, ("", ANN), tampered)

    assert unseal(KEY, ("", ANN), raw).view == MANY_SORTS["", ANN]


def test_a_tampered_entry_is_loaded_instead() -> None:
    """An entry that is not believed is no error: the database is asked."""

    async def talk() -> None:
        base, memory = made({("acme", ANN): MemberFact(None)}), Slots()
        await shared_by(base, memory, ANN)
        key = cache_key("acme", ANN)
        memory.held[key] = memory.held[key].replace(b"member", b"Member")
        other = await Process(base, memory).begin("acme")

        assert not await other.get("acme", ANN)
        assert other.second.refused == {"mac": 1}
        assert not other.held("acme")

    run(talk())


def test_entries_have_their_place() -> None:
    """An entry that was copied under another key, or to another tenant, or among what all share, is not of there."""

    async def talk() -> None:
        base = made({(tenant, key): MemberFact(None) for tenant in ("acme", "globex") for key in (ANN, BOB)})
        base.write("", ANN, PrincipalView("active"))
        memory = Slots()
        await shared_by(base, memory, ANN)
        (raw,) = memory.held.values()
        for slot in (("acme", BOB), ("globex", ANN), ("", ANN)):
            memory.held[cache_key(*slot)] = raw
        other = await Process(base, memory).begin("acme", "globex")

        assert not await other.get("acme", BOB)
        assert not await other.get("globex", ANN)
        assert await other.second.get("", Wanted({ANN}))
        assert other.second.refused == {"place": 3}

    run(talk())


def test_another_key_another_cache() -> None:
    """Processes with different keys share nothing."""

    async def talk() -> None:
        base, memory = made({("acme", ANN): MemberFact(None)}), Slots()
        await shared_by(base, memory, ANN)
        other = await Process(base, memory, parse_cache_key("f" * 32)).begin("acme")

        assert not await other.get("acme", ANN)
        assert other.second.refused == {"mac": 1}

    run(talk())


@pytest.mark.parametrize("line", [Line("b" * 32), Line("a" * 32, "1" * 16)])
def test_another_history_is_not_ours(line: Line) -> None:
    """What was read of another store, or on another timeline, is not taken, however the numbers agree."""

    async def talk() -> None:
        base, memory = made({("acme", ANN): MemberFact(None)}), Slots()
        await shared_by(base, memory, ANN)
        base.line = line
        other = await Process(base, memory).begin("acme")

        assert not await other.get("acme", ANN)
        assert other.second.refused == {"line": 1}

    run(talk())


def test_an_entry_older_than_a_known_change_is_old() -> None:
    """A replayed entry of before a change is refused; one of a key that did not change is as good as ever."""

    async def talk() -> None:
        base, memory = made({("acme", ANN): MemberFact(None), ("acme", BOB): MemberFact(None)}), Slots()
        await shared_by(base, memory, ANN, BOB)
        follower = await Process(base, memory).begin("acme")
        base.write("acme", ANN, MemberFact(Membership("suspended")))
        await follower.freshness.poll()
        starter = await Process(base, memory).begin("acme")

        for process in (follower, starter):
            assert not await process.get("acme", ANN)
            assert await process.get("acme", BOB)
            assert process.held("acme").keys() == {BOB}
            assert process.second.refused == {"old": 1}

    run(talk())


def test_what_may_have_changed_unseen_is_old() -> None:
    """Where changes are not known one by one, nothing that was read before is taken."""

    async def talk() -> None:
        base, memory = made({("acme", ANN): MemberFact(None)}), Slots()
        await shared_by(base, memory, ANN)
        base.write("acme", EVERYTHING, None)
        other = await Process(base, memory).begin("acme")

        assert not await other.get("acme", ANN)
        assert other.second.refused == {"old": 1}

    run(talk())


def test_what_is_ahead_is_polled_for() -> None:
    """An entry that was read at a revision which is not applied here makes it be applied, once, and is then taken."""

    async def talk() -> None:
        base, memory = made({("acme", ANN): MemberFact(None), ("acme", BOB): MemberFact(None)}), Slots()
        behind = await Process(base, memory).begin("acme")
        base.write("acme", ANN, MemberFact(Membership("guest")))
        await shared_by(base, memory, ANN, BOB)
        polls = base.polls

        assert await behind.get("acme", ANN, BOB)
        assert base.polls == polls + 1
        assert behind.held("acme")[ANN] == MemberFact(Membership("guest"))
        assert behind.stream("acme").at == base.at(stream_of("acme"))

    run(talk())


def test_what_is_ahead_waits_for_the_database() -> None:
    """Where the poll fails nothing is taken, and nothing is raised."""

    async def talk() -> None:
        base, memory = made({("acme", ANN): MemberFact(None)}), Slots()
        behind = await Process(base, memory).begin("acme")
        base.write("acme", ANN, MemberFact(Membership("guest")))
        await shared_by(base, memory, ANN)
        base.is_down = True

        assert not await behind.get("acme", ANN)
        assert behind.second.refused == {"above": 1}

    run(talk())


def test_what_was_lost_in_a_restore_does_not_come_back() -> None:
    """A database that was put back and not named anew has other heads under the same numbers: what was read in the
    history that it lost is not taken."""

    async def talk() -> None:
        base, memory = made({("acme", ANN): MemberFact(None)}), Slots()
        base.write("acme", ANN, MemberFact(Membership("active")))
        await shared_by(base, memory, ANN)
        base.restore({stream_of("acme"): 1})
        for _ in range(3):
            base.write("acme", BOB, MemberFact(None))
        other = await Process(base, memory).begin("acme")

        assert not await other.get("acme", ANN)
        assert other.second.refused == {"history": 1}

    run(talk())


def test_what_was_read_before_all_known_heads_is_not_taken() -> None:
    """Where it is forgotten which head a stream had, an entry does not prove that it is of this history."""

    async def talk() -> None:
        base, memory = made({("acme", ANN): MemberFact(None)}), Slots()
        await shared_by(base, memory, ANN)
        found = []
        for changes in (MAX_HEADS - 1, 1):
            for _ in range(changes):
                base.write("acme", BOB, None)
            other = await Process(base, memory, head_at=StreamViews.head_at).begin("acme")
            found.append((await other.get("acme", ANN), dict(other.second.refused)))

        assert found == [(True, {}), (False, {"history": 1})]

    run(talk())


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"1",
        b"[]",
        b"[2, 3]",
        b"[1]",
        b"not json",
        b'[1, "s", "t", "g", "principal:user:ann", 1, "", ["no such view"]]',
        b'[1, "s", "t", "g", "principal:user:ann", 1, "", ["resource"]]',
        b'[1, "s", "t", "g", "principal:user:ann", 1, "", {}]',
        b'[1, "s", "t", "g", "principal:user:ann", 1, "", null]',
    ],
)
def test_an_entry_of_another_release_is_refused(body: bytes) -> None:
    """What a process with the key wrote in another shape is no entry, and no error."""
    raw = second_level._mac(KEY, body) + body

    with pytest.raises(RefusedEntryError, match="format"):
        unseal(KEY, ("", ANN), raw)


def test_the_format_moves_with_the_views() -> None:
    """Whoever changes how views are dumped moves `FORMAT`, and this number along: entries of two releases meet."""
    dumped = json.dumps([dump(view) for view in MANY_SORTS.values()])

    assert (second_level.FORMAT, hashlib.sha256(dumped.encode()).hexdigest()[:8]) == (1, "43c789c9")


# --- bounds -------------------------------------------------------------------------------------------


def test_what_waits_to_be_written_is_bounded() -> None:
    """While Redis takes its time, what comes beyond the bound is dropped and counted."""

    async def talk() -> None:
        base, memory = made({("acme", ANN): MemberFact(None)}), Slots()
        process = await Process(base, memory).begin("acme")
        memory.gate.clear()
        views: Views = {f"principal:user:u{n}": MemberFact(None) for n in range(MAX_PENDING + 10)}
        loaded = Loaded(Moment(LINE), {stream_of("acme"): base.at(stream_of("acme"))}, {}, views)

        for _ in range(2):
            process.second.put("acme", loaded)
        memory.gate.set()
        await process.written()

        assert process.second.dropped == 20
        assert process.second.written == len(memory.held) == MAX_PENDING

    run(talk())


def test_a_redis_that_takes_nothing_gets_nothing_more() -> None:
    """When a write fails, what waits is dropped: it grows old, and the next load brings it again."""

    async def talk() -> None:
        base, memory = made({("acme", ANN): MemberFact(None)}), Slots()
        process = await Process(base, memory).begin("acme")
        memory.takes = False
        views: Views = {f"principal:user:u{n}": MemberFact(None) for n in range(500)}
        loaded = Loaded(Moment(LINE), {stream_of("acme"): base.at(stream_of("acme"))}, {}, views)

        process.second.put("acme", loaded)
        await process.written()
        memory.takes = True
        process.put("acme", Wanted(own={ANN}))
        await process.written()

        assert (process.second.dropped, process.second.written) == (500, 1)

    run(talk())


def test_closing_waits_only_for_a_moment(monkeypatch: pytest.MonkeyPatch) -> None:
    """A write that does not end keeps nobody from leaving."""
    monkeypatch.setattr(second_level, "CLOSE_S", 0.01)

    async def talk() -> None:
        base, memory = made({("acme", ANN): MemberFact(None)}), Slots()
        process = await Process(base, memory).begin("acme")
        await process.second.close()
        memory.gate.clear()
        process.put("acme", Wanted(own={ANN}))

        async with asyncio.timeout(PATIENCE_S):
            await process.second.close()

        assert not memory.held

    run(talk())


def test_what_is_too_long_is_not_written_and_not_read() -> None:
    """An entry has a bound, on the way in and on the way out."""

    async def talk() -> None:
        base, memory = made({("acme", TASK): ResourceView(None, json.dumps("x" * MAX_ENTRY_BYTES))}), Slots()
        await shared_by(base, memory, TASK)
        kept = dict(memory.held)
        memory.held[cache_key("acme", ANN)] = bytes(MAX_ENTRY_BYTES + 1)
        other = await Process(base, memory).begin("acme")

        assert not kept
        assert not await other.get("acme", ANN)
        assert other.second.refused == {"size": 1}

    run(talk())


def test_one_question_asks_for_so_much() -> None:
    """What is beyond a bound is loaded, so that looking at entries never holds up the loop for long."""

    async def talk() -> None:
        views: dict[Slot, View | None] = {
            ("acme", f"principal:user:u{n}"): MemberFact(None) for n in range(MAX_ASKED + 5)
        }
        base, memory = made(views), Slots()
        wanted = Wanted(own={key for _, key in views})
        first = await Process(base, memory).begin("acme")
        first.put("acme", wanted)
        await first.written()
        other = await Process(base, memory).begin("acme")

        rest = await other.second.get("acme", wanted)

        assert len(rest.own) == 5
        assert rest.own.isdisjoint(other.held("acme"))

    run(talk())


@pytest.mark.parametrize("text", ["", "short", " " * 40, "x" * 31, "x" * 31 + "\n"])
def test_a_key_that_is_too_short_is_refused(text: str) -> None:
    """A key that could be guessed protects nothing; the sentence says how to make one."""
    with pytest.raises(BylawError, match=r"BYLAW_CACHE_KEY is too short: .*`openssl rand -hex 32`") as caught:
        parse_cache_key(text)

    assert caught.value.code == "bad_settings"


def test_a_key_is_derived() -> None:
    """The MAC's key is made for this purpose alone; a line end around it in a file does not count."""
    assert parse_cache_key("x" * 32 + "\n") == parse_cache_key("x" * 32) != parse_cache_key("y" * 32)
    assert len(parse_cache_key("x" * 32)) == 32


# --- a Redis in a bad way -----------------------------------------------------------------------------


@pytest.mark.parametrize("way", ["kill", "freeze"])
def test_a_redis_in_a_bad_way_costs_a_moment(redis: Server, way: str) -> None:
    """Killed or stopped, Redis costs one question a moment and the next ones nothing; later it serves again."""

    async def talk() -> None:
        clock = [0.0]
        base, port = made({("acme", ANN): MemberFact(None)}), Redis(redis.url, clock=lambda: clock[0])
        process = await Process(base, port).begin("acme")
        assert await port.ping()
        loop = asyncio.get_running_loop()
        getattr(redis, way)()

        took = []
        for _ in range(3):
            before = loop.time()
            assert not await process.get("acme", ANN)
            took.append(loop.time() - before)
        process.put("acme", Wanted(own={ANN}))
        await process.written()
        dropped = process.second.dropped
        redis.restart()
        clock[0] += 10
        process.put("acme", Wanted(own={ANN}))
        await process.written()

        assert max(took) < SOON_S
        assert max(took[1:]) < SOON_S / 4
        assert dropped == 1
        assert await process.get("acme", ANN)
        await port.close()

    run(talk())
