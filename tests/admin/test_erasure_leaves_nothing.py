"""Who was forgotten stands in no row of any table, but as a name that is never given again."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, Final

import pytest

from admin.encryption import generate_key_line, parse_key_ring
from engine import Policy
from engine.values import SECOND
from store.audit import all_streams, verify_chain
from store.changes import Writer
from store.streams import tenant_of
from store.tables import meta
from store.writes import departures, personal_data, principals, traces
from tests.admin.service import Asking, fill, served, token
from tests.databases import StoreUrls, run
from tests.store.worlds import Rows, rows_of

STUDIO: Final = Path(__file__).parents[2] / "policies" / "studio"
ACME: Final = "/tenants/acme"
#: Of nobody and nothing else.
ID: Final = "newbie"
REF: Final = f"user:{ID}"
NEWBIE: Final = token(REF, "acme")
OLGA: Final = token("user:olga", "acme")
#: Past answers that are kept for a day, and all that is kept for an hour.
LATER: Final = 26 * 3600 * SECOND
#: That the id was given once, and to one who is deleted.
STONES: Final = {"names": {("user", ID)}, "principals": {("user", ID, "deleted", "{}")}}
Work = Callable[[Asking], Awaitable[Any]]


@pytest.fixture
def play(store_urls: StoreUrls) -> Callable[[Work], Any]:
    ring = parse_key_ring("\n".join(generate_key_line(name) for name in ("first", "index")), place="test")

    async def served_to(work: Work) -> Any:
        policy = Policy.load(STUDIO)
        key = await fill(policy, (STUDIO / "facts.yaml").read_bytes(), store_urls.admin)
        async with served(policy, store_urls.admin, key, ring=ring) as asking:
            return await work(asking)

    return lambda work: run(served_to(work))


async def done(asking: Asking, method: str, path: str, body: object = None, **how: Any) -> Any:
    """Ask for what is to be done, and see that it was."""
    said = await asking.ask(method, path, body, **how)
    assert said.status in (200, 201, 202, 204), (path, said.body)
    return said.body


async def live(asking: Asking) -> dict[str, str]:
    """Have a user leave something wherever a user can; return ids of what waits."""
    await done(asking, "POST", "/users", {"id": ID, "attributes": {"clearance": 1}})
    await done(asking, "PUT", f"/users/{ID}/personal-data/email", {"value": "new@example.org"})
    for tenant in ("acme", "globex"):
        made = await done(asking, "POST", f"/tenants/{tenant}/invitations", {"roles": []})
        await done(asking, "POST", "/invitations/accept", {"token": made["token"]}, who=NEWBIE, Idempotency_Key=tenant)
    await done(asking, "DELETE", f"/tenants/globex/memberships/{REF}")
    await done(asking, "PATCH", f"/users/{ID}", {"status": "suspended"})
    await done(asking, "PATCH", f"/users/{ID}", {"status": "active"})
    block = {"subject": REF, "jti": "j1", "expires": "2035-01-01T00:00:00Z"}
    await done(asking, "POST", "/tokens/blocked", block)
    for role, place in (("owner", "organization:acme"), ("viewer", "project:p1")):
        await done(asking, "POST", f"{ACME}/assignments", {"subject": REF, "role": role, "on": place})
    await done(asking, "POST", f"{ACME}/groups/staff/members", {"subject": REF})
    await done(asking, "POST", "/groups", {"id": "crew"})
    await done(asking, "POST", "/groups/crew/members", {"subject": REF})
    link = {"subject": REF, "home": "acme", "role": "auditor", "on": "organization:globex"}
    await done(asking, "POST", "/tenants/globex/links", link)
    outside = await asking.ask("POST", "/tenants/globex/memberships", {"subject": REF}, who=NEWBIE)
    assert outside.status == 403
    return await wait(asking)


async def wait(asking: Asking) -> dict[str, str]:
    """Have him ask, be asked for, decide, and invite; return the ids of what waits."""
    asked = {}
    for name, subject, who in (("his", "user:bob", NEWBIE), ("for him", REF, OLGA), ("decided", "user:vic", OLGA)):
        wish = {"subject": subject, "role": "admin", "on": "organization:acme"}
        asked[name] = (await done(asking, "POST", f"{ACME}/assignments", wish, who=who))["approval"]
    await done(asking, "POST", f"{ACME}/approvals/{asked['decided']}/approve", who=NEWBIE)
    asked["invitation"] = (await done(asking, "POST", f"{ACME}/invitations", {"roles": []}, who=NEWBIE))["id"]
    return asked


async def retain(asking: Asking) -> Any:
    asking.ahead[0] = LATER
    return await done(asking, "POST", "/retention/run")


async def broken(asking: Asking) -> list[str]:
    """Name the chains that do not hold."""
    async with asking.database.reading() as connection:
        streams = await all_streams(connection)
    found = []
    for stream in streams:
        async with asking.database.reading(tenant_of(stream)) as connection:
            if await verify_chain(connection, stream) is not None:
                found.append(stream)
    return found


def naming(rows: Rows) -> dict[str, set[Any]]:
    """Find the rows of all tables that hold the id, anywhere in any column."""
    found = {name: {row for row in all_ if any(ID in str(each) for each in row)} for name, all_ in rows.items()}
    return {name: some for name, some in found.items() if some}


def test_erasure_leaves_nothing(play: Callable[[Work], Any], store_urls: StoreUrls) -> None:
    """After the erasure, and the run of retention that follows, the id stands where it is kept from being given again,
    without a time by which it could be found in a log, and nowhere else; no pseudonym stands for anybody, and all
    chains hold."""

    async def talk(asking: Asking) -> Any:
        await live(asking)
        before = naming(await rows_of(store_urls, *meta.tables))
        await done(asking, "POST", f"/users/{ID}/erasure")
        await retain(asking)
        return before, await broken(asking)

    before, faults = play(talk)
    after = run(rows_of(store_urls, *meta.tables))

    assert {"approvals", "invitations", "changes", "pseudonyms", "links", "token_horizons"} <= before.keys()
    assert naming(after) == {**STONES, "departures": {("user", ID, "", "", "")}}
    (whose,) = [row[1] for row in after["erasures"]]
    assert (whose, None) in after["pseudonyms"]
    assert faults == []


def test_an_hour_later_nothing_is_left_but_answers(play: Callable[[Work], Any], store_urls: StoreUrls) -> None:
    """What the erasure itself leaves, until retention runs, is the log of changes, when he was deleted, and answers
    that were kept for those who ask twice."""

    async def talk(asking: Asking) -> None:
        await live(asking)
        await done(asking, "POST", f"/users/{ID}/erasure")

    play(talk)
    left = naming(run(rows_of(store_urls, *meta.tables)))

    assert left.keys() <= {*STONES, "departures", "changes", "idempotency_keys"}
    assert {each: left[each] for each in STONES} == STONES


def test_what_waits_for_him_or_by_him_is_taken_back(play: Callable[[Work], Any]) -> None:
    """Requests and invitations stay to be read, by his pseudonym, and nobody can approve or accept them; what he
    decided stands, and what others wait for is untouched."""

    async def talk(asking: Asking) -> Any:
        asked = await live(asking)
        wish = {"subject": "user:cleo", "role": "admin", "on": "organization:acme"}
        other = (await done(asking, "POST", f"{ACME}/assignments", wish, who=OLGA))["approval"]
        await done(asking, "POST", f"/users/{ID}/erasure")
        late = [await asking.ask("POST", f"{ACME}/approvals/{asked[one]}/approve") for one in ("his", "for him")]
        listed = {each["id"]: each for each in (await done(asking, "GET", f"{ACME}/approvals"))["items"]}
        shown = {each["id"]: each for each in (await done(asking, "GET", f"{ACME}/invitations"))["items"]}
        return asked, listed, listed[other], shown[asked["invitation"]], late

    asked, listed, other, invitation, late = play(talk)
    his, for_him, decided = (listed[asked[name]] for name in ("his", "for him", "decided"))

    assert [said.status for said in late] == [409, 409]
    assert (his["outcome"], for_him["outcome"], decided["outcome"]) == ("withdrawn", "withdrawn", "approved")
    assert his["requested_by"] == for_him["subject"] == decided["decided_by"] == invitation["invited_by"]
    assert his["requested_by"].startswith("user:")
    assert (other["requested_by"], other["outcome"]) == ("user:olga", None)
    assert invitation["withdrawn_at"] is not None


def test_an_erasure_that_was_cut_off_leaves_nothing(play: Callable[[Work], Any], store_urls: StoreUrls) -> None:
    """Cut off after its first write, or in the middle of the tenants, it is finished by retention to the same end."""

    async def talk(asking: Asking) -> Any:
        await live(asking)
        writer = Writer(asking.database)
        async with writer.write(others=["acme", "globex"]) as write:
            await personal_data.request_erasure(write, REF)
            await principals.delete(write, REF)
        async with writer.write(tenant="globex") as write:
            await traces.veil(write, REF)
        await retain(asking)
        asking.ahead[0] += departures.APPEARING_NS
        await done(asking, "POST", "/retention/run")
        return [each["done_at"] for each in (await done(asking, "GET", "/erasures"))["items"]]

    register = play(talk)

    assert None not in register
    assert naming(run(rows_of(store_urls, *meta.tables))).keys() == {*STONES, "departures"}


def test_one_who_is_named_again_is_forgotten_again(play: Callable[[Work], Any], store_urls: StoreUrls) -> None:
    """A refusal, or an export, after the erasure leaves nobody's name behind for good."""

    async def talk(asking: Asking) -> Any:
        await live(asking)
        await done(asking, "POST", f"/users/{ID}/erasure")
        await retain(asking)
        exported = await done(asking, "GET", f"/users/{ID}/export")
        unnamed = naming(await rows_of(store_urls, *meta.tables)).keys()
        await asking.ask("POST", f"{ACME}/memberships", {"subject": REF}, who=NEWBIE)
        named = naming(await rows_of(store_urls, "pseudonyms"))
        await done(asking, "POST", "/retention/run")
        return exported, unnamed, named

    exported, unnamed, named = play(talk)

    assert exported["status"] == "deleted"
    assert unnamed == {*STONES, "departures"}
    assert named
    assert "pseudonyms" not in naming(run(rows_of(store_urls, *meta.tables)))
