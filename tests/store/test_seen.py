"""Deciding by what one transaction shows: as processes decide on the same state, and by what a write has done."""

from __future__ import annotations

import shutil
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from itertools import count
from typing import Any, NamedTuple

import pytest
from sqlalchemy import event
from sqlalchemy.ext.asyncio import AsyncConnection

from engine import Decision, Facts, HttpRequest, Policy, Request, RequestError
from engine.authorizer import Questioner
from engine.facts import IMPLICIT_TENANT
from sidecar.decider import StoreDecider, voices
from sidecar.keeper import Keeper
from sidecar.readings import Loaded as LoadedPolicy
from store import seen as module
from store.answers import Loaded
from store.changes import Write, Writer
from store.database import Database
from store.errors import StoreError, UnfitError
from store.reading import Snapshot
from store.seed import seed
from store.seen import ROUNDS, SeenFacts, decide_within, seen
from store.tokens import Token
from store.views import Wanted
from store.writes import assignments, principals, resources, tenants
from tests.databases import Cluster, Postgres, StoreUrls, run, sqlite_urls
from tests.reference.agreement import load
from tests.store.seeds import opened, sow, write
from tests.store.worlds import UndoneError
from tests.strategies import make_case

POLICY = Policy.parse("""
tenant org { actions read, close  attributes { plan: string? } }
resource project in org { actions read  attributes { owner: user?, next: project?, sealed: bool? } }
resource task in project { actions read, edit }
principal user { attributes { level: int?, chief: user? } }
custom on org { can project.*, task.* }
role reader on org crossing { can org.read, project.read }
role editor on project { can project.read, task.* }
role root on system { can org.read }
deny sealed: anyone to project.read when resource has sealed and resource.sealed
deny far: anyone to project.read when resource has next and resource.next has sealed and resource.next.sealed
allow chief: anyone to project.read
  when resource has owner and resource.owner has chief and resource.owner.chief == principal
allow shown: public to org.read unless resource has plan and resource.plan == "secret"
route GET "/projects/{project}" to project.read
""")
WORLD = """
tenants: { acme: { attributes: { plan: secret } }, globex: {} }
users:
  ann: { members: { acme: active } }
  bob: { attributes: { chief: user:ann }, members: { acme: active } }
  eve: { members: { globex: active } }
  sue: {}
groups: { staff: { tenant: acme, members: [user:bob], in: [house] }, house: { tenant: acme } }
resources:
  project:p1: { parent: org:acme, attributes: { owner: user:bob } }
  project:p2: { parent: org:acme, attributes: { next: project:p3 } }
  project:p3: { parent: org:acme, attributes: { sealed: true } }
  project:g1: { parent: org:globex }
  task:t1: { parent: project:p1 }
assignments:
  - { subject: group:house, role: editor, on: project:p1 }
  - { subject: user:eve, role: editor, on: project:g1 }
  - { subject: user:sue, role: root, on: system }
links: [{ subject: user:eve, home: globex, role: reader, on: org:acme }]
"""
#: The same without tenants.
PLAIN = Policy.parse("resource project { actions read }\nrole reader on tenant { can project.read }")
PLAIN_WORLD = (
    "users: { ann: {} }\nresources: { project:p1: {} }\nassignments: [{ subject: user:ann, role: reader, on: tenant }]"
)

BOTH = ("sqlite", pytest.param("postgres", marks=pytest.mark.postgres))
#: What may be asked of a decision.
Answer = tuple[Any, ...]


@pytest.fixture(scope="module", params=BOTH)
def stored(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[StoreUrls]:
    """The world in a database of either kind, for what leaves it as it is."""
    if request.param == "sqlite":
        folder = tmp_path_factory.mktemp("seen")
        urls = sqlite_urls(shutil.copy(request.getfixturevalue("sqlite_template"), folder / "bylaw.db"))
        sow(urls, WORLD, POLICY)
        yield urls
        return
    postgres: Postgres = request.getfixturevalue("postgres")
    urls = postgres.fresh()
    sow(urls, WORLD, POLICY)
    yield urls
    postgres.drop(urls)


def question(subject: str, action: str, resource: str, tenant: str | None = "acme") -> Request:
    return Request(tenant=tenant, subject=subject, action=action, resource=resource)


def told(decision: Decision) -> Answer:
    found = (decision.allowed, decision.code, decision.by, decision.at, decision.because)
    return (*found, decision.obligations, decision.failed, decision.revision)


@asynccontextmanager
async def reading(urls: StoreUrls, tenant: str | None = "acme") -> AsyncIterator[AsyncConnection]:
    """Open a snapshot, as the administration's login."""
    async with opened(urls.admin) as database, database.reading(tenant) as connection:
        yield connection


@contextmanager
def counted(connection: AsyncConnection) -> Iterator[list[str]]:
    """List the statements that a transaction is asked."""
    found: list[str] = []

    def note(_connection: object, _cursor: object, statement: str, *_: object) -> None:
        found.append(statement)

    event.listen(connection.sync_connection, "before_cursor_execute", note)
    yield found
    event.remove(connection.sync_connection, "before_cursor_execute", note)


def decided(urls: StoreUrls, request: Request | HttpRequest, tenant: str | None = "acme") -> Decision:
    """Decide by what a snapshot shows."""

    async def scene() -> Decision:
        async with reading(urls, tenant) as connection:
            return await decide_within(connection, POLICY, request)

    return run(scene())


def fails(urls: StoreUrls, request: Request, tenant: str | None = "acme") -> str:
    """Decide where it is an error; return its code."""
    with pytest.raises(UnfitError) as caught:
        decided(urls, request, tenant)
    return caught.value.code


# --- as processes decide --------------------------------------------------------------------------------


class Both(NamedTuple):
    """What one question came to: within a transaction, in how many statements, and where it is decided all day."""

    seen: Answer | str
    statements: int
    served: Answer | str


class Process:
    """One process of the decision service over a store."""

    def __init__(self, url: str, policy: Policy) -> None:
        self.loaded: LoadedPolicy | None = None
        self.keeper = Keeper(url, max_staleness_s=60, questioner=self._questioner)
        self.loaded = LoadedPolicy(policy, self.keeper.bind(policy), "")
        parts = (self.keeper.cache, self.keeper.freshness, self.keeper.loader, self.keeper.reader)
        self.decider = StoreDecider(self._loaded, *parts)

    def _questioner(self) -> Questioner | None:
        return self.loaded.facts.questioner if self.loaded is not None else None

    def _loaded(self) -> LoadedPolicy:
        assert self.loaded is not None
        return self.loaded

    async def answer(self, request: Request) -> Answer | str:
        try:
            return await self.decider.answer(
                lambda held: told(held.policy.decide(request, held.facts)), [request], None
            )
        except RequestError as error:
            return error.code


async def asked_twice(urls: StoreUrls, policy: Policy, facts: Facts, requests: list[Request]) -> list[Both]:
    """Put facts into a store, and ask each question within a transaction and of a process."""
    async with opened(urls.admin) as database:
        await seed(database, policy, facts.source)
        process = Process(urls.sidecar, policy)
        await process.keeper.start()
        if not policy.model.has_tenant:  # what is decided before it is in use names what all tenants share alone
            await process.keeper.freshness.activate(IMPLICIT_TENANT)
        try:
            return [await _asked_twice(database, process, policy, request) for request in requests]
        finally:
            await process.keeper.stop()


async def _asked_twice(database: Database, process: Process, policy: Policy, request: Request) -> Both:
    tenant = min(voices(request), default="acme") if policy.model.has_tenant else IMPLICIT_TENANT
    async with database.reading(tenant) as connection:
        with counted(connection) as statements:
            try:
                found: Answer | str = told(await decide_within(connection, policy, request))
            except RequestError as error:
                found = error.code
    return Both(found, len(statements), await process.answer(request))


@pytest.mark.parametrize("number", [3, 23, 28, 31, 44])
def test_decides_as_processes_do(store_urls: StoreUrls, number: int) -> None:
    """A decision within a transaction is the one that the decision service makes, its reasons and revision too."""
    case = make_case(number, questions=40)
    loaded = load(case)
    assert loaded is not None

    found = run(asked_twice(store_urls, *loaded, [Request(**each) for each in case.asked]))

    assert [both.seen for both in found] == [both.served for both in found]
    assert {True, False} <= {both.seen[0] for both in found}
    assert max(both.statements for both in found) <= 4


def test_without_tenants(store_urls: StoreUrls) -> None:
    """Under a policy without tenants the transaction is of the one that all facts are of."""
    sow(store_urls, PLAIN_WORLD, PLAIN)

    async def scene() -> Decision:
        async with reading(store_urls, IMPLICIT_TENANT) as connection:
            return await decide_within(connection, PLAIN, question("user:ann", "read", "project:p1", None))

    assert run(scene()).by == "tenant.reader on tenant:tenant"


def test_routes(stored: StoreUrls) -> None:
    """A question by method and path is decided, too."""
    found = decided(stored, HttpRequest("GET", "/projects/p1", subject="user:bob", tenant="acme"))

    assert found.by == "project.editor on project:p1"


# --- writes ---------------------------------------------------------------------------------------------


@asynccontextmanager
async def taken_back(urls: StoreUrls, **how: Any) -> AsyncIterator[Write]:
    """Open a write of which nothing stays."""
    with suppress(UndoneError):
        async with opened(urls.admin) as database, Writer(database).write(**how) as open_write:
            yield open_write
            raise UndoneError


def test_a_write_sees_what_it_has_done(stored: StoreUrls) -> None:
    """Within a write each decision is by all that was written before it, of one's own and of what all share, and by
    nothing of it once that is taken back; nobody else sees it."""
    asked = question("user:ann", "edit", "task:t2")
    codes: list[str] = []

    async def ask(connection: AsyncConnection) -> None:
        codes.append((await decide_within(connection, POLICY, asked)).code)

    async def scene() -> None:
        async with taken_back(stored, tenant="acme", shared=True) as open_write, reading(stored) as elsewhere:
            await ask(open_write.connection)
            await resources.make(open_write, "task:t2", parent="project:p1")
            await ask(open_write.connection)
            await assignments.give(open_write, "user:ann", "project.editor", "project:p1")
            await ask(open_write.connection)
            await ask(elsewhere)
            await principals.set_status(open_write, "user:ann", "suspended")
            await ask(open_write.connection)

    run(scene())

    assert codes == ["unknown_resource", "default", "role", "unknown_resource", "principal_inactive"]
    assert decided(stored, asked).code == "unknown_resource"


def test_a_new_tenant_decides_in_the_write_that_makes_it(stored: StoreUrls) -> None:
    """A tenant is decided in by the very write that makes it."""
    asked = question("anonymous", "read", "org:new", "new")

    async def scene() -> list[str]:
        async with taken_back(stored, tenant="new", making=True) as open_write:
            before = await decide_within(open_write.connection, POLICY, asked)
            await tenants.make(open_write, attributes={"plan": "free"})
            after = await decide_within(open_write.connection, POLICY, asked)
        return [before.code, after.code]

    assert run(scene()) == ["tenant_inactive", "rule"]


def test_the_revision_in_a_write_is_the_one_that_it_makes(store_urls: StoreUrls) -> None:
    """What was decided within a write names the state that its commit makes."""
    sow(store_urls, WORLD, POLICY)

    async def scene() -> tuple[str, Token | None]:
        async with opened(store_urls.admin) as database:
            async with Writer(database).write(tenant="acme") as open_write:
                decision = await decide_within(open_write.connection, POLICY, question("user:bob", "read", "task:t1"))
            return decision.revision, open_write.token

    revision, token = run(scene())

    assert revision == str(token)


def test_facts_stand_together(postgres_urls: StoreUrls, monkeypatch: pytest.MonkeyPatch) -> None:
    """Where somebody commits between two loads of a write, a decision stands on the second alone, not on two halves
    that never stood together."""
    sow(postgres_urls, WORLD, POLICY)
    loads = _overtaken(monkeypatch, postgres_urls, at=1)

    async def scene() -> Decision:
        async with opened(postgres_urls.admin) as database, Writer(database).write(tenant="acme") as open_write:
            return await decide_within(open_write.connection, POLICY, question("user:ann", "read", "project:p1"))

    found = run(scene())

    assert found.code == "principal_inactive"  # not `rule`, which the first load and the second come to
    assert len(loads) == 2


def _overtaken(monkeypatch: pytest.MonkeyPatch, urls: StoreUrls, *, at: int) -> list[Wanted]:
    """Have somebody suspended after so many loads; return the list of loads, which grows."""
    loads: list[Wanted] = []

    class Overtaken(Snapshot):
        async def load(self, wanted: Wanted) -> Loaded:
            if len(loads) == at:
                async with opened(urls.admin) as database, Writer(database).write(shared=True) as other:
                    await principals.set_status(other, "user:ann", "suspended")
            loads.append(wanted)
            return await super().load(wanted)

    monkeypatch.setattr(module, "Snapshot", Overtaken)
    return loads


# --- the wall -------------------------------------------------------------------------------------------


def test_a_question_of_another_tenant_is_an_error(stored: StoreUrls) -> None:
    """A transaction decides nothing in a tenant that it does not show, even where nothing but the tenant is read."""
    assert fails(stored, question("user:eve", "read", "project:g1", "globex")) == "wrong_tenant"
    assert fails(stored, question("anonymous", "read", "org:acme"), "globex") == "wrong_tenant"
    assert fails(stored, question("user:bob", "read", "task:t1"), None) == "wrong_tenant"
    assert decided(stored, question("user:eve", "read", "project:g1", "globex"), "globex").allowed


def test_rows_of_another_tenant_are_not_there(stored: StoreUrls) -> None:
    """What another tenant has under a name is not found, and cannot be read past the decision either."""
    assert decided(stored, question("user:bob", "read", "project:g1")).code == "unknown_resource"
    with pytest.raises(UnfitError, match="tenant `acme`, and is asked of tenant `globex`"):
        run(_attempted(stored, lambda facts: facts.source.resource("globex", "project", "g1")))


def test_the_tenant_is_that_of_the_transaction(stored: StoreUrls) -> None:
    """Whoever names another tenant than the transaction was begun for gets an error, where the database would show
    rows, too."""
    with pytest.raises(UnfitError, match="begun for tenant `acme`"):
        run(_attempted(stored, lambda facts: facts.revision, named="globex"))
    with pytest.raises(UnfitError, match="begun for no tenant"):
        run(_attempted(stored, lambda facts: facts.revision, tenant=None))


def test_links_need_nothing_of_their_home(store_urls: StoreUrls) -> None:
    """A link into a tenant counts there though its home is not shown, and not while that is suspended."""
    sow(store_urls, WORLD, POLICY)
    asked = question("user:eve", "read", "project:p1")

    before = decided(store_urls, asked)
    write(store_urls, lambda each: tenants.set_status(each, "suspended"), tenant="globex", shared=True)

    assert before.by == "org.reader on org:acme"
    assert decided(store_urls, asked).code == "boundary"


def test_without_a_tenant_there_is_what_all_share(stored: StoreUrls) -> None:
    """A transaction of no tenant decides questions on the system."""
    policy = Policy.parse("tenant org { actions read }\nsystem { actions tend }\nrole root on system { can tend }")

    async def scene(subject: str) -> Decision:
        async with reading(stored, None) as connection:
            return await decide_within(connection, policy, question(subject, "tend", "system:system", None))

    assert run(scene("user:sue")).by == "system.root on system:system"
    assert run(scene("user:ann")).code == "boundary"


# --- statements -----------------------------------------------------------------------------------------

COSTS = [
    (question("user:bob", "edit", "task:t1"), 1),  # a chain of three, a group in a group
    (question("anonymous", "read", "org:acme"), 1),
    (question("user:eve", "read", "project:p3"), 1),  # a link
    (question("user:zed", "edit", "task:none"), 1),
    (question("user:ann", "read", "project:p1"), 2),  # then whom an attribute names
    (question("user:ann", "read", "project:p2"), 2),
]


def test_loads_are_few(stored: StoreUrls) -> None:
    """All that a question names is loaded in one statement, and what attributes name in one more; many questions in one
    attempt take no more than one of them."""

    async def scene() -> tuple[list[int], int]:
        found = []
        async with reading(stored) as connection:
            for request, _ in COSTS:
                with counted(connection) as statements:
                    await decide_within(connection, POLICY, request)
                found.append(len(statements))
            with counted(connection) as together:
                await seen(connection, "acme", POLICY, lambda facts: [POLICY.decide(each, facts) for each, _ in COSTS])
        return found, len(together)

    each, together = run(scene())

    assert each == [cost for _, cost in COSTS]
    assert together <= max(each)


def test_loads_have_an_end(stored: StoreUrls) -> None:
    """An attempt that asks for ever more ends in an error."""
    names = count()

    with pytest.raises(StoreError, match=f"after {ROUNDS} loads") as caught:
        run(_attempted(stored, lambda facts: facts.source.resource("acme", "task", f"{next(names)}")))

    assert caught.value.code == "too_deep"


def test_what_is_missing_at_last_is_loaded(stored: StoreUrls) -> None:
    """An attempt that needs something else the last time, as where time has passed, is made again."""
    turns = count()

    def attempt(facts: SeenFacts) -> object:
        name = "p2" if next(turns) == 2 else "p1"  # nobody's at first, nobody's after the load, and then the answer
        return facts.source.resource("acme", "project", name)

    found = run(_attempted(stored, attempt))

    assert found is not None
    assert next(turns) == 5


def test_many_roles_are_looked_up_by_place(stored: StoreUrls, monkeypatch: pytest.MonkeyPatch) -> None:
    """One who holds too much to be listed is decided on by what he holds on the places that are asked about."""
    monkeypatch.setattr("store.reading.MAX_GRANTS", 0)

    found = [decided(stored, question("user:bob", "edit", name)).code for name in ("task:t1", "task:none")]

    assert found == ["role", "unknown_resource"]


# --- attempts -------------------------------------------------------------------------------------------


async def _attempted(
    urls: StoreUrls, attempt: Callable[[SeenFacts], object], *, tenant: str | None = "acme", named: str = "acme"
) -> object:
    async with reading(urls, tenant) as connection:
        return await seen(connection, named, POLICY, attempt)


class RefusedHereError(Exception):
    """What a service raises where a decision is a deny."""


def test_an_attempt_may_raise(stored: StoreUrls) -> None:
    """What an attempt raises on facts that are not whole is nobody's, what it raises on whole ones is the answer."""

    def demanding(subject: str) -> Callable[[SeenFacts], str | None]:
        def attempt(facts: SeenFacts) -> str | None:
            decision = POLICY.decide(question(subject, "edit", "task:t1"), facts)
            if not decision.allowed:
                raise RefusedHereError
            return decision.by

        return attempt

    assert run(_attempted(stored, demanding("user:bob"))) == "project.editor on project:p1"
    with pytest.raises(RefusedHereError):
        run(_attempted(stored, demanding("user:ann")))


def test_a_malformed_question_is_an_error(stored: StoreUrls) -> None:
    """A question that the policy does not know is told as such."""
    with pytest.raises(RequestError, match="no type `tsk`"):
        decided(stored, question("user:bob", "edit", "tsk:t1"))


@pytest.mark.parametrize("odd", ["project:p\0", "project:p\ud800"], ids=["NUL", "half a character"])
def test_what_no_database_can_hold_is_not_there(stored: StoreUrls, odd: str) -> None:
    """An id that cannot be stored is that of nothing, and takes no other fact along: nobody asks the database."""
    assert decided(stored, question("user:bob", "read", odd)).code == "unknown_resource"
    assert decided(stored, question("user:bob\0", "read", "project:p1")).code == "boundary"


def test_a_replica_decides_nothing(private_postgres: Cluster) -> None:
    """A copy that follows another server may lag behind: nothing is decided by it."""
    urls = private_postgres.urls()
    sow(urls, WORLD, POLICY)
    private_postgres.become_replica()

    assert fails(urls, question("user:bob", "edit", "task:t1")) == "replica"
