"""Header blocks: the examples of RFC 7541, what is malformed, what is remembered, and a good library beside it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

import hpack as library
import pytest
from hypothesis import given
from hypothesis import strategies as st

from sidecar import hpack
from sidecar.hpack import Block, Decoder, HpackError, expand, read_number
from tests.sidecar.test_identity import UNHURRIED

REQUEST: Final = [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "www.example.com")]
SECURE: Final = [
    (":method", "GET"), (":scheme", "https"), (":path", "/index.html"), (":authority", "www.example.com"),
    ("custom-key", "custom-value"),
]  # fmt: skip
#: Appendix C.3 and C.4: three requests of one connection, without Huffman's code and with it.
REQUESTS: Final = [REQUEST, [*REQUEST, ("cache-control", "no-cache")], SECURE]
PLAIN: Final = (
    "828684410f7777772e6578616d706c652e636f6d",
    "828684be58086e6f2d6361636865",
    "828785bf400a637573746f6d2d6b65790c637573746f6d2d76616c7565",
)
CODED: Final = (
    "828684418cf1e3c2e5f23a6ba0ab90f4ff",
    "828684be5886a8eb10649cbf",
    "828785bf408825a849e95ba97d7f8925a849e95bb8e8b4bf",
)
#: Appendix C.2: one field each.
SINGLE: Final = {
    "with indexing": ("400a637573746f6d2d6b65790d637573746f6d2d686561646572", ("custom-key", "custom-header")),
    "without indexing": ("040c2f73616d706c652f70617468", (":path", "/sample/path")),
    "never indexed": ("100870617373776f726406736563726574", ("password", "secret")),
    "indexed": ("82", (":method", "GET")),
}
#: What Envoy 1.40 sends with a check, and with each after it.
FIRST: Final = bytes.fromhex(
    "83049f60b5773fa5d05b3b98855c76a675fbb2bc36a673d86f63498f5317a7293aff41848fd503f18640027465864d833505b11f40899acac8"
    "b24d494f6a7f8310014f5f8b1d75d0620d263d4c4d6564408cf2b16aee7f4b1aa496ca8747834d9697408bf2b4a7b3c0ec90b22d29ec870be2"
    "5c0b89717f4096f2b16aee7f4b17cd65224b22d6765926a4a7b52b528f821001"
)
LATER: Final = bytes.fromhex("83049f60b5773fa5d05b3b98855c76a675fbb2bc36a673d86f63498f5317a7293affc486c3c2c1c0bfbe")


def fields_of(decoder: Decoder, written: bytes) -> list[tuple[str, str]]:
    return list(decoder.decode(written).fields)


# --- examples ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("written", "field"), SINGLE.values(), ids=SINGLE)
def test_single_fields(written: str, field: tuple[str, str]) -> None:
    """A field is read in each way that there is to write it."""
    assert fields_of(Decoder(), bytes.fromhex(written)) == [field]


@pytest.mark.parametrize("written", [PLAIN, CODED], ids=["plain", "coded"])
def test_requests(written: Sequence[str]) -> None:
    """Blocks of one connection build on those before, as the RFC's examples have it."""
    decoder = Decoder()

    assert [fields_of(decoder, bytes.fromhex(each)) for each in written] == REQUESTS


def test_the_table_lets_go_of_the_oldest() -> None:
    """A field for which there is no room takes the place of the oldest, as in the RFC's appendix C.5."""
    decoder = Decoder()
    decoder.decode(bytes.fromhex("3fe101"))  # 256 bytes
    first = decoder.decode(
        bytes.fromhex(
            "4803333032580770726976617465611d4d6f6e2c203231204f637420323031332032303a31333a323120474d54"
            "6e1768747470733a2f2f7777772e6578616d706c652e636f6d"
        )
    )
    second = decoder.decode(bytes.fromhex("4803333037c1c0bf"))

    assert first.fields[0] == (":status", "302")
    assert second.fields == ((":status", "307"), *first.fields[1:])
    with pytest.raises(HpackError):
        decoder.decode(b"\xc2")  # `:status: 302` was here


def test_what_envoy_sends() -> None:
    """Envoy's block is short from the second check on, and says the same."""
    decoder = Decoder()

    first, later = fields_of(decoder, FIRST), fields_of(decoder, LATER)

    assert first == later
    assert dict(first)[":path"] == "/envoy.service.auth.v3.Authorization/Check"
    assert dict(first)["te"] == "trailers"


def test_a_field_larger_than_the_table() -> None:
    """A field that has no room empties the table, and is read all the same."""
    decoder = Decoder()
    decoder.decode(bytes.fromhex(PLAIN[0]))

    block = decoder.decode(b"\x40\x01a\x7f\x81\x3f" + b"v" * 8192)

    assert [len(value) for _, value in block.fields] == [8192]
    with pytest.raises(HpackError):
        decoder.decode(b"\xbe")


# --- malformed --------------------------------------------------------------------------------------------------------

MALFORMED: Final = {
    "number zero": "80",
    "beyond the tables": "be",
    "a name beyond the tables": "7f0001" + "61",
    "a number that does not end": "ff",
    "a number that goes on": "ff80808080808000",
    "a number that is too large": "ffffffffffff7f",
    "no name": "40",
    "no value": "400161",
    "a name cut off": "400561",
    "a value cut off": "40016105" + "61",
    "the end as a symbol": "40016184ffffffff",
    "eight bits of padding": "400161" + "83" + "1fff" + "ff",
    "padding of zeros": "400161" + "81" + "18",
    "the table grows too large": "3fe21f",
    "the table is resized behind a field": "8220",
}


@pytest.mark.parametrize("written", MALFORMED.values(), ids=MALFORMED)
def test_malformed_blocks(written: str) -> None:
    """What the RFC calls an error is one."""
    with pytest.raises(HpackError):
        Decoder().decode(bytes.fromhex(written))


def test_resizing() -> None:
    """At its start a block may shrink the table and let it grow again, whereby it is emptied."""
    decoder = Decoder()
    decoder.decode(bytes.fromhex(PLAIN[0]))

    block = decoder.decode(b"\x20\x3f\xe1\x1f\x82")

    assert block.fields == ((":method", "GET"),)
    with pytest.raises(HpackError):
        decoder.decode(b"\xbe")


@UNHURRIED
@given(st.lists(st.binary(max_size=60)))
def test_any_bytes(blocks: list[bytes]) -> None:
    """Any bytes are fields, or malformed, and the table is never larger than it may be."""
    decoder = Decoder()
    for written in blocks:
        try:
            decoder.decode(written)
        except HpackError:
            break

    assert 0 <= decoder._size == sum(len(name) + len(value) + 32 for name, value in decoder._table) <= 4096


def test_numbers() -> None:
    """Numbers are read as the RFC's appendix C.1 has it."""
    assert read_number(b"\xea", 0, 5) == (10, 1)
    assert read_number(b"\x1f\x9a\x0a", 0, 5) == (1337, 3)
    assert read_number(b"\x2a", 0, 8) == (42, 1)


def test_every_symbol() -> None:
    """Each byte has its code, and no code begins another."""
    codes = dict(hpack._codes())
    assert sorted(codes.values()) == list(range(256))
    for code, symbol in codes.items():
        bits = code + "1" * (-len(code) % 8)
        assert expand(int(bits, 2).to_bytes(len(bits) // 8, "big")) == bytes([symbol])


# --- amounts ----------------------------------------------------------------------------------------------------------


def test_a_block_that_is_too_large() -> None:
    """Of a block that unfolds too far its beginning is kept; the next are read as if nothing had been."""
    decoder = Decoder()
    decoder.decode(b"\x40\x01a\x7f\xa1\x17" + b"v" * 3104)

    block = decoder.decode(b"\x82" + 60 * b"\xbe" + b"\x40\x01b\x01c")

    assert not block.is_whole
    assert block.fields[0] == (":method", "GET")
    assert sum(len(name) + len(value) + 32 for name, value in block.fields) <= hpack.MAX_SIZE
    assert decoder.decode(b"\xbe") == Block((("b", "c"),))


def test_too_many_fields() -> None:
    """A block cannot have more fields than anybody has."""
    with pytest.raises(HpackError, match="more than 4096 fields"):
        Decoder().decode(b"\x82" * 20_000)


# --- what is remembered -----------------------------------------------------------------------------------------------


def test_the_same_bytes_may_mean_something_else() -> None:
    """What a block means is remembered only until the table changes."""
    decoder = Decoder()
    decoder.decode(b"\x40\x01a\x01b")
    before = [decoder.decode(b"\xbe") for _ in range(3)]
    decoder.decode(b"\x40\x01a\x01c")
    after = [decoder.decode(b"\xbe") for _ in range(3)]

    assert before == [Block((("a", "b"),))] * 3
    assert after == [Block((("a", "c"),))] * 3


def test_a_block_that_changes_the_table_is_read_each_time() -> None:
    """A block that adds a field adds it each time that it comes."""
    decoder = Decoder()
    adding = b"\x40\x01a\x01b\xbe"
    for _ in range(3):
        decoder.decode(adding)

    assert decoder.decode(b"\xbe\xbf\xc0").fields == (("a", "b"),) * 3


def test_nothing_grows() -> None:
    """However many blocks differ, few are remembered, and no long ones."""
    decoder = Decoder()
    for number in range(1000):
        decoder.decode(b"\x00\x01a\x04%04d" % number)
    decoder.decode(b"\x82" * 2000)

    assert len(decoder._known) <= hpack.MAX_KNOWN
    assert max(map(len, decoder._known)) <= hpack.MAX_KNOWN_SIZE


# --- beside a library -------------------------------------------------------------------------------------------------

NAMES: Final = st.sampled_from(["a", "te", ":path", "x-long-name", "content-type"])
FIELDS: Final = st.lists(st.tuples(NAMES, st.text(st.characters(max_codepoint=255), max_size=80), st.booleans()))


@UNHURRIED
@given(st.lists(st.tuples(FIELDS, st.booleans(), st.sampled_from([None, 0, 100, 4096]))))
def test_as_a_library_writes_it(blocks: list[tuple[list[tuple[str, str, bool]], bool, int | None]]) -> None:
    """What a library writes over one connection reads as it was, whatever it adds to the table or never adds."""
    encoder, decoder = library.Encoder(), Decoder()
    for fields, is_coded, size in blocks:
        if size is not None:
            encoder.header_table_size = size
        pairs = [(name, value) for name, value, _ in fields]
        said = [(name.encode(), value.encode("latin-1"), is_secret) for name, value, is_secret in fields]

        assert fields_of(decoder, encoder.encode(said, huffman=is_coded)) == pairs


@UNHURRIED
@given(st.lists(st.binary(max_size=40), max_size=5))
def test_as_a_library_reads_it(blocks: list[bytes]) -> None:
    """Of any bytes a library reads the same; what it refuses is refused here."""
    theirs, ours = library.Decoder(), Decoder()
    for written in blocks:
        try:
            expected = [
                (name.decode("latin-1"), value.decode("latin-1")) for name, value in theirs.decode(written, raw=True)
            ]
        except library.HPACKError:
            with pytest.raises(HpackError):
                ours.decode(written)
            break
        try:
            found = fields_of(ours, written)
        except HpackError:
            break  # a number that is longer than any that means something
        assert found == expected
