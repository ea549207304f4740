"""What docs/client.md shows: all of it compiles, and what stands on no framework is run against the real service.

```py run          is run; what a `print(…)` prints stands behind it as a comment
```py aiohttp      makes an application, which is asked
```py              and those of other frameworks, which are not installed here, are compiled
"""

from __future__ import annotations

import asyncio
import contextlib
import io
import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from aiohttp.test_utils import TestClient, TestServer

from bylaw import client as the_client

PAGE = Path(__file__).parents[3] / "docs" / "client.md"
_BLOCK = re.compile(r"^```py(?: (\w+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PRINT = re.compile(r"^ *print\(.*\)  # (.*)$", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Example:
    """A block: what it is for, its text, and the line on which that begins."""

    kind: str
    text: str
    line: int


def examples(*kinds: str) -> list[Example]:
    text = PAGE.read_text(encoding="utf-8")
    found = [Example(each[1] or "", each[2], text.count("\n", 0, each.start(2)) + 1) for each in _BLOCK.finditer(text)]
    return [each for each in found if not kinds or each.kind in kinds]


def run(example: Example, url: str) -> tuple[dict[str, Any], str]:
    """Run an example against a service; return its names and what it printed."""
    names: dict[str, Any] = {"__name__": "example"}
    printed = io.StringIO()
    text = example.text.replace("http://127.0.0.1:8180", url)
    with contextlib.redirect_stdout(printed):
        exec(compile(text, f"{PAGE.name}:{example.line}", "exec", dont_inherit=True), names)  # noqa: S102  our own documentation
    return names, printed.getvalue()


@pytest.mark.parametrize("example", examples(), ids=lambda each: f"line {each.line}")
def test_it_compiles(example: Example) -> None:
    """An example is Python, and of a kind that is known."""
    compile(example.text, f"{PAGE.name}:{example.line}", "exec", dont_inherit=True)

    assert example.kind in ("", "run", "aiohttp", "fastapi", "flask", "django")


@pytest.mark.parametrize("example", examples("run"), ids=lambda each: f"line {each.line}")
def test_it_prints_what_the_page_says(example: Example, url: str) -> None:
    """What an example prints is the comment behind it."""
    names, printed = run(example, url)

    if isinstance(names.get("client"), the_client.Bylaw):
        names["client"].close()
    assert printed.splitlines() == _PRINT.findall(example.text)
    assert printed


def test_the_application(url: str) -> None:
    """The one for aiohttp lets in who may, and answers the others."""
    (example,) = examples("aiohttp")

    async def ask() -> list[tuple[int, Any]]:
        app = run(example, url)[0]["app"]
        async with TestClient(TestServer(app)) as client:
            found = []
            for path, user in (
                ("/tasks/t1", "ann"),
                ("/tasks/t1", "eve"),
                ("/tasks/t1", ""),
                ("/health", ""),
                ("/other", "ann"),
            ):
                async with client.get(path, headers={"X-Demo-User": user}) as answer:
                    found.append((answer.status, json.loads(await answer.read())))
            return found

    found = asyncio.run(ask())

    assert [status for status, _ in found] == [200, 403, 401, 200, 403]
    assert found[0][1] == {"id": "t1"}


def test_names_that_the_page_uses_are_there() -> None:
    """Whatever an example takes from the client, the client has."""
    taken = {
        name.strip()
        for example in examples()
        for line in re.findall(r"^from bylaw\.client import (.*)$", example.text, re.MULTILINE)
        for name in line.split(",")
    }

    assert taken
    assert taken <= set(the_client.__all__)


def test_every_name_of_the_client_can_be_had() -> None:
    """What it says that it has it has, and nothing else."""
    assert all(getattr(the_client, name) is not None for name in the_client.__all__)
    with pytest.raises(AttributeError, match="no `Bylow`"):
        the_client.Bylow  # noqa: B018  it is looked up
