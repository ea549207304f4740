"""What has an end counts until that instant, to the nanosecond, whatever is held in memory."""

from __future__ import annotations

from store.changes import Write
from store.writes import assignments, groups, links, memberships, platform_groups, principals
from tests.databases import StoreUrls
from tests.freshness.services import Asker, grant, house, sidecar

NOON = 1_900_000_000_000_000_000
GIVEN = {"role": "project.editor", "place": "project:p1"}
QUESTIONS = {
    "role": "user:cat",
    "membership": "user:dan",
    "group": "user:fay",
    "link": "user:gil",
    "home": "user:hal",
    "platform group": "user:ivy",
    "system": "user:joe",
    "beginning": "user:kim",
}


async def people(write: Write) -> None:
    for who in set(QUESTIONS.values()) - {"user:cat"}:
        await principals.make(write, who)
    await platform_groups.add_member(write, "crew", "user:ivy", expires=NOON)
    await assignments.give_system(write, "user:joe", "system.root", expires=NOON)


async def in_acme(write: Write) -> None:
    await grant("user:cat", expires=NOON)(write)
    await memberships.put(write, "user:dan", expires=NOON)
    await grant("user:dan")(write)
    for who in ("user:fay", "user:ivy", "user:kim"):
        await memberships.put(write, who)
    await groups.add_member(write, "team", "user:fay", expires=NOON)
    await grant("user:kim", starts=NOON)(write)


async def in_globex(write: Write) -> None:
    await memberships.put(write, "user:gil")
    await links.make(write, "user:gil", "organization.auditor", "organization:acme", target="acme", expires=NOON)
    await memberships.put(write, "user:hal", expires=NOON)
    await links.make(write, "user:hal", "organization.auditor", "organization:acme", target="acme")


def heard(asked: Asker) -> dict[str, str]:
    return {what: _word(asked, what, who) for what, who in QUESTIONS.items()}


def _word(asked: Asker, what: str, who: str) -> str:
    is_tenant_wide = what == "platform group"
    return asked.word(who, *(("organization.read", "organization:acme") if is_tenant_wide else ()))


def test_expiry_is_exact(store_urls: StoreUrls) -> None:
    """A role, a membership, a place in a group, a link, the membership behind it, a place in a group of the platform
    and a role on the system count until their end and not at it; what begins counts from its beginning on. Asked again
    and again, with the clock going back and forth, so that whatever is remembered is asked on both sides."""
    now = [NOON - 1]
    counts = dict.fromkeys(QUESTIONS, "allow") | {"beginning": "default"}
    over = dict.fromkeys(QUESTIONS, "boundary")
    over |= {"role": "default", "group": "default", "platform group": "default", "beginning": "allow"}
    with house(store_urls) as pen, sidecar(store_urls.sidecar) as asked:
        pen.write(people, tenant=None)
        pen.write(in_acme)
        token = pen.write(in_globex, tenant="globex", shared=True, others=["acme"])
        asked.set_clock(lambda: now[0])
        asked.since(token)

        rounds = []
        for moment in (NOON - 1, NOON, NOON - 1, NOON + 1, NOON - 1):
            now[0] = moment
            rounds.append(heard(asked))

        assert rounds == [counts, over, counts, over, counts]


def test_expiry_needs_no_poll(store_urls: StoreUrls) -> None:
    """What was loaded before its end, by a decision that was then made, ends without that anything is read again."""
    now = [NOON - 1]
    with house(store_urls) as pen, sidecar(store_urls.sidecar, max_staleness_s=60) as asked:
        token = pen.write(grant("user:cat", expires=NOON))
        asked.set_clock(lambda: now[0])
        before = asked.since(token, who="user:cat")
        loads = asked.keeper.loader.loads

        now[0] = NOON
        after = asked.word("user:cat")

        assert (before, after, asked.keeper.loader.loads) == ("allow", "default", loads)
