"""Who may hand out what: the rows of `conformance/assign`, and what they do not come to.

A row's `before` steps are ruled on like any other, and what they come to is put into the facts or among the requests
that wait; then the row itself is asked.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.assign_changes import (
    Actor,
    Change,
    DefineRole,
    DeleteGroup,
    DeleteRole,
    EndMembership,
    GiveLink,
    GiveRole,
    MakeGroup,
    Pending,
    PutInGroup,
    Ruling,
    SetMembership,
    SetStatus,
    TakeFromGroup,
    TakeLink,
    TakeRole,
)
from engine.assign_rules import APPROVAL_SPAN, Held
from engine.assigning import Assigner
from engine.errors import RequestError
from engine.facts import ALWAYS, ANYONE, NEVER, Grant, MemberFact, MemoryFacts
from engine.facts_builder import build
from engine.facts_file import parse_document
from engine.policy import Policy
from engine.program import Program
from engine.values import SECOND, parse_time

Row = dict[str, Any]

SUITE = Path(__file__).parents[1] / "conformance" / "assign"
ROWS: list[Row] = json.loads((SUITE / "cases.json").read_text("utf-8"))
DAY = 86_400 * SECOND
NOW = parse_time("2026-11-22T00:00:00Z") or 0


@dataclass
class MemoryHoldings:
    """What looks backward, over facts in memory; `waiting` are requests to give a role on a place."""

    facts: MemoryFacts
    waiting: dict[tuple[str, str, str], dict[str, int]] = field(default_factory=dict)

    def holders(self, tenant: str, role: str, place: str) -> Iterable[Held]:
        listed = [(f"{key[1]}:{key[2]}", m.grants or ()) for key, m in self.facts.members.items() if key[0] == tenant]
        for (home, name), grants in self.facts.granted.items():
            if home == tenant:
                listed.append((name if name == ANYONE else f"group:{name}", grants))
        if not tenant:
            listed = [(f"{p.type}:{p.id}", p.system) for p in self.facts.principals.values()]
        wanted = [(who, g) for who, grants in listed for g in grants if (g.role, g.place) == (role, place)]
        return [Held(who, grant.starts, grant.expires) for who, grant in wanted]

    def pending(self, tenant: str, role: str, place: str) -> Mapping[str, int]:
        return self.waiting.get((tenant, role, place), {})

    def held(self, tenant: str, holder: str) -> Iterable[Grant]:
        kind, _, identity = holder.partition(":")
        if kind in ("group", ANYONE):
            return self.facts.group_grants(tenant, identity or ANYONE)
        if not tenant:
            fact = self.facts.principal(kind, identity)
            return fact.system if fact is not None else ()
        member = self.facts.member(tenant, kind, identity)
        return (member.grants if member is not None else None) or ()

    def tenants(self, holder: str) -> Iterable[str]:
        return [tenant for tenant in self.facts.tenants if list(self.held(tenant, holder))]


class World:
    """A policy and a state of the facts, to ask."""

    def __init__(self, program: Program, facts: MemoryFacts) -> None:
        self.program = program
        self.facts = facts
        self.holdings = MemoryHoldings(facts)
        self.assigner = Assigner(program, facts, self.holdings)

    def rule(self, actor: str, change: Change, tenant: str | None = "acme", **said: Any) -> Ruling:
        return self.assigner.rule(Actor(actor, **said), change, tenant, NOW)

    def code(self, actor: str, change: Change, tenant: str | None = "acme", **said: Any) -> str:
        return self.rule(actor, change, tenant, **said).code

    def guard(self, change: Change | SetStatus, tenant: str | None = "acme") -> str | None:
        found = self.assigner.guard(change, tenant, NOW)
        return found.code if found is not None else None


@cache
def suite() -> tuple[Policy, MemoryFacts]:
    """Load the suite once: nothing changes its facts, and an assigner remembers only what it asked itself."""
    policy = Policy.load(SUITE / "policy")
    document = parse_document((SUITE / "facts.yaml").read_bytes(), "facts.yaml")
    return policy, build(document, policy.model)


def world() -> World:
    """Stand at the beginning, as every row does."""
    policy, facts = suite()
    return World(policy.program, facts)


def made(policy: str, facts: str) -> World:
    """Make a world of its own of two texts."""
    parsed = Policy.parse(policy)
    return World(parsed.program, build(parse_document(facts.encode(), "facts"), parsed.model))


# --- rows -------------------------------------------------------------------------------------------------------------


def instant(written: str | None, absent: int) -> int:
    """Read `+30d`: so many days after the row's instant."""
    return absent if written is None else NOW + int(written.removeprefix("+").removesuffix("d")) * DAY


def change_of(row: Row) -> Change:
    """Read what a row would do."""
    times = {"starts": instant(row.get("starts"), ALWAYS), "expires": instant(row.get("expires"), NEVER)}
    match row["do"]:
        case "assign":
            return GiveRole(row["subject"], row["role"], row["on"], **times)
        case "revoke":
            return TakeRole(row["subject"], row["role"], row["on"])
        case "link":
            return GiveLink(row["subject"], row["home"], row["role"], row["on"], **times)
        case "unlink":
            return TakeLink(row["subject"], row["home"], row["role"], row["on"])
        case "member":
            return SetMembership(row["subject"], row.get("status", "active"), **times)
        case "unmember":
            return EndMembership(row["subject"])
        case "group":
            return MakeGroup(row["group"])
        case "put":
            return PutInGroup(row["subject"], row["group"], **times)
        case "take":
            return TakeFromGroup(row["subject"], row["group"])
        case "custom":
            return DefineRole(row["name"], row["on"], tuple(row["can"]))
        case unknown:
            raise AssertionError(unknown)


def actor_of(row: Row) -> Actor:
    return Actor(row["actor"], row.get("context", {}), tuple(row.get("claims", ())))


def after(here: World, tenant: str, step: Row) -> World:
    """Go on to where a step leads: its assignment is there, or waits."""
    change = change_of(step)
    assert isinstance(change, GiveRole)
    ruling = here.assigner.rule(actor_of(step), change, tenant, NOW)
    kind, _, identity = change.subject.partition(":")
    role = here.program.model.role_on(change.place.partition(":")[0], change.role) or ""
    if ruling.outcome == "pending":
        here.holdings.waiting[tenant, role, change.place] = {f"before {change.subject}": NOW}
        return here
    assert ruling.outcome == "allowed"
    known = here.facts.members[tenant, kind, identity]
    grants = (*(known.grants or ()), Grant(role, change.place, change.starts, change.expires))
    members = {**here.facts.members, (tenant, kind, identity): replace(known, grants=grants)}
    return World(here.program, replace(here.facts, members=members))


def outcome(row: Row) -> object:
    """Do what a row says, and tell what comes of it, in its words."""
    here = world()
    for step in row.get("before", ()):
        here = after(here, row["tenant"], step)
    ruling = here.assigner.rule(actor_of(row), change_of(row), row["tenant"], NOW)
    if ruling.outcome == "pending" and "approver" in row:
        waiting = Pending("this", actor_of(row), change_of(row), row["tenant"], NOW)
        if isinstance(waiting.change, GiveRole):
            role = here.program.model.role_on(waiting.change.place.partition(":")[0], waiting.change.role) or ""
            here.holdings.waiting[row["tenant"], role, waiting.change.place] = {"this": NOW}
        ruling = here.assigner.approve(Actor(row["approver"]), waiting, instant(row.get("approved"), NOW))
    return {"allowed": True, "refused": False, "pending": "pending"}[ruling.outcome]


@pytest.mark.parametrize("row", ROWS, ids=[row["id"] for row in ROWS])
def test_row(row: Row) -> None:
    """A row comes out as it says."""
    assert outcome(row) == row["expect"], row["why"]


def test_rows_are_all_there() -> None:
    """The suite is whole."""
    assert len({row["id"] for row in ROWS}) == len(ROWS) >= 220


# --- what rulings say -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("actor", "change", "code"),
    [
        ("user:man", GiveRole("user:bob", "org.viewer", "org:acme"), "assign"),
        ("user:own", GiveRole("user:bob", "auditor", "org:acme"), "approval"),
        ("anonymous", GiveRole("user:bob", "org.viewer", "org:acme"), "boundary"),
        ("user:lin", GiveRole("user:bob", "org.viewer", "org:acme"), "boundary"),
        ("user:sus", GiveRole("user:bob", "org.viewer", "org:acme"), "principal_inactive"),
        ("user:own", GiveRole("user:bob", "orphan", "org:acme"), "no_assign"),
        ("user:vie", GiveRole("user:bob", "org.viewer", "org:acme"), "no_role"),
        ("user:cle", GiveRole("user:bob", "viewer", "project:p3"), "condition"),
        ("user:man", GiveRole("anyone", "viewer", "project:p1"), "anyone"),
        ("user:own", GiveRole("user:own", "admin", "org:acme"), "not_self"),
        ("user:led", GiveRole("user:bob", "partner", "project:p1"), "expires_within"),
        ("user:led", GiveRole("user:bob", "editor", "project:p1"), "max"),
        ("user:led", TakeRole("user:led", "lead", "project:p1"), "last_holder"),
        ("user:man", GiveRole("user:bob", "viewer", "project:none"), "unknown_place"),
        ("user:man", GiveRole("user:bob", "viewer", "nowhere"), "unknown_place"),
        ("user:man", GiveRole("user:bob", "viewer", "planet:p1"), "unknown_place"),
        ("user:man", GiveRole("user:bob", "vewer", "project:p1"), "unknown_role"),
        ("user:adm", GiveRole("user:bob", "custom.hand", "task:t1"), "unknown_role"),
        ("user:root", GiveRole("user:bob", "custom.hand", "system"), "unknown_role"),
        ("user:man", GiveRole("user:zed", "viewer", "project:p1"), "unknown_subject"),
        ("user:man", TakeRole("user:zed", "viewer", "project:p1"), "unknown_subject"),
        ("user:vie", GiveRole("user:zed", "viewer", "project:p1"), "no_role"),
        ("user:man", GiveRole("project:p1", "viewer", "project:p1"), "bad_subject"),
        ("user:man", GiveRole("bob", "viewer", "project:p1"), "bad_subject"),
        ("user:root", GiveRole("group:crew", "operator", "system"), "bad_subject"),
        ("user:led", GiveLink("user:eve", "globex", "viewer", "project:p1"), "not_crossing"),
        ("user:led", GiveLink("user:eve", "acme", "partner", "project:p1", expires=NOW + DAY), "unknown_home"),
        ("user:led", GiveLink("user:eve", "mars", "partner", "project:p1", expires=NOW + DAY), "unknown_home"),
        ("user:led", GiveLink("user:zed", "globex", "partner", "project:p1", expires=NOW + DAY), "unknown_subject"),
        ("user:led", GiveLink("group:crew", "globex", "partner", "project:p1", expires=NOW + DAY), "bad_subject"),
        ("user:root", GiveLink("user:eve", "globex", "operator", "system"), "bad_place"),
        ("user:man", SetMembership("user:zed"), "unknown_subject"),
        ("user:man", SetMembership("group:empty"), "bad_subject"),
        ("user:man", EndMembership("user:new"), "assign"),
        ("user:man", MakeGroup("crew"), "exists"),
        ("user:man", MakeGroup("anyone"), "bad_name"),
        ("user:man", DeleteGroup("empty"), "assign"),
        ("user:man", DeleteGroup("bosses"), "no_role"),
        ("user:man", DeleteGroup("deputies"), "no_role"),
        ("user:vie", DeleteGroup("empty"), "no_role"),
        ("user:root", DeleteGroup("crew"), "no_assign"),
        ("user:man", DeleteGroup("none"), "unknown_group"),
        ("user:man", PutInGroup("anyone", "empty"), "anyone"),
        ("user:man", PutInGroup("user:zed", "empty"), "unknown_subject"),
        ("user:adm", PutInGroup("group:bosses", "deputies"), "cycle"),
        ("user:man", PutInGroup("group:empty", "empty"), "cycle"),
        ("user:man", PutInGroup("group:crew", "empty"), "bad_subject"),
        ("user:man", PutInGroup("group:empty", "readers", expires=NOW + DAY), "no_times"),
        ("user:root", PutInGroup("group:squad", "crew"), "no_assign"),
        ("user:root", TakeFromGroup("group:squad", "crew"), "no_assign"),
        ("user:adm", DefineRole("extra", "task", ("project.read",)), "no_custom"),
        ("user:adm", DefineRole("extra", "org", ("task.read",)), "bad_pattern"),
        ("user:adm", DefineRole("extra", "org", ("*.*",)), "bad_pattern"),
        ("user:adm", DefineRole("a.b", "org", ("project.read",)), "bad_name"),
        ("user:adm", DefineRole("helper", "project", ("project.read",)), "exists"),
        ("user:adm", DeleteRole("helper"), "assign"),
        ("user:man", DeleteRole("helper"), "no_role"),
    ],
)
def test_codes(actor: str, change: Change, code: str) -> None:
    """Each refusal has its code, and says something."""
    ruling = world().rule(actor, change)

    assert (ruling.code, bool(ruling.message)) == (code, True)


def test_it_names_the_assign() -> None:
    """A ruling names the `assign` that allowed, or that came nearest to it."""
    here = world()

    allowed = here.rule("user:man", GiveRole("user:bob", "org.viewer", "org:acme"))
    nearest = here.rule("user:man", GiveRole("anyone", "viewer", "project:p1"))
    unnamed = here.rule("user:own", GiveRole("user:bob", "orphan", "org:acme"))

    lines = (SUITE / "policy" / "assign.bylaw").read_text("utf-8").splitlines()
    told = [lines[int(at.rpartition(":")[2]) - 1] for at in (allowed.at, nearest.at) if at is not None]
    assert [line.split(" by ")[0].split() for line in told] == [
        ["assign", "org.viewer"],
        ["assign", "project.viewer,", "runner"],
    ]
    assert unnamed.at is None


def test_a_refusal_says_the_cure() -> None:
    """Whoever lacks a role is told which would do, and where."""
    here = world()

    lacking = here.rule("user:edi", GiveRole("user:bob", "editor", "project:p1")).message
    through = here.rule("user:man", PutInGroup("user:bob", "bosses")).message

    assert "`org.manager`, `project.lead`" in lacking
    assert "`project:p1` or above" in lacking
    assert "`group:bosses` holds it" in through
    assert "`org.admin`" in through


def test_malformed_questions_raise() -> None:
    """An actor who is none, and a context of the wrong type, are errors of whoever asks."""
    here = world()
    change = GiveRole("user:bob", "org.viewer", "org:acme")

    for actor in (Actor("bob"), Actor("group:crew"), Actor("user:man", {"mfa": "yes"})):
        with pytest.raises(RequestError):
            here.assigner.rule(actor, change, "acme", NOW)


def test_what_is_not_loaded_goes_through() -> None:
    """What facts or holdings raise reaches whoever keeps them, and is never taken for an answer."""

    class Missing(MemoryHoldings):
        def holders(self, tenant: str, role: str, place: str) -> Iterable[Held]:
            raise LookupError(role)

    policy, facts = suite()
    assigner = Assigner(policy.program, facts, Missing(facts))

    with pytest.raises(LookupError, match=r"project\.lead"):
        assigner.rule(Actor("user:led"), TakeRole("user:led", "lead", "project:p1"), "acme", NOW)


# --- who asks, and where ----------------------------------------------------------------------------------------------


def test_a_token_of_another_tenant_gives_no_right() -> None:
    """Who comes with another tenant's token is no member here, nor has he his system roles."""
    here = world()
    change = GiveRole("user:bob", "org.viewer", "org:acme")

    codes = [here.code("user:man", change, token_tenant=token) for token in ("acme", "globex")]
    codes += [here.code("user:root", GiveRole("user:bob", "founder", "org:acme"), token_tenant="globex")]

    assert codes == ["assign", "boundary", "boundary"]


@pytest.mark.parametrize(("tenant", "code"), [("none", "tenant_inactive"), ("shut", "tenant_inactive")])
def test_a_tenant_that_is_not_active(tenant: str, code: str) -> None:
    """Nobody changes anything in a tenant that is not there or not active, on the system neither."""
    here = world()

    assert here.code("user:root", GiveRole("user:bob", "operator", "system"), tenant) == code


def test_without_a_tenant_only_the_system_is_there() -> None:
    """Who names no tenant may change what is on the system, and nothing else."""
    here = world()
    changes: list[Change] = [
        GiveRole("user:bob", "operator", "system"),
        PutInGroup("user:bob", "crew"),
        GiveRole("user:bob", "founder", "org:acme"),
        MakeGroup("fresh"),
        SetMembership("user:new"),
        DefineRole("extra", "org", ("project.read",)),
    ]

    codes = [here.code("user:root", change, None) for change in changes]

    assert codes == ["assign", "assign", *["tenant_required"] * 4]


def test_platform_groups_look_into_every_tenant() -> None:
    """Whoever fills a group of the platform must be able to give what it holds in each tenant, suspended ones too."""
    policy, facts = suite()
    here = World(policy.program, facts)
    held = {**facts.granted, ("globex", "squad"): (Grant("org.viewer", "org:globex"),)}
    shut = {**facts.granted, ("shut", "squad"): (Grant("org.viewer", "org:shut"),)}

    codes = [
        World(policy.program, replace(facts, granted=granted)).code("user:sup", PutInGroup("user:bob", "squad"))
        for granted in (held, shut)
    ]

    assert here.code("user:sup", PutInGroup("user:bob", "squad")) == "assign"
    assert codes == ["no_role", "tenant_inactive"]


def test_claims_count_in_conditions_alone() -> None:
    """A claimed role is seen by a condition, and never gives the right itself."""
    here = made(
        """tenant org { actions read }
        role boss on org { can read }
        role night on org claimable { can read }
        role guard on org { can read }
        assign guard by boss when principal is night on resource
        assign boss by night""",
        """{tenants: {acme: }, users: {ann: {members: {acme: active}}, bob: {members: {acme: active}}},
        assignments: [{subject: "user:ann", role: boss, on: "org:acme"}]}""",
    )

    seen = [here.code("user:ann", GiveRole("user:bob", "guard", "org:acme"), claims=c) for c in ((), ("night",))]
    given = here.code("user:bob", GiveRole("user:bob", "boss", "org:acme"), claims=("night",))

    assert (seen, given) == (["condition", "assign"], "no_role")


def test_external_places() -> None:
    """On what the application alone knows a right comes from the thing itself or the tenant, without a condition."""
    here = made(
        """tenant org { actions read }
        resource project in org { actions read }
        resource report in project | org external { actions read  attributes { open: bool? } }
        role boss on org { can read }
        role lead on project { can read }
        role reader on report { can read }
        role writer on report { can read }
        role keeper on report { can read }
        assign report.reader by boss
        assign report.writer by lead
        assign report.keeper by boss when not (resource has open)""",
        """{tenants: {acme: }, users: {ann: , bob: },
        resources: {"project:p1": {parent: "org:acme"}},
        assignments: [{subject: "user:ann", role: boss, on: "org:acme"},
        {subject: "user:ann", role: lead, on: "project:p1"}]}""",
    )

    roles = ("reader", "writer", "keeper")
    codes = [here.code("user:ann", GiveRole("user:bob", role, "report:r1")) for role in roles]

    assert codes == ["assign", "no_role", "condition"]


def test_a_member_has_no_right_by_his_link() -> None:
    """What one who is a member holds over a link gives him no right."""
    here = made(
        """tenant org { actions read }
        role guest_boss on org crossing { can read }
        role reader on org { can read }
        assign reader by guest_boss""",
        """{tenants: {acme: , home: }, users: {ann: {members: {acme: active, home: active}}, bob: },
        links: [{subject: "user:ann", home: home, role: guest_boss, on: "org:acme"}]}""",
    )

    assert here.code("user:ann", GiveRole("user:bob", "reader", "org:acme")) == "no_role"


def test_what_is_deleted() -> None:
    """Who is deleted is given nothing and may be taken from, and a link comes from no tenant that is deleted."""
    here = made(
        """tenant org { actions read }
        resource task in org { actions read }
        role boss on org { can read }
        role reader on org { can read }
        role partner on org crossing { can read }
        custom on org { can read }
        assign reader, partner, custom by boss
        assign group "ops" by chief
        role chief on system { can org.read }""",
        """{tenants: {acme: , gone: {status: deleted}}, users: {ann: , bob: {status: deleted}, cat: },
        groups: {staff: {tenant: acme, members: ["user:zed"]}, ops: }, resources: {"task:t1": {parent: "org:acme"}},
        custom_roles: [{tenant: acme, name: hand, on: task, can: [read]}],
        assignments: [{subject: "user:ann", role: boss, on: "org:acme"}, {subject: "user:ann", role: chief, on: system},
        {subject: "group:ops", role: boss, on: "org:gone"}]}""",
    )
    changes: list[Change] = [
        GiveRole("user:bob", "reader", "org:acme"),
        TakeRole("user:bob", "reader", "org:acme"),
        GiveRole("user:zed", "reader", "org:acme"),
        TakeRole("user:zed", "reader", "org:acme"),
        GiveLink("user:cat", "gone", "partner", "org:acme"),
        GiveRole("user:cat", "custom.hand", "task:t1"),
        PutInGroup("user:cat", "ops"),
    ]

    codes = [here.code("user:ann", change) for change in changes]

    unknown = "unknown_subject"
    assert codes == [unknown, "assign", unknown, "assign", "unknown_home", "unknown_role", "assign"]


WITHOUT_TENANT = (
    """resource doc { actions read }
    role boss on tenant { can doc.read }
    role reader on doc { can read }
    role root on system { can doc.read }
    assign boss, members, groups by boss
    assign reader by boss
    assign group "ops" by root""",
    """{users: {ann: , bob: , rut: }, groups: {ops: , others: }, resources: {"doc:d1": },
    assignments: [{subject: "user:ann", role: boss, on: tenant}, {subject: "user:rut", role: root, on: system}]}""",
)


def test_a_policy_without_tenant() -> None:
    """Where there is no tenant there are roles, and groups of the platform, but no memberships, links or own groups."""
    here = made(*WITHOUT_TENANT)
    changes: list[Change] = [
        GiveRole("user:bob", "reader", "doc:d1"),
        GiveRole("user:bob", "boss", "tenant"),
        SetMembership("user:bob"),
        MakeGroup("fresh"),
        PutInGroup("user:bob", "ops"),
        PutInGroup("user:bob", "others"),
        GiveLink("user:bob", "x", "reader", "doc:d1"),
        TakeRole("user:ann", "boss", "tenant"),
    ]

    codes = [here.code("user:ann", change, None) for change in changes]

    no = "no_tenant"
    assert codes == ["assign", "assign", no, no, "no_role", "no_assign", no, "last_holder"]
    assert here.code("user:rut", PutInGroup("user:bob", "ops"), None) == "assign"


# --- options ----------------------------------------------------------------------------------------------------------


def test_to_give_again_is_not_one_more() -> None:
    """At `max` the times of one who holds the role may still be changed."""
    here = world()

    again = here.code("user:led", GiveRole("user:cat", "editor", "project:p1", expires=NOW + DAY))
    another = here.code("user:led", GiveRole("user:bob", "editor", "project:p1", expires=NOW + DAY))

    assert (again, another) == ("assign", "max")


def test_options_on_the_system_and_for_anyone() -> None:
    """`max` counts on the system, too, and under `not self` nothing is for `anyone`."""
    here = made(
        """tenant org { actions read }
        role boss on org { can read }
        role reader on org { can read }
        role chief on system { can org.read }
        assign chief by chief { max 1 }
        assign reader by boss { anyone, not self }""",
        """{tenants: {acme: }, users: {ann: , bob: , cat: },
        assignments: [{subject: "user:ann", role: chief, on: system},
        {subject: "user:cat", role: boss, on: "org:acme"}]}""",
    )

    codes = [
        here.code("user:ann", GiveRole("user:bob", "chief", "system")),
        here.code("user:cat", GiveRole("anyone", "reader", "org:acme")),
        here.code("user:cat", GiveRole("user:bob", "reader", "org:acme")),
    ]

    assert codes == ["max", "not_self", "assign"]


def test_requests_stop_counting_after_a_week() -> None:
    """For `max` a request counts for as long as it may be approved."""
    here = world()
    change = GiveRole("user:bob", "auditor", "org:acme")
    key = ("acme", "org.auditor", "org:acme")

    codes = []
    for age in (APPROVAL_SPAN, APPROVAL_SPAN + 1):
        here.holdings.waiting[key] = {"old": NOW - age}
        codes.append(here.code("user:own", change))

    assert codes == ["max", "approval"]


def test_not_self_looks_ahead() -> None:
    """A group that the actor will be in is himself already."""
    policy, facts = suite()
    own = facts.members["acme", "user", "own"]
    later = [replace(own.groups[0], group="empty", starts=NOW + DAY)]
    past = [replace(own.groups[0], group="empty", expires=NOW)]
    change = GiveRole("group:empty", "admin", "org:acme")

    codes = []
    for groups in (later, past):
        members = {**facts.members, ("acme", "user", "own"): replace(own, groups=tuple(groups))}
        codes.append(World(policy.program, replace(facts, members=members)).code("user:own", change))

    assert codes == ["not_self", "assign"]


def test_whoever_changes_a_role_that_he_holds_gives_to_himself() -> None:
    """Under `not self` nobody changes a role of the tenant's own that he holds, through a group or as anyone, too."""
    policy = """tenant org { actions read, write }
        role boss on org { can read }
        custom on org { can read, write }
        assign custom by boss { not self, max 1 }"""
    facts = """{tenants: {acme: }, users: {ann: , bob: , cat: }, groups: {staff: {tenant: acme, members: ["user:bob"]}},
        custom_roles: [{tenant: acme, name: helper, on: org, can: [org.read]},
        {tenant: acme, name: common, on: org, can: [org.read]}],
        assignments: [{subject: "user:ann", role: boss, on: "org:acme"},
        {subject: "user:bob", role: boss, on: "org:acme"}, {subject: "user:cat", role: boss, on: "org:acme"},
        {subject: "user:ann", role: custom.helper, on: "org:acme"},
        {subject: "group:staff", role: custom.helper, on: "org:acme"},
        {subject: anyone, role: custom.common, on: "org:acme"}]}"""
    here = made(policy, facts)

    codes = [here.code(f"user:{name}", DefineRole("helper", "org", ("org.write",))) for name in ("ann", "bob", "cat")]
    common = here.code("user:cat", DefineRole("common", "org", ("org.write",)))

    assert (codes, common) == (["not_self", "not_self", "assign"], "not_self")


def test_options_that_fit_no_member() -> None:
    """`max` on `members` lets nobody in, since there is no counting them; `not self` and `expires within` bind them."""
    policy = """tenant org { actions read }
        role boss on org { can read }
        role head on org { can read }
        assign members by boss { max 5 }
        assign members by head { not self, expires within 30d }"""
    facts = """{tenants: {acme: }, users: {ann: , bob: {members: {acme: active}}, new: },
        assignments: [{subject: "user:ann", role: boss, on: "org:acme"},
        {subject: "user:bob", role: head, on: "org:acme"}]}"""
    here = made(policy, facts)
    soon = NOW + 30 * DAY

    codes = [
        here.code("user:ann", SetMembership("user:new")),
        here.code("user:bob", SetMembership("user:new")),
        here.code("user:bob", SetMembership("user:new", expires=soon)),
        here.code("user:bob", SetMembership("user:bob", expires=soon)),
        here.code("user:bob", SetMembership("user:new", "suspended")),
    ]

    assert codes == ["max", "expires_within", "assign", "not_self", "assign"]


def test_a_condition_on_custom_roles_holds_below_the_tenant() -> None:
    """A condition of `assign custom` is asked of whatever place such a role is held on."""
    here = made(
        """tenant org { actions read  attributes { plan: string } }
        resource project in org { actions read }
        role boss on org { can read }
        custom on project { can read }
        assign custom by boss when tenant.plan == "pro" """,
        """{tenants: {acme: {attributes: {plan: pro}}, free: {attributes: {plan: free}}}, users: {ann: , bob: },
        resources: {"project:p1": {parent: "org:acme"}, "project:p2": {parent: "org:free"}},
        custom_roles: [{tenant: acme, name: hand, on: project, can: [read]},
        {tenant: free, name: hand, on: project, can: [read]}],
        assignments: [{subject: "user:ann", role: boss, on: "org:acme"},
        {subject: "user:ann", role: boss, on: "org:free"}]}""",
    )
    places = (("project:p1", "acme"), ("project:p2", "free"))

    codes = [here.code("user:ann", GiveRole("user:bob", "custom.hand", place), tenant) for place, tenant in places]

    assert codes == ["assign", "condition"]


# --- memberships ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (SetMembership("user:adm", "guest"), "assign"),
        (SetMembership("user:adm", "suspended"), "no_role"),
        (SetMembership("user:adm", expires=NOW + 1), "no_role"),
        (SetMembership("user:adm", starts=NOW + 1), "no_role"),
        (SetMembership("user:adm", starts=NOW), "assign"),
        (EndMembership("user:gro"), "no_role"),
        (EndMembership("user:nes"), "no_role"),
        (EndMembership("user:vie"), "no_role"),
        (EndMembership("user:fut"), "no_role"),
        (EndMembership("user:two"), "assign"),
    ],
)
def test_ending_a_membership_takes_what_it_holds(change: Change, code: str) -> None:
    """A manager does not end or shorten the membership of who holds what he may not take, later or by a group, too."""
    here = world()

    assert here.code("user:man", change) == code


# --- approving --------------------------------------------------------------------------------------------------------

AUDITOR = GiveRole("user:bob", "auditor", "org:acme")


def approved(here: World, approver: str, change: Change = AUDITOR, *, by: str = "user:own", now: int = NOW) -> str:
    ruling = here.assigner.approve(Actor(approver), Pending("this", Actor(by), change, "acme", NOW), now)
    assert ruling.outcome == ("allowed" if ruling.code == "assign" else "refused")
    return ruling.code


@pytest.mark.parametrize(
    ("approver", "change", "days", "code"),
    [
        ("user:wif", AUDITOR, 7, "assign"),
        ("user:own", AUDITOR, 0, "requester"),
        ("user:wif", GiveRole("user:wif", "auditor", "org:acme"), 0, "subject"),
        ("user:wif", GiveRole("group:house", "auditor", "org:acme"), 0, "subject"),
        ("user:sel", GiveRole("group:house", "auditor", "org:acme"), 0, "assign"),
        ("user:wif", PutInGroup("group:wing", "seen"), 0, "subject"),
        ("user:adm", AUDITOR, 0, "no_role"),
        ("user:eve", AUDITOR, 9, "boundary"),
        ("user:wif", AUDITOR, 8, "too_late"),
    ],
)
def test_approving(approver: str, change: Change, days: int, code: str) -> None:
    """Another who may give it himself approves, within 7 days, and not what he would be given."""
    assert approved(world(), approver, change, now=NOW + days * DAY) == code


def test_the_requesters_right_is_looked_at_again() -> None:
    """What a requester may no longer ask for is not approved."""
    policy, facts = suite()
    own = facts.members["acme", "user", "own"]
    members = {**facts.members, ("acme", "user", "own"): MemberFact(own.membership)}

    code = approved(World(policy.program, replace(facts, members=members)), "user:wif")

    assert code == "requester_right"


def test_a_claim_is_forgotten_until_the_approval() -> None:
    """What a requester claimed when he asked, a condition does not see when it is approved."""
    here = made(
        """tenant org { actions read }
        role boss on org { can read }
        role night on org claimable { can read }
        role guard on org { can read }
        assign guard by boss when principal is night on resource { approval }""",
        """{tenants: {acme: }, users: {bob: }, assignments: [{subject: "user:ann", role: boss, on: "org:acme"},
        {subject: "user:eve", role: boss, on: "org:acme"}]}""",
    )
    change, actor = GiveRole("user:bob", "guard", "org:acme"), Actor("user:ann", claims=("night",))

    asked = here.assigner.rule(actor, change, "acme", NOW).code
    code = here.assigner.approve(
        Actor("user:eve", claims=("night",)), Pending("this", actor, change, "acme", NOW), NOW
    ).code

    assert (asked, code) == ("approval", "requester_right")


def test_a_request_is_not_counted_beside_itself() -> None:
    """The last free place may be given to who waits for it, and not to two who do."""
    here = world()
    key = ("acme", "org.auditor", "org:acme")
    here.holdings.waiting[key] = {"this": NOW}

    alone = approved(here, "user:wif")
    here.holdings.waiting[key] = {"this": NOW, "other": NOW}

    assert (alone, approved(here, "user:wif")) == ("assign", "max")


# --- the last holder --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code"),
    [
        (SetStatus("user:led", "suspended"), "last_holder"),
        (SetStatus("user:led", "deleted"), "last_holder"),
        (SetStatus("user:led", "active"), None),
        (SetStatus("user:man", "suspended"), None),
        (SetStatus("user:cat", "suspended"), "last_holder"),
        (SetStatus("user:root", "suspended"), None),
        (SetMembership("user:led", "guest"), "last_holder"),
        (SetMembership("user:led", expires=NOW + DAY), "last_holder"),
        (SetMembership("user:led", starts=NOW + 1), "last_holder"),
        (SetMembership("user:led"), None),
        (GiveRole("user:led", "lead", "project:p1", expires=NOW + DAY), "last_holder"),
        (GiveRole("user:led", "lead", "project:p1", starts=NOW + 1), "last_holder"),
        (GiveRole("user:led", "lead", "project:p1"), None),
        (GiveRole("user:bob", "lead", "project:p1", expires=NOW + DAY), None),
        (TakeRole("user:bob", "lead", "project:p1"), None),
        (TakeRole("user:zed", "nothing", "project:p1"), "unknown_role"),
    ],
)
def test_the_last_holder_stays(change: Change | SetStatus, code: str | None) -> None:
    """Whoever asks, the last holder does not lose the role, get an end for it, or stop to be active."""
    assert world().guard(change) == code


def test_who_is_no_other_holder() -> None:
    """A member who is one only later does not hold a role up, nor does a group where there is no tenant."""
    policy, facts = suite()
    gon = facts.members["acme", "user", "gon"]
    assert gon.membership is not None
    later = replace(gon, membership=replace(gon.membership, starts=NOW + 1, expires=NEVER))
    here = World(policy.program, replace(facts, members={**facts.members, ("acme", "user", "gon"): later}))
    text, document = WITHOUT_TENANT
    there = made(text, document.replace("[{", '[{subject: "group:ops", role: boss, on: tenant}, {', 1))

    codes = [
        here.guard(TakeRole("user:led", "lead", "project:p7")),
        there.guard(TakeRole("user:ann", "boss", "tenant"), None),
    ]

    assert codes == ["last_holder", "last_holder"]


def test_the_last_operator_stays() -> None:
    """On the system the last holder of a role is kept from suspension, too."""
    policy, facts = suite()
    sup = replace(facts.principals["user", "sup"], status="suspended")
    here = World(policy.program, replace(facts, principals={**facts.principals, ("user", "sup"): sup}))

    assert here.guard(SetStatus("user:root", "suspended"), None) == "last_holder"
    assert here.guard(TakeRole("user:root", "operator", "system"), None) == "last_holder"


# --- laws -------------------------------------------------------------------------------------------------------------

_ACTORS = [f"{kind}:{name}" for kind, name in sorted(suite()[1].principals)]
_SUBJECTS = st.sampled_from([*_ACTORS, *(f"group:{name}" for name in suite()[1].groups), ANYONE, "user:zed", "x"])
_ROLES = st.sampled_from([*(name for name in suite()[0].model.roles), "custom.hand", "custom.helper", "viewer", "no"])
_PLACES = st.sampled_from(
    ["org:acme", "org:globex", "system", *(f"{kind}:{name}" for _, kind, name in suite()[1].resources), "task:no", "x"]
)
_GROUPS = st.sampled_from([*suite()[1].groups, "fresh", ""])
_TIMES = st.sampled_from([ALWAYS, NOW - DAY, NOW, NOW + DAY, NOW + 60 * DAY, NEVER])
_CHANGES: st.SearchStrategy[Change] = st.one_of(
    st.builds(GiveRole, _SUBJECTS, _ROLES, _PLACES, _TIMES, _TIMES),
    st.builds(TakeRole, _SUBJECTS, _ROLES, _PLACES),
    st.builds(GiveLink, _SUBJECTS, st.sampled_from(["acme", "globex", "no"]), _ROLES, _PLACES, _TIMES, _TIMES),
    st.builds(TakeLink, _SUBJECTS, st.sampled_from(["acme", "globex", "no"]), _ROLES, _PLACES),
    st.builds(SetMembership, _SUBJECTS, st.sampled_from(["active", "guest", "suspended"]), _TIMES, _TIMES),
    st.builds(EndMembership, _SUBJECTS),
    st.builds(MakeGroup, _GROUPS),
    st.builds(DeleteGroup, _GROUPS),
    st.builds(PutInGroup, _SUBJECTS, _GROUPS, _TIMES, _TIMES),
    st.builds(TakeFromGroup, _SUBJECTS, _GROUPS),
    st.builds(
        DefineRole, st.sampled_from(["hand", "helper", "new", ""]), st.sampled_from(["org", "project", "task"]),
        st.just(("project.read",)),
    ),
    st.builds(DeleteRole, st.sampled_from(["hand", "helper", "new"])),
)  # fmt: skip
_TENANTS = st.sampled_from(["acme", "acme", "acme", "globex", "shut", "no", None])
#: Who holds nothing that counts anywhere.
_POWERLESS = [
    "user:new",
    "user:run",
    "user:lin",
    "service:bot",
    "user:sus",
    "user:off",
    "user:late",
    "user:zed",
]


@pytest.mark.property
@settings(deadline=None, max_examples=400)
@given(st.sampled_from(_POWERLESS), _CHANGES, _TENANTS, st.lists(st.sampled_from(["manager", "owner"])))
def test_without_a_role_nobody_does_anything(actor: str, change: Change, tenant: str | None, claims: list[str]) -> None:
    """Who holds no role may make no change, whatever he claims; and no change raises anything."""
    ruling = world().rule(actor, change, tenant, claims=tuple(claims))

    assert ruling.outcome == "refused"


@pytest.mark.property
@settings(deadline=None, max_examples=400)
@given(st.sampled_from(_ACTORS), _SUBJECTS, _ROLES, _PLACES, _TENANTS)
def test_who_may_give_may_take(actor: str, subject: str, role: str, place: str, tenant: str | None) -> None:
    """What an actor may give, or ask to give, he may take away, but from the last who holds it."""
    here = world()

    given_to = here.rule(actor, GiveRole(subject, role, place), tenant)
    taken = here.rule(actor, TakeRole(subject, role, place), tenant)

    assert given_to.outcome == "refused" or taken.outcome == "allowed" or taken.code == "last_holder"


@cache
def without(index: int) -> Program:
    """The policy without one of its `assign`s."""
    model = suite()[0].model
    return Program(replace(model, assigns=(*model.assigns[:index], *model.assigns[index + 1 :])))


@pytest.mark.property
@settings(deadline=None, max_examples=600)
@given(st.sampled_from(_ACTORS), _CHANGES, _TENANTS, st.integers(0, len(suite()[0].model.assigns) - 1))
def test_to_remove_an_assign_allows_nothing(actor: str, change: Change, tenant: str | None, index: int) -> None:
    """What is refused stays refused, and what waits goes on waiting, where there is one `assign` less."""
    order = ("refused", "pending", "allowed")

    before = world().rule(actor, change, tenant, context={"mfa": True})
    less = World(without(index), suite()[1]).rule(actor, change, tenant, context={"mfa": True})

    assert order.index(less.outcome) <= order.index(before.outcome)
