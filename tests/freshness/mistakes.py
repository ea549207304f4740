"""Seeded mistakes: each takes one check out of the product, and the checker must find it.

A mistake is text in one function and what stands there instead, as in `tests.mutants`; it is made in memory, for as
long as it is tried. Where two checks stand behind each other, both are taken out.
"""

from __future__ import annotations

import inspect
import textwrap
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from importlib import import_module
from typing import Any, Final
from unittest.mock import patch


@dataclass(frozen=True, slots=True)
class Edit:
    """`place` is `module:function` or `module:Class.function`."""

    place: str
    text: str
    instead: str


@dataclass(frozen=True, slots=True)
class Mistake:
    """A seeded mistake."""

    name: str
    edits: tuple[Edit, ...]


def _one(name: str, place: str, text: str, instead: str) -> Mistake:
    return Mistake(name, (Edit(place, text, instead),))


_CURRENT: Final = "sidecar.views:StreamViews.is_current"
_ADVANCE: Final = "sidecar.freshness:Freshness._advance"
_FOLLOWS: Final = "sidecar.freshness:_follows"
_POLL: Final = "tests.freshness.process:FakeReader.poll"
_ANSWERED: Final = '        await call.arrives("answer")\n'
_LATER: Final = "later = fake_store.poll(self.state(), known, self.name)"

MISTAKES: Final = (
    Mistake(
        "no catch-up",
        (
            Edit("sidecar.loader:Loader._is_above", "return (", "return False and ("),
            Edit(_CURRENT, "self.floor <= n <= self.at.n", "self.floor <= n"),
        ),
    ),
    _one(
        "split poll",
        _POLL,
        _ANSWERED,
        f"""{_ANSWERED}        {_LATER}
        told = {{stream: later.at[stream] for stream in later.at if stream not in "gp"}}
        seen = replace(seen, at={{**seen.at, **told}}, changes={{**later.changes, "g": seen.changes.get("g", [])}})
""",
    ),
    _one("cached chain", _ADVANCE, "self._on_change(tenants if", "self._on_change([] if"),
    _one("memos of an evicted tenant", "sidecar.views:Cache.leave", "self.on_evict(tenant)", "pass"),
    _one("late store", _CURRENT, " and self.changed.get(key, 0) <= n", ""),
    _one("floor ignored", _CURRENT, "self.floor <= n <= self.at.n", "n <= self.at.n"),
    _one("stamp at the answer", "sidecar.freshness:Freshness._poll_once", "asked, sent)", "asked, self.clock())"),
    _one("adopted past a poll", "sidecar.loader:Loader._take_into_use", " or self._freshness.epoch != epoch", ""),
    _one("unasked tenants stay", "sidecar.freshness:Freshness._leave_unasked", "self.cache.leave(tenant)", "pass"),
    _one("heads ignored", _FOLLOWS, " or (at.n == before.n and at.head != before.head)", ""),
    _one("heads before ignored", _FOLLOWS, " or changes[0].before == before.head", " or True"),
    _one("gap ignored", "sidecar.freshness:_is_whole", "return [", "return True or ["),
    _one(
        "snapshot not compared", "sidecar.decider:StoreDecider._may_answer", "if freshness.epoch == epoch:", "if True:"
    ),
    _one(
        "receipt without registration", "sidecar.freshness:Freshness.apply", "if not self.is_registered:", "if False:"
    ),
    _one("a replica believed", "sidecar.freshness:Freshness.apply", "if self.is_replica:", "if False:"),
    _one("a token's tenant ignored", "sidecar.freshness:Freshness._has_reached", "return all(", "return True or all("),
    _one("age ignored", "sidecar.freshness:Freshness.is_fresh", "return ", "return True or "),
)


@contextmanager
def seeded(mistake: Mistake) -> Iterator[None]:
    """Make a mistake, and make up for it at the end.

    Raises:
        LookupError: a text is not in its function just once.
    """
    with ExitStack() as stack:
        for edit in mistake.edits:
            owner, name, made = _edited(edit)
            stack.enter_context(patch.object(owner, name, made))
        yield


def _edited(edit: Edit) -> tuple[Any, str, Any]:
    """Make the function anew with another text; return where it stands."""
    module, _, path = edit.place.partition(":")
    *classes, name = path.split(".")
    owner: Any = import_module(module)
    for each in classes:
        owner = getattr(owner, each)
    function = inspect.unwrap(getattr(owner, name))
    source = textwrap.dedent(inspect.getsource(function))
    wanted = edit.text
    if source.count(wanted) != 1 and textwrap.dedent(wanted) != wanted:
        wanted = textwrap.indent(textwrap.dedent(wanted), "    ")
    if source.count(wanted) != 1:
        raise LookupError(f"{edit.place}: {source.count(wanted)} × {edit.text!r}")
    instead = edit.instead if wanted == edit.text else textwrap.indent(textwrap.dedent(edit.instead), "    ")
    namespace: dict[str, Any] = {}
    exec(compile(source.replace(wanted, instead), edit.place, "exec"), function.__globals__, namespace)  # noqa: S102
    return owner, name, namespace[name]
