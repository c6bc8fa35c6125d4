"""Cost of a row as rows grow: `plan`, and a run that finds all rows settled.

Both look at every row: `plan` checks it, the run renders it and holds it against the ledger too, so that a payload that
is another than was sent is told. Each command is its own process, and its start is part of what it takes; the cost of a
row is what a row more costs, without the start.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from typing import NamedTuple

from benchmarks.frame import Aim, Result, Row, Value
from benchmarks.measured import measured
from benchmarks.settled import command, settle, write_job

__all__ = ["measure"]

SIZES = (10_000, 300_000, 1_000_000)
SIZES_FULL = (10_000, 300_000, 1_000_000, 10_000_000)
FLAT_FROM = 300_000
"""Below, what a row costs drowns in what a start takes more or less."""
REPEATED_TO = 300_000
"""Up to so many rows a command is run several times, and the fastest counts: a machine is never quite by itself."""
TIMES = 3
PLAN_AIM, RESUME_AIM = 150_000, 200_000
FLAT_AIM = 0.15


class _Taken(NamedTuple):
    wall_s: float
    cpu_s: float


def measure(*, full: bool) -> Result:
    """Run both commands at each size."""
    sizes = SIZES_FULL if full else SIZES
    started = _at(1)
    taken = {size: _at(size) for size in sizes}
    costs = {
        name: {size: (of[name].wall_s - started[name].wall_s) / size * 1e6 for size, of in taken.items()}
        for name in started
    }
    starts = ", ".join(f"{name} {one.wall_s:.2f} s" for name, one in started.items())
    return Result(
        "Cost of a row as rows grow",
        f"An Insider launch of two columns of CSV, four texts of each row made of them; "
        f"{', '.join(f'{size:,}' for size in sizes)} rows. `resume` is a run whose ledger has every row as accepted "
        "(filled by SQL with the fingerprints that the renderer makes): it looks at all keys, checks and renders every "
        "row, compares it, and makes no call. rows/s with the start of the process, µs/row without it "
        f"({starts}, each the fastest of {TIMES}, with one row).",
        [_row(name, size, of[name], started[name]) for name in started for size, of in taken.items()],
        [
            *(
                _speed(name, least, max(sizes), taken[max(sizes)][name])
                for name, least in (("plan", PLAN_AIM), ("resume", RESUME_AIM))
            ),
            *(_flat(name, of) for name, of in costs.items()),
        ],
    )


def _at(size: int) -> dict[str, _Taken]:
    """Return what `plan` of a new job takes, and a run of a settled one."""
    with tempfile.TemporaryDirectory(prefix="bulksend-rows-") as scratch:
        job = write_job(Path(scratch), size)
        plan = _taken(size, "plan", job)
        settle(job, size)
        return {"plan": plan, "resume": _taken(size, "run", job, "--yes")}


def _taken(size: int, name: str, job: Path, *more: str) -> _Taken:
    found = []
    for _ in range(TIMES if size <= REPEATED_TO else 1):
        taken = measured(command(name, job, "--json", *more))
        sends = json.loads(taken["printed"])["sends"]
        if sends["total"] != size or (name == "run" and sends["accepted"] != size):
            raise SystemExit(f"{name} of {size} rows came to {sends}")
        found.append(_Taken(taken["wall_s"], taken["cpu_s"]))
    return min(found)


def _row(name: str, size: int, taken: _Taken, started: _Taken) -> Row:
    figures: dict[str, Value] = {
        "rows/s": size / taken.wall_s,
        "µs/row": (taken.wall_s - started.wall_s) / size * 1e6,
        "CPU µs/row": (taken.cpu_s - started.cpu_s) / size * 1e6,
        "seconds": taken.wall_s,
    }
    return Row(f"{name}, {size:,} rows", figures)


def _speed(name: str, least: int, size: int, taken: _Taken) -> Aim:
    rate = size / taken.wall_s
    return Aim(f"{name} ≥ {least:,} rows/s at {size:,} rows", rate >= least, f"{rate:,.0f} rows/s")


def _flat(name: str, costs: dict[int, float]) -> Aim:
    first, last = costs[FLAT_FROM], costs[max(costs)]
    text = f"{name}: a row of {max(costs):,} costs no more than {FLAT_AIM:.0%} above one of {FLAT_FROM:,}"
    return Aim(text, last <= first * (1 + FLAT_AIM), f"{first:.2f} → {last:.2f} µs, {last / first - 1:+.0%}")
