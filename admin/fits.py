"""Whether what is to be stored is something that the running policy knows: types, roles, parents, attributes.

It is for keys and end users alike: what a policy does not know counts for nothing, and whoever wrote it meant something
else. Names are taken as a facts file takes them, and given back as they are stored.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from admin.errors import bad_request
from engine.facts import ANYONE
from engine.model import SYSTEM, Model, TypeInfo
from engine.patterns import ceiling_cut, is_well_formed, split
from engine.spelling import nearest
from engine.values import WrongTypeError, convert, split_reference

GROUP = "group"


def attributes_of(model: Model, kind: str, given: Mapping[str, Any]) -> None:
    """Refuse attributes that a type does not have, or not of that type.

    Raises:
        PublicError: it names every one.
    """
    info = type_of(model, kind, "body.attributes")
    wrong: dict[str, str] = {}
    for name, value in given.items():
        declared = info.attributes.get(name)
        if declared is None:
            fix = nearest(name, info.attributes)
            wrong[f"body.attributes.{name}"] = f"`{kind}` has no such attribute" + (f"; `{fix}`?" if fix else "")
            continue
        try:
            convert(declared.type, value, model.aliases)
        except WrongTypeError as error:
            wrong[f"body.attributes.{name}"] = str(error)
    if wrong:
        raise bad_request(f"not as it must be: {', '.join(sorted(wrong))}", wrong)


def type_of(model: Model, kind: str, field: str) -> TypeInfo:
    """Find a type of the policy.

    Raises:
        PublicError: there is none of that name.
    """
    info = model.types.get(model.aliases.get(kind, kind))
    if info is None:
        fix = nearest(kind, model.types)
        raise _wrong(field, f"the policy has no type `{kind}`" + (f"; did you mean `{fix}`?" if fix else ""))
    return info


def place_of(model: Model, written: str, tenant: str, field: str) -> str:
    """Read a place of a tenant, `"project:p1"`: the tenant itself, a resource, or a user, service or group.

    Raises:
        PublicError: it is none, or of a type on which no role is held.
    """
    try:
        kind, identity = split_reference(written)
    except WrongTypeError as error:
        raise _wrong(field, 'write it "type:id"') from error
    if kind in ("tenant", model.tenant):
        if identity != tenant:
            raise _wrong(field, f"this is `{tenant}`: what lies in `{identity}` is that tenant's to hand out")
        return f"{model.tenant}:{tenant}"
    info = type_of(model, kind, field)
    if info.kind == SYSTEM:
        raise _wrong(field, "`system` lies in no tenant: use the assignments of the platform")
    return f"{info.name}:{identity}"


def role_of(model: Model, written: str, place: str, field: str) -> str:
    """Read a role that is held on a place.

    Raises:
        PublicError: there is none of that name for such a place.
    """
    kind = place.partition(":")[0]
    found = model.role_on(kind, written)
    if found is None:
        known = [role.name for role in model.roles.values() if role.type == kind]
        fix = nearest(written, known)
        said = f"no role `{written}` is held on a `{kind}`" + (f"; did you mean `{fix}`?" if fix else "")
        raise _wrong(field, said)
    return found


def subject_of(model: Model, written: str, field: str) -> str:
    """Read who is to hold something: a user, a service, a group, or `anyone`.

    Raises:
        PublicError: it is none of them.
    """
    if written == ANYONE:
        return written
    try:
        kind, identity = split_reference(written)
    except WrongTypeError as error:
        raise _wrong(field, 'write it "user:ann", "service:mail", "group:staff" or "anyone"') from error
    kind = model.aliases.get(kind, kind)
    if kind not in ("user", "service", GROUP):
        raise _wrong(field, f"`{kind}` holds no roles: a user, a service, a group or `anyone` does")
    return f"{kind}:{identity}"


def principal_of(model: Model, written: str, field: str) -> str:
    """Read a user or a service.

    Raises:
        PublicError: it is neither.
    """
    found = subject_of(model, written, field)
    if found == ANYONE or found.startswith(f"{GROUP}:"):
        raise _wrong(field, 'a user or a service: "user:ann", "service:mail"')
    return found


def parent_of(model: Model, kind: str, written: str | None, tenant: str) -> str | None:
    """Read what a resource is to lie in; None: in the tenant itself.

    Raises:
        PublicError: the type cannot lie there.
    """
    info = type_of(model, kind, "body.id")
    if info.kind != "resource" or info.external:
        raise _wrong("body.id", f"`{kind}` has no rows here: {_why_none(info)}")
    parent = model.tenant if written is None else place_of(model, written, tenant, "body.parent").partition(":")[0]
    if parent not in info.parents:
        raise _wrong("body.parent", f"a `{kind}` lies in {' or '.join(f'`{each}`' for each in info.parents)}")
    return None if parent == model.tenant else place_of(model, written or "", tenant, "body.parent")


def _why_none(info: TypeInfo) -> str:
    return "it is kept by another system" if info.external else f"it is a {info.kind}"


def _wrong(field: str, said: str) -> Exception:
    return bad_request(f"not as it must be: {field}", {field: said})


def patterns_of(model: Model, kind: str, written: Iterable[str]) -> None:
    """Refuse patterns of a custom role that are none, or by which nobody could do anything: those that name no action,
    or one that the policy lets no custom role on the type have.

    Raises:
        PublicError: it names every one.
    """
    if kind not in model.custom:
        raise _wrong("body.on", f"the policy lets no tenant make roles on `{kind}`: it has no `custom` line for it")
    wrong: dict[str, str] = {}
    for index, pattern in enumerate(written):
        if not is_well_formed(split(pattern)):
            wrong[f"body.can[{index}]"] = f"`{pattern}` is no pattern: `type.action`, `type.*`, `*.action` or `*`"
        elif not ceiling_cut(model, kind, [pattern]):
            wrong[f"body.can[{index}]"] = f"`{pattern}` gives nothing that a role of a tenant's own may give"
    if wrong:
        raise bad_request(f"not as it must be: {', '.join(sorted(wrong))}", wrong)
