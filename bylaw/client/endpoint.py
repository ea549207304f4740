"""Where a decision service is: a URL as it is written, read once."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

DEFAULT_URL: Final = "http://127.0.0.1:8180"
_EXPECTED: Final = "expected http://HOST:PORT, https://HOST or unix:/PATH"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A place to ask.

    Args:
        host: name or address, an IPv6 one without brackets.
        prefix: what stands before the service's own paths, without a slash at its end.
        socket_path: of a Unix socket; the host then only stands in the request.
    """

    is_secure: bool
    host: str
    port: int
    prefix: str = ""
    socket_path: str | None = None

    def __str__(self) -> str:
        return f"unix:{self.socket_path}" if self.socket_path is not None else self.base

    @property
    def base(self) -> str:
        """The URL that paths are put behind."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'https' if self.is_secure else 'http'}://{host}:{self.port}{self.prefix}"


def parse_endpoint(url: str) -> Endpoint:
    """Read where a service is.

    Raises:
        ValueError: it is no such place.
    """
    if url.startswith("unix:"):
        path = url.removeprefix("unix:")
        if not path.startswith("/"):
            raise ValueError(f"url `{url}`: {_EXPECTED}")
        return Endpoint(False, "localhost", 80, socket_path=path)
    if "@" in url:  # not quoted: it may hold a password
        raise ValueError("url: credentials do not belong there; the key is `key=`")
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError as error:
        raise ValueError(f"url `{url}`: {_EXPECTED}") from error
    if parts.scheme not in ("http", "https") or not parts.hostname or not url.isascii() or not url.isprintable():
        raise ValueError(f"url `{url}`: {_EXPECTED}")
    if parts.query or parts.fragment or "?" in url or "#" in url or " " in url:
        raise ValueError(f"url `{url}`: {_EXPECTED}, and no query")
    is_secure = parts.scheme == "https"
    return Endpoint(is_secure, parts.hostname, port or (443 if is_secure else 80), parts.path.rstrip("/"))
