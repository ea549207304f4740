"""What is asked about: a thing, and the chain of things that it lies in.

A `Thing` is one link; a `Target` is a resource with its whole chain, and the places on it where roles count.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final

from engine.model import Within
from engine.values import Value

if TYPE_CHECKING:
    from engine.space import Space


class Thing:
    """Something that a path may stand on: its reference, id and attributes. Of what is not there all are absent."""

    __slots__ = ("attributes", "id", "ref", "type")

    def __init__(self, ref: str | None, identity: str | None, kind: str, attributes: Mapping[str, Value]) -> None:
        self.ref = ref
        self.id = identity
        self.type = kind
        self.attributes = attributes


SYSTEM_PLACE = "system:system"
NOTHING: Final = Thing(None, None, "", {})


class _Read:
    """What every decision reads of a target, together: as in `standing`."""

    __slots__ = ("places", "type")


class Target(_Read):
    """A resource and its chain: itself, its parent, …, its tenant.

    Attributes:
        problem: the code of the deny where the resource cannot be decided on: unknown, existing, broken, of another
            tenant.
        places: where roles count, itself first; a new resource is no place.
    """

    __slots__ = ("attributes", "chain", "id", "parent", "problem", "ref", "space", "tenant")

    def __init__(
        self, space: Space, chain: tuple[Thing, ...], problem: str | None = None, *, is_new: bool = False
    ) -> None:
        first = chain[0]
        self.space = space
        self.chain = chain
        self.problem = problem
        self.ref = first.ref
        self.id = first.id
        self.type = first.type
        self.attributes = first.attributes
        self.parent = chain[1] if len(chain) > 1 else NOTHING
        self.tenant = chain[-1] if chain[-1].type == space.tenant_type else NOTHING
        self.places: tuple[str, ...] = tuple(thing.ref for thing in chain[is_new:] if thing.ref is not None)

    @property
    def own_place(self) -> tuple[str, ...]:
        """The resource itself as a place; none where it is new."""
        return self.places[:1] if len(self.places) == len(self.chain) else ()

    @property
    def places_above(self) -> tuple[str, ...]:
        return tuple(thing.ref for thing in self.chain[1:] if thing.ref is not None)

    @property
    def tenant_places(self) -> tuple[str, ...]:
        return self.places[-1:]

    def lies_in_all(self, refs: tuple[str, ...]) -> bool:
        """Say whether each of these is the resource itself or something that it lies in."""
        return not refs or {thing.ref for thing in self.chain}.issuperset(refs)

    def nearest(self, kind: str) -> Thing:
        """The nearest thing of a type on the chain, the resource itself first."""
        for thing in self.chain:
            if thing.type == kind:
                return thing
        return NOTHING

    def place_of(self, kind: str) -> tuple[str, ...] | None:
        """The nearest thing of a type as a place, none where it is new; None where there is no such thing."""
        for index, thing in enumerate(self.chain):
            if thing.type == kind:
                return self.own_place if index == 0 or thing.ref is None else (thing.ref,)
        return None

    def has_above(self, kind: str) -> bool | None:
        """Say whether there is a thing of a type on the chain, the resource itself included: True, or None."""
        return True if self.nearest(kind) is not NOTHING else None

    def lies_within(self, within: Within) -> bool:
        """Say whether all types of one of these sets are among the places."""
        found = {place.partition(":")[0] for place in self.places}
        return any(types <= found for types in within)

    def places_from(self, kind: str) -> tuple[str, ...] | None:
        """The places from the nearest thing of a type on up; None where there is none."""
        for index, thing in enumerate(self.chain):
            if thing.type == kind:
                return (
                    self.places
                    if index == 0
                    else tuple(above.ref for above in self.chain[index:] if above.ref is not None)
                )
        return None

    def with_attributes(self, sent: Mapping[str, Value]) -> Target:
        """The same target with attributes that came with the request; they win."""
        first = self.chain[0]
        own = Thing(first.ref, first.id, first.type, {**first.attributes, **sent})
        return Target(self.space, (own, *self.chain[1:]), self.problem)
