"""What makes a policy one that may be kept, and one that may decide. All of it computes: it runs in a thread."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping
from typing import Any, Final

from admin.errors import PublicError, bad_request
from admin.policies.wire import Finding
from engine import BylawError, Policy, PolicyError
from engine.bundle import check_files, check_version, fault_of, parse_lock, write_lock
from engine.diagnostics import Diagnostic
from engine.fixtures import check_tests
from engine.loading import compile_sources
from engine.source import Source
from engine.testing import run_tests

#: More findings, or tests that fail, than these are only counted.
MAX_TOLD: Final = 100
#: Most that compiling may take of a processor: as long no process that decides takes in what changes.
COMPILE_S: Final = 2.0
#: Most that the tests of a policy may take together.
TESTS_S: Final = 10.0


def sources_of(files: Mapping[str, str]) -> tuple[Source, ...]:
    """Take files by name.

    Raises:
        PublicError: a name is none that every machine reads the same.
    """
    faults = {f"body.files.{name}": fault for name in files if (fault := fault_of(name)) is not None}
    if faults:
        raise bad_request("not as it must be: body.files", faults)
    return tuple(Source(name, text) for name, text in sorted(files.items()))


def lint(sources: tuple[Source, ...]) -> list[Diagnostic]:
    """Find mistakes in a policy, and in its tests."""
    model, found = compile_sources(sources)
    return found if model is None else [*found, *check_tests(model)]


def prove(sources: tuple[Source, ...]) -> tuple[Policy, int]:
    """Compile a policy and run its tests; return it, and how many of their expectations held.

    Raises:
        PublicError: it has errors, or a test fails; or it takes too long to find out.
    """
    began = time.thread_time()
    try:
        policy = Policy.of(sources)
    except PolicyError as error:
        raise refused(error, status=400) from error
    took_s = time.thread_time() - began
    if took_s > COMPILE_S:
        said = f"compiling the policy takes {took_s:.1f} s, and every process would stand still for as long: at most "
        raise PublicError(400, "too_slow", f"{said}{COMPILE_S:g} s are allowed; make it smaller")
    end = time.thread_time() + TESTS_S
    outcome = run_tests(policy, is_over=lambda: time.thread_time() > end)
    if not outcome.is_whole:
        raise PublicError(400, "too_slow", f"the policy's own tests take longer than {TESTS_S:g} s: make them fewer")
    if outcome.failures:
        failures = [each.as_json() for each in outcome.failures[:MAX_TOLD]]
        first = outcome.failures[0]
        said = f"of the policy's own tests {len(outcome.failures)} fail, the first at {first.span.at}: {first.message}"
        raise PublicError(400, "tests_failed", said, details={"failures": failures})
    return policy, outcome.passed


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


def shown(found: Iterable[Diagnostic]) -> list[Finding]:
    """Write findings as an answer has them."""
    return [Finding.model_validate(each.as_json()) for each in list(found)[:MAX_TOLD]]


def refused(error: BylawError, *, status: int = 409) -> PublicError:
    """Make the error of a policy that may not be kept, or not decide."""
    found = [each.model_dump() for each in shown(error.diagnostics)]
    return PublicError(status, error.code, error.message, details={"diagnostics": found} if found else None)
