"""Trees, cut to what fits an answer: groups in groups, resources in resources.

Level by level it is asked what lies below, once for each thing, so that the number of statements grows with the depth
and not with the number of things. What lies in several (a group) is shown in each, and counted each time: a few groups
that lie in each other every way would unfold to more than anybody reads. A thing of which there may be
more than is shown says so.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from pydantic import Field

from admin.wire import Shape

#: So many things a page of trees has below its own.
MAX_NODES: Final = 1000
MAX_DEPTH: Final = 32
DEFAULT_DEPTH: Final = 3

K = TypeVar("K", str, tuple[str, str])
#: Says what lies in things: pairs of outer and inner in the order of both, and of all of these so many at most.
Below = Callable[[Sequence[K], int], Awaitable[Sequence[tuple[K, K]]]]


class Node(Shape):
    """A thing, and what lies in it."""

    id: str
    inner: list[Node]
    more: bool = Field(description="there may be more in it than is shown: ask for what lies in it")


@dataclass(slots=True)
class Branch(Generic[K]):
    """A thing in a tree while that grows."""

    key: K
    level: int = 0
    inner: list[Branch[K]] = field(default_factory=list)
    more: bool = False


async def grow(roots: Sequence[K], below: Below[K], *, depth: int, bound: int = MAX_NODES) -> list[Branch[K]]:
    """Grow a tree from each of these things.

    Args:
        depth: so many levels are shown below them.
        bound: so many things are shown below them, all trees together.
    """
    inner, is_cut = await _gather(roots, below, depth, bound)
    grown = [Branch(root) for root in roots]
    ahead = deque(grown)
    while ahead:
        branch = ahead.popleft()
        found = inner.get(branch.key, ())
        shown = found[:bound] if branch.level < depth else ()
        bound -= len(shown)
        branch.more = branch.key in is_cut or len(shown) < len(found)
        branch.inner = [Branch(key, branch.level + 1) for key in shown]
        ahead.extend(branch.inner)
    return grown


async def _gather(roots: Sequence[K], below: Below[K], depth: int, left: int) -> tuple[dict[K, list[K]], set[K]]:
    """Load what lies in what, one level further than is shown; name the things of which not all was loaded."""
    inner: dict[K, list[K]] = {}
    is_cut: set[K] = set()
    level = set(roots)
    for _ in range(depth + 1):
        asked = sorted(level - inner.keys())
        if not asked:
            break
        pairs = await below(asked, left + 1)
        inner |= {key: [] for key in asked}
        if len(pairs) > left:
            is_cut |= {key for key in asked if key >= pairs[left][0]}
        for outer, key in pairs[:left]:
            inner[outer].append(key)
        left -= len(pairs[:left])
        level = {key for _, key in pairs}
    return inner, is_cut


def shown_as(branch: Branch[K], write: Callable[[K], str]) -> Node:
    """Show a tree."""
    return Node(id=write(branch.key), inner=[shown_as(each, write) for each in branch.inner], more=branch.more)
