"""Facts from views: what `engine` asks of facts, answered at once from views that are held, or not at all.

What is not held raises `NotLoadedError`, out of the middle of a decision: the decision is then no decision, the view is
loaded and the whole question asked again. `Collector` instead goes on as if nothing were stored, and notes all that it
missed: its answers are for nobody, its list saves asking once per view.

Where views stand is for others to say: a process that decides keeps them and follows their changes (`sidecar/views`),
`seen` reads them anew for each answer.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

from engine.facts import CustomRole, Grant, GroupFact, MemberFact, PrincipalFact, ResourceFact, Status, TenantFact
from engine.model import Model
from engine.policy import Revoked
from store.streams import TENANT, group_key, principal_key, resource_key, tenant_key
from store.views import GroupView, PrincipalView, ProfileView, ResourceView, View, Wanted, typed


class NotLoadedError(Exception):
    """A view that a decision needs is not held."""


class Held(Protocol):
    """What is held of one stream.

    Attributes:
        views: by key; in `absent` are keys under which nothing is stored.
        placed: what holders of too many roles hold on one place, by holder and place.
    """

    @property
    def views(self) -> Mapping[str, View | None]: ...
    @property
    def absent(self) -> Mapping[str, None]: ...
    @property
    def placed(self) -> Mapping[tuple[str, str], tuple[Grant, ...]]: ...


class Shelf(Protocol):
    """Where views stand: what all tenants share, and what each tenant owns."""

    @property
    def shared(self) -> Held: ...
    @property
    def tenants(self) -> Mapping[str, Held]: ...


def view_of(held: Held, key: str) -> View | None:
    """Return what is held under a key; None where nothing is stored.

    Raises:
        KeyError: it is not held.
    """
    found = held.views.get(key)
    if found is None and key not in held.absent:
        raise KeyError(key)
    return found


def is_held(held: Held, key: str) -> bool:
    """Say whether it is known what is stored under a key."""
    return key in held.views or key in held.absent


class CachedFacts:
    """Facts as one policy's types say. `revision` names the state of a tenant's facts."""

    def __init__(self, shelf: Shelf, model: Model, revision: Revision) -> None:
        self._shelf = shelf
        self._model = model
        self._revision = revision

    def revision_of(self, tenant: str) -> str:
        return self._revision(tenant)

    # --- views -------------------------------------------------------------------------------------

    def shared(self, key: str) -> View | None:
        try:
            return view_of(self._shelf.shared, key)
        except KeyError:
            self.miss("", Wanted(shared={key}))
            return None

    def own(self, tenant: str, key: str) -> View | None:
        if not tenant:
            return None  # no tenant is active, so nobody's facts are there
        try:
            return view_of(self._shelf.tenants[tenant], key)
        except KeyError:
            self.miss(tenant, Wanted(own={key}))
            return None

    def miss(self, tenant: str, wanted: Wanted) -> None:
        """Say that views are not held."""
        raise NotLoadedError

    # --- facts -------------------------------------------------------------------------------------

    def attributes(self, kind: str, text: str) -> dict[str, object]:
        return typed(self._model.types[kind].attributes, text, self._model.aliases)

    def tenant(self, tenant: str) -> TenantFact | None:
        said = self.shared(tenant_key(tenant))
        if not isinstance(said, str):
            return None
        profile = self.own(tenant, TENANT)
        text = profile.attributes if isinstance(profile, ProfileView) else "{}"
        return TenantFact(tenant, status_of(said), self.attributes(self._model.tenant, text))

    def principal(self, kind: str, identity: str) -> PrincipalFact | None:
        view = self.shared(principal_key(f"{kind}:{identity}"))
        if not isinstance(view, PrincipalView) or view.status is None:
            return None
        attributes = self.attributes(kind, view.attributes)
        return PrincipalFact(kind, identity, status_of(view.status), attributes, view.groups, view.links, view.system)

    def revoked(self, subject: str) -> Revoked:
        view = self.shared(principal_key(subject))
        return Revoked(view.blocked, view.valid_after) if isinstance(view, PrincipalView) else Revoked()

    def member(self, tenant: str, kind: str, identity: str) -> MemberFact | None:
        view = self.own(tenant, principal_key(f"{kind}:{identity}"))
        return view if isinstance(view, MemberFact) else None

    def group(self, tenant: str, name: str) -> GroupFact | None:
        home: str | None = tenant
        view = self.own(tenant, group_key(name))
        if not isinstance(view, GroupView) or view.attributes is None:
            home, view = None, self.shared(group_key(name))
        if not isinstance(view, GroupView) or view.attributes is None:
            return None
        return GroupFact(name, home, view.outer, self.attributes("group", view.attributes))

    def group_grants(self, tenant: str, name: str) -> tuple[Grant, ...] | None:
        view = self.own(tenant, group_key(name))
        return view.grants if isinstance(view, GroupView) else ()

    def placed(self, tenant: str, holder: str, place: str) -> tuple[Grant, ...]:
        held = self._shelf.tenants.get(tenant)
        found = held.placed.get((holder, place)) if held is not None else None
        if found is None:
            self.miss(tenant, Wanted(placed={(holder, place)}))
        return found or ()

    def resource(self, tenant: str, kind: str, identity: str) -> ResourceFact | None:
        view = self.own(tenant, resource_key(f"{kind}:{identity}"))
        if not isinstance(view, ResourceView):
            return None
        return ResourceFact(kind, identity, view.parent, self.attributes(kind, view.attributes), view.deleted)

    def custom_roles(self, tenant: str) -> Mapping[str, CustomRole]:
        view = self.own(tenant, TENANT)
        return {role.name: role for role in view.custom} if isinstance(view, ProfileView) else {}


def status_of(text: str) -> Status:
    """Read a status. A word that nobody knows is the end of it."""
    return "active" if text == "active" else "suspended" if text == "suspended" else "deleted"


class Revision(Protocol):
    """Names the state of a tenant's facts."""

    def __call__(self, tenant: str) -> str: ...


class Collector(CachedFacts):
    """Notes what is missing, by tenant; "" what all tenants share."""

    def __init__(self, shelf: Shelf, model: Model) -> None:
        super().__init__(shelf, model, lambda _: "")
        self.missed: dict[str, Wanted] = {}

    def miss(self, tenant: str, wanted: Wanted) -> None:
        self.missed.setdefault(tenant, Wanted()).add(wanted)
