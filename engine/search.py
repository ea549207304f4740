"""Searches: who may, on what, which actions. Each asks the same single questions that a check would ask, so the
answers cannot differ.

Nothing is sent of what is searched for. A subject search looks among the active members of the active tenant, guests
too, and the holders of live links into it; a resource search among the stored, live instances in it.
"""

from __future__ import annotations

from engine.authorizer import Questioner
from engine.errors import RequestError
from engine.facts import ListedFacts
from engine.model import SYSTEM
from engine.request import Request


def search(questioner: Questioner, facts: ListedFacts, request: Request, now: int) -> list[str]:
    """Answer a search, complete and sorted.

    Returns:
        `"type:id"` of subjects or resources, under the type's name that the request used; or names of actions.
    """
    if request.action is None:
        return _actions(questioner, request, now)
    if ":" not in request.resource:
        return _resources(questioner, facts, request, now)
    if ":" not in request.subject and request.subject != "anonymous":
        return _subjects(questioner, facts, request, now)
    raise RequestError(
        "bad_request", "a search leaves something out: the action, or the id of the subject or of the resource"
    )


def _with(request: Request, **changes: object) -> Request:
    """The same request with other parts, decided at the same instant."""
    made = Request(
        request.tenant,
        request.subject,
        request.action,
        request.resource,
        request.subject_properties,
        request.resource_properties,
        request.action_properties,
        request.context,
        request.token_tenant,
    )
    for name, value in changes.items():
        setattr(made, name, value)
    return made


def _actions(questioner: Questioner, request: Request, now: int) -> list[str]:
    kind, _ = questioner.reference(request.resource, "resource")
    actions = questioner.model.types[kind].actions
    return sorted(name for name in actions if questioner.decide(_with(request, action=name), now).allowed)


def _active_tenant(questioner: Questioner, request: Request) -> str | None:
    """The one tenant that the request names, if it is active; else a search finds nothing.

    Raises:
        RequestError: the policy has tenants and none is named.
    """
    voices = questioner.voices(request)
    if not voices and request.token_tenant is not None and questioner.model.has_tenant:
        voices = {request.token_tenant}
    if not voices and questioner.model.has_tenant:
        raise RequestError("tenant_required", "no tenant is named: give `tenant`")
    tenant = questioner.tenant(next(iter(voices)) if len(voices) == 1 else None)
    return tenant.id if tenant is not None and tenant.status == "active" else None


def _subjects(questioner: Questioner, facts: ListedFacts, request: Request, now: int) -> list[str]:
    kind = questioner.type_named(request.subject)
    if kind not in ("user", "service"):
        raise RequestError("unknown_type", f"`{kind}` is no subject")
    questioner.question(
        _with(request, subject="anonymous", subject_properties={}), now
    )  # refuses what is malformed, though nobody is found
    resource_kind, _ = questioner.reference(request.resource, "resource")
    if resource_kind == SYSTEM and not questioner.voices(request):
        return []
    tenant = _active_tenant(questioner, request)
    if tenant is None:
        return []
    space = questioner.space(questioner.tenant(tenant))
    found = []
    for identity in facts.candidates(tenant, kind):
        standing = space.standing("user" if kind == "user" else "service", identity, now)
        if not standing.inside and not standing.linked:
            continue
        asked = _with(
            request,
            subject=f"{kind}:{identity}",
            subject_properties={"tenant": request.subject_properties.get("tenant")},
        )
        asked.has_properties = True
        if questioner.decide(asked, now).allowed:
            found.append(f"{request.subject}:{identity}")
    return sorted(found)


def _resources(questioner: Questioner, facts: ListedFacts, request: Request, now: int) -> list[str]:
    kind = questioner.type_named(request.resource)
    info = questioner.model.types[kind]
    action = questioner.program.action_named(kind, request.action or "")
    questioner.subject(request.subject)
    questioner.claims(request.subject_properties)
    questioner.sent(questioner.model.context, request.context, "context")
    questioner.sent(action.fields, request.action_properties, "action.properties")
    if kind == SYSTEM:
        return (
            [f"{SYSTEM}:{SYSTEM}"]
            if questioner.decide(_with(request, resource=f"{SYSTEM}:{SYSTEM}"), now).allowed
            else []
        )
    tenant = _active_tenant(questioner, request)
    if tenant is None or info.external or action.new:
        return []
    named = request.resource_properties.get("tenant")
    identities = [tenant] if info.kind == "tenant" else facts.instances(tenant, kind)
    asked = (
        (identity, _with(request, resource=f"{kind}:{identity}", resource_properties={"tenant": named}))
        for identity in identities
    )
    return sorted(f"{request.resource}:{identity}" for identity, one in asked if questioner.decide(one, now).allowed)
