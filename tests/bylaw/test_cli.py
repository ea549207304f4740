"""The command line as its users meet it: words in, words and exit codes out."""

import json
import subprocess
import sys
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from bylaw.cli import main

ROOT = Path(__file__).parents[2]
STUDIO = str(ROOT / "policies" / "studio")
FACTS = f"{STUDIO}/facts.yaml"
DECIDE = ["decide", "--policy", STUDIO, "--facts", FACTS, "--tenant", "acme"]
WRONG = "tenant org { actions read }\nrole reader on org { can reed }\n"
SHAKY = "tenant org { actions read, close }\nrole reader on org { can read }\n"
TESTED = """tenant org { actions read, edit }
role reader on org { can read }
role editor on org { can edit }
test "reading" {
  org acme
  user ann: reader on acme
  ann can read acme
  ann can edit acme
}
"""


@pytest.fixture
def policy(tmp_path: Path) -> Path:
    """A folder for a policy of one file, to be written."""
    return tmp_path / "p.bylaw"


def test_lint_of_a_clean_policy(capsys: pytest.CaptureFixture[str]) -> None:
    """A clean policy is told so, with exit code 0."""
    assert main(["lint", STUDIO]) == 0
    assert "clean" in capsys.readouterr().out


def test_lint_shows_place_and_cure(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An error shows code, place, the line with a caret under the span, and the fix."""
    policy.write_text(WRONG)

    code = main(["lint", str(policy)])

    out = capsys.readouterr().out
    assert code == 1
    assert "error[E0400]" in out
    assert "p.bylaw:2:26" in out
    assert "2 | role reader on org { can reed }\n  |                          ^^^^" in out
    assert "did you mean `read`?" in out


def test_lint_warnings_fail_only_strictly(policy: Path) -> None:
    """A warning leaves exit code 0, and 1 with --strict."""
    policy.write_text(SHAKY)

    assert main(["lint", str(policy)]) == 0
    assert main(["lint", "--strict", str(policy)]) == 1


def test_lint_as_json(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json prints every member that the contract names, lines and columns from 1."""
    policy.write_text(WRONG)

    main(["lint", "--json", str(policy)])

    (found,) = (d for d in json.loads(capsys.readouterr().out)["diagnostics"] if d["severity"] == "error")
    place = {"line": 2, "column": 26, "end_line": 2, "end_column": 30}
    assert found | place | {"code": "E0400", "file": "p.bylaw", "fix": "read"} == found


@pytest.mark.parametrize("arguments", [["lint"], ["test"], ["fmt"]])
def test_a_missing_path_cannot_run(arguments: list[str], tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A path that is not there is exit code 2 and one line on standard error."""
    assert main([*arguments, str(tmp_path / "none")]) == 2
    assert "no such file or directory" in capsys.readouterr().err


def test_an_empty_directory_cannot_run(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A directory without a policy is exit code 2."""
    assert main(["lint", str(tmp_path)]) == 2
    assert "no *.bylaw" in capsys.readouterr().err


def test_bytes_that_are_no_text(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A file that is no UTF-8 is named with the offending byte."""
    policy.write_bytes(b"tenant org\xff")

    assert main(["lint", str(policy)]) == 2
    assert "byte 10 is no UTF-8" in capsys.readouterr().err


def test_test_prints_what_failed_and_why(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A failing expectation shows its line, what came, and the whole explanation; exit code 1."""
    policy.write_text(TESTED)

    code = main(["test", str(policy)])

    out = capsys.readouterr().out
    assert code == 1
    assert "p.bylaw:8" in out
    assert "expected an allow, got a deny because `default`" in out
    assert "it would be allowed if user:ann holds org.editor on org:acme" in out
    assert "1 expectation held, 1 failure; rules 1/2" in out


def test_test_as_json(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--json counts what passed and names file and line of each failure."""
    policy.write_text(TESTED)

    main(["test", "--json", str(policy)])

    found = json.loads(capsys.readouterr().out)
    assert found["passed"] == 1
    assert [(f["file"], f["line"]) for f in found["failures"]] == [("p.bylaw", 8)]
    assert "expected an allow" in found["failures"][0]["message"]


def test_test_names_what_is_not_covered(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """--coverage names the rule that no test made apply."""
    policy.write_text(TESTED)

    main(["test", "--coverage", str(policy)])

    assert "p.bylaw:3  org.editor: never applied" in capsys.readouterr().out


def test_test_writes_junit(policy: Path, tmp_path: Path) -> None:
    """--junit writes one case a test, with its failures."""
    policy.write_text(TESTED)

    main(["test", "--junit", str(tmp_path / "report.xml"), str(policy)])

    suite = ET.parse(tmp_path / "report.xml").getroot()  # noqa: S314  # our own file
    assert (suite.get("tests"), suite.get("failures")) == ("1", "1")
    assert [case.get("name") for case in suite] == ["reading"]


def test_test_of_a_broken_policy_cannot_run(policy: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Tests of a policy with errors do not run: exit code 2, the errors on standard error."""
    policy.write_text(WRONG)

    assert main(["test", str(policy)]) == 2
    assert "error[E0400]" in capsys.readouterr().err


def test_decide_allows(capsys: pytest.CaptureFixture[str]) -> None:
    """An allow is exit code 0 and says by what."""
    assert main([*DECIDE, "user:ann", "read", "task:t1"]) == 0
    out = capsys.readouterr().out
    assert out.startswith("allow  role  by organization.manager on organization:acme  studio.bylaw:33")


def test_decide_denies(capsys: pytest.CaptureFixture[str]) -> None:
    """A deny is exit code 1."""
    assert main([*DECIDE, "user:eve", "read", "project:p1"]) == 1
    assert capsys.readouterr().out.startswith("deny  boundary")


def test_decide_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    """--json prints the body that POST /check would answer."""
    main([*DECIDE, "--json", "user:ann", "read", "task:t1"])

    found = json.loads(capsys.readouterr().out)
    assert found["decision"] is True
    assert found["context"]["by"] == "organization.manager on organization:acme"
    assert found["context"]["policy"].startswith("sha256:")


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["user:ann", "reed", "task:t1"], "did you mean `read`?"),
        (["user:ann", "read", "tusk:t1"], "did you mean `task`?"),
        (["ann", "read", "task:t1"], 'the subject is written "type:id"'),
        (["user:ann", "read"], "SUBJECT ACTION RESOURCE"),
        (["--context", "{", "user:ann", "read", "task:t1"], "--context: no JSON"),
        (["--context", "[]", "user:ann", "read", "task:t1"], "expected a JSON object"),
        (["--context", '{"mfa": 1}', "user:ann", "read", "task:t1"], "context.mfa: expected true or false"),
        (["--at", "soon", "user:ann", "read", "task:t1"], "--at: a time is written"),
    ],
)
def test_decide_refuses_what_is_no_question(words: list[str], said: str, capsys: pytest.CaptureFixture[str]) -> None:
    """What is no question is exit code 2, and the sentence names place and cure."""
    assert main([*DECIDE, *words]) == 2
    captured = capsys.readouterr()
    assert said in captured.err
    assert captured.out == ""


def test_decide_explains(capsys: pytest.CaptureFixture[str]) -> None:
    """--explain shows who, what, every rule with the values it read, and what would change a deny."""
    code = main([*DECIDE, "--explain", "user:ann", "view_billing", "organization:acme"])

    out = capsys.readouterr().out
    assert code == 1
    assert "because billing needs a second factor" in out
    assert "context.mfa = absent" in out
    assert "it would be allowed if `context.mfa` is true" in out


def test_facts_that_do_not_fit(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Every problem of a facts file is listed with its place and, where it can be, its cure."""
    facts = tmp_path / "facts.yaml"
    facts.write_text(
        "tenants: { acme: { attributes: { plan: pro } } }\n"
        "users: { ann: { attributes: { clearance: high } } }\n"
        "assignments:\n  - { subject: user:ann, role: manger, on: organization:acme }\n"
    )

    code = main(["decide", "--policy", STUDIO, "--facts", str(facts), "user:ann", "read", "task:t1"])

    err = capsys.readouterr().err
    assert code == 2
    assert "users.ann.attributes.clearance: expected a whole number" in err
    assert "assignments[0]: `organization` has no role `manger`; did you mean `manager`?" in err


def test_a_fact_that_stands_twice(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """A key that stands twice in a facts file is refused, not silently chosen from."""
    facts = tmp_path / "facts.yaml"
    facts.write_text("users:\n  ann: {}\n  ann: {}\n")

    assert main(["decide", "--policy", STUDIO, "--facts", str(facts), "user:ann", "read", "task:t1"]) == 2
    assert "`ann` stands here twice" in capsys.readouterr().err


def test_version(capsys: pytest.CaptureFixture[str]) -> None:
    """`version` names the product's and the language's."""
    assert main(["version"]) == 0
    assert capsys.readouterr().out.startswith("bylaw 0.")


def test_lint_loads_nothing_that_decides() -> None:
    """`bylaw lint` imports neither server, YAML, nor the authorizer, so that it starts at once."""
    script = (
        "import sys; from bylaw.cli import main; main(['lint', sys.argv[1]]);"
        "print(sorted({'aiohttp', 'yaml', 'asyncio', 'engine.authorizer', 'engine.space'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", script, STUDIO], capture_output=True, text=True, cwd=ROOT, check=True)

    assert done.stdout.splitlines()[-1] == "[]"
