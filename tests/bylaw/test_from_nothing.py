"""From nothing to a grant and back, over real processes: the service of administration, and two that decide."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import Any, Final

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from jwt.algorithms import OKPAlgorithm

from bylaw.cli import main
from tests.databases import StoreUrls

ROOT: Final = Path(__file__).parents[2]
#: Connections are dealt out among the processes: so many meet each of two.
MANY: Final = 24


class Issuer:
    """Signs end users' tokens."""

    def __init__(self, folder: Path) -> None:
        self._private = Ed25519PrivateKey.generate()
        self.file = folder / "jwks.json"
        key = OKPAlgorithm.to_jwk(self._private.public_key(), as_dict=True)
        self.file.write_text(json.dumps({"keys": [{**key, "kid": "one", "alg": "EdDSA", "use": "sig"}]}))

    def token(self, who: str) -> str:
        now = int(time.time())
        said = {"sub": who, "iss": "https://issuer", "aud": "bylaw", "exp": now + 600, "iat": now, "jti": f"t-{who}"}
        return jwt.encode(said, self._private, "EdDSA", headers={"kid": "one"})


@contextmanager
def running(words: list[str], environ: dict[str, str]) -> Iterator[str]:
    """Run a service; give what it says first."""
    with subprocess.Popen(
        [sys.executable, "-m", "bylaw", *words], cwd=ROOT, env=environ, stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            yield process.stdout.readline()
        finally:
            process.terminate()
            process.wait(20)


def ask(place: str, method: str, path: str, body: object = None, bearer: str = "") -> tuple[int, Any]:
    """Ask over a connection of its own."""
    connection = HTTPConnection(place, timeout=20)
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"Bearer {bearer}"} if bearer else {})
    connection.request(method, path, None if body is None else json.dumps(body), headers)
    answer = connection.getresponse()
    text = answer.read()
    connection.close()
    return answer.status, json.loads(text) if text else None


def test_from_nothing_to_a_grant_and_back(
    store_urls: StoreUrls, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A tenant is made, somebody invited who accepts, and the check allows; once the role is taken and that is settled,
    the next check denies on every process."""
    issuer = Issuer(tmp_path)
    environ = {name: value for name, value in os.environ.items() if not name.startswith("BYLAW_")}
    environ |= {"BYLAW_POLICIES": str(ROOT / "policies" / "studio")}
    assert main(["admin", "bootstrap", "--json", "--database-url", store_urls.admin]) == 0
    key = json.loads(capsys.readouterr().out)["key"]
    admin = ["admin", "--admin", "127.0.0.1:0", "--database-url", store_urls.admin]
    admin += ["--jwks", str(issuer.file), "--issuer", "https://issuer", "--audience", "bylaw"]
    serve = ["serve", "--workers", "2", "--http", "127.0.0.1:0", "--grpc", "none", "--json"]

    with (
        running(admin, environ) as told,
        running([*serve, "--database-url", store_urls.sidecar], environ) as greeting,
    ):
        administration = told.strip().rpartition("http://")[2]
        decisions = json.loads(greeting)["listening"]

        def decided() -> set[bool]:
            body = {"tenant": "nova", "subject": "user:mia", "action": "update", "resource": "organization:nova"}
            answers = [ask(decisions, "POST", "/check", body) for _ in range(MANY)]
            assert {status for status, _ in answers} == {200}
            return {said["decision"] for _, said in answers}

        made, _ = ask(administration, "POST", "/admin/v1/tenants", {"id": "nova"}, key)
        roles = {"roles": [{"role": "admin", "on": "organization:nova"}]}
        invited, invitation = ask(administration, "POST", "/admin/v1/tenants/nova/invitations", roles, key)
        mia = issuer.token("mia")
        accept = "/admin/v1/invitations/accept?await=settled"
        accepted, _ = ask(administration, "POST", accept, {"token": invitation["token"]}, mia)
        before = decided()
        listed = "/admin/v1/tenants/nova/assignments"
        (held,) = ask(administration, "GET", f"{listed}?subject=user:mia", None, key)[1]["items"]
        taken, settled = ask(administration, "DELETE", f"{listed}/{held['id']}?await=settled", None, key)
        after = decided()

    assert (made, invited, accepted, taken) == (201, 201, 200, 200)
    assert settled["settled"] is True
    assert (before, after) == ({True}, {False})
