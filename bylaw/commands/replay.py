"""`bylaw replay LOG…`: is a decision log whole, and would it be decided so again?

`log_chains` finds where a log is broken, and gives its lines. The question of each is asked again, at its instant, of
the policy and the facts given, and what comes out is held against what the line says. Where that differs, so does
something that the line names: the policy's digest, the revision of the facts, or both. If neither does, log and engine
contradict each other, and one of them is wrong.

Exit 0: all chains are whole, and all that was asked came out the same. 1: something is broken or differs. 2: it could
not run.
"""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bylaw.log_chains import BROKEN, Findings, Place, Verifier, files_of, positive
from bylaw.output import GREEN, RED, count, paint, print_json
from engine.errors import RequestError
from engine.policy import Facts, Policy
from engine.request import HttpRequest, Request

if TYPE_CHECKING:
    from sidecar.log_lines import Line


def run(args: argparse.Namespace) -> int:
    """Verify logs, and ask again what they hold."""
    if (args.policy is None) != (args.facts is None):
        raise RequestError("bad_request", "--policy and --facts go together: a decision needs both")
    files = [file for path in args.logs for file in files_of(Path(path))]
    asker = None
    if args.policy is not None:
        policy = Policy.load(args.policy)
        asker = Asker(policy, Facts.load(args.facts, policy))
    found = Findings(is_shown=not args.json)
    verifier = Verifier(found)
    for place, line in verifier.verify(files):
        if asker is not None:
            asker.ask(place, line, found)
    if args.json:
        print_json(_as_json(len(files), verifier, asker, found))
    else:
        print(_told(len(files), verifier, asker, found))
    return 1 if found.broken or (asker is not None and asker.different) else 0


# --- is it decided so again ---------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Outcome:
    """What was decided, as far as it is compared."""

    allowed: bool
    code: str
    by: str | None

    def __str__(self) -> str:
        return " ".join(filter(None, ("allow" if self.allowed else "deny", self.code, self.by and f"by {self.by}")))


class Asker:
    """Asks decisions again.

    Attributes:
        same, different: of those that were asked again.
        masked: whose question is masked. stale: that did not rest on facts, or on no decision.
        changes: what had changed where something is different.
        elsewhere: how many were made by another policy, and on another revision.
    """

    def __init__(self, policy: Policy, facts: Facts) -> None:
        self.policy = policy
        self.facts = facts
        self.same = self.different = self.masked = self.stale = 0
        self.changes: Counter[str] = Counter()
        self.elsewhere: Counter[str] = Counter()

    def ask(self, place: Place, line: Line, found: Findings) -> None:
        """Ask the question of a line again, if it has one."""
        from sidecar.log_lines import BrokenLineError, question_of

        said, context, masked = line.said, line.said.get("context"), line.said.get("masked", [])
        if "decision" not in said:
            return
        if not isinstance(context, dict) or not isinstance(masked, list):
            found.add(BROKEN, place, "there is no decision in it")
            return
        if any(str(path).split(".")[0] == "input" for path in masked):
            self.masked += 1
            return
        if _is_of_the_moment(context):
            self.stale += 1
            return
        try:
            now = self._decide(question_of(said))
        except BrokenLineError as error:
            found.add(BROKEN, place, f"it cannot be asked again: {error}")
            return
        context = {name: value for name, value in context.items() if f"context.{name}" not in masked}
        then = Outcome(said["decision"] is True, str(context.get("code")), context.get("by", now.by))
        changed = self._changed(context)
        self.elsewhere.update(changed)
        if then == now:
            self.same += 1
            return
        self.different += 1
        self.changes[_word(changed)] += 1
        found.add(
            "different", place, f"{context.get('id')}: {then} was logged, {now} now; {self._why(changed, context)}"
        )

    def _decide(self, question: Request | HttpRequest) -> Outcome:
        try:
            decision = self.policy.decide(question, self.facts)
        except RequestError as error:
            return Outcome(False, error.code, None)
        return Outcome(decision.allowed, decision.code, decision.by)

    def _changed(self, context: dict[str, Any]) -> list[str] | None:
        """List what was another then; None: the line does not say."""
        policy, revision = context.get("policy"), context.get("revision")
        if not policy:
            return None
        changed = ["policy"] if policy != self.policy.digest else []
        return [*changed, "revision"] if revision and revision != self.facts.revision else changed

    def _why(self, changed: list[str] | None, context: dict[str, Any]) -> str:
        if changed is None:
            return "the line does not name its policy and facts"
        words = {
            "policy": f"the policy was {_short(context.get('policy'))}, and is {_short(self.policy.digest)}",
            "revision": f"the facts were {_short(context.get('revision'))}, and are {_short(self.facts.revision)}",
        }
        if not changed:
            return "policy and facts are those that the line names: the log or this version of Bylaw is wrong"
        return "; ".join(words[each] for each in changed)


def _is_of_the_moment(context: dict[str, Any]) -> bool:
    """Say whether a decision rested on the state of the service, which is gone: stale facts, or a fault of its own."""
    error = context.get("error")
    return context.get("code") == "stale" or (isinstance(error, dict) and positive(error.get("status")) >= 500)


def _word(changed: list[str] | None) -> str:
    if changed is None:
        return "unknown"
    return "both" if len(changed) > 1 else changed[0] if changed else "neither"


def _short(name: object) -> str:
    text = str(name)
    return text if len(text) <= 20 else f"{text[:19]}…"


# --- what is told of it -------------------------------------------------------------------------------


def _as_json(files: int, verifier: Verifier, asker: Asker | None, found: Findings) -> dict[str, Any]:
    chains = verifier.chains.values()
    told: dict[str, Any] = {
        "files": files,
        "lines": verifier.lines,
        "chains": len(chains),
        "open": sum(not chain.is_closed for chain in chains),
        "cut_off": sum(chain.cut is not None for chain in chains),
        "dropped": sum(chain.dropped for chain in chains),
        "broken": found.broken,
    }
    if asker is not None:
        told |= {
            "policy": asker.policy.digest,
            "revision": asker.facts.revision,
            "same": asker.same,
            "different": asker.different,
            "changed": {word: asker.changes[word] for word in ("policy", "revision", "both", "neither", "unknown")},
            "of_another_policy": asker.elsewhere["policy"],
            "of_another_revision": asker.elsewhere["revision"],
            "masked": asker.masked,
            "stale": asker.stale,
        }
    return told | {"findings": found.kept, "more_findings": found.more}


def _told(files: int, verifier: Verifier, asker: Asker | None, found: Findings) -> str:
    said = _as_json(files, verifier, asker, found)
    lines = [f"… and {count(found.more, 'more finding')}"] if found.more else []
    read = f"{count(files, 'file')}, {count(said['chains'], 'chain')}, {count(said['lines'], 'line')}"
    is_whole = paint("whole", GREEN) if not found.broken else paint(f"broken in {count(found.broken, 'place')}", RED)
    lines.append(f"{read}: {is_whole}")
    notes = (
        ("open", "chain", "not closed: its process runs, was killed, or the end was taken away"),
        ("cut_off", "chain", "cut off in the last line, as by a crash"),
        ("dropped", "decision", "not in the log: dropped, for want of room"),
    )
    lines += [f"{count(said[name], what)} {note}" for name, what, note in notes if said[name]]
    if asker is not None:
        lines += _told_of_decisions(asker)
    return "\n".join(lines)


def _told_of_decisions(asker: Asker) -> list[str]:
    asked = asker.same + asker.different
    is_same = paint("all as logged", GREEN) if not asker.different else paint(f"{asker.different} different", RED)
    lines = [f"{count(asked, 'decision')} asked again: {is_same}"]
    reasons = (("policy", "by another policy"), ("revision", "on another revision of the facts"))
    lines += [f"{asker.elsewhere[name]} of them made {how}" for name, how in reasons if asker.elsewhere[name]]
    if asker.masked:
        lines.append(f"{count(asker.masked, 'decision')} not asked again: the question is masked")
    if asker.stale:
        lines.append(f"{count(asker.stale, 'decision')} not asked again: stale, or a fault of the service")
    return lines
