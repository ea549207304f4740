"""The compiled policy: for each action a plan, for each set of roles what it gives. Immutable but for what it fills
in on first use.

A `Plan` holds the rules that can matter to one action asked by one kind of principal, and no others, so a policy of
ten thousand rules decides as fast as one of ten. A `RoleSet` stands for roles held together at one place; asked for a
plan it answers what they give there.

The design sketched bit masks, one bit a permission. Measured, a mask as wide as the policy costs more with every rule
(its `&` makes a number of that width), while a look-up by plan costs the same for any policy; and role sets are
shared by all who hold the same roles, so memory goes by combinations, not by principals. Both are folded when first
asked, never at check time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from engine.compiler import Compiler, Test
from engine.errors import RequestError
from engine.model import Action, Conditions, Model, Role, Rule, TypeInfo, Within
from engine.routes import RouteTable
from engine.routing import Router
from engine.spelling import nearest
from engine.values import Value

if TYPE_CHECKING:
    from engine.standing import Standing
    from engine.target import Target

#: Sets of roles that are remembered; past it they are begun anew. Who claims roles chooses the set: twenty claimable
#: roles make a million of them.
MAX_ROLE_SETS: Final = 5_000

Asker = Literal["user", "service", "anonymous"]
ASKERS: tuple[Asker, ...] = ("user", "service", "anonymous")
#: A rule and the function that settles it: for an allow whether its condition is true, for a deny whether it is
#: false. None: no condition.
Tested = tuple[Rule, Test | None]


class Plan:
    """All that can matter when one kind of principal asks for one action."""

    __slots__ = (
        "action",
        "anyone_allows",
        "asker",
        "code",
        "denies",
        "group_allows",
        "group_denies",
        "has_denies",
        "has_more_allows",
        "has_more_denies",
        "is_new",
        "obliges",
        "places",
        "public_allows",
        "role_allows",
        "role_denies",
        "rules",
    )

    def __init__(self, program: Program, action: Action, asker: Asker) -> None:
        self.action = action
        self.code = action.code
        self.is_new = action.new
        self.asker = asker
        rules = program.rules_by_action.get(action.code, ())
        denies = [(rule, program.false(rule.conditions, self)) for rule in rules if rule.effect == "deny"]
        allows = [(rule, program.true(rule.conditions, self)) for rule in rules if rule.effect == "allow"]
        named = asker != "anonymous"
        self.denies = tuple(d for d in denies if d[0].who.anyone or d[0].who.public or asker in d[0].who.types)
        self.group_denies = tuple(d for d in denies if named and d[0].who.groups)
        self.role_denies = tuple(d for d in denies if named and d[0].who.roles)
        self.public_allows = tuple(a for a in allows if a[0].who.public)
        self.anyone_allows = tuple(a for a in allows if named and (a[0].who.anyone or asker in a[0].who.types))
        self.group_allows = tuple(a for a in allows if named and a[0].who.groups)
        self.role_allows = tuple(a for a in allows if named and a[0].who.roles)
        self.has_denies = bool(denies)
        self.has_more_denies = bool(self.group_denies or self.role_denies)
        self.has_more_allows = bool(self.group_allows or self.role_allows)
        #: Allows under True, denies under False, by name; `obliges`: whether any of that side has obligations.
        self.rules = {True: allows, False: denies}
        self.places = {rule.name: rule.span.at for rule in rules}
        self.obliges = {effect: any(rule.obligations for rule, _ in rules) for effect, rules in self.rules.items()}


class Giver(NamedTuple):
    """A role, where the `can` of it stands that gives an action (None: it is a custom role), and the test of whether it
    does; None: it does."""

    role: str
    at: str | None
    test: Test | None


#: What a set of roles gives for a plan: True without condition, None nothing, else the conditions of which one must
#: be true.
Gives = tuple[Test, ...] | Literal[True] | None


class RoleSet(dict[Plan, "Gives"]):
    """Roles held together at one place. As a mapping: what they give for a plan, worked out at the first question."""

    __slots__ = ("_givers", "custom", "names", "program", "satisfies")

    def __init__(self, program: Program, names: tuple[str, ...], custom: Mapping[str, frozenset[str]]) -> None:
        """Make the set.

        Args:
            names: `TYPE.NAME` or `custom.NAME`, in order of name.
            custom: for the custom roles among them, the action codes that they give.
        """
        super().__init__()
        self.program = program
        self.names = names
        self.custom = custom
        self._givers: dict[Plan, tuple[Giver, ...]] = {}
        self.satisfies: dict[str, Within] = {}
        for role in (program.model.roles[name] for name in names if name in program.model.roles):
            for other, within in role.satisfies.items():
                self.satisfies[other] = self.satisfies.get(other, ()) + within

    def __missing__(self, plan: Plan) -> Gives:
        tests = [giver.test for giver in self.givers(plan)]
        gives: Gives = True if None in tests else tuple(test for test in tests if test is not None) or None
        self[plan] = gives
        return gives

    def givers(self, plan: Plan) -> tuple[Giver, ...]:
        """What gives something for a plan, by name of the role, each with the test of whether it does."""
        found = self._givers.get(plan)
        if found is None:
            found = self._givers[plan] = tuple(giver for name in self.names for giver in self._givers_of(name, plan))
        return found

    def _givers_of(self, name: str, plan: Plan) -> list[Giver]:
        if name in self.custom:
            return [Giver(name, None, None)] if plan.code in self.custom[name] else []
        info = self.program.model.types[plan.action.type]
        found = []
        for can, within in self.program.model.roles[name].gives:
            lies = lies_within(info, within, is_new=plan.action.new) if plan.code in can.actions else False
            if lies is not False:
                test = self.program.true(can.conditions, plan)
                found.append(Giver(name, can.span.at, test if lies is True else _tested_within(within, test)))
        return found


def lies_within(info: TypeInfo, within: Within, *, is_new: bool) -> bool | None:
    """Say whether everything of a type lies within all types of one of these sets, nothing does (False), or it depends
    (None).

    What is new is judged in its parent, and so is no place itself; of an external thing only a request says whether it
    is new.
    """
    own = frozenset((info.name,))
    surely = info.always if is_new else info.always | own
    maybe = info.above if is_new and not info.external else info.above | own
    if any(types <= surely for types in within):
        return True
    return None if any(types <= maybe for types in within) else False


def _tested_within(within: Within, test: Test | None) -> Test:
    """A test that holds only for what lies within these types."""

    def is_given(s: Standing, t: Target, x: dict[str, Value], a: dict[str, Value], n: int) -> bool:
        return t.lies_within(within) and (test is None or test(s, t, x, a, n))

    return is_given


class _Plans(dict[str | None, Plan]):
    """The plans of one type for one kind of principal, by what a request may call the action."""

    __slots__ = ("asker", "kind", "program")

    def __init__(self, program: Program, kind: str, asker: Asker) -> None:
        super().__init__()
        self.program = program
        self.kind = kind
        self.asker = asker

    def __missing__(self, written: str | None) -> Plan:
        if not written:
            raise RequestError("bad_request", "no action is named: give its name, a string")
        action = self.program.action_named(self.kind, written)
        known = self.get(action.code)
        plan = known if known is not None else Plan(self.program, action, self.asker)
        self[written] = self[action.code] = plan
        return plan


class Program:
    """A policy, ready to decide."""

    def __init__(self, model: Model) -> None:
        self.model = model
        self.digest = model.digest
        self.compiler = Compiler(model.digest)
        self.rules_by_action: dict[str, list[Rule]] = {}
        for rule in model.rules:
            for code in rule.actions:
                self.rules_by_action.setdefault(code, []).append(rule)
        self.plans = {asker: {kind: _Plans(self, kind, asker) for kind in model.types} for asker in ASKERS}
        self.aliases = model.aliases
        self.routes = RouteTable(model.routes)
        self.router = Router(model, self.routes)
        self.role_sets: dict[tuple[str, ...], RoleSet] = {}
        self.claimable = {
            name: role.name
            for role in model.roles.values()
            if role.claimable
            for name in (role.name, role.name.rpartition(".")[2], f"tenant.{role.name.rpartition('.')[2]}")
        }

    def action_named(self, kind: str, written: str) -> Action:
        """Return the action that a request means: bare, or with its type, which must be the resource's.

        Raises:
            RequestError: the type has no such action.
        """
        actions = self.model.types[kind].actions
        name = written
        if name not in actions:
            dotted = written.replace(":", ".")
            name = next(
                (dotted.removeprefix(f"{own}.") for own in self._own_names(kind) if dotted.startswith(f"{own}.")), ""
            )
        if name not in actions:
            fix = nearest(written, actions)
            hint = f"; did you mean `{fix}`?" if fix else ""
            raise RequestError("unknown_action", f"`{kind}` has no action `{written}`{hint}")
        return actions[name]

    def _own_names(self, kind: str) -> tuple[str, ...]:
        extra = ("tenant",) if kind == self.model.tenant else ()
        return (kind, *self.model.types[kind].aliases, *extra)

    def true(self, conditions: Conditions | None, plan: Plan) -> Test | None:
        """The function that says whether a rule's condition is true for a plan; None where there is no condition."""
        return None if conditions is None else self.compiler.true(conditions[plan.code, plan.asker])

    def false(self, conditions: Conditions | None, plan: Plan) -> Test | None:
        return None if conditions is None else self.compiler.false(conditions[plan.code, plan.asker])

    def role_set(self, names: tuple[str, ...]) -> RoleSet:
        """The set of these roles of the policy, one object for those who hold just them, as long as it is
        remembered."""
        found = self.role_sets.get(names)
        if found is None:
            if len(self.role_sets) >= MAX_ROLE_SETS:
                self.role_sets.clear()
            found = self.role_sets[names] = RoleSet(self, names, {})
        return found

    def role(self, name: str) -> Role | None:
        return self.model.roles.get(name)
