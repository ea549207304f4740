"""What makes a policy one that may be kept, and one that may decide. What takes long is done elsewhere: `proof`."""

from __future__ import annotations

import asyncio
import json
import sys
from asyncio.subprocess import DEVNULL, PIPE
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple
from weakref import WeakKeyDictionary

from admin.errors import PublicError, bad_request
from admin.policies import proof
from admin.policies.wire import Finding, Linted
from engine import BylawError, PolicyError
from engine.bundle import check_files, check_version, fault_of, parse_lock, write_lock
from engine.source import Source

#: Most that compiling may take of a processor: as long no process that decides takes in what changes.
COMPILE_S: Final = 2.0
#: So long it is waited for who looks at a policy.
LOOK_S: Final = 60.0

#: Of each loop, since one that waits in a loop belongs to it.
_turns: Final[WeakKeyDictionary[asyncio.AbstractEventLoop, asyncio.Semaphore]] = WeakKeyDictionary()


class Proof(NamedTuple):
    """What is known of a policy that may be kept.

    Args:
        tests: how many expectations held: all that there are.
    """

    digest: str
    tests: int
    findings: list[Finding]


def sources_of(files: Mapping[str, str]) -> tuple[Source, ...]:
    """Take files by name.

    Raises:
        PublicError: a name is none that every machine reads the same.
    """
    faults = {f"body.files.{name}": fault for name in files if (fault := fault_of(name)) is not None}
    if faults:
        raise bad_request("not as it must be: body.files", faults)
    return tuple(Source(name, text) for name, text in sorted(files.items()))


async def lint(sources: Iterable[Source]) -> Linted:
    """Find mistakes in a policy, and in its tests.

    Raises:
        PublicError: that takes too long.
    """
    return Linted.model_validate(await _look("lint", sources))


async def prove(sources: Iterable[Source]) -> Proof:
    """Compile a policy and run its tests.

    Raises:
        PublicError: it has errors, or a test fails; or it takes too long to find out.
    """
    found = await _look("prove", sources)
    if "error" in found:
        raise PublicError(400, found["error"], found["message"], details={"diagnostics": found["diagnostics"]})
    if found["failed"]:
        said = f"of the policy's own tests {found['failed']} fail, the first at {found['first']}"
        raise PublicError(400, "tests_failed", said, details={"failures": found["failures"]})
    if found["compiled_s"] > COMPILE_S:
        took = (
            f"compiling the policy takes {found['compiled_s']:.1f} s, and every process would stand still for as long"
        )
        raise PublicError(400, "too_slow", f"{took}: at most {COMPILE_S:g} s are allowed; make it smaller")
    return Proof(found["digest"], found["passed"], [Finding.model_validate(each) for each in found["diagnostics"]])


async def _look(way: str, sources: Iterable[Source]) -> dict[str, Any]:
    """Have a process look at a policy, one at a time. It is given no settings: there are secrets in them."""
    sent = json.dumps([[source.name, source.text] for source in sources]).encode()
    async with _turns.setdefault(asyncio.get_running_loop(), asyncio.Semaphore(1)):
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-P", "-m", proof.__name__, way), stdin=PIPE, stdout=PIPE, stderr=DEVNULL, env={}
        )
        try:
            async with asyncio.timeout(LOOK_S):
                told, _ = await child.communicate(sent)
        except TimeoutError:
            told = b""
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
    if child.returncode != 0 or not told:
        said = f"looking at the policy takes more than {proof.MAX_CPU_S} s, or too much memory: make it smaller"
        raise PublicError(400, "too_slow", said)
    found: dict[str, Any] = json.loads(told)
    return found


def check_follows(lock: bytes | None, earlier: Iterable[str]) -> None:
    """Hold a bundle to those that were published before it.

    Raises:
        PolicyError: it must not follow one of them.
    """
    if lock is not None:
        for each in earlier:
            check_version(parse_lock(lock), parse_lock(each.encode()))


def lock_of(said: Mapping[str, Any] | None, sources: tuple[Source, ...]) -> bytes | None:
    """Read the lock of a bundle, and hold the files to it.

    Raises:
        PublicError: it is none, or not of these files.
    """
    if said is None:
        return None
    try:
        lock = parse_lock(json.dumps(said).encode())
        check_files(lock, sources)
    except PolicyError as error:
        raise refused(error, status=400) from error
    return write_lock(lock)


def refused(error: BylawError, *, status: int = 409) -> PublicError:
    """Make the error of a policy that may not be kept, or not decide."""
    found = [each.as_json() for each in error.diagnostics[: proof.MAX_TOLD]]
    return PublicError(status, error.code, error.message, details={"diagnostics": found} if found else None)
