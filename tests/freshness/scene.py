"""What the checker decides about: two policies, the facts in the beginning, and the questions.

Small, so that random writes and random questions meet; but every kind of fact is there, and every one that a decision
looks at through another one: chains, groups in groups, links that carry a membership, references of references.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from random import Random
from typing import Final, NamedTuple

from engine import Policy, Request
from engine.facts import (
    NEVER,
    Belonging,
    Grant,
    GroupFact,
    Link,
    MemberFact,
    Membership,
    MemoryFacts,
    PrincipalFact,
    ResourceFact,
    TenantFact,
)
from engine.model import Model
from store.facts import status_of
from store.streams import ANYONE_KEY, TENANT, group_key, principal_key, resource_key, tenant_key
from store.views import GroupView, PrincipalView, ProfileView, ResourceView, View, typed

_TEXT = """
tenant org {
  actions read, manage
  attributes { plan: "free" | "pro" }
}

resource project in org {
  actions create new, read, update
  attributes { owner: user, locked: bool }
}

resource task in project {
  actions create new, read, update, close
  attributes { owner: user, related: project?, team: group? }
}

principal user { attributes { department: string } }
system { actions audit }

role member  on org              { can read, project.create }
role admin   on org is member, project.editor { can manage }
role viewer  on project          { can read, task.read }
role editor  on project is viewer { can update, task.create, task.close, task.update when resource.owner == principal }
role worker  on task             { can read, update }
role auditor on org crossing     { can *.read }
role partner on project crossing { can read, task.read, task.update }
role keeper  on system           { can system.audit, org.manage }

custom on org { can project.*, task.* }

allow colleagues: anyone to task.read when resource.owner.department == principal.department
allow related:    anyone to task.close when resource has related and principal is project.editor on resource.related
allow team:       anyone to task.update when resource has team and principal in resource.team
allow staff:      group "staff" to project.read

deny locked: anyone to project.update, task.update, task.close
  when resource.project.locked
  because "the project is locked"

deny full: anyone to task.create, project.create when org.plan == "free"
deny others: group "all" to org.manage unless principal is admin on org
"""

TENANTS: Final = ("acme", "beta", "corp")
#: The one that is not there in the beginning.
LATER: Final = "corp"
USERS: Final = ("user:ann", "user:bob", "user:cyd")
PRINCIPALS: Final = (*USERS, "service:bot")
PLATFORM: Final = ("staff", "all")
PROJECTS: Final = ("project:p1", "project:p2", "project:p3")
TASKS: Final = ("task:t1", "task:t2", "task:t3", "task:t4", "task:t5")
ROLES: Final = {
    "org": ("org.member", "org.admin", "custom.helper"),
    "project": ("project.viewer", "project.editor"),
    "task": ("task.worker",),
}
DEPARTMENTS: Final = ("sales", "law")
PATTERNS: Final = ("task.*", "project.read", "task.read", "*.update", "task.close")


def policies() -> tuple[Policy, Policy]:
    """Make the policy, and one that could come after it."""
    later = _TEXT.replace("deny locked: anyone to project.update, task.update,", "deny locked: anyone to")
    return Policy.parse(_TEXT), Policy.parse(later)


def groups_of(tenant: str) -> tuple[str, str]:
    """Name a tenant's groups: an inner and an outer one."""
    return f"{tenant}-in", f"{tenant}-out"


# --- facts in the beginning ---------------------------------------------------------------------------

Views = Mapping[str, View]


def first_shared() -> dict[str, View]:
    """Make what all tenants share."""
    link = Link("acme", "beta", "org.auditor", "org:beta", membership=Membership("active"))
    return {
        principal_key("user:ann"): PrincipalView("active", '{"department":"sales"}', (Belonging("staff"),), (link,)),
        principal_key("user:bob"): PrincipalView("active", '{"department":"sales"}'),
        principal_key("user:cyd"): PrincipalView("active", '{"department":"law"}', (Belonging("all"),)),
        principal_key("service:bot"): PrincipalView("active", system=(Grant("system.keeper", "system:system"),)),
        group_key("staff"): GroupView("{}", ("all",)),
        group_key("all"): GroupView("{}"),
        tenant_key("acme"): "active",
        tenant_key("beta"): "active",
    }


def first_own(tenant: str) -> dict[str, View]:
    """Make what one tenant owns."""
    inner, outer = groups_of(tenant)
    active = Membership("active")
    return {
        TENANT: ProfileView('{"plan":"pro"}'),
        principal_key("user:ann"): MemberFact(active, (Belonging(inner),), (Grant("org.member", f"org:{tenant}"),)),
        principal_key("user:bob"): MemberFact(active, (), (Grant("project.editor", "project:p1"),)),
        principal_key("user:cyd"): MemberFact(active, (Belonging(outer),), (Grant("task.worker", "task:t2"),)),
        principal_key("service:bot"): MemberFact(active, (), (Grant("project.viewer", "project:p2"),)),
        group_key(inner): GroupView("{}", (outer,), (Grant("project.viewer", "project:p2"),)),
        group_key(outer): GroupView("{}", (), (Grant("project.editor", "project:p2"),)),
        group_key("all"): GroupView(None, (), (Grant("task.worker", "task:t3"),)),
        ANYONE_KEY: GroupView(None, (), (Grant("org.member", f"org:{tenant}"),)),
        resource_key("project:p1"): ResourceView(None, '{"owner":"user:ann","locked":false}'),
        resource_key("project:p2"): ResourceView(None, '{"owner":"user:bob","locked":false}'),
        resource_key("task:t1"): ResourceView("project:p1", '{"owner":"user:bob","related":"project:p2"}'),
        resource_key("task:t2"): ResourceView("project:p1", '{"owner":"user:cyd"}'),
        resource_key("project:p3"): ResourceView(None, '{"owner":"user:cyd","locked":true}'),
        resource_key("task:t4"): ResourceView("project:p3", '{"owner":"user:ann","related":"project:p1"}'),
        resource_key("task:t3"): ResourceView("project:p2", f'{{"owner":"user:ann","team":"group:{outer}"}}'),
    }


# --- the same facts in memory -------------------------------------------------------------------------


def in_memory(model: Model, tenant: str, shared: Views, own: Views) -> MemoryFacts:
    """Put one state of the facts as a decision in one tenant sees it, without views, caches and memos.

    Args:
        tenant: "" where no tenant is active.
    """

    def attributes(kind: str, text: str) -> dict[str, object]:
        return typed(model.types[kind].attributes, text, model.aliases)

    profile = own.get(TENANT)
    text = profile.attributes if isinstance(profile, ProfileView) else "{}"
    statuses = {_rest(key): status_of(said) for key, said in shared.items() if isinstance(said, str)}
    groups: dict[str, GroupFact] = {}
    for home, views in ((None, shared), (tenant, own)):
        for key, view in views.items():
            if isinstance(view, GroupView) and view.attributes is not None:
                groups[_rest(key)] = GroupFact(_rest(key), home, view.outer, attributes("group", view.attributes))
    custom = {role.name: role for role in profile.custom} if isinstance(profile, ProfileView) else {}
    return MemoryFacts(
        model,
        tenants={
            name: TenantFact(name, status, attributes(model.tenant, text) if name == tenant else {})
            for name, status in statuses.items()
        },
        principals={
            _pair(key): PrincipalFact(
                *_pair(key),
                status_of(view.status),
                attributes(_pair(key)[0], view.attributes),
                view.groups,
                view.links,
                view.system,
            )
            for key, view in shared.items()
            if isinstance(view, PrincipalView) and view.status is not None
        },
        members={(tenant, *_pair(key)): view for key, view in own.items() if isinstance(view, MemberFact)},
        groups=groups,
        granted={(tenant, _rest(key)): view.grants or () for key, view in own.items() if isinstance(view, GroupView)},
        resources={
            (tenant, *_pair(key)): ResourceFact(
                *_pair(key), view.parent, attributes(_pair(key)[0], view.attributes), view.deleted
            )
            for key, view in own.items()
            if isinstance(view, ResourceView)
        },
        custom={tenant: custom},
    )


def ends(views: Iterable[View]) -> tuple[int, ...]:
    """List the instants at which memberships and roles in these views end."""
    found: set[int] = set()
    for view in views:
        if isinstance(view, PrincipalView):
            found.update(link.membership.expires for link in view.links if link.membership is not None)
        elif isinstance(view, MemberFact | GroupView):
            found.update(each.expires for each in view.grants or ())
            if isinstance(view, MemberFact) and view.membership is not None:
                found.add(view.membership.expires)
    return tuple(sorted(found - {NEVER}))


def _rest(key: str) -> str:
    return key.partition(":")[2]


def _pair(key: str) -> tuple[str, str]:
    kind, _, identity = _rest(key).partition(":")
    return kind, identity


# --- questions ----------------------------------------------------------------------------------------


class Asked(NamedTuple):
    """A question as data: a request notes things about itself, so each asking makes a new one."""

    tenant: str | None
    subject: str
    action: str
    resource: str
    parent: str | None = None

    def request(self) -> Request:
        properties = {"new": True, "parent": self.parent} if self.parent else None
        return Request(self.tenant, self.subject, self.action, self.resource, resource_properties=properties)


ALL_QUESTIONS: Final = tuple(
    Asked(tenant, subject, action, resource)
    for tenant in TENANTS
    for subject in PRINCIPALS
    for action, resource in (
        ("read", f"org:{tenant}"),
        *(("update", project) for project in PROJECTS),
        *((action, task) for task in TASKS for action in ("read", "update", "close")),
    )
)


def make_question(rng: Random, tenants: Sequence[str]) -> Asked:
    """Make a question up, mostly on one of these tenants."""
    tenant = rng.choice(tenants) if rng.random() < 0.95 else rng.choice((*TENANTS, "nowhere", None))
    subject = rng.choices((*PRINCIPALS, "user:nobody", "anonymous"), (34, 26, 20, 12, 3, 2))[0]
    if tenant is None:
        return Asked(None, subject, "audit", "system:system")
    kind = rng.choices(("org", "project", "task", "new"), (10, 25, 60, 5))[0]
    if kind == "org":
        return Asked(tenant, subject, rng.choice(("read", "manage")), f"org:{tenant}")
    if kind == "project":
        return Asked(tenant, subject, rng.choice(("read", "update")), rng.choice(PROJECTS))
    if kind == "task":
        return Asked(tenant, subject, rng.choice(("read", "update", "close")), rng.choice((*TASKS, "task:none")))
    return Asked(tenant, subject, "create", "task:new", rng.choice(PROJECTS))
