"""The policy that decides and its facts: loaded at start, replaced whole when the disk changes, or the store.

`poll` looks at the disk once and is called every half second; it never sleeps itself, so a test drives it with a clock
of its own. What it finds is taken once it has stood still for half a second: a directory that is being copied is not a
policy yet. What cannot be taken is reported, once, and the old one stays. All disk work and compiling runs in a thread.

What is published in the store takes the place of what lies on disk, for as long as it is published. It is taken by
revisions of stream p: `prepare` loads what decides at one, and gives the step that makes it decide, for whoever follows
the store to take in the same moment in which that revision begins to count. What cannot be taken is reported there,
too, and the old one stays; `at` then lags behind, so that nobody takes the old one for what was published.

Of bundles the version that runs is remembered, and a lower one refused, as long as the process lives: it has no disk of
its own. After a restart any version loads that is signed as it must be.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Protocol

from engine import BylawError, PolicyError, diagnostics
from engine.bundle import LOCK_NAME
from engine.policy import Policy
from engine.source import Source
from sidecar.readings import Bind, ChangedError, Disk, Loaded, PublicKeys, Reading, load
from store.errors import UnavailableError

SETTLE_S = 0.5
#: Reading a published policy that takes longer is given up, to be begun anew.
READ_S = 2.0

_log = logging.getLogger("bylaw.policies")


#: Refuses, by a `BylawError`, a policy that must not decide on the facts that there are.
Accept = Callable[[Policy], Awaitable[None]]
#: Makes what was prepared decide; says whether it does now.
Swap = Callable[[], bool]


class Stored(Protocol):
    """A policy of the store."""

    @property
    def id(self) -> str: ...
    @property
    def sources(self) -> tuple[Source, ...]: ...
    @property
    def lock(self) -> bytes | None: ...


class Published(Protocol):
    """Where published policies are read, as `store.published.Published` does."""

    async def newest(self) -> int: ...
    async def read(self, n: int) -> Stored | None: ...


async def accept_any(_: Policy) -> None:
    """Let every policy decide."""


def accept_over(has_tenants: Callable[[], Awaitable[bool]]) -> Accept:
    """Refuse a policy that has no tenant where the store has tenants: it would know no wall."""

    async def accept(policy: Policy) -> None:
        if not policy.model.has_tenant and await has_tenants():
            raise PolicyError(
                "no_tenant", "the policy has no `tenant`, but the store has tenants: nothing would keep them apart"
            )

    return accept


class Policies:
    """Holds what is loaded, and replaces it.

    Args:
        policy_key: public keys, as `store.signatures.parse_public_keys` reads them: only bundles that one of them
            signed load; None: nobody need have signed.
        published: where policies are published; None: nowhere.
        follow: takes what is committed by now, of whoever follows the store; None: nobody does, so `catch_up` looks.

    Attributes:
        problem: why what lies on disk, or is published, is not what is loaded; None if it is.
        at: up to which revision of stream p what is loaded is what decides.
        origin: the id of the published policy that is loaded; None: it is the disk's.
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
        published: Published | None = None,
        follow: Callable[[], Awaitable[None]] | None = None,
    ) -> None:
        self.problem: BylawError | None = None
        self.at = 0
        self.origin: str | None = None
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
        self._published = published
        self._follow = follow
        self._is_published = False
        self._catching_up = asyncio.Lock()

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
        """Load for the first time, unless a published policy is loaded already.

        Raises:
            BylawError: what lies there, or is published, is broken.
        """
        if self._is_published and self._loaded is None and self.problem is not None:
            said = f"what is published in the store is not loaded:\n{describe(self.problem)}"
            raise BylawError(self.problem.code, said) from self.problem
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
        """Look at the disk once, and take what has stood still there, unless a published policy decides."""
        if self._is_published:
            return
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
            loaded = await self._load(reading)
        except ChangedError:
            self._candidate = None
        except UnavailableError as error:
            self.problem = error  # nothing is wrong with what lies there: it is tried again
        except Exception as error:
            self._refuse(reading, _as_problem(error), "what lies on disk")
        else:
            if not self._is_published:  # else something was published meanwhile
                self._use(loaded)

    def _use(self, loaded: Loaded) -> None:
        before = self._loaded
        self.loads += 1
        self._loaded, self._candidate, self._refused, self.problem = loaded, None, None, None
        if before is not None or self.origin is not None:
            self._report(_told(loaded, before, self.origin))

    def _refuse(self, reading: Reading, error: BylawError, what: str) -> None:
        self._refused, self.problem = reading.digest, error
        self.refusals += 1
        if self._loaded is not None:
            self._report(f"{what} is not loaded, what was loaded before goes on deciding:\n{describe(error)}")

    # --- what is published --------------------------------------------------------------------------

    async def prepare(self, n: int) -> Swap:
        """Load what decides at a revision of stream p; return the step that makes it decide.

        Raises:
            StoreError, TimeoutError: the store does not answer.
        """
        stored = None
        if self._published is not None:
            async with asyncio.timeout(READ_S):
                stored = await self._published.read(n)
        if stored is None and not self._is_published:
            return lambda: self._stand(n)  # the disk's decides, as before
        if stored is not None and stored.id == self.origin and self.problem is None:
            return lambda: self._stand(n)
        reading = await self._read(stored)
        try:
            loaded = await self._load(reading)
        except (UnavailableError, TimeoutError):
            raise
        except Exception as error:
            problem = _as_problem(error)
            return lambda: self._keep_old(reading, problem, is_published=stored is not None)
        return lambda: self._replace(loaded, stored, n)

    async def _read(self, stored: Stored | None) -> Reading:
        if stored is None:
            return await asyncio.to_thread(self._disk.read)
        return Reading(f"published {stored.id}", stored.sources, lock=stored.lock)

    async def _load(self, reading: Reading) -> Loaded:
        loaded = await asyncio.to_thread(load, reading, self._disk.facts, self._loaded, self._bind, self._policy_keys)
        await self._accept(loaded.policy)
        return loaded

    def _stand(self, n: int) -> bool:
        self.at = n
        return True

    def _replace(self, loaded: Loaded, stored: Stored | None, n: int) -> bool:
        self._is_published = stored is not None
        self.origin = None if stored is None else stored.id
        self._use(loaded)
        return self._stand(n)

    def _keep_old(self, reading: Reading, error: BylawError, *, is_published: bool) -> bool:
        self._is_published = self._is_published or is_published
        self._refuse(reading, error, "what is published" if is_published else "what lies on disk")
        return False

    async def catch_up(self) -> None:
        """Take what is published by now. Where it cannot be taken, `at` stays behind.

        Raises:
            StoreError, TimeoutError: the store does not answer.
        """
        if self._follow is not None:
            await self._follow()
        elif self._published is not None:
            async with self._catching_up:
                n = await self._published.newest()
                if n != self.at:
                    (await self.prepare(n))()

    async def judge(self, sources: tuple[Source, ...], lock: bytes | None) -> Policy:
        """Hold a policy that is to be published to all that is asked of one that decides here.

        Raises:
            BylawError: it must not follow the one that decides.
        """
        reading = Reading("to be published", sources, lock=lock)
        return (await self._load(reading)).policy


def _as_problem(error: Exception) -> BylawError:
    """Say what is wrong; of what should not have happened, the log does."""
    if isinstance(error, BylawError):
        return error
    _log.error("the policy could not be loaded", exc_info=error)
    return BylawError("internal", "the policy could not be loaded; the log says more")


def _told(loaded: Loaded, before: Loaded | None, origin: str | None) -> str:
    """Tell a person what was loaded."""
    published = "" if origin is None else f", published as {origin}"
    text = f"loaded policy {loaded.policy.digest}{published}, facts {loaded.facts.revision}"
    if loaded.lock is not None:
        return f"{text}, version {loaded.lock.version}{' (rollback)' if loaded.lock.rollback else ''}"
    if before is not None and before.lock is not None and origin is None:
        return f"{text}; {LOCK_NAME} is gone: from now on whatever lies in the directory loads"
    return text


def _parse_keys(text: bytes | str) -> PublicKeys:
    from store.signatures import parse_public_keys  # 10 MiB, which only who has keys needs

    return parse_public_keys(text)


def describe(error: BylawError) -> str:
    """Tell a person what is wrong: every error with its place, or the sentence."""
    found = diagnostics.errors(error.diagnostics)
    return diagnostics.render(found) if found else error.message
