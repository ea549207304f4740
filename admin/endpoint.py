"""What the API consists of: endpoints, each with what goes in, what comes out, and who may.

An endpoint is data. The application serves a list of them and the OpenAPI description is made of the same list, so that
what is written down is what is checked.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from pydantic import BaseModel

from admin.actors import Actor
from admin.bodies import MAX_BODY
from admin.paging import Page
from admin.repetition import Once
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
        once: keeps what is answered, for who asks again; None: nobody will.
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
    once: Once | None = None

    @property
    def tenant(self) -> str:
        """The tenant that the path names."""
        return self.path["tenant"]


class Answer(NamedTuple):
    """What is answered.

    Args:
        body: None: nothing.
        status: None: the endpoint's own.
        token: names the state that a write made.
        location: of what was made.
        lines: the whole answer, in the place of a body, of an endpoint that `is_lines`.
    """

    body: BaseModel | None = None
    status: int | None = None
    token: Token | None = None
    location: str | None = None
    lines: AsyncIterator[bytes] | None = None


Handler = Callable[[Ask], Awaitable[Answer]]
PREFIX: Final = "/admin/v1"


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One method on one path, below `PREFIX`.

    Args:
        path: with `{tenant}` and other names; `{ref}` and its like may hold anything but a slash.
        status: of an answer where all went well.
        is_repeatable: asked twice it does no more than asked once, so that it needs no `Idempotency-Key`.
        is_question: it changes nothing, whatever its method.
        is_lines: it answers with lines of JSON, as they come.
        max_body: of the body, in bytes.
        is_private: nobody is to keep what it answers, not even to ask whether it changed.
        is_alone: no single thing has the name that its path ends in: other methods are none of such a thing's.
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
    is_repeatable: bool = False
    is_question: bool = False
    is_lines: bool = False
    max_body: int = MAX_BODY
    is_alone: bool = False
    is_private: bool = False

    @property
    def is_write(self) -> bool:
        return self.method != "GET" and not self.is_question

    @property
    def has_etag(self) -> bool:
        """Whether it answers with a single thing as it is now: not with a list, and not with what was made or done."""
        is_thing = self.method != "POST" and self.answer is not None and not issubclass(self.answer, Page)
        return is_thing and not self.is_private

    @property
    def takes_if_match(self) -> bool:
        """Whether it looks at the state in which the thing was when the caller last saw it."""
        return 412 in self.errors

    @property
    def takes_key(self) -> bool:
        """Whether it is done once for an `Idempotency-Key`."""
        return self.is_write and self.method == "POST" and not self.is_repeatable

    @property
    def tag(self) -> str:
        """The collection that it belongs to."""
        return next(part for part in reversed(self.path.split("/")) if part and not part.startswith("{"))
