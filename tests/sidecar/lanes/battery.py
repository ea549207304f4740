"""Requests as bytes, good and bad: what clients send, what attackers send, and what parsers have quarrelled about.

Each is one request, whole by itself, or what is meant to look like one; and says which lane is to answer it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from sidecar.strict_json import MAX_BODY
from tests.sidecar.conftest import ANN

CHECK: Final = "/check"
ONE: Final = "/access/v1/evaluation"
MANY: Final = "/access/v1/evaluations"
DENIED: Final = {"tenant": "acme", "subject": "user:max", "action": "update", "resource": "project:p2"}
STANDARD: Final = {
    "subject": {"type": "user", "id": "ann"},
    "action": {"name": "read"},
    "resource": {"type": "task", "id": "t1", "properties": {"tenant": "acme"}},
}
UNKNOWN: Final = {**STANDARD, "resource": {"type": "tusk", "id": "t1", "properties": {"tenant": "acme"}}}
JSON: Final = "Content-Type: application/json"
HOST: Final = "Host: localhost"


@dataclass(frozen=True, slots=True)
class Sent:
    """A request.

    Args:
        is_fast: whether the fast lane answers it by itself.
    """

    name: str
    raw: bytes
    is_fast: bool


def request(
    body: object = ANN,
    *fields: str,
    begin: str = "POST /check HTTP/1.1",
    base: Iterable[str] = (HOST, JSON),
    length: str | None = "Content-Length: {}",
    end: str = "\r\n",
) -> bytes:
    """Write a request: a good one, but for what is changed."""
    written = body if isinstance(body, bytes) else json.dumps(body).encode()
    lines = [begin, *base, *fields, *([length.format(len(written))] if length is not None else [])]
    return end.join([*lines, "", ""]).encode("latin-1") + written


def nested(depth: int) -> Any:
    """Make a context so deep that the whole body is of that depth."""
    value: Any = 1
    for _ in range(depth - 2):
        value = [value]
    return {"deep": value}


def padded(size: int) -> bytes:
    """Make a body of a size that is a good question all the same."""
    text = json.dumps(ANN).encode()
    return text + b" " * (size - len(text))


_BODIES: Final[dict[str, tuple[str, object]]] = {
    "an allow": (CHECK, ANN),
    "a deny": (CHECK, DENIED),
    "the standard's form": (CHECK, STANDARD),
    "a batch": (CHECK, {**ANN, "evaluations": [{}, {"subject": "user:eve"}, {"action": "fly"}, 7]}),
    "a batch that stops": (
        CHECK,
        {
            **ANN,
            "evaluations": [{"subject": "user:eve"}, {}],
            "options": {"evaluations_semantic": "deny_on_first_deny"},
        },
    ),
    "an empty batch": (CHECK, {**ANN, "evaluations": []}),
    "AuthZEN": (ONE, STANDARD),
    "AuthZEN, unknown type": (ONE, UNKNOWN),
    "AuthZEN, short form": (ONE, ANN),
    "AuthZEN, many": (MANY, {**STANDARD, "evaluations": [{}, {"action": {"name": "fly"}}]}),
    "AuthZEN, none of many": (MANY, STANDARD),
    "words beyond ASCII": (CHECK, json.dumps({**ANN, "subject": "user:änn"}, ensure_ascii=False).encode()),
    "space around": (CHECK, b" \r\n\t" + json.dumps(ANN).encode() + b"\r\n\r\n"),
    "a whole request inside": (CHECK, {**ANN, "context": {"note": request().decode()}}),
    "a whole request and nothing else": (CHECK, request()),
    "of the greatest size": (CHECK, padded(MAX_BODY)),
    "of many pieces": (CHECK, padded(100_000)),
    "no body": (CHECK, b""),
    "no JSON": (CHECK, b"{"),
    "no object": (CHECK, b"[]"),
    "two JSON texts": (CHECK, json.dumps(ANN).encode() * 2),
    "no UTF-8": (CHECK, b'{"tenant": "\xff"}'),
    "a member twice": (CHECK, b'{"tenant": "acme", "tenant": "globex"}'),
    "NaN": (CHECK, b'{"a": NaN}'),
    "half a surrogate": (CHECK, b'["\\ud800"]'),
    "NUL": (CHECK, b'{"a": "\x00"}'),
    "a byte order mark": (CHECK, b"\xef\xbb\xbf{}"),
    "the greatest depth": (CHECK, {**ANN, "context": nested(16)}),
    "too deep": (CHECK, {**ANN, "context": nested(17)}),
    "absurdly deep": (CHECK, b"[" * 100_000),
    "an unknown type": (CHECK, {**ANN, "resource": "tusk:t1"}),
    "an unknown action": (CHECK, {**ANN, "action": "fly"}),
    "no tenant": (CHECK, {**ANN, "tenant": None}),
    "too many questions": (CHECK, {**ANN, "evaluations": [{}] * 101}),
    "too long an id": (CHECK, {**ANN, "subject": f"user:{'x' * 257}"}),
    "too long a string": (CHECK, {**ANN, "context": {"note": "x" * 4097}}),
    "too many members": (CHECK, {str(n): n for n in range(65)}),
    "a long number": (CHECK, b'{"a": ' + b"9" * 5000 + b"}"),
}

_FAST_HEADS: Final[dict[str, bytes]] = {
    "no space after colons": request(
        base=("Host:localhost", "Content-Type:application/json"), length="Content-Length:{}"
    ),
    "names in capitals": request(
        base=("HOST: localhost", "CONTENT-TYPE: application/json"), length="CONTENT-LENGTH: {}"
    ),
    "names in small letters": request(
        base=("host: localhost", "content-type: application/json"), length="content-length: {}"
    ),
    "another order": request(ANN, JSON, HOST, base=(f"Content-Length: {len(json.dumps(ANN))}",), length=None),
    "a charset": request(base=(HOST, "Content-Type: application/json; charset=utf-8")),
    "a charset in capitals": request(base=(HOST, "Content-Type: APPLICATION/JSON;CHARSET=UTF-8")),
    "kept alive": request(ANN, "Connection: keep-alive"),
    "kept alive in capitals": request(ANN, "connection: Keep-Alive"),
    "a length with zeros": request(length="Content-Length: 0{}"),
    "a request id": request(ANN, "X-Request-ID: r-1"),
    "a request id of two words": request(ANN, "x-request-id: two  words"),
    "the longest request id": request(ANN, f"X-Request-ID: {'x' * 255}~"),
    "too long a request id": request(ANN, f"X-Request-ID: {'x' * 257}"),
    "a request id on an error": request(b"{", "X-Request-ID: r-2"),
    "a token that is none": request(ANN, "Bylaw-At-Least: nonsense"),
    "nine tokens": request(ANN, f"Bylaw-At-Least: {','.join('a' * 9)}"),
    "an authorization": request(ANN, "Authorization: Bearer abc"),
    "headers of browsers": request(
        ANN, "Origin: http://localhost", "Cookie: a=b; c=d", "Sec-Fetch-Site: same-origin", "User-Agent: x (y) z/1"
    ),
    "headers of proxies": request(
        ANN,
        "X-Forwarded-For: 203.0.113.9",
        "Forwarded: for=203.0.113.9;host=evil",
        "X-Forwarded-Host: evil",
        "Via: 1.1 x",
    ),
    "headers of traces": request(ANN, f"traceparent: 00-{'a' * 32}-{'b' * 16}-01", "tracestate: a=b", "b3: 0"),
    "names that only sound like others": request(
        ANN, "X-Content-Length: 3", "X-Transfer-Encoding: chunked", "X-HTTP-Method-Override: GET", "X-Host: evil"
    ),
    "a colon in a value": request(ANN, "X-A: Content-Length: 3"),
    "another Host": request(base=("Host: evil.example", JSON)),
    "another Host, and no JSON": request(b"{", base=("Host: evil.example", JSON)),
    "a Host in capitals": request(base=("Host: LOCALHOST", JSON)),
    "a Host with another port": request(base=("Host: localhost:1", JSON)),
    "a long line": request(ANN, f"X-A: {'x' * 8000}"),
    "as many headers as there may be": request(ANN, *(f"X-{n}: 1" for n in range(125))),
}

_SLOW_HEADS: Final[dict[str, bytes]] = {
    "one header more": request(ANN, *(f"X-{n}: 1" for n in range(126))),
    "a long head": request(ANN, *(f"X-{n}: {'x' * 1000}" for n in range(9))),
    "too long a line": request(ANN, f"X-A: {'x' * 9000}"),
    "too long a path": request(begin=f"POST /{'x' * 9000} HTTP/1.1"),
    # where it ends
    "no length and no body": request(b"", length=None),
    "an empty length": request(length="Content-Length:"),
    "a length with a sign": request(length="Content-Length: +{}"),
    "a negative length": request(length="Content-Length: -{}"),
    "two lengths in one": request(length="Content-Length: {0}, {0}"),
    "a length in words": request(length="Content-Length: five"),
    "a length in hex": request(length="Content-Length: 0x{}"),
    "a length with a point": request(length="Content-Length: {}.0"),
    "a length with a letter": request(length="Content-Length: {}a"),
    "a length with space before": request(length="Content-Length:   {}"),
    "a length with space behind": request(length="Content-Length: {}  "),
    "a length with a tab": request(length="Content-Length:\t{}"),
    "a length in the next line": request(length="Content-Length:\r\n {}"),
    "a length of many zeros": request(length="Content-Length: 0000000{}"),
    "a huge length": request(length=f"Content-Length: {2**63}"),
    "a length beyond all": request(length=f"Content-Length: {10**40}"),
    "a length in other digits": request(length="Content-Length: \xb2{}"),
    "the same length twice": request(ANN, f"Content-Length: {len(json.dumps(ANN))}"),
    "two lengths": request(ANN, "Content-Length: 3"),
    "two lengths, spelt differently": request(ANN, "content-length: 3"),
    "chunks": request(b"0\r\n\r\n", "Transfer-Encoding: chunked", length=None),
    "chunks of a question": request(
        b"%x\r\n%b\r\n0\r\n\r\n" % (len(json.dumps(ANN)), json.dumps(ANN).encode()),
        "Transfer-Encoding: chunked",
        length=None,
    ),
    "chunks with a length": request(b"0\r\n\r\n", "Transfer-Encoding: chunked"),
    "chunks in capitals": request(b"0\r\n\r\n", "TRANSFER-ENCODING: CHUNKED", length=None),
    "chunks with space before the colon": request(b"0\r\n\r\n", "Transfer-Encoding : chunked"),
    "chunks twice": request(b"0\r\n\r\n", "Transfer-Encoding: chunked", "Transfer-Encoding: chunked", length=None),
    "chunks that are none": request(b"0\r\n\r\n", "Transfer-Encoding: xchunked"),
    "identity": request(ANN, "Transfer-Encoding: identity"),
    "gzip and chunks": request(b"0\r\n\r\n", "Transfer-Encoding: gzip, chunked", length=None),
    "chunks after a tab": request(b"0\r\n\r\n", "Transfer-Encoding:\tchunked"),
    "chunks after a vertical tab": request(b"0\r\n\r\n", "Transfer-Encoding: \x0bchunked"),
    "chunks in the next line": request(b"0\r\n\r\n", "Transfer-Encoding:\r\n chunked"),
    "chunks behind a bare CR": request(b"0\r\n\r\n", "X-A: b\rTransfer-Encoding: chunked"),
    "chunks behind a bare LF": request(b"0\r\n\r\n", "X-A: b\nTransfer-Encoding: chunked"),
    "chunks behind NUL": request(b"0\r\n\r\n", "X-A: b\x00\r\nTransfer-Encoding: chunked"),
    # lines
    "a folded line": request(ANN, "X-A: b\r\n c"),
    "a folded first line": request(base=(" X-A: b", HOST, JSON)),
    "space before a colon": request(base=("Host : localhost", JSON)),
    "NUL in a value": request(ANN, "X-A: b\x00c"),
    "NUL in a name": request(ANN, "X-\x00A: b"),
    "a tab in a value": request(ANN, "X-A: b\tc"),
    "space behind a value": request(ANN, "X-A: b "),
    "two spaces before a value": request(ANN, "X-A:  b"),
    "no value": request(ANN, "X-A:"),
    "no name": request(ANN, ": b"),
    "no colon": request(ANN, "X-A"),
    "CR in a value": request(ANN, "X-A: b\rc"),
    "bytes beyond ASCII": request(ANN, "X-A: \xe9\xff"),
    "DEL in a value": request(ANN, "X-A: \x7f"),
    "underlines in a name": request(ANN, "X_A: b"),
    "odd but legal names": request(ANN, "X!#$%&'*+-.^`|~: b"),
    "brackets in a name": request(ANN, "X(A): b"),
    "bare LF": request(end="\n"),
    "bare LF in the end": request().replace(b"\r\n\r\n", b"\n\n", 1),
    "a bare LF in the middle": request().replace(b"\r\n", b"\n", 1),
    "bare CR": request(end="\r"),
    "LF CR": request(end="\n\r"),
    "CR CR LF": request(end="\r\r\n"),
    "empty lines before": b"\r\n\r\n" + request(),
    "an LF before": b"\n" + request(),
    "space before the method": b" " + request(),
    # the first line
    "a query": request(begin="POST /check?tenant=globex HTTP/1.1"),
    "a fragment": request(begin="POST /check#x HTTP/1.1"),
    "a path with a slash behind": request(begin="POST /check/ HTTP/1.1"),
    "a path with two slashes": request(begin="POST //check HTTP/1.1"),
    "a path with a dot": request(begin="POST /./check HTTP/1.1"),
    "a path with two dots": request(begin="POST /x/../check HTTP/1.1"),
    "a path in percents": request(begin="POST /%63heck HTTP/1.1"),
    "a path in capitals": request(begin="POST /CHECK HTTP/1.1"),
    "a path that goes on": request(begin="POST /access/v1/evaluationsx HTTP/1.1"),
    "the absolute form": request(begin="POST http://localhost/check HTTP/1.1"),
    "the absolute form of elsewhere": request(begin="POST http://evil.example/check HTTP/1.1"),
    "an asterisk": request(begin="POST * HTTP/1.1"),
    "no path": request(begin="POST HTTP/1.1"),
    "two spaces": request(begin="POST  /check HTTP/1.1"),
    "a space behind the version": request(begin="POST /check HTTP/1.1 "),
    "tabs between": request(begin="POST\t/check\tHTTP/1.1"),
    "a method in small letters": request(begin="post /check HTTP/1.1"),
    "a method that nobody knows": request(begin="FROB /check HTTP/1.1"),
    "GET": request(begin="GET /check HTTP/1.1"),
    "HEAD": request(b"", begin="HEAD /check HTTP/1.1", length=None),
    "PUT": request(begin="PUT /check HTTP/1.1"),
    "OPTIONS": request(b"", begin="OPTIONS /check HTTP/1.1", length=None),
    "CONNECT": request(b"", begin="CONNECT localhost:443 HTTP/1.1", length=None),
    "HTTP/1.0": request(begin="POST /check HTTP/1.0"),
    "HTTP/1.0, kept alive": request(ANN, "Connection: keep-alive", begin="POST /check HTTP/1.0"),
    "HTTP/1.2": request(begin="POST /check HTTP/1.2"),
    "HTTP/0.9": request(begin="POST /check"),
    "HTTP/2.0": request(begin="POST /check HTTP/2.0"),
    "HTTP/3.0": request(begin="POST /check HTTP/3.0"),
    "HTTP/11": request(begin="POST /check HTTP/11"),
    "http/1.1": request(begin="POST /check http/1.1"),
    "HTTP/2's beginning": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "TLS": b"\x16\x03\x01\x02\x00\x01\xff\r\n\r\n",
    # what is asked of the connection, the body, the server
    "the last one": request(ANN, "Connection: close"),
    "the last one in capitals": request(ANN, "CONNECTION: CLOSE"),
    "two wishes": request(ANN, "Connection: keep-alive, close"),
    "two wishes apart": request(ANN, "Connection: keep-alive", "Connection: close"),
    "a header that is for one hop": request(ANN, "Connection: keep-alive, x-request-id", "X-Request-ID: r-1"),
    "an old wish": request(ANN, "Proxy-Connection: close"),
    "Keep-Alive": request(ANN, "Keep-Alive: timeout=5"),
    "a wish to go on": request(ANN, "Expect: 100-continue"),
    "a wish for the moon": request(ANN, "Expect: the-moon"),
    "an upgrade to a socket": request(b"", "Connection: Upgrade", "Upgrade: websocket", "Sec-WebSocket-Version: 13"),
    "an upgrade that nobody announced": request(ANN, "Upgrade: websocket"),
    "gzip": request(b"\x1f\x8b\x08\x00", "Content-Encoding: gzip"),
    "as it is": request(ANN, "Content-Encoding: identity"),
    "ranges": request(ANN, "Range: bytes=0-3"),
    "trailers": request(ANN, "TE: trailers", "Trailer: X-A"),
    "another type": request(base=(HOST, "Content-Type: text/plain")),
    "no type": request(base=(HOST,)),
    "two types": request(ANN, "Content-Type: application/json"),
    "another charset": request(base=(HOST, "Content-Type: application/json; charset=latin-1")),
    "a type with a parameter": request(base=(HOST, 'Content-Type: application/json; profile="x"')),
    "a type that only begins so": request(base=(HOST, "Content-Type: application/jsonx")),
    "a type of two": request(base=(HOST, "Content-Type: application/json, text/plain")),
    "no Host": request(base=(JSON,)),
    "two Hosts": request(ANN, "Host: localhost"),
    "two Hosts, one of elsewhere": request(ANN, "Host: evil.example"),
    "an empty Host": request(base=("Host:", JSON)),
    "a Host with space behind": request(base=("Host: localhost ", JSON)),
    "a Host behind a tab": request(base=("Host:\tlocalhost", JSON)),
    "a request id behind a tab": request(ANN, "X-Request-ID:\tr-1"),
    "two request ids": request(ANN, "X-Request-ID: r-1", "x-request-id: r-2"),
    "an empty request id": request(ANN, "X-Request-ID:"),
    "a request id beyond ASCII": request(ANN, "X-Request-ID: \xe9"),
    "two authorizations": request(ANN, "Authorization: Bearer a", "Authorization: Bearer b"),
    "two lists of tokens": request(ANN, "Bylaw-At-Least: a", "Bylaw-At-Least: b"),
    "too large": request(padded(MAX_BODY + 1)),
    # elsewhere
    "health": request(b"", begin="GET /health HTTP/1.1", length=None),
    "ready": request(b"", begin="GET /ready HTTP/1.1", length=None),
    "nothing there": request(begin="POST /nothing HTTP/1.1"),
    "an explanation": request(begin="POST /explain HTTP/1.1"),
    "metadata": request(b"", begin="GET /.well-known/authzen-configuration HTTP/1.1", length=None),
}  # fmt: skip


def asked(
    target: str = "/projects/p1", *fields: str, method: str = "GET", base: Iterable[str] = ("Host: api.example",)
) -> bytes:
    """Write what Envoy asks: a good question, but for what is changed."""
    return request(b"", *fields, begin=f"{method} /envoy{target} HTTP/1.1", base=base, length=None)


_FAST_ENVOY: Final[dict[str, bytes]] = {
    "Envoy": asked(),
    "Envoy, of what is public": asked("/healthz"),
    "Envoy, of what is public, with a request id": asked("/healthz", "x-request-id: e-1"),
    "Envoy, with a request id": asked("/projects/p1", "x-request-id: e-1"),
    "Envoy, with two request ids": asked("/projects/p1", "x-request-id: e-1", "x-request-id: e-2"),
    "Envoy, no body": asked("/projects", "Content-Length: 0", method="POST"),
    "Envoy, kept alive": asked("/healthz", "Connection: keep-alive"),
    "Envoy, a query": asked("/healthz?a=b&c"),
    "Envoy, a fragment": asked("/healthz#a"),
    "Envoy, percents": asked("/projects/%2e%2e/healthz"),
    "Envoy, dots": asked("/projects/../healthz"),
    "Envoy, dots to elsewhere": asked("/../check"),
    "Envoy, two slashes": asked("//healthz"),
    "Envoy, a slash": asked("/"),
    "Envoy, an exclamation mark": asked("/healthz!"),
    "Envoy, a token that is none": asked("/healthz", "Authorization: Bearer a"),
    "Envoy, another scheme": asked("/healthz", "Authorization: Basic YTpi"),
    "Envoy, two tokens": asked("/healthz", "Authorization: Bearer a", "authorization: Bearer b"),
    "Envoy, a caller's key": asked("/healthz", "bylaw-caller-key: a"),
    "Envoy, forged headers": asked("/healthz", "X-Bylaw-Subject: user:olga", "x-bylaw-other: a", "X-BYLAW-OTHER: b"),
    "Envoy, forwarded": asked("/healthz", "X-Forwarded-For: 203.0.113.9, 198.51.100.7", "x-forwarded-for: 10.0.0.1"),
    "Envoy, any header": asked(
        "/healthz", "Range: bytes=0-3", "If-Match: a", "Content-Type: text/plain", "Sec-CH-UA: a"
    ),
    "Envoy, marks in a path": asked("/a\"<>[]^`{|}'();:@&=+$,~*b"),
    "Envoy, a backslash": asked("/projects\\p1"),
    "Envoy, PUT": asked(method="PUT"),
    "Envoy, DELETE": asked("/projects/p1/tasks/t1", method="DELETE"),
    "Envoy, OPTIONS": asked(method="OPTIONS"),
    "Envoy, as many headers as there may be": asked("/healthz", *(f"X-{n}: 1" for n in range(127))),
}
_SLOW_ENVOY: Final[dict[str, bytes]] = {
    "Envoy, one header more": asked("/healthz", *(f"X-{n}: 1" for n in range(128))),
    "Envoy, HEAD": asked(method="HEAD"),
    "Envoy, HEAD of what is public": asked("/healthz", method="HEAD"),
    "Envoy, CONNECT": asked(method="CONNECT"),
    "Envoy, a method that nobody knows": asked(method="FROB"),
    "Envoy, a long method": asked(method="X" * 17),
    "Envoy, a method in small letters": asked(method="get"),
    "Envoy, a body": request(b"xyz", begin="POST /envoy/projects HTTP/1.1"),
    "Envoy, a request for a body": request(request(), begin="POST /envoy/projects HTTP/1.1"),
    "Envoy, chunks": request(b"0\r\n\r\n", "Transfer-Encoding: chunked", begin="POST /envoy/a HTTP/1.1", length=None),
    "Envoy, a length of zeros": asked("/healthz", "Content-Length: 00"),
    "Envoy, a length of nothing": asked("/healthz", "Content-Length:"),
    "Envoy, two lengths": asked("/healthz", "Content-Length: 0", "content-length: 0"),
    "Envoy, a wish to go on": asked("/healthz", "Expect: 100-continue", "Content-Length: 0"),
    "Envoy, the last one": asked("/healthz", "Connection: close"),
    "Envoy, an upgrade to a socket": asked("/healthz", "Connection: Upgrade", "Upgrade: websocket"),
    "Envoy, no Host": asked("/healthz", base=()),
    "Envoy, two Hosts": asked("/healthz", "Host: b"),
    "Envoy, two types": asked("/healthz", "Content-Type: a", "Content-Type: b"),
    "Envoy, two agents": asked("/healthz", "User-Agent: a", "user-agent: b"),
    "Envoy, two tags": asked("/healthz", "ETag: a", "etag: b"),
    "Envoy, an old socket": asked("/healthz", "Sec-WebSocket-Key1: a"),
    "Envoy, underlines": asked("/healthz", "X_Bylaw_Subject: user:olga"),
    "Envoy, bytes beyond ASCII": asked("/healthz\xff"),
    "Envoy, bytes beyond ASCII in a value": asked("/healthz", "X-A: \xff"),
    "Envoy, no slash": asked(""),
    "Envoy, no slash behind": asked("healthz"),
    "Envoy, capitals": request(b"", begin="GET /ENVOY/healthz HTTP/1.1", length=None),
    "Envoy, percents in front": request(b"", begin="GET /%65nvoy/healthz HTTP/1.1", length=None),
    "Envoy, HTTP/1.0": request(b"", begin="GET /envoy/healthz HTTP/1.0", length=None),
    "Envoy, the absolute form": request(b"", begin="GET http://a/envoy/healthz HTTP/1.1", length=None),
    "Envoy, bare LF": asked("/healthz").replace(b"\r\n", b"\n"),
    "Envoy, bare CR": asked("/healthz").replace(b"\r\n", b"\r"),
    "Envoy, a tab": asked("/healthz").replace(b" HTTP", b"\tHTTP"),
    "junk": b"\x16\x03\x01",
    "junk without an end": b"(" * 100,
}  # fmt: skip

#: Whole requests.
BATTERY: Final = tuple(
    Sent(name, raw, is_fast)
    for found, is_fast in (
        ({name: request(body, begin=f"POST {path} HTTP/1.1") for name, (path, body) in _BODIES.items()}, True),
        (_FAST_HEADS, True),
        (_SLOW_HEADS, False),
        (_FAST_ENVOY, True),
        (_SLOW_ENVOY, False),
    )
    for name, raw in found.items()
)
#: An upgrade that is declined: aiohttp loses what came along with it, and reads on in the middle of what follows.
DECLINED: Final = request(ANN, "Connection: Upgrade", "Upgrade: h2c")
