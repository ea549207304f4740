"""May this actor make this change: give or take a role or a link, change memberships, groups, the tenant's own roles?

In: an `Actor`, a change, the tenant in which he makes it, the instant. Out: a `Ruling`: allowed, waiting for the
approval of another, or refused with a code and a sentence. This is the one place that knows what the policy's `assign`
declarations mean. A change takes a right of its own, and then perhaps others (of who is put into a group, to give all
that the group holds); each is ruled on by itself (`assign_rules`), and all are needed. Whether a change's subject is
there is looked at after its own right, so that whoever may not ask learns nothing of it.

Only a malformed question raises (`RequestError`: an actor that is none, a context of the wrong type); all that is wrong
with a change is a refusal. Whatever `FactSource` or `Holdings` raise goes through.

Codes of rulings:

    assign                the `assign` at `at` allows it; `approval`: it does once another approves
    tenant_inactive  tenant_required  principal_inactive  boundary              who asks, and where
    no_assign  no_role  condition                                               no `assign` allows it
    anyone  not_self  expires_within  max                                       an option of the nearest one does not
    last_holder                                                                 a role would be left without a holder
    unknown_place  unknown_role  unknown_subject  unknown_group  unknown_home   what is named is not there
    bad_place  bad_subject  bad_name  bad_pattern  not_crossing  no_custom      or does not fit
    no_tenant  exists  cycle  no_times
    requester  subject  too_late  requester_right                               who approves, and what

Readings of the text that a reader would question, each the safer of two. The roles that a membership holds on the
tenant are those held through groups, too. A membership that is made to end sooner is one that ends. `group "NAME"`
covers members of a group of the platform and not groups in it: nesting is said of the tenant's alone. In a policy
without tenant all groups are the platform's. Who is made a guest is no longer the active member that a last holder is.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import replace
from typing import assert_never

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
from engine.assign_names import GROUP, Names
from engine.assign_rules import (
    APPROVAL_SPAN,
    CUSTOM,
    GROUPS,
    MEMBERS,
    Giving,
    Hearing,
    Holdings,
    RefusedError,
    Right,
)
from engine.authorizer import Questioner
from engine.facts import ALWAYS, ANYONE, NEVER, FactSource, Grant, GroupFact
from engine.last_holder import LastHolders
from engine.model import SYSTEM
from engine.program import Program
from engine.space import Space
from engine.target import Target


class Assigner:
    """Rules on changes, for one program and one state of the facts."""

    def __init__(self, program: Program, facts: FactSource, holdings: Holdings) -> None:
        self.model = program.model
        self.facts = facts
        self.holdings = holdings
        self.questioner = Questioner(program, facts)
        self.names = Names(self.questioner)
        self.last_holders = LastHolders(self.names, holdings)

    def rule(self, actor: Actor, change: Change, tenant: str | None, now: int) -> Ruling:
        """Rule on a change that an actor would make.

        Args:
            tenant: whose roles, members and groups these are; None for what is on the system alone.
            now: the instant, in nanoseconds since 1970.

        Raises:
            RequestError: the actor is malformed, or his context is of the wrong type.
        """
        return self._rule(Hearing(self.questioner, self.holdings, actor, now), change, tenant)

    def approve(self, approver: Actor, pending: Pending, now: int) -> Ruling:
        """Rule on a change that waits: may this approver let it through now? Another who may make it himself may, who
        is not given anything by it, within 7 days, and if the requester may still ask for it.

        Claims of the requester's token are long forgotten then; his context is that of his request.

        Raises:
            RequestError: as above.
        """
        change, tenant = pending.change, pending.tenant
        hearing = Hearing(self.questioner, self.holdings, approver, now, pending.id)
        own = self._rule(hearing, change, tenant)
        if own.outcome == "refused":
            return own
        asked = Hearing(self.questioner, self.holdings, replace(pending.actor, claims=()), now, pending.id)
        again = self._rule(asked, change, tenant)
        if hearing.reference == asked.reference:
            return _refused("requester", "nobody approves what he asked for himself: ask another who may give it")
        if self._is_given_to(hearing, change, tenant):
            return _refused("subject", "nobody approves what he is given himself: ask another who may give it")
        if now - pending.asked > APPROVAL_SPAN:
            return _refused("too_late", "it has waited for more than 7 days: ask for it again")
        if again.outcome == "refused":
            return _refused("requester_right", f"`{asked.reference}` may not ask for it now: {again.message}")
        return Ruling("allowed", "assign", "another who may give it approves", own.at)

    def outside(self, actor: Actor, tenant: str | None, now: int) -> Ruling | None:
        """Refuse an actor who may do nothing in a tenant, whatever it is; None: he may be one who does.

        Raises:
            RequestError: as above.
        """
        try:
            Hearing(self.questioner, self.holdings, actor, now).seen(self.names.space(tenant))
        except RefusedError as refusal:
            return refusal.ruling
        return None

    def guard(self, change: Change | SetStatus, tenant: str | None, now: int) -> Ruling | None:
        """Refuse a change that takes a role from the last who holds it, whoever makes it; None: nothing speaks against
        it. `rule` asks this by itself; it is for changes to which no `assign` gives the right."""
        try:
            self.last_holders.keep(change, self.names.space(tenant), now)
        except RefusedError as refusal:
            return refusal.ruling
        return None

    def _rule(self, hearing: Hearing, change: Change, tenant: str | None) -> Ruling:
        try:
            space = self.names.space(tenant)
            hearing.seen(space)
            own = hearing.rule(self._right(change, space, hearing))
            if own.outcome == "refused":
                return own
            self._want_fitting(change, space)
            # A list and no generator: where facts are fetched when they are first missed, all are missed at once.
            rulings = [own, *[hearing.rule(right) for right in self._rights_besides(change, space, hearing)]]
            for ruling in rulings:
                if ruling.outcome == "refused":
                    return ruling
            self.last_holders.keep(change, space, hearing.now)
        except RefusedError as refusal:
            return refusal.ruling
        return next((ruling for ruling in rulings if ruling.outcome == "pending"), own)

    def _is_given_to(self, hearing: Hearing, change: Change, tenant: str | None) -> bool:
        """Say whether who approves is whom a change gives something, or in the group that is it."""
        match change:
            case GiveRole() | GiveLink() | SetMembership() | PutInGroup():
                subject = self.names.subject(change.subject)
            case _:
                return False
        groups = hearing.seen(self.names.space(tenant)).groups
        return subject == hearing.reference or subject in {f"{GROUP}:{name}" for name in groups}

    # --- what a change takes -----------------------------------------------------------------------

    def _right(self, change: Change, space: Space, hearing: Hearing) -> Right:
        """The right of its own that a change takes."""
        names = self.names
        match change:
            case GiveRole():
                target = names.place(space, change.place)
                role = names.role(target, change.role)
                return _role_right(role, target, Giving(names.subject(change.subject), change.expires, role))
            case TakeRole():
                target = names.place(space, change.place)
                return _role_right(names.role(target, change.role), target)
            case GiveLink() | TakeLink():
                names.want_members()
                target = names.place(space, change.place)
                who = names.principal(change.subject)
                if isinstance(change, TakeLink):
                    return _role_right(names.role(target, change.role), target)
                return _role_right(names.crossing_role(target, change.role), target, Giving(who, change.expires))
            case SetMembership() | EndMembership():
                names.want_members()
                who = names.principal(change.subject)
                giving = None
                if isinstance(change, SetMembership) and change.status != "suspended":
                    giving = Giving(who, change.expires)
                return Right(MEMBERS, f"`{MEMBERS}`", names.tenant_of(space), giving)
            case MakeGroup():
                names.want_members()
                return Right(GROUPS, f"`{GROUPS}`", names.tenant_of(space), Giving(None, None))
            case DeleteGroup():
                return self._group_right(names.group(space, change.group), space, is_filled=False)
            case PutInGroup() | TakeFromGroup():
                who = names.subject(change.subject)
                is_filled = not who.startswith(f"{GROUP}:")
                giving = Giving(who, change.expires) if isinstance(change, PutInGroup) else None
                return self._group_right(names.group(space, change.group), space, giving, is_filled=is_filled)
            case DefineRole():
                giving = Giving(self._own_holder(change, space, hearing), None)
                return Right(CUSTOM, f"`{CUSTOM}`", names.tenant_of(space), giving)
            case DeleteRole():
                return Right(CUSTOM, f"`{CUSTOM}`", names.tenant_of(space))
            case _:
                assert_never(change)

    def _group_right(self, group: GroupFact, space: Space, giving: Giving | None = None, *, is_filled: bool) -> Right:
        """The right to change a group; one of the platform is filled by `assign`s, and nothing else."""
        if group.tenant is not None:
            return Right(GROUPS, f"`{GROUPS}`", self.names.tenant_of(space), giving)
        if not is_filled:
            raise RefusedError("no_assign", f"`{group.name}` is of the platform: `assign`s cover its members alone")
        what = f"{GROUP} {group.name}"
        return Right(what, f'`{GROUP} "{group.name}"`', space.target(SYSTEM, SYSTEM), giving)

    def _own_holder(self, change: DefineRole, space: Space, hearing: Hearing) -> str | None:
        """Whoever holds a role and changes it gives to himself: return him, if he does."""
        role = f"{CUSTOM}.{change.name}"
        holders = (hearing.reference, *_as_holders(hearing.seen(space).groups), ANYONE)
        grants = [grant for who in holders for grant in self._held(space.tenant_id, who, hearing.now)]
        return hearing.reference if any(grant.role == role for grant in grants) else None

    def _rights_besides(self, change: Change, space: Space, hearing: Hearing) -> list[Right]:
        """What else it takes: of who is put into a group, to give all that it and those around it hold; of who ends or
        suspends a membership, or deletes a group, to take all that it holds on the tenant."""
        names, now = self.names, hearing.now
        match change:
            case PutInGroup():
                giving = Giving(names.subject(change.subject), change.expires)
                around = _as_holders(space.outer_groups([change.group]))
                spaces = [space] if names.group(space, change.group).tenant is not None else self._spaces_of(around)
                held = [(inside, who, self._held(inside.tenant_id, who, now)) for inside in spaces for who in around]
                return [right for row in held for right in self._rights_to(*row, giving)]
            case SetMembership() | EndMembership():
                who = names.principal(change.subject)
                if not self._is_ending(change, space, now):
                    return []
                holders = (who, *_as_holders(hearing.groups_of(space, who)))
            case DeleteGroup():
                holders = _as_holders(space.outer_groups([change.group]))
            case _:
                return []
        rows = [(who, self._held(space.tenant_id, who, now)) for who in holders]
        on_tenant = [(who, [grant for grant in grants if grant.place == space.tenant_place]) for who, grants in rows]
        return [right for who, grants in on_tenant for right in self._rights_to(space, who, grants, None)]

    def _rights_to(self, space: Space, who: str, grants: Iterable[Grant], giving: Giving | None) -> list[Right]:
        """The rights to give, or take away, what somebody holds."""
        pairs = sorted({(grant.place, grant.role) for grant in grants})
        _ = [self.names.look_up(space, place) for place, _ in pairs]  # as above: all are missed at once
        found = []
        for place, role in pairs:
            target = self.names.place(space, place)
            found.append(_role_right(self.names.role(target, role), target, giving, f"`{who}` holds it, and "))
        return found

    def _held(self, tenant: str, who: str, now: int) -> list[Grant]:
        """What somebody holds himself, now or later."""
        return [grant for grant in self.holdings.held(tenant, who) if grant.expires > now]

    def _spaces_of(self, holders: Iterable[str]) -> list[Space]:
        """The tenants in which groups of the platform hold something. What is deleted holds nothing any more."""
        ids = sorted({tenant for holder in holders for tenant in self.holdings.tenants(holder)})
        facts = [self.questioner.tenant(tenant) for tenant in ids]
        return [self.questioner.space(fact) for fact in facts if fact is not None and fact.status != "deleted"]

    def _is_ending(self, change: SetMembership | EndMembership, space: Space, now: int) -> bool:
        """Say whether a membership ends or is suspended, or is to count for less time than it would."""
        if isinstance(change, EndMembership):
            return True
        kind, _, identity = self.names.principal(change.subject).partition(":")
        member = self.facts.member(space.tenant_id, kind, identity)
        known = member.membership if member is not None else None
        if known is None:
            return False
        is_shorter = change.expires < known.expires or change.starts > max(known.starts, now)
        return change.status == "suspended" or is_shorter

    # --- whether what it names is there ------------------------------------------------------------

    def _want_fitting(self, change: Change, space: Space) -> None:
        """Refuse a change whose subject is not there, or is none for it."""
        names = self.names
        match change:
            case GiveRole():
                is_on_system = names.place(space, change.place).type == SYSTEM
                who = names.principal(change.subject) if is_on_system else names.subject(change.subject)
                names.want_there(space, who)
            case TakeRole() | TakeLink() | EndMembership():
                names.want_there(space, names.subject(change.subject), to_take=True)
            case GiveLink():
                names.want_there(space, names.principal(change.subject))
                names.want_home(space, change.home)
            case SetMembership():
                names.want_there(space, names.principal(change.subject))
            case MakeGroup():
                names.want_new_group(space, change.group)
            case PutInGroup():
                self._want_member(change, space)
            case DefineRole():
                names.want_definition(space, change.name, change.on, change.can)
            case DeleteRole() | DeleteGroup() | TakeFromGroup():
                pass  # what is not there cannot be deleted, nor one who is not there be taken out
            case _:
                assert_never(change)

    def _want_member(self, change: PutInGroup, space: Space) -> None:
        who = self.names.subject(change.subject)
        if who == ANYONE:
            raise RefusedError("bad_subject", "`anyone` is put into no group: give `anyone` the role itself")
        self.names.want_there(space, who)
        kind, _, identity = who.partition(":")
        if kind == GROUP:
            self.names.want_nesting(space, identity, self.names.group(space, change.group))
            if (change.starts, change.expires) != (ALWAYS, NEVER):
                raise RefusedError(
                    "no_times", "a group lies in a group without times: leave out `starts` and `expires`"
                )


def _refused(code: str, message: str) -> Ruling:
    return Ruling("refused", code, message)


def _as_holders(groups: Iterable[str]) -> tuple[str, ...]:
    return tuple(f"{GROUP}:{name}" for name in sorted(groups))


def _role_right(role: str, target: Target, giving: Giving | None = None, why: str = "") -> Right:
    what = CUSTOM if role.startswith(f"{CUSTOM}.") else role
    return Right(what, f"`{role}` on `{target.places[0]}`", target, giving, why)
