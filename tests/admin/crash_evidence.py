"""What clients were told while the service was killed, held against what is stored: nothing lost, nothing half there.

In: journals of clients, and a store that nobody writes to any more. Out: what contradicts what, in words. The tables
are read past the service, as a superuser.

The audit log says which writes were done; of a write that was cut off nobody else knows. So it is asked first whether
it fits the journals: what was acknowledged stands there once, at the revision of the answer, and what was cut off
stands there once or not at all. Then everything else must be what the writes that stand there make of nothing: rows,
changes, counters, answers that are kept. A row of a write without its audit row is seen by that, and an audit row
without its rows, too.
"""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal, NamedTuple

from sqlalchemy import select

from store.changes import KEEP_REVISIONS, PRUNE_EVERY
from store.database import Connection
from store.streams import GLOBAL
from store.tables import meta
from store.tokens import Token

#: Names of all that clients make begin so; the rest was there before.
MARK: Final = "c-"
Outcome = Literal["acknowledged", "unknown"]
#: A row, by its table and the columns that `_COLUMNS` names.
Row = tuple[object, ...]
_COLUMNS: Final[Mapping[str, tuple[str, ...]]] = {
    "principals": ("type", "id", "status"),
    "memberships": ("tenant_id", "type", "id", "status"),
    "assignments": ("tenant_id", "subject_type", "subject_id", "role", "place_type", "place_id"),
    "groups": ("tenant_id", "id", "deleted"),
    "group_members": ("tenant_id", "type", "id", "group_id"),
    "resources": ("tenant_id", "type", "id", "parent_id", "deleted"),
}


@dataclass(frozen=True, slots=True)
class Trace:
    """What one write leaves: where, what its audit row and its change say, and how it changes rows.

    Args:
        stream: the one that tells it.
        said: members of the audit entry that no other write of the kind has so.
        changed: a key in the log of changes; None: it changes nothing that decisions are made from.
        gone: of these all rows that begin so. made: is put there afterwards.
    """

    stream: str
    action: str
    said: Mapping[str, object]
    changed: str | None = None
    gone: tuple[Row, ...] = ()
    made: tuple[Row, ...] = ()


@dataclass(slots=True)
class Entry:
    """One request of a journal. `token`: the revision of the answer. `key`: its `Idempotency-Key`."""

    trace: Trace
    outcome: Outcome
    token: str | None = None
    key: str | None = None


class Audited(NamedTuple):
    """What an audit row tells, persons by their own names."""

    n: int
    action: str
    detail: Mapping[str, Any]


@dataclass
class Evidence:
    """What is stored.

    Args:
        heads: of each stream its last revision.
        audited: hashes of its audit rows. changed: head and keys of its changes.
        said: all that audit rows tell, by stream, action and each member.
        present: who has rows where, as the store notes it.
        torn: invitations whose tokens say otherwise.
        keys: statuses of answers that are kept, by idempotency key: None while the request is under way.
    """

    heads: Mapping[str, int]
    audited: Mapping[str, Mapping[int, str]]
    changed: Mapping[str, Mapping[int, tuple[str, list[str]]]]
    said: Mapping[tuple[str, ...], Sequence[Audited]]
    rows: Counter[Row]
    present: frozenset[Row]
    torn: Sequence[Row]
    keys: Mapping[str, int | None]


@dataclass
class Verdict:
    """What was found: contradictions, and how many cut-off writes were done, and how many not."""

    violations: list[str] = field(default_factory=list)
    done: int = 0
    undone: int = 0

    def want(self, is_so: bool, *why: object) -> None:
        if not is_so:
            self.violations.append(" ".join(map(str, why)))


async def judge(connection: Connection, journals: Sequence[Sequence[Entry]]) -> Verdict:
    """Hold journals against a store.

    Args:
        connection: in a snapshot, before which no row is hidden.
        journals: of each client, in the order in which it asked.
    """
    evidence = await _read(connection)
    verdict = Verdict()
    _judge_streams(verdict, evidence)
    rows: Counter[Row] = Counter()
    for journal in journals:
        rows += _rows_after([entry.trace for entry in journal if _was_done(verdict, evidence, entry)])
    for row in (rows - evidence.rows) + (evidence.rows - rows):
        verdict.want(False, "rows:", row, f"is there {evidence.rows[row]} times, and should be {rows[row]} times")
    _judge_presences(verdict, evidence)
    return verdict


# --- reading ------------------------------------------------------------------------------------------


async def _read(connection: Connection) -> Evidence:
    names = {row.pseudonym: row.ref for row in await _all(connection, "pseudonyms")}
    audited: dict[str, dict[int, str]] = defaultdict(dict)
    said: dict[tuple[str, ...], list[Audited]] = defaultdict(list)
    for table in ("audit_log", "platform_audit_log"):
        for row in await _all(connection, table):
            stream = row.stream if table.startswith("platform") else f"t:{row.tenant_id}"
            audited[stream][row.n] = row.hash
            for action, veiled in json.loads(row.entries):
                detail = _unveiled(veiled, names)
                for name, value in detail.items():
                    said[stream, action, name, _text(value)].append(Audited(row.n, action, detail))
    changed: dict[str, dict[int, tuple[str, list[str]]]] = defaultdict(dict)
    for row in await _all(connection, "changes"):
        changed[row.stream][row.n] = (row.head, json.loads(row.keys))
    heads = {row.stream: row.n for row in await _all(connection, "revisions")}
    keys = {row.key: row.status for row in await _all(connection, "idempotency_keys")}
    present = {(row.type, row.id, row.tenant_id) for row in await _all(connection, "presences")}
    its = frozenset(row for row in present if row[1].startswith(MARK))
    return Evidence(heads, audited, changed, said, await _rows(connection), its, await _torn(connection), keys)


async def _rows(connection: Connection) -> Counter[Row]:
    """Read the rows of what clients made: those that have a name of theirs."""
    found: Counter[Row] = Counter()
    for table, columns in _COLUMNS.items():
        for row in await _all(connection, table):
            values = tuple(getattr(row, column) for column in columns)
            if any(isinstance(value, str) and value.startswith(MARK) for value in values):
                found[table, *values] += 1
    for row in await _all(connection, "invitations"):
        found["invitations", row.tenant_id, json.loads(row.roles)[0]["on"], _state(row)] += 1
    return found


async def _torn(connection: Connection) -> list[Row]:
    """List invitations that are open and have no token, or are not and have one."""
    tokens = {row.digest for row in await _all(connection, "invitation_tokens")}
    listed = [(row.digest, row.id, _state(row)) for row in await _all(connection, "invitations")]
    wrong = [row for row in listed if (row[0] in tokens) != (row[2] == "open")]
    return [*wrong, *((digest,) for digest in tokens - {row[0] for row in listed})]


def _state(row: Any) -> str:
    return "accepted" if row.accepted_at else "withdrawn" if row.withdrawn_at else "open"


async def _all(connection: Connection, table: str) -> Sequence[Any]:
    return (await connection.execute(select(meta.tables[table]))).all()


def _unveiled(detail: Mapping[str, Any], names: Mapping[str, str]) -> dict[str, Any]:
    """Put persons in the place of their pseudonyms."""
    return {
        key: names.get(value.removeprefix("user:"), value) if isinstance(value, str) else value
        for key, value in detail.items()
    }


def _text(value: object) -> str:
    return json.dumps(value, sort_keys=True)


# --- judging ------------------------------------------------------------------------------------------


def _judge_streams(verdict: Verdict, evidence: Evidence) -> None:
    """Each revision has its audit row, and as far back as they are kept, its changes."""
    for stream, head in evidence.heads.items():
        rows, changes = evidence.audited.get(stream, {}), evidence.changed.get(stream, {})
        verdict.want(sorted(rows) == list(range(1, head + 1)), stream, "has gaps in its audit log, up to", head)
        first = min(changes, default=head + 1)
        verdict.want(sorted(changes) == list(range(first, head + 1)), stream, "has gaps in its log of changes")
        verdict.want(first <= max(1, head - KEEP_REVISIONS + PRUNE_EVERY), stream, "lost changes before", first)
        wrong = [n for n, (hash_, _) in changes.items() if rows.get(n) != hash_]
        verdict.want(not wrong, stream, "has changes that are not those of the audit log at", wrong[:5])
    verdict.want(evidence.audited.keys() <= evidence.heads.keys(), "an audit log has no stream")
    verdict.want(not evidence.torn, "tokens that do not fit their invitations:", evidence.torn[:5])


def _was_done(verdict: Verdict, evidence: Evidence, entry: Entry) -> bool:
    """Say whether a request was done, by the audit log; and whether that is what its client was told."""
    trace = entry.trace
    name, value = next(iter(trace.said.items()))
    found = [
        each
        for each in evidence.said.get((trace.stream, trace.action, name, _text(value)), ())
        if all(each.detail.get(name) == value for name, value in trace.said.items())
    ]
    is_done, named = bool(found), (trace.action, dict(trace.said), entry.outcome)
    verdict.want(len(found) <= 1, named, "was done", len(found), "times")
    if entry.outcome == "unknown":
        verdict.done, verdict.undone = verdict.done + is_done, verdict.undone + (not is_done)
    else:
        verdict.want(is_done, named, "is lost")
    if entry.token is not None and found:
        token = Token.parse(entry.token)
        n = token.g if trace.stream == GLOBAL else token.t
        verdict.want([each.n for each in found] == [n], named, "was told revision", n, "and has", found)
    if found and trace.changed is not None:
        kept = evidence.changed.get(trace.stream, {}).get(found[0].n)
        verdict.want(kept is None or trace.changed in kept[1], named, "is not among the changes:", kept)
    if entry.key is not None:
        verdict.want((evidence.keys.get(entry.key) is not None) == is_done, named, "and its key say otherwise")
    return is_done


def _rows_after(traces: Sequence[Trace]) -> Counter[Row]:
    """Say which rows writes make, one after the other."""
    rows: set[Row] = set()
    for trace in traces:
        rows = {row for row in rows if not any(row[: len(gone)] == gone for gone in trace.gone)} | {*trace.made}
    return Counter(rows)


def _judge_presences(verdict: Verdict, evidence: Evidence) -> None:
    """A principal is present in a tenant exactly if something of it is his."""
    verdict.want(evidence.present == set(_present(evidence.rows)), "presences are not those of the rows")


def _present(rows: Counter[Row]) -> Iterator[Row]:
    for table, tenant, *rest in rows:
        if table in ("memberships", "assignments", "group_members") and rest[0] == "user":
            yield rest[0], rest[1], tenant
