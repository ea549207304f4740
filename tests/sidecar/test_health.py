"""`GET /health` and `GET /ready` over HTTP."""

from __future__ import annotations

import threading
from pathlib import Path

from tests.sidecar.conftest import ANN, Client, serve, studio_settings


def test_it_lives(studio: Client) -> None:
    """Liveness asks nothing of anything."""
    answer = studio.get("/health")

    assert (answer.status, answer.json) == (200, {"status": "ok"})


def test_it_is_ready(studio: Client) -> None:
    """Readiness says what decisions rest on."""
    answer = studio.get("/ready", X_Request_ID="r-1")

    loaded = studio.service.policies.loaded
    assert (answer.status, answer.headers["x-request-id"]) == (200, "r-1")
    assert answer.json == {
        "status": "ready",
        "checks": {
            "policies": {"status": "ok", "policy": loaded.policy.digest, "revision": loaded.facts.revision},
        },
    }


def test_a_refused_policy_degrades(folder: Path) -> None:
    """While what lies on disk is broken it is ready still, says why it is degraded, and decides as before."""
    reported = threading.Event()

    with serve(studio_settings(policies=folder, facts=folder / "facts.yaml"), lambda _: reported.set()) as client:
        (folder / "extra.bylaw").write_text("allow oops: anyone to task.fly\n", encoding="utf-8")
        assert reported.wait(20)
        answer = client.get("/ready")

        assert (answer.status, answer.json["status"]) == (200, "degraded")
        check = answer.json["checks"]["policies"]
        assert (check["status"], check["error"]) == ("degraded", "bad_policy")
        assert check["policy"] == client.service.policies.loaded.policy.digest
        assert "extra.bylaw:1" in check["message"]
        assert client.post(ANN).json["decision"] is True
