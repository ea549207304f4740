"""A check that was begun and not awaited: neither true nor false.

A coroutine is true like any object, so `if client.check(…):` without its `await` would let everybody through, with no
more than a warning. What the asynchronous client returns is a coroutine that says so instead.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Generator
from functools import wraps
from typing import Any, NoReturn, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


class Awaiting(Coroutine[Any, Any, T]):
    """A coroutine that is an error where it is taken for its result."""

    __slots__ = ("_begun",)

    def __init__(self, begun: Coroutine[Any, Any, T]) -> None:
        self._begun = begun

    def __bool__(self) -> NoReturn:
        self._begun.close()
        raise TypeError("`await` is missing: a check that was not awaited says neither yes nor no")

    def __await__(self) -> Generator[Any, Any, T]:
        return self._begun.__await__()

    def send(self, value: Any, /) -> Any:
        """Go on with it; an event loop does."""
        return self._begun.send(value)

    def throw(self, *error: Any) -> Any:
        """Go on with it by an error."""
        return self._begun.throw(*error)

    def close(self) -> None:
        """Give it up."""
        self._begun.close()


def to_await(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Awaiting[T]]:
    """Have a method return what must be awaited before it says anything."""

    @wraps(method)
    def begun(*args: P.args, **kwargs: P.kwargs) -> Awaiting[T]:
        return Awaiting(method(*args, **kwargs))

    return begun
