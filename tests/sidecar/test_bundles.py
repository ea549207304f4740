"""Bundles as the service takes them: polls are made by hand, the clock is ours, and keys are real."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from itertools import permutations
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from engine import BylawError, Policy
from engine.bundle import LOCK_NAME, MAX_LOCK_BYTES, Signature, build, parse_lock, show_key, write_lock
from engine.source import Source
from sidecar.policies import Policies
from sidecar.readings import judge, read
from store.signatures import parse_public_keys, sign, verify

OURS, OTHERS = (Ed25519PrivateKey.from_private_bytes(bytes([number]) * 32) for number in (1, 2))
OUR_KEY = show_key(OURS.public_key().public_bytes_raw())
THEIR_KEY = show_key(OTHERS.public_key().public_bytes_raw())

TYPES = "resource doc { actions read, write }\n"
READERS = "role reader on tenant { can doc.read }\n"
WRITERS = "role writer on tenant { can doc.write }\n"
QUIET = 'deny quiet: anyone to doc.write because "quiet hours"\n'
LATE = QUIET.replace("quiet", "late")
#: Two versions of a policy. Most mixtures of their files are policies, too, which nobody wrote.
FIRST = {"types.bylaw": TYPES, "roles.bylaw": READERS + WRITERS, "quiet.bylaw": QUIET}
SECOND = {"types.bylaw": TYPES, "roles.bylaw": READERS, "rules/late.bylaw": LATE}


class Watched:
    """Policies over a folder, with a clock that is moved by hand and what was reported."""

    def __init__(self, folder: Path, policy_key: str | bytes | None) -> None:
        self.now = 100.0
        self.reports: list[str] = []
        self.folder = folder
        self.policies = Policies(
            folder, None, report=self.reports.append, clock=lambda: self.now, settle_s=0.5, policy_key=policy_key
        )

    @property
    def digest(self) -> str | None:
        """What decides."""
        return self.policies.loaded.policy.digest if self.policies.is_loaded else None

    @property
    def fault(self) -> str | None:
        """The code of what is wrong."""
        return None if self.policies.problem is None else self.policies.problem.code

    def settle(self) -> None:
        """Let what lies there stand still for long enough."""
        asyncio.run(self._poll(3))

    async def _poll(self, times: int) -> None:
        for _ in range(times):
            await self.policies.poll()
            self.now += 0.5


def digest_of(files: Mapping[str, str]) -> str:
    return Policy.of([Source(name, text) for name, text in files.items()]).digest


def lock(
    files: Mapping[str, str], version: int, *keys: Ed25519PrivateKey, rollback: bool = False, created: str = "15:00"
) -> bytes:
    """The lock of a policy, signed by some."""
    sources = [Source(name, text) for name, text in files.items()]
    found = build(sources, version=version, rollback=rollback, created=f"2026-11-21T{created}:00Z")
    for key in keys:
        found = sign(found, key)
    return write_lock(found)


def put(folder: Path, files: Mapping[str, str], locked: bytes | None) -> None:
    """Let exactly these files lie in a folder."""
    for old in [*folder.rglob("*.bylaw"), *folder.glob(LOCK_NAME)]:
        old.unlink()
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, encoding="utf-8")
    if locked is not None:
        (folder / LOCK_NAME).write_bytes(locked)


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    """A folder with the first version of the policy, signed by us."""
    folder = tmp_path / "policy"
    folder.mkdir()
    put(folder, FIRST, lock(FIRST, 1, OURS))
    return folder


# --- what loads with a key ------------------------------------------------------------------------------


def test_a_signed_bundle_loads(bundle: Path) -> None:
    """A bundle that the key signed loads, and so does the next one."""
    found = Watched(bundle, OUR_KEY)

    found.settle()
    assert found.digest == digest_of(FIRST)
    put(bundle, SECOND, lock(SECOND, 2, OURS))
    found.settle()

    assert found.digest == digest_of(SECOND)
    assert found.policies.problem is None
    assert [report.endswith("version 2") for report in found.reports] == [True]


def tampered(raw: bytes, **change: object) -> bytes:
    """A lock in which something was changed after it was signed."""
    return write_lock(replace(parse_lock(raw), **change))  # type: ignore[arg-type]  # members by name


def with_signature_of(raw: bytes, other: bytes) -> bytes:
    """A lock with the signature of another lock."""
    return tampered(raw, signatures=parse_lock(other).signatures)


def under_our_name(raw: bytes) -> bytes:
    """A lock that others signed, and said that it was us."""
    (theirs,) = parse_lock(raw).signatures
    return tampered(raw, signatures=(Signature(OURS.public_key().public_bytes_raw(), theirs.value),))


NOT_VOUCHED_FOR: list[tuple[bytes | None, str]] = [
    (None, "unsigned"),
    (lock(SECOND, 2), "unsigned"),
    (lock(SECOND, 2, OTHERS), "unknown_key"),
    (tampered(lock(SECOND, 2, OURS), version=3), "bad_signature"),
    (tampered(lock(SECOND, 2, OURS), rollback=True), "bad_signature"),
    (tampered(lock(SECOND, 2, OURS), created="2027-01-01T00:00:00Z"), "bad_signature"),
    (with_signature_of(lock(SECOND, 2), lock(SECOND, 3, OURS)), "bad_signature"),
    (with_signature_of(lock(SECOND, 2), lock(FIRST, 2, OURS)), "bad_signature"),
    (under_our_name(lock(SECOND, 2, OTHERS)), "bad_signature"),
    (lock(FIRST, 2, OURS), "bundle_mismatch"),
    (lock(SECOND, 2, OURS)[:-20], "bad_lock"),
    (b"", "bad_lock"),
    (b" " * (MAX_LOCK_BYTES + 1), "bad_lock"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("locked", "code"), NOT_VOUCHED_FOR, ids=[f"{number} {code}" for number, (_, code) in enumerate(NOT_VOUCHED_FOR)]
)
def test_what_the_key_does_not_vouch_for_changes_nothing(bundle: Path, locked: bytes | None, code: str) -> None:
    """Without a lock, or a good signature of the right key, the policy that runs goes on, and says why."""
    found = Watched(bundle, OUR_KEY)
    found.settle()

    put(bundle, SECOND, locked)
    found.settle()

    assert found.digest == digest_of(FIRST)
    assert found.fault == code
    assert len(found.reports) == 1


@pytest.mark.parametrize(
    ("locked", "code"), NOT_VOUCHED_FOR, ids=[f"{number} {code}" for number, (_, code) in enumerate(NOT_VOUCHED_FOR)]
)
def test_at_the_start_it_is_an_error(tmp_path: Path, locked: bytes | None, code: str) -> None:
    """Where there is no policy that runs, nothing starts."""
    put(tmp_path, SECOND, locked)
    policies = Policies(tmp_path, None, report=lambda _: None, settle_s=0.001, policy_key=OUR_KEY)

    with pytest.raises(BylawError) as caught:
        asyncio.run(policies.start())

    assert caught.value.code == code
    assert not policies.is_loaded


def test_one_file_is_no_bundle(bundle: Path) -> None:
    """With a key a policy of one file is refused, a lock beside it or not."""
    put(bundle, {"all.bylaw": TYPES}, lock({"all.bylaw": TYPES}, 1, OURS))
    found = Watched(bundle / "all.bylaw", OUR_KEY)

    found.settle()

    assert (found.digest, found.fault) == (None, "unsigned")


def test_no_byte_of_a_lock_can_be_changed(bundle: Path) -> None:
    """Whichever byte of a signed lock is changed or left out, it is refused, or says the same as before."""
    raw = (bundle / LOCK_NAME).read_bytes()
    keys = parse_public_keys(OUR_KEY)
    reading = read(bundle, None)
    refused = 0

    for place in range(len(raw)):
        for other in (raw[:place] + raw[place + 1 :], raw[:place] + bytes((raw[place] ^ 1,)) + raw[place + 1 :]):
            try:
                assert judge(replace(reading, lock=other), None, keys) == parse_lock(raw)
            except BylawError:
                refused += 1

    assert refused > len(raw)


# --- keys -----------------------------------------------------------------------------------------------


def test_keys_are_changed_without_a_gap(bundle: Path) -> None:
    """Of several trusted keys any one will do, and of several signatures that of a trusted key."""
    both = f"{OUR_KEY}, {THEIR_KEY}"
    by_both = lock(FIRST, 1, OURS, OTHERS)

    for trusted, locked in [
        (both, lock(FIRST, 1, OURS)),
        (both, lock(FIRST, 1, OTHERS)),
        (OUR_KEY, by_both),
        (THEIR_KEY, by_both),
    ]:
        put(bundle, FIRST, locked)
        found = Watched(bundle, trusted)
        found.settle()
        assert found.digest == digest_of(FIRST)


def test_a_new_signature_alone_is_taken(bundle: Path) -> None:
    """A bundle that is signed anew, its files as they were, is loaded without compiling it again."""
    found = Watched(bundle, f"{OUR_KEY},{THEIR_KEY}")
    found.settle()
    before = found.policies.loaded

    put(bundle, FIRST, lock(FIRST, 1, OTHERS, created="16:00"))
    found.settle()

    assert found.policies.loaded.reading != before.reading
    assert found.policies.loaded.policy is before.policy
    assert found.policies.problem is None


@pytest.mark.parametrize(
    "written", ["", " ", "ed25519:", "nowhere.pem", f"{OUR_KEY},", f"{OUR_KEY} {THEIR_KEY}", b"\xff", "a\x00b"]
)
def test_a_key_that_is_none_is_an_error(written: str | bytes) -> None:
    """What is no public key, nothing at all included, never counts as no key needed."""
    with pytest.raises(BylawError, match="BYLAW_POLICY_KEY: ") as caught:
        Policies(Path(), None, report=lambda _: None, policy_key=written)

    assert caught.value.code == "bad_settings"


@pytest.mark.parametrize("height", [0, 1, 2**255 - 20, 2**255 - 19, 2**255 - 18])
@pytest.mark.parametrize("sign_bit", [0, 1])
def test_keys_for_which_anybody_can_sign_are_refused(height: int, sign_bit: int) -> None:
    """A placeholder of zeros and its like, for which signatures can be made without a secret, is no key."""
    weak = (height | sign_bit << 255).to_bytes(32, "little")

    with pytest.raises(BylawError, match="anybody can sign"):
        parse_public_keys(show_key(weak))


def test_without_the_refusal_a_weak_key_would_let_anything_in() -> None:
    """The refusal is needed: for the point of order one a signature made of nothing is good for every bundle."""
    weak = (1).to_bytes(32, "little")
    forged = replace(parse_lock(lock(FIRST, 1)), signatures=(Signature(weak, weak + bytes(32)),))

    assert verify(forged, (weak,)) == weak


# --- without a key --------------------------------------------------------------------------------------


@pytest.mark.parametrize("keys", [(), (OURS,), (OTHERS,)], ids=["nobody", "us", "others"])
def test_without_a_key_signatures_are_not_judged(bundle: Path, keys: tuple[Ed25519PrivateKey, ...]) -> None:
    """Without a key a bundle loads whoever signed it, or nobody."""
    put(bundle, SECOND, lock(SECOND, 1, *keys))
    found = Watched(bundle, None)

    found.settle()

    assert found.digest == digest_of(SECOND)


@pytest.mark.parametrize(
    "change",
    [
        lambda folder: (folder / "quiet.bylaw").unlink(),
        lambda folder: (folder / "extra.bylaw").write_text("# more\n"),
        lambda folder: (folder / "rules").mkdir() or (folder / "rules" / "extra.bylaw").write_text("# more\n"),
        lambda folder: (folder / "quiet.bylaw").write_text(QUIET.replace("quiet", "qu1et")),
        lambda folder: (folder / "quiet.bylaw").rename(folder / "Quiet.bylaw"),
    ],
    ids=["less", "more", "more, in a folder", "other", "renamed"],
)
def test_exactly_its_files_load_or_none(bundle: Path, change: Callable[[Path], object]) -> None:
    """A file less, more or other than the lock has it is refused, and named."""
    found = Watched(bundle, None)
    found.settle()

    change(bundle)
    found.settle()

    assert found.digest == digest_of(FIRST)
    assert found.fault == "bundle_mismatch"
    assert ".bylaw` " in found.reports[0]


def test_what_is_no_policy_file_is_nothing(bundle: Path) -> None:
    """Hidden files, other kinds of files, and locks further down are not part of a bundle and do not disturb it."""
    (bundle / ".extra.bylaw").write_text("allow oops")
    (bundle / "README.md").write_text("# read me\n")
    (bundle / "rules").mkdir()
    (bundle / "rules" / LOCK_NAME).write_text("{}")
    found = Watched(bundle, OUR_KEY)

    found.settle()

    assert found.digest == digest_of(FIRST)


def test_a_lock_that_is_gone_leaves_an_ordinary_directory(bundle: Path) -> None:
    """Without a key a directory whose lock was removed loads like any other, and that is told."""
    found = Watched(bundle, None)
    found.settle()

    (bundle / LOCK_NAME).unlink()
    (bundle / "extra.bylaw").write_text("# more\n")
    found.settle()

    assert found.digest == digest_of({**FIRST, "extra.bylaw": "# more\n"})
    assert "bylaw.lock is gone" in found.reports[0]


@pytest.mark.parametrize("kind", ["directory", "pipe", "link to nothing"])
def test_a_lock_that_cannot_be_read_is_not_as_if_there_were_none(bundle: Path, kind: str) -> None:
    """Something that has the lock's name and cannot be read is refused, key or not."""
    path = bundle / LOCK_NAME
    path.unlink()
    if kind == "directory":
        path.mkdir()
    elif kind == "pipe":
        os.mkfifo(path)
    else:
        path.symlink_to(bundle / "nowhere")
    found = Watched(bundle, None)

    found.settle()

    assert (found.digest, found.fault) == (None, "unreadable")


def test_what_cannot_be_looked_at_leaves_the_old_one(bundle: Path) -> None:
    """A name that the file system will not follow is a reason like any other, and ends no watch over the folder."""
    found = Watched(bundle, OUR_KEY)
    found.settle()

    (bundle / "extra.bylaw").symlink_to("x" * 300)
    found.settle()
    assert (found.digest, found.fault) == (digest_of(FIRST), "unreadable")
    (bundle / "extra.bylaw").unlink()
    found.settle()

    assert found.policies.problem is None


def test_a_directory_of_links_is_a_bundle(bundle: Path, tmp_path: Path) -> None:
    """Links to files in a hidden folder, as orchestrators mount them, are a bundle, and one link turns all of them."""
    mount = tmp_path / "mount"
    mount.mkdir()
    quieter = {**FIRST, "quiet.bylaw": "# nothing\n"}
    for name, files, version in (("..one", FIRST, 1), ("..two", quieter, 2)):
        (mount / name).mkdir()
        put(mount / name, files, lock(files, version, OURS))
    (mount / "..data").symlink_to("..one")
    for name in (*FIRST, LOCK_NAME):
        (mount / name).symlink_to(f"..data/{name}")
    found = Watched(mount, OUR_KEY)
    found.settle()
    assert found.digest == digest_of(FIRST)

    (mount / "..new").symlink_to("..two")
    (mount / "..new").replace(mount / "..data")
    found.settle()

    assert found.digest == digest_of(quieter)


# --- versions -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("policy_key", [None, OUR_KEY], ids=["no key", "key"])
def test_versions_go_forward(bundle: Path, policy_key: str | None) -> None:
    """A lower version and another content of the same one are refused; marked as a rollback the lower one loads."""
    put(bundle, FIRST, lock(FIRST, 5, OURS))
    found = Watched(bundle, policy_key)
    seen = []

    for files, version, rollback in [
        (FIRST, 5, False),
        (SECOND, 4, False),
        (SECOND, 5, False),
        (SECOND, 5, True),
        (SECOND, 4, True),
        (FIRST, 5, False),
    ]:
        put(bundle, files, lock(files, version, OURS, rollback=rollback))
        found.settle()
        seen.append((found.digest == digest_of(SECOND), found.fault))

    assert seen == [
        (False, None),
        (False, "version_lower"),
        (False, "version_taken"),
        (False, "version_taken"),
        (True, None),
        (False, None),
    ]


def test_what_was_refused_does_not_count(bundle: Path) -> None:
    """A version that never ran is not remembered: a slip with a huge number does not bar the way."""
    found = Watched(bundle, OUR_KEY)
    found.settle()

    put(bundle, SECOND, lock(SECOND, 1_000_000, OTHERS))
    found.settle()
    put(bundle, SECOND, lock(SECOND, 2, OURS))
    found.settle()

    assert found.digest == digest_of(SECOND)


def test_a_new_process_knows_no_version(bundle: Path) -> None:
    """After a restart a lower version loads, as long as it is signed."""
    put(bundle, FIRST, lock(FIRST, 5, OURS))
    Watched(bundle, OUR_KEY).settle()

    put(bundle, SECOND, lock(SECOND, 4, OURS))
    found = Watched(bundle, OUR_KEY)
    found.settle()

    assert found.digest == digest_of(SECOND)


# --- half copied ----------------------------------------------------------------------------------------


def steps(old: Mapping[str, bytes], new: Mapping[str, bytes]) -> Iterator[list[tuple[str, list[bytes | None]]]]:
    """All orders in which a folder is turned from one content to another, each file by way of half of it."""
    names = sorted(name for name in {*old, *new} if old.get(name) != new.get(name))
    for order in permutations(names):
        found: list[tuple[str, list[bytes | None]]] = []
        for name in order:
            whole = new.get(name)
            found.append((name, [None] if whole is None else [b"", whole[: len(whole) // 2], whole]))
        yield found


def in_bytes(files: Mapping[str, str], locked: bytes) -> dict[str, bytes]:
    return {name: text.encode() for name, text in files.items()} | {LOCK_NAME: locked}


@pytest.mark.parametrize("policy_key", [None, OUR_KEY], ids=["no key", "key"])
def test_at_no_moment_does_a_mixture_decide(bundle: Path, policy_key: str | None) -> None:
    """In whatever order files are copied, and wherever that rests, the old version decides until all is there."""
    old, new = in_bytes(FIRST, lock(FIRST, 1, OURS)), in_bytes(SECOND, lock(SECOND, 2, OURS))
    (bundle / "rules").mkdir()
    orders = 0

    for order in steps(old, new):
        orders += 1
        put(bundle, FIRST, old[LOCK_NAME])
        found = Watched(bundle, policy_key)
        found.settle()
        for name, contents in order:
            for content in contents:
                assert found.digest == digest_of(FIRST), order
                (bundle / name).unlink() if content is None else (bundle / name).write_bytes(content)
                found.settle()
        assert found.digest == digest_of(SECOND), order
        assert found.policies.problem is None

    assert orders == 24


def test_a_first_copy_starts_nothing_until_it_is_whole(tmp_path: Path) -> None:
    """With a key a process that starts on a folder which is being filled has no policy until all of it is there."""
    new = in_bytes(SECOND, lock(SECOND, 2, OURS))
    (tmp_path / "rules").mkdir()

    for order in steps({}, new):
        for name in new:
            (tmp_path / name).unlink(missing_ok=True)
        found = Watched(tmp_path, OUR_KEY)
        for name, contents in order:
            for content in contents:
                assert found.digest is None, order
                (tmp_path / name).write_bytes(content or b"")
                found.settle()
        assert found.digest == digest_of(SECOND), order


def test_a_half_copied_bundle_names_the_file(bundle: Path) -> None:
    """While the lock is new and a file still old, the reason says which."""
    found = Watched(bundle, OUR_KEY)
    found.settle()

    (bundle / LOCK_NAME).write_bytes(lock(SECOND, 2, OURS))
    found.settle()

    message = found.policies.problem.message if found.policies.problem else ""
    assert "version 2" in message
    assert "`quiet.bylaw` is not in the bundle, `roles.bylaw` differs, `rules/late.bylaw` is missing" in message


def test_what_is_verified_is_what_is_compiled(bundle: Path) -> None:
    """Files that change after they were read are neither judged nor compiled."""
    reading = read(bundle, None)
    put(bundle, {"types.bylaw": "allow oops"}, b"{}")

    found = judge(reading, None, parse_public_keys(OUR_KEY))

    assert found is not None
    assert found.policy == digest_of(FIRST) == Policy.of(reading.sources).digest


def test_a_lock_that_lies_in_another_bundle_is_refused(bundle: Path) -> None:
    """A good lock beside the files of another policy is refused, though both were signed by us."""
    found = Watched(bundle, OUR_KEY)
    found.settle()

    put(bundle, {**SECOND, "roles.bylaw": READERS + WRITERS}, lock(SECOND, 2, OURS))
    found.settle()

    assert (found.digest, found.fault) == (digest_of(FIRST), "bundle_mismatch")
