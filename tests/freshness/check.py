"""`python -m tests.freshness.check --seed 1 --decisions 50000`: try random interleavings, and tell what broke.

A run is many short episodes, each with a setting of its own. What breaks a law is made shorter and printed. The same
seed makes the same run: sets of texts are ordered by their hashes, so the command starts itself anew with a fixed hash
seed.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from tests.freshness.chooser import Chooser
from tests.freshness.episode import Move, World
from tests.freshness.mistakes import MISTAKES, Mistake, seeded
from tests.freshness.oracle import ViolationError
from tests.freshness.setting import Setting, make_setting
from tests.freshness.shrink import replay, shrink

MOVES: Final = 900
#: What is printed of a run that breaks a law.
SHOWN: Final = 60


@dataclass(frozen=True, slots=True)
class Finding:
    """A law that was broken: how, and by which moves; after how many decisions of the run."""

    law: str
    text: str
    setting: Setting
    moves: list[Move]
    decisions: int


@dataclass(slots=True)
class Report:
    """What a run came to."""

    tally: Counter[str] = field(default_factory=Counter)
    findings: list[Finding] = field(default_factory=list)
    seconds: float = 0.0

    def laws(self) -> dict[str, str]:
        """Say of each law that was broken how it was first."""
        return {finding.law: finding.text for finding in reversed(self.findings)}

    def __str__(self) -> str:
        """Tell it to people."""
        tally = self.tally
        real = tally["real"] / max(1, tally["decisions"])
        to_tokens = tally["to tokens of writes"] + tally["to tokens of answers"]
        broken = ", ".join(f"{law} {n}" for law, n in Counter(each.law for each in self.findings).items())
        lines = (
            f"{tally['decisions']} decisions in {self.seconds:.1f} s: {real:.0%} real ({tally['allowed']} allowed),",
            f"  {tally['stale']} stale, {tally['stale with tokens']} refused with tokens;",
            f"  {tally['probes']} more from memory",
            f"{tally['episodes']} interleavings of {tally['moves']} moves: {tally['writes']} writes,",
            f"  {tally['restores']} restores, {tally['settled']} receipts",
            f"{tally['polls']} polls ({tally['applied']} applied), {tally['snapshots']} snapshots",
            f"  ({tally['overtaken loads']} overtaken)",
            f"{tally['of the past']} answers from the past, {to_tokens} to tokens,",
            f"  {tally['after an expiry']} that time alone had changed",
            f"{tally['fallback']} answers wanted snapshots of their own, {tally['from snapshots']} had them",
            f"{tally['batches over tenants']} batches over tenants, {tally['of several moments']} of several moments",
            f"broken: {broken or 'nothing'}",
        )
        return "\n".join(lines).replace("\n  ", " ")


def run(seed: int, decisions: int, *, first_only: bool = False) -> Report:
    """Try random interleavings until so many decisions were asked for."""
    report, began = Report(), time.monotonic()
    while report.tally["decisions"] < decisions and not (first_only and report.findings):
        episode(f"{seed}:{report.tally['episodes']}", report)
    report.seconds = time.monotonic() - began
    return report


def episode(name: str, report: Report) -> None:
    """Run one episode, and add to the report what it came to."""
    rng = Random(name)
    world = World(make_setting(rng))
    with world.running():
        chooser = Chooser(world, rng)
        try:
            for _ in range(MOVES):
                world.make(chooser.choose())
            world.finish()
        except ViolationError as error:
            before = report.tally["decisions"] + world.tally["decisions"]
            report.findings.append(Finding(error.law, str(error), world.setting, world.moves, before))
    report.tally.update(world.tally)
    report.tally.update(episodes=1, moves=world.step)


def shorter(finding: Finding, *, most_s: float) -> list[str]:
    """Tell the shortest way to a finding."""
    moves = shrink(finding.setting, finding.moves, finding.law, most_s=most_s)
    world = replay(finding.setting, moves, is_finished=finding.law.startswith("every_"), is_traced=True)
    return [f"{len(moves)} moves: {world.broken}", str(finding.setting), *list(world.trace or ())[-SHOWN:]]


@contextmanager
def quiet() -> Iterator[None]:
    """Keep the product's log out of it: faults are what is wanted."""
    logging.disable(logging.CRITICAL)
    try:
        yield
    finally:
        logging.disable(logging.NOTSET)


def try_mistake(mistake: Mistake, seed: int | None, decisions: int) -> dict[str, Any]:
    """Seed a mistake; tell which law found it, after how many decisions and seconds.

    Args:
        seed: None: the one that finds it soon.
    """
    with seeded(mistake):
        report = run(mistake.seed if seed is None else seed, decisions, first_only=True)
    first = report.findings[0] if report.findings else None
    made = first.decisions if first else report.tally["decisions"]
    return {"law": first and first.law, "decisions": made, "seconds": round(report.seconds, 1)}


def try_mistakes(names: list[str], seed: int | None, decisions: int) -> dict[str, dict[str, Any]]:
    """Seed these mistakes, or all; tell of each by its name.

    Raises:
        LookupError: there is no such mistake.
    """
    known = {mistake.name: mistake for mistake in MISTAKES}
    return {name: try_mistake(known[name], seed, decisions) for name in names or known}


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="tests.freshness.check", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--seed", type=int, help="1, or of each mistake its own")
    parser.add_argument("--decisions", type=int, default=50_000, help="stop after so many")
    parser.add_argument("--shrink", type=float, default=60.0, help="seconds for making each finding shorter")
    parser.add_argument("--json", action="store_true", help="tell it to a program")
    parser.add_argument("--mistakes", nargs="*", help="seed these mistakes instead, or all", metavar="NAME")
    options = parser.parse_args()
    with quiet():
        if options.mistakes is not None:
            return tell_of_mistakes(try_mistakes(options.mistakes, options.seed, options.decisions), options.json)
        report = run(1 if options.seed is None else options.seed, options.decisions)
        if options.json:
            print(json.dumps({"tally": report.tally, "laws": report.laws()}))
        else:
            tell(report, most_s=options.shrink)
    return 1 if report.findings else 0


def tell(report: Report, *, most_s: float) -> None:
    """Print what a run came to, and of each law that was broken the shortest way to it."""
    print(report, flush=True)
    for law in report.laws():
        finding = min((each for each in report.findings if each.law == law), key=lambda each: len(each.moves))
        print("", *shorter(finding, most_s=most_s), sep="\n", flush=True)


def tell_of_mistakes(found: dict[str, dict[str, Any]], is_json: bool) -> int:
    """Print which mistakes were found; return 1 if one was not."""
    if is_json:
        print(json.dumps(found))
    else:
        for name, said in found.items():
            law = said["law"] or "SURVIVED"
            print(f"{name:<32} {law:<26} {said['decisions']:>6} decisions {said['seconds']:>6.1f} s")
    return 0 if all(said["law"] for said in found.values()) else 1


if __name__ == "__main__":
    if os.environ.get("PYTHONHASHSEED") != "0":
        arguments = [sys.executable, "-m", "tests.freshness.check", *sys.argv[1:]]
        os.execve(sys.executable, arguments, os.environ | {"PYTHONHASHSEED": "0"})  # noqa: S606  # itself
    sys.exit(main())
