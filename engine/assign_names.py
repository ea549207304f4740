"""What a change names, looked up: places, roles, subjects, groups. What is not there, or does not fit, is refused.

In: words as they are written in a change. Out: the things themselves, under their full names. Nothing here knows who
asks, or what he may; that a name is spelled well says nothing of it.
"""

from __future__ import annotations

from typing import Final

from engine.assign_rules import CUSTOM, RefusedError
from engine.authorizer import Questioner
from engine.errors import RequestError
from engine.facts import ANYONE, IMPLICIT_TENANT, GroupFact
from engine.model import SYSTEM
from engine.patterns import ceiling_cut
from engine.space import Space
from engine.spelling import nearest
from engine.target import SYSTEM_PLACE, Target, Thing

GROUP: Final = "group"
_PRINCIPALS: Final = ("user", "service")
_NOT_IN_NAMES: Final = frozenset(":/.*")


class Names:
    """Looks up names in the tenants of one program and one state of the facts."""

    def __init__(self, questioner: Questioner) -> None:
        self.model = questioner.model
        self.facts = questioner.facts
        self.questioner = questioner

    # --- tenants and places ------------------------------------------------------------------------

    def space(self, tenant: str | None) -> Space:
        """The tenant in which a change is made; None: none."""
        fact = self.questioner.tenant(tenant)
        if fact is None and tenant is not None:
            raise RefusedError("tenant_inactive", f"the tenant `{tenant}` is not active")
        return self.questioner.space(fact)

    def tenant_of(self, space: Space) -> Target:
        """The tenant as a place."""
        if space.fact is None:
            raise RefusedError("tenant_required", "this is done in a tenant: name it")
        return space.target(space.tenant_type, space.tenant_id)

    def place(self, space: Space, written: str) -> Target:
        """The place that is meant, if it is there."""
        target = self.look_up(space, written)
        if target.problem is not None:
            raise RefusedError("unknown_place", f"there is no `{written}` here: is it deleted, or of another tenant?")
        return target

    def look_up(self, space: Space, written: str) -> Target:
        """The place that is meant, there or not. Of an external one only that it lies in the tenant is known."""
        whole = {SYSTEM: SYSTEM_PLACE, "tenant": f"tenant:{IMPLICIT_TENANT}"}.get(written, written)
        try:
            kind, identity = self.questioner.reference(whole, "place")
        except RequestError as error:
            raise RefusedError("unknown_place", str(error)) from error
        if kind != SYSTEM:
            self.tenant_of(space)
        if self.model.types[kind].external:
            return Target(space, (Thing(f"{kind}:{identity}", identity, kind, {}), space.tenant_thing))
        return space.target(kind, identity)

    def want_home(self, space: Space, home: str) -> None:
        """Refuse a link that comes from nowhere, or from where it leads."""
        fact = self.facts.tenant(home)
        if home == space.tenant_id or fact is None or fact.status == "deleted":
            raise RefusedError("unknown_home", f"a link comes from another tenant that is there: `{home}` is none")

    def want_members(self) -> None:
        """Refuse what only tenants have, where the policy has none: memberships, links, groups of their own."""
        if not self.model.has_tenant:
            raise RefusedError(
                "no_tenant", "the policy has no tenant, so there are no members, links or tenant's groups"
            )

    # --- roles -------------------------------------------------------------------------------------

    def role(self, target: Target, written: str) -> str:
        """The full name of a role that is held on such a place."""
        kind = target.type
        name = self.model.role_on(kind, written)
        is_allowed = name is not None and (name in self.model.roles or kind in self.model.custom)
        if name is None or not is_allowed or not target.space.is_role_of(name, kind):
            own = [full.rpartition(".")[2] for full, role in self.model.roles.items() if role.type == kind]
            fix = nearest(written, own)
            hint = f"; did you mean `{fix}`?" if fix else ""
            raise RefusedError("unknown_role", f"`{kind}` has no role `{written}`{hint}")
        return name

    def crossing_role(self, target: Target, written: str) -> str:
        """The full name of a role that may be held over a link."""
        if target.type == SYSTEM:
            raise RefusedError("bad_place", "a link holds a role in a tenant, not on `system`")
        name = self.role(target, written)
        if name not in self.model.roles or not self.model.roles[name].crossing:
            raise RefusedError("not_crossing", f"`{name}` is not `crossing`: it is not held over links")
        return name

    def want_definition(self, space: Space, name: str, on: str, can: tuple[str, ...]) -> None:
        """Refuse a role of the tenant's own that would be none."""
        kind = self.model.tenant if on == "tenant" else on
        if kind not in self.model.custom:
            known = ", ".join(f"`{line}`" for line in sorted(self.model.custom)) or "none"
            raise RefusedError("no_custom", f"tenants make no roles on `{on}`: the policy lets them on {known}")
        if not name or not _NOT_IN_NAMES.isdisjoint(name):
            raise RefusedError("bad_name", f"`{name}` is no role's name: it has a letter, and none of `: / . *`")
        for pattern in can:
            if not ceiling_cut(self.model, kind, [pattern]):
                raise RefusedError("bad_pattern", f"`{pattern}` gives nothing that `custom on {kind}` has")
        known_role = self.facts.custom_roles(space.tenant_id).get(name)
        if known_role is not None and known_role.on != kind:
            raise RefusedError("exists", f"`{CUSTOM}.{name}` is held on `{known_role.on}`: choose another name")

    # --- subjects ----------------------------------------------------------------------------------

    def subject(self, written: str) -> str:
        """The full reference of a user, a service or a group, or `anyone`, whether or not it is there."""
        if written == ANYONE:
            return ANYONE
        try:
            kind, identity = self.questioner.reference(written, "subject")
        except RequestError as error:
            raise RefusedError("bad_subject", str(error)) from error
        if kind not in (*_PRINCIPALS, GROUP):
            raise RefusedError("bad_subject", f"`{kind}` holds nothing: a user, a service or a group does")
        return f"{kind}:{identity}"

    def principal(self, written: str) -> str:
        """The full reference of a user or service, whether or not he is there."""
        reference = self.subject(written)
        if reference.partition(":")[0] not in _PRINCIPALS:
            raise RefusedError("bad_subject", f"`{written}` is no user or service: name one")
        return reference

    def want_there(self, space: Space, reference: str, *, to_take: bool = False) -> None:
        """Refuse a subject that nobody knows.

        Args:
            to_take: it is for taking something from him: a deleted one is there, too, and who merely holds something.
        """
        kind, _, identity = reference.partition(":")
        if kind == GROUP:
            is_there = space.group(identity) is not None
        elif kind == ANYONE:
            is_there = True
        else:
            fact = self.facts.principal(kind, identity)
            member = self.facts.member(space.tenant_id, kind, identity) if space.fact is not None else None
            is_there = fact is not None or (member is not None and (to_take or member.membership is not None))
            if fact is not None and fact.status == "deleted" and not to_take:
                is_there = False
        if not is_there:
            raise RefusedError("unknown_subject", f"there is no `{reference}`, or no longer")

    # --- groups ------------------------------------------------------------------------------------

    def group(self, space: Space, name: str) -> GroupFact:
        """A group of the tenant or of the platform."""
        found = space.group(name)
        if found is None:
            raise RefusedError("unknown_group", f"there is no group `{name}` in this tenant or of the platform")
        return found

    def want_new_group(self, space: Space, name: str) -> None:
        if not name or name == ANYONE:
            raise RefusedError("bad_name", f"`{name}` is no group's name: choose another")
        if space.group(name) is not None:
            raise RefusedError("exists", f"there is a group `{name}` already: choose another name")

    def want_nesting(self, space: Space, inner: str, outer: GroupFact) -> None:
        """Refuse a group in a group where they do not nest."""
        if self.group(space, inner).tenant != outer.tenant:
            raise RefusedError("bad_subject", f"`{inner}` and `{outer.name}` do not belong to the same tenant")
        if inner in space.outer_groups([outer.name]):
            raise RefusedError("cycle", f"`{outer.name}` is in `{inner}`, or is it: a group does not lie in itself")
