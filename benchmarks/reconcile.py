"""Two lists of ids compared, page bodies decoded: against DuckDB, polars, and `sort` with `comm`.

python -m benchmarks.reconcile compare [--ids 1000000] [--rounds 5]
python -m benchmarks.reconcile memory [--big] [IDS …]

These two go into more detail: how many ids each way compares in a second of one core, and what memory a whole run
takes. Peaks of memory are Linux's own.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import statistics
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import msgspec

import bulksend
from benchmarks.frame import Aim, Result, Row
from benchmarks.measured import measured
from benchmarks.reconciling import peers
from benchmarks.reconciling.ids import alone, write_lists
from benchmarks.reconciling.runs import run
from benchmarks.reconciling.ways import AS_A_RUN, BY_SETS, OWN_WAYS, UNORDERED, Watch, by_sets, sorted_ids

__all__ = ["measure"]

_FIRST, _SECOND, _BIG = 10_000, 1_000_000, 10_000_000
_SHORT = 500_000
_ROUNDS = 3


def measure(*, full: bool) -> Result:
    """Compare in a process each, in turns; the round with the median wall time counts, and the greatest peak."""
    count = _BIG if full else _SHORT
    taken: dict[str, list[dict[str, Any]]] = {}
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_lists(folder, count)
        own = [sys.executable, "-m", "benchmarks.reconciling.ways"]
        commands = {f"bulksend, {way}": [*own, way, str(folder)] for way in (AS_A_RUN, UNORDERED)}
        commands |= peers.commands(folder)
        for _ in range(_ROUNDS):
            for who, command in commands.items():
                one = measured(command)
                one |= json.loads(one["printed"])
                if (one["added"], one["removed"]) != (count // 10, count // 10):
                    raise SystemExit(f"{who}: found {one}")
                taken.setdefault(who, []).append(one)
    rows = [_row(who, rounds) for who, rounds in taken.items()]
    ours, *others = (row for row in rows if row.who != f"bulksend, {UNORDERED}")
    about = (
        f"{count:,} ids in pages of a vendor's JSON (10,000 each, in order) against {count:,} in a CSV file (in no "
        f"order); a tenth of each is not in the other, and is written to files. Wall, CPU and peak are of a whole "
        f"process, its start included, of several the sum and the largest; {_ROUNDS} rounds. bulksend has one thread, "
        "DuckDB, polars and sort take all cores; bulksend has what it found in each "
        "page on disk before the next, and can go on from there."
    )
    aims = [aim for other in others for aim in _aims(ours, other)]
    return Result("reconcile", about, rows, aims, peers.missing())


def _row(who: str, rounds: list[dict[str, Any]]) -> Row:
    median = sorted(rounds, key=lambda one: float(one["wall_s"]))[len(rounds) // 2]
    peak = max(one["peak_mib"] for one in rounds)
    figures = {"wall s": median["wall_s"], "CPU s": median["cpu_s"], "peak MiB": peak}
    return Row(who, {**figures, "of it sorting the CSV file, wall s": median.get("sorting_s")})


def _aims(ours: Row, other: Row) -> list[Aim]:
    aims = []
    for text, column in (("faster than", "wall s"), ("less memory than", "peak MiB")):
        mine, its = ours.figures[column], other.figures[column]
        assert isinstance(mine, float)
        assert isinstance(its, float)
        aims.append(Aim(f"{text} {other.who}", mine < its, f"{mine / its:.2f} x"))
    return aims


def _measure_way(name: str, folder: Path, count: int, rounds: int) -> dict[str, Any]:
    """Compare several times; the median counts, and of the memory the peak above what the imports take."""
    watches = [Watch() for _ in range(rounds)]
    before = _peak_mib()
    before_s = time.process_time()
    if name == BY_SETS:
        sorting_s = 0.0
        found = {by_sets(folder, watch) for watch in watches}
    else:
        with sorted_ids(folder) as desired:
            sorting_s = time.process_time() - before_s
            found = {OWN_WAYS[name](folder, desired, watch) for watch in watches}
    peak = _peak_mib()
    if found != {(count // 10, count // 10)}:
        raise SystemExit(f"{name}: found {found}")
    cpu = [count / watch.cpu_s / 1e6 for watch in watches]
    return {
        "way": name,
        "million_ids_per_cpu_s": round(statistics.median(cpu), 2),
        "slowest": round(min(cpu), 2),
        "fastest": round(max(cpu), 2),
        "million_ids_per_wall_s": round(statistics.median(count / watch.wall_s / 1e6 for watch in watches), 2),
        "sorting_before_cpu_s": round(sorting_s, 2),
        "mib_more": round(peak - before, 1),
    }


def _peak_mib() -> float:
    """Return the peak of this process, without that of the one that made it."""
    lines = Path("/proc/self/status").read_text("ascii").splitlines()
    return next(int(line.split()[1]) / 1024 for line in lines if line.startswith("VmHWM:"))


def _compare(count: int, rounds: int) -> None:
    """Measure each way in a process of its own, and print a line each.

    Counted are remote ids, each once; the desired ones, as many, come on top. Timed are decoding, comparing and making
    lines, of one process with one thread; not timed is what reads the bodies, and what sorts the desired list before.
    """
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        write_lists(folder, count)
        results = [alone(partial(_measure_way, name, folder, count, rounds)) for name in (*OWN_WAYS, BY_SETS)]
    peer = results[-1]
    for result in results:
        result["times_the_peer"] = round(result["million_ids_per_cpu_s"] / peer["million_ids_per_cpu_s"], 2)
        print(json.dumps({"ids": count, **result}))


def _memory(counts: list[int]) -> None:
    """Measure a run of each size, and print a line each, with the difference to the first."""
    first: float | None = None
    for count in counts:
        result = run(count)
        first = result["peak_mib"] if first is None else first
        print(json.dumps({**result, "mib_above_first": round(result["peak_mib"] - first, 1)}), flush=True)


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    modes = parser.add_subparsers(dest="mode", required=True)
    comparing = modes.add_parser("compare", help="the comparison by itself, without a network")
    comparing.add_argument("--ids", type=int, default=_SECOND)
    comparing.add_argument("--rounds", type=int, default=5)
    running = modes.add_parser("memory", help="whole runs against the emulator, over sockets")
    running.add_argument("ids", nargs="*", type=int, default=[_FIRST, _SECOND])
    running.add_argument("--big", action="store_true", help=f"also {_BIG:,} ids: minutes, and some GiB of the emulator")
    given = parser.parse_args()
    versions = f"Python {platform.python_version()}, msgspec {msgspec.__version__}, bulksend {bulksend.__version__}"
    print(f"{platform.machine()}, {os.cpu_count()} cores, {versions}", file=sys.stderr)
    if given.mode == "compare":
        _compare(given.ids, given.rounds)
    else:
        _memory([*given.ids, *([_BIG] if given.big else [])])


if __name__ == "__main__":
    main()
