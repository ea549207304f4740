"""How settings are read, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from bylaw.commands.serve import FLAGS
from sidecar.addresses import Address, parse_address
from sidecar.settings import DEFAULT_GRPC, Settings, SettingsError
from sidecar.settings import FLAGS as SETTINGS_FLAGS
from sidecar.settings import VARIABLES as SETTINGS_VARIABLES
from store.environment import VARIABLES


def refused(environ: dict[str, str], flags: dict[str, str | None] | None = None) -> str:
    with pytest.raises(SettingsError) as caught:
        Settings.read(environ, flags)
    return str(caught.value)


def test_nothing_given() -> None:
    """Without anything said it listens where the contract says, and callers have no scopes of `dev`."""
    settings = Settings.read({"PATH": "/bin"})

    assert settings == Settings(grpc=DEFAULT_GRPC, grpc_may_miss=True)
    assert (settings.policies, settings.facts, str(settings.http)) == (Path("policies"), None, "127.0.0.1:8180")
    assert str(settings.grpc) == "127.0.0.1:8181"
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
    assert Settings.read({"BYLAW_ADMIN": "127.0.0.1:8190", "BYLAW_MIGRATE_URL": "sqlite:///x"}) == Settings.read({})


def test_every_variable_is_known() -> None:
    """What settings read is among the variables of the product, so none of theirs is an error."""
    assert {f"BYLAW_{name.upper()}" for name in SETTINGS_VARIABLES} <= VARIABLES


def test_every_flag_is_a_setting() -> None:
    """The command line and the environment have one name for one thing, and secrets stand on no command line."""
    flags = {name.replace("-", "_") for name, _, _ in FLAGS}

    assert flags | {"database_url", "facts", "workers"} == set(SETTINGS_FLAGS)
    assert set(SETTINGS_VARIABLES) - set(SETTINGS_FLAGS) == {"cache_key", "decision_log_salt"}


def test_settings_go_to_workers_whole() -> None:
    """What a supervisor hands over is what its children read."""
    settings = Settings.read(
        {
            "BYLAW_JWKS": "keys.json",
            "BYLAW_ISSUER": "https://issuer.example",
            "BYLAW_AUDIENCE": "app",
            "BYLAW_GRPC": "none",
            "BYLAW_ENVOY_HTTP": "unix:/run/envoy.sock",
            "BYLAW_TLS_CERTIFICATE": "c.pem",
            "BYLAW_TLS_KEY": "k.pem",
            "BYLAW_TRUSTED_HOPS": "2",
        },
        {"workers": "3", "facts": "facts.yaml"},
    )

    assert Settings.from_json(settings.to_json()) == settings
    assert (settings.grpc, settings.trusted_hops, settings.workers) == (None, 2, 3)


@pytest.mark.parametrize(
    ("environ", "why"),
    [
        ({"BYLAW_JWKS": "keys.json"}, "BYLAW_ISSUER"),
        ({"BYLAW_JWKS": "keys.json", "BYLAW_ISSUER": "https://issuer.example"}, "BYLAW_AUDIENCE"),
        ({"BYLAW_CALLERS": "anybody"}, "loopback, token or mtls"),
        ({"BYLAW_CALLERS": "mtls"}, "BYLAW_TLS_CLIENT_CA"),
        ({"BYLAW_TLS_KEY": "k.pem"}, "belong together"),
        ({"BYLAW_TLS_CLIENT_CA": "ca.pem"}, "BYLAW_TLS_CERTIFICATE"),
        ({"BYLAW_GRPC": "0.0.0.0:8181"}, "not a loopback address"),
        ({"BYLAW_ENVOY_HTTP": "192.0.2.1:1"}, "not a loopback address"),
        ({"BYLAW_TRUSTED_HOPS": "17"}, "0 to 16"),
        ({"BYLAW_TRUSTED_HOPS": "-1"}, "no number"),
        ({"BYLAW_LOG_FORMAT": "xml"}, "text or json"),
        ({"BYLAW_CACHE_KEY": "k"}, "BYLAW_REDIS_URL"),
    ],
)
def test_what_does_not_go_together_is_refused(environ: dict[str, str], why: str) -> None:
    """A protection that would not hold is an error at the start, which names the cure."""
    assert why in refused(environ)


def test_callers_of_the_store_need_one() -> None:
    """Keys are listed in the store: over a facts file nobody could be known by one."""
    assert "listed in the store" in refused({"BYLAW_CALLERS": "token"}, {"facts": "facts.yaml"})


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
