"""Peak memory as rows grow: `plan`, a run with its sends, and a run that goes on with the last ten thousand.

The peak is what Linux says was resident at most of the process that ran the command.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from benchmarks.frame import Aim, Result, Row, Value, serving
from benchmarks.measured import measured
from benchmarks.settled import command, settle, write_job

__all__ = ["measure"]

SIZES = (10_000, 200_000)
SIZES_FULL = (10_000, 1_000_000, 10_000_000)
SENDS_MOST = 1_000_000
"""More real sends than this are not made: they take hours, and prove nothing that a million does not."""
SENDS_MOST_SHORT = 100_000
LEFT = 10_000
AIM_MIB = 64


def measure(*, full: bool) -> Result:
    """Run the three commands at each size; those with calls against the sink."""
    sizes = SIZES_FULL if full else SIZES
    sends_most = SENDS_MOST if full else SENDS_MOST_SHORT
    peaks: dict[str, dict[int, float]] = {"plan": {}, "run": {}, "resume": {}}
    with serving("sink") as sink:
        for size in sizes:
            peaks["plan"][size] = _peak("plan", size, sink["url"])
            peaks["resume"][size] = _peak("run", size, sink["url"], settled=size - LEFT)
        for size in sorted({min(size, sends_most) for size in sizes}):
            peaks["run"][size] = _peak("run", size, sink["url"])
    return Result(
        "Peak memory as rows grow",
        "An Insider launch of two columns of CSV. `plan` looks at all rows; `run` makes all sends, against the sink, "
        f"up to {sends_most:,}, since more take hours; `resume` is a run whose ledger has all but the last {LEFT:,} "
        "rows as accepted (filled by SQL), which looks at all rows, renders and compares them, and sends the rest. "
        "Peak of the resident memory of the one process, in MiB.",
        [_row(name, size, of) for name, of in peaks.items() for size in of],
        [_aim(name, of) for name, of in peaks.items()],
    )


def _peak(name: str, size: int, url: str, *, settled: int = 0) -> float:
    with tempfile.TemporaryDirectory(prefix="bulksend-memory-") as scratch:
        job = write_job(Path(scratch), size, url=url)
        if settled:
            settle(job, settled)
        taken = measured(command(name, job, "--json", *(("--yes",) if name == "run" else ())))
    sends = json.loads(taken["printed"])["sends"]
    if sends["total"] != size or (name == "run" and sends["accepted"] != size):
        raise SystemExit(f"{name} of {size} rows came to {sends}")
    return float(taken["peak_mib"])


def _row(name: str, size: int, of: dict[int, float]) -> Row:
    figures: dict[str, Value] = {"peak MiB": of[size], f"above {min(of):,} rows": of[size] - of[min(of)]}
    return Row(f"{name}, {size:,} rows", figures)


def _aim(name: str, of: dict[int, float]) -> Aim:
    least, most = min(of), max(of)
    more = of[most] - of[least]
    text = f"{name}: {most:,} rows within {AIM_MIB} MiB of {least:,}"
    return Aim(text, more <= AIM_MIB, f"{more:+.1f} MiB")
