"""What is asked: the question as it is read, the rows that it is about, and the chain of what is asked of."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from engine import model as m
from engine.errors import RequestError
from engine.facts import MemoryFacts
from engine.request import Request
from engine.values import Value, WrongTypeError, convert

SYSTEM_PLACE = "system:system"
LONGEST_CHAIN = 32
#: What `principal` is where nobody has signed in: equal to nothing that can be written.
NOBODY = "anonymous"


def kind_of(reference: str) -> str:
    return reference.partition(":")[0]


def id_of(reference: str) -> str:
    return reference.partition(":")[2]


class Question:
    """One question, read, and what it is about.

    Raises:
        RequestError: it is malformed.
    """

    def __init__(self, model: m.Model, facts: MemoryFacts, request: Request, now: int) -> None:
        self.model, self.facts, self.request, self.now = model, facts, request, now
        self.asker = self.read_subject()
        self.asker_type = kind_of(self.asker) if self.asker else NOBODY
        self.resource = self.read_resource()
        self.type = model.types[kind_of(self.resource)]
        self.action = self.read_action()
        voices = self.read_voices()
        self.voices_agree, self.in_tenant = len(voices) < 2, bool(voices)
        self.tenant = min(voices, default="")
        self.tenant_place = f"{model.tenant}:{self.tenant}"
        # A token of another tenant makes its bearer at most the holder of a link; without tenants there are no others.
        has_token = model.has_tenant and request.token_tenant is not None
        self.is_foreign = self.in_tenant and has_token and request.token_tenant != self.tenant
        self.is_unnamed = self.action.new and self.flag("new")
        if self.is_unnamed:
            self.resource = f"{self.type.name}:"  # its id means nothing, and nothing else has this one
        self.has_row = self.is_row(self.resource)
        self.is_new = self.is_unnamed or (self.action.new and not self.type.external and not self.was_row())
        self.sent_parent = self.read_parent()
        self.claimed = self.read_claims()
        self.context = self.read_sent(model.context, request.context)
        self.action_fields = self.read_sent(self.action.fields, request.action_properties)
        self.principal_attributes = self.read_principal_attributes()
        self.resource_attributes = self.read_resource_attributes()
        self.links = self.links_of_resource()

    # --- reading ----------------------------------------------------------------------------------

    def split(self, written: str) -> tuple[str, str]:
        kind, _, identity = written.partition(":")
        if not kind or not identity:
            raise RequestError("bad_request", 'a reference is written "type:id"')
        kind = self.model.aliases.get(kind, kind)
        return self.model.tenant if kind == "tenant" else kind, identity

    def read_subject(self) -> str | None:
        if self.request.subject in ("anonymous", "anonymous:anonymous"):
            return None
        kind, identity = self.split(self.request.subject)
        if kind not in ("user", "service"):
            raise RequestError("unknown_type", f"`{kind}` asks nothing")
        return f"{kind}:{identity}"

    def read_resource(self) -> str:
        return self.read_thing(self.request.resource)

    def read_thing(self, written: str) -> str:
        kind, identity = self.split(written)
        if kind not in self.model.types:
            raise RequestError("unknown_type", f"there is no `{kind}`")
        return f"{kind}:{identity}"

    def read_action(self) -> m.Action:
        if not self.request.action:
            raise RequestError("bad_request", "no action is named")
        written = self.request.action.replace(":", ".")
        names = [self.type.name, *self.type.aliases, *(["tenant"] if self.type.kind == "tenant" else [])]
        for action in self.type.actions.values():
            if written in (action.name, *(f"{name}.{action.name}" for name in names)):
                return action
        raise RequestError("unknown_action", f"`{self.type.name}` has no `{written}`")

    def read_voices(self) -> set[str]:
        """All tenants that are named: one, if they agree; none only where none is needed."""
        if not self.model.has_tenant:
            return {self.model.tenant}
        sources = (
            self.request.tenant,
            self.request.subject_properties.get("tenant"),
            self.request.resource_properties.get("tenant"),
        )
        voices = {voice for voice in sources if voice is not None}
        if not all(isinstance(voice, str) for voice in voices):
            raise RequestError("wrong_type", "a tenant is named by a string")
        if not voices and self.request.token_tenant is not None:
            voices = {self.request.token_tenant}
        if not voices and self.type.kind != "system":
            raise RequestError("tenant_required", "no tenant is named")
        return voices

    def flag(self, name: str) -> bool:
        value = self.request.resource_properties.get(name)
        if value is not None and not isinstance(value, bool):
            raise RequestError("wrong_type", f"`{name}` is true or false")
        return value is True

    def read_parent(self) -> str | None:
        written = self.request.resource_properties.get("parent")
        if written is None:
            return None
        if not isinstance(written, str):
            raise RequestError("wrong_type", "`parent` is a string")
        return self.read_thing(written)

    def read_claims(self) -> list[str]:
        """The claimable roles on the tenant that the request asserts; what else it asserts is nothing."""
        written = self.request.subject_properties.get("roles")
        if written is None:
            return []
        if not isinstance(written, list) or not all(isinstance(name, str) for name in written):
            raise RequestError("wrong_type", "`roles` is a list of strings")
        roles = [self.model.roles.get(self.model.role_on(self.model.tenant, name) or "") for name in written]
        return sorted({role.name for role in roles if role is not None and role.claimable})

    def read_sent(
        self, declared: Mapping[str, m.Attribute], given: Mapping[str, Any], *, marked: bool = False
    ) -> dict[str, Value]:
        """What counts of what is sent; `marked`: only what is marked `sent`."""
        found = {}
        for name, attribute in declared.items():
            if given.get(name) is None or (marked and not attribute.sent):
                continue
            try:
                found[name] = convert(attribute.type, given[name], self.model.aliases)
            except WrongTypeError as error:
                raise RequestError("wrong_type", f"{name}: {error}") from error
        return found

    def read_principal_attributes(self) -> dict[str, Value]:
        if self.asker is None:
            return {}
        stored = self.facts.principal(kind_of(self.asker), id_of(self.asker))
        declared = self.model.types[self.asker_type].attributes
        sent = self.read_sent(declared, self.request.subject_properties, marked=stored is not None)
        return {**(stored.attributes if stored else {}), **sent}

    def read_resource_attributes(self) -> dict[str, Value]:
        if self.type.kind in ("tenant", "system") or self.type.name == "group":
            return dict(self.stored_attributes(self.resource) or {})
        comes_alone = self.type.external or self.is_new
        sent = self.read_sent(self.type.attributes, self.request.resource_properties, marked=not comes_alone)
        return {**({} if comes_alone else self.stored_attributes(self.resource) or {}), **sent}

    # --- the tree ---------------------------------------------------------------------------------

    def is_row(self, reference: str) -> bool:
        """Whether there is a live row of it in the active tenant; of an external type there never is."""
        kind, identity = kind_of(reference), id_of(reference)
        info = self.model.types[kind]
        if info.kind == "system":
            return reference == SYSTEM_PLACE
        if info.kind == "tenant":
            return identity == self.tenant
        if kind == "group":
            group = self.facts.groups.get(identity)
            return group is not None and group.tenant == (self.tenant if self.model.has_tenant else None)
        if info.kind == "principal":
            principal = self.facts.principal(kind, identity)
            if principal is None or principal.status == "deleted":
                return False
            if not self.model.has_tenant:
                return True
            member = self.facts.member(self.tenant, kind, identity)
            return member is not None and member.membership is not None
        row = self.facts.resource(self.tenant, kind, identity)
        return not info.external and row is not None and not row.deleted

    def was_row(self) -> bool:
        """Whether there is a row of what is asked of, if only a deleted one."""
        return self.facts.resource(self.tenant, self.type.name, id_of(self.resource)) is not None

    def parent_of(self, reference: str, named: str | None) -> str | None:
        """What it lies in: what is named, if it may lie there; where nothing is, the tenant, if it may lie there."""
        info = self.model.types[kind_of(reference)]
        if info.kind == "tenant":
            return SYSTEM_PLACE
        parent = named or self.tenant_place
        return parent if kind_of(parent) in info.parents else None

    def links_from(self, reference: str, named: str | None) -> list[str]:
        """Itself, its parent, …, its tenant, `system`, as far as that goes."""
        links = [reference]
        while links[-1] != SYSTEM_PLACE:
            parent = self.parent_of(links[-1], named)
            if parent is None or not self.is_row(parent):
                break
            if parent != SYSTEM_PLACE and len(links) == LONGEST_CHAIN - 1:
                break  # the last link that there is room for can only be `system`
            links.append(parent)
            named = self.stored_parent(parent)
        return links

    def stored_parent(self, reference: str) -> str | None:
        row = self.facts.resource(self.tenant, kind_of(reference), id_of(reference))
        return row.parent if row else None

    def stored_chain(self, reference: str) -> list[str] | None:
        """The chain of something else than what is asked of; of what the application keeps nobody knows it."""
        links = self.links_from(reference, self.stored_parent(reference)) if self.is_row(reference) else [reference]
        return links if links[-1] == SYSTEM_PLACE else None

    def links_of_resource(self) -> list[str]:
        if self.is_new or self.type.external:
            return self.links_from(self.resource, self.sent_parent)
        return self.links_from(self.resource, self.stored_parent(self.resource)) if self.has_row else []

    def places(self) -> list[str]:
        """The links of the chain on which something can be held: what has no row yet is no place."""
        return [link for link in self.links if self.is_place(link)]

    def is_place(self, reference: str) -> bool:
        return reference != self.resource or not self.is_new

    # --- what is stored ---------------------------------------------------------------------------

    def stored_attributes(self, reference: str) -> Mapping[str, Value] | None:
        """What the facts say of it; None where it is not there."""
        kind, identity = kind_of(reference), id_of(reference)
        info = self.model.types[kind]
        if info.kind == "tenant":
            tenant = self.facts.tenant(identity)
            return tenant.attributes if tenant and identity == self.tenant else None
        if kind == "group":
            group = self.facts.groups.get(identity)
            return group.attributes if group and group.tenant in (None, self.tenant) else None
        if info.kind == "principal":
            principal = self.facts.principal(kind, identity)
            return principal.attributes if principal and principal.status != "deleted" else None
        row = self.facts.resource(self.tenant, kind, identity)
        return row.attributes if row and not row.deleted else None

    def is_there(self, reference: str) -> bool:
        """Whether what a reference names is there.

        He who asks and what is asked of always are, and what the application keeps is taken to be.
        """
        if reference in (self.asker, self.resource) or self.model.types[kind_of(reference)].external:
            return True
        if self.model.types[kind_of(reference)].kind == "resource":
            return self.stored_chain(reference) is not None
        return self.stored_attributes(reference) is not None
