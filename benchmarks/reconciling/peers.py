"""The same comparison by what people would use instead: DuckDB, polars, `sort` and `comm`.

python -m benchmarks.reconciling.peers PEER FOLDER compares the lists in a folder and prints what it found as JSON.

All read the bodies of the vendor's pages and the desired CSV file, as `bulksend` does, and write what is to be added
and removed to files. Each does so in the form that was the fastest of those tried: DuckDB takes ids out of a page by a
path (eleven times as fast as by a schema); polars runs its streaming engine; the shell splits pages at commas
(`grep -o` and `jq` take ten times as long), and does not sort again what the vendor lists in order. None is asked to
check that order, to drop ids that stand twice, or to go on after a crash.
"""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

from benchmarks.reconciling.ids import DESIRED, PAGES

__all__ = ["commands", "missing"]

_SHELL_NAME = "sort + comm"
_PROGRAMS = ("cat", "comm", "cut", "grep", "mkfifo", "sh", "sort", "tail", "tr")
_SHELL = f"""
set -e
export LC_ALL=C
cd "$1"
rm -f desired.pipe remote.pipe
mkfifo desired.pipe remote.pipe
{{ tail -n +2 {DESIRED} | sort $2 > desired.pipe; }} &
{{ cat {PAGES}/*.json | tr , '\\n' | grep -F '"target_id":"' | cut -d'"' -f4 > remote.pipe; }} &
comm -3 desired.pipe remote.pipe > changes.txt
wait
removed=$(grep -c '^\t' changes.txt) || true
added=$(grep -vc '^\t' changes.txt) || true
rm desired.pipe remote.pipe changes.txt
echo '{{"added":'$added',"removed":'$removed'}}'
"""
_SORT_BUFFERS = {_SHELL_NAME: "", f"{_SHELL_NAME}, sort -S 1G": "-S 1G"}

_REMOTE = "select unnest(json->>'$.targets[*].target_id') as id from read_json_objects('{pages}/*.json')"
_DESIRED = "select id from read_csv('{desired}', header = true, columns = {{id: 'VARCHAR'}})"


def _duckdb_anti(folder: Path) -> tuple[int, int]:
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("set preserve_insertion_order = false")  # it takes less memory so
        connection.execute(f"create temp table remote as {_REMOTE.format(pages=folder / PAGES)}")
        connection.execute(f"create temp table desired as {_DESIRED.format(desired=folder / DESIRED)}")
        found = []
        for here, there in (("desired", "remote"), ("remote", "desired")):
            query = f"select id from {here} anti join {there} using (id)"
            rows = connection.execute(f"copy ({query}) to '{folder / here}.found'").fetchall()
            found.append(int(rows[0][0]))
        return found[0], found[1]


def _duckdb_outer(folder: Path) -> tuple[int, int]:
    import duckdb

    with duckdb.connect() as connection:
        connection.execute("set preserve_insertion_order = false")
        desired, remote = _DESIRED.format(desired=folder / DESIRED), _REMOTE.format(pages=folder / PAGES)
        joined = f"({desired}) one full outer join ({remote}) other on one.id = other.id"
        query = f"select one.id, other.id from {joined} where one.id is null or other.id is null"
        connection.execute(f"copy ({query}) to '{folder}/changes.found' (header false)")
        count = "select count(one), count(other) from read_csv(?, header = false, names = ['one', 'other'])"
        added, removed = connection.execute(count, [f"{folder}/changes.found"]).fetchall()[0]
        return int(added), int(removed)


def _polars_anti(folder: Path) -> tuple[int, int]:
    import polars as pl

    schema = {"targets": pl.List(pl.Struct({"target_id": pl.String}))}
    pages = pl.scan_ndjson(folder / PAGES / "*.json", schema=schema)
    remote = pages.explode("targets").select(id=pl.col("targets").struct.field("target_id"))
    desired = pl.scan_csv(folder / DESIRED, schema={"id": pl.String})
    files = [folder / "desired.found", folder / "remote.found"]
    sinks = [
        here.join(there, on="id", how="anti").sink_csv(file, include_header=False, lazy=True)
        for (here, there), file in zip(((desired, remote), (remote, desired)), files, strict=True)
    ]
    pl.collect_all(sinks, engine="streaming")
    added, removed = (file.read_bytes().count(b"\n") for file in files)
    return added, removed


_PYTHON: dict[str, tuple[str, Callable[[Path], tuple[int, int]]]] = {
    "DuckDB, anti-joins": ("duckdb", _duckdb_anti),
    "DuckDB, one outer join": ("duckdb", _duckdb_outer),
    "polars, anti-joins": ("polars", _polars_anti),
}


def commands(folder: Path) -> dict[str, list[str]]:
    """Return how each peer that is there is started."""
    module = [sys.executable, "-m", "benchmarks.reconciling.peers"]
    found = {who: [*module, who, str(folder)] for who, (package, _) in _PYTHON.items() if find_spec(package)}
    if all(map(shutil.which, _PROGRAMS)):
        found |= {who: ["sh", "-c", _SHELL, "sh", str(folder), buffer] for who, buffer in _SORT_BUFFERS.items()}
    return found


def missing() -> list[str]:
    """Return what is not there."""
    packages = {package for package, _ in _PYTHON.values()}
    programs = [name for name in _PROGRAMS if shutil.which(name) is None]
    return sorted(package for package in packages if find_spec(package) is None) + programs


if __name__ == "__main__":
    added, removed = _PYTHON[sys.argv[1]][1](Path(sys.argv[2]))
    print(json.dumps({"added": added, "removed": removed}))
