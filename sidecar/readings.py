"""What lies on disk of a policy and its facts: one reading, and loading it. All of it blocks: it runs in a thread.

A reading is whole: the digest covers every file, and what is loaded is what was digested. A file that changes in
between is no error but a reading that is no longer true.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from engine import BylawError, Facts, FactsError, Policy
from engine.checker import digest_of
from engine.loading import read_sources
from engine.policy import BoundFacts
from engine.source import Source


@dataclass(frozen=True, slots=True)
class Reading:
    """The sources of a policy and a digest of the facts, or why there are none; and a digest of it all."""

    digest: str
    sources: tuple[Source, ...] = ()
    facts_digest: str = ""
    problem: BylawError | None = None


@dataclass(frozen=True, slots=True)
class Loaded:
    """A policy and the facts that it decides on: they change together or not at all.

    Attributes:
        reading: digest of the reading that it was made of.
    """

    policy: Policy
    facts: BoundFacts
    reading: str


#: Says what a policy decides on, where that is no file.
Bind = Callable[[Policy], BoundFacts]


class ChangedError(Exception):
    """The disk no longer says what was read."""


def read(policies: Path, facts: Path | None) -> Reading:
    """Read the disk. What cannot be read is a reading too, so that it must stand still like any other."""
    try:
        sources = tuple(read_sources(policies))
        facts_digest = _digest_of_file(facts)
    except BylawError as error:
        return Reading(f"unreadable: {error}", problem=error)
    return Reading(f"{digest_of(sources)} {facts_digest}", sources, facts_digest)


def load(reading: Reading, facts: Path | None, current: Loaded | None, bind: Bind | None = None) -> Loaded:
    """Compile what was read, and load the facts for it; a policy that did not change is not compiled again.

    Args:
        bind: says what it decides on; None: a facts file, or nothing.

    Raises:
        BylawError: it is broken.
        ChangedError: it changed since.
    """
    if reading.problem is not None:
        raise reading.problem
    if current is not None and current.policy.digest == digest_of(reading.sources):
        policy = current.policy
    else:
        policy = Policy.of(reading.sources)
    if bind is not None:
        return Loaded(policy, bind(policy), reading.digest)
    loaded = Facts({}, policy) if facts is None else Facts.load(facts, policy)
    # The facts were read a second time just now; a third reading tells whether all three were the same.
    if _digest_of_file(facts) != reading.facts_digest:
        raise ChangedError
    return Loaded(policy, loaded, reading.digest)


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
