"""The public face of the engine: a policy that decides, facts to decide on.

Reading files and the clock happens here, at the edge, and nowhere further in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from engine import diagnostics
from engine.authorizer import Question, Questioner, judge
from engine.checker import check
from engine.decision import Decision
from engine.diagnostics import Diagnostic
from engine.errors import PolicyError
from engine.facts import MemoryFacts
from engine.facts_file import Document, build, read_document
from engine.lints import lint
from engine.model import Model
from engine.parser import parse
from engine.program import Program
from engine.request import HttpRequest, Request
from engine.search import search
from engine.source import Source, Span

Clock = Callable[[], int]


def read_sources(path: str | Path) -> list[Source]:
    """Read a policy: a directory of `*.bylaw`, recursively, or one such file. Names that begin with a point are
    skipped.

    Raises:
        PolicyError: there is no such path, no policy in it, or a file is no UTF-8.
    """
    root = Path(path)
    if root.is_file():
        return [_read(root, root.name)]
    if not root.is_dir():
        raise PolicyError("unreadable", f"{root}: no such file or directory")
    names = sorted(
        found.relative_to(root)
        for found in root.rglob("*.bylaw")
        if found.is_file() and not any(part.startswith(".") for part in found.relative_to(root).parts)
    )
    if not names:
        raise PolicyError("empty", f"{root}: no *.bylaw in it")
    return [_read(root / name, name.as_posix()) for name in names]


def _read(path: Path, name: str) -> Source:
    try:
        return Source(name, path.read_bytes().decode("utf-8-sig"))
    except OSError as error:
        raise PolicyError("unreadable", f"{path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PolicyError("not_utf8", f"{path}: byte {error.start} is no UTF-8") from error


def compile_sources(sources: Iterable[Source]) -> tuple[Model | None, list[Diagnostic]]:
    """Parse and check a policy; the model, unless there are errors, and everything that was found, warnings and notes
    too."""
    parsed = [(source, *parse(source)) for source in sources]
    syntax = [d for _, _, found in parsed for d in found]
    model, found = check([(source, module) for source, module, _ in parsed], syntax)
    if model is not None:
        found = diagnostics.sort([*found, *lint(model)])
    return model, found


class Policy:
    """A checked and compiled policy."""

    def __init__(self, model: Model, found: Iterable[Diagnostic] = (), *, clock: Clock = time.time_ns) -> None:
        self.model = model
        self.program = Program(model)
        self.diagnostics = tuple(found)
        self.digest = model.digest
        self.clock = clock

    @classmethod
    def load(cls, path: str | Path) -> Policy:
        """Load a policy from a directory or a file.

        Raises:
            PolicyError: it cannot be read or has errors; carries every diagnostic.
        """
        return cls.of(read_sources(path))

    @classmethod
    def parse(cls, text: str, name: str = "policy.bylaw") -> Policy:
        """Make a policy of a text.

        Raises:
            PolicyError: it has errors.
        """
        return cls.of([Source(name, text)])

    @classmethod
    def of(cls, sources: Iterable[Source]) -> Policy:
        """Make a policy of sources.

        Raises:
            PolicyError: they have errors.
        """
        listed = list(sources)
        size = sum(len(source.text) for source in listed)
        if size > 4 * 1024 * 1024:
            found = [Diagnostic("E0101", "a policy holds at most 4 MiB of text", Span(listed[0], 0, 0))]
            raise PolicyError("bad_policy", diagnostics.concise(found), found)
        model, found = compile_sources(listed)
        if model is None:
            raise PolicyError("bad_policy", diagnostics.concise(diagnostics.errors(found)), found)
        return cls(model, found)

    def decide(self, request: Request | HttpRequest, facts: Facts) -> Decision:
        """Decide one question.

        Raises:
            RequestError: it is malformed: an unknown type or action, a value of the wrong type, no tenant.
        """
        questioner = facts.questioner if facts.program is self.program else facts.bind(self)
        now = request.now
        if now is None:
            now = self.clock()
        if type(request) is Request and not request.has_properties:
            # What has been asked before is remembered by the very strings of the request; all else takes the long
            # way, to the same `judge`.
            space = questioner.spaces.get(request.tenant)
            if space is not None and space.is_active:
                s = space.standings.get(request.subject)
                t = space.targets.get(request.resource)
                if s is not None and t is not None and s.since <= now < s.until and not s.is_inactive:
                    plan = s.plans[t.type][request.action]  # type: ignore[index]  # None is refused there like any unknown action
                    if not plan.action.new:
                        context = (
                            questioner.sent(self.model.context, request.context, "context")
                            if request.context
                            else _NOTHING_SENT
                        )
                        return judge(Question(plan, s, t, context, _NOTHING_SENT, now))
        if isinstance(request, HttpRequest):
            return questioner.decide_route(request, now)
        return questioner.decide(request, now)

    def search(self, request: Request, facts: Facts) -> list[str]:
        """Answer a search, complete and sorted: the request leaves out the id of the subject or of the resource, or
        the action.

        Raises:
            RequestError: it is malformed.
        """
        questioner = facts.questioner if facts.program is self.program else facts.bind(self)
        return search(questioner, request, request.now if request.now is not None else self.clock())


_NOTHING_SENT: dict[str, Any] = {}


class Facts:
    """Facts to decide on, with what has been derived from them for one policy at a time."""

    def __init__(
        self, document: Document, policy: Policy, *, strict: bool = True, written: bool = False, name: str = "facts"
    ) -> None:
        """Make facts of Python values shaped like a facts file.

        Args:
            strict: refuse what does not fit the policy; else it is absent.
            written: all scalars are strings as they stand in a file.

        Raises:
            FactsError: they do not fit the policy; lists every problem.
        """
        self.make: Callable[[Model], MemoryFacts] = lambda model: build(
            document, model, strict=strict, written=written, name=name
        )
        self.bind(policy)

    @classmethod
    def made(cls, make: Callable[[Model], MemoryFacts], policy: Policy) -> Facts:
        """Hold facts that come from elsewhere: `make` gives them as a policy's types say."""
        facts = cls.__new__(cls)
        facts.make = make
        facts.bind(policy)
        return facts

    @classmethod
    def load(cls, path: str | Path, policy: Policy) -> Facts:
        """Load a facts file.

        Raises:
            FactsError: it cannot be read or does not fit the policy.
        """
        return cls(read_document(path), policy, written=True, name=str(path))

    def bind(self, policy: Policy) -> Questioner:
        """Read the facts as another policy's types say; what was derived for the one before is dropped."""
        self.source = self.make(policy.model)
        self.program = policy.program
        self.questioner = Questioner(policy.program, self.source)
        return self.questioner

    @property
    def revision(self) -> str:
        return self.source.revision
