"""The laws of two lanes, each a function that says how it is broken, or None. Tests try some, the siege tries many.

`in_turn`: requests that share a connection are answered as each alone would be, by aiohttp, up to the first after which
it is closed. `read_alike`: what has been tampered with is the same question in both lanes and has the same answer; and
it ends at the same byte, which shows in the answer to the request behind it.

aiohttp loses answers that it owes where a piece that it reads turns out to be no HTTP further on: it says 400 to all of
it. So what it is to refuse is sent when all before is answered; and where that is not known, it is asked byte by byte.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final, NamedTuple

from tests.sidecar.conftest import ANN
from tests.sidecar.lanes.answers import Answer, Said, read_answers
from tests.sidecar.lanes.battery import BATTERY, Sent, request
from tests.sidecar.lanes.wires import Lanes, heard, settle

Alone = Mapping[str, Said]
FOLLOWER: Final = request(ANN, "X-Request-ID: the one behind")


class Edit(NamedTuple):
    """A change of a head: where, how many bytes go, and what comes. Even places are its seams, odd ones its bytes."""

    place: int
    gone: int
    come: bytes


#: What parsers have quarrelled about, and what means nothing at all.
MORSELS: Final = (
    b"", b"\r", b"\n", b"\r\n", b"\r\n\r\n", b"\n\n", b" ", b"  ", b"\t", b"\x0b", b"\x00", b"\x7f", b"\x85", b"\xa0",
    b"\xff", b":", b",", b";", b"/", b"//", b"?", b"#", b"%", b"_", b"+", b"-", b".", b"0", b"1", b"9", b"a", b"X",
    b'"', b"\r\nx-a:b", b"\r\nX-Request-ID: w w", b"\r\nConnection: keep-alive", b"\r\nAccept: */*",
    b"\r\n ", b"\r\n\t", b"\r\nX: y", b"\nX: y", b"\r\nTransfer-Encoding: chunked", b"\r\nTransfer-Encoding : chunked",
    b"\r\nContent-Length: 0", b"\r\nContent-Length: 5", b"\r\ncontent-length:1", b"\r\nConnection: close",
    b"\r\nHost: evil", b"\r\nExpect: 100-continue", b"\r\nUpgrade: websocket", b"\r\nContent-Encoding: gzip",
    b"\r\nContent-Type: text/plain", b"\r\nX-Request-ID: z", b"\r\nKeep-Alive: 1", b"POST ", b"GET ", b"HTTP/1.0",
    b" HTTP/1.1", b"x",
)  # fmt: skip
#: What leaves most heads good.
MILD: Final = (b"x", b"-", b"0", b" ", b";", b"\r\nX-D: y", b"\r\nx-d:", b"\r\nAccept-Language: en")
#: What is tampered with: requests for the fast lane, with some headers more in which nothing matters.
BASES: Final = tuple(
    sent.raw.replace(b"\r\n\r\n", b"\r\nX-A: b c\r\nx-b:d\r\nAccept: */*\r\nX-C-D: e, f; g\r\n\r\n", 1)
    for sent in BATTERY
    if sent.is_fast and len(sent.raw) < 1000
)
_SEAMS: Final = re.compile(rb"\r\n|: ?| |/")


async def each_alone(lanes: Lanes) -> Alone:
    """Ask aiohttp's lane everything, each on a connection of its own."""
    return {sent.name: (await lanes.ask_slow(sent.raw)).alike() for sent in BATTERY}


def pieces(raw: bytes, cuts: Sequence[int]) -> Iterator[bytes]:
    """Cut into pieces."""
    begins = sorted({0, *(cut % len(raw) for cut in cuts)})
    for begin, end in zip(begins, [*begins[1:], len(raw)], strict=True):
        yield raw[begin:end]


def bytewise(raw: bytes) -> Iterator[bytes]:
    """Cut into single bytes."""
    return (raw[at : at + 1] for at in range(len(raw)))


async def in_turn(
    lanes: Lanes, alone: Alone, sequence: Sequence[Sent], cuts: Sequence[int], tally: Counter[str] | None = None
) -> str | None:
    """Send requests over one connection, cut anywhere."""
    wire = lanes.fast()
    stretch = b""
    for sent in sequence:
        if not alone[sent.name].is_closed:
            stretch += sent.raw
            continue
        for piece in pieces(stretch, cuts) if stretch else ():
            wire.feed(piece)
        await settle(wire)
        stretch = b""
        for piece in pieces(sent.raw, cuts):
            wire.feed(piece)
        await settle(wire)
    for piece in pieces(stretch, cuts) if stretch else ():
        wire.feed(piece)
    said = (await heard(wire)).alike()
    if tally is not None:
        tally.update(sequences=1, requests=len(sequence), answers=len(said.answers))
    wanted = joined([alone[sent.name] for sent in sequence])
    return None if said == wanted else f"{[sent.name for sent in sequence]} cut at {cuts}: {said}, not {wanted}"


def joined(found: Sequence[Said]) -> Said:
    """Say what comes of requests in a row."""
    answers: tuple[Answer, ...] = ()
    for said in found:
        answers += said.answers
        if said.is_closed:
            return Said(answers, True)
    return Said(answers, False)


def tampered(raw: bytes, edits: Sequence[Edit]) -> bytes:
    """Change the head of a request."""
    head, mark, body = raw.partition(b"\r\n\r\n")
    changed = head + mark
    for place, gone, come in edits:
        seams = [each.start() + place // 2 % 3 for each in _SEAMS.finditer(changed)] or [0]
        at = place % (len(changed) + 1) if place % 2 else seams[place % len(seams)]
        changed = changed[:at] + come + changed[at + gone :]
    return changed + body


async def read_alike(lanes: Lanes, raw: bytes, tally: Counter[str] | None = None) -> str | None:
    """Send something, and a request behind it."""
    both = raw + FOLLOWER
    lanes.noted()
    slow, meant = (await lanes.ask_slow(*bytewise(both))).alike(), lanes.noted()
    fast, read = (await lanes.ask_fast(*bytewise(both))).alike(), lanes.noted()
    if (fast, read) != (slow, meant):
        return f"{raw!r} byte by byte: {fast} to {read}, not {slow} to {meant}"
    wire = lanes.fast()
    wire.feed(both)
    own = tuple(each.alike() for each in read_answers(bytes(wire.written)))
    whole, read = (await heard(wire)).alike(), lanes.noted()
    if tally is not None:
        tally.update(tampered=1, **{f"of them {'fast' if own else 'slow'}": 1})
    if own != slow.answers[: len(own)]:
        return f"{raw!r}: the fast lane said {own}, not {slow}"
    if wire.handed and own:
        return None
    wanted = slow if own else (await lanes.ask_slow(both)).alike()
    meant = meant if own else lanes.noted()
    return None if (whole, read) == (wanted, meant) else f"{raw!r} at once: {whole} to {read}, not {wanted} to {meant}"
