"""The policy that decides and its facts: loaded at start, replaced whole when the disk changes, or the store.

`poll` looks at the disk once and is called every half second; it never sleeps itself, so a test drives it with a clock
of its own. What it finds is taken once it has stood still for half a second: a directory that is being copied is not a
policy yet. What cannot be taken is reported, once, and the old one stays. All disk work and compiling runs in a thread.

What is published in the store takes the place of what lies on disk, for as long as it is published. It is taken by
revisions of stream p: `prepare` loads what decides at one, and gives the step that makes it decide, for whoever follows
the store to take in the same moment in which that revision begins to count. What cannot be taken is reported there,
too, and the old one stays; `at` then lags behind, so that nobody takes the old one for what was published. It is asked
for again as long as that is so, and tried again where it may come out otherwise: when the directory to which is to be
gone back has changed, or somebody says to look again. The directory is looked at all the time, so that it is known
whether it stands still when it is to decide again.

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
from store.streams import NOWHERE, Position

SETTLE_S = 0.5
#: Reading a published policy that takes longer is given up, to be begun anew.
READ_S = 2.0

_log = logging.getLogger("bylaw.policies")


#: Refuses, by a `BylawError`, a policy that must not decide on the facts that there are.
Accept = Callable[[Policy], Awaitable[None]]
#: Makes what was prepared decide.
Swap = Callable[[], None]


class Stored(Protocol):
    """A policy of the store."""

    @property
    def sources(self) -> tuple[Source, ...]: ...
    @property
    def lock(self) -> bytes | None: ...


class Published(Protocol):
    """Where published policies are read, as `store.published.Published` does."""

    async def newest(self) -> Position: ...
    async def decides(self, at: Position) -> str | None: ...
    async def read(self, identity: str) -> Stored | None: ...


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
        self.at = NOWHERE
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
        self._taking: asyncio.Task[None] | None = None

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
        reading = await asyncio.to_thread(self._disk.read)
        if self._is_published:
            self._stands_still(reading)
        elif self._loaded is not None and reading.digest == self._loaded.reading:
            self._rest()
        elif self._stands_still(reading) and reading.digest != self._refused:
            await self._take(reading)

    def _stands_still(self, reading: Reading) -> bool:
        """Note what lies there, and say whether it has for long enough."""
        now = self._clock()
        if self._candidate is None or self._candidate.digest != reading.digest:
            self._candidate, self._since = reading, now
            return False
        return now - self._since >= self._settle_s

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
        except Exception as error:
            if self._is_published:
                return  # something was published meanwhile
            if isinstance(error, UnavailableError):
                self.problem = error  # nothing is wrong with what lies there: it is tried again
            else:
                self._refuse(reading, _as_problem(error), "what lies on disk")
        else:
            if not self._is_published:  # the same
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

    async def prepare(self, at: Position) -> Swap | None:
        """Load what decides at a revision of stream p; return the step that makes it decide. None: it cannot be taken,
        and why is said, once.

        Raises:
            StoreError, TimeoutError: the store does not answer.
        """
        wanted = await self._wanted(at)
        if wanted == self.origin and self._is_published == (wanted is not None):
            return lambda: self._stand(at)
        if wanted is None:
            return await self._prepare(await asyncio.to_thread(self._disk.read), None, at)
        return await self._prepare(Reading(f"published {wanted}"), wanted, at)

    async def _wanted(self, at: Position) -> str | None:
        if self._published is None:
            return None
        async with asyncio.timeout(READ_S):
            return await self._published.decides(at)

    async def _prepare(self, reading: Reading, wanted: str | None, at: Position) -> Swap | None:
        """Load a policy that is to decide, unless it is the one that was refused, or may be half a directory."""
        if reading.digest == self._refused or (wanted is None and not self._stands_still(reading)):
            return None
        try:
            if wanted is not None and self._published is not None:
                reading = await _read(self._published, wanted, reading.digest)
            loaded = await self._load(reading)
        except (UnavailableError, TimeoutError):
            raise
        except Exception as error:
            self._is_published = self._is_published or wanted is not None
            self._refuse(reading, _as_problem(error), "what lies on disk" if wanted is None else "what is published")
            return None
        return lambda: self._replace(loaded, wanted, at)

    async def _load(self, reading: Reading) -> Loaded:
        loaded = await asyncio.to_thread(load, reading, self._disk.facts, self._loaded, self._bind, self._policy_keys)
        await self._accept(loaded.policy)
        return loaded

    def _stand(self, at: Position) -> None:
        """Note that what decides is what is to decide; also where another was published meanwhile, and refused."""
        if self._is_published:
            self._refused = self.problem = None
        self.at = at

    def _replace(self, loaded: Loaded, wanted: str | None, at: Position) -> None:
        self._is_published = wanted is not None
        self.origin, self.at = wanted, at
        self._use(loaded)

    async def catch_up(self) -> None:
        """Take what is published by now. Where it cannot be taken, `at` stays behind.

        Raises:
            StoreError, TimeoutError: the store does not answer.
        """
        if self._follow is not None:
            await self._follow()
        elif self._published is not None:
            async with self._catching_up:
                if self._taking is not None:
                    await asyncio.wait([self._taking])
                at = await self._published.newest()
                if at != self.at:
                    # Whoever waits may be gone sooner, and the next would begin anew.
                    self._taking = asyncio.create_task(self._take_published(at))
                    self._taking.add_done_callback(lambda done: done.cancelled() or done.exception())
                    await asyncio.shield(self._taking)

    async def _take_published(self, at: Position) -> None:
        swap = await self.prepare(at)
        if swap is not None:
            swap()

    async def judge(self, sources: tuple[Source, ...], lock: bytes | None) -> Policy:
        """Hold a policy that is to be published to all that is asked of one that decides here.

        Raises:
            BylawError: it must not follow the one that decides.
        """
        reading = Reading("to be published", sources, lock=lock)
        return (await self._load(reading)).policy

    async def judge_directory(self) -> Policy:
        """Hold what lies on disk to the same, if nothing is to be published any more.

        Raises:
            BylawError: as above.
        """
        return (await self._load(await asyncio.to_thread(self._disk.read))).policy


async def _read(published: Published, identity: str, digest: str) -> Reading:
    """Read a policy out of the store."""
    async with asyncio.timeout(READ_S):
        stored = await published.read(identity)
    if stored is None:
        raise BylawError("unknown_policy", f"there is no policy `{identity}`")
    return Reading(digest, stored.sources, lock=stored.lock)


def _as_problem(error: Exception) -> BylawError:
    """Say what is wrong; of what should not have happened, the log does."""
    if isinstance(error, BylawError):
        return error
    _log.error("the policy could not be loaded", exc_info=error)
    return BylawError("internal", "the policy could not be loaded; the log says more")


def _told(loaded: Loaded, before: Loaded | None, origin: str | None) -> str:
    """Tell a person what was loaded."""
    published = "" if origin is None else f", published as {origin}"
    facts = f", facts {loaded.facts.revision}" if loaded.facts.revision else ""
    text = f"loaded policy {loaded.policy.digest}{published}{facts}"
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
