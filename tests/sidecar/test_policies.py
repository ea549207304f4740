"""What is loaded when, driven by hand: each poll is one look at the disk, and the clock is ours."""

from __future__ import annotations

import asyncio
import os
import shutil
from collections.abc import Coroutine
from pathlib import Path
from typing import Any

import pytest

from engine import BylawError, Policy, Request
from sidecar.policies import Policies, describe
from sidecar.readings import ChangedError, load, read, stamp
from store.errors import UnavailableError

ANN = Request("acme", "user:ann", "task.read", "task:t1")
EXTRA = 'deny quiet: anyone to task.read because "quiet hours"\n'


class Watched:
    """Policies over a folder, with a clock that is moved by hand and what was reported."""

    def __init__(self, folder: Path) -> None:
        self.now = 100.0
        self.reports: list[str] = []
        self.folder = folder
        self.policies = Policies(
            folder, folder / "facts.yaml", report=self.reports.append, clock=lambda: self.now, settle_s=0.5
        )

    @property
    def is_allowed(self) -> bool:
        loaded = self.policies.loaded
        return loaded.policy.decide(ANN, loaded.facts).allowed

    async def poll(self, times: int = 1, *, every_s: float = 0.5) -> None:
        """Look, then let time pass, so often."""
        for _ in range(times):
            await self.policies.poll()
            self.now += every_s

    def write(self, name: str, text: str) -> None:
        (self.folder / name).write_text(text, encoding="utf-8")


def drive(steps: Coroutine[Any, Any, None]) -> None:
    asyncio.run(steps)


@pytest.fixture
def watched(folder: Path) -> Watched:
    """The example studio, loaded."""
    found = Watched(folder)
    asyncio.run(found.poll(2))
    assert found.is_allowed
    return found


def test_two_readings_half_a_second_apart(folder: Path) -> None:
    """Nothing is loaded at the first look, nor sooner than half a second after it."""
    found = Watched(folder)

    async def steps() -> None:
        await found.poll(1, every_s=0.4)
        await found.poll(1, every_s=0.2)
        with pytest.raises(RuntimeError):
            _ = found.policies.loaded
        await found.poll()

    drive(steps())
    assert found.is_allowed
    assert found.reports == []


def test_a_change_is_taken_once_it_stands_still(watched: Watched) -> None:
    """A policy that is still being written is not taken; half a second after its last change it is."""

    async def steps() -> None:
        for number in range(5):
            watched.write("extra.bylaw", f"# {number}\n{EXTRA}")
            await watched.poll()
            assert watched.is_allowed
        await watched.poll()

    drive(steps())
    assert not watched.is_allowed
    assert len(watched.reports) == 1
    assert watched.policies.loaded.policy.digest in watched.reports[0]


def test_facts_alone_change_too(watched: Watched) -> None:
    """Changed facts are taken with the policy that runs, which is not compiled again."""
    before = watched.policies.loaded
    text = (watched.folder / "facts.yaml").read_text(encoding="utf-8")
    watched.write(
        "facts.yaml", text.replace("members: { acme: active } }     # manager", "members: { acme: suspended } }")
    )

    drive(watched.poll(2))

    after = watched.policies.loaded
    assert after.policy is before.policy
    assert after.facts.revision != before.facts.revision
    assert not watched.is_allowed


def test_policy_and_facts_change_together(tmp_path: Path) -> None:
    """A policy whose facts do not fit it yet is not taken, and is taken with those that do."""
    found = Watched(tmp_path)
    policy = "resource doc {{ actions read }}\nrole {0} on tenant {{ can doc.read }}\n"
    facts = (
        "users: {{ ann: {{}} }}\nresources: {{ doc:d1: {{}} }}\n"
        "assignments: [{{ subject: user:ann, role: {0}, on: tenant }}]\n"
    )

    async def steps() -> None:
        found.write("a.bylaw", policy.format("reader"))
        found.write("facts.yaml", facts.format("reader"))
        await found.poll(2)
        before = found.policies.loaded
        found.write("a.bylaw", policy.format("viewer"))
        await found.poll(3)
        assert found.policies.loaded is before
        assert found.policies.problem is not None
        found.write("facts.yaml", facts.format("viewer"))
        await found.poll(3)

    drive(steps())
    loaded = found.policies.loaded
    assert found.policies.problem is None
    assert (
        loaded.policy.decide(Request(None, "user:ann", "read", "doc:d1"), loaded.facts).by
        == "tenant.viewer on tenant:tenant"
    )


def test_a_broken_policy_leaves_the_old_one(watched: Watched) -> None:
    """What does not compile is reported once, with every error, and changes nothing."""
    before = watched.policies.loaded
    watched.write("extra.bylaw", "allow oops: anyone to task.fly\n")

    drive(watched.poll(6))

    assert watched.policies.loaded is before
    assert len(watched.reports) == 1
    assert "extra.bylaw:1" in watched.reports[0]
    assert "fly" in watched.reports[0]
    assert isinstance(watched.policies.problem, BylawError)


def test_a_repaired_policy_is_taken(watched: Watched) -> None:
    """The next good reading is taken, and nothing is degraded any more."""

    async def steps() -> None:
        watched.write("extra.bylaw", "allow oops")
        await watched.poll(3)
        watched.write("extra.bylaw", EXTRA)
        await watched.poll(3)

    drive(steps())
    assert watched.policies.problem is None
    assert not watched.is_allowed


def test_back_to_what_runs(watched: Watched) -> None:
    """When the disk says again what is loaded, nothing is loaded and nothing is degraded."""
    before = watched.policies.loaded

    async def steps() -> None:
        watched.write("extra.bylaw", "allow oops")
        await watched.poll(3)
        assert watched.policies.problem is not None
        (watched.folder / "extra.bylaw").unlink()
        await watched.poll()

    drive(steps())
    assert watched.policies.loaded is before
    assert watched.policies.problem is None
    assert len(watched.reports) == 2


def test_broken_facts_leave_the_old_ones(watched: Watched) -> None:
    """Facts that do not fit the policy are reported with their place, and change nothing."""
    before = watched.policies.loaded
    watched.write("facts.yaml", "users: { ann: { members: { nowhere: active } } }\n")

    drive(watched.poll(3))

    assert watched.policies.loaded is before
    assert "nowhere" in watched.reports[0]


@pytest.mark.parametrize("name", ["studio.bylaw", "facts.yaml", "."])
def test_what_is_gone_leaves_the_old_one(watched: Watched, name: str) -> None:
    """A file or the whole directory that is gone for longer than a moment is reported, and changes nothing."""
    before = watched.policies.loaded
    away = watched.folder.with_name("away")

    async def steps() -> None:
        shutil.move(watched.folder / name, away)
        if name == "studio.bylaw":
            (watched.folder / "studio_test.bylaw").unlink()
        await watched.poll()
        assert watched.policies.problem is None
        await watched.poll(2)

    drive(steps())
    assert watched.policies.loaded is before
    assert watched.policies.problem is not None
    assert len(watched.reports) == 1


def test_names_with_a_point_say_nothing(watched: Watched) -> None:
    """Hidden files are no policy: what an editor leaves behind changes nothing."""
    before = watched.policies.loaded
    watched.write(".extra.bylaw", "allow oops")

    drive(watched.poll(3))

    assert watched.policies.loaded is before
    assert watched.policies.problem is None


def test_a_change_that_no_stamp_shows_is_seen_for_a_while(watched: Watched) -> None:
    """A file rewritten within one tick of the file system's clock is read all the same."""
    path = watched.folder / "extra.bylaw"

    async def steps() -> None:
        watched.write("extra.bylaw", EXTRA)
        before = path.stat()
        await watched.poll()
        path.write_text(EXTRA.replace("quiet", "qui3t"), encoding="utf-8")
        os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        await watched.poll(2)

    drive(steps())
    loaded = watched.policies.loaded
    assert loaded.policy.decide(ANN, loaded.facts).by == "qui3t"


def test_unchanged_files_are_not_read_for_ever(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """Once all stamps have stood still long enough, a poll costs no reading, until something changes."""
    read_times = 0

    def counted(*given: Any) -> Any:
        nonlocal read_times
        read_times += 1
        return read(*given)

    monkeypatch.setattr("sidecar.readings.read", counted)

    async def steps() -> None:
        await watched.poll(8)
        assert 0 < read_times < 8
        seen = read_times
        await watched.poll(5)
        assert read_times == seen
        watched.write("extra.bylaw", EXTRA)
        await watched.poll(2)
        assert read_times > seen

    drive(steps())
    assert not watched.is_allowed


def test_looking_again_forgets_a_refusal(watched: Watched) -> None:
    """SIGHUP has what was refused looked at anew, and reported anew."""

    async def steps() -> None:
        watched.write("extra.bylaw", "allow oops")
        await watched.poll(3)
        watched.policies.look_again()
        await watched.poll(3)

    drive(steps())
    assert len(watched.reports) == 2


def test_a_reading_that_is_no_longer_true_is_not_loaded(folder: Path) -> None:
    """Facts that change between reading and loading are not taken for those that were read."""
    reading = read(folder, folder / "facts.yaml")
    with (folder / "facts.yaml").open("a", encoding="utf-8") as file:
        file.write("# more\n")

    with pytest.raises(ChangedError):
        load(reading, folder / "facts.yaml", None)


def test_what_changes_while_it_loads_is_read_again(watched: Watched, monkeypatch: pytest.MonkeyPatch) -> None:
    """A reading that was overtaken is no error: the next ones are taken."""
    faults: list[Exception] = [ChangedError()]

    def overtaken(*given: Any) -> Any:
        if faults:
            raise faults.pop()
        return load(*given)

    monkeypatch.setattr("sidecar.policies.load", overtaken)
    watched.write("extra.bylaw", EXTRA)

    drive(watched.poll(4))

    assert not watched.is_allowed
    assert len(watched.reports) == 1


def test_a_fault_of_ours_leaves_the_old_one(
    watched: Watched, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Whatever goes wrong while loading, the old policy decides on, and the log says what it was."""

    def broken(*_: Any) -> Any:
        raise KeyError("of ours")

    monkeypatch.setattr("sidecar.policies.load", broken)
    watched.write("extra.bylaw", EXTRA)

    drive(watched.poll(4))

    assert watched.is_allowed
    assert "of ours" in caplog.text
    assert watched.policies.problem is not None
    assert "of ours" not in watched.policies.problem.message


def test_every_byte_and_name_counts(folder: Path) -> None:
    """Any change to a policy file, its name or the facts is another reading."""
    facts = folder / "facts.yaml"
    digests = {read(folder, facts).digest}

    (folder / "studio.bylaw").write_bytes((folder / "studio.bylaw").read_bytes() + b" ")
    digests.add(read(folder, facts).digest)
    (folder / "studio.bylaw").rename(folder / "other.bylaw")
    digests.add(read(folder, facts).digest)
    facts.write_bytes(facts.read_bytes() + b"\n")
    digests.add(read(folder, facts).digest)

    assert len(digests) == 4


def test_stamps_cover_what_links_point_to(tmp_path: Path, folder: Path) -> None:
    """A directory of links, as orchestrators mount it, changes when a link is turned to other content."""
    mount = tmp_path / "mount"
    mount.mkdir()
    (tmp_path / "one").write_text("# one\n", encoding="utf-8")
    (tmp_path / "two").write_text("# two\n", encoding="utf-8")
    (mount / "a.bylaw").symlink_to(tmp_path / "one")
    before = stamp(mount, None)

    (mount / "a.bylaw").unlink()
    (mount / "a.bylaw").symlink_to(tmp_path / "two")

    assert stamp(mount, None) != before


def test_starting_on_nothing_is_an_error(tmp_path: Path) -> None:
    """At the start what is broken is raised: there is no old one."""
    policies = Policies(tmp_path, None, report=lambda text: None, settle_s=0.01)

    with pytest.raises(BylawError) as caught:
        asyncio.run(policies.start())

    assert "no *.bylaw" in describe(caught.value)


def test_no_facts_are_facts(folder: Path) -> None:
    """Without a facts file every question about what is stored is a deny."""
    policies = Policies(folder, None, report=lambda text: None, settle_s=0.01)

    asyncio.run(policies.start())

    loaded = policies.loaded
    assert not loaded.policy.decide(ANN, loaded.facts).allowed


def test_the_watch_is_woken(folder: Path) -> None:
    """A wake-up has the disk looked at at once, with everything read anew."""

    async def steps() -> None:
        wake, reported = asyncio.Event(), asyncio.Event()
        policies = Policies(folder, folder / "facts.yaml", report=lambda text: reported.set(), settle_s=0.01)
        await policies.start()
        (folder / "extra.bylaw").write_text("allow oops", encoding="utf-8")
        watching = asyncio.create_task(policies.watch(wake))
        await reported.wait()
        reported.clear()
        wake.set()
        await reported.wait()
        watching.cancel()

    drive(steps())


def test_a_store_that_is_away_refuses_no_policy_for_good(watched: Watched) -> None:
    """A policy that cannot be held against the store, since that does not answer, is tried until it can be."""
    answers = [UnavailableError("the database does not answer")] * 2

    async def accept(_: Policy) -> None:
        if answers:
            raise answers.pop()

    async def steps() -> None:
        watched.policies._accept = accept
        watched.write("extra.bylaw", EXTRA)
        await watched.poll(3)
        problems.append(watched.policies.problem)
        await watched.poll(2)
        problems.append(watched.policies.problem)

    problems: list[BylawError | None] = []
    drive(steps())

    assert [problem and problem.code for problem in problems] == ["unavailable", None]
    assert not watched.is_allowed
