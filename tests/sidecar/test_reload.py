"""A policy replaced under load, over HTTP: every answer is of one policy, and none of the old one follows the new."""

from __future__ import annotations

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPConnection
from pathlib import Path
from typing import Any

from engine import Policy
from tests.sidecar.conftest import ANN, JSON, serve, studio_settings

#: Connections that ask one thing at a time, and those that ask many at once.
SINGLE, BATCHES, ITEMS = 3, 2, 20
ROUNDS = 4
WAIT_S = 20.0
#: Service and clients share one process here, so that it may think there is too much to do: it is asked again.
OVERLOADED = 503

Seen = list[tuple[str, bool]]  # digest and decision


class Asker:
    """Asks the same over one connection until told to stop.

    Attributes:
        answers: of each request that was answered, what each of its decisions said.
    """

    def __init__(self, port: int, body: dict[str, Any]) -> None:
        self.answers: list[Seen] = []
        self._port = port
        self._body = json.dumps(body).encode()
        self._heard = threading.Condition()
        self._is_over = threading.Event()

    def run(self) -> None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=WAIT_S)
        try:
            while not self._is_over.is_set():
                connection.request("POST", "/check", self._body, JSON)
                reply = connection.getresponse()
                said = json.loads(reply.read())
                if reply.status == OVERLOADED:
                    continue
                with self._heard:
                    self.answers.append([
                        (each["context"]["policy"], each["decision"]) for each in said.get("evaluations", [said])
                    ])  # fmt: skip
                    self._heard.notify_all()
        finally:
            connection.close()

    def wait_for(self, digest: str) -> None:
        """Wait until an answer was of a policy, as long as it may take."""
        with self._heard:
            self._heard.wait_for(lambda: bool(self.answers) and self.answers[-1][0][0] == digest, WAIT_S)

    def stop(self) -> None:
        self._is_over.set()


def replace_policy(folder: Path, number: int) -> str:
    """Put the next version of the policy in its place, in one go; in every second one what is asked is denied."""
    rule = 'deny quiet: anyone to task.read because "quiet hours"\n' if number % 2 else ""
    (folder / ".extra").write_text(f"# version {number}\n{rule}", encoding="utf-8")
    (folder / ".extra").replace(folder / "extra.bylaw")
    return Policy.load(folder).digest


def test_reload_changes_meaning_at_once(folder: Path) -> None:
    """While a policy is replaced each answer, a batch too, is wholly of one; on a connection none of an old follows."""
    settings = studio_settings(policies=folder, facts=folder / "facts.yaml")
    digests = [replace_policy(folder, 0)]

    with serve(settings) as client, ThreadPoolExecutor(SINGLE + BATCHES) as pool:
        bodies = [dict(ANN)] * SINGLE + [{**ANN, "evaluations": [{}] * ITEMS}] * BATCHES
        askers = [Asker(client.port, body) for body in bodies]
        running = [pool.submit(asker.run) for asker in askers]
        try:
            for number in range(1, ROUNDS + 1):
                digests.append(replace_policy(folder, number))
                for asker in askers:
                    asker.wait_for(digests[-1])
        finally:
            for asker in askers:
                asker.stop()
        for each in running:
            each.result(WAIT_S)

    for asker in askers:
        versions = []
        for answer in asker.answers:
            assert len(set(answer)) == 1
            digest, decision = answer[0]
            versions.append(digests.index(digest))
            assert decision is (versions[-1] % 2 == 0)
        assert versions == sorted(versions)
        assert set(versions) >= set(range(1, ROUNDS + 1))
    assert {len(answer) for asker in askers for answer in asker.answers} == {1, ITEMS}
