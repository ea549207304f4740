"""In which order things go into the store, and in which transactions.

The order is such that nobody may do meanwhile what he may neither before nor after. What takes away goes first
(suspensions), then what denials may rest on (attributes, statuses, groups, roles' lines), then what gives: roles in
tenants, on the system, over links; then memberships, and who or what is no longer suspended. A tenant that is new is
suspended until all its rows are there, whatever their order. (Only where a tenant in use changes by more rows than one
transaction has, and a denial of it rests on a role, or an allow on an attribute, can the order be the wrong one.)

Every batch is one transaction. Cut off between two, the file is seeded again, and what is there already is no work.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from itertools import chain
from typing import Final

from store.seeding.kinds import (
    ASSIGNMENTS,
    CUSTOM_ROLES,
    GROUPS,
    IMPLIED_MEMBERSHIPS,
    LINKS,
    MEMBERS,
    MEMBERSHIPS,
    NESTINGS,
    PART,
    PLATFORM_GROUPS,
    PLATFORM_MEMBERS,
    PLATFORM_NESTINGS,
    PRINCIPALS,
    PROFILES,
    RESOURCES,
    SYSTEM_ASSIGNMENTS,
    TENANTS,
    Key,
    Kind,
    Row,
    Rows,
)
from store.seeding.rows import SHARED


@dataclass(frozen=True, slots=True)
class Item:
    """A thing to write. `before`: the rows that it has; None: it is new."""

    kind: Kind
    key: Key
    rows: Rows
    before: Rows | None


@dataclass(frozen=True, slots=True)
class Batch:
    """What one transaction writes.

    Attributes:
        tenant: whose rows; "": what all tenants share.
        begins: the tenant is not there yet, and is made by this batch.
        is_shared: it writes what all tenants share, too.
        others: tenants that it concerns.
    """

    tenant: str
    items: tuple[Item, ...]
    begins: bool = False
    is_shared: bool = False
    others: frozenset[str] = frozenset()

    @property
    def size(self) -> int:
        """How many rows it has."""
        return sum(len(item.rows) for item in self.items)


Items = Mapping[str, list[Item]]

_SHARED_ORDER: Final = (PRINCIPALS, PLATFORM_GROUPS, PLATFORM_NESTINGS, PLATFORM_MEMBERS)
_MEMBERSHIPS: Final = (MEMBERSHIPS, IMPLIED_MEMBERSHIPS)
_OWNED_ORDER: Final = (PROFILES, *_MEMBERSHIPS, CUSTOM_ROLES, GROUPS, RESOURCES, NESTINGS, MEMBERS, ASSIGNMENTS)
_CLOSED: Final[Rows] = (("suspended",),)
#: Of two, the earlier lets its holder do less.
_STATUSES: Final = ("suspended", "guest", "active")


def in_batches(items: Items, new: Collection[str]) -> list[Batch]:
    """Put things in order, and split them into transactions.

    Args:
        items: by tenant; "" what all share.
        new: tenants that are not there yet.
    """
    shared = items[SHARED]
    early, late = _shared_portions(shared)
    made = {item.key[0]: item for item in shared if item.kind is TENANTS and item.before is None}
    owned = {tenant: _owned_portions(theirs, made.get(tenant)) for tenant, theirs in items.items() if tenant != SHARED}
    return [
        *_batches(SHARED, early),
        *chain.from_iterable(
            _tenant_batches(tenant, first, begins=tenant in new) for tenant, (first, _) in owned.items()
        ),
        *_batches(SHARED, [item for item in shared if item.kind is SYSTEM_ASSIGNMENTS]),
        *_link_batches([item for item in shared if item.kind is LINKS]),
        *chain.from_iterable(_batches(tenant, last) for tenant, (_, last) in owned.items()),
        *_batches(SHARED, late),
    ]


def _shared_portions(items: list[Item]) -> tuple[list[Item], list[Item]]:
    """Part what goes first, suspensions before all else, from what goes last: who and what is let in, or again."""
    first: list[Item] = []
    early: list[Item] = []
    late: list[Item] = []
    for item in items:
        is_let_in = item.kind in (TENANTS, PRINCIPALS) and item.rows[0][0] == "active"
        if item.kind is TENANTS and item.before is None:
            late += [replace(item, before=_CLOSED)] if is_let_in else []  # by then it is there
        elif item.kind in (TENANTS, PRINCIPALS) and item.before is not None and item.before[0][0] != item.rows[0][0]:
            (late if is_let_in else first).append(item)
        elif item.kind in _SHARED_ORDER:
            early.append(item)
    return first + sorted(early, key=lambda item: _SHARED_ORDER.index(item.kind)), late


def _owned_portions(items: list[Item], made: Item | None) -> tuple[list[Item], list[Item]]:
    """Part what one tenant owns from memberships that give something, for which it is time when all else is there.

    A new tenant is closed until then: its memberships need no care, and no transaction of their own.

    Args:
        made: the tenant itself, if it is new.
    """
    if made is not None:
        closed = replace(made, rows=_CLOSED) if made.rows[0][0] == "active" else made
        return [closed, *_in_order(items)], []
    parted = [_parted(item) for item in items]
    return _in_order(chain.from_iterable(early for early, _ in parted)), [item for _, late in parted for item in late]


def _in_order(items: Iterable[Item]) -> list[Item]:
    """Sort what a tenant owns; of roles, those that are held already and change come before new ones."""
    return sorted(items, key=lambda item: (_OWNED_ORDER.index(item.kind), item.kind is ASSIGNMENTS and not item.before))


def _parted(item: Item) -> tuple[list[Item], list[Item]]:
    """Part a membership into what it takes away, which goes early, and what it gives."""
    if item.kind not in _MEMBERSHIPS:
        return [item], []
    if item.before is None:
        return ([item], []) if item.rows[0][0] == "suspended" else ([], [item])
    less: Rows = (_less(item.before[0], item.rows[0]),)
    early = [replace(item, rows=less)] if less != item.before else []
    return early, [replace(item, before=less)] if less != item.rows else []


def _less(one: Row, other: Row) -> Row:
    """Make a membership of what two of them have in common."""
    status = min(str(one[0]), str(other[0]), key=_STATUSES.index)
    ends = [end for end in (one[2], other[2]) if end is not None]
    return status, max(str(one[1]), str(other[1])), min(ends, default=None)


def _tenant_batches(tenant: str, items: list[Item], *, begins: bool) -> Iterator[Batch]:
    """Split what one tenant owns; the first batch begins the tenant if it is not there."""
    for batch in _batches(tenant, items):
        yield replace(batch, begins=begins)
        begins = False


def _link_batches(items: list[Item]) -> Iterator[Batch]:
    """Write links from their home, where their holders' memberships are seen; those that give way first."""
    homes: defaultdict[str, list[Item]] = defaultdict(list)
    for item in sorted(items, key=lambda item: item.before is None):
        homes[item.key[2]].append(item)
    for home, theirs in homes.items():
        for batch in _batches(home, theirs):
            others = frozenset(item.key[3] for item in batch.items)
            yield Batch(home, batch.items, is_shared=True, others=others)


def _batches(tenant: str, items: Iterable[Item]) -> Iterator[Batch]:
    """Split what is in order into batches of a bounded number of rows."""
    part: list[Item] = []
    size = 0
    for item in items:
        if part and size + len(item.rows) > PART:
            yield Batch(tenant, tuple(part))
            part, size = [], 0
        part.append(item)
        size += len(item.rows)
    if part:
        yield Batch(tenant, tuple(part))
