"""Header blocks of HTTP/2 as they come (HPACK, RFC 7541): bytes in, names and values out.

Own code, though there is a good library, by the figure: of Envoy's ten headers `hpack` makes 36 to 51 µs, half of what
a whole check may cost, and this makes 7. It is decoded only: what is sent is made of constants, which need no table.

A decoder remembers blocks. What it holds: the fields of a block. Why: Envoy sends the same one with each check. Key:
its exact bytes. What they mean depends on the dynamic table, so nothing is remembered of a block that changes it, and
whatever changes it forgets them all. Bounded by `MAX_KNOWN`, then begun anew. Example: the 42 bytes by which Envoy asks
for a check a second time.

Values are text as Latin-1 has it: a character is a byte.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from typing import Final, NamedTuple

from sidecar.hpack_table import STATIC, SYMBOLS

#: Of the dynamic table, in bytes as the RFC counts them: what HTTP/2 has where nothing else is agreed.
TABLE_SIZE: Final = 4096
#: Most of a block that is kept, counted in the same way, and the most fields that one may have.
MAX_SIZE: Final = 128 * 1024
MAX_FIELDS: Final = 4096
#: Blocks that are remembered, and how long one may be.
MAX_KNOWN: Final = 64
MAX_KNOWN_SIZE: Final = 1024

#: What the RFC adds to the length of a field.
_OVERHEAD: Final = 32
#: Numbers have at most so many bytes beyond the first: more than any that means something here.
_MAX_BYTES: Final = 4

Field = tuple[str, str]


class HpackError(Exception):
    """A block is malformed, so that nobody knows what the following mean."""


class Block(NamedTuple):
    """The fields of a block, in order. `is_whole`: none of them was left out, since it is too large."""

    fields: tuple[Field, ...]
    is_whole: bool = True


class Decoder:
    """Reads the blocks of one connection, in order."""

    def __init__(self) -> None:
        self._table: deque[Field] = deque()  # the newest first
        self._size = 0
        self._most = TABLE_SIZE
        self._known: dict[bytes, Block] = {}

    def decode(self, written: bytes) -> Block:
        """Read a block.

        Raises:
            HpackError: it is malformed, or has too many fields.
        """
        return self._known.get(written) or self._decode(written)

    def _decode(self, written: bytes) -> Block:
        known = self._known
        fields: list[Field] = []
        size = 0
        for place, field in enumerate(self._fields(written)):
            size += len(field[0]) + len(field[1]) + _OVERHEAD
            if size <= MAX_SIZE:
                fields.append(field)
            elif place >= MAX_FIELDS:
                raise HpackError(f"a block has more than {MAX_FIELDS} fields")
        block = Block(tuple(fields), size <= MAX_SIZE)
        if self._known is known and len(written) <= MAX_KNOWN_SIZE:  # the table is as it was
            if len(known) >= MAX_KNOWN:
                known.clear()
            known[written] = block
        return block

    def _fields(self, written: bytes) -> Iterator[Field]:
        at = 0
        may_resize = True
        while at < len(written):
            first = written[at]
            if first & 0x80:
                index, at = read_number(written, at, 7)
                yield self._field(index)
            elif first & 0xE0 == 0x20:
                most, at = read_number(written, at, 5)
                if not may_resize or most > TABLE_SIZE:
                    raise HpackError("the size of the table is changed where or to what it may not be")
                self._resize(most)
                continue
            else:
                is_added = bool(first & 0x40)
                index, at = read_number(written, at, 6 if is_added else 4)
                name, at = (self._field(index)[0], at) if index else read_text(written, at)
                value, at = read_text(written, at)
                if is_added:
                    self._add((name, value))
                yield name, value
            may_resize = False

    def _field(self, index: int) -> Field:
        if 0 < index <= len(STATIC):
            return STATIC[index - 1]
        if not len(STATIC) < index <= len(STATIC) + len(self._table):
            raise HpackError(f"there is no field {index}")
        return self._table[index - len(STATIC) - 1]

    def _add(self, field: Field) -> None:
        """Add a field, for which older ones make room; one that is larger than the table empties it."""
        self._known = {}
        size = len(field[0]) + len(field[1]) + _OVERHEAD
        self._shrink(self._most - size)
        if size <= self._most:
            self._table.appendleft(field)
            self._size += size

    def _resize(self, most: int) -> None:
        self._known = {}
        self._most = most
        self._shrink(most)

    def _shrink(self, most: int) -> None:
        while self._table and self._size > most:
            name, value = self._table.pop()
            self._size -= len(name) + len(value) + _OVERHEAD


def read_number(written: bytes, at: int, bits: int) -> tuple[int, int]:
    """Read a number that begins with the last bits of a byte; return it, and where it ends.

    >>> read_number(bytes([0b11111, 0b10011010, 0b00001010]), 0, 5)
    (1337, 3)
    """
    most = (1 << bits) - 1
    number = written[at] & most
    at += 1
    if number < most:
        return number, at
    for place, byte in enumerate(written[at : at + _MAX_BYTES]):
        number += (byte & 0x7F) << 7 * place
        if byte < 0x80:
            return number, at + place + 1
    raise HpackError("a number does not end, or is too large")


def read_text(written: bytes, at: int) -> tuple[str, int]:
    """Read a string; return it, and where it ends."""
    if at >= len(written):
        raise HpackError("a block ends within a field")
    is_coded = written[at] >= 0x80
    length, at = read_number(written, at, 7)
    ends = at + length
    if ends > len(written):
        raise HpackError("a block ends within a field")
    text = written[at:ends]
    return (expand(text) if is_coded else text).decode("latin-1"), ends


# --- Huffman's code ---------------------------------------------------------------------------------------------------


def expand(coded: bytes) -> bytes:
    """Decode a string, four bits at a time.

    Raises:
        HpackError: it does not end in one to seven bits of ones, or holds the end of a string as a symbol.
    """
    read = bytearray()
    state = _BEGIN
    for byte in coded:
        state, symbol = _MOVES[state + (byte >> 4)]
        if symbol is not None:
            read.append(symbol)
        state, symbol = _MOVES[state + (byte & 15)]
        if symbol is not None:
            read.append(symbol)
    if state not in _ENDS:
        raise HpackError("a string does not end as it must")
    return bytes(read)


def _codes() -> Iterator[tuple[str, int]]:
    """Give each code as ones and zeros, with its symbol."""
    code = before = 0
    for bits, symbols in SYMBOLS.items():
        code <<= bits - before
        before = bits
        for symbol in symbols:
            yield f"{code:0{bits}b}", symbol
            code += 1


def _machine() -> tuple[int, list[tuple[int, int | None]], frozenset[int]]:
    """Make a table of moves: by a state, which is what was read of a symbol, and the next four bits, the next state and
    the symbol that they end, if they do. Also return where it begins, and where a string may end."""
    codes = dict(_codes())
    begun = sorted(
        {code[:length] for code in codes for length in range(len(code))} | {"1" * length for length in range(30)}
    )
    places = {prefix: 16 * place for place, prefix in enumerate(begun)}
    dead = 16 * len(begun)  # the end of a string was read: nothing leads on from there
    moves: list[tuple[int, int | None]] = []
    for prefix in begun:
        for step in range(16):
            bits, symbol = prefix + f"{step:04b}", None
            for length in range(len(prefix) + 1, len(bits) + 1):
                if bits[:length] in codes:
                    bits, symbol = bits[length:], codes[bits[:length]]
                    break
            moves.append((places.get(bits, dead), symbol))
    moves += [(dead, None)] * 16
    return places[""], moves, frozenset(places["1" * length] for length in range(8))


_BEGIN, _MOVES, _ENDS = _machine()
