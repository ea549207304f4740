"""Several processes on one port: who answers, who takes whose place, and how it all ends."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPConnection, HTTPException, HTTPResponse
from pathlib import Path

import psutil  # type: ignore[import-untyped]  # comes with the PostgreSQL package
import pytest

from sidecar.addresses import Address, beside, bind, end_listening, hold
from sidecar.settings import Settings
from sidecar.workers import ending, next_pause
from tests.sidecar.conftest import STUDIO, Answer, answer_of
from tests.sidecar.test_process import (
    BODY,
    HEAD,
    ask,
    connected,
    ended,
    is_refused,
    listening,
    over,
    process,
    read_until,
    running,
)

PATIENCE_S = 30.0


def several(folder: Path = STUDIO, http: str = "127.0.0.1:0", number: int = 3) -> tuple[str, ...]:
    return (*over(folder, http), "--workers", str(number))


def children(started: subprocess.Popen[str]) -> set[psutil.Process]:
    return set(psutil.Process(started.pid).children())


def until(is_so: Callable[[], bool], what: str) -> None:
    """Look until it is so."""
    deadline = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < deadline, what


def server_of(connection: socket.socket, processes: set[psutil.Process]) -> int | None:
    """Say which process has the other end of a connection; None: none any more."""
    port = connection.getsockname()[1]
    for each in processes:
        with suppress(psutil.NoSuchProcess, psutil.AccessDenied):
            if any(other.raddr and other.raddr.port == port for other in each.net_connections("tcp")):
                return int(each.pid)
    return None


@contextmanager
def one_to_each(where: str, processes: set[psutil.Process]) -> Iterator[dict[int, HTTPConnection]]:
    """Connect until each process has answered; keep a connection to each."""
    found: dict[int, HTTPConnection] = {}
    with ExitStack() as stack:
        deadline = time.monotonic() + PATIENCE_S
        while len(found) < len(processes):
            assert time.monotonic() < deadline, f"of {processes} only {found.keys()} answer"
            connection = stack.enter_context(connected(where))
            assert ask(connection, "GET", "/health").status == 200
            pid = server_of(connection.sock, processes)
            assert pid is not None
            found.setdefault(pid, connection)
        yield found


# --- who answers --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_all_answer_on_one_port() -> None:
    """It says once that it listens, when all processes are ready, and each of them answers."""
    with process(*several(), "--database-url", "postgresql+asyncpg://me:secret@127.0.0.1/x") as started:
        where = listening(started)
        workers = children(started)

        with one_to_each(where, workers) as connections:
            answers = [ask(connection, "POST", "/check", BODY) for connection in connections.values()]
        lines = [" ".join(each.cmdline()) for each in workers]
        started.send_signal(signal.SIGINT)
        rest = started.communicate(timeout=10)

    assert [answer.json["decision"] for answer in answers] == [True] * 3
    assert len({answer.json["context"]["id"] for answer in answers}) == 3
    assert not [line for line in lines if "secret" in line]  # everybody on the machine may read it
    assert (started.returncode, *rest) == (0, "", "")


@pytest.mark.slow
def test_sighup_reaches_all(folder: Path) -> None:
    """On SIGHUP each process looks at the disk, and says so under its own number."""
    with process(*several(folder)) as started:
        listening(started)
        workers = {each.pid for each in children(started)}
        (folder / "studio.bylaw").write_text("tenant org { actions read }\n", encoding="utf-8")
        (folder / "facts.yaml").write_text("tenants: { acme: {} }\n", encoding="utf-8")

        started.send_signal(signal.SIGHUP)
        said = ""
        while said.count("loaded policy") < 3:
            said += read_until(started.stderr, "loaded policy")

    assert [pid for pid in workers if f"bylaw[{pid}]: loaded policy" not in said] == []


# --- who dies -----------------------------------------------------------------------------------------


@dataclass
class Load:
    """Clients that ask without pause, each over a connection that it keeps.

    Attributes:
        lost: the processes that connections were lost to; None: it was not known yet to which.
        wrong: answers that are none.
    """

    where: str
    processes: set[psutil.Process]
    answered: int = 0
    lost: list[int | None] = field(default_factory=list)
    wrong: list[str] = field(default_factory=list)
    _stop: threading.Event = field(default_factory=threading.Event)

    @contextmanager
    def running(self, clients: int) -> Iterator[None]:
        threads = [threading.Thread(target=self._live) for _ in range(clients)]
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            self._stop.set()
            for thread in threads:
                thread.join()

    def _live(self) -> None:
        while not self._stop.is_set():
            self._ask_on_one_connection()

    def _ask_on_one_connection(self) -> None:
        pid: int | None = None
        try:
            with connected(self.where) as connection:
                while not self._stop.is_set():
                    answer = ask(connection, "POST", "/check", BODY)
                    self.answered += 1
                    if answer.status != 200 or not answer.json["decision"]:
                        self.wrong.append(answer.text)
                    pid = pid or server_of(connection.sock, self.processes)
        except (OSError, HTTPException):
            self.lost.append(pid)


@pytest.mark.slow
def test_a_killed_worker_is_replaced() -> None:
    """What a process held when it is killed is lost and nothing else; another one takes its place, and answers."""
    with process(*several()) as started:
        where = listening(started)
        before = children(started)
        with one_to_each(where, before):
            pass
        victim = min(before, key=lambda each: each.pid)
        load = Load(where, before)

        with load.running(clients=8):
            until(lambda: load.answered > 100, "nobody answers")
            victim.kill()
            said = read_until(started.stderr, "takes its place")
            until(lambda: len(children(started)) == 3, "nobody takes its place")
            with one_to_each(where, children(started)):
                answered = load.answered
            until(lambda: load.answered > answered + 100, "nobody answers")

        assert f"worker {victim.pid} was killed by SIGKILL" in said
        assert load.wrong == []
        assert {*load.lost} <= {victim.pid, None}
        assert len(load.lost) <= 8


@pytest.mark.slow
def test_what_cannot_start_again_is_tried_again(folder: Path) -> None:
    """A process that cannot take another's place says why, while the others go on, and comes when it can."""
    with process(*several(folder, number=2)) as started:
        where = listening(started)
        good = (folder / "studio.bylaw").read_text(encoding="utf-8")
        victim, other = children(started)
        (folder / "studio.bylaw").write_text("allow oops: anyone to task.fly\n", encoding="utf-8")

        victim.kill()
        said = read_until(started.stderr, "ended with code 2; another takes its place")
        with one_to_each(where, {other}) as connections:
            answer = ask(connections[other.pid], "POST", "/check", BODY)
        (folder / "studio.bylaw").write_text(good, encoding="utf-8")
        until(lambda: _serves_two(where, started), "nobody takes its place")

        assert '"bad_policy"' in said
        assert answer.json["decision"] is True
        assert started.poll() is None


def _serves_two(where: str, started: subprocess.Popen[str]) -> bool:
    """Say whether each of two processes has a connection of some opened now."""
    workers = children(started)
    with ExitStack() as stack:
        opened = [stack.enter_context(connected(where)) for _ in range(8)]
        return len({server_of(each.sock, workers) for each in opened} - {None}) == 2


@pytest.mark.slow
def test_they_go_when_the_supervisor_is_killed() -> None:
    """When the supervisor is killed, no process stays behind, and nobody listens any more."""
    with process(*several()) as started:
        where = listening(started)
        workers = children(started)

        started.kill()
        _, alive = psutil.wait_procs(workers, timeout=15)

        assert alive == []
        assert is_refused(where)


# --- how it ends --------------------------------------------------------------------------------------


@pytest.mark.slow
def test_sigterm_finishes_what_is_in_flight() -> None:
    """On SIGTERM every process accepts no more, answers what is in flight, and the whole exits with 0."""
    with process(*several()) as started, ExitStack() as stack:
        where = listening(started)
        connections = stack.enter_context(one_to_each(where, children(started)))
        host, _, port = where.rpartition(":")
        in_flight = [stack.enter_context(socket.create_connection((host, int(port)), timeout=20)) for _ in range(12)]
        for each in in_flight:
            each.sendall(HEAD + BODY)
            assert read(each).status == 200
            each.sendall(HEAD + BODY[:10])
        for connection in connections.values():  # what was sent before on another connection is there
            assert ask(connection, "GET", "/health").status == 200

        started.terminate()
        while not is_refused(where):
            pass
        for each in in_flight:
            each.sendall(BODY[10:])
        answers = [read(each) for each in in_flight]

        assert [(answer.status, answer.json["decision"]) for answer in answers] == [(200, True)] * 12
        assert {answer.headers["connection"] for answer in answers} == {"close"}
        assert started.wait(10) == 0
        assert started.stderr is not None
        assert started.stderr.read() == ""


@pytest.mark.slow
def test_sigterm_under_load() -> None:
    """Who had connected when SIGTERM came is answered, even if nobody had accepted him yet; the others are refused."""
    lost: list[Exception] = []
    answered: list[bool] = []

    def live() -> None:
        while True:
            try:
                with connected(where) as connection:
                    answered.append(ask(connection, "POST", "/check", BODY).json["decision"])
            except ConnectionRefusedError:
                return
            except (OSError, HTTPException) as error:
                lost.append(error)

    with process(*several()) as started:
        where = listening(started)
        threads = [threading.Thread(target=live) for _ in range(8)]
        for thread in threads:
            thread.start()
        until(lambda: len(answered) > 100, "nobody answers")

        started.terminate()
        for thread in threads:
            thread.join()

        assert started.wait(10) == 0
    assert all(answered)
    assert len(lost) <= 3  # each process may turn one away, who comes in between its last look and the end


def read(connection: socket.socket) -> Answer:
    response = HTTPResponse(connection)
    response.begin()
    return answer_of(response)


@pytest.mark.slow
def test_what_does_not_end_is_killed() -> None:
    """A process that does not hear SIGTERM does not keep the whole from ending in time."""
    settings = Settings(STUDIO, STUDIO / "facts.yaml", Address("127.0.0.1", 0), workers=2, drain_s=0.1, json=True)
    script = (
        "import sys; from sidecar.settings import Settings; from sidecar.workers import serve;"
        "sys.exit(serve(Settings.from_json(sys.argv[1])))"
    )
    with running("-c", script, settings.to_json()) as started:
        listening(started)
        frozen, _ = workers = list(children(started))
        frozen.suspend()

        started.terminate()

        assert started.wait(10) == 0
        assert not [each for each in workers if each.is_running()]


@pytest.mark.slow
def test_a_broken_policy_is_told_once(folder: Path) -> None:
    """A policy that no process can start with is shown once, and the exit code is 2."""
    (folder / "extra.bylaw").write_text("allow oops: anyone to task.fly\n", encoding="utf-8")

    code, out, err = ended(*several(folder))

    assert (code, out) == (2, "")
    assert json.loads(err)["error"] == "bad_policy"


@pytest.mark.slow
def test_a_taken_port_does_not_start() -> None:
    """A port on which others share the work is taken for a second service, too."""
    with process(*several(number=2)) as started:
        where = listening(started)

        alone = ended(*over(STUDIO, where))
        shared = ended(*several(http=where, number=2))

    assert (alone[0], shared[0]) == (2, 2)
    assert "cannot listen on" in alone[2]
    assert "cannot listen on" in shared[2]


def test_a_place_that_is_held_is_held_before_anybody_listens() -> None:
    """A second service is refused also while the processes of the first are only starting."""
    held = bind(Address("127.0.0.1", 0))
    hold(held)
    try:
        beside(held[0]).close()
        with pytest.raises(OSError, match="in use"):
            bind(Address("127.0.0.1", held[0].getsockname()[1]))
    finally:
        held[0].close()


@pytest.mark.parametrize("is_unix", [False, True])
def test_who_waits_is_let_in(is_unix: bool, tmp_path: Path) -> None:
    """Connections that nobody has accepted when listening ends are not lost."""
    [door] = bind(Address(path=str(tmp_path / "s")) if is_unix else Address("127.0.0.1", 0))
    door.listen(8)
    with ExitStack() as stack:
        stack.callback(door.close)
        clients = [stack.enter_context(socket.socket(door.family)) for _ in range(3)]
        for each in clients:
            each.connect(door.getsockname())

        waiting = [stack.enter_context(each) for each in end_listening(door)]
        for each in waiting:
            each.sendall(b"welcome")

        assert [each.recv(7) for each in clients] == [b"welcome"] * 3


@pytest.mark.slow
def test_a_unix_socket_is_the_supervisors(tmp_path: Path) -> None:
    """The file of a Unix socket outlives a process that dies, and is removed in the end."""
    path = tmp_path / "s"
    with process(*several(http=f"unix:{path}", number=2)) as started:
        assert listening(started) == f"unix:{path}"
        min(children(started), key=lambda each: each.pid).kill()
        read_until(started.stderr, "takes its place")

        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(path))
            connection.sendall(HEAD + BODY)
            assert read(connection).json["decision"] is True
        started.terminate()
        assert started.wait(10) == 0

    assert not path.exists()


# --- parts --------------------------------------------------------------------------------------------


def test_the_pause_grows_for_what_dies_at_once() -> None:
    """Who dies at once again and again is started ever more seldom, and who lived for a while at once."""
    pauses = [0.0]
    for _ in range(8):
        pauses.append(next_pause(pauses[-1], lived_s=1.0))

    assert pauses == [0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 3.2, 5.0, 5.0]
    assert next_pause(5.0, lived_s=60.0) == 0.0


@pytest.mark.parametrize(("code", "said"), [(0, "ended with code 0"), (-15, "was killed by SIGTERM")])
def test_an_end_is_put_in_words(code: int, said: str) -> None:
    """How a process ended is told in words, with the name of the signal."""
    assert ending(code) == said


def test_settings_come_through_a_pipe() -> None:
    """Settings that are written down and read are the same, and what is shown of them holds no password."""
    settings = Settings(
        Path("here"),
        Path("facts.yaml"),
        Address(path="/run/s"),
        database_url="postgresql+asyncpg://me:secret@h/x",
        redis_url="redis://:secret@h",
        cache_key="secret" * 8,
        workers=3,
        public_url="https://pdp.example",
    )

    assert Settings.from_json(settings.to_json()) == settings
    assert Settings.from_json(Settings().to_json()) == Settings()
    assert "secret" not in repr(settings)


def test_a_process_without_a_supervisor_does_nothing() -> None:
    """A process whose supervisor is gone before it said anything ends at once."""
    done = subprocess.run(
        [sys.executable, "-m", "sidecar", "--worker", "9"], stdin=subprocess.DEVNULL, capture_output=True, check=True
    )

    assert (done.stdout, done.stderr) == (b"", b"")
