"""Decisions to log, and logs to look into."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

from bylaw.log_chains import Findings, Verifier, files_of
from engine.request import HttpRequest, Request
from sidecar.decision_log import DecisionLog
from sidecar.log_options import LogOptions

NOON: Final = 1_790_000_000_000_000_000
PATIENCE_S: Final = 10.0
POLICY: Final = "sha256:3b6a"
REVISION: Final = "768cecfd36a6ec9f"


def asked(number: int = 1, **changes: Any) -> Request:
    """A question of its own, at an instant of its own."""
    usual = {"tenant": "acme", "subject": "user:ann", "action": "read", "resource": f"task:t{number}"}
    request = Request(**usual | changes)
    request.now = NOON + number * 1000
    return request


def allowed(number: int = 1, by: str = "organization.manager on organization:acme") -> str:
    """The answer to it, as a caller gets it."""
    context: dict[str, Any] = {
        "code": "role",
        "by": by,
        "at": "studio.bylaw:33",
        "because": None,
        "obligations": [],
        "revision": REVISION,
        "policy": POLICY,
        "id": f"01J{number:023d}",
    }
    return json.dumps({"decision": True, "context": context})


def denied(number: int = 1) -> str:
    context = {"code": "default", "by": None, "policy": POLICY, "revision": REVISION, "id": f"01J{number:023d}"}
    return json.dumps({"decision": False, "context": context})


def failed(message: str = "the policy has no type `x`") -> str:
    """The answer to an item of a batch that could not be decided."""
    error = {"status": 400, "message": message}
    return json.dumps({"decision": False, "context": {"code": "unknown_type", "error": error}})


def note(log: DecisionLog, first: int, last: int) -> None:
    """Note decisions by their numbers."""
    for number in range(first, last + 1):
        log.note(asked(number), allowed(number), "loopback", f"r{number}", "/check")


def log_to(folder: Path, **changes: Any) -> DecisionLog:
    """A log into files, which has time to stop."""
    return DecisionLog(LogOptions(f"file:{folder}", **{"stop_s": PATIENCE_S} | changes), process="one")


def lines_in(folder: Path) -> list[dict[str, Any]]:
    """All that a directory's log says, line by line."""
    return [json.loads(line) for file in files_of(folder) for line in file.read_text().splitlines()]


def logged(folder: Path, question: Request | HttpRequest, answer: str, **changes: Any) -> dict[str, Any]:
    """Log one decision; return its line."""

    async def talk() -> None:
        log = log_to(folder, **changes)
        await log.start()
        log.note(question, answer, "loopback", "r1", "/check")
        await log.stop()

    asyncio.run(talk())
    return lines_in(folder)[0]


def broken(folder: Path) -> list[str]:
    """What is wrong with the chains in a directory."""
    found = Findings(is_shown=False)
    for _ in Verifier(found).verify(files_of(folder)):
        pass
    return [each["message"] for each in found.kept]


async def until(is_so: Callable[[], bool]) -> None:
    """Let the loop go on until something is so."""
    async with asyncio.timeout(PATIENCE_S):
        while not is_so():  # noqa: ASYNC110  # what is waited for has no event: a counter, a file
            await asyncio.sleep(0)
