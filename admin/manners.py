"""What holds for every answer, whatever it says: headers, browsers of other origins, compression, how much one may ask.

An answer is data, for nobody to frame, guess at or keep; one with an ETag may be kept, to be asked for again. Browsers
read what an origin outside the list asks for as nothing: without the list nothing is said to them at all. No cookie
identifies anybody here, so no answer allows credentials.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from aiohttp import web

from engine import BylawError

#: Answers that are longer are compressed, for who can read that.
COMPRESS_FROM: Final = 1024
KEEP_NOTHING: Final = "private, no-store"
ASK_AGAIN: Final = "private, no-cache"
#: How long a browser may remember what a preflight was answered.
_PREFLIGHT_S: Final = 600
#: What a browser lets pages do that nobody needs here.
_POWERS: Final = ("camera", "clipboard-read", "display-capture", "geolocation", "microphone", "payment", "usb")
_SECURITY: Final = {
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Content-Security-Policy": "default-src 'none'; frame-ancestors 'none'",
    "Strict-Transport-Security": "max-age=31536000; includeSubDomains",
    "Permissions-Policy": ", ".join(f"{each}=()" for each in _POWERS),
}
#: What a page of another origin may send and read, beside what any may.
_SENT: Final = "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, X-Request-ID"
_READ: Final = (
    "Bylaw-Revision, ETag, Location, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, "
    "X-Request-ID"
)
_ORIGIN: Final = re.compile(r"https?://(?:[a-z0-9.-]+|\[[0-9a-f:]+\])(?::[0-9]{1,5})?")
#: The port that browsers leave out, of http and of https.
_USUAL: Final = (":80", ":443")
_GZIP: Final = re.compile(r"(gzip|\*)(?:\s*;\s*q=([0-9.]+))?")


class Limits(Protocol):
    """Counts what an actor asks."""

    async def take(self, actor: str, times: int = 1) -> None:
        """Count one request, or so many.

        Raises:
            PublicError: it is one too many; then it counts for nothing.
        """
        ...


@dataclass(frozen=True, slots=True)
class Manners:
    """How a service is to behave, as it was set up.

    Args:
        origins: of pages that may read answers.
        limits: None: anybody may ask any amount.
        body_timeout_s: how long a body may take.
    """

    origins: frozenset[str] = frozenset()
    limits: Limits | None = None
    body_timeout_s: float = 10.0


def parse_origins(text: str) -> frozenset[str]:
    """Read a list of origins, `https://console.example, http://localhost:3000`.

    Raises:
        BylawError: one is none; there is none that means any.
    """
    found = [each.strip() for each in text.split(",")]
    for each in found:
        if not _ORIGIN.fullmatch(each) or each.endswith(_USUAL[each.startswith("https:")]):
            raise BylawError(
                "bad_settings",
                f"origin `{each}`: write exact ones as browsers send them, https://console.example, in lower case, "
                "without a path and without the usual port",
            )
    return frozenset(found)


def options(request: web.Request, allowed: Iterable[str], manners: Manners) -> web.Response:
    """Answer what a path takes; a browser's preflight, whether a page may ask it."""
    taken = ", ".join(sorted({*allowed, "OPTIONS"}))
    headers = {"Allow": taken}
    if _is_let(request, manners) and "Access-Control-Request-Method" in request.headers:
        headers |= {
            "Access-Control-Allow-Methods": taken,
            "Access-Control-Allow-Headers": _SENT,
            "Access-Control-Max-Age": str(_PREFLIGHT_S),
        }
    return web.Response(status=204, headers=headers)


def dress(request: web.Request, response: web.StreamResponse, manners: Manners) -> None:
    """Put on an answer what belongs on every one."""
    said: dict[str, str] = dict(_SECURITY)
    said["Cache-Control"] = ASK_AGAIN if "ETag" in response.headers and response.status < 400 else KEEP_NOTHING
    varied = ["Accept-Encoding"]
    if manners.origins:
        varied.append("Origin")
    said["Vary"] = ", ".join(varied)
    if _is_let(request, manners):
        said["Access-Control-Allow-Origin"] = request.headers["Origin"]
        said["Access-Control-Expose-Headers"] = _READ
    response.headers.update(_without(said, response.headers))
    if (response.content_length or 0) > COMPRESS_FROM and reads_gzip(request.headers.get("Accept-Encoding", "")):
        response.enable_compression(web.ContentCoding.gzip)


def reads_gzip(accepted: str) -> bool:
    """Say whether who sent this `Accept-Encoding` reads gzip; what it names itself counts before `*`."""
    weights: dict[str, float] = {}
    for each in accepted.lower().split(","):
        match = _GZIP.fullmatch(each.strip())
        if match is not None:
            weights[match[1]] = _weight(match[2])
    return weights.get("gzip", weights.get("*", 0.0)) > 0


def _weight(text: str | None) -> float:
    try:
        return 1.0 if text is None else float(text)
    except ValueError:
        return 0.0


def _is_let(request: web.Request, manners: Manners) -> bool:
    return request.headers.get("Origin") in manners.origins


def _without(said: Mapping[str, str], there: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in said.items() if name not in there}
