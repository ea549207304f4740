"""How the administration API behaves whatever it is asked: bodies, paths, cursors, headers, and what is asked twice."""

from __future__ import annotations

import asyncio
import base64
import json
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest
from aiohttp.test_utils import TestClient, TestServer
from sqlalchemy import func, select, text
from yarl import URL

from admin.app import SERVER, create_app
from admin.endpoints import ENDPOINTS
from admin.manners import Manners, parse_origins, reads_gzip
from admin.services import Services
from bylaw.administration import Limits
from engine import BylawError
from store.changes import Writer
from store.settling import Receipts
from store.streams import GLOBAL
from store.tables import meta, revisions
from store.tokens import Token
from tests.admin.service import Asking, Said, World, following, make_world

STUDIO: Final = Path(__file__).parents[2] / "policies" / "studio"
TABLES: Final = meta.tables
CONSOLE: Final = "https://console.example"

Play = Callable[[Asking], Coroutine[Any, Any, None]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(STUDIO, STUDIO / "facts.yaml", tmp_path_factory.mktemp("manners"))


@pytest.fixture
def play(world: World, tmp_path: Path) -> Callable[[Play], None]:
    async def run(work: Play) -> None:
        async with world.asked(tmp_path) as asking:
            await work(asking)

    return lambda work: asyncio.run(run(work))


@asynccontextmanager
async def set_up(asking: Asking, world: World, manners: Manners) -> AsyncIterator[Asking]:
    """Serve the same store with other manners."""
    database = asking.database
    policies = following(world.policy, database)
    services = Services(database, Writer(database), Receipts(database), lambda: policies.loaded.policy, policies)
    app = create_app(services, ENDPOINTS, version="test", manners=manners)
    server = TestServer(app)
    await server.start_server(**SERVER)  # as the service does it
    async with TestClient(server) as client:
        yield Asking(client, asking.key, database, asking.ahead, policies)


async def send(asking: Asking, method: str, path: str, data: Any = None, **headers: str) -> Said:
    """Send bytes and headers as they are, to a path as it is."""
    sent = {"Authorization": f"Bearer {asking.key}"} | {name.replace("_", "-"): said for name, said in headers.items()}
    url = URL(str(asking.client.make_url("/")).rstrip("/") + path, encoded=True)
    async with asking.client.session.request(
        method, url, data=data, headers=sent, skip_auto_headers=("Content-Type", "Accept-Encoding")
    ) as response:
        said = await response.text()
        return Said(response.status, json.loads(said) if said else None, response.headers)


async def count(asking: Asking, table: str) -> int:
    async with asking.database.reading() as connection:
        return int((await connection.execute(select(func.count()).select_from(TABLES[table]))).scalar_one())


# --- asked twice ------------------------------------------------------------------------------------------------------


def test_a_repeated_request_is_done_once(play: Callable[[Play], None]) -> None:
    """The same request with the same key is answered alike, to the byte, and makes no second thing."""

    async def work(asking: Asking) -> None:
        first = await asking.ask("POST", "/users", {"attributes": {}}, Idempotency_Key="one")
        before = await count(asking, "principals")

        second = await asking.ask("POST", "/users", {"attributes": {}}, Idempotency_Key="one")

        assert (second.status, second.body) == (first.status, first.body) == (201, first.body)
        for name in ("Location", "Bylaw-Revision"):
            assert second.headers[name] == first.headers[name]
        assert await count(asking, "principals") == before

    play(work)


def test_a_made_tenant_is_told_again(play: Callable[[Play], None]) -> None:
    """A write that makes its own tenant names its revision in the kept answer, too."""

    async def work(asking: Asking) -> None:
        first = await asking.ask("POST", "/tenants", {"id": "new"}, Idempotency_Key="t")
        second = await asking.ask("POST", "/tenants", {"id": "new"}, Idempotency_Key="t")
        plain = await asking.ask("POST", "/tenants", {"id": "other"})

        assert first.status == second.status == plain.status == 201
        assert first.headers["Bylaw-Revision"] == second.headers["Bylaw-Revision"]

    play(work)


def test_the_kept_revision_is_the_commits(play: Callable[[Play], None]) -> None:
    """A kept answer is written before the commit, and names the revision at which the store stands after it."""

    async def work(asking: Asking) -> None:
        kept = await asking.ask("POST", "/users", {}, Idempotency_Key="r")

        async with asking.database.reading() as connection:
            stands = await connection.execute(select(revisions.c.n).where(revisions.c.stream == GLOBAL))
        assert Token.parse(kept.headers["Bylaw-Revision"]).g == stands.scalar_one()

    play(work)


@pytest.mark.parametrize(
    ("path", "body"), [("/users", {"id": "otto"}), ("/services", {}), ("/users?await=settled", {"id": "x"})]
)
def test_another_request_with_the_key_is_refused(play: Callable[[Play], None], path: str, body: object) -> None:
    """A key that was used for one request is good for no other: another path or body is 422, and does nothing."""

    async def work(asking: Asking) -> None:
        await asking.ask("POST", "/users", {}, Idempotency_Key="one")
        before = await count(asking, "principals")

        said = await asking.ask("POST", path, body, Idempotency_Key="one")

        assert (said.status, said.body["error"]) == (422, "key_reused")
        assert await count(asking, "principals") == before

    play(work)


def test_a_repetition_may_wait(play: Callable[[Play], None]) -> None:
    """Who asks again to wait until it counts everywhere is told that it does, of the write that was done before."""

    async def work(asking: Asking) -> None:
        first = await asking.ask("POST", "/users?await=settled", {}, Idempotency_Key="w")
        second = await asking.ask("POST", "/users?await=settled&timeout=1s", {}, Idempotency_Key="w")

        assert first.body["settled"] is second.body["settled"] is True
        assert first.body == second.body

    play(work)


def test_a_refused_request_leaves_the_key(play: Callable[[Play], None]) -> None:
    """A request that was refused was not done, so its key is free for a better one."""

    async def work(asking: Asking) -> None:
        refused = await asking.ask("POST", "/users", {"id": "ann"}, Idempotency_Key="one")

        said = await asking.ask("POST", "/users", {"id": "otto"}, Idempotency_Key="one")

        assert (refused.status, said.status) == (409, 201)

    play(work)


def test_requests_at_once_are_done_once(play: Callable[[Play], None]) -> None:
    """Of many that come at the same time with one key, one is done, and all have its answer."""

    async def work(asking: Asking) -> None:
        before = await count(asking, "principals")

        said = await asyncio.gather(*(asking.ask("POST", "/users", {}, Idempotency_Key="k") for _ in range(6)))

        assert {each.status for each in said} == {201}
        assert len({each.body["id"] for each in said}) == 1
        assert await count(asking, "principals") == before + 1

    play(work)


def test_a_secret_is_not_kept(play: Callable[[Play], None]) -> None:
    """What shows a key is done once, and shown once: who repeats it is told so, and the store has no key in it."""

    async def work(asking: Asking) -> None:
        wanted = {"name": "ci", "scopes": ["audit"]}
        first = await asking.ask("POST", "/keys", wanted, Idempotency_Key="s")
        before = await count(asking, "api_keys")

        second = await asking.ask("POST", "/keys", wanted, Idempotency_Key="s")

        assert (first.status, second.status, second.body["error"]) == (201, 409, "shown_once")
        assert second.headers["Location"] == first.headers["Location"]
        assert await count(asking, "api_keys") == before
        async with asking.database.reading() as connection:
            rows = (await connection.execute(text("SELECT * FROM idempotency_keys"))).all()
        assert first.body["key"] not in str(rows)

    play(work)


@pytest.mark.parametrize("key", ["", "two words", "x" * 257])
def test_a_bad_idempotency_key(play: Callable[[Play], None], key: str) -> None:
    """A key that is none is refused before anything is done."""

    async def work(asking: Asking) -> None:
        said = await asking.ask("POST", "/users", {}, Idempotency_Key=key)

        assert (said.status, said.body["error"]) == (400, "bad_request")

    play(work)


# --- states -----------------------------------------------------------------------------------------------------------


def test_single_things_have_an_etag(play: Callable[[Play], None]) -> None:
    """What is one thing as it is now has an ETag; a list, and what was just made, have none."""

    async def work(asking: Asking) -> None:
        one = await asking.ask("GET", "/users/ann")
        many = await asking.ask("GET", "/users")
        made = await asking.ask("POST", "/users", {})
        changed = await asking.ask("PATCH", "/users/ann", {"status": "active"})

        assert changed.headers["ETag"] == one.headers["ETag"]
        assert "ETag" not in many.headers
        assert "ETag" not in made.headers
        assert (one.headers["Cache-Control"], many.headers["Cache-Control"]) == (
            "private, no-cache",
            "private, no-store",
        )

    play(work)


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', "*"])
def test_conditional_reading(play: Callable[[Play], None], form: str) -> None:
    """Who has the thing as it is gets 304 and no body."""

    async def work(asking: Asking) -> None:
        tag = (await asking.ask("GET", "/users/ann")).headers["ETag"]

        said = await asking.ask("GET", "/users/ann", If_None_Match=form.format(tag))
        other = await asking.ask("GET", "/users/ann", If_None_Match='"other"')

        assert (said.status, said.body, said.headers["ETag"]) == (304, None, tag)
        assert other.status == 200

    play(work)


@pytest.mark.parametrize(
    ("header", "value", "status"),
    [
        ("If-Match", '"other"', 412),
        ("If-Match", "", 400),
        ("If-Match", "*", 200),
        ("If-None-Match", "*", 400),
    ],
)
def test_conditional_writing(play: Callable[[Play], None], header: str, value: str, status: int) -> None:
    """A write under a condition is done only where it holds; one that nobody looks at is refused."""

    async def work(asking: Asking) -> None:
        said = await asking.ask("PATCH", "/users/ann", {"status": "active"}, **{header: value})

        assert said.status == status

    play(work)


def test_a_condition_that_nobody_looks_at(play: Callable[[Play], None]) -> None:
    """`If-Match` where nothing has states is an error, and no promise."""

    async def work(asking: Asking) -> None:
        said = await asking.ask("POST", "/users", {}, If_Match='"x"')

        assert said.status == 400

    play(work)


# --- bodies -----------------------------------------------------------------------------------------------------------


def _deep(depth: int) -> str:
    return '{"attributes": {"a": ' + "[" * (depth - 2) + "]" * (depth - 2) + "}}"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"null",
        b'{"id": "a", "id": "b"}',
        b'{"attributes": {"a": NaN}}',
        b'{"attributes": {"a": -Infinity}}',
        b'{"attributes": {"a": 1e999}}',
        b'{"attributes": {"a": ' + b"9" * 5000 + b"}}",
        b'{"attributes": {"a": "\\ud800"}}',
        b'{"\\ud800": 1}',
        b'{"id": "\xff"}',
        b'\xef\xbb\xbf{"id": "a"}',
        b"{}{}",
        _deep(17).encode(),
        b"[" * 100_000,
        b'{"unknown": 1}',
        b'{"id": "\\u0000"}',
        b'{"id": "a\\u202eb"}',
    ],
    ids=lambda body: repr(body[:24]),
)
def test_bodies_that_are_none(play: Callable[[Play], None], body: bytes) -> None:
    """What is no JSON, or could be read two ways, or names what is unknown, is refused in our own words."""

    async def work(asking: Asking) -> None:
        said = await send(asking, "POST", "/admin/v1/users", body, Content_Type="application/json")

        assert said.status == 400
        assert "sys." not in said.body["message"]
        assert "Python" not in said.body["message"]

    play(work)


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Content-Type": "text/plain"},
        {"Content-Type": "application/json; charset=utf-16"},
        {"Content-Type": "application/json", "Content-Encoding": "gzip"},
    ],
)
def test_bodies_of_another_kind(world: World, tmp_path: Path, headers: dict[str, str]) -> None:
    """A body that does not say that it is JSON, in UTF-8, as it is, is not looked at."""

    async def work() -> None:
        async with world.asked(tmp_path) as asking, set_up(asking, world, Manners()) as served:
            said = await send(served, "POST", "/admin/v1/users", b"{}", **headers)
            good = await send(served, "POST", "/admin/v1/users", b"{}", Content_Type="Application/JSON; charset=UTF-8")

        assert said.status == 400
        assert good.status == 201

    asyncio.run(work())


@pytest.mark.parametrize("is_told", [True, False])
def test_the_largest_body(play: Callable[[Play], None], is_told: bool) -> None:
    """256 KiB are read, one byte more is 413, whether its length is said before or not."""

    async def work(asking: Asking) -> None:
        fits = b"{}" + b" " * (256 * 1024 - 2)

        async def pieces() -> AsyncIterator[bytes]:
            yield fits
            yield b" "

        read = await send(asking, "POST", "/admin/v1/users", fits, Content_Type="application/json")
        refused = await send(
            asking, "POST", "/admin/v1/users", fits + b" " if is_told else pieces(), Content_Type="application/json"
        )

        assert (read.status, refused.status) == (201, 413)

    play(work)


def test_a_slow_body(world: World, tmp_path: Path) -> None:
    """A body that does not come in time is 408, and its connection is given up."""

    async def work() -> None:
        async with world.asked(tmp_path) as asking, set_up(asking, world, Manners(body_timeout_s=0.05)) as served:
            port = served.client.server.port
            reader, writer = await asyncio.open_connection("127.0.0.1", port)
            writer.write(
                f"POST /admin/v1/users HTTP/1.1\r\nHost: localhost\r\nAuthorization: Bearer {asking.key}\r\n"
                "Content-Type: application/json\r\nContent-Length: 100\r\n\r\n{".encode()
            )
            head = await reader.readuntil(b"\r\n\r\n")
            writer.close()

            assert head.startswith(b"HTTP/1.1 408 ")
            assert b"Connection: close" in head

    asyncio.run(work())


@pytest.mark.parametrize("moment", [5, "5", "0.5", "2027", "2027-01-01", "2027-01-01T00:00:00", "", None])
def test_times_that_are_none(play: Callable[[Play], None], moment: object) -> None:
    """A time is RFC 3339: a number is none, and as text neither; null says that there is none."""

    async def work(asking: Asking) -> None:
        said = await asking.ask("POST", "/keys", {"name": "ci", "scopes": ["audit"], "expires": moment})

        assert said.status == (201 if moment is None else 400)

    play(work)


def test_a_membership_is_changed_in_part(play: Callable[[Play], None]) -> None:
    """A time alone may be changed; it once was a 500, for what was read as a time was read again."""

    async def work(asking: Asking) -> None:
        path = "/tenants/acme/memberships/user:ann"
        said = await asking.ask("PATCH", path, {"expires": "2100-01-01T00:00:00Z"})
        same = await asking.ask("PATCH", path, {"status": None})

        assert (said.status, said.body["expires"]) == (200, "2100-01-01T00:00:00Z")
        assert (same.status, same.body) == (200, said.body)

    play(work)


# --- paths, queries, cursors ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("identity", ["a/b", "a:b", "ünï", "100%", "a%2Fb", "a+b", "a?b#c", "日本", "a;b=c", "…"])
def test_any_id_is_reached(play: Callable[[Play], None], identity: str) -> None:
    """What was made is found where its `Location` says, whatever its id is made of."""

    async def work(asking: Asking) -> None:
        made = await asking.ask("POST", "/users", {"id": identity})
        said = await send(asking, "GET", made.headers["Location"])
        gone = await send(asking, "DELETE", made.headers["Location"])

        assert made.status == 201
        assert (said.status, said.body["id"]) == (200, identity)
        assert gone.status == 204

    play(work)


@pytest.mark.parametrize(
    "path", ["/users/%00", "/users/%FF", "/users/a%0Ab", "/users/", "/users//", "/nothing", "/tenants/%00/assignments"]
)
def test_paths_to_nothing(play: Callable[[Play], None], path: str) -> None:
    """A path that can name nothing leads to nothing."""

    async def work(asking: Asking) -> None:
        said = await send(asking, "GET", f"/admin/v1{path}")

        assert (said.status, said.body["error"]) in {(404, "not_found"), (404, "unknown_tenant")}

    play(work)


@pytest.mark.parametrize(
    "query",
    [
        "limit=0", "limit=101", "limit=x", "limit=1&limit=2", "unknown=1", "cursor=", "cursor=x", "prefix=%00",
        "await=settled", "status=weird",
    ],
)  # fmt: skip
def test_queries_that_are_none(play: Callable[[Play], None], query: str) -> None:
    """What a list does not take, takes once, or cannot use, is refused, and named."""

    async def work(asking: Asking) -> None:
        said = await send(asking, "GET", f"/admin/v1/users?{query}")

        assert said.status == 400, said.body
        assert list(said.body["details"]["fields"]) == [f"query.{query.partition('=')[0]}"]

    play(work)


def _cursor(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")


@pytest.mark.parametrize(
    "cursor",
    [
        _cursor(["tenants"]),
        _cursor(["users", "a"]),
        _cursor(["tenants", "a", "b"]),
        _cursor(["tenants", 5]),
        _cursor(["tenants", True]),
        _cursor(["tenants", None]),
        _cursor(["tenants", "\x00"]),
        _cursor(["tenants", "\ud800"]),
        _cursor(["tenants", 10**30]),
        _cursor({"tenants": "a"}),
        _cursor("ab"),
        base64.urlsafe_b64encode(b"[" * 1500).decode().rstrip("="),
        "é",
        "A",
    ],
)
def test_cursors_that_are_none(play: Callable[[Play], None], cursor: str) -> None:
    """A cursor that this list did not give is refused, whatever is in it."""

    async def work(asking: Asking) -> None:
        said = await asking.ask("GET", f"/tenants?cursor={cursor}")

        assert said.status == 400
        assert list(said.body["details"]["fields"]) == ["query.cursor"]

    play(work)


def test_pages_follow_each_other(play: Callable[[Play], None]) -> None:
    """All pages together are the list, each thing once."""

    async def work(asking: Asking) -> None:
        whole = [each["id"] for each in (await asking.ask("GET", "/users?limit=100")).body["items"]]
        found, query = [], "limit=1"
        while True:
            page = (await asking.ask("GET", f"/users?{query}")).body
            found += [each["id"] for each in page["items"]]
            if page["next"] is None:
                break
            query = f"limit=1&cursor={page['next']}"

        assert found == whole
        assert len(whole) > 2

    play(work)


# --- methods, headers -------------------------------------------------------------------------------------------------


def test_methods(play: Callable[[Play], None]) -> None:
    """`HEAD` is `GET` without a body; `OPTIONS` says what a path takes; another method is told that, with 405."""

    async def work(asking: Asking) -> None:
        got = await asking.ask("GET", "/users/ann")
        head = await asking.ask("HEAD", "/users/ann")
        options = await asking.ask("OPTIONS", "/users/ann")
        other = await asking.ask("PUT", "/users/ann", {})

        assert (head.status, head.body, head.headers["ETag"]) == (200, None, got.headers["ETag"])
        assert (options.status, options.headers["Allow"]) == (204, "DELETE, GET, HEAD, OPTIONS, PATCH")
        assert (other.status, other.headers["Allow"]) == (405, "DELETE, GET, HEAD, OPTIONS, PATCH")

    play(work)


@pytest.mark.parametrize("path", ["/users/ann", "/users/nobody", "/nothing"])
def test_every_answer_is_dressed(play: Callable[[Play], None], path: str) -> None:
    """Errors too have the id of the request and what browsers are to heed, and no origin is let in unasked."""

    async def work(asking: Asking) -> None:
        said = await asking.ask("GET", path, X_Request_ID="mine", Origin=CONSOLE)

        assert said.headers["X-Request-ID"] == "mine"
        assert said.headers["X-Content-Type-Options"] == "nosniff"
        assert said.headers["Cache-Control"].startswith("private, no-")
        assert said.headers["Vary"] == "Accept-Encoding"
        assert not [name for name in said.headers if name.startswith("Access-Control-")]

    play(work)


def test_compression(play: Callable[[Play], None]) -> None:
    """A long answer is packed for who reads gzip, a short one, and another's, is not."""

    async def work(asking: Asking) -> None:
        long = await send(asking, "GET", "/openapi.json", Accept_Encoding="gzip")
        short = await send(asking, "GET", "/health", Accept_Encoding="gzip")
        plain = await send(asking, "GET", "/openapi.json", Accept_Encoding="gzip;q=0")

        assert long.headers["Content-Encoding"] == "gzip"
        assert "Content-Encoding" not in short.headers
        assert "Content-Encoding" not in plain.headers
        assert long.body == plain.body

    play(work)


@pytest.mark.parametrize(
    ("accepted", "reads"),
    [("gzip", True), ("br, GZIP;q=0.5", True), ("*", True), ("*, gzip;q=0", False), ("gzip;q=0.0", False),
     ("", False), ("deflate", False), ("xgzip", False), ("gzip;q=.", False), ("identity;q=1, *;q=0", False)],
)  # fmt: skip
def test_who_reads_gzip(accepted: str, reads: bool) -> None:
    """`Accept-Encoding` is read as it is meant."""
    assert reads_gzip(accepted) is reads


def test_listed_origins(world: World, tmp_path: Path) -> None:
    """A page of a listed origin may ask and read; of another one, nothing is said to the browser."""

    async def work() -> None:
        manners = Manners(parse_origins(f"{CONSOLE}, http://localhost:3000"))
        async with world.asked(tmp_path) as asking, set_up(asking, world, manners) as served:
            method = {"Access_Control_Request_Method": "PATCH"}
            preflight = await served.ask("OPTIONS", "/users/ann", Origin=CONSOLE, **method)
            strange = await served.ask("OPTIONS", "/users/ann", Origin=f"{CONSOLE}.evil", **method)
            read = await served.ask("GET", "/users/ann", Origin=CONSOLE)
            failed = await served.ask("GET", "/users/nobody", Origin=CONSOLE)
            null = await served.ask("GET", "/users/ann", Origin="null")

        assert preflight.status == 204
        assert "PATCH" in preflight.headers["Access-Control-Allow-Methods"]
        assert "Idempotency-Key" in preflight.headers["Access-Control-Allow-Headers"]
        for each in (preflight, read, failed):
            assert each.headers["Access-Control-Allow-Origin"] == CONSOLE
            assert "Access-Control-Allow-Credentials" not in each.headers
        for each in (strange, null):
            assert not [name for name in each.headers if name.startswith("Access-Control-")]
        assert {each.headers["Vary"] for each in (read, null)} == {"Accept-Encoding, Origin"}

    asyncio.run(work())


@pytest.mark.parametrize(
    "origins", ["*", "null", "", "console.example", f"{CONSOLE}/", f"{CONSOLE}:443", "https://*.example", "HTTPS://A.b"]
)
def test_origins_that_are_none(origins: str) -> None:
    """What no browser sends as an origin, or what would mean any, is refused when the service starts."""
    with pytest.raises(BylawError, match="origin"):
        parse_origins(origins)


def test_too_much(world: World, tmp_path: Path) -> None:
    """Who asks more than he may is told when to come again; others are not held up."""

    async def work() -> None:
        now = [1000.0]
        limits = Limits("2/10s", clock=lambda: now[0])
        async with world.asked(tmp_path) as asking, set_up(asking, world, Manners(limits=limits)) as served:
            other = (await served.ask("POST", "/keys", {"name": "other", "scopes": ["system"]})).body["key"]
            second = await served.ask("GET", "/users/ann")

            third = await served.ask("GET", "/users/ann")
            others = await served.ask("GET", "/users/ann", who=other)
            now[0] += 10
            later = await served.ask("GET", "/users/ann")

        assert (second.status, third.status, others.status, later.status) == (200, 429, 200, 200)
        assert third.body["error"] == "rate_limited"
        assert third.headers["Retry-After"] == "10"
        assert third.headers["X-RateLimit-Limit"] == "2"
        assert third.headers["X-RateLimit-Remaining"] == "0"

    asyncio.run(work())
