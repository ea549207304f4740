"""The lock of a bundle: what is written, what is refused, and which files and versions it lets load."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest

from engine import PolicyError
from engine.bundle import (
    MAX_LOCK_BYTES,
    MAX_VERSION,
    Lock,
    Signature,
    build,
    check_files,
    check_version,
    fault_of,
    parse_key,
    parse_lock,
    show_key,
    signed_bytes,
    write_lock,
)
from engine.source import Source

SOURCES = (Source("roles.bylaw", "# roles\n"), Source("rules/tasks.bylaw", "# tasks: é\n"))
ONE, TWO = Signature(bytes(range(32)), bytes(64)), Signature(bytes(range(1, 33)), bytes(range(64)))
DIGEST = "sha256:" + "0" * 64


def lock_of(*sources: Source, version: int = 7, rollback: bool = False) -> Lock:
    return build(sources or SOURCES, version=version, rollback=rollback, created="2026-11-21T14:42:47Z")


def refusal(raw: bytes) -> str:
    """The message by which a file is refused."""
    with pytest.raises(PolicyError) as caught:
        parse_lock(raw)
    assert caught.value.code == "bad_lock"
    assert caught.value.message.startswith("bylaw.lock: ")
    return caught.value.message


def changed(change: Callable[[dict[str, Any]], object]) -> bytes:
    """A signed lock in which something was changed by hand."""
    said = json.loads(write_lock(replace(lock_of(), signatures=(ONE,))))
    change(said)
    return json.dumps(said).encode()


# --- writing --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("signatures", [(), (ONE,), (ONE, TWO)])
@pytest.mark.parametrize("rollback", [False, True])
def test_what_is_written_is_read(signatures: tuple[Signature, ...], rollback: bool) -> None:
    """Reading gives back what was written."""
    lock = replace(lock_of(rollback=rollback), signatures=signatures)

    assert parse_lock(write_lock(lock)) == lock


def test_the_text_that_is_signed() -> None:
    """What is signed is a line of its own and the lock without signatures, in one spelling that others can make."""
    lock = replace(lock_of(Source("é.bylaw", "")), signatures=(ONE,))

    empty = "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"
    assert signed_bytes(lock).decode() == (
        'bylaw bundle\n{"created":"2026-11-21T14:42:47Z","files":{"é.bylaw":"' + empty + '"},"format":1,"language":1,'
        f'"policy":"{lock.policy}","rollback":false,"version":7}}'
    )


def test_layout_is_not_signed() -> None:
    """Another layout, and another order of members and files, is the same lock with the same signed text."""
    said = json.loads(write_lock(lock_of()))
    turned = {name: said[name] for name in reversed(said)}
    turned["files"] = {name: said["files"][name] for name in reversed(said["files"])}

    lock = parse_lock(json.dumps(turned).encode())

    assert lock == lock_of()
    assert signed_bytes(lock) == signed_bytes(lock_of())


@pytest.mark.parametrize(
    "change",
    [
        {"version": 8},
        {"rollback": True},
        {"created": "2026-11-21T14:42:48Z"},
        {"policy": DIGEST},
        {"files": {"roles.bylaw": DIGEST}},
    ],
)
def test_all_else_is_signed(change: dict[str, Any]) -> None:
    """Whatever a lock says beside its signatures is in the text that is signed."""
    assert signed_bytes(replace(lock_of(), **change)) != signed_bytes(lock_of())


def test_a_file_has_the_digest_of_its_bytes() -> None:
    """The digest in the lock is what `sha256sum` prints of the file."""
    lock = lock_of(Source("a.bylaw", "abc"))

    assert lock.files == {"a.bylaw": "sha256:ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"}


def test_a_public_key_is_one_line() -> None:
    """A key is written as one line, read back from it, and from no other spelling."""
    line = show_key(bytes(range(32)))

    assert line == "ed25519:AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"
    assert parse_key(line) == bytes(range(32))
    for other in (line + "=", line[:-1], line[:-1] + "9", line.upper(), line.removeprefix("ed25519:"), line + "\n"):
        assert parse_key(other) is None


# --- reading --------------------------------------------------------------------------------------------


MALFORMED = [
    (b"", "empty"),
    (b"lock", "no JSON"),
    (b"\xff", "byte 0 is no UTF-8"),
    (b"[]", "expected an object"),
    (b"7", "expected an object"),
    (b"{}", "`format` is missing"),
    (b'{"format": 1, "format": 1}', "`format` stands twice"),
    (b'{"format": NaN}', "NaN is no whole number"),
    (b'{"format": 1.0}', "1.0 is no whole number"),
    (b'{"format": ' + b"1" * 5000 + b"}", "too long"),
    (b"[" * 100_000, "nested too deep"),
    (b" " * (MAX_LOCK_BYTES + 1), "longer than"),
    (write_lock(lock_of()) + b"{}", "no JSON"),
]


@pytest.mark.parametrize(("raw", "fault"), MALFORMED, ids=[fault for _, fault in MALFORMED])
def test_what_is_no_lock_is_refused(raw: bytes, fault: str) -> None:
    """What is no JSON of the one kind, or could be read two ways, is refused with the reason."""
    assert fault in refusal(raw)


WRONG: list[tuple[Callable[[dict[str, Any]], object], str]] = [
    (lambda said: said.update(format=2), "`format` is 2, and this version of Bylaw knows 1"),
    (lambda said: said.update(format=True), "`format`: expected a whole number"),
    (lambda said: said.update(language=2), "`language` is 2, and this version of Bylaw knows 1"),
    (lambda said: said.update(expires="never"), "unknown member `expires`"),
    (lambda said: said.update({"\x1b[2J": 1}), "unknown member '\\x1b[2J'"),
    (lambda said: said.pop("rollback"), "`rollback` is missing"),
    (lambda said: said.pop("signatures"), "`signatures` is missing"),
    (lambda said: said.update(version=0), "`version`: expected a whole number from 1"),
    (lambda said: said.update(version=MAX_VERSION + 1), "`version`: expected a whole number from 1"),
    (lambda said: said.update(version=True), "`version`: expected a whole number"),
    (lambda said: said.update(version="7"), "`version`: expected a whole number"),
    (lambda said: said.update(rollback=1), "`rollback`: expected true or false"),
    (lambda said: said.update(rollback=None), "`rollback`: expected true or false"),
    (lambda said: said.update(created="yesterday"), "`created`: a time is written"),
    (lambda said: said.update(policy="0" * 64), "`policy`: expected `sha256:`"),
    (lambda said: said.update(policy=DIGEST.upper()), "`policy`: expected `sha256:`"),
    (lambda said: said.update(files=[]), "`files`: expected an object"),
    (lambda said: said.update(files={}), "`files`: it names none"),
    (lambda said: said["files"].update({"roles.bylaw": "md5:0"}), "`files`: `roles.bylaw`: expected `sha256:`"),
    (lambda said: said["files"].update({"roles.bylaw": None}), "`files`: `roles.bylaw`: expected `sha256:`"),
    (lambda said: said["files"].update({"Roles.bylaw": DIGEST}), "`roles.bylaw` and `Roles.bylaw` are one file"),
    (lambda said: said["files"].update({"../up.bylaw": DIGEST}), "`files`: `../up.bylaw`: a part of it begins"),
    (lambda said: said.update(signatures={}), "`signatures`: expected a list"),
    (lambda said: said.update(signatures=["x"]), "`signatures[0]`: expected an object"),
    (lambda said: said["signatures"].append(said["signatures"][0]), "one key signed twice"),
    (lambda said: said["signatures"][0].update(by="me"), "unknown member `signatures[0].by`"),
    (lambda said: said["signatures"][0].pop("key"), "`signatures[0].key` is missing"),
    (lambda said: said["signatures"][0].update(key="ed25519:AA"), "`signatures[0].key`: expected `ed25519:`"),
    (lambda said: said["signatures"][0].update(signature="AA"), "`signatures[0].signature`: expected 86"),
    (lambda said: said["signatures"][0].update(signature="é"), "`signatures[0].signature`: expected 86"),
]


@pytest.mark.parametrize(("change", "fault"), WRONG, ids=[fault for _, fault in WRONG])
def test_what_is_wrong_in_a_lock_is_named(change: Callable[[dict[str, Any]], object], fault: str) -> None:
    """A lock that says more, less or something else than it may is refused, and the place named."""
    assert fault in refusal(changed(change))


NAMES = [
    ("", "empty parts"),
    ("/etc/a.bylaw", "relative"),
    ("rules//a.bylaw", "empty parts"),
    ("../a.bylaw", "begins with a point"),
    ("rules/../a.bylaw", "begins with a point"),
    ("./a.bylaw", "begins with a point"),
    (".a.bylaw", "begins with a point"),
    (".rules/a.bylaw", "begins with a point"),
    (".bylaw", "begins with a point"),
    ("rules\\a.bylaw", "divided by `/`"),
    ("a.yaml", "does not end in"),
    ("a.BYLAW", "does not end in"),
    ("a.bylaw/", "empty parts"),
    ("a\nb.bylaw", "does not show"),
    ("a\x00.bylaw", "does not show"),
    ("a\u202eb.bylaw", "does not show"),
    ("a\u200bb.bylaw", "does not show"),
    ("a\udc80b.bylaw", "does not show"),
    ("e\u0301.bylaw", "NFC"),
]


@pytest.mark.parametrize(("name", "fault"), NAMES, ids=[ascii(name) for name, _ in NAMES])
def test_names_that_lead_elsewhere_are_refused(name: str, fault: str) -> None:
    """A name that leads out of the folder, hides, or is read in two ways is refused when built, and when read."""
    assert fault in (fault_of(name) or "")
    assert fault in refusal(changed(lambda said: said["files"].update({name: DIGEST})))
    with pytest.raises(PolicyError, match=fault):
        lock_of(Source(name, ""))


@pytest.mark.parametrize("name", ["a.bylaw", "rules/a.bylaw", "my rules/é.bylaw", "a..b.bylaw", "x.bylaw/y.bylaw"])
def test_plain_names_are_taken(name: str) -> None:
    """A plain name, in folders too, is that of a file in a bundle."""
    lock = lock_of(Source(name, ""))

    assert list(parse_lock(write_lock(lock)).files) == [name]


def test_names_that_differ_by_case_alone_are_refused() -> None:
    """Two files that are one on some machines do not make a bundle."""
    with pytest.raises(PolicyError, match=r"`STRASSE\.bylaw` and `straße\.bylaw` are one file"):
        lock_of(Source("straße.bylaw", ""), Source("STRASSE.bylaw", ""))


# --- judging --------------------------------------------------------------------------------------------


def mismatch(lock: Lock, *sources: Source) -> str:
    with pytest.raises(PolicyError) as caught:
        check_files(lock, sources)
    assert caught.value.code == "bundle_mismatch"
    return caught.value.message


def test_its_files_in_any_order_are_those_of_a_lock() -> None:
    """The files that a lock was made of are accepted, and in which order they are read is nothing."""
    check_files(lock_of(), SOURCES)
    check_files(lock_of(), reversed(SOURCES))


def test_one_file_less_more_or_other_is_refused() -> None:
    """Exactly the files of a lock load: each that is missing, further or different is named."""
    roles, tasks = SOURCES

    assert "`rules/tasks.bylaw` is missing" in mismatch(lock_of(), roles)
    assert "`extra.bylaw` is not in the bundle" in mismatch(lock_of(), roles, tasks, Source("extra.bylaw", ""))
    assert "`roles.bylaw` differs" in mismatch(lock_of(), Source("roles.bylaw", "# roles"), tasks)
    assert "`roles.bylaw` is missing" in mismatch(lock_of(), Source("role.bylaw", roles.text), tasks)


def test_files_that_were_swapped_differ() -> None:
    """The texts of two files in each other's place are not the bundle."""
    roles, tasks = SOURCES

    assert mismatch(lock_of(), Source(roles.name, tasks.text), Source(tasks.name, roles.text)).count("differs") == 2


def test_of_many_differences_a_few_are_told() -> None:
    """The message stays short, and what plays with a terminal is not repeated to it."""
    message = mismatch(lock_of(), *(Source(f"{number}\x1b[2J.bylaw", "") for number in range(100)))

    assert "and 97 more" in message
    assert "\x1b" not in message
    assert len(message) < 400


def test_a_policy_digest_of_other_files_is_refused() -> None:
    """A lock whose parts do not agree is no lock of these files."""
    lock = replace(lock_of(), policy=DIGEST)

    with pytest.raises(PolicyError, match="`policy` is not the digest of these files"):
        check_files(lock, SOURCES)


OTHER = Source("roles.bylaw", "# others\n")


@pytest.mark.parametrize(
    ("new", "code"),
    [
        (lock_of(version=8), None),
        (lock_of(OTHER, version=8), None),
        (lock_of(OTHER, version=8, rollback=True), None),
        (lock_of(version=7), None),
        (lock_of(version=7, rollback=True), None),
        (lock_of(OTHER, version=7), "version_taken"),
        (lock_of(OTHER, version=7, rollback=True), "version_taken"),
        (lock_of(version=6), "version_lower"),
        (lock_of(OTHER, version=6), "version_lower"),
        (lock_of(OTHER, version=6, rollback=True), None),
    ],
)
def test_which_version_may_follow(new: Lock, code: str | None) -> None:
    """After version 7 a higher one may come, the same one again, and a lower one that is marked as a rollback."""
    if code is None:
        check_version(new, lock_of(version=7))
        return

    with pytest.raises(PolicyError) as caught:
        check_version(new, lock_of(version=7))

    assert caught.value.code == code
