"""Requests made up from the service's own OpenAPI document, good and bad, against a running service.

    python -m tests.sidecar.openapi_siege [--requests 10000] [--seed 1]

Schemathesis makes them and judges the answers: no 500, only documented statuses and types, bodies that fit their
schemas, and what the document forbids is refused. Each operation is tried over the document as it is, where nearly all
names are unknown to the policy, and over one in which types, actions and ids are those of the example studio.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tests.sidecar.conftest import serve, studio_settings

NEGATIVE: Final = "negative_data_rejection"
CHECKS: Final = (
    "not_a_server_error", "status_code_conformance", "content_type_conformance", "response_headers_conformance",
    "response_schema_conformance", "unsupported_method", NEGATIVE,
)  # fmt: skip
_COUNT: Final = re.compile(r"(\d+) generated")
#: Names of the example studio.
_TYPES: Final = ("user", "organization", "project", "task", "booking")
_IDS: Final = ("ann", "olga", "acme", "globex", "p1", "t1", "nobody")
_ACTIONS: Final = ("read", "task.read", "update", "project.update", "view_billing", "create", "booking.change")
_SHORT: Final = ("user:ann", "user:olga", "organization:acme", "project:p1", "task:t1", "task:nobody", "anonymous")


@dataclass(frozen=True, slots=True)
class Siege:
    """What came of it: how many requests were made, and what the tool said."""

    requests: int
    is_clean: bool
    said: str


def besiege(*, examples: int, seed: int) -> list[Siege]:
    """Try every operation with so many examples, over both documents."""
    with serve(studio_settings()) as client:
        written = client.get("/openapi.json").json
        url = f"http://127.0.0.1:{client.port}"
        named = tuple(check for check in CHECKS if check != NEGATIVE)  # another name is no mistake of the sender's
        return [_run(written, url, CHECKS, examples, seed), _run(_with_names(written), url, named, examples, seed)]


def _with_names(document: Any) -> Any:
    """Put the studio's names in place of any text."""
    changed = json.loads(json.dumps(document))
    schemas = changed["components"]["schemas"]
    entity = schemas["Entity"]["properties"]
    entity["type"], entity["id"] = {"enum": list(_TYPES)}, {"enum": list(_IDS)}
    schemas["Action"]["properties"]["name"] = {"enum": list(_ACTIONS)}
    for name in ("Question", "Check", "Evaluation", "Evaluations"):
        members = schemas[name]["properties"]
        members["tenant"] = {"enum": ["acme", "globex", "nowhere", None]}
        for word, texts in (("subject", _SHORT), ("action", _ACTIONS), ("resource", _SHORT)):
            if "anyOf" in members[word]:
                members[word]["anyOf"][1] = {"enum": list(texts)}
    return changed


def _run(document: Any, url: str, checks: Sequence[str], examples: int, seed: int) -> Siege:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "openapi.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        command = [
            *(str(Path(sys.executable).with_name("schemathesis")), "run", str(path), "--url", url, "--no-color"),
            *("--checks", ",".join(checks), "--phases", "examples,coverage,fuzzing", "--max-examples", str(examples)),
            *("--seed", str(seed), "--generation-database", "none", "--suppress-health-check", "all"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    counted = _COUNT.search(done.stdout)
    return Siege(int(counted[1]) if counted else 0, done.returncode == 0, done.stdout + done.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Besiege; exit code 1 where an answer contradicts the document."""
    parser = argparse.ArgumentParser(prog="python -m tests.sidecar.openapi_siege")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    given = parser.parse_args(arguments)
    done, seed = 0, given.seed
    while done < given.requests:
        for siege in besiege(examples=400, seed=seed):
            done += siege.requests
            if not siege.is_clean or not siege.requests:
                print(siege.said)
                return 1
        seed += 1
        print(f"{done} requests: no contradiction", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
