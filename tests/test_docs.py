"""The documentation is true: what it shows is linted, what it prints is printed, what it links to is there.

README.md and everything under docs/ is read. Each page has a folder of its own, with a copy of `policies/` in it, and
its blocks are taken from top to bottom:

    ```bylaw                   a policy without errors and warnings
    ```bylaw wrong CODE …      a policy in which lint finds exactly these (of errors and warnings, and the notes named)
    ```bylaw failing           a clean policy with a test that fails
    ```bylaw prelude           a policy to which the page's fragments belong
    ```bylaw fragment          declarations that lint together with the prelude
    ```console                 `$ bylaw …` and `$ curl …` are run, `$ sed 's/A/B/' FILE > FILE`, `$ echo $?` and
                               `$ export NAME=$(bylaw …)` played
    ```python                  is run; what a `print(…)` prints stands behind it as a comment

A block whose first line is a comment with the name of a file, like `# shop/roles.bylaw` or `# shop/facts.yaml`, is that
file, and so is a ```json NAME; a policy is linted together with its folder. A policy without a name is `policy.bylaw`
until the next one comes. In what a command prints, a line `…` stands for any lines; what differs from run to run is not
compared.

`BYLAW_GOLDEN=rewrite` lays the policies out anew, and in a second run writes what commands print. Read the diff before
you commit it.
"""

from __future__ import annotations

import contextlib
import inspect
import io
import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from http.client import HTTPConnection
from pathlib import Path
from unittest import mock
from urllib.parse import urlsplit

import pytest

from bylaw.cli import main
from engine.cursor import COMPARISONS, DECLARATIONS, TEST_WORDS
from engine.diagnostics import CODES
from engine.formatter import format_source
from engine.parser import Parser
from engine.source import Source

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
PAGES = sorted([ROOT / "README.md", *DOCS.rglob("*.md")])
REWRITES = os.environ.get("BYLAW_GOLDEN") == "rewrite"

_FENCE = re.compile(r"^```(.*)$")
_NAMED = re.compile(r"# ([\w./-]+\.(?:bylaw|yaml))\s*(?:\n|\Z)")
_LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} (.+?)\s*$", re.MULTILINE)
#: What differs from run to run, or from machine to machine.
_VARYING = (
    (re.compile(r"\b\d+(?:\.\d+)? ms\b"), "N ms"),
    (re.compile(r"sha256:[0-9a-f]{64}"), "sha256:…"),
    (re.compile(r"Python 3\.\d+\.\d+"), "Python 3"),
    (re.compile(r'"age_s": \d+\.\d+'), '"age_s": …'),
    (re.compile(r"now at [\w-]{30,}"), "now at …"),
    (re.compile(r'"(revision|id|requestId|timestamp)": ?"[^"]*"'), r'"\1":"…"'),
)


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: the words behind its fence, its text, and the line on which the text begins, from 0."""

    words: tuple[str, ...]
    text: str
    line: int

    @property
    def kind(self) -> str:
        return self.words[0] if self.words else ""

    @property
    def file(self) -> str | None:
        """The file that the block is, if its first line says so, or of JSON, which has no comments, its fence."""
        if self.kind == "json" and len(self.words) > 1:
            return self.words[1]
        named = _NAMED.match(self.text)
        return named.group(1) if named else None


def blocks(page: Path) -> list[Block]:
    """All fenced blocks of a page."""
    found: list[Block] = []
    lines = page.read_text(encoding="utf-8").splitlines()
    start: int | None = None
    words: tuple[str, ...] = ()
    for index, line in enumerate(lines):
        fence = _FENCE.match(line)
        if fence is None:
            continue
        if start is None:
            start, words = index + 1, tuple(fence.group(1).split())
        else:
            found.append(Block(words, "".join(f"{row}\n" for row in lines[start:index]), start))
            start = None
    assert start is None, f"{page.name}: a fence is not closed"
    return found


def name_of(page: Path) -> str:
    return page.relative_to(ROOT).as_posix()


def pages_with(*kinds: str) -> list[Path]:
    return [page for page in PAGES if any(block.kind in kinds for block in blocks(page))]


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A page's folder, in which its commands are run."""
    shutil.copytree(ROOT / "policies", tmp_path / "policies")
    with contextlib.chdir(tmp_path):
        yield tmp_path


def write(block: Block, folder: Path, prelude: str = "") -> Path:
    """Write a block as the file that it is; return what to lint: the file, or the folder that it belongs to."""
    name = block.file or "policy.bylaw"
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(prelude + block.text, encoding="utf-8")
    return path.relative_to(folder) if path.parent == folder else Path(name).parent


def bylaw(*arguments: str) -> tuple[int, str]:
    """Run a command in this process; return its exit code and all that it printed."""
    printed = io.StringIO()
    with (
        contextlib.redirect_stdout(printed),
        contextlib.redirect_stderr(printed),
        mock.patch.dict(os.environ, {"BYLAW_GOLDEN": ""}),
    ):
        os.environ.pop("BYLAW_GOLDEN")  # no variable of the product's, which refuses what it does not know
        try:
            code = main(list(arguments))
        except SystemExit as exit_:  # the command line itself was wrong
            code = exit_.code if isinstance(exit_.code, int) else 2
    return code, printed.getvalue()


def lint(path: Path) -> list[tuple[str, str]]:
    """Lint; return (code, where and what) of each finding."""
    _, printed = bylaw("lint", "--json", str(path))
    found = json.loads(printed)["diagnostics"]
    return [(d["code"], f"{d['file']}:{d['line']}:{d['column']} {d['code']} {d['message']}") for d in found]


def wrong_findings(path: Path, expected: Sequence[str]) -> list[str]:
    """What lint finds and should not, or should and does not. Notes count only if one is expected."""
    found = [(code, shown) for code, shown in lint(path) if code[0] != "N" or code in expected]
    unexpected = [shown for code, shown in found if code not in expected]
    return unexpected + [f"not found: {code}" for code in expected if code not in {known for known, _ in found}]


# --- policies --------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", pages_with("bylaw"), ids=name_of)
def test_policies_lint_as_the_page_says(page: Path, folder: Path) -> None:
    """A policy in the documentation is clean, or has exactly the findings that its block names; its tests pass."""
    problems: list[str] = []
    prelude = ""
    for block in blocks(page):
        if block.kind != "bylaw":
            continue
        how = block.words[1] if len(block.words) > 1 else ""
        assert how in ("", "wrong", "failing", "prelude", "fragment"), f"line {block.line}: {how}?"
        if how == "prelude":
            prelude = block.text
        path = write(block, folder, prelude if how == "fragment" else "")
        expected = block.words[2:] if how == "wrong" else ()
        assert bool(expected) == (how == "wrong"), f"line {block.line}: name the codes"
        problems += [f"line {block.line}: {problem}" for problem in wrong_findings(path, expected)]
        if how != "wrong" and 'test "' in block.text:
            code, printed = bylaw("test", str(path))
            problems += [] if code == (how == "failing") else [f"line {block.line}: {printed}"]

    assert not problems, "\n".join(problems)


@pytest.mark.parametrize("page", pages_with("bylaw"), ids=name_of)
def test_policies_are_laid_out_in_the_one_way(page: Path) -> None:
    """A policy in the documentation is laid out as `bylaw fmt` would, unless its mistake is that it cannot be read."""
    anew = [
        (block, format_source(Source("policy.bylaw", block.text)))
        for block in blocks(page)
        if block.kind == "bylaw" and not any(word.startswith("E01") for word in block.words)
    ]
    different = [f"line {block.line}:\n{text}" for block, text in anew if text != block.text]

    if different and REWRITES:
        rewrite(page, anew)
    assert not different, "\n".join(different)


@pytest.mark.parametrize("path", sorted((ROOT / "policies").glob("*/")), ids=lambda path: str(path.name))
def test_the_policies_that_the_documentation_shows_are_clean(path: Path) -> None:
    """The policy sets, the example of the language among them, have no errors and no warnings."""
    assert not wrong_findings(path, ())


# --- diagnostics -----------------------------------------------------------------------------------


def test_each_code_has_a_page_and_each_page_a_code() -> None:
    """The pages of docs/diagnostics are the codes, and the table lists each with its severity and title."""
    found = {page.stem for page in (DOCS / "diagnostics").glob("*.md")} - {"README"}
    table = (DOCS / "diagnostics" / "README.md").read_text(encoding="utf-8")

    rows = re.findall(r"^\| \[(\w+)\]\((\w+)\.md\) \| (\w+) \| (.+?) \|", table, re.MULTILINE)

    assert found == set(CODES)
    assert rows == [(code, code, severity, title) for code, (severity, title) in CODES.items()]


@pytest.mark.parametrize("code", CODES)
def test_a_diagnostics_page_shows_its_code(code: str, folder: Path) -> None:
    """A code's page has its title, a wrong example with that code, what is printed, and a right example without it."""
    page = DOCS / "diagnostics" / f"{code}.md"
    policies = [block for block in blocks(page) if block.kind == "bylaw"]
    wrong = [block for block in policies if block.words[1:] == ("wrong", code)]
    right = [block for block in policies if len(block.words) == 1]

    assert page.read_text(encoding="utf-8").startswith(f"# {code}: {CODES[code][1]}\n")
    assert wrong
    assert right
    assert any(f"[{code}]" in block.text for block in blocks(page) if block.kind == "console")
    for block in right:
        assert code not in [found for found, _ in lint(write(block, folder))]


# --- commands --------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Command:
    """A command of a console block: how it is written, what it says on one line, and what is said that it prints."""

    written: str
    text: str
    output: str


def commands(block: Block) -> list[Command]:
    """The commands of a console block. One whose line ends in a backslash or within quotes goes on in the next line."""
    found: list[tuple[list[str], list[str]]] = []
    for line in block.text.splitlines():
        if line.startswith("$ "):
            found.append(([line], []))
            continue
        assert found, f"line {block.line}: output before any command"
        written, output = found[-1]
        (written if not output and is_open("\n".join(written)) else output).append(line)
    return [Command("\n".join(written), text_of(written), "\n".join(output)) for written, output in found]


def text_of(written: Sequence[str]) -> str:
    return "\n".join(written).removeprefix("$ ").replace("\\\n", " ")


def is_open(command: str) -> bool:
    try:
        shlex.split(command)
    except ValueError:  # no closing quotation, or nothing behind a backslash
        return True
    return False


def comparable(text: str) -> list[str]:
    """The lines of an output, those that are empty left out, with what varies masked."""
    for pattern, stands_for in _VARYING:
        text = pattern.sub(stands_for, text)
    return [line.rstrip() for line in text.splitlines() if line.strip()]


def is_as_said(said: Sequence[str], printed: Sequence[str]) -> bool:
    """Compare outputs line by line; a line `…` stands for any lines."""
    if not said:
        return not printed
    if said[0] == "…":
        return any(is_as_said(said[1:], printed[skipped:]) for skipped in range(len(printed) + 1))
    return bool(printed) and said[0] == printed[0] and is_as_said(said[1:], printed[1:])


class Shell:
    """Runs the commands of one page, one after the other."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.code = 0
        self.server: Server | None = None
        self.exported: dict[str, str] = {}

    def run(self, text: str) -> str:
        """Run one command; return what it prints."""
        text, _, tool = text.partition(" | ")
        exported = re.fullmatch(r"export (\w+)=\$\((.+)\)", text)
        if exported is not None:  # what is captured comes last; before it stands what goes to standard error
            *told, self.exported[exported.group(1)] = self.run(exported.group(2)).splitlines()
            return "\n".join(told)
        for name, value in self.exported.items():
            text = text.replace(f"${name}", value)
        word, *arguments = shlex.split(text)
        if word == "bylaw":
            self.code, printed = self._bylaw(arguments)
        elif word == "curl":
            self.server = self.server or Server()
            printed = self.server.curl(arguments)
        elif word == "sed":  # sed 's/A/B/' FILE > FILE
            script, source, _, target = arguments
            _, old, new, _ = script.split("/")
            (self.folder / target).write_text((self.folder / source).read_text("utf-8").replace(old, new), "utf-8")
            printed = ""
        else:
            assert text == "echo $?", f"`{text}` is no command of these tests"
            printed = f"{self.code}\n"
        if tool:
            assert tool == "python3 -m json.tool", f"`{tool}` is no command of these tests"
            printed = json.dumps(json.loads(printed), indent=4)
        return printed

    def _bylaw(self, arguments: Sequence[str]) -> tuple[int, str]:
        """Run a command of the product; administration is asked where this page's server has it."""
        said = dict(self.exported)
        if arguments[0] == "admin":
            self.server = self.server or Server()
            said |= {"BYLAW_ADMIN": self.server.administration}
        with mock.patch.dict(os.environ, said):
            return bylaw(*arguments)

    def close(self) -> None:
        if self.server is not None:
            self.server.close()


class Server:
    """A service as `make run` starts it, on a port of its own, over the store in the page's folder."""

    def __init__(self) -> None:
        places = ["--http", "127.0.0.1:0", "--grpc", "none", "--admin", "127.0.0.1:0"]
        dev = ["dev", "--policies", "policies/studio", *places, "--json"]
        self.process = subprocess.Popen(
            [sys.executable, "-m", "bylaw", *dev],
            stdout=subprocess.PIPE,
            env={name: value for name, value in os.environ.items() if not name.startswith("BYLAW_")}
            | {"PYTHONPATH": str(ROOT)},
        )
        assert self.process.stdout is not None
        greeting = json.loads(self.process.stdout.readline())
        self.address = greeting["listening"]
        self.administration = greeting["administration"].removeprefix("http://")

    def curl(self, arguments: Sequence[str]) -> str:
        """Send what `curl` would send, to this server; return what it would print."""
        url, method, data, after, shows_headers = "", None, None, "", False
        headers: dict[str, str] = {}
        words = iter(arguments)
        for word in words:
            match word:
                case "-s":
                    pass
                case "-i":
                    shows_headers = True
                case "-X":
                    method = next(words)
                case "-d":
                    data = next(words)
                    headers = {"Content-Type": "application/x-www-form-urlencoded"} | headers
                case "-H":
                    name, _, value = next(words).partition(":")
                    headers[name] = value.strip()
                case "-w":
                    after = next(words).replace("\\n", "\n")
                case _:
                    url = word
        where = urlsplit(url)
        served = {"127.0.0.1:8180": self.address, "127.0.0.1:8190": self.administration}
        connection = HTTPConnection(served[where.netloc], timeout=10)
        with contextlib.closing(connection):
            path = f"{where.path}?{where.query}" if where.query else where.path
            connection.request(method or ("GET" if data is None else "POST"), path, data, headers)
            answer = connection.getresponse()
            head = [f"{name}: {value}" for name, value in answer.headers.items()] if shows_headers else []
            shown = "".join(f"{line}\n" for line in [f"HTTP/1.1 {answer.status} {answer.reason}", *head, ""] if head)
            return shown + answer.read().decode() + after.replace("%{http_code}", str(answer.status))

    def close(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=15)


@pytest.mark.parametrize("page", pages_with("console"), ids=name_of)
def test_commands_print_what_the_page_says(page: Path, folder: Path) -> None:
    """A command in the documentation prints what stands below it."""
    problems: list[str] = []
    anew: list[tuple[Block, str]] = []
    with contextlib.closing(Shell(folder)) as shell:
        for block in blocks(page):
            if block.kind == "console":
                shown = ""
                for command in commands(block):
                    printed = shell.run(command.text)
                    good = is_as_said(comparable(command.output), comparable(printed))
                    shown += f"{command.written}\n" + as_shown(command.output if good else printed)
                    problems += [] if good else [f"line {block.line}: $ {command.text}\n{printed}"]
                anew.append((block, shown))
            elif block.kind == "bylaw" or block.file is not None:
                write(block, folder)

    if problems and REWRITES:
        rewrite(page, anew)
    assert not problems, "\n".join(problems)


def as_shown(output: str) -> str:
    """An output as a page has it: no spaces at the end of a line, no empty lines at its end."""
    lines = [line.rstrip() for line in output.rstrip().splitlines()]
    return "".join(f"{line}\n" for line in lines)


def rewrite(page: Path, anew: Sequence[tuple[Block, str]]) -> None:
    """Put new texts in the place of blocks."""
    lines = page.read_text(encoding="utf-8").splitlines(keepends=True)
    for block, text in reversed(anew):
        lines[block.line : block.line + len(block.text.splitlines())] = [text]
    page.write_text("".join(lines), encoding="utf-8")


# --- Python ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("page", pages_with("python"), ids=name_of)
def test_python_prints_what_the_page_says(page: Path, folder: Path) -> None:
    """What a `print(…)` in the documentation prints is the comment behind it."""
    for block in blocks(page):
        if block.kind == "python":
            said = re.findall(r"^print\(.*\)  # (.*)$", block.text, re.MULTILINE)
            printed = io.StringIO()
            with contextlib.redirect_stdout(printed):
                exec(compile(block.text, f"{page.name}:{block.line}", "exec"), {})  # noqa: S102  our own documentation

            assert said
            assert printed.getvalue().splitlines() == said


# --- what pages refer to ---------------------------------------------------------------------------


def anchors(page: Path) -> set[str]:
    """The anchors of a page's headings, as they are made where Markdown is shown."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    titles = [re.sub(r"[^\w\- ]", "", title.lower()) for title in _HEADING.findall(text)]
    return {title.strip().replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_links_lead_somewhere(page: Path) -> None:
    """A link within the documentation leads to a file that is there, and to a heading in it."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    problems = []
    for link in _LINK.findall(text):
        path, _, anchor = link.partition("#")
        if urlsplit(link).scheme:
            continue
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            problems.append(link)

    assert not problems


def test_every_page_is_listed() -> None:
    """The index of the documentation lists every page beside the diagnostics, and the README every policy set."""
    index = set(_LINK.findall((DOCS / "README.md").read_text(encoding="utf-8")))
    sets = set(re.findall(r"\(policies/(\w+)/README\.md\)", (ROOT / "README.md").read_text(encoding="utf-8")))

    assert {page.name for page in DOCS.glob("*.md")} - {"README.md"} <= index
    assert sets == {path.name for path in (ROOT / "policies").glob("*/")}


def test_the_grammar_has_the_words_of_the_parser() -> None:
    """The grammar in the language reference has the words that the parser's rules quote, and no word that it lacks."""
    quoted = re.compile(r'"([a-z]+)"')
    grammar = {
        word for block in blocks(DOCS / "language.md") if block.kind == "ebnf" for word in quoted.findall(block.text)
    }
    parts = Parser.__mro__[:-1]
    rules = " ".join(member.__doc__ or "" for part in parts for member in vars(part).values())
    known = {word for part in parts for word in quoted.findall(inspect.getsource(inspect.getmodule(part) or part))}

    assert grammar
    assert {*quoted.findall(rules), *DECLARATIONS, *COMPARISONS, *TEST_WORDS} <= grammar <= known
