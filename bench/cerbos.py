"""The scenario written for Cerbos, and its server: where its binary is, how it starts, what it is asked and answers.

Cerbos keeps policies and no facts: roles and attributes come with each request. There is one resource policy for each
kind; the wall between tenants is a condition of every rule that allows, and the owner is a derived role.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any

from bench.scenario import KINDS, Question, Rule, World

PATH = "/api/check/resources"
READY = "/_cerbos/health"
API = "api.cerbos.dev/v1"
SAME_TENANT = "R.attr.tenant == P.attr.tenant"


def find(given: str | None) -> Path | None:
    """Find the binary: as given (itself, or a folder in which `npm install cerbos` was run), or on PATH."""
    place = Path(given or shutil.which("cerbos") or "")
    if place.is_dir():
        return next(iter(sorted(place.glob("node_modules/@cerbos/cerbos-*/cerbos-*"))), None) if given else None
    # What npm puts on PATH is a script in `node_modules/cerbos`; the binary lies beside that in a package of its own.
    script = place.resolve()
    if script.suffix == ".js":
        return next(iter(sorted(script.parent.parent.glob("@cerbos/cerbos-*/cerbos-*"))), None)
    return script if script.is_file() else None


def command(binary: Path, world: World, folder: Path, http: str, grpc: str) -> list[str]:
    """Write policies and configuration below `folder`; return the command that serves them, without log or watcher."""
    policies = folder / "policies"
    policies.mkdir()
    for name, policy in _policies(world.rules):
        # JSON is YAML.
        (policies / f"{name}.yaml").write_text(json.dumps(policy), encoding="utf-8")
    configuration = {
        "server": {"httpListenAddr": http, "grpcListenAddr": grpc},
        "storage": {"driver": "disk", "disk": {"directory": str(policies), "watchForChanges": False}},
        "audit": {"enabled": False},
        "telemetry": {"disabled": True},
    }
    (folder / "cerbos.yaml").write_text(json.dumps(configuration), encoding="utf-8")
    return [str(binary), "server", f"--config={folder / 'cerbos.yaml'}", "--log-level=ERROR"]


def _policies(rules: Sequence[Rule]) -> Iterator[tuple[str, dict[str, Any]]]:
    owner = {"name": "owner", "parentRoles": ["member"], "condition": _when(f"{SAME_TENANT} && R.attr.owner == P.id")}
    yield "owner", {"apiVersion": API, "derivedRoles": {"name": "common", "definitions": [owner]}}
    by_kind: dict[str, list[Rule]] = {kind: [] for kind in KINDS}
    for rule in rules:
        for kind in rule.kinds:
            by_kind.setdefault(kind, []).append(rule)
    yield from ((kind, _policy(kind, of_kind)) for kind, of_kind in by_kind.items())


def _policy(kind: str, rules: Iterable[Rule]) -> dict[str, Any]:
    listed = [_rule(rule) for rule in rules]
    body = {"resource": kind, "version": "default", "importDerivedRoles": ["common"], "rules": listed}
    return {"apiVersion": API, "resourcePolicy": body}


def _rule(rule: Rule) -> dict[str, Any]:
    allow = {"name": rule.name, "actions": list(rule.actions), "effect": "EFFECT_ALLOW"}
    if rule.meaning == "role":
        return {**allow, "roles": [rule.name], "condition": _when(SAME_TENANT)}
    if rule.meaning == "owner":
        return {**allow, "derivedRoles": ["owner"]}
    return {**allow, "effect": "EFFECT_DENY", "roles": ["*"], "condition": _when("R.attr.archived")}


def _when(expression: str) -> dict[str, Any]:
    return {"match": {"expr": expression}}


def body(question: Question) -> dict[str, Any]:
    """Write the request: one principal with all its roles, one resource with its attributes, one action."""
    user, thing = question.user, question.thing
    attributes = {"tenant": thing.tenant, "owner": thing.owner, "archived": thing.archived}
    resource = {"kind": thing.kind, "id": thing.id, "attr": attributes}
    return {
        "principal": {"id": user.id, "roles": ["member", *user.roles], "attr": {"tenant": user.tenant}},
        "resources": [{"actions": [question.action], "resource": resource}],
    }


def allows(question: Question, answer: Any) -> bool:
    """Read the decision from the answer."""
    return bool(answer["results"][0]["actions"][question.action] == "EFFECT_ALLOW")
