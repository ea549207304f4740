"""Microseconds per decision: Bylaw beside hand-written Python, cedarpy, pycasbin and oso, in one process, turn by turn.

    python -m bench.decide [--quick] [--rounds N] [--json FILE]

Two sweeps: over the number of rules at 1,000 users, and over the number of users at 100 rules. Each cell of a sweep is
one world (`scenario`), held by every contestant at once; the turns of all cells of a sweep are interleaved (`timing`),
since "as fast with 10,000 rules as with 10" is a ratio between cells. Every question that is timed is checked first,
and every turn counts its answers.

At one rule there is one role and nothing else, so that no peer pays for more; a decision with a condition and a deny
needs three, and is timed from ten on.
"""

from __future__ import annotations

import argparse
import gc
import json
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from time import perf_counter

from bench import report
from bench.contestants import ENTRIES, Contestant, Entry, build, is_installed
from bench.scenario import World, make_world, questions
from bench.timing import Lane, WrongAnswerError, affordable, check, make_lane, run

CHECK_S = 0.5


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run does: the cells of both sweeps, how many rounds, and how long a turn takes in seconds."""

    rules: tuple[int, ...]
    users: tuple[int, ...]
    rounds: int
    turn_s: float
    users_by_rules: int = 1_000
    rules_by_users: int = 100


FULL = Plan((1, 10, 100, 1_000, 10_000), (100, 1_000, 10_000, 100_000), rounds=15, turn_s=0.015)
QUICK = Plan((1, 10, 100, 1_000, 10_000), (100, 1_000), rounds=5, turn_s=0.005)


@dataclass(slots=True)
class Sweep:
    """One sweep: the sizes, and by (contestant, size) the seconds to load and by (kind, contestant, size) the lanes."""

    label: str
    sizes: tuple[int, ...]
    load_s: dict[tuple[str, int], float] = field(default_factory=dict)
    lanes: dict[report.Key, Lane] = field(default_factory=dict)


def main(argv: Sequence[str] | None = None) -> int:
    """Run both sweeps and print tables, ratios and goals; exit code 1 if a contestant answers wrongly."""
    arguments = _parser().parse_args(argv)
    plan = QUICK if arguments.quick else FULL
    try:
        results = _measure(plan, arguments.rounds or plan.rounds)
    except WrongAnswerError as error:
        print(f"wrong answer: {error}", file=sys.stderr)
        return 1
    by_rules = results[0]
    print("\n".join(report.goals(by_rules)))
    if arguments.json:
        figures = {result.label: report.figures(result) for result in results}
        arguments.json.write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.decide", description="Time decisions beside Bylaw's peers.")
    parser.add_argument("--quick", action="store_true", help="few rounds, at most 1,000 users: under 30 seconds")
    parser.add_argument("--rounds", type=int, help="turns of each lane (default 15; quick 5)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the figures as JSON too")
    return parser


def _measure(plan: Plan, rounds: int) -> list[report.Result]:
    """Build and time one sweep after the other, printing each when it is done."""
    entries = list(_installed())
    results = []
    for sweep, worlds in _sweeps(plan):
        for size, world in worlds:
            _fill(sweep, size, world, entries, plan.turn_s)
        gc.collect()
        gc.freeze()
        run(list(sweep.lanes.values()), rounds)
        gc.unfreeze()
        results.append(_result(sweep))
        print("\n".join(report.tables(results[-1])), flush=True)
    return results


def _installed() -> Iterator[Entry]:
    for entry in ENTRIES:
        if is_installed(entry):
            yield entry
        else:
            print(f"{entry.name} is not installed and is skipped: {entry.install}")


def _sweeps(plan: Plan) -> Iterator[tuple[Sweep, Iterator[tuple[int, World]]]]:
    by_rules = ((count, make_world(count, plan.users_by_rules)) for count in plan.rules)
    yield Sweep(f"by rules, {plan.users_by_rules:,} users", plan.rules), by_rules
    by_users = ((count, make_world(plan.rules_by_users, count)) for count in plan.users)
    yield Sweep(f"by users, {plan.rules_by_users:,} rules", plan.users), by_users


def _fill(sweep: Sweep, size: int, world: World, entries: Sequence[Entry], turn_s: float) -> None:
    """Build every contestant for one cell, check it, and make its lanes."""
    for entry in entries:
        start = perf_counter()
        built = build(entry, world)
        sweep.load_s[entry.name, size] = perf_counter() - start
        for name, contestant in built.items():
            check(contestant, affordable(contestant, questions(world, "other"), CHECK_S))
            sweep.lanes.update(_lanes(name, size, contestant, world, turn_s))


def _lanes(
    name: str, size: int, contestant: Contestant, world: World, turn_s: float
) -> Iterator[tuple[report.Key, Lane]]:
    for kind in report.TIMED:
        if asked := questions(world, kind):
            yield (kind, name, size), make_lane(contestant, asked, turn_s)


def _result(sweep: Sweep) -> report.Result:
    figures = {key: report.Figure(lane.best_us, lane.median_us) for key, lane in sweep.lanes.items()}
    return report.Result(sweep.label, sweep.sizes, sweep.load_s, figures)


if __name__ == "__main__":
    sys.exit(main())
