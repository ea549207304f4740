"""Groups in groups, what a file says and what is there taken together: no cycle, not too deep, not too many.

Pure: edges in, problems out. The bounds are those of `store.writes.grouping`, where one nesting is added at a time.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator, Mapping

from store.writes.grouping import MAX_DEPTH, MAX_GROUPS

#: Which groups a group is in, itself not counted.
Edges = Mapping[str, set[str]]
#: The code of a refusal, the group, and the sentence.
Fault = tuple[str, str, str]


def nesting_faults(edges: Edges) -> list[Fault]:
    """List what is wrong with how groups lie in each other."""
    order = _innermost_first(edges)
    tangled = sorted(edges.keys() - set(order))
    if tangled:
        return [("cycle", tangled[0], "the group lies in itself, by what is nested in the store already")]
    deep = _deeper(edges, order)
    if deep is not None:
        return [("too_deep", deep, f"groups nest at most {MAX_DEPTH} deep")]
    return [
        ("too_many", name, f"a group is part of at most {MAX_GROUPS} others")
        for name in edges
        if len(around(edges, [name])) > MAX_GROUPS
    ]


def around(edges: Edges, groups: Iterable[str]) -> set[str]:
    """Collect groups and those that they are in, as many as show that they are too many."""
    found = set(groups)
    pending = list(found)
    while pending and len(found) <= MAX_GROUPS:
        fresh = edges.get(pending.pop(), set()) - found
        found |= fresh
        pending += fresh
    return found


def _innermost_first(edges: Edges) -> list[str]:
    """Sort groups so that each comes before those that it is in; those that lie in themselves are left out."""
    inside = dict.fromkeys(edges, 0) | dict.fromkeys(_outer(edges), 0)
    for outer in _outer(edges):
        inside[outer] += 1
    ready = deque(name for name, count in inside.items() if not count)
    found: list[str] = []
    while ready:
        found.append(name := ready.popleft())
        for outer in edges.get(name, ()):
            inside[outer] -= 1
            if not inside[outer]:
                ready.append(outer)
    return found


def _outer(edges: Edges) -> Iterator[str]:
    for names in edges.values():
        yield from names


def _deeper(edges: Edges, order: list[str]) -> str | None:
    """Find a group that has too many others one in the other in it, itself counted."""
    depths = dict.fromkeys(order, 1)
    for name in order:
        for outer in edges.get(name, ()):
            depths[outer] = max(depths[outer], depths[name] + 1)
    return next((name for name in order if depths[name] > MAX_DEPTH), None)
