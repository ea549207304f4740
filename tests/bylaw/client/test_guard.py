"""A check in front of a function."""

from __future__ import annotations

import asyncio
import inspect
from typing import Any

import pytest

from bylaw.client import (
    AsyncBylaw,
    Bylaw,
    Decision,
    DeniedError,
    Guard,
    RefusedError,
    UnavailableError,
    granted,
)


class User:
    def __init__(self, name: str) -> None:
        self.id = name


ANN, EVE = User("ann"), User("eve")


def guard_of(client: Bylaw | AsyncBylaw) -> Guard:
    return Guard(client, subject=lambda user: f"user:{user.id}", tenant="acme")


def test_a_function(url: str) -> None:
    """It is called where it may be, with what it was called with; else it raises, and is not called."""
    called: list[tuple[str, int]] = []
    with Bylaw(url) as client:

        @guard_of(client).require("task.read", resource=lambda task_id: f"task:{task_id}")
        def read_task(user: User, task_id: str, *, depth: int = 2) -> Decision:
            called.append((task_id, depth))
            return granted()

        decision = read_task(ANN, "t1")
        read_task(user=ANN, task_id="t1", depth=3)
        with pytest.raises(DeniedError) as caught:
            read_task(EVE, task_id="t1")

    assert called == [("t1", 2), ("t1", 3)]
    assert decision.by == "organization.manager on organization:acme"
    assert (caught.value.code, caught.value.is_anonymous) == ("boundary", False)


def test_an_async_function(url: str) -> None:
    """The same with the client that does not wait."""
    called: list[str] = []

    async def use() -> Decision:
        async with AsyncBylaw(url) as client:

            @guard_of(client).require("task.read", resource=lambda task_id: f"task:{task_id}")
            async def read_task(user: User, task_id: str) -> Decision:
                called.append(task_id)
                await asyncio.sleep(0)
                return granted()

            with pytest.raises(DeniedError):
                await read_task(EVE, "t1")
            assert inspect.iscoroutinefunction(read_task)
            return await read_task(ANN, "t1")

    decision = asyncio.run(use())

    assert decision.allowed
    assert called == ["t1"]


def test_the_signature_is_kept(url: str) -> None:
    """A framework that reads the signature of its handlers sees that of the function itself."""
    with Bylaw(url) as client:

        def read_task(user: User, task_id: str = "t1") -> None:
            """Read a task."""

        guarded = guard_of(client).require("task.read", resource="task:t1")(read_task)

    assert inspect.signature(guarded) == inspect.signature(read_task)
    assert (guarded.__name__, guarded.__doc__) == ("read_task", "Read a task.")


def test_arguments_that_are_left_out(url: str) -> None:
    """A part sees the value that the function will see, also where that is its default; and may have its own."""
    with Bylaw(url) as client:

        @guard_of(client).require("task.read", resource=lambda task_id, prefix="task": f"{prefix}:{task_id}")
        def read_task(user: User, task_id: str = "t2") -> str:
            return task_id

        with pytest.raises(DeniedError):
            guard_of(client).require("task.delete", resource=lambda task_id: f"task:{task_id}")(read_task)(EVE)

        assert read_task(ANN) == "t2"


def test_methods_and_gathered_arguments(url: str) -> None:
    """A part may take `self`, and all that a function gathers under one name."""

    class View:
        kind = "task"

        def get(self, user: User, **kwargs: str) -> str:
            return kwargs["pk"]

    with Bylaw(url) as client:
        require = guard_of(client).require
        guarded = require("task.read", resource=lambda self, kwargs: f"{self.kind}:{kwargs['pk']}")(View.get)

        assert guarded(View(), ANN, pk="t1") == "t1"
        with pytest.raises(DeniedError):
            guarded(View(), EVE, pk="t1")


def test_all_parts(url: str) -> None:
    """Whatever a question has may be a value or worked out, and the nearer word counts."""
    with Bylaw(url) as client:
        guard = Guard(client, subject="user:nobody", tenant=lambda: "acme", context={"mfa": False})

        @guard.require("view_billing", subject="user:olga", resource="organization:acme", context=lambda: {"mfa": True})
        def bill() -> str:
            return "paid"

        assert bill() == "paid"


def test_a_part_that_fails(url: str) -> None:
    """Then nothing is asked, and the function is not called."""
    with Bylaw(url) as client:

        @guard_of(client).require("task.read", resource=lambda task: f"task:{task['id']}")
        def read_task(user: User, task: dict[str, str]) -> None:
            pytest.fail("it was called")

        with pytest.raises(KeyError):
            read_task(ANN, {})
        with pytest.raises(TypeError, match="task"):
            read_task(ANN)  # type: ignore[call-arg]  # a slip


def test_no_answer(url: str) -> None:
    """Where there is none, the function is not called."""
    with Bylaw("http://127.0.0.1:1") as nowhere, Bylaw(url) as client:

        def read_task(user: User) -> None:
            pytest.fail("it was called")

        with pytest.raises(UnavailableError):
            guard_of(nowhere).require("task.read", resource="task:t1")(read_task)(ANN)
        with pytest.raises(RefusedError):
            guard_of(client).require("task.raed", resource="task:t1")(read_task)(ANN)


def test_nothing_is_granted_outside(url: str) -> None:
    """What let a function in is known while it runs, and is then forgotten, also after an error."""
    with Bylaw(url) as client:

        @guard_of(client).require("task.read", resource="task:t1")
        def fail(user: User) -> None:
            raise ZeroDivisionError(granted().code)

        with pytest.raises(ZeroDivisionError, match="role"):
            fail(ANN)
        with pytest.raises(LookupError):
            granted()


def wait(user: User, task_id: str) -> None:
    pytest.fail("it was called")


async def run(user: User, task_id: str) -> None:
    pytest.fail("it was called")


@pytest.mark.parametrize(
    ("function", "parts", "said"),
    [
        (wait, {}, "resource missing"),
        (wait, {"resource": "task:t1", "tennant": "acme"}, "no tennant"),
        (wait, {"resource": lambda task: f"task:{task}"}, "resource takes `task`, which it has not"),
        (wait, {"resource": lambda *args: "task:t1"}, "resource takes `args`, which it has not"),
        (wait, {"resource": lambda task_id, /: "task:t1"}, "without a name"),
        (run, {"resource": "task:t1"}, "takes AsyncBylaw"),
    ],
)
def test_what_does_not_fit(function: Any, parts: dict[str, Any], said: str) -> None:
    """It is an error when the function is decorated, not when it is called."""
    with Bylaw() as client, pytest.raises(TypeError, match=said):
        guard_of(client).require("task.read", **parts)(function)


def test_a_function_that_cannot_wait() -> None:
    """An asynchronous client guards no function that is not."""
    with pytest.raises(TypeError, match="takes AsyncBylaw"):
        guard_of(AsyncBylaw()).require("task.read", resource="task:t1")(wait)


def test_a_guard_with_parts_that_no_question_has() -> None:
    """Its own parts are looked at, too."""
    with Bylaw() as client, pytest.raises(TypeError, match="no subjekt"):
        Guard(client, subjekt="user:ann")
