"""The sidecar's part that Envoy asks, as a process of its own: both variants, over the example gateway.

    python -m tests.sidecar.envoy.service KEYS DECISIONS

It prints its two ports, then waits for words on its standard input, one a line, and says each back once it is so:

    well      decide as usual
    throws    raise something that nobody expects
    slow      wait for facts that never come
    stale     have no facts that are fresh

Each decision becomes a line in the file DECISIONS: its id, and method and path as they were decided on.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final, TypeVar

import uvloop
from aiohttp import web

from engine import HttpRequest
from sidecar.addresses import Address, bind, shown
from sidecar.answering import Outcome
from sidecar.callers import PLAIN_SCOPES, Caller, LoopbackCallers
from sidecar.decider import Asked, Decider, FileDecider
from sidecar.decision_id import DecisionIds
from sidecar.envoy import EnvoyCheck
from sidecar.exchange import Call
from sidecar.freshness import StaleError
from sidecar.gate import Gate
from sidecar.handlers import envoy_http
from sidecar.handlers.envoy_grpc import make_server
from sidecar.identity import TokenRules
from sidecar.jwks import Keys
from sidecar.policies import Policies
from sidecar.readings import Loaded
from sidecar.tellings import Tellings
from sidecar.tokens import Verifier
from sidecar.traffic import Traffic

GATEWAY: Final = Path(__file__).parents[3] / "policies" / "gateway"
RULES: Final = TokenRules("https://id.example", "api", roles_claim="roles", service_claim="client")
ANY_PORT: Final = Address("127.0.0.1", 0)
T = TypeVar("T")


class Moody:
    """A decider that is not always well."""

    def __init__(self, decider: Decider) -> None:
        self.mood = "well"
        self._decider = decider

    def at_once(self, attempt: Callable[[Loaded], T]) -> T | None:
        if self.mood == "throws":
            raise RuntimeError("postgresql://bylaw:secret@db is gone")
        return self._decider.at_once(attempt) if self.mood == "well" else None

    async def answer(self, attempt: Callable[[Loaded], T], asked: Sequence[Asked], at_least: str | None) -> T:
        if self.mood == "stale":
            raise StaleError
        if self.mood == "slow":
            await asyncio.Event().wait()
        return await self._decider.answer(attempt, asked, at_least)


class Recorded(Tellings):
    """Writes down what was decided on."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self._path = path

    @property
    def is_logging(self) -> bool:
        return True

    def note(self, outcomes: Iterable[Outcome], call: Call, caller: Caller) -> None:
        super().note(outcomes, call, caller)
        with self._path.open("a", encoding="ascii") as file:
            for question, _, text in outcomes:
                assert isinstance(question, HttpRequest)
                said = {"id": json.loads(text)["context"]["id"], "method": question.method, "path": question.path}
                print(json.dumps(said), file=file)


async def serve(keys_file: str, decisions: Path) -> None:
    """Serve until the standard input ends."""
    policies = Policies(GATEWAY, GATEWAY / "facts.yaml", report=print)
    await policies.start()
    keys = Keys(keys_file, clock=time.monotonic)
    await keys.start()
    decider = Moody(FileDecider(lambda: policies.loaded))
    gate = Gate(LoopbackCallers({"localhost"}, PLAIN_SCOPES), Traffic(), Recorded(decisions))
    check = EnvoyCheck(gate, decider, policies, DecisionIds(), Verifier(RULES, keys, clock=time.time))

    grpc, doors = make_server(check), bind(ANY_PORT)
    await grpc.listen(doors)
    runner = web.AppRunner(_application(check), access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, ANY_PORT.host, ANY_PORT.port)
    await site.start()
    say(json.dumps({"grpc": shown(doors).port, "http": runner.addresses[0][1]}))

    await asyncio.to_thread(_listen, decider)
    await grpc.stop(1)
    await runner.cleanup()
    await keys.stop()


def _application(check: EnvoyCheck) -> web.Application:
    application = web.Application()
    application.router.add_route("*", envoy_http.PATH, envoy_http.make_handler(check, 1))
    return application


def _listen(decider: Moody) -> None:
    """Take moods until there are no more."""
    for line in sys.stdin:
        decider.mood = line.strip()
        say(decider.mood)


def say(text: str) -> None:
    print(text, flush=True)


if __name__ == "__main__":
    uvloop.run(serve(sys.argv[1], Path(sys.argv[2])))
