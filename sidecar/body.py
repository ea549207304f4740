"""The body of an HTTP request in aiohttp's lane: its type, its size, its time, then its text."""

from __future__ import annotations

import asyncio
from typing import Any

from aiohttp import web

from sidecar.errors import PublicError, bad_request, too_large
from sidecar.keys import SETTINGS
from sidecar.strict_json import MAX_BODY, parse

_JSON = "application/json"


async def read_json(request: web.Request) -> Any:
    """Read the body of a request as JSON.

    Raises:
        PublicError: as in `read_body`, or it is no JSON as it should be.
    """
    return parse(await read_body(request))


async def read_body(request: web.Request) -> bytes:
    """Read the body of a request.

    Raises:
        PublicError: it is of another type, too large, too slow, or cut off.
    """
    _check_type(request)
    try:
        body = request.content.read_nowait() if request.content.is_eof() else await _wait(request)
    except (web.RequestPayloadError, ConnectionError) as error:
        raise bad_request("the body was cut off") from error
    if len(body) > MAX_BODY:
        raise _too_large()
    return body


def _check_type(request: web.Request) -> None:
    headers = request.headers
    sent = headers.get("Content-Type", "")
    if sent != _JSON and sent.partition(";")[0].strip().lower() != _JSON:
        raise PublicError(400, "bad_content_type", f"send Content-Type: {_JSON}")
    if "Content-Encoding" in headers:
        raise PublicError(400, "bad_content_encoding", "send the body as it is, without Content-Encoding")


async def _wait(request: web.Request) -> bytes:
    """Read a body that did not come in with the headers. The others, nearly all, need no timer."""
    if (request.content_length or 0) > MAX_BODY:
        raise _too_large()
    timeout_s = request.app[SETTINGS].body_timeout_s
    body = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            while chunk := await request.content.readany():
                body += chunk
                if len(body) > MAX_BODY:
                    break
    except TimeoutError as error:
        raise PublicError(408, "body_timeout", f"the body was not complete within {timeout_s:g} s") from error
    return bytes(body)


def _too_large() -> PublicError:
    return too_large(f"a body has at most {MAX_BODY // 1024} KiB", status=413)
