"""Requests made up from the administration's own OpenAPI document, good and bad, against a running service.

    python -m tests.admin.openapi_siege [--requests 10000] [--seed 1] [--postgres]

As `tests.sidecar.openapi_siege` does it: schemathesis makes them and judges the answers. It asks with a key that may do
everything, of a store that holds the example studio; once over the document as it is, where nearly all names are
unknown, and once over one in which names are the studio's, so that much of it is written, changed and deleted.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import re
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, nullcontext
from pathlib import Path
from typing import Any, Final

from aiohttp import web

from admin.app import SERVER, create_app
from admin.endpoints import ENDPOINTS
from admin.openapi import describe
from admin.services import Services
from engine import Policy
from engine.facts_file import read_file
from store import migrating
from store.changes import Writer
from store.database import Database
from store.settling import Receipts
from tests.admin.service import fill, following
from tests.databases import Postgres, quiet, run, sqlite_urls
from tests.sidecar.openapi_siege import CHECKS, NEGATIVE, Siege

STUDIO: Final = Path(__file__).parents[2] / "policies" / "studio"
_COUNT: Final = re.compile(r"(\d+) generated")
#: Names of the example studio, by the parameter or member that they stand for.
_NAMES: Final[dict[str, Sequence[str]]] = {
    "tenant": ("acme", "globex", "nowhere"),
    "home": ("acme", "globex"),
    "subject": ("user:ann", "user:olga", "group:staff", "user:nobody"),
    "role": ("manager", "member", "organization.manager", "project.editor"),
    "on": ("organization:acme", "project:p1", "task:t1", "system"),
    "parent": ("organization:acme", "project:p1"),
}


@contextmanager
def stored(policy: Policy, server: Postgres | None) -> Iterator[tuple[str, str]]:
    """Fill a store with the studio's facts, until the block ends; give its URL, and a key that may do everything.

    Args:
        server: where it is to be; None: on SQLite.
    """
    facts = read_file(STUDIO / "facts.yaml")
    if server is not None:
        urls = server.fresh()
        yield urls.admin, run(fill(policy, facts, urls.admin))
        server.drop(urls)
        return
    with tempfile.TemporaryDirectory() as folder:
        url = sqlite_urls(Path(folder) / "siege.db").admin
        run(migrating.up(url, report=quiet))
        yield url, run(fill(policy, facts, url))


@contextmanager
def serve(policy: Policy, url: str) -> Iterator[str]:
    """Run a service over a store, in a thread of its own, until the block ends; give its URL."""
    started, stop = threading.Event(), threading.Event()
    found: list[str] = []

    async def live() -> None:
        database = Database(url, pool_size=4)
        policies = following(policy, database)
        services = Services(database, Writer(database), Receipts(database), lambda: policies.loaded.policy, policies)
        runner = web.AppRunner(create_app(services, ENDPOINTS, version="siege"), access_log=None, **SERVER)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        found.append(f"http://127.0.0.1:{runner.addresses[0][1]}")
        started.set()
        await asyncio.to_thread(stop.wait)
        await runner.cleanup()
        await database.close()

    def body() -> None:
        try:
            asyncio.run(live())
        finally:
            started.set()

    thread = threading.Thread(target=body)
    thread.start()
    started.wait()
    try:
        yield found[0]
    finally:
        stop.set()
        thread.join()


def besiege(*, examples: int, seed: int, only: str | None = None, server: Postgres | None = None) -> list[Siege]:
    """Try every operation with so many examples, over both documents.

    Args:
        only: a part of the paths to be tried; None: all are.
        server: as `stored` has it.
    """
    document = json.loads(json.dumps(describe(ENDPOINTS, "siege")))
    del document["paths"]["/admin/v1/keys/{id}"]  # it would revoke the key that it asks with
    if only is not None:
        document["paths"] = {path: said for path, said in document["paths"].items() if only in path}
    named = tuple(check for check in CHECKS if check != NEGATIVE)  # another name is no mistake of the sender's
    policy, sieges = Policy.load(STUDIO), []
    for each, checks in ((document, CHECKS), (_with_names(document), named)):
        with stored(policy, server) as (url, key), serve(policy, url) as where:
            sieges.append(_run(each, where, key, checks, examples, seed))
    return sieges


def _with_names(document: Any) -> Any:
    """Put the studio's names in place of any text."""
    changed = json.loads(json.dumps(document))
    for path in changed["paths"].values():
        for operation in path.values():
            for parameter in operation.get("parameters", ()):
                if parameter["name"] in _NAMES and parameter["in"] != "header":
                    parameter["schema"] = {"enum": list(_NAMES[parameter["name"]])}
    for schema in changed["components"]["schemas"].values():
        for name, members in schema.get("properties", {}).items():
            if name in _NAMES and schema["title"].startswith("New"):
                schema["properties"][name] = {**members, "enum": list(_NAMES[name])}
    return changed


def _run(document: Any, url: str, key: str, checks: Sequence[str], examples: int, seed: int) -> Siege:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "openapi.json"
        path.write_text(json.dumps(document), encoding="utf-8")
        command = [
            *(str(Path(sys.executable).with_name("schemathesis")), "run", str(path), "--url", url, "--no-color"),
            *("--checks", ",".join(checks), "--phases", "examples,coverage,fuzzing", "--max-examples", str(examples)),
            *("--seed", str(seed), "--generation-database", "none", "--suppress-health-check", "all"),
            *("--header", f"Authorization: Bearer {key}"),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=folder)
    counted = _COUNT.search(done.stdout)
    return Siege(int(counted[1]) if counted else 0, done.returncode == 0, done.stdout + done.stderr)


def main(arguments: Sequence[str] | None = None) -> int:
    """Besiege; exit code 1 where an answer contradicts the document."""
    parser = argparse.ArgumentParser(prog="python -m tests.admin.openapi_siege")
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--only", metavar="PART", help="paths that contain this")
    parser.add_argument("--examples", type=int, default=40, help="of each operation, at a time")
    parser.add_argument("--postgres", action="store_true", help="on PostgreSQL; without it, on SQLite")
    given = parser.parse_args(arguments)
    done, seed = 0, given.seed
    with closing(Postgres()) if given.postgres else nullcontext() as server:
        while done < given.requests:
            for siege in besiege(examples=given.examples, seed=seed, only=given.only, server=server):
                done += siege.requests
                if not siege.is_clean or not siege.requests:
                    print(siege.said)
                    return 1
            seed += 1
            print(f"{done} requests: no contradiction", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
