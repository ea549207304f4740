"""`python -m tests.mutants`: seed mistakes into a copy of the engine and see that the suite catches each.

A mistake is a piece of text in one file and what stands there instead. The copy runs the fast part of the suite until the
first failure. Prints a line a mistake: the test that caught it, or SURVIVED; exit code 1 if one survives.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
SUITE = ("tests/test_policies.py", "tests/test_conformance.py", "tests/reference/test_agreement.py", "tests/engine")
COPIED = ("engine", "bylaw", "sidecar", "policies", "tests", "pyproject.toml")


@dataclass(frozen=True, slots=True)
class Mistake:
    """A seeded mistake: in which file, what stands there, and what the mistake makes of it."""

    name: str
    file: str
    text: str
    instead: str


MISTAKES = (
    Mistake("a dropped deny", "authorizer.py", "    if plan.has_denies:\n", "    if False:\n"),
    Mistake("any for all", "compiler.py", 'return self.joined(" and ", [self.true(', 'return self.joined(" or ", [self.true('),
    Mistake("not true for false", "compiler.py", "return self.compare(expr, wanted=False)", "return f'(not {self.compare(expr, wanted=True)})'"),
    Mistake("a negation that turns failed into true", "compiler.py", "            case Not(item):\n                return self.false(item)\n", "            case Not(item):\n                return f'(not {self.true(item)})'\n"),
    Mistake("an absent value compared", "compiler.py", "is_left = self.present(node.left)\n        right, is_right = self.present(node.right)\n        checks = [check for check in (is_left, is_right) if check]", "is_left = self.present(node.left)\n        right, is_right = self.present(node.right)\n        checks = [is_left] if is_left else []"),
    Mistake("an ignored expiry", "standing.py", "return starts <= now < expires", "return starts <= now"),
    Mistake("an expiry one instant late", "standing.py", "return starts <= now < expires", "return starts <= now <= expires"),
    Mistake("a standing kept past its time", "space.py", "if known is not None and known.since <= now < known.until:", "if known is not None:"),
    Mistake("a condition of a role dropped", "program.py", "gives: Gives = True if None in tests else", "gives: Gives = True if tests else"),
    Mistake("the chain one link short", "target.py", "for thing in chain[is_new:]", "for thing in chain[is_new : len(chain) - (len(chain) > 2)]"),
    Mistake("a chain of 33 links", "space.py", "len(things) + 2 <= MAX_CHAIN", "len(things) + 1 <= MAX_CHAIN"),
    Mistake("a guest is anyone", "standing.py", "True, not is_guest, s.groups", "True, True, s.groups"),
    Mistake("a link with any role", "standing.py", "not role.crossing or ", ""),
    Mistake("a link outlives its membership", "standing.py", 'and membership.status == "active"', "and True"),
    Mistake("a system role in an allow", "authorizer.py", "holds_any(parts, rule.who.roles, wide=False)", "holds_any(parts, rule.who.roles, wide=True)"),
    Mistake("a custom role above its line", "patterns.py", "if action.code in ceiling", "if action.code in ceiling or True"),
    Mistake("sent beats stored", "authorizer.py", '"subject.properties", only_sent=standing.is_stored)', '"subject.properties", only_sent=False)'),
    Mistake("existence shows through the wall", "authorizer.py", 'hidden = target.problem == "boundary" or standing.is_outside(target)', 'hidden = target.problem == "boundary"'),
    Mistake("a group of another tenant", "facts.py", "found.tenant in (None, tenant)", "found.tenant is not Ellipsis"),
    Mistake("a claim beats a suspended membership", "standing.py", "elif claims and membership is None and", "elif claims and"),
    Mistake("a role taken over from an inner type counts everywhere", "standing.py", "return any(inner <= types for inner in within)", "return True"),
    Mistake("the last by name instead of the first", "reasons.py", "for rule, test in plan.rules[effect]:", "for rule, test in reversed(plan.rules[effect]):"),
    Mistake("a new resource is a place of its own", "space.py", "return Target(self, (*things, self.tenant_thing), is_new=is_new)", "return Target(self, (*things, self.tenant_thing))"),
    Mistake("a route's bindings unchecked", "target.py", "return not refs or", "return True or"),
    Mistake("a star that matches part of a name", "patterns.py", 'info.name.startswith(name + ".")', "info.name.startswith(name)"),
)  # fmt: skip


def seed(folder: Path, mistake: Mistake) -> None:
    """Copy the project into a folder and make the mistake there.

    Raises:
        LookupError: the text is not in the file just once.
    """
    for name in COPIED:
        source = ROOT / name
        if source.is_dir():
            shutil.copytree(source, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, folder / name)
    path = folder / "engine" / mistake.file
    text = path.read_text(encoding="utf-8")
    if text.count(mistake.text) != 1:
        raise LookupError(f"{mistake.name}: {text.count(mistake.text)} × {mistake.text!r} in {mistake.file}")
    path.write_text(text.replace(mistake.text, mistake.instead), encoding="utf-8")


def caught_by(folder: Path) -> str | None:
    """Run the suite in a folder; return the first test that fails."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", *SUITE]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    failed = [line for line in done.stdout.splitlines() if line.startswith(("FAILED", "ERROR"))]
    if done.returncode == 0:
        return None
    return failed[0].split(" - ")[0].partition(" ")[2] if failed else done.stdout[-300:]


def main() -> int:
    """Try every mistake."""
    survived = 0
    for mistake in MISTAKES:
        with tempfile.TemporaryDirectory() as name:
            seed(Path(name), mistake)
            test = caught_by(Path(name))
        survived += test is None
        print(f"{mistake.name}: {test or 'SURVIVED'}", flush=True)
    print(f"{len(MISTAKES)} mistakes seeded, {survived} survived")
    return 1 if survived else 0


if __name__ == "__main__":
    raise SystemExit(main())
