"""How settings are read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from sidecar.addresses import Address, parse_address
from sidecar.settings import Settings, SettingsError


def refused(environ: dict[str, str], flags: dict[str, str | None] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.read(environ, flags)
    return str(caught.value)


def test_nothing_given() -> None:
    """Without anything said it listens where the contract says, and callers have no scopes of `dev`."""
    settings = Settings.read({"PATH": "/bin"})

    assert settings == Settings()
    assert (settings.policies, settings.facts, str(settings.http)) == (Path("policies"), None, "127.0.0.1:8180")
    assert not settings.dev


def test_environment_and_flags() -> None:
    """Variables are read, and a flag wins over the variable of its name."""
    environ = {"BYLAW_POLICIES": "there", "BYLAW_HTTP": "[::1]:99", "BYLAW_PUBLIC_URL": "https://pdp.example/x"}

    settings = Settings.read(environ, {"policies": "here", "facts": "facts.yaml", "http": None}, dev=True, json=True)

    assert (settings.policies, settings.facts) == (Path("here"), Path("facts.yaml"))
    assert (settings.http, settings.public_host) == (Address("::1", 99), "pdp.example")
    assert (settings.dev, settings.json) == (True, True)


def test_an_unknown_variable_is_an_error() -> None:
    """A slip of the pen in a variable's name is told, not passed over."""
    assert refused({"BYLAW_POLICYS": "x"}) == "unknown variable BYLAW_POLICYS; did you mean BYLAW_POLICIES?"


def test_variables_of_the_other_processes_are_known() -> None:
    """One environment may hold what other parts of the product read."""
    assert Settings.read({"BYLAW_ADMIN": "127.0.0.1:8190", "BYLAW_JWKS": "keys.json"}) == Settings()


def test_protections_that_are_not_there_are_errors() -> None:
    """Asked to verify what it cannot verify, it does not start."""
    assert "BYLAW_POLICY_KEY" in refused({"BYLAW_POLICY_KEY": "abc"})
    assert "`token`" in refused({"BYLAW_CALLERS": "token"})


@pytest.mark.parametrize("http", ["0.0.0.0:8180", "[::]:8180", "192.0.2.1:80", "pdp.example:8180", "10.0.0.1:1"])
def test_an_open_address_is_refused(http: str) -> None:
    """With callers on this machine alone, it listens nowhere else."""
    assert "not a loopback address" in refused({"BYLAW_HTTP": http})
    with pytest.raises(SettingsError):
        Settings(http=parse_address(http))


@pytest.mark.parametrize(
    "http", ["8180", "localhost", "localhost:", ":8180", "localhost:x", "::1:80", "unix:sock", "h:99999"]
)
def test_what_is_no_address_is_refused(http: str) -> None:
    """An address is `host:port` or `unix:/path`."""
    assert "expected" in refused({}, {"http": http})


def test_a_public_url_has_a_host() -> None:
    """A public URL without a host would accept anything."""
    assert "public URL" in refused({"BYLAW_PUBLIC_URL": "pdp.example"})
