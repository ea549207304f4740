"""`python -m tests.sidecar.lanes.siege --rounds 20000 --seed 1`: try both laws of the lanes on random requests.

A round sends a sequence of requests over one connection, cut at random, and a request that was tampered with. The
same seed makes the same rounds. What breaks a law is printed, and the exit code is 1.
"""

from __future__ import annotations

import argparse
import logging
import sys
import time
from collections import Counter
from random import Random
from typing import Final

import uvloop

from sidecar import slow_lane
from tests.sidecar.lanes.battery import BATTERY
from tests.sidecar.lanes.laws import BASES, MILD, MORSELS, Edit, each_alone, in_turn, read_alike, tampered
from tests.sidecar.lanes.wires import running

SECONDS_BETWEEN_LINES: Final = 20.0
SHOWN: Final = 5
#: Larger ones are nothing but slow here.
SMALL: Final = 3000


def random_edits(random: Random) -> list[Edit]:
    """Make up how a request is tampered with."""
    return [
        Edit(
            random.randrange(1 << 16),
            random.choice((0, 0, 0, 1, 1, 2, 5)),
            random.choice(random.choice((MORSELS, MILD))),
        )
        for _ in range(random.choice((1, 1, 1, 2, 3)))
    ]


async def lay(rounds: int, seed: int) -> tuple[Counter[str], list[str]]:
    """Try rounds; return what they came to, and what broke a law."""
    tally: Counter[str] = Counter()
    broken: list[str] = []
    said = time.monotonic()
    small = [sent for sent in BATTERY if len(sent.raw) < SMALL]
    async with running() as lanes:
        alone = await each_alone(lanes)
        for number in range(rounds):
            random = Random(f"{seed}:{number}")
            sequence = random.choices(small if random.random() < 0.95 else BATTERY, k=random.randint(2, 12))
            cuts = [random.randrange(4000) for _ in range(random.randrange(12))]
            raw = tampered(random.choice(BASES), random_edits(random))
            for found in (await in_turn(lanes, alone, sequence, cuts, tally), await read_alike(lanes, raw, tally)):
                if found is not None:
                    broken.append(f"round {number}: {found}")
            if len(broken) >= SHOWN:
                break
            if time.monotonic() - said > SECONDS_BETWEEN_LINES:
                said = time.monotonic()
                print(number, dict(tally), flush=True)
        assert not lanes.lane.connections
        assert lanes.lane.gate.traffic.count == 0
    return tally, broken


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(prog="tests.sidecar.lanes.siege", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    logging.disable(logging.CRITICAL)
    slow_lane.OPTIONS["lingering_time"] = 0.01
    began = time.monotonic()
    tally, broken = uvloop.run(lay(options.rounds, options.seed))
    print(f"{time.monotonic() - began:.0f} s: {dict(tally)}; broken: {len(broken)}")
    for each in broken:
        print(each)
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
