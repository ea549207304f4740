"""A check in front of a function: `@require(…)`.

    require = Guard(client, subject=lambda user: f"user:{user.id}", tenant=lambda user: user.tenant).require

    @require("task.read", resource=lambda task_id: f"task:{task_id}")
    async def read_task(task_id: str, user: User) -> Task: ...

Each part of the question is a value, or a function of arguments of the guarded one, which it names: by name and not by
place, so that no change of an order checks one thing and hands over another. What is asked for and is not there is an
error when the function is decorated, before anybody calls it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import fields
from functools import wraps
from inspect import Parameter, Signature, iscoroutinefunction, signature
from typing import TYPE_CHECKING, Any, Final, ParamSpec, TypeVar, cast

from bylaw.client.gate import let_through
from bylaw.client.model import Question
from bylaw.client.scope import granting

if TYPE_CHECKING:
    from bylaw.client._async import AsyncBylaw
    from bylaw.client._sync import Bylaw

P = ParamSpec("P")
R = TypeVar("R")

_PARTS: Final = frozenset(each.name for each in fields(Question))
_VARIABLE: Final = (Parameter.VAR_POSITIONAL, Parameter.VAR_KEYWORD)


class Guard:
    """Makes decorators that check before they call.

    Args:
        parts: of every question, as `require` takes them; most often `subject` and `tenant`.
    """

    def __init__(self, client: Bylaw | AsyncBylaw, **parts: Any) -> None:
        _check_names(parts)
        self._client = client
        self._parts = parts

    def require(self, action: str, **parts: Any) -> Callable[[Callable[P, R]], Callable[P, R]]:
        """Have a function called only where this is allowed; else it raises.

        An `async` function takes an `AsyncBylaw`, any other a `Bylaw`. The decorated one raises `DeniedError`, or what
        `ask` raises; while it runs, `granted()` is the decision.

        Args:
            parts: `subject`, `resource` and whatever else a `Question` has, each as a value or as a function of
                arguments of the decorated one.

        Raises:
            TypeError: the parts, the function and the client do not fit together.
        """
        _check_names(parts)
        wanted = {**self._parts, **parts, "action": action}
        missing = {"subject", "resource"} - set(wanted)
        if missing:
            raise TypeError(f"require: {' and '.join(sorted(missing))} missing")

        def decorate(function: Callable[P, R]) -> Callable[P, R]:
            asked = _Asked(function, wanted)
            is_async = iscoroutinefunction(function)
            if is_async is not self._client.is_async:
                raise TypeError(f"`{_name(function)}`: an async function takes AsyncBylaw, any other takes Bylaw")
            return self._awaiting(function, asked) if is_async else self._waiting(function, asked)

        return decorate

    def _waiting(self, function: Callable[P, R], asked: _Asked) -> Callable[P, R]:
        ask = cast("Bylaw", self._client).ask

        @wraps(function)
        def guarded(*args: P.args, **kwargs: P.kwargs) -> R:
            question = asked(args, kwargs)
            with granting(let_through(ask(question), question)):
                return function(*args, **kwargs)

        return guarded

    def _awaiting(self, function: Callable[P, R], asked: _Asked) -> Callable[P, R]:
        ask = cast("AsyncBylaw", self._client).ask
        awaited = cast("Callable[P, Awaitable[Any]]", function)

        @wraps(function)
        async def guarded(*args: P.args, **kwargs: P.kwargs) -> Any:
            question = asked(args, kwargs)
            with granting(let_through(await ask(question), question)):
                return await awaited(*args, **kwargs)

        return cast("Callable[P, R]", guarded)


class _Asked:
    """Makes the question of the arguments of a call."""

    def __init__(self, function: Callable[..., Any], parts: dict[str, Any]) -> None:
        self._signature = signature(function)
        self._fixed = {name: part for name, part in parts.items() if not callable(part)}
        self._made = [
            (name, part, _taken(name, part, self._signature, function))
            for name, part in parts.items()
            if callable(part)
        ]

    def __call__(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Question:
        bound = self._signature.bind(*args, **kwargs)
        bound.apply_defaults()
        given = bound.arguments
        made = {name: part(**{each: given[each] for each in taken}) for name, part, taken in self._made}
        return Question(**self._fixed, **made)


def _taken(name: str, part: Callable[..., Any], has: Signature, function: Callable[..., Any]) -> tuple[str, ...]:
    """List the arguments that a part takes from the guarded function."""
    parameters = signature(part).parameters.values()
    unknown = [each.name for each in parameters if each.name not in has.parameters and each.default is each.empty]
    if unknown or any(each.kind in (*_VARIABLE, Parameter.POSITIONAL_ONLY) for each in parameters):
        what = ", ".join(f"`{each}`" for each in unknown) or "arguments without a name"
        raise TypeError(f"`{_name(function)}`: {name} takes {what}, which it has not")
    return tuple(each.name for each in parameters if each.name in has.parameters)


def _check_names(parts: dict[str, Any]) -> None:
    unknown = set(parts) - _PARTS
    if unknown:
        raise TypeError(f"a question has no {', '.join(sorted(unknown))}; it has {', '.join(sorted(_PARTS))}")


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__qualname__", repr(function))
