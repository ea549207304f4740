"""`bylaw admin publish`, `rollback`, `withdraw`, `policies`: verbs that `admin_verbs` runs, of published policies."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from bylaw.commands.admin_verbs import Outcome, Verb, show_table, write
from engine.bundle import LOCK_NAME
from engine.errors import BylawError
from engine.loading import read_sources

if TYPE_CHECKING:
    from bylaw.admin_api import Conversation

Json = dict[str, Any]
#: What the service says of a policy that it understood.
_JUDGED: Final = ("bad_policy", "tests_failed", "bad_lock", "bundle_mismatch")
_LISTED: Final = {"mark": "", "id": "ID", "made": "UPLOADED", "note": "NOTE", "digest": "POLICY"}


def _publish(on: Conversation, args: argparse.Namespace) -> Outcome:
    """Upload a directory, and let it decide; or let decide what was uploaded before."""
    if args.id is None:
        body = _read(args.directory)
        if args.note is not None:
            body["note"] = args.note
        args.id = _upload(on, body)
    elif args.directory is not None:
        raise BylawError("bad_request", "name a directory or --id, not both")
    return write(on, args, "POST", ["policies", args.id, "publish"], None, f"published {args.id}")


def _upload(on: Conversation, body: Json) -> str:
    from bylaw.admin_api import RefusedError, path_of

    try:
        return str(on.ask("POST", path_of("policies"), body).body["id"])
    except BylawError as error:
        if error.code not in _JUDGED:
            raise
        raise RefusedError(error.code, error.message) from error


def _read(directory: str | None) -> Json:
    if directory is None:
        raise BylawError("bad_request", "name a directory with the policy, or --id of one that was uploaded")
    body: Json = {"files": {source.name: source.text for source in read_sources(directory)}}
    lock = Path(directory) / LOCK_NAME
    if lock.exists():
        try:
            body["lock"] = json.loads(lock.read_bytes())
        except ValueError as error:
            raise BylawError("bad_lock", f"{lock} is no JSON: build it anew with `bylaw bundle build`") from error
    return body


def _roll_back(on: Conversation, args: argparse.Namespace) -> Outcome:
    body = {} if args.id is None else {"to": args.id}
    found = write(on, args, "POST", ["policies", "rollback"], body, "")
    return found._replace(told=f"published {found.said.get('policy')} again{found.told}")


def _withdraw(on: Conversation, args: argparse.Namespace) -> Outcome:
    done = "nothing is published: each process decides by its directory"
    return write(on, args, "DELETE", ["policies", "published"], None, done)


def _policies(on: Conversation, _: argparse.Namespace) -> Outcome:
    from bylaw.admin_api import path_of

    now = on.ask("GET", path_of("policies", "published")).body
    found = list(on.pages(path_of("policies")))
    rows = [{**each, "mark": "*" if each.get("id") == now.get("policy") else ""} for each in found]
    told = show_table(_LISTED, rows) if rows else "no policy was uploaded"
    if now.get("policy") is None:
        told += "\nnothing is published: each process decides by its directory"
    return Outcome({"items": found, "published": now.get("policy")}, told)


VERBS: Final[Mapping[str, Verb]] = {
    "publish": _publish,
    "rollback": _roll_back,
    "withdraw": _withdraw,
    "policies": _policies,
}
