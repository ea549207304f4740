"""Policies that are published in the store: taken with the facts, never after them, and never taken for another."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from engine import Policy
from engine.source import Source
from store.changes import Write
from store.published import publication_at
from store.tokens import Token
from store.writes import policies
from tests.databases import StoreUrls
from tests.freshness.services import POLICY, Asker, Pen, Work, grant, house, process, revoke, sidecar, until
from tests.sidecar.test_bundles import OTHERS, OURS, lock

CLOSED = POLICY + 'deny closed: anyone to project.read because "closed"\n'


def keep(pen: Pen, text: str, *keys: object, version: int | None = None) -> str:
    """Upload a policy, as a bundle if it has a version; return its id."""
    files = {"policy.bylaw": text}
    sources = [Source(name, text) for name, text in files.items()]
    locked = None if version is None else lock(files, version, *keys)  # type: ignore[arg-type]
    made: list[str] = []

    async def upload(write: Write) -> None:
        made.append(await policies.upload(write, sources, locked, digest=Policy.of(sources).digest))

    pen.write(upload, tenant=None, publishing=True)
    return made[0]


def publishing(policy: str | None) -> Work:
    async def work(write: Write) -> None:
        last = await publication_at(write.connection)
        await policies.publish(write, policy, after=last.n)

    return work


def publish(pen: Pen, policy: str | None) -> str:
    """Publish a policy, and return the token."""
    return pen.write(publishing(policy), tenant=None, publishing=True)


def publish_with_receipt(pen: Pen, policy: str) -> tuple[str, str]:
    """Publish a policy, and return the token and a receipt."""
    return pen.receipt(publishing(policy), tenant=None, publishing=True)


@pytest.fixture
def pen(store_urls: StoreUrls) -> Iterator[Pen]:
    with house(store_urls) as found:
        yield found


def test_what_is_published_decides_everywhere(pen: Pen, store_urls: StoreUrls) -> None:
    """Who asks from the publication on is answered by it, of every process; and by directories once it is withdrawn."""
    closed = keep(pen, CLOSED)
    with sidecar(store_urls.sidecar) as one, sidecar(store_urls.sidecar) as other:
        before = [each.word() for each in (one, other)]
        published = publish(pen, closed)
        during = [each.since(published) for each in (one, other)]
        withdrawn = publish(pen, None)
        after = [each.since(withdrawn) for each in (one, other)]

    assert (before, during, after) == (["allow"] * 2, ["rule"] * 2, ["allow"] * 2)


def test_a_process_begins_with_what_is_published(pen: Pen, store_urls: StoreUrls) -> None:
    """A process that starts decides by what is published, whatever lies in its directory, even if nothing does."""
    publish(pen, keep(pen, CLOSED))

    with process(store_urls.sidecar) as started, Asker(started.port) as asked:
        assert asked.word() == "rule"


def test_policy_and_facts_stood_together(pen: Pen, store_urls: StoreUrls) -> None:
    """Nobody is shown what was granted after a policy that denies it was published, by the policy before."""
    closed, opened = keep(pen, CLOSED), keep(pen, POLICY + "# open\n")
    heard: set[str] = set()
    done = threading.Event()

    with sidecar(store_urls.sidecar) as asked, Asker(asked.port) as watching:

        def watch() -> None:
            while not done.is_set():
                heard.add(watching.word("user:cat"))

        thread = threading.Thread(target=watch)
        thread.start()
        try:
            for _ in range(10):
                publish(pen, closed)
                pen.write(grant("user:cat"))
                pen.write(revoke("user:cat"))
                token = publish(pen, opened)
                until(lambda token=token: asked.since(token, who="user:cat") == "default")  # type: ignore[misc]
        finally:
            done.set()
            thread.join()

    assert "allow" not in heard
    assert heard <= {"rule", "default"}


def test_a_revision_names_the_policy_that_decided(pen: Pen, store_urls: StoreUrls) -> None:
    """What is answered by the policy before never carries the number of the publication."""
    closed = keep(pen, CLOSED)
    with sidecar(store_urls.sidecar) as asked:
        before = asked.ask()
        published = publish(pen, closed)
        until(lambda: asked.word() == "rule")
        after = asked.ask()

    assert before.token.p < after.token.p == Token.parse(published).p


def test_who_refuses_a_publication_says_so(pen: Pen, store_urls: StoreUrls) -> None:
    """A process whose key did not sign what is published goes on with its own, follows the facts, tells of it, answers
    nobody who demands the publication, and gives no receipt; the next good one it takes."""
    theirs, ours = keep(pen, CLOSED, OTHERS, version=1), keep(pen, CLOSED, OURS, version=2)
    with sidecar(store_urls.sidecar) as asked:
        asked.service.policies._policy_keys = (OURS.public_key().public_bytes_raw(),)
        published, receipt = publish_with_receipt(pen, theirs)
        until(lambda: asked.ready() == (200, "degraded"))
        refused = asked.word("user:cat", "project.read", "project:p1", published)
        pen.write(grant("user:cat"))
        until(lambda: asked.word("user:cat") == "allow")
        is_settled = pen.settled(receipt, within_s=0.5).is_settled
        good = publish(pen, ours)
        taken = asked.since(good, who="user:cat")

    assert (refused, is_settled, taken) == ("503 stale", False, "rule")


def test_a_publication_without_a_wall_is_refused(pen: Pen, store_urls: StoreUrls) -> None:
    """A policy without a tenant does not decide over a store that has tenants, published or not."""
    bad = keep(pen, "principal user\nresource project { actions read, update }\n")
    with sidecar(store_urls.sidecar) as asked:
        token = publish(pen, bad)
        until(lambda: asked.ready() == (200, "degraded"))
        words = asked.word(), asked.word("user:ann", "project.read", "project:p1", token)
        problem = asked.service.policies.problem

    assert words == ("allow", "503 stale")
    assert problem is not None
    assert problem.code == "no_tenant"
