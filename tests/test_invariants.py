"""The invariants of the decision, each a test of its name, over policies, facts and questions made up at random."""

from __future__ import annotations

import copy
import posixpath
from collections.abc import Callable, Iterator
from dataclasses import replace
from random import Random
from typing import Any
from urllib.parse import unquote

import pytest

from engine import BylawError, Decision, Facts, Policy, Request, RequestError
from engine.facts import ALWAYS, NEVER
from engine.loading import compile_sources
from engine.routes import path_segments
from engine.source import Source
from tests.reference.make_facts import make_facts
from tests.reference.make_policy import make_policy, rule_parts
from tests.reference.make_questions import make_questions
from tests.reference.parts import Asked, Document, PolicyText, RuleText
from tests.reference.world import TENANTS, World

WORLDS = 25
QUESTIONS = 60
Loaded = tuple[Random, World, PolicyText, Policy, Document, tuple[Asked, ...]]


def worlds(name: str, count: int = WORLDS, fits: Callable[[str], bool] = lambda _: True) -> Iterator[Loaded]:
    """Worlds that load and whose policy text fits, always the same for a name."""
    number = found = 0
    while found < count:
        rng = Random(f"{name}:{number}")
        number += 1
        world, text = make_policy(rng)
        if not fits(str(text)):
            continue
        try:
            policy = Policy.parse(str(text))
        except BylawError:
            continue
        document = make_facts(rng, world)
        found += 1
        yield rng, world, text, policy, document, make_questions(rng, world, document, QUESTIONS)


def load(document: Document, policy: Policy) -> Facts:
    return Facts(document, policy, strict=False)


def ask(policy: Policy, facts: Facts, asked: Asked) -> Decision | None:
    """Decide; None where the question is malformed."""
    try:
        return policy.decide(Request(**asked), facts)
    except RequestError:
        return None


def told(decision: Decision | None) -> object:
    """All that a decision says."""
    if decision is None:
        return None
    return decision.allowed, decision.code, decision.by, decision.because, decision.obligations, decision.failed


def test_deny_wins_for_everyone() -> None:
    """Adding a deny never turns anything to allow."""
    seen = 0
    for rng, world, text, policy, document, questions in worlds("deny"):
        denies = [replace(rule, name="zz_more") for rule in rule_parts(rng, world) if rule.effect == "deny"]
        for deny in denies[:2]:
            try:
                stricter = Policy.parse(str(PolicyText((*text.parts, deny))))
            except BylawError:
                continue
            before, after = load(document, policy), load(document, stricter)
            for asked in questions:
                one, other = ask(policy, before, asked), ask(stricter, after, asked)
                seen += one is not None and one.allowed
                assert other is None or not other.allowed or (one is not None and one.allowed), (deny, asked)

    assert seen > 100


def test_no_way_over_the_wall() -> None:
    """Without links, changing one tenant's facts never changes a decision in the other."""
    seen = 0
    for rng, world, _, policy, document, questions in worlds("wall", fits=lambda text: "tenant org" in text):
        document["links"] = []
        other = other_tenant_changed(document, make_facts(rng, world), TENANTS[1])
        one, two = load(document, policy), load(other, policy)
        for asked in questions:
            if asked.get("tenant") != TENANTS[0]:
                continue
            seen += 1
            assert told(ask(policy, one, asked)) == told(ask(policy, two, asked)), asked

    assert seen > 300


def other_tenant_changed(document: Document, source: Document, tenant: str) -> Document:
    """A document in which what lies in one tenant has been replaced by what another document has there."""
    made = copy.deepcopy(document)
    made["tenants"][tenant] = copy.deepcopy(source["tenants"][tenant])
    for section in ("resources",):
        kept = {key: value for key, value in made[section].items() if not key.startswith(f"{tenant}/")}
        made[section] = kept | {k: v for k, v in source[section].items() if k.startswith(f"{tenant}/")}
    for section in ("assignments", "custom_roles"):
        made[section] = [entry for entry in made[section] if not is_of(entry, tenant)]
        made[section] += [entry for entry in source[section] if is_of(entry, tenant) and is_known(entry, made)]
    for name in made["groups"]:
        if made["groups"][name].get("tenant") == tenant:
            made["groups"][name]["members"] = []
    for kind in ("users", "services"):
        for entry in made[kind].values():
            entry.get("members", {}).pop(tenant, None)
    return made


def is_of(entry: Document, tenant: str) -> bool:
    on = entry.get("on", "")
    return entry.get("tenant") == tenant or on.endswith(f":{tenant}") or on.startswith(f"{tenant}/")


def is_known(entry: Document, document: Document) -> bool:
    kind, _, identity = str(entry.get("subject", "")).partition(":")
    return kind != "group" or document["groups"].get(identity, {}).get("tenant") is None


def test_unknown_is_denied() -> None:
    """A kept resource without a row is denied to everyone, whatever is said of it."""
    seen = 0
    for _, _, _, policy, document, questions in worlds("unknown"):
        facts = load(document, policy)
        for asked in questions:
            kind, _, action = str(asked["resource"]).partition(":")[0], "", asked["action"]
            info = policy.model.types.get(kind)
            if info is None or info.kind != "resource" or info.external:
                continue
            name = str(action).rpartition(".")[2]
            if name not in info.actions or info.actions[name].new:
                continue
            decision = ask(policy, facts, {**asked, "resource": f"{kind}:no-such-row"})
            seen += decision is not None
            assert decision is None or not decision.allowed, asked

    assert seen > 100


def test_tenants_must_agree() -> None:
    """Two voices that name different tenants are denied as `boundary`, whoever asks for whatever."""
    seen = 0
    for rng, _, _, policy, document, questions in worlds("voices", fits=lambda text: "tenant org" in text):
        facts = load(document, policy)
        for asked in questions:
            if asked.get("tenant") != TENANTS[0]:
                continue
            where = rng.choice(("subject_properties", "resource_properties"))
            decision = ask(policy, facts, {**asked, where: {**(asked.get(where) or {}), "tenant": TENANTS[1]}})
            if decision is not None:
                seen += 1
                assert (decision.allowed, decision.code) == (False, "boundary"), asked

    assert seen > 200


def test_order_is_nothing() -> None:
    """Permuting declarations, files, operands, and entries of the facts changes no decision."""
    seen = 0
    for rng, _, text, policy, document, questions in worlds("order"):
        parts = [shuffled_operands(rng, part) for part in text.parts]
        rng.shuffle(parts)
        cut = rng.randrange(len(parts) + 1)
        sources = [
            Source("a.bylaw", str(PolicyText(tuple(parts[:cut])))),
            Source("b.bylaw", str(PolicyText(tuple(parts[cut:])))),
        ]
        model, found = compile_sources(sources)
        assert model is not None, found
        other, permuted = Policy(model), permuted_facts(rng, document)
        one, two = load(document, policy), load(permuted, other)
        for asked in questions:
            seen += 1
            first, second = ask(policy, one, asked), ask(other, two, asked)
            assert told(first) == told(second), asked

    assert seen > 1000


def shuffled_operands(rng: Random, part: Any) -> Any:
    """A deny with the operands of its `and` and `or` in another order; elsewhere guards keep theirs."""
    if not isinstance(part, RuleText) or part.effect != "deny":
        return part

    def shuffled(cond: Any) -> Any:
        if cond is None:
            return None
        items = [shuffled(item) for item in cond.items]
        rng.shuffle(items)
        return replace(cond, items=tuple(items))

    clause = replace(part.clause, when=shuffled(part.clause.when), unless=shuffled(part.clause.unless))
    return replace(part, clause=clause)


def permuted_facts(rng: Random, value: Any) -> Any:
    """The same facts with all lists and mappings in another order."""
    if isinstance(value, dict):
        items = list(value.items())
        rng.shuffle(items)
        return {key: permuted_facts(rng, item) for key, item in items}
    if isinstance(value, list):
        entries = [permuted_facts(rng, item) for item in value]
        rng.shuffle(entries)
        return entries
    return value


def test_failed_never_allows() -> None:
    """Replacing an attribute by absent or by a wrong type never turns deny into allow, where no `has` reads any."""
    seen = 0
    for rng, _, _, policy, document, questions in worlds("failed", fits=lambda text: " has " not in text):
        before = load(document, policy)
        after = load(spoilt(rng, document), policy)
        for asked in questions:
            one, other = ask(policy, before, asked), ask(policy, after, asked)
            if (
                one is None
                or other is None
                or any(asked.get(name) for name in ("subject_properties", "resource_properties"))
            ):
                continue
            seen += not one.allowed
            assert one.allowed or not other.allowed, asked

    assert seen > 300


def spoilt(rng: Random, document: Document) -> Document:
    """The same facts with a third of the attributes gone or of a type that none has."""
    made = copy.deepcopy(document)
    for section in ("tenants", "users", "services", "groups", "resources"):
        for entry in made.get(section, {}).values():
            attributes = entry.get("attributes", {})
            for name in list(attributes):
                if rng.random() < 0.35:
                    attributes[name] = rng.choice((None, {"no": "type"}))
    return made


def test_sent_only_where_marked() -> None:
    """What is sent of a stored principal or resource changes nothing where it is not marked `sent`."""
    seen = 0
    for rng, world, _, policy, document, questions in worlds("sent"):
        facts = load(document, policy)
        other = make_questions(rng, world, document, QUESTIONS)
        for asked, extra in zip(questions, other, strict=True):
            plain = ask(policy, facts, asked)
            question = plain.question if plain is not None else None
            if question is None or not question.standing.is_stored:
                continue
            declared = policy.model.types[question.plan.asker].attributes
            more = {
                k: v
                for k, v in (extra.get("subject_properties") or {}).items()
                if k in declared and not declared[k].sent
            }
            seen += bool(more)
            sent = {**(asked.get("subject_properties") or {}), **more}
            assert told(ask(policy, facts, {**asked, "subject_properties": sent})) == told(plain), asked

    assert seen > 12


def test_links_give_one_role() -> None:
    """One who has no other standing gets over a link what its role `can`, and what is public, and nothing else."""
    seen = 0
    for _, _, _, policy, document, questions in worlds("links", 100, fits=lambda text: " crossing" in text):
        facts = load(outsiders_with_links(document), policy)
        public = {rule.name for rule in policy.model.rules if rule.who.public}
        for asked in questions:
            decision = ask(policy, facts, asked)
            question = decision.question if decision is not None else None
            if decision is None or question is None or not decision.allowed:
                continue
            s = question.standing
            if s.inside or s.system is not None or not s.linked:
                continue
            seen += 1
            linked = {f"{name} on {place}" for place, roles in s.linked.items() for name in roles.names}
            assert decision.by in linked | public, asked

    assert seen > 12


def outsiders_with_links(document: Document) -> Document:
    """The same facts, with every holder of a link at home there, nowhere else a member, and without other roles."""
    made = copy.deepcopy(document)
    holders = {link["subject"]: link["home"] for link in made["links"]}
    for kind in ("user", "service"):
        for name, entry in made[f"{kind}s"].items():
            if f"{kind}:{name}" in holders:
                entry.update(status="active", members={holders[f"{kind}:{name}"]: "active"})
    made["assignments"] = [entry for entry in made["assignments"] if entry["subject"] not in holders]
    return made


def test_ceiling_holds_at_use() -> None:
    """A custom role never gives what the policy's line for its type leaves out, whatever its patterns say."""
    seen = 0
    for _, _, _, policy, document, questions in worlds("ceiling", 150, fits=lambda text: "custom on" in text):
        for entry in document["custom_roles"]:
            entry["can"] = ["*"]
        facts = load(document, policy)
        for asked in questions:
            decision = ask(policy, facts, asked)
            if decision is None or not decision.allowed or not (decision.by or "").startswith("custom."):
                continue
            seen += 1
            place = (decision.by or "").partition(" on ")[2].partition(":")[0]
            assert decision.question is not None
            assert decision.question.plan.code in policy.model.custom[place], asked

    assert seen > 10


def test_expiry_is_exact() -> None:
    """Asked in any order, facts that remember answer at every edge of time what fresh facts answer there."""
    seen = 0
    for rng, _, _, policy, document, questions in worlds("expiry", 12):
        warm = load(document, policy)
        edges = edges_of(warm)
        instants = [edge + step for edge in edges for step in (-1, 0, 1)]
        for asked in questions[:25]:
            request = Request(**{**asked, "now": None})
            for now in rng.sample(instants, min(6, len(instants))):
                seen += 1
                assert at(warm, request, now) == at(load(document, policy), request, now), (asked, now)

    assert seen > 500


def edges_of(facts: Facts) -> list[int]:
    """All instants at which something begins or ends."""
    source = facts.source
    spans = [m.membership for m in source.members.values() if m.membership is not None]
    rows: list[Any] = [*spans]
    for member in source.members.values():
        rows += [*(member.grants or ()), *member.groups]
    for principal in source.principals.values():
        rows += [*principal.links, *principal.system, *principal.groups]
    for grants in source.granted.values():
        rows += grants
    found = {edge for row in rows for edge in (row.starts, row.expires)} - {ALWAYS, NEVER}
    return sorted(found) or [0]


def at(facts: Facts, request: Request, now: int) -> object:
    try:
        decision = facts.questioner.decide(request, now)
    except RequestError as error:
        return error.code
    return decision.allowed, decision.code, decision.by


def test_reload_changes_meaning_at_once() -> None:
    """Facts that were decided on under one policy are decided on under the next as if that had been the first."""
    seen = 0
    for rng, world, text, policy, document, questions in worlds("reload", 10):
        denies = [replace(rule, name="zz_more") for rule in rule_parts(rng, world)]
        try:
            other = Policy.parse(str(PolicyText((*text.parts, *denies[:1]))))
        except BylawError:
            continue
        facts = load(document, policy)
        for asked in questions:
            ask(policy, facts, asked)
            seen += 1
            assert told(ask(other, facts, asked)) == told(ask(other, load(document, other), asked)), asked

    assert seen > 300


@pytest.mark.parametrize("seed", range(4))
def test_paths_mean_one_thing(seed: int) -> None:
    """A path that is not refused keeps its segments however often it is decoded, and however it is normalised."""
    rng = Random(seed)
    pieces = [
        "a",
        "b",
        "..",
        ".",
        "/",
        "//",
        "%2e",
        "%2F",
        "%5C",
        "%25",
        "%20",
        "%41",
        "%C3%A9",
        "%c0%af",
        "%00",
        ";",
        "#",
        "\\",
        "+",
        "é",
        "%",
        "?",
        "~",
    ]
    taken = 0
    for _ in range(4000):
        path = "/" + "".join(rng.choices(pieces, k=rng.randrange(6)))
        segments = path_segments(path)
        if segments is None:
            continue
        taken += 1
        raw = path.partition("?")[0]
        once = unquote(raw)
        assert once.count("/") == raw.count("/")
        assert unquote(once) == once
        assert posixpath.normpath(once) == once
        assert len(segments) == (0 if raw == "/" else raw.count("/"))

    assert taken > 100
