"""The decision log: what stands in a line, what does not, and that nothing is lost unseen."""

from __future__ import annotations

import asyncio
import json
import logging
import signal
import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from engine import BylawError
from engine.request import HttpRequest, Request
from engine.values import parse_time
from sidecar.decision_log import MAX_INPUT, is_in_sample
from sidecar.log_lines import input_of, question_of, written, written_input
from sidecar.log_options import LogOptions, Rates
from sidecar.masking import parse_masks
from tests.sidecar.logged import NOON, allowed, asked, broken, denied, failed, lines_in, log_to, logged, note, until

ROOT = Path(__file__).parents[2]
SALT = "a salt that is long enough for everybody"
SECRET = "h7Zq"


# --- a line -------------------------------------------------------------------------------------------


def test_a_line_holds_question_and_answer(tmp_path: Path) -> None:
    """A line has the answer as it was given, who asked, and all that is needed to ask again."""
    question = asked(
        subject_properties={"roles": ["a"]},
        resource_properties={"parent": "project:p1"},
        action_properties={"soft": True},
        context={"mfa": True, "a": [1, 2.5, None, "ü"]},
        token_tenant="globex",
    )

    line = logged(tmp_path, question, allowed())

    again = question_of(line)
    assert {name: line[name] for name in ("n", "before", "time", "caller", "request_id", "path")} == {
        "n": 1, "before": None, "time": "2026-09-21T14:13:20.000001Z",
        "caller": "loopback", "request_id": "r1", "path": "/check",
    }  # fmt: skip
    assert {name: line[name] for name in ("decision", "context")} == json.loads(allowed())
    assert [getattr(again, name) for name in type(question).__slots__] == [
        getattr(question, name) for name in type(question).__slots__
    ]
    assert (again.tenant, again.subject, again.context, again.now) == (
        question.tenant, question.subject, question.context, question.now,
    )  # fmt: skip


def test_a_line_of_a_question_by_path(tmp_path: Path) -> None:
    """Of a question by method and path, these are what is needed to ask again."""
    question = HttpRequest("GET", "/projects/p1?x=1", "user:ann", context={"ip": "10.0.0.1"}, now=None)
    question.now = NOON

    line = logged(tmp_path, question, allowed())

    again = question_of(line)
    assert line["input"] == {
        "method": "GET", "path": "/projects/p1?x=1", "subject": "user:ann", "context": {"ip": "10.0.0.1"}
    }  # fmt: skip
    assert all(getattr(again, name) == getattr(question, name) for name in HttpRequest.__slots__)


def test_what_says_nothing_is_left_out(tmp_path: Path) -> None:
    """Members without a value do not stand in the input, and the others always in one order."""
    line = logged(tmp_path, asked(tenant=None, context={}), denied())

    assert list(line["input"].items()) == [("action", "read"), ("resource", "task:t1"), ("subject", "user:ann")]


@pytest.mark.parametrize(
    ("now", "written"),
    [
        (NOON, "2026-09-21T14:13:20.000000Z"),
        (NOON + 1, "2026-09-21T14:13:20.000000001Z"),
        (-1000, "1969-12-31T23:59:59.999999Z"),
    ],
)
def test_the_instant_is_exact(now: int, written: str, tmp_path: Path) -> None:
    """The instant is written so that it can be asked at again, to the nanosecond where it has them."""
    question = asked()
    question.now = now

    line = logged(tmp_path, question, allowed())

    assert line["time"] == written
    assert parse_time(line["time"]) == now


def test_a_decision_without_an_instant_gets_that_of_the_log(tmp_path: Path) -> None:
    """What was answered without being decided, as in `stale`, has the time at which it was noted."""
    question = asked()
    question.now = None

    line = logged(tmp_path, question, failed())

    noted = parse_time(line["time"])
    closed = parse_time(lines_in(tmp_path)[-1]["time"])
    assert noted is not None
    assert closed is not None
    assert NOON != noted <= closed


def test_the_process_names_the_file(tmp_path: Path) -> None:
    """A chain is named by its process and its start, in characters that a file's name may have."""
    log = log_to(tmp_path)
    other = log_to(tmp_path)
    odd = type(log)(LogOptions(f"file:{tmp_path}"), process="../host/1")

    assert log.chain.startswith("one-")
    assert log.chain != other.chain
    assert "/" not in odd.chain


# --- nothing is lost unseen ---------------------------------------------------------------------------


def test_order_and_numbers_under_load(tmp_path: Path) -> None:
    """While many note at once, lines stand in the order in which they were noted, numbered without a gap."""
    order: list[str] = []

    async def talk() -> None:
        log = log_to(tmp_path)
        await log.start()

        async def work(first: int) -> None:
            for number in range(first, first + 500):
                order.append(f"r{number}")
                note(log, number, number)
                if number % 7 == 0:
                    await asyncio.sleep(0)

        await asyncio.gather(*(work(first) for first in range(0, 4000, 500)))
        await log.stop()
        assert (log.written, log.dropped, log.failed, log.queued) == (4001, 0, 0, 0)

    asyncio.run(talk())

    lines = lines_in(tmp_path)
    assert [line["n"] for line in lines] == list(range(1, 4002))
    assert [line["request_id"] for line in lines[:-1]] == order
    assert lines[-1]["closed"] is True
    assert not broken(tmp_path)


def test_drops_are_counted_and_stand_in_the_chain(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """What has no room is dropped, the newest first; the chain says how many, at the place where they are missing."""

    async def talk() -> None:
        log = log_to(tmp_path, max_waiting=10)
        note(log, 1, 25)
        assert (log.queued, log.dropped) == (10, 15)
        await log.start()
        await until(lambda: log.queued == 0)
        note(log, 26, 27)
        await log.stop()
        assert (log.written, log.dropped) == (14, 15)

    asyncio.run(talk())

    said = [line.get("request_id", line.get("dropped", "closed")) for line in lines_in(tmp_path)]
    assert said == [*(f"r{number}" for number in range(1, 11)), 15, "r26", "r27", "closed"]
    assert not broken(tmp_path)
    assert [record.message for record in caplog.records] == [
        "decisions are missing from the decision log: more than can be written; the metrics count them"
    ]


def test_what_no_line_can_be_made_of(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """A decision that cannot be written as JSON is counted, said in the chain and told; the next one is written."""

    async def talk() -> None:
        log = log_to(tmp_path)
        await log.start()
        log.note(asked(context={"x": float("nan")}), allowed(), "loopback", None, "/check")
        log.note(asked(context={"x": object()}), allowed(), "loopback", None, "/check")
        note(log, 3, 3)
        await log.stop()
        assert log.dropped == 2

    asyncio.run(talk())

    assert [line.get("request_id", line.get("dropped")) for line in lines_in(tmp_path)] == ["r3", 2, None]
    assert not broken(tmp_path)
    assert "no line can be made of it (ValueError)" in caplog.text


def test_noting_writes_nothing(tmp_path: Path) -> None:
    """To note is to remember: before the loop gets its turn nothing is on the disk, and after `stop` all is."""

    async def talk() -> None:
        log = log_to(tmp_path)
        await log.start()
        note(log, 1, 3)
        found = list(tmp_path.iterdir())  # noqa: ASYNC240  # at this very moment
        queued = log.queued
        await log.stop()
        assert (found, queued) == ([], 3)

    asyncio.run(talk())

    assert [line["n"] for line in lines_in(tmp_path)] == [1, 2, 3, 4]


def test_what_is_noted_after_the_end(tmp_path: Path) -> None:
    """What comes after the end is dropped and counted; nothing stands behind the line that closes a chain."""

    async def talk() -> None:
        log = log_to(tmp_path)
        await log.start()
        note(log, 1, 1)
        stopping = asyncio.create_task(log.stop())
        await asyncio.sleep(0)
        late = 0
        while not stopping.done():
            note(log, 2, 2)
            late += 1
            await asyncio.sleep(0)
        await log.stop()
        note(log, 3, 3)
        assert (log.dropped, log.queued) == (late + 1, 0)

    asyncio.run(talk())

    lines = lines_in(tmp_path)
    assert [line["request_id"] for line in lines if "decision" in line] == ["r1"]
    assert lines[-1]["closed"] is True
    assert not broken(tmp_path)


def test_a_killed_process_loses_only_what_was_waiting(tmp_path: Path) -> None:
    """After a kill every line is there that was ever counted as written, the chain holds, and its end is open."""
    script = f"""
import asyncio
from tests.sidecar.logged import log_to, note
from pathlib import Path

async def talk():
    log = log_to(Path({str(tmp_path)!r}))
    await log.start()
    number = 0
    while True:
        note(log, number + 1, number + 50)
        number += 50
        await asyncio.sleep(0.001)
        print(log.written, flush=True)

asyncio.run(talk())
"""
    with subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        written = next(int(line) for line in process.stdout if int(line) > 300)
        process.send_signal(signal.SIGKILL)
        process.stdout.read()

    (file,) = tmp_path.iterdir()
    whole = [json.loads(line) for line in file.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]
    assert [line["request_id"] for line in whole] == [f"r{number}" for number in range(1, len(whole) + 1)]
    assert len(whole) >= written
    assert not broken(tmp_path)


# --- what is in the sample ----------------------------------------------------------------------------


def test_a_sample_is_taken_by_outcome(tmp_path: Path) -> None:
    """Each outcome has its rate; a line in a sample says the rate, and one of a whole outcome does not."""

    async def talk() -> None:
        log = log_to(tmp_path, rates=Rates.parse("allow=0.25, error=0"))
        await log.start()
        for number in range(400):
            log.note(asked(number), allowed(number), "loopback", None, "/check")
            log.note(asked(number), denied(number), "loopback", None, "/check")
            log.note(asked(number), failed(), "loopback", None, "/check")
        await log.stop()
        assert log.dropped == 0

    asyncio.run(talk())

    lines = lines_in(tmp_path)
    allows = [line for line in lines if line.get("decision") is True]
    denies = [line for line in lines if line.get("decision") is False]
    assert {line["context"]["id"] for line in allows} == {
        f"01J{number:023d}" for number in range(400) if is_in_sample(f"01J{number:023d}", 0.25)
    }
    assert 60 < len(allows) < 140
    assert {line["sampled"] for line in allows} == {0.25}
    assert len(denies) == 400
    assert not any("sampled" in line for line in denies)
    assert not broken(tmp_path)


def test_samples_agree() -> None:
    """What is in a small sample is in each larger one; nothing is in that of 0, everything in that of 1."""
    ids = [f"01J{number:023d}" for number in range(1000)]

    samples = [{each for each in ids if is_in_sample(each, rate)} for rate in (0, 0.01, 0.1, 0.5, 1)]

    assert samples[0] == set()
    assert samples[-1] == set(ids)
    assert all(small < large for small, large in pairwise(samples))


# --- what is masked -----------------------------------------------------------------------------------


def test_a_mask_keeps_equality(tmp_path: Path) -> None:
    """The same value has the same digest, wherever and whenever it stands; another value or salt has another."""
    masks = parse_masks("input.context.ip,input.subject_properties.*")

    first = logged(tmp_path / "a", asked(context={"ip": SECRET, "mfa": True}), allowed(), masks=masks, salt=SALT)
    second = logged(
        tmp_path / "b", asked(2, subject_properties={"x": SECRET, "y": 1}), allowed(), masks=masks, salt=SALT
    )
    third = logged(tmp_path / "c", asked(context={"ip": SECRET}), allowed(), masks=masks)

    digest = first["input"]["context"]["ip"]
    assert digest.startswith("masked:")
    assert len(digest) == len("masked:") + 32
    assert first["input"]["context"]["mfa"] is True
    assert second["input"]["subject_properties"]["x"] == digest != second["input"]["subject_properties"]["y"]
    assert third["input"]["context"]["ip"] != digest
    assert first["masked"] == ["input.context.ip"]
    assert second["masked"] == ["input.subject_properties.*"]


HIDDEN: list[tuple[str, dict[str, Any], str]] = [
    ("input.subject", {"subject": f"user:{SECRET}"}, allowed()),
    ("input.subject", {"subject": f"user:{SECRET}", "resource": f"user:{SECRET}"}, allowed(by=f"x on user:{SECRET}")),
    ("input.subject", {"subject": f"user:{SECRET}", "resource_properties": {"owner": f"user:{SECRET}"}}, allowed()),
    ("input.subject", {"subject": f"user:{SECRET}", "context": {"to": [f"user:{SECRET}", SECRET]}}, allowed()),
    ("input.subject", {"subject": f"user:{SECRET}"}, failed(f"no attribute `{SECRET}`")),
    ("input.resource", {"resource": f"task:{SECRET}"}, allowed(by=f"task.owner on task:{SECRET}")),
    ("input.resource", {"resource": f"task:{SECRET}"}, failed(f"the policy has no type `{SECRET}`")),
    ("input.tenant", {"tenant": SECRET}, allowed(by=f"organization.manager on organization:{SECRET}")),
    ("input.tenant", {"tenant": SECRET, "resource": f"organization:{SECRET}"}, allowed()),
    ("input.tenant", {"tenant": None, "token_tenant": SECRET}, allowed(by=f"x.y on organization:{SECRET}")),
    ("input.tenant", {"resource_properties": {"tenant": SECRET, "parent": f"organization:{SECRET}"}}, allowed()),
    ("input.tenant", {"subject_properties": {"tenant": SECRET}}, allowed(by=f"x.y on organization:{SECRET}")),
    ("input.*", {"context": {"a": {"b": [SECRET]}}, "resource": f"task:{SECRET}"}, allowed(by=f"a.b on task:{SECRET}")),
    ("input", {"context": {"a": SECRET}, "subject": f"user:{SECRET}"}, allowed()),
    ("input.context.*.deep", {"context": {"a": {"deep": SECRET}, "b": {"deep": [SECRET]}}}, allowed()),
    ("input.context.list.*.ip", {"context": {"list": [{"ip": SECRET}, {"ip": SECRET}]}}, allowed()),
    ("input.resource_properties", {"resource_properties": {"parent": f"p:{SECRET}"}}, allowed(by=f"p.x on p:{SECRET}")),
]  # fmt: skip


@pytest.mark.parametrize(("mask", "given", "answer"), HIDDEN)
def test_what_is_masked_stands_nowhere(mask: str, given: dict[str, Any], answer: str, tmp_path: Path) -> None:
    """What a mask covers is in no byte of the log, by whatever other name the line knows it."""
    logged(tmp_path, asked(**given), answer, masks=parse_masks(mask))

    (file,) = tmp_path.iterdir()
    assert SECRET.encode() not in file.read_bytes()
    assert b'"masked": [' in file.read_bytes()


@pytest.mark.parametrize("mask", ["input.path", "input.resource", "input.tenant"])
def test_a_path_goes_with_what_it_names(mask: str, tmp_path: Path) -> None:
    """A path is masked with the resource and the tenant, which it may name, and the place in `by` with the path."""
    question = HttpRequest("GET", f"/tasks/{SECRET}?x=1", "user:ann")
    question.now = NOON

    async def talk() -> None:
        log = log_to(tmp_path, masks=parse_masks(mask))
        await log.start()
        log.note(question, allowed(by=f"task.owner on task:{SECRET}"), "envoy", "r1", f"/envoy{question.path}")
        await log.stop()

    asyncio.run(talk())

    line = lines_in(tmp_path)[0]
    assert SECRET not in json.dumps(line)
    assert line["context"]["by"].startswith("task.owner on masked:")
    assert line["input"]["subject"] == "user:ann"


@pytest.mark.parametrize("path", [f"/users/{SECRET}/tasks?x=1", f"/users/%68{SECRET[1:]}", f"/users?id={SECRET}"])
def test_a_path_that_names_who_is_masked(path: str, tmp_path: Path) -> None:
    """A path in which a masked subject stands is masked, encoded or not, also where the question came in by it."""
    question = HttpRequest("GET", path, f"user:{SECRET}")
    question.now = NOON

    async def talk() -> None:
        log = log_to(tmp_path, masks=parse_masks("input.subject"))
        await log.start()
        log.note(question, denied(), f"user:{SECRET}", "r1", path)
        await log.stop()

    asyncio.run(talk())

    (file,) = tmp_path.iterdir()
    assert SECRET[1:].encode() not in file.read_bytes()
    assert lines_in(tmp_path)[0]["input"]["method"] == "GET"


def test_the_revision_goes_with_the_tenant(tmp_path: Path) -> None:
    """A revision holds a digest of the tenant that everybody can compute, so it is masked along."""
    line = logged(tmp_path, asked(), allowed(), masks=parse_masks("input.tenant"))

    assert line["context"]["revision"].startswith("masked:")
    assert line["context"]["by"].startswith("organization.manager on masked:")


def test_a_mask_does_not_hide_what_was_done(tmp_path: Path) -> None:
    """Nobody hides an action or a resource by sending its name where something is masked."""
    question = asked(subject="user:read", context={"ip": "task:t1", "note": "t1"})

    line = logged(tmp_path, question, denied(), masks=parse_masks("input.subject,input.context.ip"))

    assert (line["input"]["action"], line["input"]["resource"]) == ("read", "task:t1")
    assert line["input"]["context"]["note"] == "t1"


def test_an_error_keeps_its_sentence_where_nothing_is_masked(tmp_path: Path) -> None:
    """The sentence of an error is masked only where the line has something that is."""
    masks = parse_masks("input.context.ip")

    plain = logged(tmp_path / "a", asked(), failed("what was wrong"), masks=masks)
    masked = logged(tmp_path / "b", asked(context={"ip": 1}), failed("what was wrong"), masks=masks)

    assert plain["context"]["error"]["message"] == "what was wrong"
    assert "masked" not in plain
    assert masked["context"]["error"] == {"status": 400, "message": masked["context"]["error"]["message"]}
    assert masked["masked"] == ["context.error.message", "input.context.ip"]


def test_masks_of_the_caller(tmp_path: Path) -> None:
    """What is beside the question can be masked, too; what is absent stays absent."""
    line = logged(tmp_path, asked(), denied(), masks=parse_masks("caller,request_id,context.by,context.obligations"))

    assert line["caller"].startswith("masked:")
    assert line["request_id"].startswith("masked:")
    assert line["context"]["by"] is None
    assert line["masked"] == ["caller", "request_id"]
    assert line["input"]["subject"] == "user:ann"


def test_a_long_input_does_not_fill_the_disk(tmp_path: Path) -> None:
    """An input that is too long has its objects masked, so that a line is short, and says so."""
    line = logged(tmp_path, asked(context={"x": "y" * MAX_INPUT}), allowed())

    (file,) = tmp_path.iterdir()
    assert line["input"]["context"].startswith("masked:")
    assert line["input"]["resource"] == "task:t1"
    assert line["masked"] == ["input.context"]
    assert line["path"] == "/check"
    assert file.stat().st_size < 4096


def test_a_long_path_does_not_fill_the_disk(tmp_path: Path) -> None:
    """A path that is too long is masked, too."""
    question = HttpRequest("GET", "/" + "x" * MAX_INPUT, "user:ann", context={"a": 1})
    question.now = NOON

    line = logged(tmp_path, question, denied())

    assert line["input"]["path"].startswith("masked:")
    assert line["path"].startswith("masked:")
    assert line["masked"] == ["input.context", "input.path"]


# --- settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("place", "given", "complaint"),
    [
        ("", {}, "BYLAW_DECISION_LOG: expected stdout, file:/a/directory or https://"),
        ("stderr", {}, "BYLAW_DECISION_LOG: expected stdout"),
        ("file:", {}, "a directory is written file:/var/log/bylaw"),
        ("file:///var/log", {}, "a directory is written file:/var/log/bylaw"),
        ("https://", {}, "BYLAW_DECISION_LOG: expected"),
        ("https://h:99999/", {}, "the URL is malformed"),
        ("http://logs.example/x", {}, "by https:// only"),
        ("http://127.0.0.1.example/x", {}, "by https:// only"),
        ("ftp://h/x", {}, "BYLAW_DECISION_LOG: expected"),
        ("stdout", {"masks": "input.contxt.ip"}, "nothing to be masked at `input.contxt.ip`; did you mean"),
        ("stdout", {"masks": "input.subject.id"}, "`input.subject` is a text and has no members"),
        ("stdout", {"masks": "input..ip"}, "nothing to be masked at `input..ip`"),
        ("stdout", {"masks": "decision"}, "nothing to be masked at `decision`"),
        ("stdout", {"masks": "hash"}, "nothing to be masked at `hash`"),
        ("stdout", {"masks": "context.id"}, "nothing to be masked at `context.id`"),
        ("stdout", {"masks": "*"}, "nothing to be masked at `*`"),
        ("stdout", {"salt": "short"}, "BYLAW_DECISION_LOG_SALT: a salt has 32 characters at least"),
        ("stdout", {"sample": "allow"}, "BYLAW_DECISION_LOG_SAMPLE: `allow`: a rate is a number from 0 to 1"),
        ("stdout", {"sample": "allow=1.5"}, "a rate is a number from 0 to 1"),
        ("stdout", {"sample": "allow=nan"}, "a rate is a number from 0 to 1"),
        ("stdout", {"sample": "alow=1"}, "`alow=1`: name allow, deny and error"),
        ("stdout", {"sample": "deny=1,deny=0"}, "each once"),
    ],
)
def test_bad_settings(place: str, given: dict[str, str], complaint: str) -> None:
    """A setting with a slip in it is an error that names it and the cure, and never means nothing."""
    with pytest.raises(BylawError) as caught:
        LogOptions.parse(place, **given)

    assert caught.value.code == "bad_settings"
    assert complaint in caught.value.message


def test_good_settings() -> None:
    """Settings are read as they are meant, and do not show what is secret in them."""
    options = LogOptions.parse(
        "https://me:pass@logs.example/in", masks="input.context.ip, input.subject", salt=SALT, sample="allow=0.1,deny=1"
    )

    assert options.masks == (("input", "context", "ip"), ("input", "subject"))
    assert options.rates == Rates(0.1, 1.0, 1.0)
    assert "pass" not in repr(options)
    assert SALT not in repr(options)
    assert LogOptions.parse("http://[::1]:9/").place == "http://[::1]:9/"
    assert LogOptions.parse("http://localhost/").masks == ()


def test_nowhere_to_write(tmp_path: Path) -> None:
    """A directory that cannot be made is an error at the start, which names it."""
    (tmp_path / "file").write_text("")

    with pytest.raises(BylawError, match=r"BYLAW_DECISION_LOG: .*file/log cannot be written to: Not a directory"):
        asyncio.run(log_to(tmp_path / "file" / "log").start())


def test_the_log_tells_on_its_own_logger(caplog: pytest.LogCaptureFixture, tmp_path: Path) -> None:
    """A log that works tells nothing."""
    with caplog.at_level(logging.DEBUG, "bylaw.decision_log"):
        logged(tmp_path, asked(), allowed())

    assert [record for record in caplog.records if record.name == "bylaw.decision_log"] == []


@pytest.mark.parametrize(
    "question",
    [
        Request("acme", "user:zoë", "read", 'task:"t1"\n'),
        Request("acme", "user:ann", "read", "task:t1", context={"mfa": True}),
        Request(None, "user:ann", "read", "system:system"),
        Request("acme", "user:ann", "read", "task:t1", token_tenant="globex"),
        Request("acme", "user:ann", "read", "task:t1", resource_properties={"parent": "project:p1"}),
        HttpRequest("GET", "/projects/p1", "user:ann"),
    ],
)
def test_short_questions_are_written_as_all_are(question: Request | HttpRequest) -> None:
    """What is put together by hand is, byte for byte, what the one way to write would give."""
    assert written_input(question) == written(input_of(question))
