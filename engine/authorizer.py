"""The decision: `Question` in, allowed and code out.

`judge` is the whole of "How a decision is made", steps 4 to 6, on compiled parts; `Asker` turns a `Request` into a
`Question` and settles steps 1 to 3. What a failed condition does stands in one place: a grant or an allow is asked
whether its condition is *true*, a deny whether its condition is *false*; whatever is neither therefore neither allows
nor spares.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple

from engine.decision import Decision
from engine.errors import RequestError
from engine.facts import IMPLICIT_TENANT, FactSource, TenantFact
from engine.model import SYSTEM, Attribute, TypeInfo
from engine.program import Asker as AskerKind
from engine.program import Plan, Program, Tested
from engine.request import HttpRequest, Properties, Request
from engine.routing import Routed
from engine.space import Space, Tally
from engine.spelling import nearest
from engine.standing import Standing
from engine.target import Target, Thing
from engine.values import Value, WrongTypeError, convert, split_reference

Fields = Mapping[str, Value]
NO_FIELDS: dict[str, Value] = {}


#: The same as a bare tuple, which costs a fraction of the time to make.
Parts = tuple[Plan, Standing, Target, dict[str, Value], dict[str, Value], int]


class Question(NamedTuple):
    """A request resolved: who stands how, to what, for which action, with what sent, when."""

    plan: Plan
    standing: Standing
    target: Target
    context: dict[str, Value]
    action: dict[str, Value]
    now: int


def judge(plan: Plan, s: Standing, t: Target, x: dict[str, Value], a: dict[str, Value], n: int) -> Decision:
    """Decide on a target that is there, for whoever asks. Arguments are the parts of a `Question`."""
    parts = (plan, s, t, x, a, n)
    if not s.inside and s.is_outside(t):
        return _judge_outsider(parts)
    if plan.has_denies:
        for _, is_false in plan.denies:
            if is_false is None or not is_false(s, t, x, a, n):
                return Decision(False, "rule", parts)
        if plan.has_more_denies and _is_denied_by_name(parts):
            return Decision(False, "rule", parts)
    roles = s.tenant_roles
    if roles is not None and roles[plan] is True:  # no role on a tenant gives an action of the system
        return Decision(True, "role", parts)
    held = s.held
    for place in t.places:
        if place in held:
            gives = held[place][plan]
            if gives is True:
                return Decision(True, "role", parts)
            if gives is not None:
                for is_true in gives:
                    if is_true(s, t, x, a, n):
                        return Decision(True, "role", parts)
    if (s.linked or s.system is not None) and _is_given_from_outside(parts):
        return Decision(True, "role", parts)
    if s.anyone:
        for _, test in plan.anyone_allows:
            if test is None or test(s, t, x, a, n):
                return Decision(True, "rule", parts)
    if plan.public_allows and _applies(plan.public_allows, parts):
        return Decision(True, "rule", parts)
    if plan.has_more_allows and s.inside and _is_allowed_by_name(parts):
        return Decision(True, "rule", parts)
    return Decision(False, "default", parts)


def _judge_outsider(parts: Parts) -> Decision:
    """To those outside only what is public shows: without a public allow even a deny rule does not."""
    if not _applies(parts[0].public_allows, parts):
        return Decision(False, "boundary", parts)
    if is_denied(parts):
        return Decision(False, "rule", parts)
    return Decision(True, "rule", parts)


def is_denied(parts: Parts) -> bool:
    """Say whether any deny rule applies: one whose condition is not false."""
    plan, s, t, x, a, n = parts
    for _, is_false in plan.denies:
        if is_false is None or not is_false(s, t, x, a, n):
            return True
    return plan.has_more_denies and _is_denied_by_name(parts)


def _is_denied_by_name(parts: Parts) -> bool:
    """Deny rules that name groups or roles. A role counts however it is held."""
    plan, s, t, x, a, n = parts
    for rule, is_false in plan.group_denies:
        if any(name in s.groups and is_platform_group(s, name) for name in rule.who.groups) and (
            is_false is None or not is_false(s, t, x, a, n)
        ):
            return True
    for rule, is_false in plan.role_denies:
        if holds_any(parts, rule.who.roles, wide=True) and (is_false is None or not is_false(s, t, x, a, n)):
            return True
    return False


def _is_given_from_outside(parts: Parts) -> bool:
    """Roles over links, where they are held, and system roles: exactly what they `can`."""
    plan, s, t, x, a, n = parts
    sets = [s.linked[place] for place in t.places if place in s.linked]
    if s.system is not None:
        sets.append(s.system)
    for roles in sets:
        gives = roles[plan]
        if gives is True or (gives is not None and any(is_true(s, t, x, a, n) for is_true in gives)):
            return True
    return False


def _is_allowed_by_name(parts: Parts) -> bool:
    """Allow rules that name groups or roles, for one who is inside; a role over a link or on the system is not
    meant."""
    plan, s, t, x, a, n = parts
    for rule, is_true in plan.group_allows:
        if any(name in s.counts_in and is_platform_group(s, name) for name in rule.who.groups) and (
            is_true is None or is_true(s, t, x, a, n)
        ):
            return True
    for rule, is_true in plan.role_allows:
        if holds_any(parts, rule.who.roles, wide=False) and (is_true is None or is_true(s, t, x, a, n)):
            return True
    return False


def _applies(rules: tuple[Tested, ...], parts: Parts) -> bool:
    _, s, t, x, a, n = parts
    return any(is_true is None or is_true(s, t, x, a, n) for _, is_true in rules)


def holds_any(parts: Parts, roles: frozenset[str], *, wide: bool) -> bool:
    """Say whether one of these roles is held on the target or above."""
    _, s, t, *_ = parts
    return any(s.holds(role, t.places, False, wide) for role in roles)


def is_platform_group(standing: Standing, name: str) -> bool:
    """Say whether a group is of the platform: one that a tenant makes under the same name is never meant."""
    group = standing.space.group(name)
    return group is not None and group.tenant is None


#: Most memos of all tenants; past it they are dropped and begun anew.
MAX_MEMOS = 400_000


class Questioner:
    """Turns requests into questions, for one program and one state of the facts. `spaces` are the tenants seen so
    far."""

    def __init__(self, program: Program, facts: FactSource) -> None:
        self.program = program
        self.model = program.model
        self.facts = facts
        self.spaces: dict[str | None, Space] = {}
        self.tally = Tally()
        #: Those of active tenants, by what a request may call them.
        self.active: dict[str | None, Space] = {}
        #: Told of every question that the policy itself decides; coverage listens here.
        self.observer: Callable[[Question], None] | None = None

    def forget(self, tenant: str | None) -> None:
        """Drop what was derived for a tenant: its facts are no longer those that it was derived from."""
        gone = self.spaces.pop(tenant, None)
        self.active.pop(tenant if self.model.has_tenant else None, None)
        if gone is not None:
            self.tally.count -= len(gone.standings) + len(gone.targets) + len(gone.things)

    def forget_all(self) -> None:
        """Drop all that was derived."""
        self.spaces.clear()
        self.active.clear()
        self.tally = Tally()

    # --- whole questions ---------------------------------------------------------------------------

    def decide(self, request: Request, now: int, bindings: tuple[str, ...] = ()) -> Decision:
        """Decide a request: an error for what is malformed, a deny for what is not there, else what the policy says.

        Args:
            now: the instant, in nanoseconds since 1970.
            bindings: references in a path, each of which must be the decided resource or lie on its chain.
        """
        if self.tally.count > MAX_MEMOS:
            self.forget_all()
        found = self.question(request, now, bindings)
        if isinstance(found, Decision):
            return found
        if self.observer is not None:
            self.observer(found)
        return judge(*found)

    def decide_route(self, request: HttpRequest, now: int) -> Decision:
        """Decide an HTTP request by the policy's routes."""
        routed = self.program.router.read(request.method, request.path)
        if isinstance(routed, str):
            return Decision(False, routed, None)
        if routed.open_to is not None:
            return self.decide_open(routed.open_to, request)
        return self.decide_known(routed, request, now) or self.decide(
            self.routed(routed, request), now, routed.bindings
        )

    def decide_known(self, routed: Routed, request: HttpRequest, now: int) -> Decision | None:
        """Decide by what is remembered, as `Policy.decide` does; None: something is not, or there is more to it."""
        if not routed.is_plain or request.subject_properties or request.tenant is not None or self.observer:
            return None
        tenant, claimed = routed.tenant, request.token_tenant
        if not self.model.has_tenant:
            tenant = None
        elif tenant is None:
            tenant = claimed
        elif claimed is not None and claimed != tenant:
            return None
        try:
            space = self.active[tenant]
            s = space.standings[request.subject]
            t = space.targets[routed.resource]  # type: ignore[index]  # it is plain, so there is one
            plan = s.plans[t.type][routed.action]
        except (KeyError, TypeError):
            return None
        if not s.since <= now < s.until or plan.is_new or not t.lies_in_all(routed.bindings):
            return None
        return judge(plan, s, t, self.sent(self.model.context, request.context, "context"), NO_FIELDS, now)

    def decide_open(self, open_to: Literal["authenticated", "public"], request: HttpRequest) -> Decision:
        """A route that is `public`, or `authenticated`: for any principal that is not suspended or deleted."""
        kind, identity = self.subject(request.subject)
        if open_to == "public":
            return Decision(True, "rule", None)
        if identity is None:
            return Decision(False, "default", None)
        fact = self.facts.principal(kind, identity)
        if fact is not None and fact.status != "active":
            return Decision(False, "principal_inactive", None)
        return Decision(True, "rule", None)

    def routed(self, routed: Routed, request: HttpRequest) -> Request:
        """Make the request of what a path asks."""
        resource = routed.resource
        if resource is None:
            said = self.text(request.subject_properties, "tenant", "subject")
            resource = f"{self.model.tenant}:{request.tenant or said or request.token_tenant or IMPLICIT_TENANT}"
        return Request(
            tenant=request.tenant,
            subject=request.subject,
            action=routed.action,
            resource=resource,
            context=request.context,
            subject_properties=request.subject_properties,
            resource_properties=routed.properties,
            token_tenant=request.token_tenant,
        )

    def question(self, request: Request, now: int, bindings: tuple[str, ...] = ()) -> Question | Decision:
        """Resolve a request: steps 1 to 3. A `Decision` is a deny for what is not there."""
        asker, identity = self.subject(request.subject)
        kind, resource_id = self.reference(request.resource, "resource")
        if not isinstance(request.action, str):
            raise RequestError("bad_request", "no action is named: give its name, a string")
        plan = self.program.plans[asker][kind][request.action]
        self.text(request.subject_properties, "tenant", "subject")  # refuses what is no object, tenants or none
        self.text(request.resource_properties, "tenant", "resource")
        voices = self.voices(request)
        if not voices and request.token_tenant is not None and self.model.has_tenant:
            voices = {request.token_tenant}
        if not voices and self.model.has_tenant and kind != SYSTEM:
            raise RequestError("tenant_required", "no tenant is named: give `tenant`")
        context = self.sent(self.model.context, request.context, "context")
        fields = self.sent(plan.action.fields, request.action_properties, "action.properties")
        tenant = self.tenant(next(iter(voices)) if len(voices) == 1 else None)
        space = self.space(tenant)
        is_foreign = self.model.has_tenant and request.token_tenant is not None and request.token_tenant not in voices
        standing = self.standing(space, asker, identity, request.subject_properties, now, is_foreign=is_foreign)
        target = self.target(space, plan, resource_id, request.resource_properties)
        question = Question(plan, standing, target, context, fields, now)
        if len(voices) > 1:
            return Decision.early("boundary", question)
        if (tenant is None and voices and self.model.has_tenant) or (tenant is not None and tenant.status != "active"):
            return Decision.early("tenant_inactive", question)
        if standing.is_inactive:
            return Decision.early("principal_inactive", question)
        if target.problem is not None:
            hidden = target.problem == "boundary" or standing.is_outside(target)
            return Decision.early("boundary" if hidden else target.problem, question)
        if not target.lies_in_all(bindings):
            return Decision.early("boundary", question)
        return question

    # --- the parts of a question -------------------------------------------------------------------

    def subject(self, written: str) -> tuple[AskerKind, str | None]:
        """The type and id of who asks; anonymous has no id."""
        if written in ("anonymous", "anonymous:anonymous"):
            return "anonymous", None
        kind, identity = self.reference(written, "subject")
        if kind not in ("user", "service"):
            raise RequestError("unknown_type", f"`{kind}` is no subject: a user, a service or anonymous is")
        return ("user" if kind == "user" else "service"), identity

    def reference(self, written: str, what: str) -> tuple[str, str]:
        """Split `"type:id"`, with the type's own name where the policy has others for it."""
        try:
            kind, identity = split_reference(written)
        except (WrongTypeError, AttributeError) as error:
            raise RequestError("bad_request", f'the {what} is written "type:id"') from error
        return self.type_named(kind), identity

    def type_named(self, written: str) -> str:
        kind = self.program.aliases.get(written, written)
        if kind == "tenant" and self.model.has_tenant:
            kind = self.model.tenant
        if kind not in self.model.types:
            fix = nearest(written, self.model.types)
            raise RequestError(
                "unknown_type", f"the policy has no type `{written}`" + (f"; did you mean `{fix}`?" if fix else "")
            )
        return kind

    def voices(self, request: Request) -> set[str]:
        """All that the request itself says of the tenant; empty under a policy without one."""
        if request.tenant is not None and not isinstance(request.tenant, str):
            raise RequestError("wrong_type", "tenant: expected a string")
        named = [
            request.tenant,
            self.text(request.subject_properties, "tenant", "subject"),
            self.text(request.resource_properties, "tenant", "resource"),
        ]
        return {name for name in named if name is not None} if self.model.has_tenant else set()

    def text(self, properties: Properties, name: str, what: str) -> str | None:
        if not isinstance(properties, Mapping):
            raise RequestError("wrong_type", f"{what}.properties: expected an object")
        value = properties.get(name)
        if value is not None and not isinstance(value, str):
            raise RequestError("wrong_type", f"{what}.properties.{name}: expected a string")
        return value

    def tenant(self, name: str | None) -> TenantFact | None:
        if not self.model.has_tenant:
            return _THE_TENANT
        return self.facts.tenant(name) if name is not None else None

    def space(self, tenant: TenantFact | None) -> Space:
        key = tenant.id if tenant is not None else None
        found = self.spaces.get(key)
        if found is None:
            found = self.spaces[key] = Space(self.program, self.facts, tenant, self.tally)
            if tenant is not None and tenant.status == "active":
                self.active[key if self.model.has_tenant else None] = found
        return found

    def sent(
        self, declared: Mapping[str, Attribute], given: Properties, what: str, *, only_sent: bool = False
    ) -> dict[str, Value]:
        """Convert what the request says of declared names; null is "not sent", what is not declared is ignored.

        Raises:
            RequestError: a declared value is of the wrong type.
        """
        if not given:
            return NO_FIELDS
        if type(given) is not dict and not isinstance(given, Mapping):
            raise RequestError("wrong_type", f"{what}: expected an object")
        found: dict[str, Value] = {}
        for name, raw in given.items():
            attribute = declared.get(name)
            if attribute is None or raw is None or (only_sent and not attribute.sent):
                continue
            try:
                found[name] = convert(attribute.type, raw, self.program.aliases)
            except WrongTypeError as error:
                raise RequestError("wrong_type", f"{what}.{name}: {error}") from error
        return found

    def standing(
        self,
        space: Space,
        asker: AskerKind,
        identity: str | None,
        properties: Properties,
        now: int,
        *,
        is_foreign: bool,
    ) -> Standing:
        claims = self.claims(properties)
        if is_foreign or claims:
            standing = space.make_standing(asker, identity, now, claims=claims, is_foreign=is_foreign)
        else:
            standing = space.standing(asker, identity, now)
        if identity is None or not properties:
            return standing
        declared = self.model.types[asker].attributes
        sent = self.sent(declared, properties, "subject.properties", only_sent=standing.is_stored)
        if sent:
            standing = standing.copy()
            standing.attributes = {**standing.attributes, **sent}
        return standing

    def claims(self, properties: Properties) -> tuple[str, ...]:
        """The claimable roles among those that are claimed, by full name."""
        named = properties.get("roles")
        if named is None:
            return ()
        if not isinstance(named, list | tuple) or not all(isinstance(name, str) for name in named):
            raise RequestError("wrong_type", "subject.properties.roles: expected a list of strings")
        known = self.program.claimable
        return tuple(sorted({known[name] for name in named if name in known}))

    def target(self, space: Space, plan: Plan, identity: str, properties: Properties) -> Target:
        """The resource that is asked about: stored, new or external."""
        info = self.model.types[plan.action.type]
        parent = self.parent(properties)
        new = properties.get("new")
        if plan.action.new and new is not None and not isinstance(new, bool):
            raise RequestError("wrong_type", "resource.properties.new: expected true or false")
        if plan.action.new and not info.external:
            return self.new_target(space, info, identity, parent, properties, has_id=new is not True)
        if info.external:
            sent = self.sent(info.attributes, properties, "resource.properties")
            if plan.action.new and new is True:
                return space.chain(Thing(None, None, info.name, sent), info, parent, is_new=True)
            return space.chain(Thing(f"{info.name}:{identity}", identity, info.name, sent), info, parent)
        target = space.target(info.name, identity)
        sent = (
            self.sent(info.attributes, properties, "resource.properties", only_sent=True) if properties else NO_FIELDS
        )
        if target.problem is None and parent is not None and parent != target.parent.ref:
            return Target(space, target.chain, "boundary")
        return target.with_attributes(sent) if sent else target

    def new_target(
        self, space: Space, info: TypeInfo, identity: str, parent: str | None, properties: Properties, *, has_id: bool
    ) -> Target:
        """What an action marked `new` is asked of. A row, a deleted one too, is not new: names do not come back to
        life."""
        row = space.facts.resource(space.tenant_id, info.name, identity) if has_id else None
        sent = self.sent(info.attributes, properties, "resource.properties", only_sent=row is not None)
        if row is not None:
            return Target(space, space.target(info.name, identity).chain, "exists")
        own = (
            Thing(f"{info.name}:{identity}", identity, info.name, sent)
            if has_id
            else Thing(None, None, info.name, sent)
        )
        return space.chain(own, info, parent, is_new=True)

    def parent(self, properties: Properties) -> str | None:
        """The parent that a request names; the implicit or the active tenant may be called `tenant` too."""
        written = self.text(properties, "parent", "resource")
        if written is None:
            return None
        kind, identity = self.reference(written, "parent")
        return f"{kind}:{identity}"


_THE_TENANT = TenantFact(IMPLICIT_TENANT, "active")
