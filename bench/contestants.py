"""The contestants of `bench.decide`, each holding one world in the way natural to it.

A contestant is built from a `World`, prepares a request from a `Question` (not timed), and counts how many of a list of
prepared requests it allows (timed). Counting is what keeps a contestant honest: an answer that is never read need not
be computed, and the count is compared with the right one after every turn.

Peers are imported when they are built, by name, so that the benchmark runs without those that are not installed.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from bench import bylaw_text
from bench.scenario import Question, Rule, User, World


class Contestant(Protocol):
    """Something that decides."""

    def prepare(self, question: Question) -> Any:
        """Turn a question into what the contestant takes; not timed."""

    def count(self, requests: Sequence[Any]) -> int:
        """Decide each of the prepared requests; return how many are allowed."""


# --- by hand


@dataclass(frozen=True, slots=True)
class _Member:
    tenant: str
    permissions: frozenset[str]


class Floor:
    """The same policy written by hand in Python: `if`, `dict` and `frozenset`, a bool and no reason.

    It starts from ids, as Bylaw does: who asks names a user and a thing, and has neither in hand.
    """

    def __init__(self, world: World) -> None:
        granted = {rule.name: rule.codes for rule in world.rules if rule.meaning == "role"}
        members = {user.id: _member(user, granted) for user in world.users}
        things = {thing.key: thing for thing in world.things}
        owned = frozenset(code for rule in world.rules if rule.meaning == "owner" for code in rule.codes)
        refused = frozenset(code for rule in world.rules if rule.meaning == "archived" for code in rule.codes)

        def decide(tenant: str, user: str, code: str, key: str) -> bool:
            member = members[user]
            thing = things[key]
            if member.tenant != tenant or thing.tenant != tenant:
                return False
            if thing.archived and code in refused:
                return False
            if code in member.permissions:
                return True
            return thing.owner == user and code in owned

        self._decide = decide

    def prepare(self, question: Question) -> tuple[str, str, str, str]:
        """Take the ids: tenant, user, `kind.action`, `kind:id`."""
        thing = question.thing
        return thing.tenant, question.user.id, f"{thing.kind}.{question.action}", thing.key

    def count(self, requests: Sequence[tuple[str, str, str, str]]) -> int:
        """Call the function for each."""
        decide, allowed = self._decide, 0
        for tenant, user, code, key in requests:
            if decide(tenant, user, code, key):
                allowed += 1
        return allowed


def _member(user: User, granted: dict[str, tuple[str, ...]]) -> _Member:
    return _Member(user.tenant, frozenset(code for role in user.roles for code in granted[role]))


# --- Bylaw


class Bylaw:
    """Bylaw's engine, with the `Request` built beforehand."""

    def __init__(self, world: World) -> None:
        # Here and not above: the benchmark runs without Bylaw as it runs without a peer.
        from engine import Facts, Policy, Request

        self._request = Request
        with TemporaryDirectory() as folder:
            policies, facts = bylaw_text.write(world, Path(folder))
            self._policy = Policy.load(str(policies))
            self._facts = Facts.load(str(facts), self._policy)

    def prepare(self, question: Question) -> Any:
        """Build the request."""
        tenant, subject, action, resource = _words(question)
        return self._request(tenant=tenant, subject=subject, action=action, resource=resource)

    def count(self, requests: Sequence[Any]) -> int:
        """Decide each and read `.allowed`."""
        decide, facts, allowed = self._policy.decide, self._facts, 0
        for request in requests:
            if decide(request, facts).allowed:
                allowed += 1
        return allowed


class BylawInclusive(Bylaw):
    """Bylaw's engine, with the `Request` built each time, as a caller does who has four strings."""

    def __init__(self, loaded: Bylaw) -> None:
        self._request, self._policy, self._facts = loaded._request, loaded._policy, loaded._facts

    def prepare(self, question: Question) -> tuple[str, str, str, str]:
        """Take the four strings."""
        return _words(question)

    def count(self, requests: Sequence[tuple[str, str, str, str]]) -> int:
        """Build each request, decide it and read `.allowed`."""
        decide, facts, make, allowed = self._policy.decide, self._facts, self._request, 0
        for tenant, subject, action, resource in requests:
            request = make(tenant=tenant, subject=subject, action=action, resource=resource)
            if decide(request, facts).allowed:
                allowed += 1
        return allowed


def _words(question: Question) -> tuple[str, str, str, str]:
    thing = question.thing
    return thing.tenant, f"user:{question.user.id}", f"{thing.kind}.{question.action}", thing.key


# --- Cedar


class Cedar:
    """Cedar through cedarpy at its best: one policy a rule and all entities, both parsed once into its handles.

    Types and ids are given apart, which it answers faster than its own `User::"u1"` syntax.
    """

    def __init__(self, world: World) -> None:
        cedarpy = import_module("cedarpy")
        self._is_authorized = cedarpy.is_authorized
        self._policies = cedarpy.PolicySet.from_str("\n".join(map(_cedar_policy, world.rules)))
        self._entities = cedarpy.Entities.from_json_str(json.dumps(list(_cedar_entities(world))))

    def prepare(self, question: Question) -> dict[str, dict[str, str]]:
        """Write the request as Cedar's three entities."""
        code = f"{question.thing.kind}.{question.action}"
        return {
            "principal": _entity("User", question.user.id),
            "action": _entity("Action", code),
            "resource": _entity("Thing", question.thing.id),
        }

    def count(self, requests: Sequence[dict[str, dict[str, str]]]) -> int:
        """Authorize each and read `.allowed`."""
        decide, policies, entities, allowed = self._is_authorized, self._policies, self._entities, 0
        for request in requests:
            if decide(request, policies, entities).allowed:
                allowed += 1
        return allowed


def _entity(kind: str, name: str) -> dict[str, str]:
    return {"type": kind, "id": name}


def _cedar_policy(rule: Rule) -> str:
    """Write one policy; what covers more than two actions speaks of an action group of the rule's name."""
    actions = ", ".join(f'Action::"{code}"' for code in rule.codes)
    scope = f"action in [{actions}]" if len(rule.codes) <= 2 else f'action in Action::"{rule.name}"'
    same_tenant = "principal.tenant == resource.tenant"
    if rule.meaning == "role":
        return f'permit(principal in Role::"{rule.name}", {scope}, resource) when {{ {same_tenant} }};'
    if rule.meaning == "owner":
        return f"permit(principal, {scope}, resource) when {{ {same_tenant} && resource.owner == principal }};"
    return f"forbid(principal, {scope}, resource) when {{ resource.archived }};"


def _cedar_entities(world: World) -> Iterator[dict[str, Any]]:
    groups: dict[str, list[dict[str, str]]] = {}
    for rule in world.rules:
        for code in rule.codes:
            groups.setdefault(code, []).extend([_entity("Action", rule.name)] if len(rule.codes) > 2 else [])
    for code, parents in groups.items():
        yield {"uid": _entity("Action", code), "attrs": {}, "parents": parents}
    for user in world.users:
        parents = [_entity("Role", role) for role in user.roles]
        yield {"uid": _entity("User", user.id), "attrs": {"tenant": user.tenant}, "parents": parents}
    for thing in world.things:
        owner = {"__entity": _entity("User", thing.owner)}
        attributes = {"tenant": thing.tenant, "owner": owner, "archived": thing.archived}
        yield {"uid": _entity("Thing", thing.id), "attrs": attributes, "parents": []}


# --- pycasbin

CASBIN_MODEL = """
[request_definition]
r = sub, obj, act, dom, thing
[policy_definition]
p = sub, obj, act, eft
[role_definition]
g = _, _, _
[policy_effect]
e = some(where (p.eft == allow)) && !some(where (p.eft == deny))
[matchers]
m = r.obj == p.obj && regexMatch(r.act, p.act) && r.thing.tenant == r.dom && \
(p.sub == "owner" && r.thing.owner == r.sub || p.sub == "archived" && r.thing.archived || g(r.sub, p.sub, r.dom))
"""


class Casbin:
    """pycasbin: one p-line a rule, one g-line a role held in a tenant, the cheapest test of the matcher first."""

    def __init__(self, world: World) -> None:
        self._enforcer = self._empty(import_module("casbin"))
        self._enforcer.add_policies([line for rule in world.rules for line in self._lines(rule)])
        held = [[user.id, role, user.tenant] for user in world.users for role in user.roles]
        self._enforcer.add_grouping_policies(held)

    def _empty(self, casbin: Any) -> Any:
        model = casbin.Model()
        model.load_model_from_text(CASBIN_MODEL)
        return casbin.Enforcer(model)

    def _lines(self, rule: Rule) -> list[list[str]]:
        return [_casbin_line(rule, "|".join(f"{action}$" for action in rule.actions))]

    def prepare(self, question: Question) -> tuple[str, str, str, str, Any]:
        """Take subject, area, action and domain, and the thing itself for its attributes."""
        thing = question.thing
        return question.user.id, thing.area, question.action, thing.tenant, thing

    def count(self, requests: Sequence[tuple[str, str, str, str, Any]]) -> int:
        """Enforce each."""
        decide, allowed = self._enforcer.enforce, 0
        for subject, area, action, domain, thing in requests:
            if decide(subject, area, action, domain, thing):
                allowed += 1
        return allowed


class CasbinFast(Casbin):
    """pycasbin's `FastEnforcer`, which looks only at the p-lines with the request's very object and action."""

    def _empty(self, casbin: Any) -> Any:
        index = [2, 1]
        model = import_module("casbin.model").FastModel(index)
        model.load_model_from_text(CASBIN_MODEL.replace("regexMatch(r.act, p.act)", "r.act == p.act"))
        return casbin.FastEnforcer(model, cache_key_order=index)

    def _lines(self, rule: Rule) -> list[list[str]]:
        return [_casbin_line(rule, action) for action in rule.actions]


def _casbin_line(rule: Rule, actions: str) -> list[str]:
    subject = rule.name if rule.meaning == "role" else rule.meaning
    return [subject, rule.area, actions, "deny" if rule.meaning == "archived" else "allow"]


# --- oso


@dataclass(frozen=True, slots=True)
class OsoUser:
    """A user as oso's policy sees it."""

    id: str
    tenant: str
    roles: frozenset[str]

    def holds(self, role: str) -> bool:
        """Say whether the user holds the role."""
        return role in self.roles


class Oso:
    """oso: one Polar rule for each action of each rule, with the words first that its index can tell apart."""

    def __init__(self, world: World) -> None:
        oso = import_module("oso").Oso()
        oso.register_class(OsoUser, name="User")
        oso.load_str(_polar(world.rules))
        self._is_allowed = oso.is_allowed
        self._users = {user.id: OsoUser(user.id, user.tenant, frozenset(user.roles)) for user in world.users}

    def prepare(self, question: Question) -> tuple[OsoUser, str, Any]:
        """Take the user, the action and the thing, as objects."""
        return self._users[question.user.id], question.action, question.thing

    def count(self, requests: Sequence[tuple[OsoUser, str, Any]]) -> int:
        """Query each until its first result."""
        decide, allowed = self._is_allowed, 0
        for user, action, thing in requests:
            if decide(user, action, thing):
                allowed += 1
        return allowed


def _polar(rules: Sequence[Rule]) -> str:
    denies = any(rule.meaning == "archived" for rule in rules)
    unless = "not (refuses(thing.area, action) and thing.archived = true) and " if denies else ""
    condition = f"user.tenant = thing.tenant and {unless}permitted(thing.area, action, user, thing)"
    lines = (_polar_line(rule, action) for rule in rules for action in rule.actions)
    return "\n".join((f"allow(user: User, action: String, thing) if {condition};", *lines))


def _polar_line(rule: Rule, action: str) -> str:
    if rule.meaning == "role":
        return f'permitted("{rule.area}", "{action}", user, _) if user.holds("{rule.name}");'
    if rule.meaning == "owner":
        return f'permitted("{rule.area}", "{action}", user, thing) if thing.owner = user.id;'
    return f'refuses("{rule.area}", "{action}");'


@dataclass(frozen=True, slots=True)
class Entry:
    """A contestant's name in the tables, the module it needs, how to get that, and how it is built."""

    name: str
    module: str | None
    install: str
    build: Callable[[World], Contestant]


PEERS = "pip install -r bench/requirements.txt"
FLOOR, BYLAW, BYLAW_INCLUSIVE, CEDAR = "floor", "bylaw", "bylaw + Request()", "cedarpy"
ENTRIES = (
    Entry(FLOOR, None, "", Floor),
    Entry(BYLAW, "engine", "run it from the repository, with Bylaw's own requirements installed", Bylaw),
    Entry(CEDAR, "cedarpy", PEERS, Cedar),
    Entry("pycasbin", "casbin", PEERS, Casbin),
    Entry("pycasbin, indexed", "casbin", PEERS, CasbinFast),
    Entry("oso", "oso", PEERS, Oso),
)


def is_installed(entry: Entry) -> bool:
    """Say whether the module that the contestant needs is there (a folder of its name alone is not)."""
    spec = find_spec(entry.module) if entry.module else None
    return entry.module is None or (spec is not None and spec.origin is not None)


def build(entry: Entry, world: World) -> dict[str, Contestant]:
    """Build the contestant, by name; Bylaw stands for two lines, which share policy and facts."""
    contestant = entry.build(world)
    second = {BYLAW_INCLUSIVE: BylawInclusive(contestant)} if isinstance(contestant, Bylaw) else {}
    return {entry.name: contestant, **second}
