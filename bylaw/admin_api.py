"""What the verbs of `bylaw admin` say to a running administration service, and how its answers are taken.

    Exception
    └── BylawError          it could not be asked: no key, nobody there, an answer that is none
        └── RefusedError    it said no

A key goes to this machine, a Unix socket or over TLS, nowhere else. An answer is believed where it is JSON of the
status that it must have, and is whole; what is not is an error, never taken for done.
"""

from __future__ import annotations

import http.client
import json
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from urllib.parse import quote, urlencode

from engine.errors import BylawError

PREFIX: Final = "/admin/v1"
#: Longer than the service waits for anything.
TIMEOUT_S: Final = 40.0
MAX_ANSWER: Final = 16 * 1024 * 1024
#: What the service says where the wish was understood, and is not granted.
_SAID_NO: Final = frozenset({403, 404, 409, 412})

Json = dict[str, Any]


class RefusedError(BylawError):
    """The service understood, and said no."""


class Said(NamedTuple):
    """An answer that is no error.

    Args:
        body: empty where there was none.
        revision: of a write.
    """

    status: int
    body: Json
    revision: str | None


@dataclass(frozen=True, slots=True)
class Place:
    """Where a service is."""

    host: str
    port: int
    is_secure: bool = False
    socket_path: str | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"unix:{self.socket_path}" if self.socket_path is not None else f"{host}:{self.port}"


def read_place(written: str) -> Place:
    """Read where a service is: `host:port`, `unix:/path`, or a URL.

    Raises:
        BylawError: it is no such place, or one to which a key would go in the clear.
    """
    from bylaw.client.endpoint import parse_endpoint
    from sidecar.addresses import Address

    is_url = written.startswith(("http://", "https://", "unix:"))
    try:
        found = parse_endpoint(written if is_url else f"http://{written}")
    except ValueError as error:
        message = (
            f"`{written}` is no place: write HOST:PORT, https://HOST or unix:/PATH"
            if "@" not in written
            else ("a place holds no credentials; the key comes from BYLAW_ADMIN_KEY or --key-file")
        )
        raise BylawError("bad_settings", message) from error
    if found.prefix:
        raise BylawError("bad_settings", f"`{written}`: leave out the path, `{found.prefix}`")
    if found.socket_path is None and not found.is_secure and not Address(found.host).is_loopback:
        raise BylawError(
            "bad_settings", f"`{written}` is another machine, and the key would go there in the clear: use https://…"
        )
    return Place(found.host, found.port, found.is_secure, found.socket_path)


def path_of(*parts: str) -> str:
    """Write a path of the API, with whatever characters its parts have.

    >>> path_of("tenants", "a/b", "memberships", "user:ann")
    '/admin/v1/tenants/a%2Fb/memberships/user:ann'

    Raises:
        BylawError: a part would lead to another place: `..` in the place of a member would name the tenant.
    """
    for part in parts:
        if part in ("", ".", ".."):
            raise BylawError("bad_request", f"`{part}` names nothing")
    return "/".join([PREFIX, *(quote(part, safe=":") for part in parts)])


class Conversation:
    """Asks one service."""

    def __init__(self, place: Place, key: str) -> None:
        self._place = place
        self._key = key

    def ask(
        self, method: str, path: str, body: Json | None = None, query: Mapping[str, str | None] | None = None
    ) -> Said:
        """Ask one thing.

        Raises:
            RefusedError: the service said no.
            BylawError: it could not be asked, or did not understand.
        """
        said = urlencode({name: value for name, value in (query or {}).items() if value is not None})
        data = None if body is None else json.dumps(body).encode()
        headers = {"Authorization": f"Bearer {self._key}", "Accept": "application/json"}
        headers |= {"Content-Type": "application/json"} if data is not None else {}
        connection = self._connection()
        try:
            connection.request(method, f"{path}?{said}" if said else path, data, headers)
            answer = connection.getresponse()
            raw = answer.read(MAX_ANSWER + 1)
        except (OSError, http.client.HTTPException) as error:
            reason = getattr(error, "strerror", None) or str(error) or "it hung up"
            raise BylawError(
                "unavailable", f"nothing answers at {self._place} ({reason}): is `bylaw admin` or `bylaw dev` running?"
            ) from error
        finally:
            connection.close()
        return self._read(answer, raw)

    def pages(self, path: str, query: Mapping[str, str | None] | None = None) -> Iterator[Json]:
        """List all items, page by page."""
        cursor: str | None = None
        while True:
            found = self.ask("GET", path, query={**(query or {}), "limit": "100", "cursor": cursor}).body
            yield from found.get("items", ())
            before, cursor = cursor, found.get("next")
            if cursor is None:
                return
            if cursor == before:
                raise self._strange("the next page is the same once more")

    def _connection(self) -> http.client.HTTPConnection:
        place = self._place
        if place.socket_path is not None:
            return _UnixConnection(place.socket_path)
        if place.is_secure:
            context = ssl.create_default_context()
            return http.client.HTTPSConnection(place.host, place.port, timeout=TIMEOUT_S, context=context)
        return http.client.HTTPConnection(place.host, place.port, timeout=TIMEOUT_S)

    def _read(self, answer: http.client.HTTPResponse, raw: bytes) -> Said:
        if len(raw) > MAX_ANSWER:
            raise self._strange("its answer is too long")
        try:
            body = json.loads(raw) if raw else {}
        except (ValueError, RecursionError) as error:
            raise self._strange("its answer is no JSON") from error
        if not isinstance(body, dict):
            raise self._strange("its answer is no JSON object")
        if answer.status in (200, 201, 202, 204):
            return Said(answer.status, body, answer.headers.get("Bylaw-Revision"))
        code, message = body.get("error"), body.get("message")
        if not isinstance(code, str) or not isinstance(message, str):
            raise self._strange(f"it answers with status {answer.status}")
        kind = RefusedError if answer.status in _SAID_NO else BylawError
        raise kind(code, "\n".join([message, *_fields(body)]))

    def _strange(self, what: str) -> BylawError:
        return BylawError("bad_answer", f"{self._place} is no administration service, or not of this version: {what}")


def _fields(body: Json) -> list[str]:
    """Say of each field what is wrong with it."""
    details = body.get("details")
    fields = details.get("fields") if isinstance(details, dict) else None
    return [f"  {name}: {what}" for name, what in fields.items()] if isinstance(fields, dict) else []


class _UnixConnection(http.client.HTTPConnection):
    """Speaks through a Unix socket."""

    def __init__(self, path: str) -> None:
        super().__init__("localhost", timeout=TIMEOUT_S)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.settimeout(TIMEOUT_S)
        self.sock.connect(self._path)
