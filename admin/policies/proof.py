"""What looks at a policy that somebody sent, in a process of its own: `python -m admin.policies.proof lint|prove`.

In, on standard input: `[[NAME, TEXT], …]`. Out, on standard output, as JSON: what was found in it, and of `prove` what
became of its tests and how long compiling took.

A policy can be written so that it takes hours to compile, or to test, or more memory than there is; nobody can know
before. A thread cannot be ended and shares its interpreter with everybody who waits; a process can, and does not. It
ends itself at its bounds, and whoever began it ends it at his.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from collections.abc import Callable, Mapping
from typing import Any, Final

from engine import Policy, PolicyError
from engine.fixtures import check_tests
from engine.loading import compile_sources
from engine.source import Source
from engine.testing import run_tests

#: Seconds of a processor, and bytes, that it may take.
MAX_CPU_S: Final = 20
MAX_BYTES: Final = 2 << 30
#: More findings, or tests that fail, than these are only counted.
MAX_TOLD: Final = 100

Found = dict[str, Any]


def lint(sources: tuple[Source, ...]) -> Found:
    """Find mistakes in a policy, and in its tests."""
    model, found = compile_sources(sources)
    every = found if model is None else [*found, *check_tests(model)]
    is_clean = all(each.severity != "error" for each in every)
    return {"clean": is_clean, "diagnostics": [each.as_json() for each in every[:MAX_TOLD]]}


def prove(sources: tuple[Source, ...]) -> Found:
    """Compile a policy and run its tests."""
    began = time.process_time()
    try:
        policy = Policy.of(sources)
    except PolicyError as error:
        found = [each.as_json() for each in error.diagnostics[:MAX_TOLD]]
        return {"error": error.code, "message": error.message, "diagnostics": found}
    compiled_s = time.process_time() - began
    outcome = run_tests(policy)
    return {
        "digest": policy.digest,
        "diagnostics": [each.as_json() for each in policy.diagnostics[:MAX_TOLD]],
        "compiled_s": compiled_s,
        "passed": outcome.passed,
        "failed": len(outcome.failures),
        "first": f"{outcome.failures[0].span.at}: {outcome.failures[0].message}" if outcome.failures else None,
        "failures": [each.as_json() for each in outcome.failures[:MAX_TOLD]],
    }


WAYS: Final[Mapping[str, Callable[[tuple[Source, ...]], Found]]] = {"lint": lint, "prove": prove}


def main() -> None:
    """Do what the command line says."""
    resource.setrlimit(resource.RLIMIT_CPU, (MAX_CPU_S, MAX_CPU_S))
    resource.setrlimit(resource.RLIMIT_AS, (MAX_BYTES, MAX_BYTES))
    sources = tuple(Source(name, text) for name, text in json.load(sys.stdin.buffer))
    print(json.dumps(WAYS[sys.argv[1]](sources)))


if __name__ == "__main__":
    main()
