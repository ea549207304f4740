"""The verbs of `bylaw admin` for inviting, suspending and looking around, over a real service."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import pytest

from sidecar.addresses import Address
from sidecar.settings import Settings
from store.environment import VARIABLES
from tests.admin.service import World, make_world
from tests.bylaw.test_admin_command import Running, Terminal

STUDIO: Final = Path(__file__).parents[2] / "policies" / "studio"
ACME: Final = ("--tenant", "acme")


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> World:
    return make_world(STUDIO, STUDIO / "facts.yaml", tmp_path_factory.mktemp("verbs"))


@pytest.fixture
def terminal(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Iterator[Terminal]:
    """A terminal whose environment names a service over a copy of the store, and its key."""
    monkeypatch.chdir(tmp_path)
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    shutil.copyfile(world.path, tmp_path / "copy.db")
    flags = {"policies": str(STUDIO), "database_url": f"sqlite+aiosqlite:///{tmp_path / 'copy.db'}"}
    with Running(Settings.read({}, flags), Address("127.0.0.1", 0)) as running:
        monkeypatch.setenv("BYLAW_ADMIN", running.address.removeprefix("http://"))
        monkeypatch.setenv("BYLAW_ADMIN_KEY", world.key)
        yield Terminal(capsys)


def test_an_invitation_prints_its_token_alone(terminal: Terminal) -> None:
    """The token is all that stands on standard output; until when it counts, and whose it is, stands beside."""
    code, out, err = terminal.run("invite", *ACME, "--status", "guest", "--role", "viewer", "project:p1")
    for_machines = terminal.json("invite", *ACME)

    assert code == 0
    assert len(out.split()) == 1
    assert len(out.strip()) > 40
    assert err.startswith("bylaw: an invitation to acme, until ")
    assert out.strip() not in err
    assert {"id", "token", "expires", "revision"} <= for_machines.keys()


def test_an_invitation_with_what_is_not_there(terminal: Terminal) -> None:
    """What the policy does not know is not promised, and an address is kept only by a service that has keys for it."""
    role = terminal.run("invite", *ACME, "--role", "boss", "project:p1")
    email = terminal.run("invite", *ACME, "--email", "ann@example.org")

    assert (role[:2], email[:2]) == ((2, ""), (1, ""))
    assert "body.roles[0].role: no role `boss`" in role[2]
    assert "ann@example.org" not in email[2]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["user:bob", *ACME], "user:bob is suspended in acme"),
        (["user:bob"], "user:bob is suspended"),
        (["service:billing"], "service:billing is suspended"),
        (["tenant:globex"], "tenant:globex is suspended"),
    ],
)
def test_suspended_and_back(terminal: Terminal, words: list[str], said: str) -> None:
    """Somebody is suspended in a tenant or everywhere, or a tenant is, and that is taken back."""
    suspended, resumed = terminal.run("suspend", *words), terminal.run("resume", *words)

    assert suspended == (0, f"{said}\n", "")
    assert resumed == (0, f"{said.replace('suspended', 'active')}\n", "")


def test_a_guest_comes_back_as_a_guest(terminal: Terminal) -> None:
    """Who was a guest is one again where that is said; a guest is one in a tenant alone."""
    terminal.run("suspend", "user:gus", *ACME)

    back = terminal.run("resume", "user:gus", *ACME, "--status", "guest")
    nowhere = terminal.run("resume", "user:gus", "--status", "guest")
    group = terminal.run("suspend", "group:staff")

    assert back == (0, "user:gus is guest in acme\n", "")
    assert (nowhere[0], group[0]) == (2, 2)
    assert "write user:ID, service:ID or tenant:ID" in group[2]


def test_tenants_are_a_table(terminal: Terminal) -> None:
    """Tenants are listed with their status, all or those that are asked for."""
    every = terminal.run("tenants")
    some = terminal.run("tenants", "--status", "suspended", "--prefix", "a")

    assert every == (0, "TENANT  STATUS\nacme    active\nglobex  active\n", "")
    assert some == (0, "there are no such tenants\n", "")


def test_who_holds_what(terminal: Terminal) -> None:
    """Who holds what on something itself is a table, with until when; on the system it takes no tenant."""
    code, out, _ = terminal.run("holders", "project:p2", *ACME)
    system = terminal.run("holders", "system")

    assert code == 0
    assert out.splitlines() == [
        "SUBJECT    ROLE           UNTIL",
        "user:cleo  project.owner  2026-02-01T00:00:00Z",
    ]
    assert system == (0, "nobody holds a role on system itself\n", "")


@pytest.mark.parametrize(
    ("words", "lines"),
    [
        (["--groups"], ["staff", "  leads"]),
        (["group:staff"], ["leads"]),
        (["project:p1", "--depth", "1"], ["folder:scans", "  folder:raw", "    …", "task:t1"]),
        (["organization:globex"], []),
        (["booking:b1"], ["nothing lies in booking:b1"]),
    ],
)
def test_a_tree(terminal: Terminal, words: list[str], lines: list[str]) -> None:
    """What lies in what is shown by how far it is to the right; a place of another tenant is none of this one."""
    code, out, err = terminal.run("tree", *words, *ACME)

    assert out.splitlines() == lines
    assert (code, err) == ((0, "") if lines else (2, err))


def test_a_tree_for_machines(terminal: Terminal) -> None:
    """With `--json` a tree is as the service said it."""
    found = terminal.json("tree", "project:p2", *ACME)

    assert found == {"items": [{"id": "task:t2", "inner": [], "more": False}]}
    assert json.dumps(terminal.json("tenants")) == json.dumps(
        {"items": [{"id": name, "status": "active"} for name in ("acme", "globex")]}
    )


def test_where_there_is_no_such_tenant(terminal: Terminal) -> None:
    """A list of a tenant that is not there is refused, and not shown as an empty one."""
    code, out, err = terminal.run("members", "--tenant", "nowhere")

    assert (code, out) == (1, "")
    assert "there is no tenant `nowhere`" in err
