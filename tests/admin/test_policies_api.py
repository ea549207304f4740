"""Policies through HTTP: judged when they are uploaded, published, gone back from, and asked of from then on."""

from __future__ import annotations

import asyncio
import io
import json
import signal
import subprocess
import sys
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import Any, Final

import pytest

from admin import serving
from admin.policies import service
from admin.services import Services
from engine.bundle import build, write_lock
from engine.source import Source
from store.published import publication_at
from store.signatures import parse_public_keys, sign
from store.streams import Position
from store.writes import policies
from tests.admin.service import Asking, World, make_world, token
from tests.sidecar.test_bundles import OTHERS, OUR_KEY, OURS

STUDIO: Final = Path(__file__).parents[2] / "policies" / "studio"
TEXT: Final = (STUDIO / "studio.bylaw").read_text(encoding="utf-8")
#: Who may manage a tenant may do so no more.
CLOSED: Final = TEXT + '\ndeny closed: anyone to organization.manage because "closed"\n'
#: The same policy, otherwise written.
REWORDED: Final = TEXT + "# ours\n"
MANAGER: Final = token("user:max")
Play = Callable[[Asking], Awaitable[Any]]


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(STUDIO, STUDIO / "facts.yaml", tmp_path_factory.mktemp("studio"))


@pytest.fixture
def play(world: World, tmp_path: Path) -> Callable[[Play], Any]:
    async def served(what: Play) -> Any:
        async with world.asked(tmp_path) as asking:
            return await what(asking)

    return lambda what: asyncio.run(served(what))


async def uploaded(asking: Asking, text: str = TEXT, **said: object) -> str:
    """Upload a policy of one file; return its id."""
    made = await asking.ask("POST", "/policies", {"files": {"studio.bylaw": text}, **said})
    assert made.status == 201, made
    return str(made.body["id"])


async def published(asking: Asking, identity: str) -> Any:
    return await asking.ask("POST", f"/policies/{identity}/publish")


def bundle(text: str, version: int, key: Any = OURS, *, rollback: bool = False) -> dict[str, Any]:
    """A signed lock of a policy of one file, as JSON."""
    lock = build([Source("studio.bylaw", text)], version=version, rollback=rollback, created="2026-11-22T02:00:00Z")
    said: dict[str, Any] = json.loads(write_lock(sign(lock, key)))
    return said


def test_a_published_policy_is_asked_from_then_on(play: Callable[[Play], Any]) -> None:
    """What an end user may do through the API is as the published policy says, at once, and as the one before after
    going back."""

    async def talk(asking: Asking) -> list[int]:
        async def may() -> int:
            return (await asking.ask("GET", "/tenants/acme", who=MANAGER)).status

        first, second = await uploaded(asking), await uploaded(asking, CLOSED)
        found = [await may()]
        for step in (published(asking, first), published(asking, second)):
            assert (await step).status == 200
            found.append(await may())
        assert (await asking.ask("POST", "/policies/rollback", {})).status == 200
        return [*found, await may()]

    assert play(talk) == [200, 200, 403, 200]


def test_what_was_uploaded_can_be_read_again(play: Callable[[Play], Any]) -> None:
    """A policy is kept with its files, its note and who uploaded it; lists leave the files out."""

    async def talk(asking: Asking) -> Any:
        identity = await uploaded(asking, note="as it was")
        return (
            identity,
            await asking.ask("GET", f"/policies/{identity}"),
            await asking.ask("GET", "/policies"),
            await asking.ask("GET", "/policies/published"),
        )

    identity, one, listed, nothing = play(talk)

    assert one.body["files"] == {"studio.bylaw": TEXT}
    assert one.body["note"] == "as it was"
    assert one.body["made_by"].startswith("key:")
    assert [(each["id"], "files" in each) for each in listed.body["items"]] == [(identity, False)]
    assert nothing.body["policy"] is None


BAD: Final[Mapping[str, tuple[dict[str, Any], str]]] = {
    "an error": ({"files": {"a.bylaw": "typ x"}}, "bad_policy"),
    "a test that fails": (
        {"files": {"a.bylaw": TEXT + '\ntest "never" {\n  expect deny anyone read brochure:b on acme\n}\n'}},
        "bad_policy",
    ),
    "a name that leads out": ({"files": {"../a.bylaw": TEXT}}, "bad_request"),
    "no files": ({"files": {}}, "bad_request"),
    "a lock of other files": ({"files": {"studio.bylaw": TEXT}, "lock": bundle(CLOSED, 1)}, "bundle_mismatch"),
    "a lock that is none": ({"files": {"studio.bylaw": TEXT}, "lock": {"format": 1}}, "bad_lock"),
}


@pytest.mark.parametrize("name", BAD)
def test_what_cannot_decide_is_not_kept(play: Callable[[Play], Any], name: str) -> None:
    """What has errors, or is not what it says, is refused when it is uploaded, and nothing of it is kept."""
    body, code = BAD[name]

    async def talk(asking: Asking) -> Any:
        return await asking.ask("POST", "/policies", body), await asking.ask("GET", "/policies")

    said, listed = play(talk)

    assert said.status == 400
    assert said.body["error"] == code
    assert listed.body["items"] == []


def test_what_is_too_large_is_not_read(play: Callable[[Play], Any]) -> None:
    """A policy may be longer than other bodies, and is refused past its own bound."""

    async def talk(asking: Asking) -> list[int]:
        async def lint(size: int) -> int:
            body = json.dumps({"files": {"studio.bylaw": TEXT + "#" * size}}).encode()
            headers = {"Authorization": f"Bearer {asking.key}", "Content-Type": "application/json"}
            path = "/admin/v1/policies/lint"
            async with asking.client.post(path, data=io.BytesIO(body), headers=headers) as response:
                return response.status

        return [await lint(1 << 20), await lint(9 << 20)]

    assert play(talk) == [200, 413]


def test_tests_that_fail_are_told(play: Callable[[Play], Any]) -> None:
    """A policy whose own tests fail is refused with the places where they do."""
    files = {each.name: each.read_text(encoding="utf-8") for each in STUDIO.glob("*.bylaw")}
    files["studio.bylaw"] = CLOSED.replace("organization.manage because", "task.read because")

    said = play(lambda asking: asking.ask("POST", "/policies", {"files": files}))

    assert (said.status, said.body["error"]) == (400, "tests_failed")
    assert said.body["details"]["failures"][0]["file"] == "studio_test.bylaw"


def test_lint_keeps_nothing(play: Callable[[Play], Any]) -> None:
    """Linting tells every finding with its place."""

    async def talk(asking: Asking) -> Any:
        found = await asking.ask("POST", "/policies/lint", {"files": {"a.bylaw": "typ x\n"}})
        return found, await asking.ask("GET", "/policies")

    found, listed = play(talk)

    assert found.body["clean"] is False
    assert [(each["code"], each["file"], each["line"]) for each in found.body["diagnostics"]] == [
        ("E0100", "a.bylaw", 1)
    ]
    assert listed.body["items"] == []


def test_versions_of_bundles_go_forward(play: Callable[[Play], Any]) -> None:
    """A bundle with a lower version is not published after a higher one, unless it is marked as a way back."""

    async def talk(asking: Asking) -> list[Any]:
        second = await uploaded(asking, CLOSED, lock=bundle(CLOSED, 2))
        first = await uploaded(asking, lock=bundle(TEXT, 1))
        marked = await uploaded(asking, lock=bundle(TEXT, 1, rollback=True))
        return [(await published(asking, each)) for each in (second, first, marked)]

    answers = play(talk)

    assert [each.status for each in answers] == [200, 409, 200]
    assert answers[1].body["error"] == "version_lower"


def test_who_missed_a_bundle_takes_the_next(play: Callable[[Play], Any]) -> None:
    """A bundle is held to all that were published: a process may have seen any of them last, and is to take it."""

    async def talk(asking: Asking) -> list[Any]:
        fifth = await uploaded(asking, lock=bundle(TEXT, 5))
        third = await uploaded(asking, CLOSED, lock=bundle(CLOSED, 3, rollback=True))
        fourth = await uploaded(asking, REWORDED, lock=bundle(REWORDED, 4))
        return [await published(asking, each) for each in (fifth, third, fourth)]

    answers = play(talk)

    assert [each.status for each in answers] == [200, 200, 409]
    assert answers[2].body["error"] == "version_lower"


def test_what_cannot_decide_is_not_gone_back_to(play: Callable[[Play], Any]) -> None:
    """Nothing is withdrawn where the directory has nothing to decide by, nor where nothing is published."""

    async def talk(asking: Asking) -> list[Any]:
        nothing = await asking.ask("DELETE", "/policies/published")
        await published(asking, await uploaded(asking))
        return [nothing, await asking.ask("DELETE", "/policies/published")]

    answers = play(talk)

    assert [(each.status, each.body["error"]) for each in answers] == [(409, "conflict"), (409, "unreadable")]


@pytest.mark.parametrize("bound", ["COMPILE_S", "LOOK_S"])
def test_what_takes_too_long_is_not_kept(
    play: Callable[[Play], Any], monkeypatch: pytest.MonkeyPatch, bound: str
) -> None:
    """A policy that takes long to compile would hold up every process; one that nobody is done with is given up."""
    monkeypatch.setattr(service, bound, 0.0)

    said = play(lambda asking: asking.ask("POST", "/policies", {"files": {"studio.bylaw": TEXT}}))

    assert (said.status, said.body["error"]) == (400, "too_slow")


@pytest.mark.parametrize(("seconds", "memory"), [(1, 2 << 30), (30, 1 << 20)])
def test_who_looks_at_a_policy_ends_at_his_bounds(seconds: int, memory: int) -> None:
    """Who looks at a policy that takes too long, or too much memory, ends by himself, whoever waits for him."""
    roles = "".join(f"role r{n} on organization is r{n + 1} {{ can read }}\n" for n in range(20_000))
    text = "tenant organization { actions read }\nprincipal user\n" + roles + "role r20000 on organization\n"
    bounded = f"from admin.policies import proof; proof.MAX_CPU_S, proof.MAX_BYTES = {seconds}, {memory}; proof.main()"

    done = subprocess.run(
        [sys.executable, "-c", bounded, "lint"],
        input=json.dumps([["a.bylaw", text]]).encode(),
        capture_output=True,
        check=False,
    )

    assert done.stdout == b""
    assert done.returncode == (-signal.SIGKILL if seconds == 1 else 1), done.stderr


def test_many_who_go_back_at_once(play: Callable[[Play], Any]) -> None:
    """More who go back than there are connections all get an answer."""

    async def talk(asking: Asking) -> set[int]:
        first, second = await uploaded(asking), await uploaded(asking, CLOSED)
        for each in (first, second):
            await published(asking, each)
        back = [asking.ask("POST", "/policies/rollback", {"to": first}) for _ in range(12)]
        return {each.status for each in await asyncio.gather(*back)}

    assert play(talk) == {200, 409}


def test_a_policy_that_is_published_meanwhile(play: Callable[[Play], Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """What an end user asks is not answered by the policy before from facts that stand beside the next one; what he
    writes is judged by the next one."""
    before = serving._catch_up

    async def talk(asking: Asking) -> list[tuple[int, str]]:
        closed, opened = await uploaded(asking, CLOSED), await uploaded(asking)

        def meanwhile(policy: str) -> None:
            async def catch_up(services: Services, actor: Any) -> None:
                await before(services, actor)
                monkeypatch.setattr(serving, "_catch_up", before)
                async with services.writer.write(publishing=True) as write:
                    now = await publication_at(write.connection)
                    await policies.publish(write, policy, after=now.n)

            monkeypatch.setattr(serving, "_catch_up", catch_up)

        meanwhile(closed)
        read = await asking.ask("GET", "/tenants/acme", who=MANAGER)
        meanwhile(opened)
        await asking.ask("GET", "/policies")
        meanwhile(closed)
        written = await asking.ask("PATCH", "/tenants/acme", {"attributes": {}}, who=MANAGER)
        return [(each.status, each.body["error"]) for each in (read, written)]

    assert play(talk) == [(503, "no_policy"), (403, "rule")]


def test_only_what_our_key_signed_is_published(play: Callable[[Play], Any]) -> None:
    """With a key set, a policy that it did not sign is not published."""

    async def talk(asking: Asking) -> list[Any]:
        asking.policies._policy_keys = parse_public_keys(OUR_KEY)
        plain = await uploaded(asking)
        theirs = await uploaded(asking, lock=bundle(TEXT, 1, OTHERS))
        ours = await uploaded(asking, lock=bundle(TEXT, 1))
        return [await published(asking, each) for each in (plain, theirs, ours)]

    answers = play(talk)

    assert [each.status for each in answers] == [409, 409, 200]
    assert [each.body.get("error") for each in answers[:2]] == ["unsigned", "unknown_key"]


def test_of_two_who_publish_one_does(play: Callable[[Play], Any]) -> None:
    """Of publications at the same time one is made; the others are told to look again."""

    async def talk(asking: Asking) -> list[int]:
        made = [await uploaded(asking, TEXT + f"# {number}\n") for number in range(6)]
        answers = await asyncio.gather(*(published(asking, each) for each in made))
        listed = await asking.ask("GET", "/policies/publications")
        done = [each for each in answers if each.status == 200]
        assert len(listed.body["items"]) == len(done)
        return sorted({each.status for each in answers})

    assert play(talk) in ([200, 409], [200])


def test_who_cannot_load_a_publication_lets_no_end_user_do_anything(play: Callable[[Play], Any]) -> None:
    """A service that refuses what is published answers end users 503; a key still publishes another."""

    async def talk(asking: Asking) -> list[int]:
        theirs = await uploaded(asking, lock=bundle(TEXT, 1, OTHERS))
        ours = await uploaded(asking, REWORDED, lock=bundle(REWORDED, 2))
        assert (await published(asking, theirs)).status == 200
        asking.policies._policy_keys = parse_public_keys(OUR_KEY)
        asking.policies.at = Position(-1, "")  # as if it had just been started
        asking.policies.origin = None
        found = [
            (await asking.ask("GET", "/tenants/acme", who=MANAGER)).status,
            (await asking.ask("POST", "/tenants", {"id": "next"})).status,
            (await published(asking, ours)).status,
            (await asking.ask("GET", "/tenants/acme", who=MANAGER)).status,
        ]
        return found

    assert play(talk) == [503, 503, 200, 200]


def test_policies_take_a_key_of_their_own(play: Callable[[Play], Any]) -> None:
    """No end user and no key without the scope reads or changes policies; a key with it does nothing else."""

    async def talk(asking: Asking) -> list[int]:
        keys = [
            (await asking.ask("POST", "/keys", {"name": each, "scopes": [each]})).body["key"]
            for each in ("policies", "facts", "tenant:acme")
        ]
        found = [(await asking.ask("GET", "/policies", who=each)).status for each in (*keys, MANAGER)]
        return [*found, (await asking.ask("GET", "/tenants/acme/memberships", who=keys[0])).status]

    assert play(talk) == [200, 403, 403, 403, 403]
