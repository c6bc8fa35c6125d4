"""`python -m tests.simulation --seeds 100000`: as many worlds as asked for, in every process that the machine has."""

from __future__ import annotations

import argparse
import os
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor

from tests.simulation.promises import BrokenPromiseError, Story, tell
from tests.simulation.scenario import WAYS

BATCH = 50


def _tell_some(first: int, number: int, way: str | None) -> tuple[list[Story], list[str]]:
    stories, broken = [], []
    for seed in range(first, first + number):
        try:
            stories.append(tell(seed, way))
        except BrokenPromiseError as wrong:
            broken.append(str(wrong))
    return stories, broken


def main() -> int:
    """Run seeds and sum them up; exit code 1 when a promise was broken."""
    parser = argparse.ArgumentParser(prog="python -m tests.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=1000, help="how many, from --first on")
    parser.add_argument("--first", type=int, default=0)
    parser.add_argument("--seed", type=int, help="this one only, with all that is known of it")
    parser.add_argument("--way", choices=sorted(WAYS), help="in this way of sending, whatever the seed says")
    asked = parser.parse_args()
    if asked.seed is not None:
        print(tell(asked.seed, asked.way))
        return 0
    began_s = time.monotonic()
    states: Counter[str] = Counter()
    ends: Counter[str] = Counter()
    calls = stories = failed = 0
    with ProcessPoolExecutor(os.cpu_count()) as pool:
        firsts = range(asked.first, asked.first + asked.seeds, BATCH)
        numbers = [min(BATCH, asked.first + asked.seeds - first) for first in firsts]
        for told, broken in pool.map(_tell_some, firsts, numbers, [asked.way] * len(firsts)):
            stories += len(told)
            failed += len(broken)
            for one in told:
                states += one.states
                ends.update("died" if end == "died" else "ended" for end in one.lives)
                calls += one.calls
            for text in broken:
                print(text, file=sys.stderr, flush=True)
    took_s = time.monotonic() - began_s
    print(f"{stories + failed} seeds in {took_s:.0f} s: {failed} broke a promise")
    print(f"{calls} calls, lives {dict(ends)}, sends {dict(states)}")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
