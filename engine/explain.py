"""A decision and the whole reasoning, for people and for `POST /explain`.

Everything shown is read off the parts that decided: the same standing, target and compiled conditions. For a deny,
`missing` lists the smallest sets of facts that would make it an allow; they are found by going through the
conditions, one atom at a time.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from typing import Any

from engine.authorizer import Question, Questioner
from engine.decision import Decision
from engine.model import (
    And,
    Arith,
    Attr,
    Call,
    Compare,
    Expr,
    Has,
    Holds,
    Id,
    Not,
    Or,
    Ref,
    Sent,
    SetOf,
)
from engine.policy import BoundFacts, Policy
from engine.reasons import WeighedCan, WeighedRule, verdict_of, weigh
from engine.request import HttpRequest, Request
from engine.routes import path_segments
from engine.standing import Anonymous
from engine.values import show, show_time

Json = dict[str, Any]
#: A fact to change: the text of an atom of a condition, and what it would have to be; or a role to hold, a membership
#: to have.
Needs = frozenset[str]
MAX_SETS = 12


def explain(policy: Policy, request: Request | HttpRequest, facts: BoundFacts) -> Json:
    """Decide, and say why: boundary, each deny, each role on each place, each rule, with the values read.

    Returns:
        A JSON object: `decision`, `code`, `by`, `at`, `because`, `obligations`, `failed`; and where a resource was
            decided on, `who`, `resource`,
        `denies`, `roles`, `allows`, `ignored`, `missing`.

    Raises:
        RequestError: the request is malformed.
    """
    decision = policy.decide(request, facts)
    reasons = decision.reasons
    found: Json = {
        "decision": decision.allowed,
        "code": decision.code,
        "by": reasons.by,
        "at": reasons.at,
        "because": reasons.because,
        "obligations": [obligation.as_json() for obligation in reasons.obligations],
        "failed": list(decision.failed),
        "policy": policy.digest,
        "revision": decision.revision,
    }
    if isinstance(request, HttpRequest):
        found["route"] = _route(policy, request)
    if decision.question is None:
        return found
    question = decision.question
    found["who"] = _who(question)
    found["resource"] = _resource(question)
    if isinstance(request, Request):
        found["ignored"] = _ignored(facts.questioner, request, question)
    if decision.judged is not None:
        weighed = weigh(question)
        found["denies"] = [_rule(question, rule) for rule in weighed.denies]
        found["roles"] = [_can(question, can) for can in weighed.cans]
        found["allows"] = [_rule(question, rule) for rule in weighed.allows]
    if not decision.allowed:
        found["missing"] = missing(decision)
    return found


def _route(policy: Policy, request: HttpRequest) -> Json:
    segments = path_segments(request.path)
    match = policy.program.routes.find(request.method, segments) if segments is not None else None
    if match is None:
        return {"method": request.method, "path": request.path, "matched": None}
    bound = [f"{kind}:{identity}" for kind, identity in match.bindings]
    return {
        "method": request.method,
        "path": request.path,
        "matched": f"{match.route.method} {match.route.template}",
        "at": match.route.span.at,
        "bound": bound,
    }


def _who(question: Question) -> Json:
    s = question.standing
    named = s.id is not None
    ways = [
        name
        for name, is_so in (("inside", s.inside), ("link", bool(s.linked)), ("system", s.system is not None))
        if is_so
    ]
    return {
        "principal": str(s.ref) if named else "anonymous",
        "tenant": s.space.tenant_id or None,
        "stored": s.is_stored,
        "standing": ways or ["outside"],
        "guest": s.inside and not s.anyone,
        "groups": sorted(s.groups),
        "not_now": _not_now(question),
        "holds": [
            *(
                {"role": name, "on": place, "way": "held"}
                for place, roles in sorted(s.held.items())
                for name in roles.names
            ),
            *(
                {"role": name, "on": place, "way": "link"}
                for place, roles in sorted(s.linked.items())
                for name in roles.names
            ),
            *({"role": name, "on": "system:system", "way": "system"} for name in (s.system.names if s.system else ())),
        ],
    }


def _not_now(question: Question) -> list[str]:
    """What is stored of him here but does not count at this instant: not begun, or ended."""
    s, now = question.standing, question.now
    if s.id is None:
        return []
    space = s.space
    member = space.facts.member(space.tenant_id, s.kind, s.id) if space.fact is not None else None
    fact = space.facts.principal(s.kind, s.id)
    rows: list[tuple[str, int, int]] = []
    if member is not None:
        if member.membership is not None:
            rows.append(("his membership", member.membership.starts, member.membership.expires))
        rows += [(f"{grant.role} on {grant.place}", grant.starts, grant.expires) for grant in member.grants or ()]
        rows += [(f"group {belonging.group}", belonging.starts, belonging.expires) for belonging in member.groups]
    if fact is not None:
        rows += [(f"{g.role} on {g.place}", g.starts, g.expires) for g in fact.system]
        rows += [(f"group {belonging.group}", belonging.starts, belonging.expires) for belonging in fact.groups]
        links = [link for link in fact.links if link.tenant == space.tenant_id]
        rows += [(f"{link.role} on {link.place} over a link", link.starts, link.expires) for link in links]
    told = [f"{what} begins {show_time(starts)}" for what, starts, _ in rows if now < starts]
    return sorted(told + [f"{what} ended {show_time(expires)}" for what, _, expires in rows if expires <= now])


def _resource(question: Question) -> Json:
    t = question.target
    return {
        "action": question.plan.code,
        "resource": t.ref if t.ref is not None else f"{t.type} (no id)",
        "chain": [thing.ref for thing in t.chain if thing.ref is not None],
        "problem": t.problem,
    }


def _ignored(questioner: Questioner, request: Request, question: Question) -> list[str]:
    """What was sent and does not count: undeclared names, and stored attributes that are not marked `sent`."""
    types = questioner.model.types
    asker, kind = question.plan.asker, types[question.plan.action.type]
    own = {"tenant", "roles"}
    found = []
    if asker != "anonymous":
        declared = types[asker].attributes
        stored = question.standing.is_stored
        kept = {name for name, a in declared.items() if a.sent or not stored} | own
        found += [f"subject.properties.{name}" for name in request.subject_properties if name not in kept]
    whole = kind.external or question.plan.action.new
    kept = {name for name, a in kind.attributes.items() if a.sent or whole} | {"tenant", "parent", "new"}
    found += [f"resource.properties.{name}" for name in request.resource_properties if name not in kept]
    found += [
        f"action.properties.{name}" for name in request.action_properties if name not in question.plan.action.fields
    ]
    found += [f"context.{name}" for name in request.context if name not in questioner.model.context]
    return sorted(found)


# --- rules, roles, conditions ----------------------------------------------------------------------


def _rule(question: Question, weighed: WeighedRule) -> Json:
    found: Json = {
        "rule": weighed.rule.name,
        "at": weighed.rule.span.at,
        "means": weighed.means,
        "applies": weighed.applies,
    }
    if weighed.condition is not None and weighed.means:
        found["condition"] = condition_of(question, weighed.condition)
    return found


def _can(question: Question, weighed: WeighedCan) -> Json:
    found: Json = {
        "role": weighed.role,
        "on": weighed.place,
        "way": weighed.way,
        "at": weighed.can.span.at if weighed.can is not None else None,
        "gives": weighed.verdict == "true",
    }
    if weighed.condition is not None:
        found["condition"] = condition_of(question, weighed.condition)
    return found


def text_of(expr: Expr) -> str:
    """The expression as its author wrote it, on one line."""
    span = expr.span
    text = " ".join(span.source.text[span.start : span.end].split())
    return f"not ({text})" if isinstance(expr, Not) and expr.span == expr.item.span else text  # an `unless`


def condition_of(question: Question, expr: Expr) -> Json:
    """A condition as a tree: the text, what it comes to, its parts, and the values that an atom read."""
    found: Json = {"text": text_of(expr), "verdict": verdict_of(question, expr)}
    match expr:
        case And(items) | Or(items):
            found["op"] = "and" if isinstance(expr, And) else "or"
            found["parts"] = [condition_of(question, item) for item in items]
        case Not(item):
            found["op"] = "not"
            found["parts"] = [condition_of(question, item)]
        case _:
            found["reads"] = [_read(question, term) for term in _terms(expr)]
    return found


def _read(question: Question, term: Expr) -> Json:
    _, s, t, x, a, n = question
    value = s.space.program.compiler.value(term)(s, t, x, a, n)
    return {"path": text_of(term), "value": "anonymous" if isinstance(value, Anonymous) else show(value, term.type)}


def _terms(expr: Expr) -> list[Expr]:
    """What an atom reads, left to right: paths and calls, no literals."""
    match expr:
        case Compare(left=left, right=right) | Arith(left=left, right=right):
            return [*_terms(left), *_terms(right)]
        case Holds(place=place):
            return _terms(place)
        case Call(name="now"):
            return [expr]
        case Call(args=args):
            return [term for arg in args for term in _terms(arg)]
        case SetOf(items=items):
            return [term for item in items for term in _terms(item)]
        case And(items) | Or(items):
            return [term for item in items for term in _terms(item)]
        case Not(item):
            return _terms(item)
        case Attr() | Id() | Sent() | Ref():
            return [expr]
        case _:
            return []


# --- what is missing -------------------------------------------------------------------------------


def missing(decision: Decision) -> list[list[str]]:
    """The smallest sets of facts that would turn a deny into an allow, each fact as a sentence; the shortest sets
    first."""
    question = decision.question
    if question is None:
        return []
    named = _FOR_CODE.get(decision.code)
    if named is not None:
        return [[named]]
    if question.target.problem is not None:
        return [["who asks is inside the tenant, and the resource is there"]]
    if decision.judged is None:
        return [["all that the request says of tenant and parents names the same"]]
    weighed = weigh(question)
    spared: list[list[Needs]] = [needs(question, w.condition, False) for w in weighed.denies if w.applies]
    ways = _ways_to_be_allowed(question, weighed.allows, weighed.cans)
    found = {frozenset[str]().union(*parts) for parts in product(ways, *spared)} if ways and all(spared) else set()
    return [sorted(facts) for facts in _smallest(found)]


_FOR_CODE = {
    "tenant_inactive": "the tenant is active",
    "principal_inactive": "the principal is active",
    "unknown_resource": "the resource exists in this tenant",
    "exists": "the resource does not exist yet",
    "broken_chain": "all parents of the resource exist, up to its tenant",
}


def _ways_to_be_allowed(question: Question, allows: Sequence[WeighedRule], cans: Sequence[WeighedCan]) -> list[Needs]:
    """Each way in which something would allow: nothing more, a condition, a role to hold, a membership."""
    s = question.standing
    tenant = s.space.tenant_id
    inside = frozenset() if s.inside else frozenset({f"{s.ref} is an active member of {tenant}"})
    ways: list[Needs] = []
    for can in cans:
        ways += needs(question, can.condition, True)
    for rule in allows:
        if rule.means:
            ways += needs(question, rule.condition, True)
        elif question.plan.asker != "anonymous" and (
            rule.rule.who.anyone or question.plan.asker in rule.rule.who.types
        ):
            member = inside or frozenset({f"{s.ref} is a member of {tenant}, no guest"})
            ways += [member | way for way in needs(question, rule.condition, True)]
    if question.plan.asker != "anonymous":
        for role, place, condition in _roles_that_give(question):
            ways += [inside | way | {f"{s.ref} holds {role} on {place}"} for way in needs(question, condition, True)]
    return list(_smallest(ways))


def _roles_that_give(question: Question) -> Iterable[tuple[str, str, Expr | None]]:
    t, code = question.target, question.plan.code
    for role in question.standing.space.model.roles.values():
        for can, within in role.gives:
            if code in can.actions and t.lies_within(within):
                condition = can.conditions[code, question.plan.asker] if can.conditions is not None else None
                for place in t.places:
                    if place.partition(":")[0] == role.type:
                        yield role.name, place, condition


def needs(question: Question, expr: Expr | None, wanted: bool) -> list[Needs]:
    """The smallest sets of atoms to change so that a condition becomes true, or false. Empty: it cannot."""
    if expr is None:
        return [frozenset()] if wanted else []
    if verdict_of(question, expr) == ("true" if wanted else "false"):
        return [frozenset()]
    match expr:
        case Not(item):
            return needs(question, item, not wanted)
        case And(items) | Or(items):
            parts = [needs(question, item, wanted) for item in items]
            if isinstance(expr, And) == wanted:  # all of them are needed
                if not all(parts):
                    return []
                return _smallest({frozenset[str]().union(*chosen) for chosen in _some(product(*parts))})
            return _smallest({way for part in parts for way in part})
        case Has():
            return [frozenset({f"{text_of(expr)} is {'true' if wanted else 'false'}"})]
        case _:
            return [frozenset({f"`{text_of(expr)}` is {'true' if wanted else 'false'}"})]


def _some(ways: Iterable[tuple[Needs, ...]]) -> Iterable[tuple[Needs, ...]]:
    for count, way in enumerate(ways):
        if count >= 1000:
            return
        yield way


def _smallest(found: Iterable[Needs]) -> list[Needs]:
    """Those that hold no other, shortest first, a few."""
    ordered = sorted(set(found), key=lambda way: (len(way), sorted(way)))
    kept: list[Needs] = []
    for way in ordered:
        if len(kept) < MAX_SETS and not any(other <= way for other in kept):
            kept.append(way)
    return kept


# --- for a terminal --------------------------------------------------------------------------------


def render(found: Json) -> str:
    """Render an explanation for a person."""
    mark = "allow" if found["decision"] else "deny"
    rows = [
        "  ".join([mark, found["code"], *([f"by {found['by']}"] if found["by"] else []), *filter(None, [found["at"]])])
    ]
    if found["because"]:
        rows.append(f"  because {found['because']}")
    if found.get("route"):
        rows.append(f"  route    {found['route']['matched'] or 'none matches'}")
    if found.get("who"):
        who = found["who"]
        where = f" in {who['tenant']}" if who["tenant"] else ""
        guest = ", a guest" if who["guest"] else ""
        rows.append(f"  who      {who['principal']}{where}: {', '.join(who['standing'])}{guest}")
        rows += [f"           holds {held['role']} on {held['on']}{_way(held['way'])}" for held in who["holds"]]
        rows += [f"           not now: {entry}" for entry in who["not_now"]]
        if who["groups"]:
            rows.append(f"           in groups {', '.join(who['groups'])}")
    if found.get("resource"):
        resource = found["resource"]
        problem = f"  ({resource['problem']})" if resource["problem"] else ""
        rows.append(
            f"  what     {resource['action']} on {' < '.join(resource['chain']) or resource['resource']}{problem}"
        )
    for section in ("denies", "roles", "allows"):
        for entry in found.get(section, ()):
            rows += _render_entry(section, entry)
    rows += [f"  ignored  {name}" for name in found.get("ignored", ())]
    for facts in found.get("missing", ()):
        rows.append(f"  it would be allowed if {' and '.join(facts)}")
    return "\n".join(rows)


def _way(way: str) -> str:
    return {"link": " over a link", "system": " as a system role"}.get(way, "")


def _render_entry(section: str, entry: Json) -> list[str]:
    if section == "roles":
        head = f"  {'✓' if entry['gives'] else '·'} role   {entry['role']} on {entry['on']}{_way(entry['way'])}"
    else:
        applies, word = ("✗", "deny  ") if section == "denies" else ("✓", "allow ")
        note = "" if entry["means"] else "  (does not mean who asks)"
        head = f"  {applies if entry['applies'] else '·'} {word} {entry['rule']}{note}"
    rows = [head + (f"  {entry['at']}" if entry.get("at") else "")]
    if entry.get("condition"):
        rows += _render_condition(entry["condition"], 4)
    return rows


def _render_condition(condition: Json, depth: int) -> list[str]:
    rows = [f"{'  ' * depth}{condition['verdict']:<6} {condition['text']}"]
    for part in condition.get("parts", ()):
        rows += _render_condition(part, depth + 1)
    for read in condition.get("reads", ()):
        if read["path"] != condition["text"] or read["value"] is None:
            value = "absent" if read["value"] is None else read["value"]
            rows.append(f"{'  ' * (depth + 1)}{read['path']} = {value}")
    return rows
