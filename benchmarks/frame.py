"""What every benchmark gives: measured rows side by side, and what they were to reach.

A benchmark is a module with a docstring (its first line says what is measured) and `measure(*, full)`; `python -m
benchmarks NAME` runs it by itself. Rows of one result were measured in one run on one machine, so that their ratios
hold elsewhere; nothing in a row is typed in by hand.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import metadata
from pathlib import Path

import msgspec

__all__ = ["Aim", "Machine", "Result", "Row", "machine", "serving", "shown"]

Value = float | int | str | bool | None

_PACKAGES = (
    "bulksend", "aiohttp", "aiolimiter", "aiosqlite", "duckdb", "httpx", "locust", "msgspec", "orjson", "polars",
    "pyrate-limiter", "structlog", "uvloop",
)  # fmt: skip


class Row(msgspec.Struct, frozen=True):
    """One of those compared: `bulksend` or a peer, and its figures by column; None where it has no such figure."""

    who: str
    figures: dict[str, Value]
    note: str = ""


class Aim(msgspec.Struct, frozen=True):
    """What was to be reached, whether it was, and the figure that decides; None where a peer was missing."""

    text: str
    reached: bool | None
    measured: str = ""


class Result(msgspec.Struct, frozen=True):
    """What one benchmark measured."""

    name: str
    about: str
    """The work, so that somebody else can do the same: sizes, latencies, how often."""
    rows: list[Row]
    aims: list[Aim]
    missing: list[str] = []
    """Peers that are not installed here."""


class Machine(msgspec.Struct, frozen=True):
    """Where it was measured."""

    cpu: str
    cores: int
    system: str
    python: str
    versions: dict[str, str]


def machine() -> Machine:
    """Return what a reader must know of this machine."""
    versions = {}
    for name in _PACKAGES:
        try:
            versions[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return Machine(
        _cpu(), os.cpu_count() or 0, f"{platform.system()} {platform.machine()}", sys.version.split()[0], versions
    )


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.processor()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "")


def shown(result: Result) -> str:
    """Return a result as a Markdown table, with what was to be reached below it."""
    columns = list(dict.fromkeys(name for row in result.rows for name in row.figures))
    table = [["", *columns], *([row.who, *(_text(row.figures.get(name)) for name in columns)] for row in result.rows)]
    widths = [max(3, *(len(line[index]) for line in table)) for index in range(len(columns) + 1)]
    lines = [
        "| " + " | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)) + " |" for line in table
    ]
    lines.insert(1, "|" + "|".join("-" * (width + 2) for width in widths) + "|")
    notes = [f"{row.who}: {row.note}" for row in result.rows if row.note]
    said = {True: "reached", False: "NOT reached", None: "not decided"}
    aims = [f"- {said[aim.reached]}: {aim.text}{f' ({aim.measured})' if aim.measured else ''}" for aim in result.aims]
    missing = [f"Missing here: {', '.join(result.missing)}."] if result.missing else []
    parts = [f"## {result.name}\n\n{result.about}", "\n".join(lines), "\n".join(f"{one}" for one in notes)]
    return "\n\n".join(part for part in (*parts, "\n".join(aims), *missing) if part)


def _text(value: Value) -> str:
    if value is None:
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.4g}"
    return f"{value:,}" if isinstance(value, int) else value


@contextmanager
def serving(module: str, arguments: Sequence[str] = ()) -> Iterator[dict[str, str]]:
    """Run a module of this folder as a server in its own process; gives the line of JSON that it prints when ready.

    It ends when its standard input does, so that it does not outlive a benchmark that was killed.
    """
    command = [sys.executable, "-m", f"benchmarks.{module}", *arguments]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        try:
            line = process.stdout.readline()
            if not line:
                raise SystemExit(f"{module} did not start")
            yield json.loads(line)
        finally:
            process.stdin.close()
            process.wait(timeout=10)
