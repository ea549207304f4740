"""Personal data at rest: what was encrypted comes back in its own place, and nothing else does."""

from __future__ import annotations

import base64
import hashlib
import hmac
import traceback
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Final

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESGCM
from hypothesis import HealthCheck, assume, example, given, settings
from hypothesis import strategies as st

from admin.encryption import (
    MAX_EMAIL_BYTES,
    MAX_FILE_BYTES,
    MAX_PLAINTEXT_BYTES,
    DecryptionError,
    KeyRing,
    Place,
    generate_key_line,
    normalised,
    parse_key_ring,
    read_key_ring,
)
from engine import BylawError

#: A loaded machine is no finding.
UNHURRIED = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])


def key(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def line(key_id: str, secret: bytes | None = None) -> str:
    return f"{key_id}:{base64.b64encode(key(key_id) if secret is None else secret).decode()}"


def ring(*ids: str) -> KeyRing:
    return parse_key_ring("\n".join(map(line, (*ids, "index"))), place="the file")


def refused(text: str) -> str:
    """Return what is said of a key file that does not load."""
    with pytest.raises(BylawError) as caught:
        parse_key_ring(text, place="BYLAW_KEYS")
    assert caught.value.code == "bad_settings"
    return caught.value.message


def assert_refused(ring: KeyRing, stored: str, place: Place) -> None:
    with pytest.raises(DecryptionError) as caught:
        ring.decrypt(stored, place)
    assert str(caught.value) == "a stored value cannot be decrypted"
    assert caught.value.__context__ is None


def sealed_by_hand(plaintext: bytes, key_id: str, place: Place) -> str:
    """Write a stored value as the format has it, by other code than the product's."""
    nonce = bytes(range(12))
    parts = [f"v1.{key_id}.", place.tenant, place.table, place.column, *place.row]
    bound = b"\0\0\0\x0bbylaw field" + b"".join(len(each.encode()).to_bytes(4, "big") + each.encode() for each in parts)
    sealed = AESGCM(key(key_id)).encrypt(nonce, plaintext, bound)
    return f"v1.{key_id}.{base64.b64encode(nonce + sealed, b'-_').decode().strip('=')}"


RING: Final = ring("new", "old")
EMAIL: Final = Place("acme", "users", "email", ("user", "ann"))
#: Text with halves of pairs, and with all that might end a part too early.
TEXTS = st.text(st.one_of(st.sampled_from('\0\x01.:,"\\[]aé'), st.characters(exclude_categories=[])), max_size=30)
NAMES = st.text(
    st.one_of(st.sampled_from("\0\x01\x02.ab"), st.characters(exclude_categories=[])), min_size=1, max_size=3
)
#: What changes when it is folded or composed, and in what order.
LETTERS = st.text(st.one_of(st.sampled_from("iIİΣςẞßK\u0345\u0323\u0307 @."), st.characters()), max_size=8)
PLACES = st.builds(Place, st.just("") | NAMES, NAMES, NAMES, st.lists(NAMES, min_size=1, max_size=3).map(tuple))


# --- fields -------------------------------------------------------------------------------------------


@pytest.mark.property
@UNHURRIED
@given(TEXTS, PLACES)
def test_decrypting_what_was_encrypted_is_the_identity(text: str, place: Place) -> None:
    """Any text comes back in any place, from one line of ASCII."""
    stored = RING.encrypt(text, place)

    assert RING.decrypt(stored, place) == text
    assert stored.isascii()
    assert stored.isprintable()


def test_the_stored_form_stays() -> None:
    """What other code wrote after the format's description is read: values that are stored today are readable after any
    change."""
    stored = sealed_by_hand("Zoë Müller".encode(), "old", EMAIL)

    assert RING.decrypt(stored, EMAIL) == "Zoë Müller"


@pytest.mark.property
@UNHURRIED
@given(TEXTS)
def test_two_encryptions_differ(text: str) -> None:
    """The same text is never stored the same twice, nor under the same nonce."""
    one, other = (RING.encrypt(text, EMAIL).removeprefix("v1.new.") for _ in range(2))

    assert one[:16] != other[:16]
    assert one[16:] != other[16:]


def test_every_change_of_one_byte_is_refused() -> None:
    """Each byte of a stored value put to each other one, in the version and the key's id too, is refused."""
    stored = RING.encrypt("a", EMAIL)

    for index, character in enumerate(stored):
        for other in map(chr, range(256)):
            if other != character:
                assert_refused(RING, stored[:index] + other + stored[index + 1 :], EMAIL)


@pytest.mark.property
@UNHURRIED
@given(TEXTS, st.data())
def test_a_part_or_more_is_refused(text: str, data: st.DataObject) -> None:
    """A stored value that lost or won characters anywhere is refused."""
    stored = RING.encrypt(text, EMAIL)
    start = data.draw(st.integers(0, len(stored)))
    end = data.draw(st.integers(start, len(stored)))
    changed = stored[:start] + data.draw(st.text("vn1.A_-=\n", max_size=4)) + stored[end:]
    assume(changed != stored)

    assert_refused(RING, changed, EMAIL)


@pytest.mark.property
@UNHURRIED
@given(PLACES, PLACES)
@example(Place("a", "bc", "d", ("e",)), Place("ab", "c", "d", ("e",)))
@example(Place("a", "b", "c", ("d", "e")), Place("a", "b", "c", ("de",)))
@example(Place("", "a", "b", ("c", "d")), Place("a", "b", "c", ("d",)))
@example(Place("\ud83d\ude00", "a", "b", ("c",)), Place("\U0001f600", "a", "b", ("c",)))
def test_a_value_that_was_moved_is_refused(one: Place, other: Place) -> None:
    """What was encrypted for one place is refused in every other."""
    assume(one != other)

    assert_refused(RING, RING.encrypt("ann@example.org", one), other)


@pytest.mark.property
@UNHURRIED
@given(PLACES, st.data())
def test_one_other_character_of_a_place_is_refused(place: Place, data: st.DataObject) -> None:
    """A place that differs in one character of one part is another one."""
    parts = [place.tenant or "x", place.table, place.column, *place.row]
    place = replace(place, tenant=parts[0])
    part = data.draw(st.integers(0, len(parts) - 1))
    index = data.draw(st.integers(0, len(parts[part]) - 1))
    character = parts[part][index]
    other = data.draw(st.characters(exclude_categories=[], exclude_characters=character))
    parts[part] = parts[part][:index] + other + parts[part][index + 1 :]

    assert_refused(RING, RING.encrypt("a", place), Place(parts[0], parts[1], parts[2], tuple(parts[3:])))


MOVED = {
    "tenant": replace(EMAIL, tenant="globex"),
    "no tenant": replace(EMAIL, tenant=""),
    "table": replace(EMAIL, table="services"),
    "column": replace(EMAIL, column="phone"),
    "row": replace(EMAIL, row=("user", "bob")),
    "order": replace(EMAIL, row=("ann", "user")),
    "half a row": replace(EMAIL, row=("user",)),
}


@pytest.mark.parametrize("place", MOVED.values(), ids=MOVED.keys())
def test_the_parts_of_a_place_all_count(place: Place) -> None:
    """A value moved to another tenant, table, column or row is refused."""
    assert_refused(RING, RING.encrypt("ann@example.org", EMAIL), place)


@pytest.mark.parametrize(
    ("table", "column", "row"),
    [("", "email", ("ann",)), ("users", "", ("ann",)), ("users", "email", ()), ("users", "email", ("user", ""))],
)
def test_a_place_is_named_whole(table: str, column: str, row: tuple[str, ...]) -> None:
    """A place without a part of its name, which would be that of many rows, is none."""
    with pytest.raises(ValueError, match="whole key of its row"):
        Place("acme", table, column, row)


@pytest.mark.parametrize(
    "stored",
    ["", "v1", "v1.new", "v1.new.", "v1..AAAA", "v1.new.A", "v1.new.AAAA", "v1.new." + "A" * 16, "plain", "v1.new.é",
     "v2.new." + "A" * 60, "v1.none." + "A" * 60, "v1.index." + "A" * 60, "v1.new." + "A" * 60],
)  # fmt: skip
def test_what_was_never_encrypted_is_refused(stored: str) -> None:
    """Plain text, other versions, unknown keys and lines that are too short are refused like what was tampered with."""
    assert_refused(RING, stored, EMAIL)


def test_bytes_that_are_no_text_are_refused() -> None:
    """What somebody with a key wrote, and is no text, is refused without showing it."""
    assert_refused(RING, sealed_by_hand(b"\xff\xfe", "new", EMAIL), EMAIL)


def test_another_ring_is_refused() -> None:
    """A key of the same id, but with other bytes, decrypts nothing."""
    other = parse_key_ring(f"{line('new', key('other'))}\n{line('index')}", place="the file")

    assert_refused(other, RING.encrypt("a", EMAIL), EMAIL)


@pytest.mark.parametrize("character", ["a", "é", "\U0001f600"])
def test_the_longest_text(character: str) -> None:
    """A text of 4096 bytes is encrypted; one with a byte more is refused, and the message does not repeat it."""
    longest = character * (MAX_PLAINTEXT_BYTES // len(character.encode()))

    assert RING.decrypt(RING.encrypt(longest, EMAIL), EMAIL) == longest
    with pytest.raises(BylawError) as caught:
        RING.encrypt(longest + "a", EMAIL)
    assert (caught.value.code, caught.value.message) == ("too_long", "`email` has at most 4096 bytes in UTF-8")


# --- rotation -----------------------------------------------------------------------------------------


def test_a_new_key_takes_over() -> None:
    """After a new key was put first it encrypts, and what is under the old one is read and wants renewing."""
    before = ring("old").encrypt("ann@example.org", EMAIL)
    after = ring("new", "old")

    renewed = after.encrypt(after.decrypt(before, EMAIL), EMAIL)

    assert after.needs_renewal(before)
    assert not after.needs_renewal(renewed)
    assert ring("new").decrypt(renewed, EMAIL) == "ann@example.org"


def test_a_key_that_is_gone_decrypts_nothing() -> None:
    """What is still under a key that was taken out is refused, and a job that renews comes upon it."""
    before = ring("old").encrypt("a", EMAIL)

    assert ring("new").needs_renewal(before)
    assert_refused(ring("new"), before, EMAIL)


@pytest.mark.parametrize("stored", ["", "plain", "v1.new", "v2.new.AAAA", "v1.newer.AAAA", "v1.ne.AAAA"])
def test_what_is_not_under_the_current_key_needs_renewal(stored: str) -> None:
    """A beginning that is nearly the current key's is not taken for it."""
    assert RING.needs_renewal(stored)


def test_a_value_cannot_be_made_another_keys() -> None:
    """Were one key in two rings under two ids, a value could still not be renamed from the one to the other."""
    under_one = parse_key_ring(f"{line('one', key('same'))}\n{line('index')}", place="the file")
    under_two = parse_key_ring(f"{line('two', key('same'))}\n{line('index')}", place="the file")

    assert_refused(under_two, under_one.encrypt("a", EMAIL).replace("v1.one.", "v1.two."), EMAIL)


# --- blind index --------------------------------------------------------------------------------------


def test_an_index_is_the_mac_under_a_key_of_its_purpose() -> None:
    """The index is what other code makes of its description, so that stored ones are found after any change."""
    extracted = hmac.digest(bytes(32), key("index"), "sha256")
    derived = hmac.digest(extracted, b"bylaw blind index 1\0users.email\x01", "sha256")

    index = RING.email_index(" Ann@Example.org", purpose="users.email")

    assert index == hmac.new(derived, b"ann@example.org", "sha256").hexdigest()


SAME = [
    "ann@example.org",
    "ANN@EXAMPLE.ORG",
    "Ann@Example.Org",
    "  ann@example.org\r\n",
    "\u00a0ann@example.org\u3000",
]
OTHERS = [
    *("a.nn@example.org", "ann+x@example.org", "ann@example.org.", "ann@mail.example.org", "ann@example.com"),
    *("ann @example.org", "ann@@example.org", "bob@example.org", "ann@exämple.org", "ann@xn--exmple-cua.org"),
]


@pytest.mark.parametrize("address", SAME)
def test_addresses_that_are_one(address: str) -> None:
    """White space around an address and capitals in it do not count."""
    assert RING.email_index(address, purpose="users.email") == RING.email_index(SAME[0], purpose="users.email")


def test_addresses_that_are_not_one() -> None:
    """Dots, tags, white space inside and names of another spelling count."""
    for one, other in combinations([SAME[0], *OTHERS], 2):
        assert RING.email_index(one, purpose="users.email") != RING.email_index(other, purpose="users.email")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("zoe\u0308@example.org", "zo\u00eb@example.org"),
        ("ZOE\u0308@example.org", "zo\u00eb@example.org"),
        ("\u0130\u0323@example.org", "i\u0323\u0307@example.org"),  # small letters out of NFC's order
        ("\u212aim@example.org", "kim@example.org"),  # NFC writes the sign of the kelvin so
    ],
)
def test_spellings_of_one_character_are_one(one: str, other: str) -> None:
    """However Unicode writes a letter, it is the same letter."""
    assert normalised(one) == normalised(other)


@pytest.mark.property
@UNHURRIED
@given(LETTERS, LETTERS)
@example("\u0130\u0323", "example.org")
def test_what_is_normalised_stays(local: str, domain: str) -> None:
    """Normalising twice is normalising once."""
    address = f"{local}@{domain}".strip()
    assume(all(address.rpartition("@")[::2]))  # else it is none

    once = normalised(address)

    assert normalised(once) == once


@pytest.mark.parametrize(
    "address", ["", " ", "ann", "ann@", "@example.org", " @ ", "@", "ann@" + "x" * MAX_EMAIL_BYTES, "é" * 159 + "@ex"]
)
def test_what_is_no_address_has_no_index(address: str) -> None:
    """What is no address, or a longer one than there are, is refused, and the message does not repeat it."""
    with pytest.raises(BylawError) as caught:
        RING.email_index(address, purpose="users.email")

    assert caught.value.code == "bad_email"
    assert caught.value.message == "an e-mail address is written name@domain, in at most 320 bytes"


def test_the_longest_address() -> None:
    """An address of 320 bytes has an index."""
    assert len(normalised("é" * 158 + "@exa")) == 162


def test_an_index_is_bound_to_its_purpose_and_key() -> None:
    """The same address has another index for another purpose, and under another key of the index."""
    other = parse_key_ring(f"{line('new')}\n{line('index', key('other'))}", place="the file")

    found = {
        RING.email_index(SAME[0], purpose="users.email"),
        RING.email_index(SAME[0], purpose="invitations.email"),
        other.email_index(SAME[0], purpose="users.email"),
    }

    assert len(found) == 3


def test_an_index_outlives_the_keys() -> None:
    """An address is found by the same index after every key that encrypts was replaced."""
    before, after = ring("old"), ring("newest", "new")

    assert before.email_index(SAME[0], purpose="users.email") == after.email_index(SAME[0], purpose="users.email")


# --- key files ----------------------------------------------------------------------------------------


def test_a_key_file_is_read(tmp_path: Path) -> None:
    """Comments, empty lines, ends of lines and a byte order mark of any editor do not count; the first key encrypts,
    though the index stands before it."""
    path = tmp_path / "keys"
    path.write_text(f"\ufeff# ours\r\n{line('index')}\r\n\r\n  {line('new')} \r\n{line('old')}", "utf-8")

    found = read_key_ring(path, place="BYLAW_KEYS")

    assert found.current == "new"
    assert found.decrypt(RING.encrypt("a", EMAIL), EMAIL) == "a"
    assert found.decrypt(ring("old").encrypt("a", EMAIL), EMAIL) == "a"
    assert found.email_index(SAME[0], purpose="p") == RING.email_index(SAME[0], purpose="p")


def test_a_line_that_was_made_is_read() -> None:
    """Lines that were made, of keys and of the index, make a ring; no two are of the same key."""
    made = "\n".join(map(generate_key_line, ("new", "2025-11_b", "index")))

    assert parse_key_ring(made, place="the file").current == "new"
    assert generate_key_line("new") != generate_key_line("new")


NO_ID = "this is no id before the colon: write 1 to 32 of a-z"
NO_BYTES = "this is no key of 32 bytes in base64: write `ID:BASE64`, in which `openssl rand -base64 32` makes"
SECRET = base64.b64encode(key("secret")).decode()
FAULTS = {
    "no colon": (SECRET, "this is no key: write `ID:BASE64`"),
    "no id": (f":{SECRET}", NO_ID),
    "turned round": (f"{SECRET}:new", NO_ID),
    "capitals": (f"New:{SECRET}", NO_ID),
    "a dot": (f"a.b:{SECRET}", NO_ID),
    "a space": (f"a :{SECRET}", NO_ID),
    "a dash first": (f"-a:{SECRET}", NO_ID),
    "a long id": (f"{'a' * 33}:{SECRET}", NO_ID),
    "no ascii": (f"é:{SECRET}", NO_ID),
    "no key": ("a:", NO_BYTES),
    "a space before the key": (f"a: {SECRET}", NO_BYTES),
    "short": (f"a:{base64.b64encode(key('a')[:31]).decode()}", NO_BYTES),
    "long": (f"a:{base64.b64encode(key('a') + b'x').decode()}", NO_BYTES),
    "hexadecimal": (f"a:{key('a').hex()}", NO_BYTES),
    "without padding": (f"a:{SECRET.rstrip('=')}", NO_BYTES),
    "loose bits": (f"a:{'A' * 42}B=", NO_BYTES),
    "no base64": (f"a:{'é' * 44}", NO_BYTES),
    "something after it": (f"a:{SECRET} # mine", NO_BYTES),
    "zeros": (line("a", bytes(32)), "this key can be guessed, like a placeholder"),
    "typed": (line("a", b"changeme" * 4), "this key can be guessed, like a placeholder"),
    "an id twice": (f"new:{SECRET}", "the id stands on a line before"),
    "the index twice": (f"index:{SECRET}", "the id stands on a line before"),
    "a key twice": (line("a", key("new")), "the key stands on a line before, under another id"),
    "the key of the index": (line("a", key("index")), "the key stands on a line before, under another id"),
}


@pytest.mark.parametrize(("written", "complaint"), FAULTS.values(), ids=FAULTS.keys())
def test_a_line_that_is_no_key_is_named(written: str, complaint: str) -> None:
    """What is wrong on a line is told with its number and the cure, and nothing of the line is shown."""
    message = refused(f"# keys\n{line('new')}\n{line('index')}\n{written}\n")

    assert message.startswith(f"BYLAW_KEYS, line 4: {complaint}")
    assert SECRET[:8] not in message


@pytest.mark.parametrize("text", ["", "\n \n", "# nothing", line("index")])
def test_no_key_to_encrypt_with(text: str) -> None:
    """A file without a key to encrypt with is refused: there is no going without."""
    assert refused(text).startswith("BYLAW_KEYS: there is no key to encrypt with: add a line `ID:BASE64`")


def test_no_key_of_the_index() -> None:
    """A file without a key of the index is refused."""
    assert refused(line("new")).startswith("BYLAW_KEYS: there is no key of the index: add a line `index:BASE64`")


@pytest.mark.parametrize("raw", [b"\xff\xfe" + "new:".encode("utf-16-le"), b"\x80", bytes(100)])
def test_a_file_that_is_no_text(tmp_path: Path, raw: bytes) -> None:
    """Bytes that are no text are a line that is no key."""
    path = tmp_path / "keys"
    path.write_bytes(line("new").encode() + b"\n" + raw)

    with pytest.raises(BylawError, match="BYLAW_KEYS, line 2: this is no") as caught:
        read_key_ring(path, place="BYLAW_KEYS")

    assert caught.value.code == "bad_settings"


def test_a_file_that_is_too_long(tmp_path: Path) -> None:
    """A file of 16 KiB is read; a longer one is refused whole, and never cut: keys at its end would be missed."""
    path = tmp_path / "keys"
    keys = f"{line('new')}\n{line('index')}\n"
    path.write_text(keys + "#" * (MAX_FILE_BYTES - len(keys)))

    assert read_key_ring(path, place="BYLAW_KEYS").current == "new"
    path.write_text(keys + "#" * (MAX_FILE_BYTES - len(keys) + 1))
    with pytest.raises(BylawError, match="BYLAW_KEYS: the file of keys is longer than 16384 bytes: take out"):
        read_key_ring(path, place="BYLAW_KEYS")


@pytest.mark.parametrize("name", ["nowhere", ".", "a\0b", f"new:{SECRET}"])
def test_a_file_that_cannot_be_read(tmp_path: Path, name: str) -> None:
    """A file that is not there is an error which does not repeat the name: it may be a key that stands in its place."""
    with pytest.raises(BylawError) as caught:
        read_key_ring(tmp_path / name, place="BYLAW_KEYS")

    assert caught.value.code == "bad_settings"
    assert caught.value.message.startswith("BYLAW_KEYS: the file of keys cannot be read: write its path")
    assert caught.value.__context__ is None


@pytest.mark.parametrize("key_id", ["", "New", "a.b", "a:b", "a\n", "a" * 33])
def test_a_key_is_not_made_for_what_is_no_id(key_id: str) -> None:
    """A line that would not be read is not made."""
    with pytest.raises(BylawError, match="a key has no such id: write 1 to 32 of a-z") as caught:
        generate_key_line(key_id)

    assert caught.value.code == "bad_key"


# --- what is shown ------------------------------------------------------------------------------------


def test_nothing_secret_is_shown() -> None:
    """The ring shows the id of its current key alone, however it is asked."""
    shown = [repr(RING), str(RING), f"{RING}"]

    assert shown == ["KeyRing(current='new')"] * 3


def test_an_error_says_nothing_of_a_value() -> None:
    """What is logged of a value that was tampered with holds neither the value nor a cause."""
    stored = RING.encrypt("ann@example.org", EMAIL)

    with pytest.raises(DecryptionError) as caught:
        RING.decrypt(stored[:-4], EMAIL)

    logged = "".join(traceback.format_exception(caught.value))
    assert stored[10:20] not in logged
    assert "ann@" not in logged
    assert "InvalidTag" not in logged
