"""What is printed at the start: where it listens, and what to try."""

from __future__ import annotations

import json
import shlex

from engine import Request, RequestError
from sidecar.addresses import Address
from sidecar.decider import Decider
from sidecar.freshness import StaleError
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


def greet(
    address: Address, loaded: Loaded, answer: str | None, *, is_person: bool, as_json: bool, scheme: str = "http"
) -> str:
    """Write the start-up text: for a machine one line, for a person also a request to copy and its answer.

    Args:
        answer: to the example, as `example_answer` gives it.
        scheme: of URLs here.
    """
    if as_json:
        said = {"listening": str(address), "policy": loaded.policy.digest, "revision": loaded.facts.revision}
        return json.dumps(said)
    line = f"bylaw listens on {url_of(address, scheme)} (policy {loaded.policy.digest[:19]}…)"
    return "\n".join([line, *_try(address, answer, scheme)]) if is_person else line


def url_of(address: Address, scheme: str) -> str:
    """Name an address as a URL, where it has one."""
    return str(address) if address.path is not None else f"{scheme}://{address}"


def _try(address: Address, answer: str | None, scheme: str) -> list[str]:
    question = json.dumps(_EXAMPLE if answer else _BLANK)
    where = (
        ["--unix-socket", address.path, "http://localhost/check"]
        if address.path
        else [f"{url_of(address, scheme)}/check"]
    )
    command = shlex.join(["curl", "-s", *where, "-H", "Content-Type: application/json", "-d", question])
    shape = answer or '{"decision": …, "context": {"code": …, "by": …, "at": …, "because": …}}'
    return ["", "Try:", f"  {command}", "It answers:", f"  {shape}", ""]


async def example_answer(decider: Decider) -> str | None:
    """Answer the example, if the policy is one that it makes sense under."""
    question = Reader().request(_EXAMPLE)
    try:
        return await decider.answer(lambda loaded: _answer(question, loaded), (question,), None) or None
    except (RequestError, StaleError):
        return None


def _answer(question: Request, loaded: Loaded) -> str:
    decision = loaded.policy.decide(question, loaded.facts)
    if decision.code in _NOT_THERE:
        return ""
    said = {"code": decision.code, "by": decision.by, "at": decision.at, "because": decision.because}
    return json.dumps({"decision": decision.allowed, "context": said}).removesuffix("}}") + ", …}}"
