"""The policy that decides and its facts: loaded at start, replaced whole when the disk changes.

`poll` looks at the disk once and is called every half second; it never sleeps itself, so a test drives it with a clock
of its own. What it finds is taken once it has stood still for half a second: a directory that is being copied is not a
policy yet. What cannot be taken is reported, once, and the old one stays. All disk work and compiling runs in a thread.

Of bundles the version that runs is remembered, and a lower one refused, as long as the process lives: it has no disk of
its own. After a restart any version loads that is signed as it must be.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

from engine import BylawError, diagnostics
from engine.bundle import LOCK_NAME
from engine.policy import Policy
from sidecar.readings import Bind, ChangedError, Disk, Loaded, PublicKeys, Reading, load
from store.errors import UnavailableError

SETTLE_S = 0.5

_log = logging.getLogger("bylaw.policies")


#: Refuses, by a `BylawError`, a policy that must not decide on the facts that there are.
Accept = Callable[[Policy], Awaitable[None]]


async def accept_any(_: Policy) -> None:
    """Let every policy decide."""


class Policies:
    """Holds what is loaded, and replaces it.

    Args:
        policy_key: public keys, as `store.signatures.parse_public_keys` reads them: only bundles that one of them
            signed load; None: nobody need have signed.

    Attributes:
        problem: why what lies on disk is not what is loaded; None if it is.
        loads, refusals: how often something was loaded, or refused.

    Raises:
        BylawError: the policy key is none.
    """

    def __init__(
        self,
        policies: Path,
        facts: Path | None,
        *,
        report: Callable[[str], None],
        bind: Bind | None = None,
        accept: Accept = accept_any,
        clock: Callable[[], float] = time.monotonic,
        settle_s: float = SETTLE_S,
        policy_key: bytes | str | None = None,
    ) -> None:
        self.problem: BylawError | None = None
        self.loads = self.refusals = 0
        self._disk = Disk(policies, facts, clock=clock)
        self._policy_keys = None if policy_key is None else _parse_keys(policy_key)
        self._bind = bind
        self._accept = accept
        self._report = report
        self._clock = clock
        self._settle_s = settle_s
        self._loaded: Loaded | None = None
        self._candidate: Reading | None = None
        self._since = 0.0
        self._refused: str | None = None

    @property
    def is_loaded(self) -> bool:
        return self._loaded is not None

    @property
    def loaded(self) -> Loaded:
        """What decides now. Read it once per request: the next reading may find another."""
        if self._loaded is None:
            raise RuntimeError("nothing is loaded yet")
        return self._loaded

    async def start(self) -> None:
        """Load for the first time.

        Raises:
            BylawError: what lies there is broken.
        """
        await self.poll()
        while self._loaded is None:
            await asyncio.sleep(self._settle_s)
            await self.poll()
            if self.problem is not None:
                raise self.problem

    async def watch(self, wake: asyncio.Event) -> None:
        """Poll for ever; at once when woken, and then as if nothing had been read before."""
        while True:
            try:
                async with asyncio.timeout(self._settle_s):
                    await wake.wait()
            except TimeoutError:
                pass
            else:
                wake.clear()
                self.look_again()
            await self.poll()

    def look_again(self) -> None:
        """Forget what was refused and what the stamps said: the next polls read everything anew."""
        self._refused = self._candidate = None
        self._disk.forget()

    async def poll(self) -> None:
        """Look at the disk once, and take what has stood still there."""
        reading = await asyncio.to_thread(self._disk.read)
        now = self._clock()
        if self._loaded is not None and reading.digest == self._loaded.reading:
            self._rest()
        elif self._candidate is None or self._candidate.digest != reading.digest:
            self._candidate, self._since = reading, now
        elif now - self._since >= self._settle_s and reading.digest != self._refused:
            await self._take(reading)

    def _rest(self) -> None:
        """Note that what lies there is what is loaded."""
        self._candidate = self._refused = None
        if self.problem is not None:
            self.problem = None
            self._report("the policy on disk is again the one that runs")

    async def _take(self, reading: Reading) -> None:
        """Load a reading and let it decide from now on, or say why not."""
        try:
            loaded = await asyncio.to_thread(
                load, reading, self._disk.facts, self._loaded, self._bind, self._policy_keys
            )
            await self._accept(loaded.policy)
        except ChangedError:
            self._candidate = None
        except UnavailableError as error:
            self.problem = error  # nothing is wrong with what lies there: it is tried again
        except BylawError as error:
            self._refuse(reading, error)
        except Exception:
            _log.exception("the policy could not be loaded")
            self._refuse(reading, BylawError("internal", "the policy could not be loaded; the log says more"))
        else:
            before = self._loaded
            self.loads += 1
            self._loaded, self._candidate, self._refused, self.problem = loaded, None, None, None
            if before is not None:
                self._report(_told(loaded, before))

    def _refuse(self, reading: Reading, error: BylawError) -> None:
        self._refused, self.problem = reading.digest, error
        self.refusals += 1
        if self._loaded is not None:
            self._report(
                f"what lies on disk is not loaded, what was loaded before goes on deciding:\n{describe(error)}"
            )


def _told(loaded: Loaded, before: Loaded) -> str:
    """Tell a person what was loaded."""
    text = f"loaded policy {loaded.policy.digest}, facts {loaded.facts.revision}"
    if loaded.lock is not None:
        return f"{text}, version {loaded.lock.version}{' (rollback)' if loaded.lock.rollback else ''}"
    if before.lock is not None:
        return f"{text}; {LOCK_NAME} is gone: from now on whatever lies in the directory loads"
    return text


def _parse_keys(text: bytes | str) -> PublicKeys:
    from store.signatures import parse_public_keys  # 10 MiB, which only who has keys needs

    return parse_public_keys(text)


def describe(error: BylawError) -> str:
    """Tell a person what is wrong: every error with its place, or the sentence."""
    found = diagnostics.errors(error.diagnostics)
    return diagnostics.render(found) if found else error.message
