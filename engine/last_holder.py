"""The last holder of a role: who holds one that no other role may assign must not lose it while nobody else has it.

In: a change, and the tenant in which it is made. Out: nothing, or a refusal, whoever asks. Who is counted holds the
role himself and for ever, on that very place, and is active for ever as a principal and as a member; so he whose
membership ends some day holds nobody up, and is not held up himself.
"""

from __future__ import annotations

from engine.assign_changes import Change, EndMembership, GiveRole, SetMembership, SetStatus, TakeRole
from engine.assign_names import Names
from engine.assign_rules import CUSTOM, Holdings, RefusedError
from engine.facts import NEVER
from engine.model import SYSTEM
from engine.space import Space


class LastHolders:
    """Looks at what changes would take, for one program and one state of the facts."""

    def __init__(self, names: Names, holdings: Holdings) -> None:
        self.model = names.model
        self.facts = names.facts
        self.names = names
        self.holdings = holdings

    def keep(self, change: Change | SetStatus, space: Space, now: int) -> None:
        """Refuse to take a role that no other role may assign from the last who holds it himself, without an end."""
        lost = self._lost(change, space, now)
        # A list and no generator: where facts are fetched when they are first missed, all are missed at once.
        lasts = [self._is_last(*row, now) for row in lost]
        for (_, who, role, place), is_last in zip(lost, lasts, strict=True):
            if is_last:
                message = (
                    f"`{who}` is the last who holds `{role}` on `{place}` without an end: give it to another first"
                )
                raise RefusedError("last_holder", message)

    def _lost(self, change: Change | SetStatus, space: Space, now: int) -> list[tuple[str, str, str, str]]:
        """List what a principal would hold no more, or not for ever: tenant, who, role, place."""
        names = self.names
        match change:
            case GiveRole() | TakeRole():
                if isinstance(change, GiveRole) and change.starts <= now and change.expires == NEVER:
                    return []
                target = names.place(space, change.place)
                role = names.role(target, change.role)
                tenant = "" if target.type == SYSTEM else space.tenant_id
                return [(tenant, names.subject(change.subject), role, target.places[0])]
            case SetMembership(status="active", starts=starts, expires=expires) if starts <= now and expires == NEVER:
                return []
            case SetStatus(status="active"):
                return []
            case SetMembership() | EndMembership():
                tenants = [space.tenant_id]
            case SetStatus():
                tenants = ["", *sorted(self.holdings.tenants(names.principal(change.subject)))]
            case _:
                return []
        who = names.principal(change.subject)
        rows = [(tenant, [g for g in self.holdings.held(tenant, who) if g.expires > now]) for tenant in tenants]
        return sorted({(tenant, who, grant.role, grant.place) for tenant, grants in rows for grant in grants})

    def _is_last(self, tenant: str, who: str, role: str, place: str, now: int) -> bool:
        what = CUSTOM if role.startswith(f"{CUSTOM}.") else role
        givers = {giver for assign in self.model.assigns if what in assign.what for giver in assign.by}
        if givers - {role}:
            return False
        rows = self.holdings.holders(tenant, role, place)
        endless = sorted({row.subject for row in rows if row.starts <= now and row.expires == NEVER})
        active = [self._is_lasting(tenant, subject, now) for subject in endless]
        return [subject for subject, is_active in zip(endless, active, strict=True) if is_active] == [who]

    def _is_lasting(self, tenant: str, subject: str, now: int) -> bool:
        """Say whether somebody is a principal who is active, as a member, too, and without an end."""
        kind, _, identity = subject.partition(":")
        if kind not in ("user", "service"):
            return False
        fact = self.facts.principal(kind, identity)
        if fact is not None and fact.status != "active":
            return False
        if not tenant or not self.model.has_tenant:
            return True
        member = self.facts.member(tenant, kind, identity)
        known = member.membership if member is not None else None
        return known is not None and known.status == "active" and known.starts <= now and known.expires == NEVER
