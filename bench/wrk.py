"""Load over HTTP by wrk: one thread, 32 connections, POSTs that cycle over bodies prepared beforehand."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

INSTALL = "wrk is not installed: apt-get install wrk"
CONNECTIONS = 32
RESULT = "RESULT"

# `errors.status` counts answers above 399; the other errors are those of the sockets.
SCRIPT = """
local bodies, requests, turn = {}, {}, 0
for line in io.lines("%(bodies)s") do bodies[#bodies + 1] = line end

function init()
  for i, body in ipairs(bodies) do
    requests[i] = wrk.format("POST", "%(path)s", {%(headers)s}, body)
  end
end

function request()
  turn = turn %% #requests + 1
  return requests[turn]
end

function done(summary, latency)
  local e = summary.errors
  io.write(string.format("%(result)s %%d %%d %%d %%d %%d\\n", summary.requests, summary.duration,
    latency:percentile(50), latency:percentile(99), e.status + e.connect + e.read + e.write + e.timeout))
end
"""


class LoadError(RuntimeError):
    """wrk failed, or what it called answered with errors."""


@dataclass(frozen=True, slots=True)
class Load:
    """One turn: requests per second, and the median and 99th percentile of the latency in ms."""

    per_s: float
    p50_ms: float
    p99_ms: float


def is_installed() -> bool:
    """Say whether wrk is there."""
    return shutil.which("wrk") is not None


def write_script(
    folder: Path, name: str, path: str, bodies: Iterable[str], headers: Mapping[str, str] | None = None
) -> Path:
    """Write the bodies, one a line, and the script that posts them to `path` in turn; return the script."""
    listed, script = folder / f"{name}.bodies", folder / f"{name}.lua"
    listed.write_text("".join(f"{body}\n" for body in bodies), encoding="utf-8")
    sent = {"Content-Type": "application/json", **(headers or {})}
    said = ", ".join(f'["{header}"] = "{value}"' for header, value in sent.items())
    words = {"bodies": listed, "path": path, "result": RESULT, "headers": said}
    script.write_text(SCRIPT % words, encoding="utf-8")
    return script


def run(script: Path, address: str, *, core: int, seconds: int) -> Load:
    """Load the server at `address` from `core` for so many seconds.

    Raises:
        LoadError: wrk failed, or there were errors.
    """
    wrk = ["wrk", "-t1", f"-c{CONNECTIONS}", f"-d{seconds}s", "-s", str(script), f"http://{address}"]
    done = subprocess.run(["taskset", "-c", str(core), *wrk], capture_output=True, text=True, check=False)
    found = [line.split()[1:] for line in done.stdout.splitlines() if line.startswith(RESULT)]
    if done.returncode or not found:
        raise LoadError(done.stderr.strip() or done.stdout.strip())
    requests, duration_us, p50_us, p99_us, errors = map(int, found[0])
    if errors:
        raise LoadError(f"{errors} of {requests} requests to {address} failed")
    return Load(requests / duration_us * 1e6, p50_us / 1e3, p99_us / 1e3)
