"""One right at a time: may this actor give or take away this, on that place, by the policy's `assign`s?

In: a `Right` (what, where, and what is given to whom until when). Out: a `Ruling`. What a change as a whole takes, a
list of such rights, is the affair of `assigning`, which hands each of them to a `Hearing`.

What is held reaches forward (a principal's roles, a group's outer groups) and is asked of `FactSource`, as decisions
ask it. A few rules look backward (who holds a role on a place), which no decision ever does: that is `Holdings`, kept
apart so that the decision service need not answer it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol

from engine.assign_changes import Actor, Ruling
from engine.authorizer import Questioner
from engine.facts import ALWAYS, ANYONE, NEVER, Grant
from engine.model import SYSTEM, Assign
from engine.program import Asker
from engine.space import Space
from engine.standing import NO_ROLES, Standing
from engine.target import Target
from engine.values import SECOND

#: How long a request for approval may wait.
APPROVAL_SPAN: Final = 7 * 24 * 3600 * SECOND
CUSTOM: Final = "custom"
MEMBERS: Final = "members"
GROUPS: Final = "groups"


class RefusedError(Exception):
    """A refusal on its way to whoever asked; it never leaves `Assigner`."""

    def __init__(self, code: str, message: str, at: str | None = None) -> None:
        super().__init__(message)
        self.ruling = Ruling("refused", code, message, at)


@dataclass(frozen=True, slots=True)
class Held:
    """One assignment, seen from its place: `"user:ann"`, `"group:staff"` or `"anyone"`, from an instant until before
    another."""

    subject: str
    starts: int = ALWAYS
    expires: int = NEVER


class Holdings(Protocol):
    """What looks backward. Tenant "" is the system. Answers at once, or raises what only its owner catches, as
    `FactSource` does. Expired rows may be among the answers, rows that begin later must be; order means nothing."""

    def holders(self, tenant: str, role: str, place: str) -> Iterable[Held]:
        """All assignments of a role on one place; links are none."""
        ...

    def pending(self, tenant: str, role: str, place: str) -> Mapping[str, int]:
        """The undecided requests to give a role on one place: their ids, and when they were made."""
        ...

    def held(self, tenant: str, holder: str) -> Iterable[Grant]:
        """All that a principal, a group (`"group:staff"`) or `anyone` holds itself in a tenant."""
        ...

    def tenants(self, holder: str) -> Iterable[str]:
        """The tenants in which a principal or a group holds anything itself."""
        ...


@dataclass(frozen=True, slots=True)
class Giving:
    """What the options of an `assign` bind.

    Attributes:
        subject: who is given something; None where nobody is (a new group).
        expires: when it ends; None where there is nothing that could end.
        counted: the role of which there is one more assignment then; None where there is none.
    """

    subject: str | None
    expires: int | None
    counted: str | None = None


@dataclass(frozen=True, slots=True)
class Right:
    """What a change takes: `what`, in the words of `Assign.what`, on a place. `giving` None: to take it away.

    `name` is what people call it; `why` begins the sentence where the change does not name it itself.
    """

    what: str
    name: str
    target: Target
    giving: Giving | None = None
    why: str = ""

    @property
    def place(self) -> str:
        return self.target.places[0]

    @property
    def tenant(self) -> str:
        return "" if self.target.type == SYSTEM else self.target.space.tenant_id


#: From what helps least to what allows most: of several `assign`s the one that comes latest here counts.
_ORDER: Final = ("no_role", "condition", "max", "expires_within", "not_self", "anyone", "approval", "assign")


@dataclass(frozen=True, slots=True)
class _Seen:
    """The actor in one tenant. `stored` has neither claims nor links: by it he has rights. `standing` is what
    conditions see. `groups`: all that he is in, or will be."""

    stored: Standing
    standing: Standing
    groups: frozenset[str]


class Hearing:
    """One actor at one instant, for as many rights as a change takes.

    `request` is the id of the request that is looked at again, which is not counted beside itself.
    """

    def __init__(
        self, questioner: Questioner, holdings: Holdings, actor: Actor, now: int, request: str | None = None
    ) -> None:
        self.program = questioner.program
        self.model = questioner.model
        self.questioner = questioner
        self.holdings = holdings
        self.actor = actor
        self.now = now
        self.request = request
        kind, identity = questioner.subject(actor.reference)
        self.kind: Asker = kind
        self.id = identity
        self.reference = f"{kind}:{identity}"
        self.context = questioner.sent(self.model.context, actor.context, "context")
        self.claims = questioner.claims({"roles": actor.claims})
        self._seen: dict[str, _Seen] = {}

    # --- who asks ----------------------------------------------------------------------------------

    def seen(self, space: Space) -> _Seen:
        """Say how the actor stands in a tenant.

        Raises:
            RefusedError: it is not active, or he is not, or is outside.
        """
        known = self._seen.get(space.tenant_id)
        if known is None:
            known = self._seen[space.tenant_id] = self._look(space)
        return known

    def _look(self, space: Space) -> _Seen:
        if space.fact is not None and space.fact.status != "active":
            raise RefusedError("tenant_inactive", f"the tenant `{space.tenant_id}` is not active")
        if self.id is None:
            raise RefusedError("boundary", "nobody is signed in: sign in first")
        token = self.actor.token_tenant
        is_foreign = self.model.has_tenant and space.fact is not None and token not in (None, space.tenant_id)
        standing = space.make_standing(self.kind, self.id, self.now, claims=self.claims, is_foreign=is_foreign)
        stored = space.make_standing(self.kind, self.id, self.now, is_foreign=is_foreign) if self.claims else standing
        if stored.is_inactive:
            raise RefusedError("principal_inactive", f"`{self.reference}` is not active")
        if not stored.inside and stored.system is None:
            raise RefusedError("boundary", f"`{self.reference}` is no member here: rights are held by members")
        stored = stored.copy()
        stored.linked = NO_ROLES
        return _Seen(stored, standing, self.groups_of(space, self.reference))

    def groups_of(self, space: Space, principal: str) -> frozenset[str]:
        """List the groups that a principal is in, or will be: what begins later counts as held."""
        kind, _, identity = principal.partition(":")
        direct = [group for group, _, expires in space.belongings(kind, identity) if expires > self.now]
        return space.outer_groups(direct)

    # --- what he may -------------------------------------------------------------------------------

    def rule(self, right: Right) -> Ruling:
        """Rule on one right: of several `assign`s the one that allows most."""
        assigns = [assign for assign in self.model.assigns if right.what in assign.what]
        if not assigns:
            return Ruling("refused", "no_assign", f"{right.why}no `assign` of the policy names {right.name}")
        seen = self.seen(right.target.space)
        found = [self._weigh(assign, right, seen) for assign in assigns]
        best = max(found, key=lambda ruling: _ORDER.index(ruling.code))
        if best.code != "no_role":
            return best
        givers = ", ".join(f"`{name}`" for name in sorted({name for assign in assigns for name in assign.by}))
        takes = (
            f"{right.why}to give or take {right.name} takes one of these, held on `{right.place}` or above: {givers}"
        )
        return Ruling("refused", "no_role", takes)

    def _weigh(self, assign: Assign, right: Right, seen: _Seen) -> Ruling:
        at = assign.span.at
        if not any(seen.stored.holds(role, right.target.places, False, True) for role in assign.by):
            return Ruling("refused", "no_role", "")
        if not self._is_met(assign, right.target, seen):
            return Ruling("refused", "condition", f"{right.why}the condition for {right.name} is not met", at)
        if right.giving is None:
            return Ruling("allowed", "assign", "he may take it away", at)
        broken = self._broken_option(assign, right, right.giving, seen)
        if broken is not None:
            return Ruling("refused", broken[0], right.why + broken[1], at)
        if assign.approval:
            return Ruling("pending", "approval", f"{right.why}{right.name} waits for another who may give it", at)
        return Ruling("allowed", "assign", "he may give it", at)

    def _is_met(self, assign: Assign, target: Target, seen: _Seen) -> bool:
        """Say whether the condition is true. What an external thing is, and where it lies, only a request on it says:
        no condition is true of one."""
        if assign.conditions is None:
            return True
        condition = assign.conditions.get((target.type, self.kind))
        if condition is None or self.model.types[target.type].external:
            return False
        is_true = self.program.compiler.true(condition)
        return is_true(seen.standing, target, self.context, {}, self.now) is True

    def _broken_option(self, assign: Assign, right: Right, giving: Giving, seen: _Seen) -> tuple[str, str] | None:
        """Return the code and the sentence of the first option that does not let this be given."""
        if giving.subject == ANYONE and not assign.anyone:
            return "anyone", f"{right.name} is not for `anyone`: name a user, a service or a group"
        if assign.not_self and giving.subject is not None and self._is_self(giving.subject, seen):
            return "not_self", f"nobody gives {right.name} to himself: ask another who may"
        within = assign.expires_within
        if within is not None and giving.expires is not None and giving.expires > self.now + within:
            return "expires_within", f"{right.name} must end within {_days(within)}: give a sooner `expires`"
        if assign.max is not None and right.what != CUSTOM and right.what not in self.model.roles:
            return "max", f"`max` counts roles alone: name {right.name} in an `assign` without it"
        if assign.max is not None and giving.counted and self._count(right, giving) >= assign.max:
            return "max", f"{right.name} is held or asked for {assign.max} times, the most there may be: take one away"
        return None

    def _is_self(self, subject: str, seen: _Seen) -> bool:
        group = subject.removeprefix("group:")
        return subject in (self.reference, ANYONE) or (group != subject and group in seen.groups)

    def _count(self, right: Right, giving: Giving) -> int:
        """Count the others who hold a role on the place, now or later, and those who wait for it. Whoever holds it
        already is given it anew, which is one assignment in the place of another."""
        role, now = giving.counted or "", self.now
        rows = self.holdings.holders(right.tenant, role, right.place)
        waiting = self.holdings.pending(right.tenant, role, right.place)
        others = [row for row in rows if row.expires > now and row.subject != giving.subject]
        asked = [name for name, at in waiting.items() if name != self.request and now - at <= APPROVAL_SPAN]
        return len(others) + len(asked)


def _days(span: int) -> str:
    """Write a duration as policies do, in the largest unit that it is whole in."""
    for unit, length in (("d", 86_400), ("h", 3_600), ("m", 60)):
        if span % (length * SECOND) == 0:
            return f"`{span // (length * SECOND)}{unit}`"
    return f"`{span // SECOND}s`"
