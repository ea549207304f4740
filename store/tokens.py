"""Tokens: a state of the facts by name, as `Bylaw-Revision` and `Bylaw-At-Least` carry it.

A token names the store, the line of history it is on, and how far each stream was: p, g, and t of one tenant, of which
it holds only a digest, so that it is short and tells nobody a name. It is opaque, and no secret: the check bytes tell a
slip of the pen, not a forger, who would gain nothing.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import struct
from dataclasses import dataclass

_VERSION = 1
_HEAD = struct.Struct(">B16s8s")
_CHECK = 4
_TENANT = 8
MAX_TOKEN = 200


@dataclass(frozen=True, slots=True)
class Line:
    """A line of history. Numbers of revisions compare only along one.

    Attributes:
        store: uuid of the store, 32 hex digits.
        timeline: what else tells one history from another: of PostgreSQL, 8 hex digits of the cluster's digest and the
            8 of its timeline, which grows when a server takes over from another.
    """

    store: str
    timeline: str = "0" * 16

    def took_over_from(self, other: Line) -> bool:
        """Say whether this line went on where another of the same cluster ended."""
        is_near = self.store == other.store and self.timeline[:8] == other.timeline[:8]
        return is_near and self.timeline > other.timeline


@dataclass(frozen=True, slots=True)
class Token:
    """A state of the facts: revisions `p` and `g`, and `t` of the tenant whose digest is `tenant`, if any."""

    line: Line
    p: int
    g: int
    tenant: bytes | None = None
    t: int = 0

    def __str__(self) -> str:
        parts = [_HEAD.pack(_VERSION, bytes.fromhex(self.line.store), bytes.fromhex(self.line.timeline))]
        parts += [_varint(self.p), _varint(self.g)]
        if self.tenant is not None:
            parts += [_varint(self.t), self.tenant]
        body = b"".join(parts)
        return base64.urlsafe_b64encode(body + _check(body)).decode().rstrip("=")

    @classmethod
    def parse(cls, text: str) -> Token:
        """Read a token.

        Raises:
            ValueError: it is none.
        """
        if len(text) > MAX_TOKEN:
            raise ValueError("too long for a revision token")
        try:
            raw = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True)
        except (binascii.Error, ValueError) as error:
            raise ValueError("no revision token") from error
        body, check = raw[:-_CHECK], raw[-_CHECK:]
        if len(body) < _HEAD.size + 2 or check != _check(body) or body[0] != _VERSION:
            raise ValueError("no revision token")
        _, store, timeline = _HEAD.unpack_from(body)
        p, at = _read_varint(body, _HEAD.size)
        g, at = _read_varint(body, at)
        line = Line(store.hex(), timeline.hex())
        if at == len(body):
            return cls(line, p, g)
        t, at = _read_varint(body, at)
        if len(body) - at != _TENANT:
            raise ValueError("no revision token")
        return cls(line, p, g, body[at:], t)


def tenant_digest(tenant: str) -> bytes:
    """Stand in for a tenant's id in a token."""
    return hashlib.sha256(tenant.encode()).digest()[:_TENANT]


def _check(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECK]


def _varint(number: int) -> bytes:
    found = bytearray()
    while number >= 0x80:
        found.append(number & 0x7F | 0x80)
        number >>= 7
    found.append(number)
    return bytes(found)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    number = shift = 0
    while True:
        if at >= len(data) or shift > 63:
            raise ValueError("no revision token")
        byte = data[at]
        at += 1
        number |= (byte & 0x7F) << shift
        if byte < 0x80:
            return number, at
        shift += 7
