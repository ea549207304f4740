"""HTTP responses of the service."""

from __future__ import annotations

from aiohttp import web
from multidict import CIMultiDict, CIMultiDictProxy

from sidecar.exchange import Reply

# `Server` stands here so that aiohttp does not fill in its own name and version.
_HEADERS = CIMultiDictProxy(CIMultiDict({"Content-Type": "application/json", "Server": "bylaw"}))


def json_answer(body: str, *, status: int = 200) -> web.Response:
    """Answer with JSON that is already written."""
    return web.Response(body=body.encode(), status=status, headers=_HEADERS)


def must_close(request: web.Request) -> bool:
    """Say whether nothing may follow a request on its connection.

    INVARIANT: where a protocol is asked for that is not spoken here, aiohttp (3.14) loses what came along with the
    request, and reads on in the midst of what follows: a body would be executed as a request.
    """
    return "Upgrade" in request.headers


def response_of(reply: Reply) -> web.Response:
    """Write a reply."""
    response = web.Response(body=reply.body, status=reply.status, headers=_HEADERS)
    response.headers.update(reply.headers)
    if reply.is_last:
        response.force_close()
    return response
