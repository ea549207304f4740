"""What is printed at the start: where it listens, and what to try."""

from __future__ import annotations

import json
import shlex

from engine import RequestError
from sidecar.addresses import Address
from sidecar.readings import Loaded
from sidecar.wire import Reader

#: The question of the example set `policies/studio`.
_EXAMPLE = {
    "tenant": "acme",
    "subject": "user:ann",
    "action": "task.read",
    "resource": "task:t1",
    "context": {"mfa": True},
}
_BLANK = {"tenant": "TENANT", "subject": "user:ID", "action": "ACTION", "resource": "TYPE:ID"}
_NOT_THERE = ("unknown_resource", "tenant_inactive")


def greet(address: Address, loaded: Loaded, *, is_person: bool, as_json: bool) -> str:
    """Write the start-up text: for a machine one line, for a person also a request to copy and its answer."""
    if as_json:
        said = {"listening": str(address), "policy": loaded.policy.digest, "revision": loaded.facts.revision}
        return json.dumps(said)
    line = f"bylaw listens on {url_of(address)} (policy {loaded.policy.digest[:19]}…)"
    return "\n".join([line, *_try(address, loaded)]) if is_person else line


def url_of(address: Address) -> str:
    """Name an address as a URL, where it has one."""
    return str(address) if address.path is not None else f"http://{address}"


def _try(address: Address, loaded: Loaded) -> list[str]:
    answer = _answer(loaded)
    question = json.dumps(_EXAMPLE if answer else _BLANK)
    where = ["--unix-socket", address.path, "http://localhost/check"] if address.path else [f"{url_of(address)}/check"]
    command = shlex.join(["curl", "-s", *where, "-H", "Content-Type: application/json", "-d", question])
    shape = answer or '{"decision": …, "context": {"code": …, "by": …, "at": …, "because": …}}'
    return ["", "Try:", f"  {command}", "It answers:", f"  {shape}", ""]


def _answer(loaded: Loaded) -> str | None:
    """Answer the example, if the policy is one that it makes sense under."""
    try:
        decision = loaded.policy.decide(Reader().request(_EXAMPLE), loaded.facts)
    except RequestError:
        return None
    if decision.code in _NOT_THERE:
        return None
    said = {"code": decision.code, "by": decision.by, "at": decision.at, "because": decision.because}
    return json.dumps({"decision": decision.allowed, "context": said}).removesuffix("}}") + ", …}}"
