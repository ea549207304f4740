"""Who may know whom: imports point down, the engine is pure, and what is heavy is imported when it is called.

    bylaw  →  sidecar, admin  →  store  →  engine

Only the text of each file is read, nothing is imported. The checker itself is tried on small files that break a rule.
"""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
#: What the code of each house may import from the houses.
BELOW = {
    "engine": {"engine"},
    "store": {"store", "engine"},
    "sidecar": {"sidecar", "store", "engine"},
    "admin": {"admin", "store", "engine"},
    "bylaw": {"bylaw", "sidecar", "admin", "store", "engine"},
}
HOUSES = {*BELOW, "bench", "migrations", "tests"}
#: What applications import, and no command does: it has its libraries at hand, and of the houses knows itself alone.
CLIENT = "bylaw/client/"
CLIENT_KNOWS = ("bylaw.client", "bylaw.__version__")
#: Where two services meet that know nothing of each other. No command imports it before it is to serve.
WIRING = {"bylaw/administration.py"}
#: Where the engine touches the world: policies and facts are read from disk, and the clock is taken if none is given.
EDGE = {"engine/policy.py", "engine/loading.py", "engine/facts_file.py"}
#: The one library beside the standard one in the engine, and where.
YAML = ("engine/facts_file.py", "yaml")
#: Modules of the standard library whose use is input, output, chance or time.
IMPURE = set(
    """asyncio concurrent fcntl fileinput ftplib getpass glob http io logging mmap multiprocessing os pathlib random
    secrets select selectors shelve shutil signal smtplib socket socketserver sqlite3 ssl subprocess tempfile threading
    time urllib.request uuid""".split()  # noqa: SIM905  # a list of forty would be forty lines
)
IMPURE_CALLS = {"open", "input", "print"}
IMPURE_METHODS = {
    *("read_text", "read_bytes", "write_text", "write_bytes", "open", "iterdir", "rglob", "glob"),
    *("is_file", "is_dir", "exists", "stat", "mkdir", "unlink", "touch"),
}
CLOCKS = {"time": ("time", "monotonic", "perf_counter", "process_time", "sleep"), "date": ("today",)}
CLOCKS["datetime"] = ("now", "utcnow", "today")
#: Modules that decide what is right, and leave the protocol to others.
WITHOUT_HTTP = {"identity", "routes", "views", "decider", "service"}

Import = tuple[str, int, bool]  # the module's name, its line, and whether it is imported as soon as the file is


def imports(tree: ast.Module) -> Iterator[Import]:
    """List what a file imports, by a statement or by `import_module`."""
    return _imports(tree, at_once=True)


def _imports(node: ast.AST, *, at_once: bool) -> Iterator[Import]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.Import):
            yield from ((alias.name, child.lineno, at_once) for alias in child.names)
        elif isinstance(child, ast.ImportFrom) and child.module == "bylaw" and not child.level:
            yield from ((f"bylaw.{alias.name}", child.lineno, at_once) for alias in child.names)  # the client is one
        elif isinstance(child, ast.ImportFrom) and not child.level:
            yield child.module or "", child.lineno, at_once
        elif isinstance(child, ast.Call) and _last_name(child.func) == "import_module" and child.args:
            yield _literal(child.args[0]), child.lineno, at_once
        is_later = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda) or _is_for_types(child)
        yield from _imports(child, at_once=at_once and not is_later)


def _is_for_types(node: ast.AST) -> bool:
    return isinstance(node, ast.If) and _last_name(node.test) == "TYPE_CHECKING"


def _last_name(node: ast.AST) -> str:
    return node.id if isinstance(node, ast.Name) else node.attr if isinstance(node, ast.Attribute) else ""


def _literal(node: ast.AST) -> str:
    """Return what a string, or the beginning of an f-string, says."""
    if isinstance(node, ast.JoinedStr) and node.values:
        return _literal(node.values[0])
    return node.value if isinstance(node, ast.Constant) and isinstance(node.value, str) else ""


def faults(path: str, text: str) -> list[str]:
    """List what a file does against the rules: `path` is seen from the root."""
    tree = ast.parse(text)
    house = Path(path).parts[0]
    found = [fault for each in imports(tree) for fault in _wrong_import(path, house, each)]
    if house == "engine" and path not in EDGE:
        found += _impure(tree)
    return [f"{path}:{fault}" for fault in found]


def _wrong_import(path: str, house: str, imported: Import) -> Iterator[str]:
    module, line, at_once = imported
    top = module.split(".")[0]
    is_foreign = top not in HOUSES and top not in sys.stdlib_module_names and top != ""
    if top in HOUSES - BELOW[house]:
        yield f"{line}: {house} imports {top}"
    if house == "engine" and is_foreign and (path, top) != YAML:
        yield f"{line}: engine imports {top}, which is not in the standard library"
    if house == "engine" and path not in EDGE and IMPURE & {top, ".".join(module.split(".")[:2])}:
        yield f"{line}: engine imports {module}, which is not pure"
    is_heavy = is_foreign or top in {"sidecar", "admin", "store"} or module.startswith("bylaw.client")
    is_heavy = is_heavy or f"{module.replace('.', '/')}.py" in WIRING
    if house == "bylaw" and at_once and is_heavy and not path.startswith(CLIENT) and path not in WIRING:
        yield f"{line}: bylaw imports {module if top == 'bylaw' else top} before it is needed"
    if path.startswith(CLIENT) and top in HOUSES and not module.startswith(CLIENT_KNOWS):
        yield f"{line}: the client imports {module}, and stands alone"
    if top == "sqlalchemy" and house != "store" and not path.endswith("/repository.py"):
        yield f"{line}: sqlalchemy stays in store/ and in repository.py files"
    if top == "aiohttp" and Path(path).stem in WITHOUT_HTTP:
        yield f"{line}: {Path(path).name} knows nothing of HTTP servers"


def _impure(tree: ast.Module) -> Iterator[str]:
    """Find calls to the world outside, and what waits for it."""
    for node in ast.walk(tree):
        if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
            yield f"{node.lineno}: engine waits"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id in IMPURE_CALLS:
            yield f"{node.lineno}: engine calls {node.func.id}"
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in IMPURE_METHODS:
            yield f"{node.lineno}: engine calls {node.func.attr}"
        elif isinstance(node, ast.Attribute) and node.attr.startswith(CLOCKS.get(_last_name(node.value), ("\0",))):
            yield f"{node.lineno}: engine reads a clock, {node.attr}"


def sources() -> list[Path]:
    return sorted(path for house in BELOW for path in (ROOT / house).rglob("*.py"))


@pytest.mark.parametrize("path", sources(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_rules_are_kept(path: Path) -> None:
    """A file imports only what is below it, and the engine's files neither read nor wait nor look at a clock."""
    assert faults(path.relative_to(ROOT).as_posix(), path.read_text("utf-8")) == []


def test_redis_is_known_in_one_file() -> None:
    """Redis can be replaced in one place."""
    users = [
        path
        for path in sources()
        if any(module.split(".")[0] == "redis" for module, _, _ in imports(ast.parse(path.read_text("utf-8"))))
    ]

    assert len(users) <= 1


WRONG = [
    ("engine/x.py", "import store", "1: engine imports store"),
    ("engine/x.py", "def f():\n    from sidecar.wire import parse", "2: engine imports sidecar"),
    ("engine/x.py", "import_module('admin.app')", "1: engine imports admin"),
    ("engine/x.py", "importlib.import_module(f'bylaw.{name}')", "1: engine imports bylaw"),
    ("engine/x.py", "if TYPE_CHECKING:\n    from store import facts", "2: engine imports store"),
    ("engine/x.py", "from tests.strategies import cases", "1: engine imports tests"),
    ("engine/x.py", "import yaml", "1: engine imports yaml, which is not in the standard library"),
    ("engine/facts_file.py", "import aiohttp", "1: engine imports aiohttp, which is not in the standard library"),
    ("engine/x.py", "import os", "1: engine imports os, which is not pure"),
    ("engine/x.py", "import os.path", "1: engine imports os.path, which is not pure"),
    ("engine/x.py", "from urllib.request import urlopen", "1: engine imports urllib.request, which is not pure"),
    ("engine/x.py", "from time import time", "1: engine imports time, which is not pure"),
    ("engine/x.py", "f = open('x')", "1: engine calls open"),
    ("engine/x.py", "def f(path):\n    return path.read_text()", "2: engine calls read_text"),
    ("engine/x.py", "now = time.time_ns()", "1: engine reads a clock, time_ns"),
    ("engine/x.py", "def f(clock=time.monotonic): ...", "1: engine reads a clock, monotonic"),
    ("engine/x.py", "now = datetime.now(UTC)", "1: engine reads a clock, now"),
    ("engine/x.py", "now = datetime.datetime.utcnow()", "1: engine reads a clock, utcnow"),
    ("engine/x.py", "async def f(): ...", "1: engine waits"),
    ("store/x.py", "from sidecar import views", "1: store imports sidecar"),
    ("store/x.py", "import bylaw", "1: store imports bylaw"),
    ("sidecar/x.py", "def f():\n    import admin.app", "2: sidecar imports admin"),
    ("admin/x.py", "from sidecar.wire import parse", "1: admin imports sidecar"),
    ("admin/users/service.py", "from aiohttp import web", "1: service.py knows nothing of HTTP servers"),
    ("admin/users/service.py", "import sqlalchemy.orm", "1: sqlalchemy stays in store/ and in repository.py files"),
    ("bylaw/x.py", "import sidecar.app", "1: bylaw imports sidecar before it is needed"),
    ("bylaw/x.py", "class A:\n    import aiohttp", "2: bylaw imports aiohttp before it is needed"),
    ("bylaw/x.py", "from bench import decide", "1: bylaw imports bench"),
    ("bylaw/x.py", "from bylaw.client import Bylaw", "1: bylaw imports bylaw.client before it is needed"),
    (
        "bylaw/x.py",
        "from bylaw.administration import serve",
        "1: bylaw imports bylaw.administration before it is needed",
    ),
    ("bylaw/commands/x.py", "from bylaw import client", "1: bylaw imports bylaw.client before it is needed"),
    ("bylaw/client/x.py", "from engine import Policy", "1: the client imports engine, and stands alone"),
    ("bylaw/client/x.py", "def f():\n    import bylaw.output", "2: the client imports bylaw.output, and stands alone"),
]


@pytest.mark.parametrize(("path", "text", "fault"), WRONG)
def test_what_breaks_a_rule_is_found(path: str, text: str, fault: str) -> None:
    """The checker finds what it is there to find."""
    assert f"{path}:{fault}" in faults(path, text)


RIGHT = [
    ("engine/x.py", "from engine.source import Span\nimport re\nfrom urllib.parse import unquote"),
    ("engine/facts_file.py", "def f():\n    import yaml\nPath('x').read_bytes()"),
    ("engine/policy.py", "import time\nclock = time.time_ns"),
    ("engine/x.py", "datetime.fromtimestamp(0, UTC)\nrow.reopen()\nself.time = 5\ndatetime.fromisoformat(text)"),
    ("store/tables.py", "import sqlalchemy\nimport engine"),
    ("sidecar/app.py", "from aiohttp import web\nfrom store import facts\nfrom sidecar import wire"),
    ("admin/users/repository.py", "import sqlalchemy"),
    ("bylaw/x.py", "if TYPE_CHECKING:\n    import sidecar.app\ndef f():\n    import sidecar.app, aiohttp"),
    ("bylaw/x.py", "from bylaw import __version__\ndef f():\n    import bylaw.client"),
    (
        "bylaw/client/x.py",
        "import aiohttp, urllib3\nfrom bylaw import __version__\nfrom bylaw.client.model import Decision",
    ),
]


@pytest.mark.parametrize(("path", "text"), RIGHT)
def test_what_keeps_the_rules_is_let_through(path: str, text: str) -> None:
    """The checker finds nothing where there is nothing."""
    assert faults(path, text) == []
