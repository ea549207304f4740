"""What lies on disk of a policy and its facts: one reading, and loading it. All of it blocks: it runs in a thread.

A reading is whole: the digest covers every file, and what is loaded is what was digested. A file that changes in
between is no error but a reading that is no longer true.

Where `bylaw.lock` lies in the directory the policy is a bundle: exactly the files that it names load, or none. With
public keys given, nothing else loads than a bundle that one of them signed. A directory without a lock is an ordinary
one, even if it had a lock before: it is its owner's, who may stop using bundles. Who wants to be sure that nobody else
does, gives the keys.

    read: lock, sources ──▶ load: signature ──▶ files ──▶ version ──▶ compile

INVARIANT: what is judged is what was read once and is compiled, never the disk a second time.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine import BylawError, Facts, FactsError, Policy, PolicyError
from engine.bundle import LOCK_NAME, MAX_LOCK_BYTES, Lock, check_files, check_version, parse_lock
from engine.checker import digest_of
from engine.loading import read_sources
from engine.policy import BoundFacts
from engine.source import Source


@dataclass(frozen=True, slots=True)
class Reading:
    """The sources of a policy and a digest of the facts, or why there are none; and a digest of it all.

    Attributes:
        lock: what the lock of the bundle says; None: there is none.
    """

    digest: str
    sources: tuple[Source, ...] = ()
    facts_digest: str = ""
    problem: BylawError | None = None
    lock: bytes | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy and the facts that it decides on: they change together or not at all.

    Attributes:
        reading: digest of the reading that it was made of.
        lock: of the bundle that the policy came in; None: it came in no bundle.
    """

    policy: Policy
    facts: BoundFacts
    reading: str
    lock: Lock | None = None


#: Says what a policy decides on, where that is no file.
Bind = Callable[[Policy], BoundFacts]


#: Raw public keys, of which one must vouch.
PublicKeys = tuple[bytes, ...]


class ChangedError(Exception):
    """The disk no longer says what was read."""


def read(policies: Path, facts: Path | None) -> Reading:
    """Read the disk. What cannot be read is a reading too, so that it must stand still like any other."""
    try:
        lock = read_lock(policies)
        sources = tuple(read_sources(policies))
        facts_digest = _digest_of_file(facts)
    except BylawError as error:
        return Reading(f"unreadable: {error}", problem=error)
    except OSError as error:  # what it is called could not even be looked at
        problem = PolicyError("unreadable", f"{error.filename or policies}: {error.strerror}")
        return Reading(f"unreadable: {error}", problem=problem)
    locked = "no lock" if lock is None else hashlib.sha256(lock).hexdigest()
    return Reading(f"{digest_of(sources)} {locked} {facts_digest}", sources, facts_digest, lock=lock)


def read_lock(policies: Path) -> bytes | None:
    """Read the lock that lies beside a policy; None: there is none.

    Raises:
        PolicyError: there is something of that name that cannot be read. It is not as if there were none.
    """
    path = policies / LOCK_NAME
    try:
        path.lstat()
        if not path.is_file():
            raise PolicyError("unreadable", f"{path}: it is no file, nor a link to one")
        with path.open("rb") as file:
            return file.read(MAX_LOCK_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError):  # the policy may be one file
        return None
    except OSError as error:
        raise PolicyError("unreadable", f"{path}: {error.strerror}") from error


def load(
    reading: Reading,
    facts: Path | None,
    current: Loaded | None,
    bind: Bind | None = None,
    policy_keys: PublicKeys | None = None,
) -> Loaded:
    """Compile what was read, and load the facts for it; a policy that did not change is not compiled again.

    Args:
        bind: says what it decides on; None: a facts file, or nothing.
        policy_keys: one of these must have signed it; None: nobody need have.

    Raises:
        BylawError: it is broken.
        ChangedError: it changed since.
    """
    if reading.problem is not None:
        raise reading.problem
    lock = judge(reading, current, policy_keys)
    if current is not None and current.policy.digest == digest_of(reading.sources):
        policy = current.policy
    else:
        policy = Policy.of(reading.sources)
    if bind is not None:
        return Loaded(policy, bind(policy), reading.digest, lock)
    loaded = Facts({}, policy) if facts is None else Facts.load(facts, policy)
    # The facts were read a second time just now; a third reading tells whether all three were the same.
    if _digest_of_file(facts) != reading.facts_digest:
        raise ChangedError
    return Loaded(policy, loaded, reading.digest, lock)


def judge(reading: Reading, current: Loaded | None, policy_keys: PublicKeys | None) -> Lock | None:
    """Hold what was read to its lock; return that, or None where there is none and none is needed.

    Raises:
        PolicyError: it must not load.
    """
    if reading.lock is None:
        if policy_keys is not None:
            raise PolicyError(
                "unsigned",
                f"there is no {LOCK_NAME}, and BYLAW_POLICY_KEY lets only signed bundles load: name a directory, and "
                "use `bylaw bundle build` and `bylaw bundle sign`",
            )
        return None
    lock = parse_lock(reading.lock)
    if policy_keys is not None:
        from store.signatures import verify  # who has keys has it already

        verify(lock, policy_keys)
    check_files(lock, reading.sources)
    if current is not None and current.lock is not None:
        check_version(lock, current.lock)
    return lock


def _digest_of_file(path: Path | None) -> str:
    if path is None:
        return ""
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise FactsError("unreadable", f"{path}: {error.strerror}") from error


class Disk:
    """Reads the disk over and over, and in full only where something may have changed.

    The stamps of all files (inode, size, times) tell that. But a file system's clock may be coarse, and two writes
    within one of its ticks look like one: stamps vouch for a reading only if they had stood still for `STEADY_S`.
    """

    def __init__(self, policies: Path, facts: Path | None, *, clock: Callable[[], float]) -> None:
        self.policies = policies
        self.facts = facts
        self._clock = clock
        self._stamp: Stamp | None = None
        self._since = 0.0
        self._steady: Reading | None = None

    def read(self) -> Reading:
        """Read, or say again what was read last."""
        now, found = self._clock(), stamp(self.policies, self.facts)
        if found != self._stamp:
            self._stamp, self._since, self._steady = found, now, None
        if self._steady is not None:
            return self._steady
        reading = read(self.policies, self.facts)
        if now - self._since >= STEADY_S:
            self._steady = reading
        return reading

    def forget(self) -> None:
        """Trust no stamp: the next reading is a full one."""
        self._stamp = self._steady = None


STEADY_S = 2.0
Stamp = tuple[tuple[str, int, int, int, int], ...]


def stamp(policies: Path, facts: Path | None) -> Stamp:
    """Take what the file system says of everything that a reading might read, without reading it.

    It may hold more than is read, never less: where it stays the same, so does the reading.
    """
    found = [str(policies), *([str(facts)] if facts is not None else [])]
    for folder, names, files in os.walk(policies):
        names[:] = [name for name in names if not name.startswith(".")]
        found += [os.path.join(folder, name) for name in (*names, *files) if not name.startswith(".")]
    return tuple(sorted(filter(None, map(_stat, found))))


def _stat(path: str) -> tuple[str, int, int, int, int] | None:
    try:
        said = os.stat(path)
    except OSError:
        return None
    return path, said.st_ino, said.st_size, said.st_mtime_ns, said.st_ctime_ns
