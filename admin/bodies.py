"""The body of a request: bytes in, JSON value out; what could be read two ways, or is past a bound, is refused.

It is read whole, within a time, before anything is asked of the store. JSON is UTF-8, so another charset is a mistake;
an encoding is refused because a body of a few bytes could be unpacked to one of any size.
"""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterable, Mapping
from typing import Final, NoReturn

from aiohttp import web

from admin.errors import PublicError, bad_request

MAX_BODY: Final = 256 * 1024
MAX_DEPTH: Final = 16
TYPE: Final = "application/json"


async def read_body(request: web.Request, *, timeout_s: float, limit: int = MAX_BODY) -> bytes:
    """Read the body of a request.

    Args:
        limit: of its bytes.

    Raises:
        PublicError: it is of another type, too large, too slow, or cut off.
    """
    _check_type(request)
    if (request.content_length or 0) > limit:
        raise _too_large(limit)
    read = bytearray()
    try:
        async with asyncio.timeout(timeout_s):
            async for part in request.content.iter_any():
                read += part
                if len(read) > limit:
                    raise _too_large(limit)
            return bytes(read)
    except TimeoutError as error:
        headers = {"Connection": "close"}
        said = f"the body was not complete within {timeout_s:g} s"
        raise PublicError(408, "body_timeout", said, headers=headers) from error
    except (web.RequestPayloadError, ConnectionError) as error:
        raise bad_request("the body was cut off, or is not as its headers say") from error


def parse(raw: bytes) -> object:
    """Read JSON, strictly.

    Raises:
        PublicError: it is none, or says something twice, or goes too deep.
    """
    try:
        found = _DECODER.decode(raw.decode("utf-8"))
        depth = _depth(found)
        json.dumps(found, ensure_ascii=False).encode("utf-8")  # half a character is none
    except UnicodeDecodeError as error:
        raise _no_json(f"byte {error.start} is no UTF-8") from error
    except UnicodeEncodeError as error:
        raise _no_json("a string holds half of a surrogate pair") from error
    except json.JSONDecodeError as error:
        raise _no_json(f"line {error.lineno}, column {error.colno}" if raw else "it is empty") from error
    except RecursionError as error:
        raise _too_deep() from error
    except ValueError as error:  # a whole number of thousands of digits
        raise _no_json("a number is too long") from error
    if depth > MAX_DEPTH:
        raise _too_deep()
    return found


def _check_type(request: web.Request) -> None:
    """Refuse what does not say that it is JSON, in UTF-8, as it is."""
    if len(request.headers.getall("Content-Type", ())) != 1 or request.content_type != TYPE:
        raise bad_request(f"send JSON, as `Content-Type: {TYPE}`")
    if (request.charset or "utf-8").lower() not in ("utf-8", "utf8"):
        raise bad_request("JSON is UTF-8: send no other charset")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise bad_request("send the body as it is, without Content-Encoding")


def _members(pairs: list[tuple[str, object]]) -> dict[str, object]:
    """Make an object of its members, each named once."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise _no_json("a member stands there twice")
    return found


def _number(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise _no_json("a number is out of range")
    return value


def _constant(_: str) -> NoReturn:
    raise _no_json("NaN and Infinity are no numbers")


_DECODER: Final = json.JSONDecoder(object_pairs_hook=_members, parse_float=_number, parse_constant=_constant)


def _depth(value: object) -> int:
    inner: Iterable[object] = ()
    if isinstance(value, Mapping):
        inner = value.values()
    elif isinstance(value, list):
        inner = value
    else:
        return 0
    return 1 + max(map(_depth, inner), default=0)


def _no_json(reason: str) -> PublicError:
    return bad_request(f"this is no JSON as it must be: {reason}")


def _too_deep() -> PublicError:
    return bad_request(f"JSON goes at most {MAX_DEPTH} deep")


def _too_large(limit: int) -> PublicError:
    return PublicError(413, "too_large", f"a body has at most {limit // 1024} KiB")
