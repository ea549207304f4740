"""How the service runs: from the environment and flags, checked once, frozen.

A flag wins over the variable of its name. An unknown `BYLAW_*` variable is an error, so that a slip of the pen never
leaves a protection off; for the same reason so is a known one that asks for a protection which is not there.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from urllib.parse import urlsplit

from engine import BylawError
from engine.values import SECOND, parse_duration
from sidecar.addresses import Address, parse_address
from store.environment import DEFAULT_DATABASE_URL, unknown_variable

DEFAULT_HTTP = Address("127.0.0.1", 8180)
MAX_WORKERS = 64


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
        database_url: where the store is.
        redis_url: where hints come from beside the database, and views that other processes loaded; None: neither.
        cache_key: by which such views are signed; None: they are not shared.
        max_staleness_s: how old facts may be where the store cannot be reached.
        workers: processes on one port.
        callers: who may call; `loopback` is all there is.
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
    database_url: str = field(default=DEFAULT_DATABASE_URL, repr=False)  # it may hold a password
    redis_url: str | None = field(default=None, repr=False)
    cache_key: str | None = field(default=None, repr=False)
    max_staleness_s: float = 5.0
    workers: int = 1
    callers: str = "loopback"
    dev: bool = False
    public_url: str | None = None
    json: bool = False
    body_timeout_s: float = 10.0
    drain_s: float = 8.0
    watch_s: float = 0.5

    def __post_init__(self) -> None:
        if self.callers != "loopback":
            raise SettingsError(f"callers `{self.callers}`: only `loopback` is known")
        if not 1 <= self.max_staleness_s <= 60:
            raise SettingsError("max staleness: 1s to 60s")
        if not 1 <= self.workers <= MAX_WORKERS:
            raise SettingsError(f"workers: 1 to {MAX_WORKERS}")
        if not self.http.is_loopback:
            raise SettingsError(
                f"{self.http} is not a loopback address: with callers `loopback` anybody who reaches it could ask; "
                "listen on 127.0.0.1, [::1], localhost or unix:/path"
            )
        if self.cache_key is not None and self.redis_url is None:
            raise SettingsError("BYLAW_CACHE_KEY is set without BYLAW_REDIS_URL: there is nothing to be signed")
        if self.public_url is not None and not self.public_host:
            raise SettingsError(f"public URL `{self.public_url}`: expected https://host")

    @property
    def public_host(self) -> str | None:
        """The host, and port if it has one, of the public URL."""
        return urlsplit(self.public_url).netloc.lower() if self.public_url else None

    def to_json(self) -> str:
        """Write them down for another process: through a pipe, never on its command line, since they may hold a
        password."""
        said = {each.name: getattr(self, each.name) for each in fields(self)}
        paths = {"policies": str(self.policies), "facts": str(self.facts) if self.facts else None}
        return json.dumps(said | paths | {"http": str(self.http)})

    @classmethod
    def from_json(cls, text: str) -> Settings:
        """Read what `to_json` wrote."""
        said = json.loads(text)
        facts = Path(said["facts"]) if said["facts"] else None
        return cls(**said | {"policies": Path(said["policies"]), "facts": facts, "http": parse_address(said["http"])})

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
            flags: `policies`, `facts`, `http`, `callers`, `public_url`, `database_url`, `redis_url`, `max_staleness`,
                `workers` as written on the command line.
            dev, json: see the class.

        Raises:
            SettingsError: something is unknown, malformed or not safe.
        """
        _check_names(environ)
        given = {name: value for name, value in (flags or {}).items() if value is not None}
        for name in (
            "policies", "http", "callers", "public_url", "database_url", "max_staleness", "redis_url", "cache_key"
        ):  # fmt: skip
            value = environ.get(f"BYLAW_{name.upper()}")
            if value and name not in given:
                given[name] = value
        return cls(
            policies=Path(given.get("policies", "policies")),
            facts=Path(given["facts"]) if "facts" in given else None,
            database_url=given.get("database_url", DEFAULT_DATABASE_URL),
            redis_url=given.get("redis_url"),
            cache_key=given.get("cache_key"),
            max_staleness_s=_duration(given["max_staleness"]) if "max_staleness" in given else 5.0,
            workers=_count(given["workers"]) if "workers" in given else 1,
            http=_address(given["http"]) if "http" in given else DEFAULT_HTTP,
            callers=given.get("callers", "loopback"),
            public_url=given.get("public_url"),
            dev=dev,
            json=json,
        )


def _duration(text: str) -> float:
    found = parse_duration(text)
    if found is None:
        raise SettingsError(f"`{text}` is no duration: write 5s, 1m")
    return found / SECOND


def _count(text: str) -> int:
    if not text.isascii() or not text.isdigit():
        raise SettingsError(f"workers: `{text}` is no number")
    return int(text)


def _address(text: str) -> Address:
    try:
        return parse_address(text)
    except ValueError as error:
        raise SettingsError(str(error)) from error


def _check_names(environ: Mapping[str, str]) -> None:
    fault = unknown_variable(environ)
    if fault is not None:
        raise SettingsError(fault)
    if environ.get("BYLAW_POLICY_KEY"):
        raise SettingsError("BYLAW_POLICY_KEY is set, but signatures of policies cannot be verified yet")
