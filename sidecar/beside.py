"""Another service in the same process, which starts once this one listens and stops with it.

`bylaw dev` has administration beside decisions. What it is this house does not know: it shares the policy that runs,
and a place in the greeting. Of several processes it runs in the supervisor, which has no policy to share.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from sidecar.policies import Policies


class Beside(Protocol):
    """A service beside this one. `start`, then `stop`, also where it did not start; each once."""

    async def start(self, policies: Policies | None) -> None:
        """Start.

        Args:
            policies: what this service has loaded and watches; None: there is none here.

        Raises:
            BylawError: it cannot start, and somebody wanted it to.
        """

    async def stop(self) -> None: ...

    @property
    def members(self) -> Mapping[str, str]:
        """What it adds to a greeting for machines."""

    @property
    def text(self) -> str:
        """What it adds to a greeting for people; empty: nothing."""


def with_beside(greeting: str, beside: Beside | None, *, as_json: bool) -> str:
    """Add to a greeting what a service beside says."""
    if beside is None:
        return greeting
    if as_json:
        return json.dumps(json.loads(greeting) | beside.members)
    return f"{greeting}\n{beside.text}" if beside.text else greeting
