"""`bylaw replay` as its users meet it: a log in, what is wrong with it out."""

from __future__ import annotations

import asyncio
import hashlib
import json
import shutil
import tracemalloc
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bylaw.cli import main
from bylaw.log_chains import Findings, Verifier
from engine import Facts, HttpRequest, Policy, Request, RequestError
from engine.values import time_of
from sidecar.decision_log import DecisionLog
from sidecar.errors import to_public
from sidecar.log_lines import Chain, unseal, written
from sidecar.log_options import LogOptions
from sidecar.masking import parse_masks
from sidecar.wire import render_decision, render_item_error

ROOT = Path(__file__).parents[2]
STUDIO = ROOT / "policies" / "studio"
ASK = ["--policy", str(STUDIO), "--facts", str(STUDIO / "facts.yaml")]
NOW = datetime(2026, 3, 1, 10, tzinfo=UTC)
LEAS_LAST_DAY = datetime(2025, 12, 31, tzinfo=UTC)

QUESTIONS: list[Request | HttpRequest] = [
    *(
        Request("acme", subject, action, resource, context=context, now=NOW)
        for subject in ("user:ann", "user:bob", "user:gus", "user:eve", "user:audrey", "service:billing", "anonymous")
        for action in ("read", "update", "delete", "no-such-action")
        for resource in ("task:t1", "project:p2", "organization:acme", "folder:march", "nothing:x", "task:none")
        for context in ({}, {"mfa": True}, {"mfa": "wrong"})
    ),
    Request("acme", "user:lea", "read", "project:p1", now=LEAS_LAST_DAY),
    Request("acme", "user:lea", "read", "project:p1", now=NOW),
    Request("acme", "user:ann", "read", "task:new", resource_properties={"parent": "project:p1"}, now=NOW),
    Request(None, "user:ann", "read", "task:t1", token_tenant="acme", now=NOW),
    Request("acme", "user:ann", "read", "task:t1", token_tenant="globex", now=NOW),
    Request(None, "user:ann", "read", "task:t1", now=NOW),
    HttpRequest("GET", "/projects/p1", "user:ann", "acme", now=NOW),
    HttpRequest("DELETE", "/projects/p1/tasks/t1", "user:ann", "acme", context={"mfa": True}, now=NOW),
    HttpRequest("GET", "/nowhere", "user:ann", "acme", now=NOW),
    HttpRequest("GET", "/projects/../p1", "user:ann", "acme", now=NOW),
    HttpRequest("GET", "/healthz", now=NOW),
]


def answer_to(question: Request | HttpRequest, policy: Policy, facts: Facts, number: int) -> str:
    """Answer as the service does."""
    try:
        return render_decision(policy.decide(question, facts), policy.digest, f"01J{number:023d}")
    except RequestError as error:
        return render_item_error(to_public(error))


def log_decisions(folder: Path, questions: Sequence[Request | HttpRequest], **changes: Any) -> Path:
    """Decide over the studio, and log it; return the file."""
    policy = Policy.load(STUDIO)
    facts = Facts.load(STUDIO / "facts.yaml", policy)

    async def talk() -> None:
        log = DecisionLog(LogOptions(f"file:{folder}", stop_s=10, **changes), process="one")
        await log.start()
        for number, question in enumerate(questions):
            log.note(question, answer_to(question, policy, facts, number), "loopback", None, "/check")
        await log.stop()

    asyncio.run(talk())
    return next(iter(folder.iterdir()))


def chained(lines: Sequence[dict[str, Any]], name: str = "one-1") -> list[bytes]:
    """A whole chain that says what is wanted: the work of somebody who writes it all anew."""
    chain = Chain(name)
    return [chain.seal(written(line or {"text": ""})[1:-1]) for line in lines]


def changed(file: Path, change: Callable[[dict[str, Any]], None]) -> None:
    """Change what lines of a log say, and chain them anew."""
    said = [json.loads(line) for line in file.read_bytes().splitlines()]
    for line in said:
        change(line)
        for name in ("chain", "n", "before", "hash"):
            del line[name]
    file.write_bytes(b"".join(chained(said)))


def replayed(capsys: pytest.CaptureFixture[str], *arguments: str | Path) -> tuple[int, dict[str, Any]]:
    """Replay; return exit code and summary."""
    code = main(["replay", "--json", *map(str, arguments)])
    return code, json.loads(capsys.readouterr().out)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    """A log of five lines, with its directory."""
    return log_decisions(tmp_path / "log", QUESTIONS[:4])


# --- is it whole --------------------------------------------------------------------------------------


def test_a_whole_log(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Without a policy the chains are verified, and nothing is asked."""
    code = main(["replay", str(file.parent)])

    assert (code, capsys.readouterr().out) == (0, "1 file, 1 chain, 5 lines: whole\n")


def test_the_format_is_open(file: Path) -> None:
    """Whoever reads the documentation can verify a chain by himself: a line without its hash, and its SHA-256."""
    before = None
    for line in file.read_text().splitlines():
        head, _, tail = line.rpartition(', "hash": ')
        said = json.loads(line)

        assert hashlib.sha256((head + "}").encode()).hexdigest() == said["hash"] == json.loads(tail[:-1])
        assert said["before"] == before
        before = said["hash"]


def breaks(file: Path) -> list[tuple[str, int, str]]:
    found = Findings(is_shown=False)
    for _ in Verifier(found).verify([file]):
        pass
    return [(each["file"], each["line"], each["message"]) for each in found.kept]


@pytest.mark.parametrize("change", [lambda byte: byte ^ 1, lambda byte: 10 if byte != 10 else 32, lambda byte: 34])
def test_any_changed_byte_is_found(change: Callable[[int], int], file: Path) -> None:
    """Whichever byte of a log is changed, the file and the line are named in which it is, or the one behind it."""
    lines = file.read_bytes().splitlines(keepends=True)
    whole = b"".join(chained([{"text": "x"}, json.loads(lines[0]), {"closed": True}]))
    line = 1

    for place, byte in enumerate(whole):
        if change(byte) != byte:
            file.write_bytes(whole[:place] + bytes([change(byte)]) + whole[place + 1 :])
            found = breaks(file)

            assert found, f"byte {place}"
            assert found[0][0] == str(file)
            assert found[0][1] in (line, line + 1)
        line += byte == 10


@settings(max_examples=200, deadline=None, database=None)
@given(data=st.data())
def test_any_other_order_of_lines_is_found(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    """Lines that are removed, moved, doubled or put in are found, unless what is left is a beginning."""
    lines = chained([{"text": str(number)} for number in range(6)]) + chained([{"text": "other"}], "one-1")
    order = data.draw(st.lists(st.integers(0, 6), min_size=1, max_size=8))
    file = tmp_path_factory.getbasetemp() / "order.jsonl"

    file.write_bytes(b"".join(lines[number] for number in order))

    assert bool(breaks(file)) == (order != list(range(len(order))) and order != [6])


@pytest.mark.parametrize(
    ("order", "line", "message"),
    [
        ([1, 2, 4, 5], 3, "line 3 is missing before line 4"),
        ([1, 5], 2, "lines 2 to 4 are missing before line 5"),
        ([1, 3, 2, 4, 5], 2, "line 2 is missing before line 3"),
        ([1, 2, 2, 3, 4, 5], 3, "line 2 stands here again, or too late"),
        ([3, 4, 5], 1, "lines 1 to 2 are missing, and no line says that rotation removed them"),
        ([1, 2, 3, 4, 5, 5], 6, "this line comes after the one that closed its chain"),
    ],
)
def test_what_is_broken_is_named(
    order: list[int], line: int, message: str, file: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """A break is named by file and line, in words, with the chain; exit code 1."""
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[number - 1] for number in order))
    chain = unseal(lines[0].rstrip()).chain

    code = main(["replay", str(file)])

    out = capsys.readouterr().out.splitlines()
    assert code == 1
    assert out[0] == f"{file}:{line}: {message}, chain {chain}"
    assert "broken in" in out[-1] or "broken in" in out[-2]


def test_one_break_is_told_once(file: Path) -> None:
    """After a break the chain is followed from there on: two lines that changed places are two findings."""
    lines = file.read_bytes().splitlines(keepends=True)
    file.write_bytes(b"".join(lines[number] for number in (0, 2, 1, 3, 4)))

    assert [line for _, line, _ in breaks(file)] == [2, 3]


def test_a_line_that_was_written_anew_is_found(file: Path) -> None:
    """Who changes a line and gives it a new hash has to change all that follow: the next one does not follow it."""
    lines = file.read_bytes().splitlines(keepends=True)
    said = json.loads(lines[1])
    chain = Chain(said["chain"])
    chain.n, chain._before = 1, f'"{said["before"]}"'
    lines[1] = chain.seal('"decision": true, "context": {}')
    file.write_bytes(b"".join(lines))

    assert [(line, message.partition(",")[0]) for _, line, message in breaks(file)] == [
        (3, "line 3 does not follow the line before it")
    ]


def test_a_first_line_has_none_before_it(tmp_path: Path) -> None:
    """The first line of a chain does not follow another: one that says so was the second."""
    chain = Chain("one-1")
    chain._before = f'"{"0" * 64}"'
    (tmp_path / "x.jsonl").write_bytes(chain.seal('"text": ""'))

    assert [message for _, _, message in breaks(tmp_path / "x.jsonl")] == [
        "line 1 does not follow the line before it, chain one-1"
    ]


def test_a_line_that_was_cut_off(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """However little of its last line a killed process wrote, the log holds, and it is told."""
    whole = file.read_bytes()
    *_, last = whole.splitlines(keepends=True)

    for length in range(1, len(last) - 1):
        file.write_bytes(whole[: len(whole) - len(last) + length])
        assert not breaks(file), length
    code = main(["replay", str(file)])

    assert code == 0
    assert "1 chain cut off in the last line, as by a crash" in capsys.readouterr().out


def test_only_the_last_line_may_be_cut_off(file: Path, tmp_path: Path) -> None:
    """Where the chain goes on in another file, or was closed, half a line is no crash."""
    lines = file.read_bytes().splitlines(keepends=True)
    first, second = tmp_path / "a.jsonl", tmp_path / "b.jsonl"
    first.write_bytes(b"".join(lines[:2]) + lines[2][:40])
    second.write_bytes(b"".join(lines[2:]))
    file.write_bytes(b"".join(lines) + lines[2][:70])
    found = Findings(is_shown=False)

    for _ in Verifier(found).verify([first, second]):
        pass

    assert [(each["file"], each["line"], each["message"]) for each in found.kept] == [
        (str(first), 3, "this line was cut off, and yet its chain goes on")
    ]
    assert [(line, message) for _, line, message in breaks(file)] == [
        (6, "something comes after the line that closed its chain")
    ]


def test_what_rotation_removed_is_not_missing(tmp_path: Path) -> None:
    """A chain may begin where it says itself that rotation removed what was before, and not later."""
    lines = chained([{}, {}, {}, {"removed": 2}, {}])
    good, bad = tmp_path / "good.jsonl", tmp_path / "bad.jsonl"
    good.write_bytes(b"".join(lines[2:]))
    bad.write_bytes(b"".join(lines[3:]))

    assert not breaks(good)
    assert [line for _, line, _ in breaks(bad)] == [1]


def test_chains_mixed_in_one_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Processes that share standard output share a file, too: each chain is followed by itself."""
    one, two = chained([{}, {}, {"closed": True}]), chained([{}, {"dropped": 7}, {}], "two-1")
    (tmp_path / "out.jsonl").write_bytes(b"".join(line for pair in zip(one, two, strict=True) for line in pair))

    code, said = replayed(capsys, tmp_path)

    assert code == 0
    assert said | {"files": 1, "lines": 6, "chains": 2, "open": 1, "dropped": 7, "broken": 0} == said


def test_files_are_taken_in_their_order(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """In a directory the files of a chain are read by their numbers, also when there are more digits."""
    one, two, three = chained([{}, {}, {}])
    (tmp_path / "decisions-a-99999.jsonl").write_bytes(one)
    (tmp_path / "decisions-a-100000.jsonl").write_bytes(two)
    (tmp_path / "decisions-a-100001.jsonl").write_bytes(three)

    code, said = replayed(capsys, tmp_path)

    assert (code, said["lines"], said["files"]) == (0, 3, 3)


@pytest.mark.parametrize(
    "junk",
    [
        *(b"\n", b"hello\n", b"{}\n", b"[]\n", b"\xff\xfe\n", b'{"chain": "one"}\n', b"junk"),
        b'{"chain": "' + b"x" * 3_000_000 + b"\n",
    ],
    ids=range(8),
)
def test_what_is_no_line_is_named(junk: bytes, file: Path) -> None:
    """What is no line of a log is named by its place, and what follows is verified all the same."""
    file.write_bytes(file.read_bytes() + junk)

    assert [(line, message) for _, line, message in breaks(file)] == [(6, "this is no line of a decision log")]


def test_many_findings_are_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Past a hundred, findings are only counted."""
    (tmp_path / "x.jsonl").write_bytes(b"{}\n" * 130)

    code = main(["replay", str(tmp_path)])
    out = capsys.readouterr().out.splitlines()
    _, said = replayed(capsys, tmp_path)

    assert code == 1
    assert len(out) == 102
    assert out[100] == "… and 30 more findings"
    assert (len(said["findings"]), said["more_findings"], said["broken"]) == (100, 30, 130)


def test_a_huge_log_needs_no_memory(tmp_path: Path) -> None:
    """What is held in memory does not grow with the log."""
    file = tmp_path / "x.jsonl"
    file.write_bytes(b"".join(chained([{"text": "x" * 1000}] * 3000)))

    tracemalloc.start()
    found = breaks(file)
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()

    assert found == []
    assert peak < 500_000 < file.stat().st_size / 6


# --- is it decided so again ---------------------------------------------------------------------------


def test_a_real_log_is_derived_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every decision over the studio, by resource and by path, errors and what has expired, comes out the same."""
    log_decisions(tmp_path, QUESTIONS)

    code, said = replayed(capsys, tmp_path, *ASK)

    assert (code, said["same"], said["different"], said["broken"]) == (0, len(QUESTIONS), 0, 0)
    assert (said["of_another_policy"], said["of_another_revision"], said["findings"]) == (0, 0, [])


def test_questions_are_asked_at_their_instant(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What was allowed before a membership ended is allowed again; a minute after its end it would not be."""
    file = log_decisions(tmp_path, [Request("acme", "user:lea", "read", "project:p1", now=LEAS_LAST_DAY)])
    allowed = json.loads(file.read_text().splitlines()[0])["decision"]
    same = main(["replay", str(tmp_path), *ASK])

    changed(file, lambda line: line.update(time="2026-01-01T00:00:00.000000Z"))
    capsys.readouterr()
    different, said = replayed(capsys, tmp_path, *ASK)

    assert (allowed, same, different) == (True, 0, 1)
    assert said["changed"]["neither"] == 1


@pytest.fixture
def studio(tmp_path: Path) -> Path:
    """A copy of the studio, to change."""
    shutil.copytree(STUDIO, tmp_path / "studio")
    return tmp_path / "studio"


def with_a_deny(studio: Path) -> list[str]:
    """Change the policy, so that nobody reads tasks; return what to ask it by."""
    with (studio / "studio.bylaw").open("a") as text:
        text.write("\ndeny closed: anyone to task.read\n")
    return ["--policy", str(studio / "studio.bylaw")]


def with_another_role(studio: Path) -> list[str]:
    """Change the facts, so that Ann is no manager; return what to ask on."""
    text = (studio / "facts.yaml").read_text()
    (studio / "facts.yaml").write_text(text.replace("role: manager, ", "role: artist,  "))
    return ["--facts", str(studio / "facts.yaml")]


def test_a_policy_that_changed(file: Path, studio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a decision comes out differently and the policy is another, this is said, with both digests."""
    arguments = [*with_a_deny(studio), *ASK[2:]]

    code = main(["replay", str(file), *arguments])
    out = capsys.readouterr().out
    _, said = replayed(capsys, file, *arguments)

    then, now = Policy.load(STUDIO).digest, Policy.load(studio / "studio.bylaw").digest
    assert code == 1
    assert f"; the policy was {then[:19]}…, and is {now[:19]}…\n" in out
    assert "deny rule by closed now" in out
    assert "the facts were" not in out
    assert said["changed"] == {"policy": 2, "revision": 0, "both": 0, "neither": 0, "unknown": 0}
    assert (said["of_another_policy"], said["same"], said["different"]) == (3, 2, 2)


def test_facts_that_changed(file: Path, studio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where a decision comes out differently and the facts are another revision, this is said, with both."""
    arguments = [*ASK[:2], *with_another_role(studio)]

    code = main(["replay", str(file), *arguments])
    out = capsys.readouterr().out
    _, said = replayed(capsys, file, *arguments)

    assert code == 1
    assert f"{file}:1: 01J00000000000000000000000: allow role by organization.manager on organization:acme" in out
    assert f"and are {said['revision']}\n" in out
    assert "the policy was" not in out
    assert "3 of them made on another revision of the facts" in out
    assert said["changed"]["revision"] == said["different"] == 3


def test_both_changed(file: Path, studio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where policy and facts are both others, both are said."""
    code, said = replayed(capsys, file, *with_a_deny(studio), *with_another_role(studio))

    assert (code, said["changed"]["both"]) == (1, 3)
    assert "the policy was" in said["findings"][0]["message"]
    assert "the facts were" in said["findings"][0]["message"]


def test_a_change_that_changes_nothing(file: Path, studio: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Decisions that another policy made, and that come out the same, are told and no failure."""
    (studio / "more.bylaw").write_text("# nothing but words\n")

    code, said = replayed(capsys, file, "--policy", studio, *ASK[2:])

    assert (code, said["same"], said["of_another_policy"]) == (0, 4, 3)


def test_a_contradiction(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Where neither policy nor facts are others, somebody is wrong, and this is said."""
    changed(file, lambda line: line.update(decision=False) if "decision" in line else None)

    code = main(["replay", str(file), *ASK])

    assert code == 1
    assert "the log or this version of Bylaw is wrong" in capsys.readouterr().out


def test_another_reason_is_a_difference(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An allow for another reason than the logged one is different."""

    def other(line: dict[str, Any]) -> None:
        if line.get("context", {}).get("by"):
            line["context"]["by"] = "organization.owner on organization:acme"

    changed(file, other)

    code, said = replayed(capsys, file, *ASK)

    assert code == 1
    assert "organization.owner" in said["findings"][0]["message"]


def test_what_is_masked_is_not_asked(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A masked question cannot be asked again: it is counted. What is masked beside it is not compared."""
    log_decisions(tmp_path / "a", QUESTIONS[:3], masks=parse_masks("input.subject"))
    log_decisions(tmp_path / "b", QUESTIONS[:3], masks=parse_masks("context.by,context.revision,caller"))

    code, said = replayed(capsys, tmp_path / "a", tmp_path / "b", *ASK)

    assert (code, said["masked"], said["same"], said["different"]) == (0, 3, 3, 0)
    assert said["of_another_revision"] == 0


def test_who_writes_a_mask_hides_nothing(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """What looks like a mask, because a caller sent it, is asked again like everything else."""
    log_decisions(tmp_path, [Request("acme", "user:ann", "read", "task:t1", context={"note": "masked:00"}, now=NOW)])

    _, said = replayed(capsys, tmp_path, *ASK)

    assert (said["masked"], said["same"]) == (0, 1)


def test_what_the_service_could_not_decide(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`stale` and a fault of the service rested on its state then, and cannot come out again."""
    answers: list[dict[str, Any]] = [{"code": "stale"}, {"code": "internal", "error": {"status": 500}}]
    usual = {"decision": False, "time": "2026-03-01T10:00:00.000000Z", "input": {"subject": "user:ann"}}
    file.write_bytes(b"".join(chained([usual | {"context": answer} for answer in answers])))

    code, said = replayed(capsys, file, *ASK)

    assert (code, said["stale"], said["same"]) == (0, 2, 0)


FORGED: list[dict[str, Any]] = [
    {"context": None},
    {"context": []},
    {"masked": "input"},
    {"time": 5},
    {"time": "yesterday"},
    {"time": "9999-12-31T23:59:60Z"},
    {"input": None},
    {"input": []},
    {"input": {"subject": 5}},
    {"input": {"context": "x"}},
    {"input": {"method": "GET"}},
    {"input": {"method": "GET", "path": "/", "resource": "task:t1"}},
    {"input": {"resource": "task:t1", "path": "/"}},
    {"input": {"now": "x"}},
    {"input": {"__class__": "x"}},
]


@pytest.mark.parametrize("forged", FORGED, ids=str)
def test_a_chain_may_say_anything(forged: dict[str, Any], file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A line with a good hash that is no decision is named; nothing that it says makes the command fail."""
    usual = {"decision": False, "context": {"code": "x"}, "time": "2026-03-01T10:00:00.000000Z", "input": {}}
    file.write_bytes(b"".join(chained([usual | forged])))

    code, said = replayed(capsys, file, *ASK)

    assert (code, said["broken"], said["same"]) == (1, 1, 0)


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"subject": "user:ann"},
        {"subject": "", "action": "", "resource": ""},
        {"subject": "user", "action": "read", "resource": "task"},
        {"subject": "user:ann", "action": "read", "resource": "task:t1", "context": {"mfa": {"a": [{}]}}},
        {"subject": "user:ann", "action": "read", "resource": "x" * 70000},
        {"subject": "user:ann", "action": "read", "resource": "task:t1", "subject_properties": {"roles": 5}},
        {"subject": "user:ann", "action": "read", "resource": "task:t1", "resource_properties": {"parent": []}},
        {"method": "", "path": ""},
        {"method": "GET", "path": "/%ff//..", "subject": ":"},
    ],
    ids=str,
)
def test_a_question_may_be_anything(asked: dict[str, Any], file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Whatever a forged line asks has an answer or an error of the engine, which is not the one that was logged."""
    usual = {"decision": True, "context": {"code": "x\x1b[2J"}, "time": "2026-03-01T10:00:00.000000Z"}
    file.write_bytes(b"".join(chained([usual | {"input": asked}])))

    code = main(["replay", str(file), *ASK])

    out = capsys.readouterr().out
    assert code == 1
    assert "allow x?[2J was logged, deny " in out
    assert "\x1b" not in out


# --- how it is called ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["nowhere"], "nowhere: No such file or directory"),
        (["."], "no *.jsonl in this directory"),
        ([".", "--policy", str(STUDIO)], "--policy and --facts go together"),
        ([".", "--facts", ASK[3]], "--policy and --facts go together"),
        ([".", "--policy", "nowhere", "--facts", ASK[3]], "no *.jsonl"),
    ],
)
def test_what_cannot_run(
    arguments: list[str],
    complaint: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """What cannot be run is exit code 2, and one sentence on standard error."""
    monkeypatch.chdir(tmp_path)

    code = main(["replay", *arguments])

    out, err = capsys.readouterr()
    assert (code, out) == (2, "")
    assert complaint in err


def test_the_documentation_shows_a_real_line(file: Path) -> None:
    """The line in the documentation has the members that lines have, in their order."""
    page = (ROOT / "docs" / "decision_log.md").read_text(encoding="utf-8")
    shown = json.loads(page.partition("```json\n")[2].partition("```")[0])

    line = json.loads(file.read_text().splitlines()[0])

    assert list(shown) == list(line)
    assert list(shown["context"]) == list(line["context"])
    assert all(type(shown[name]) is type(line[name]) for name in ("n", "time", "context", "input", "hash"))


def test_the_instant_of_the_engine() -> None:
    """The instants of these tests are those that the engine takes."""
    assert QUESTIONS[0].now == time_of(NOW)
