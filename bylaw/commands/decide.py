"""`bylaw decide`: one question, offline. Exit 0 allow, 1 deny, 2 where there is no answer."""

from __future__ import annotations

import argparse
import json
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from bylaw.output import BOLD, DIM, GREEN, RED, fail, paint, print_json
from engine.decision import Decision
from engine.errors import RequestError
from engine.explain import explain, render
from engine.policy import Facts, Policy
from engine.request import Request
from engine.values import parse_time, time_of


def run(args: argparse.Namespace) -> int:
    """Decide one question of a policy and a facts file, and print the answer."""
    policy = Policy.load(args.policy)
    facts = Facts.load(args.facts, policy)
    now = _instant(args.at)
    if args.request is not None:
        if args.words or args.tenant or args.context:
            raise RequestError("bad_request", "--request takes the place of the three words, --tenant and --context")
        return _answer_body(_body(args.request), policy, facts, args, now)
    if len(args.words) != 3:  # SUBJECT ACTION RESOURCE
        raise RequestError("bad_request", "name SUBJECT ACTION RESOURCE, like: user:ann read task:t1")
    subject, action, resource = args.words
    request = Request(
        tenant=args.tenant, subject=subject, action=action, resource=resource, context=_context(args.context), now=now
    )
    return _answer(request, policy, facts, args)


def _instant(written: str | None) -> datetime | None:
    if written is None:
        return None
    moment = parse_time(written)
    if moment is None:
        raise RequestError("bad_request", '--at: a time is written "2026-03-01T10:00:00Z"')
    return datetime(1970, 1, 1, tzinfo=UTC) + timedelta(microseconds=moment // 1000)


def _context(written: str | None) -> dict[str, Any]:
    if written is None:
        return {}
    try:
        found = json.loads(written)
    except (ValueError, RecursionError) as error:
        raise RequestError("bad_request", f"--context: no JSON: {error}") from error
    if not isinstance(found, dict):
        raise RequestError("bad_request", "--context: expected a JSON object")
    return found


def _body(path: str) -> bytes:
    return sys.stdin.buffer.read() if path == "-" else Path(path).read_bytes()


def _answer(request: Request, policy: Policy, facts: Facts, args: argparse.Namespace) -> int:
    if args.explain:
        found = explain(policy, request, facts)
        print_json(found) if args.json else print(render(found))
        return 0 if found["decision"] else 1
    decision = policy.decide(request, facts)
    if args.json:
        print_json(decision.as_json({"revision": facts.revision, "policy": policy.digest}))
    else:
        _print(decision)
    return 0 if decision.allowed else 1


def _print(decision: Decision) -> None:
    word = paint("allow", GREEN) if decision.allowed else paint("deny", RED)
    parts = [word, decision.code]
    if decision.by:
        parts.append(f"by {paint(decision.by, BOLD)}")
    if decision.at:
        parts.append(paint(decision.at, DIM))
    print("  ".join(parts))
    if decision.because:
        print(f"  because {decision.because}")
    for obligation in decision.obligations:
        print(f"  with {obligation.name}: {obligation.value}")


def _answer_body(body: bytes, policy: Policy, facts: Facts, args: argparse.Namespace, now: datetime | None) -> int:
    """Answer a body of `POST /check`, read the way the service reads it: one question, or many.

    Exit code 0: all are allowed, or under `permit_on_first_permit` one is; 2: one of them is malformed.
    """
    from sidecar.errors import PublicError
    from sidecar.wire import Batch, parse_check

    try:
        asked = parse_check(body)
    except PublicError as error:
        raise RequestError(error.code, f"{args.request}: {error.message}") from error
    if not isinstance(asked, Batch):
        return _answer(_at(asked, now), policy, facts, args)
    codes = []
    for item in asked.items:
        if isinstance(item, PublicError):
            codes.append(fail(RequestError(item.code, f"{args.request}: {item.message}"), as_json=args.json))
        else:
            codes.append(_answer(_at(item, now), policy, facts, args))
        if codes[-1] == _STOPS_AT.get(asked.semantic):
            break
    if 2 in codes:
        return 2
    return min(codes) if asked.semantic == "permit_on_first_permit" else max(codes)


#: The answer, as an exit code, at which a batch ends.
_STOPS_AT = {"deny_on_first_deny": 1, "permit_on_first_permit": 0}


def _at(request: Request, now: datetime | None) -> Request:
    request.now = None if now is None else time_of(now)
    return request
