"""How the service runs: from the environment and flags, checked once, frozen.

A flag wins over the variable of its name. An unknown `BYLAW_*` variable is an error, so that a slip of the pen never
leaves a protection off; for the same reason so is a known one that asks for a protection which is not there.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from engine import BylawError
from engine.values import SECOND, parse_duration
from sidecar.addresses import Address, parse_address
from store.environment import DEFAULT_DATABASE_URL, unknown_variable

DEFAULT_HTTP: Final = Address("127.0.0.1", 8180)
DEFAULT_GRPC: Final = Address("127.0.0.1", 8181)
MAX_WORKERS: Final = 64
MAX_HOPS: Final = 16
NONE: Final = "none"


class SettingsError(BylawError):
    """The service cannot run like this; the sentence says why."""

    def __init__(self, message: str) -> None:
        super().__init__("bad_settings", message)


@dataclass(frozen=True, slots=True)
class Settings:
    """How one process runs.

    Args:
        policies: directory of `*.bylaw`, or one such file.
        facts: the facts file; None: facts come from the store.
        http: where to listen.
        grpc: where to listen for Envoy; None: nowhere.
        grpc_may_miss: go on without, if that place is taken: nobody named it.
        envoy_http: where to listen for the HTTP variant alone; None: it is answered on `http`.
        database_url: where the store is.
        redis_url: where hints come from beside the database, views that other processes loaded, and counts of limits;
            None: nowhere.
        cache_key: by which such views are signed; None: they are not shared.
        policy_key: public keys, of which one must have signed a policy; None: it need not be signed.
        jwks, issuer, audience: keys of end users' tokens, who issues them, and for whom; None: no token is good.
        tenant_claim, roles_claim, service_claim: claims that name the tenant, claimable roles, and a service.
        max_staleness_s: how old facts may be where the store cannot be reached.
        workers: processes on one port.
        callers: who may call: `loopback`, `token` or `mtls`.
        trusted_hops: how many hops of `x-forwarded-for` are believed.
        tls_certificate, tls_key: what `http` shows of itself; None: it speaks without TLS.
        tls_client_ca: who vouches for callers.
        rate_limit: how much a caller may ask, `100/1s,5000/1m`; None: any amount.
        decision_log, decision_log_mask, decision_log_salt, decision_log_sample: as `decision_log` has them.
        log_format: of the service's own log: `text` or `json`.
        dev: trying it out: callers have all scopes.
        public_url: base of the URLs by which clients know the service; its host is then accepted too.
        json: what is printed is for machines.
        body_timeout_s: how long a body may take to come in.
        drain_s: how long what is in flight may take after SIGTERM.
        watch_s: how often the disk is looked at, and how long it must stand still before what lies there is taken.
    """

    policies: Path = Path("policies")
    facts: Path | None = None
    http: Address = field(default=DEFAULT_HTTP)
    grpc: Address | None = None
    grpc_may_miss: bool = False
    envoy_http: Address | None = None
    database_url: str = field(default=DEFAULT_DATABASE_URL, repr=False)  # it may hold a password
    redis_url: str | None = field(default=None, repr=False)
    cache_key: str | None = field(default=None, repr=False)
    policy_key: str | None = None
    jwks: str | None = None
    issuer: str | None = None
    audience: str | None = None
    tenant_claim: str = "tenant_id"
    roles_claim: str | None = None
    service_claim: str | None = None
    max_staleness_s: float = 5.0
    workers: int = 1
    callers: str = "loopback"
    trusted_hops: int = 0
    tls_certificate: Path | None = None
    tls_key: Path | None = None
    tls_client_ca: Path | None = None
    rate_limit: str | None = None
    decision_log: str | None = field(default=None, repr=False)
    decision_log_mask: str | None = None
    decision_log_salt: str | None = field(default=None, repr=False)
    decision_log_sample: str | None = None
    log_format: str = "text"
    dev: bool = False
    public_url: str | None = None
    json: bool = False
    body_timeout_s: float = 10.0
    drain_s: float = 8.0
    watch_s: float = 0.5

    def __post_init__(self) -> None:
        self._check_callers()
        self._check_tls()
        if not 1 <= self.max_staleness_s <= 60:
            raise SettingsError("max staleness: 1s to 60s")
        if not 1 <= self.workers <= MAX_WORKERS:
            raise SettingsError(f"workers: 1 to {MAX_WORKERS}")
        if not 0 <= self.trusted_hops <= MAX_HOPS:
            raise SettingsError(f"trusted hops: 0 to {MAX_HOPS}")
        if self.log_format not in ("text", "json"):
            raise SettingsError(f"log format `{self.log_format}`: write text or json")
        if self.cache_key is not None and self.redis_url is None:
            raise SettingsError("BYLAW_CACHE_KEY is set without BYLAW_REDIS_URL: there is nothing to be signed")
        if self.jwks is not None and (self.issuer is None or self.audience is None):
            raise SettingsError(
                "BYLAW_JWKS is set without BYLAW_ISSUER and BYLAW_AUDIENCE: tokens made by anybody, or for anybody "
                "else, would be good"
            )
        if self.public_url is not None and not self.public_host:
            raise SettingsError(f"public URL `{self.public_url}`: expected https://host")

    def _check_callers(self) -> None:
        if self.callers not in ("loopback", "token", "mtls"):
            raise SettingsError(f"callers `{self.callers}`: write loopback, token or mtls")
        if self.callers == "loopback":
            for place in filter(None, (self.http, self.grpc, self.envoy_http)):
                if not place.is_loopback:
                    raise SettingsError(
                        f"{place} is not a loopback address: with callers `loopback` anybody who reaches it could ask; "
                        "listen on 127.0.0.1, [::1], localhost or unix:/path, or set BYLAW_CALLERS"
                    )
        elif self.facts is not None:
            raise SettingsError(
                f"callers `{self.callers}` are listed in the store, and there is none: facts are a file's"
            )

    def _check_tls(self) -> None:
        if (self.tls_certificate is None) != (self.tls_key is None):
            raise SettingsError("BYLAW_TLS_CERTIFICATE and BYLAW_TLS_KEY belong together")
        if self.tls_client_ca is not None and self.tls_certificate is None:
            raise SettingsError("BYLAW_TLS_CLIENT_CA needs BYLAW_TLS_CERTIFICATE and BYLAW_TLS_KEY")
        if self.callers == "mtls" and self.grpc is not None:
            raise SettingsError(
                "callers `mtls`: Envoy's gRPC is served without certificates, so nobody could ask there; set "
                "BYLAW_GRPC to none"
            )
        if self.callers == "mtls" and (self.tls_client_ca is None or self.http.path is not None):
            raise SettingsError(
                "callers `mtls` need BYLAW_TLS_CERTIFICATE, BYLAW_TLS_KEY and BYLAW_TLS_CLIENT_CA, and no Unix socket"
            )

    @property
    def public_host(self) -> str | None:
        """The host, and port if it has one, of the public URL."""
        return urlsplit(self.public_url).netloc.lower() if self.public_url else None

    def to_json(self) -> str:
        """Write them down for another process: through a pipe, never on its command line, since they may hold a
        password."""
        said = {each.name: getattr(self, each.name) for each in fields(self)}
        return json.dumps({name: _plain(value) for name, value in said.items()})

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Read what `to_json` wrote."""
        said = json.loads(text)
        for name in ("policies", "facts", "tls_certificate", "tls_key", "tls_client_ca"):
            said[name] = Path(said[name]) if said[name] is not None else None
        for name in ("http", "grpc", "envoy_http"):
            said[name] = parse_address(said[name]) if said[name] is not None else None
        return cls(**said)

    @classmethod
    def read(
        cls,
        environ: Mapping[str, str],
        flags: Mapping[str, str | None] | None = None,
        *,
        dev: bool = False,
        json: bool = False,
    ) -> Settings:
        """Read the settings.

        Args:
            environ: all variables of the environment.
            flags: what is written on the command line: `facts`, `workers`, and what has a variable (`VARIABLES`).
            dev, json: see the class.

        Raises:
            SettingsError: something is unknown, malformed or not safe.
        """
        fault = unknown_variable(environ)
        if fault is not None:
            raise SettingsError(fault)
        written = {name: environ.get(f"BYLAW_{name.upper()}") for name in VARIABLES}
        written |= {name: value for name, value in (flags or {}).items() if value is not None}
        given = {_NAMES.get(name, name): _READ[name](text) for name, text in written.items() if text}
        if "grpc" not in given and given.get("callers") != "mtls":
            given |= {"grpc": DEFAULT_GRPC, "grpc_may_miss": True}
        return cls(**given, dev=dev, json=json)


def _plain(value: object) -> object:
    return str(value) if isinstance(value, Path | Address) else value


def _duration(text: str) -> float:
    found = parse_duration(text)
    if found is None:
        raise SettingsError(f"`{text}` is no duration: write 5s, 1m")
    return found / SECOND


def _count(name: str) -> Callable[[str], int]:
    def read(text: str) -> int:
        if not text.isascii() or not text.isdigit() or len(text) > 9:
            raise SettingsError(f"{name}: `{text}` is no number")
        return int(text)

    return read


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _address_or_none(text: str) -> Address | None:
    return None if text == NONE else _address(text)


#: What each setting is made of, by the name of its variable and flag.
_READ: Final[Mapping[str, Callable[[str], Any]]] = {
    "policies": Path,
    "facts": Path,
    "http": _address,
    "grpc": _address_or_none,
    "envoy_http": _address,
    "database_url": str,
    "redis_url": str,
    "cache_key": str,
    "policy_key": str,
    "jwks": str,
    "issuer": str,
    "audience": str,
    "tenant_claim": str,
    "roles_claim": str,
    "service_claim": str,
    "max_staleness": _duration,
    "workers": _count("workers"),
    "callers": str,
    "trusted_hops": _count("trusted hops"),
    "tls_certificate": Path,
    "tls_key": Path,
    "tls_client_ca": Path,
    "rate_limit": str,
    "decision_log": str,
    "decision_log_mask": str,
    "decision_log_salt": str,
    "decision_log_sample": str,
    "log_format": str,
    "public_url": str,
}
#: Where a setting is called otherwise than its variable.
_NAMES: Final = {"max_staleness": "max_staleness_s"}
#: What may come from a variable, `BYLAW_` and the name in capitals.
VARIABLES: Final = tuple(name for name in _READ if name not in ("facts", "workers"))
#: What may stand on a command line, which shows it to everybody on the machine: so no secrets.
FLAGS: Final = tuple(name for name in _READ if name not in ("cache_key", "decision_log_salt"))
