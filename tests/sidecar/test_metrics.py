"""`GET /metrics`: what is counted, what its labels may be, and that it is written as Prometheus reads it."""

from __future__ import annotations

import asyncio
import json
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import pytest
from prometheus_client.core import CounterMetricFamily

from sidecar import metrics
from sidecar.decision_log import DecisionLog
from sidecar.histogram import BUCKETS_S, Histogram
from sidecar.log_options import LogOptions
from sidecar.policies import Policies
from sidecar.tellings import Tellings
from sidecar.traffic import Traffic
from tests.databases import sqlite_urls
from tests.freshness.services import house, sidecar
from tests.sidecar.conftest import ANN, STUDIO, Client, serve, studio_settings
from tests.sidecar.exposition import Exposition, read

FAULTS = (("500", "internal"), ("503", "overloaded"), ("503", "stale"))
#: Nobody's policy has such names.
STRANGE = "zzqx"


def scraped(client: Client) -> Exposition:
    return read(client.get("/metrics").text)


def told(**sources: Any) -> Exposition:
    """What a process tells that serves the studio, with something beside."""

    async def tell() -> str:
        policies = Policies(STUDIO, STUDIO / "facts.yaml", report=lambda _: None, settle_s=0.0)
        await policies.start()
        usual: dict[str, Any] = {"policies": policies, "tellings": Tellings(), "traffic": Traffic()}
        return (await metrics.written(metrics.Sources(**usual | sources))).decode()

    return read(asyncio.run(tell()))


# --- decisions ----------------------------------------------------------------------------------------


def test_decisions_are_counted_by_what_they_were() -> None:
    """A decision counts under its type, action, outcome and code, each item of a batch by itself."""
    batch = {
        **ANN,
        "evaluations": [{}, {"resource": "task:none"}, {"action": "task.fly"}, {"subject": "user:nobody"}],
    }
    with serve(studio_settings()) as client:
        client.post(ANN)
        client.post(batch)

        found = scraped(client)

    assert found.of("bylaw_decisions_total") == {
        (("action", "read"), ("code", "role"), ("outcome", "allow"), ("type", "task")): 2,
        (("action", "read"), ("code", "unknown_resource"), ("outcome", "deny"), ("type", "task")): 1,
        (("action", "read"), ("code", "boundary"), ("outcome", "deny"), ("type", "task")): 1,
        (("action", ""), ("code", "unknown_action"), ("outcome", "deny"), ("type", "")): 1,
    }


def test_refusals_are_counted() -> None:
    """What gets an error and no decision counts under status and code, in both lanes."""
    with serve(studio_settings()) as client:
        client.post(b"{")
        client.post({**ANN, "action": "task.fly"})
        client.get("/nowhere")

        found = scraped(client)

    assert {labels: count for labels, count in found.of("bylaw_refusals_total").items() if count} == {
        (("code", "bad_request"), ("status", "400")): 1,
        (("code", "unknown_action"), ("status", "400")): 1,
        (("code", "not_found"), ("status", "404")): 1,
    }
    assert found.of("bylaw_decisions_total") == {}


def test_what_wakes_somebody_is_there_before_it_happens(studio: Client) -> None:
    """Faults of ours and overload stand there with zero: from nothing to one no rate is seen."""
    found = scraped(studio)

    counts = [found.value("bylaw_refusals_total", status=status, code=code) for status, code in FAULTS]
    assert counts == [0, 0, 0]


def test_labels_are_names_of_the_policy() -> None:
    """Nothing that a caller makes up becomes a label, so that nobody can make series without end."""
    with serve(studio_settings()) as client:
        client.post({**ANN, "subject": f"user:{STRANGE}"})
        client.post({**ANN, "resource": f"task:{STRANGE}"})
        client.post({**ANN, "tenant": STRANGE})
        client.post({**ANN, "action": f"task.{STRANGE}"})
        client.post({**ANN, "action": f"task.{STRANGE}", "evaluations": [{}]})
        client.post({**ANN, "resource": f"{STRANGE}:1"}, path="/access/v1/evaluation")
        client.post(ANN, path=f"/{STRANGE}", X_Request_ID=STRANGE)

        answer = client.get(f"/metrics?{STRANGE}")

    assert answer.status == 200
    assert STRANGE not in answer.text


def test_answers_from_memory_are_timed() -> None:
    """Each answer that waited for nothing is one in the histogram, and one from memory."""
    with serve(studio_settings()) as client:
        for _ in range(3):
            client.post(ANN)

        found = scraped(client)

    assert found.value("bylaw_decide_seconds_count") == 3
    assert 0 < found.value("bylaw_decide_seconds_sum") < 3
    assert found.value("bylaw_decide_seconds_bucket", le="+Inf") == 3
    assert found.value("bylaw_answers_total", **{"from": "memory"}) == 3


def test_buckets_are_cumulative() -> None:
    """A bucket counts what took at most as long as its bound, and the last counts all."""
    histogram = Histogram()
    for took_s in (0.0, BUCKETS_S[0], BUCKETS_S[1], 100.0):
        histogram.add(took_s)

    family = metrics._histogram("x", "X", histogram)

    counted = [each.value for each in family.samples if each.name == "x_bucket"]
    assert (counted[0], counted[1], counted[-2], counted[-1]) == (2, 3, 3, 4)
    assert len(counted) == len(BUCKETS_S) + 1


# --- policy, log, keys --------------------------------------------------------------------------------


def test_the_policy_that_decides_is_named(folder: Path) -> None:
    """It says which policy decides, and whether something else lies on disk that cannot be loaded."""
    reported = threading.Event()
    settings = studio_settings(policies=folder, facts=folder / "facts.yaml")
    with serve(settings, lambda _: reported.set()) as client:
        good = scraped(client)
        (folder / "extra.bylaw").write_text("allow oops: anyone to task.fly\n", encoding="utf-8")
        assert reported.wait(20)

        bad = scraped(client)
        digest = client.service.policies.loaded.policy.digest

    assert good.of("bylaw_policy_info") == bad.of("bylaw_policy_info") == {(("digest", digest),): 1}
    assert (good.value("bylaw_policy_degraded"), bad.value("bylaw_policy_degraded")) == (0, 1)


def test_a_name_that_is_gone_stays_counted(folder: Path) -> None:
    """Counts of a name that the policy has no more stay: counts never go back while a process lives."""
    reported = threading.Event()
    settings = studio_settings(policies=folder, facts=folder / "facts.yaml")
    with serve(settings, lambda _: reported.set()) as client:
        client.post(ANN)
        (folder / "studio.bylaw").write_text("tenant org { actions read }\n", encoding="utf-8")
        (folder / "facts.yaml").write_text("tenants: { acme: {} }\n", encoding="utf-8")
        assert reported.wait(20)

        found = scraped(client)

    assert found.value("bylaw_decisions_total", type="task", action="read", outcome="allow", code="role") == 1


def test_the_decision_log_is_watched(tmp_path: Path) -> None:
    """Lines that wait and decisions that were dropped show."""

    async def full() -> DecisionLog:
        log = DecisionLog(LogOptions(f"file:{tmp_path}", max_waiting=1), process="p")
        for _ in range(3):
            log.note(cast(Any, SimpleNamespace(now=1)), "{}", "me", None, "/check")
        return log

    found = told(tellings=Tellings(asyncio.run(full())))

    assert found.value("bylaw_decision_log_lines_total", result="dropped") == 2
    assert found.value("bylaw_decision_log_lines_total", result="written") == 0
    assert found.value("bylaw_decision_log_queued") == 1
    assert found.value("bylaw_decision_log_failures_total") == 0


def test_keys_of_tokens_are_watched() -> None:
    """Keys that cannot be renewed show; where there are no keys, nothing does."""
    good, bad = (told(keys=cast(Any, SimpleNamespace(problem=problem))) for problem in (None, ValueError()))

    assert (good.value("bylaw_issuer_keys_degraded"), bad.value("bylaw_issuer_keys_degraded")) == (0, 1)
    assert "bylaw_issuer_keys_degraded" not in told().families


# --- facts --------------------------------------------------------------------------------------------


def test_a_store_is_watched(sqlite_template: Path, tmp_path: Path) -> None:
    """Loads and polls are counted and timed, an answer that waited for a load is one, and the age of facts shows."""
    urls = sqlite_urls(shutil.copy(sqlite_template, tmp_path / "bylaw.db"))
    with house(urls), sidecar(urls.sidecar) as asked:
        words = [asked.word(), asked.word()]

        found = read(Client(asked.port, asked.service).get("/metrics").text)

    assert words == ["allow", "allow"]
    assert found.value("bylaw_load_seconds_count") >= 1
    assert found.value("bylaw_loads_total") >= 1
    assert found.value("bylaw_poll_seconds_count") >= found.value("bylaw_polls_total") >= 1
    assert 0 <= found.value("bylaw_facts_age_seconds") <= found.value("bylaw_max_staleness_seconds") == 1
    assert found.value("bylaw_cache_entries", cache="tenants") == 1
    assert found.value("bylaw_cache_limit", cache="views") > found.value("bylaw_cache_entries", cache="views") > 0
    assert found.value("bylaw_answers_total", **{"from": "load"}) == 1
    assert found.value("bylaw_answers_total", **{"from": "memory"}) == 1


# --- how it is written --------------------------------------------------------------------------------


def test_it_is_what_prometheus_reads(studio: Client) -> None:
    """The answer is of the type that Prometheus takes, tells of the process, and has no label `worker`."""
    answer = studio.get("/metrics", X_Request_ID="r-1")

    found = read(answer.text)
    assert (answer.status, answer.headers["x-request-id"]) == (200, "r-1")
    assert answer.headers["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
    assert found.value("process_resident_memory_bytes") > 1_000_000
    assert found.value("bylaw_requests_in_flight") == 1
    assert "worker" not in found.labels("bylaw_requests_in_flight")


def test_many_series_are_written_bit_by_bit() -> None:
    """Very many series are written whole under one head, and others get their turn meanwhile."""
    tellings = Tellings()
    for number in range(3 * metrics.PIECE + 1):
        tellings.decisions[f"task.a{number}", True, "role"] = number
    turns = 0

    async def count_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    async def write() -> dict[str, str]:
        counting = asyncio.create_task(count_turns())
        policies = cast(Policies, SimpleNamespace(is_loaded=False, problem=None, loads=0, refusals=0))
        found = await metrics.texts(metrics.Sources(policies, tellings, Traffic()))
        counting.cancel()
        return found

    found = read(asyncio.run(write())["bylaw_decisions"])

    assert sorted(found.of("bylaw_decisions_total").values()) == list(range(3 * metrics.PIECE + 1))
    assert turns >= 4


def test_families_of_several_processes_stand_together() -> None:
    """Each family stands once, with the series of all; one that a single process has is there, too."""
    own = {"a": '# HELP a A\n# TYPE a gauge\na{w="1"} 1\n', "b": "# HELP b B\n# TYPE b gauge\n"}
    other = {"a": '# HELP a A\n# TYPE a gauge\na{w="2"} 2\n', "c": "# HELP c C\n# TYPE c gauge\nc 3\n"}

    text = metrics.together(own, [other])

    assert text == (
        '# HELP a A\n# TYPE a gauge\na{w="1"} 1\na{w="2"} 2\n'
        "# HELP b B\n# TYPE b gauge\n"
        "# HELP c C\n# TYPE c gauge\nc 3\n"
    )


def test_what_a_name_holds_is_escaped() -> None:
    """A label's value with quotes, backslashes and line ends stays one label of one line."""
    family = CounterMetricFamily("odd", "Odd", labels=["name"])
    odd = 'a"b\\c\nodd_total{name="forged"} 1'
    family.add_metric([odd], 1)

    found = read(metrics._text(family, {}))

    assert found.of("odd_total") == {(("name", odd),): 1}


def test_only_who_may_watch_is_told(studio: Client) -> None:
    """Under another Host there are no metrics: a page in a browser must not read them."""
    answer = studio.get("/metrics", Host="evil.example")

    assert (answer.status, json.loads(answer.text)["error"]) == (403, "bad_host")


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE"])
def test_it_is_only_read(studio: Client, method: str) -> None:
    """Other methods change nothing and are refused."""
    assert studio.send(method, "/metrics").status == 405
