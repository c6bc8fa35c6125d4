"""The ways in which this package compares a segment with a list, and the way of the standard library.

python -m benchmarks.reconciling.ways WAY FOLDER compares the lists in a folder and prints what it found as JSON.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from itertools import islice
from pathlib import Path
from typing import Any, Self

import msgspec

from benchmarks.reconciling.ids import DESIRED, SEGMENT, bodies
from bulksend.job.desired import DesiredIds, sort_desired
from bulksend.model import Listed, Reply, Step
from bulksend.providers.stream.targets import StreamTargets
from bulksend.providers.targets import Span
from bulksend.reconcile import unordered
from bulksend.reconcile.difference import Line, Mark
from bulksend.reconcile.journal import Journal
from bulksend.reconcile.merge import Merge

__all__ = ["AS_A_RUN", "BY_SETS", "OWN_WAYS", "UNORDERED", "Found", "Watch", "by_sets", "sorted_ids"]

_TARGETS = StreamTargets()


class Watch:
    """Adds up the time of the blocks that it is entered for."""

    def __init__(self) -> None:
        self.wall_s = 0.0
        self.cpu_s = 0.0

    def __enter__(self) -> Self:
        self.wall_s -= time.perf_counter()
        self.cpu_s -= time.process_time()
        return self

    def __exit__(self, *_: object) -> None:
        self.wall_s += time.perf_counter()
        self.cpu_s += time.process_time()


Found = tuple[int, int]
"""How many ids have to be added, and removed."""


def sorted_ids(folder: Path) -> DesiredIds:
    """Sort the desired list as a run does."""
    return sort_desired(
        base_dir=folder, source=DESIRED, sql=None, key="id", scratch_dir=folder, most_chars=_TARGETS.id_most_chars
    )


def _read_page(step: Step, body: bytes) -> Listed:
    """Decode a page as a run does."""
    page = _TARGETS.read_page(step, "", Reply(200, {}, body))
    assert isinstance(page, Listed)
    return page


def _counted(lines: Iterator[Line], found: list[int]) -> Iterator[Line]:
    """Pass lines on, and add up what they hold."""
    for line in lines:
        found[0] += len(line.add)
        found[1] += len(line.remove)
        yield line


def _in_order(folder: Path, desired: DesiredIds, watch: Watch, *, keep: Callable[[Iterator[Line]], None]) -> Found:
    """Compare page by page; `keep` takes the lines of each."""
    step = _TARGETS.page(SEGMENT, Span(), following=None)
    merge = Merge(desired, 0, desired.blocks, after=None)
    mark, found = Mark(0, 0), [0, 0]
    for body in bodies(folder):
        with watch:
            page = _read_page(step, body)
            mark = Mark(mark.pages + 1, mark.count + len(page.ids), None, page.following)
            keep(_counted(merge.page(page.ids, mark, ends=page.following is None), found))
    return found[0], found[1]


def _in_order_encoded(folder: Path, desired: DesiredIds, watch: Watch) -> Found:
    """Make the journal's lines, and write none."""
    encode = msgspec.json.Encoder().encode

    def keep(lines: Iterator[Line]) -> None:
        for line in lines:
            encode(line)

    return _in_order(folder, desired, watch, keep=keep)


def _in_order_on_disk(folder: Path, desired: DesiredIds, watch: Watch) -> Found:
    """Write the journal as a run does, each page on disk before the next."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        journal = Journal(Path(scratch) / "pages.jsonl")
        journal.open()
        try:
            return _in_order(folder, desired, watch, keep=journal.append)
        finally:
            journal.close()


def _without_order(folder: Path, desired: DesiredIds, watch: Watch) -> Found:
    """Keep the pages on disk, and compare them once the last has come."""
    step = _TARGETS.page(SEGMENT, Span(), following=None)
    found, count = [0, 0], 0
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        kept, journal = Journal(Path(scratch) / "pages.jsonl"), Journal(Path(scratch) / "found.jsonl")
        kept.open()
        journal.open()
        try:
            for number, body in enumerate(bodies(folder), 1):
                with watch:
                    page = _read_page(step, body)
                    count += len(page.ids)
                    kept.append((Line(ids=page.ids, mark=Mark(number, count, None, page.following)),))
            with watch:
                pages = (line.ids for line in kept.lines())
                lines = unordered.compare(
                    pages, desired, targets=count, scratch_dir=Path(scratch), stopping=lambda: False
                )
                journal.append(_counted(lines, found))
        finally:
            kept.close()
            journal.close()
    return found[0], found[1]


def by_sets(folder: Path, watch: Watch) -> Found:
    """Compare as one would without this package: the standard library's JSON, and two sets of all."""
    there: set[str] = set()
    for body in bodies(folder):
        with watch:
            there.update(target["target_id"] for target in json.loads(body)["targets"])
    with watch:
        with (folder / DESIRED).open(encoding="utf-8") as file:
            wanted = {line.rstrip("\n") for line in islice(file, 1, None)}
        return len(sorted(wanted - there)), len(sorted(there - wanted))


BY_SETS = "json and sets of the standard library"
AS_A_RUN = "in order, each page on disk"
UNORDERED = "without order, on disk"
OWN_WAYS: dict[str, Callable[[Path, DesiredIds, Watch], Found]] = {
    "in order, lines made and not written": _in_order_encoded,
    AS_A_RUN: _in_order_on_disk,
    UNORDERED: _without_order,
}


def _compare(way: str, folder: Path) -> dict[str, Any]:
    started_s = time.perf_counter()
    with sorted_ids(folder) as desired:
        sorting_s = time.perf_counter() - started_s
        added, removed = OWN_WAYS[way](folder, desired, Watch())
    return {"added": added, "removed": removed, "sorting_s": sorting_s}


if __name__ == "__main__":
    print(json.dumps(_compare(sys.argv[1], Path(sys.argv[2]))))
