"""Run the benchmarks: all that there are in shortened sizes, or those that are named.

python -m benchmarks [NAME …] [--full] [--json FILE] [--results FILE.md] [--check] [--list]

Each result is printed as it comes, below the machine and the versions that all were measured with.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import os
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import msgspec

from benchmarks.frame import Machine, Result, machine, shown

__all__ = ["NAMES", "main"]

NAMES = (
    "share_of_limit",
    "sends",
    "sends_tls",
    "cpu",
    "processes",
    "memory",
    "rows",
    "ledger",
    "accounts",
    "reconcile",
    "start",
    "imports",
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Return the exit code: 2 where a name stands for nothing, 1 where an aim was missed and `--check` asks for it."""
    parser = argparse.ArgumentParser(
        "python -m benchmarks", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help="all of --list, where none is given")
    parser.add_argument("--full", action="store_true", help="the sizes of the published results; takes far longer")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write machine and results there as JSON")
    parser.add_argument("--results", type=Path, metavar="FILE.md", help="write there what is printed")
    parser.add_argument("--check", action="store_true", help="exit code 1 where an aim was missed")
    parser.add_argument("--list", action="store_true", help="say what there is, and measure nothing")
    given = parser.parse_args(arguments)

    there = [name for name in NAMES if _is_there(name)]
    if given.list:
        for name in there:
            print(f"{name:16}{_first_line(_module(name))}")
        return 0
    if wrong := [name for name in given.names if name not in there]:
        print(f"no benchmark of the name {', '.join(wrong)}; there are: {', '.join(there)}", file=sys.stderr)
        return 2

    where = machine()
    command = shlex.join(["python", "-m", "benchmarks", *(sys.argv[1:] if arguments is None else arguments)])
    head = _head(where, command)
    print(head, flush=True)
    texts, results = [head], list[Result]()
    for name in given.names or there:
        for result in _measured(_module(name), full=given.full):
            results.append(result)
            texts.append(shown(result))
            print(f"\n{texts[-1]}", flush=True)
            # Written after each, so that a run of hours that breaks off has not been for nothing.
            _write(given.json, given.results, where, texts, results, full=given.full)
    missed = any(aim.reached is False for result in results for aim in result.aims)
    return 1 if missed and given.check else 0


def _is_there(name: str) -> bool:
    return importlib.util.find_spec(f"benchmarks.{name}") is not None


def _module(name: str) -> ModuleType:
    return importlib.import_module(f"benchmarks.{name}")


def _first_line(module: ModuleType) -> str:
    return (module.__doc__ or "").strip().partition("\n")[0]


def _measured(module: ModuleType, *, full: bool) -> list[Result]:
    measured: Result | list[Result] = module.measure(full=full)
    return [measured] if isinstance(measured, Result) else measured


def _head(where: Machine, command: str) -> str:
    versions = ", ".join(f"{name} {version}" for name, version in where.versions.items())
    # Others at work on the machine spoil every figure, and a reader of the results cannot see them.
    load = f"load average {os.getloadavg()[0]:.1f} before"
    return (
        f"`{command}`\n\n{where.cpu}, {where.cores} cores, {load}, {where.system}, Python {where.python}; {versions}."
    )


def _write(
    as_json: Path | None,
    as_text: Path | None,
    where: Machine,
    texts: Sequence[str],
    results: Sequence[Result],
    *,
    full: bool,
) -> None:
    if as_json is not None:
        told = msgspec.json.encode({"machine": where, "full": full, "results": results})
        as_json.write_bytes(msgspec.json.format(told, indent=2) + b"\n")
    if as_text is not None:
        as_text.write_text("# Results\n\n" + "\n\n".join(texts) + "\n", "utf-8")


if __name__ == "__main__":
    sys.exit(main())
