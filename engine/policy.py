"""The public face of the engine: a policy that decides, facts to decide on.

Reading files and the clock happens here, at the edge, and nowhere further in.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from engine import diagnostics
from engine.authorizer import Questioner, judge
from engine.decision import Decision
from engine.diagnostics import Diagnostic
from engine.errors import PolicyError
from engine.facts import ALWAYS, FactSource, MemoryFacts
from engine.facts_builder import Document, build
from engine.facts_file import digest_of, parse_document, read_file
from engine.loading import compile_sources, read_sources
from engine.model import Model
from engine.program import Program
from engine.request import HttpRequest, Request
from engine.search import search
from engine.source import Source, Span

Clock = Callable[[], int]


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

    def decide(self, request: Request | HttpRequest, facts: BoundFacts) -> Decision:
        """Decide one question.

        Raises:
            RequestError: it is malformed: an unknown type or action, a value of the wrong type, no tenant.
        """
        questioner = facts.questioner if facts.program is self.program else facts.bind(self)
        now = request.now
        if now is None:
            now = self.clock()
        if not request.has_properties:
            # What has been asked before is remembered by the very strings of the request; all else takes the long way,
            # to the same `judge`.
            try:
                space = questioner.active[request.tenant]
                s = space.standings[request.subject]
                t = space.targets[request.resource]  # type: ignore[union-attr]  # a path always `has_properties`
                plan = s.plans[t.type][request.action]  # type: ignore[union-attr]  # the same
            except (KeyError, TypeError):
                return self._decide_anew(request, questioner, now)
            if s.since <= now < s.until and not plan.is_new:
                given = request.context
                x = questioner.sent(self.model.context, given, "context") if given else _NOTHING_SENT
                return judge(plan, s, t, x, _NOTHING_SENT, now)
        return self._decide_anew(request, questioner, now)

    def _decide_anew(self, request: Request | HttpRequest, questioner: Questioner, now: int) -> Decision:
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
        return search(questioner, facts.source, request, request.now if request.now is not None else self.clock())


_NOTHING_SENT: dict[str, Any] = {}


class Revoked(NamedTuple):
    """Which tokens of a principal count no more: those with one of these ids, and all from before an instant."""

    blocked: Collection[str] = ()
    valid_after: int = ALWAYS


class KeptFacts(FactSource, Protocol):
    """Facts that are kept where tokens can be revoked."""

    def revoked(self, subject: str) -> Revoked: ...


class BoundFacts:
    """Facts to decide on, wherever they are kept, with what has been derived from them for one policy at a time."""

    program: Program
    questioner: Questioner

    def __init__(self, source: KeptFacts, policy: Policy) -> None:
        self._source: FactSource = source
        self._kept = source
        self.bind(policy)

    def bind(self, policy: Policy) -> Questioner:
        """Read the facts as another policy's types say; what was derived for the one before is dropped."""
        self.program = policy.program
        self.questioner = Questioner(policy.program, self._source)
        return self.questioner

    @property
    def revision(self) -> str:
        """Name their state, as far as all tenants share it."""
        return self._source.revision_of("")

    def revoked(self, subject: str) -> Revoked:
        """Say which tokens of `"user:ann"` count no more."""
        return self._kept.revoked(subject)


class Facts(BoundFacts):
    """Facts in memory."""

    def __init__(
        self,
        document: Document,
        policy: Policy,
        *,
        strict: bool = True,
        written: bool = False,
        name: str = "facts",
        revision: str = "",
    ) -> None:
        """Make facts of Python values shaped like a facts file.

        Args:
            strict: refuse what does not fit the policy; else it is absent.
            written: all scalars are strings as they stand in a file.
            revision: what decisions call this state of the facts.

        Raises:
            FactsError: they do not fit the policy; lists every problem.
        """
        self.make: Callable[[Model], MemoryFacts] = lambda model: build(
            document, model, strict=strict, written=written, name=name, revision=revision
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
        text, name = read_file(path), str(path)
        revision = digest_of(text)
        # The text is kept, not what it parses to, which takes many times its room.
        return cls.made(lambda model: build(parse_document(text, name), model, name=name, revision=revision), policy)

    def bind(self, policy: Policy) -> Questioner:
        """Read the facts as another policy's types say; what was derived for the one before is dropped."""
        self._source = self.source = self.make(policy.model)
        return super().bind(policy)

    def revoked(self, subject: str) -> Revoked:
        """Say that none are: a file revokes no tokens."""
        return Revoked()
