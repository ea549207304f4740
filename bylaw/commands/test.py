"""`bylaw test PATH [--coverage] [--junit F]`: run the `test` blocks of a policy."""

from __future__ import annotations

import argparse
import time
import xml.etree.ElementTree as ET
from pathlib import Path

from bylaw.output import BOLD, DIM, GREEN, RED, count, paint, print_json
from engine.policy import Policy
from engine.testing import TestRun, run_tests


def run(args: argparse.Namespace) -> int:
    """Run the tests; exit 0 where all expectations came out."""
    policy = Policy.load(args.path)
    started = time.perf_counter()
    outcome = run_tests(policy)
    seconds = time.perf_counter() - started
    if args.junit:
        _write_junit(Path(args.junit), outcome, seconds)
    if args.json:
        print_json(outcome.as_json() | {"coverage": outcome.coverage.as_json()})
    else:
        _print(outcome, seconds, with_coverage=args.coverage)
    return 1 if outcome.failures else 0


def _print(outcome: TestRun, seconds: float, *, with_coverage: bool) -> None:
    for test, passed, failures in outcome.results:
        mark = paint("✗", RED) if failures else paint("✓", GREEN)
        print(f"{mark} {test.name} {paint(f'({passed})', DIM)}")
        for failure in failures:
            print(f"  {paint(failure.span.at, BOLD)}  {_first_line(failure.span.source.text, failure.span.start)}")
            print(f"  {paint(failure.message, RED)}")
            if failure.explanation:
                print("\n".join(f"    {row}" for row in failure.explanation.splitlines()))
    found = outcome.coverage.as_json()
    rules = f"rules {found['rules_covered']}/{found['rules']}"
    conditions = f"conditions both ways {found['conditions_both_ways']}/{found['conditions']}"
    verdict = paint(count(len(outcome.failures), "failure"), RED) if outcome.failures else paint("all passed", GREEN)
    print(f"\n{count(outcome.passed, 'expectation')} held, {verdict}; {rules}, {conditions}; {seconds * 1000:.0f} ms")
    if with_coverage:
        for entry in found["missing"]:
            print(f"  {entry['file']}:{entry['line']}  {entry['name']}: {entry['what']}")


def _first_line(text: str, start: int) -> str:
    return text[start : text.find("\n", start) if "\n" in text[start:] else len(text)].strip()


def _write_junit(path: Path, outcome: TestRun, seconds: float) -> None:
    suite = ET.Element("testsuite", name="bylaw", tests=str(len(outcome.results)), time=f"{seconds:.3f}")
    suite.set("failures", str(sum(bool(failures) for _, _, failures in outcome.results)))
    for test, _, failures in outcome.results:
        case = ET.SubElement(suite, "testcase", name=test.name, classname=test.span.source.name)
        for failure in failures:
            element = ET.SubElement(case, "failure", message=f"{failure.span.at}: {failure.message}")
            element.text = _printable(failure.explanation)
    ET.ElementTree(suite).write(path, encoding="utf-8", xml_declaration=True)


def _printable(text: str) -> str:
    """XML has no place for control characters."""
    return "".join(c for c in text if c in "\n\t" or ord(c) >= 32)
