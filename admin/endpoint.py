"""What the API consists of: endpoints, each with what goes in, what comes out, and who may.

An endpoint is data. The application serves a list of them and the OpenAPI description is made of the same list, so that
what is written down is what is checked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from pydantic import BaseModel

from admin.actors import Actor
from admin.services import Services
from admin.wire import Shape
from store.tokens import Token

#: Of the tenant's type, or of `system`: what an end user must be allowed to do. `by_assign`: what he does is judged by
#: the policy's `assign`, in the write itself. `anybody`: who is known may.
Right = Literal["manage", "read_access", "read_audit", "by_assign", "anybody"]


class NoQuery(Shape):
    """Nothing stands behind the path."""


@dataclass(frozen=True, slots=True)
class Need:
    """Who may.

    Args:
        right: what an end user must be allowed; None: no end user may.
        scopes: of keys, beside `system` and, where the path names a tenant, that tenant's.
    """

    right: Right | None
    scopes: frozenset[str] = frozenset({"facts"})


@dataclass(frozen=True, slots=True)
class Ask:
    """One request, as far as it is read.

    Attributes:
        now: the instant, in nanoseconds since 1970.
        if_match: states of which the thing must be one; None: any.
        receipt: whether the answer waits until the write counts everywhere.
        address: of the other end.
    """

    services: Services
    actor: Actor
    path: Mapping[str, str]
    body: Any
    query: Any
    now: int
    if_match: frozenset[str] | None = None
    receipt: bool = False
    address: str | None = None

    @property
    def tenant(self) -> str:
        """The tenant that the path names."""
        return self.path["tenant"]


class Answer(NamedTuple):
    """What is answered.

    Args:
        body: None: nothing.
        status: None: the endpoint's own.
        token: names the state that a write made. receipt: by which it is known when that counts everywhere.
        location: of what was made.
    """

    body: BaseModel | None = None
    status: int | None = None
    token: Token | None = None
    receipt: str | None = None
    location: str | None = None


Handler = Callable[[Ask], Awaitable[Answer]]
PREFIX: Final = "/admin/v1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method on one path, below `PREFIX`.

    Args:
        path: with `{tenant}` and other names; `{ref}` and its like may hold anything but a slash.
        status: of an answer where all went well.
    """

    method: Literal["GET", "POST", "PUT", "PATCH", "DELETE"]
    path: str
    summary: str
    handler: Handler
    need: Need
    answer: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    query: type[BaseModel] = NoQuery
    status: int = 200
    errors: tuple[int, ...] = field(default=())

    @property
    def is_write(self) -> bool:
        return self.method != "GET"

    @property
    def tag(self) -> str:
        """The collection that it belongs to."""
        return next(part for part in reversed(self.path.split("/")) if part and not part.startswith("{"))
