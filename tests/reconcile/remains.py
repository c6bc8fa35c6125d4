"""What a process leaves that ends anywhere: copies of its files at every moment, and what stands in them."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from bulksend.reconcile.difference import Line, of_kind
from bulksend.reconcile.journal import Journal
from bulksend.reconcile.writes import batches
from tests.reconcile.rig import Rig
from tests.reconcile.vendor import Asked, Vendor

CUT: dict[str, Any] = {"block": 2, "page": 4, "adds": 3, "removes": 2}
THERE = {f"{number:02}" for number in range(16)} | {"a", "B"}
WANTED = {f"{number:02}" for number in range(0, 16, 2)} | {"a", "B", "x1", "x2", "x3", "x4", "08b", "0"}
ORDERS = ["code point", "casefold"]


@dataclass
class Shot:
    """What a process that dies at a moment leaves: its files, and the segment."""

    when: str
    folder: Path
    targets: set[str]


@dataclass
class Camera:
    """Copies all files at every call, and at every moment where something goes to disk, whole and torn."""

    rig_folder: Path
    album: Path
    vendor: Vendor
    shots: list[Shot] = field(default_factory=list)
    safe: dict[str, int] = field(default_factory=dict)
    """By file, how many bytes surely are on disk."""
    seen: set[str] = field(default_factory=set)

    def call(self, when: str) -> None:
        """Copy at a call."""
        self.shoot(f"call {len(self.vendor.calls)} {when}")
        notes = self.rig_folder / "written.txt"
        if notes.exists() and (text := notes.read_bytes()):
            self.shoot("a note torn", {notes: len(text) - 1})
            self.shoot("a note's line torn", {notes: len(text) - text[::-1].index(b" ")})

    def sync(self, fd: int) -> None:
        """Copy before a file's bytes are safe: all, none or some of what is new may be there."""
        path = Path(f"/proc/self/fd/{fd}").readlink()
        if path.is_dir():
            self.shoot("before the folder is safe")
            return
        old, new = self.safe.get(str(path), 0) if path.suffix == ".jsonl" else 0, path.stat().st_size
        for size in sorted({new, new - 1, (old + new) // 2}):
            if old <= size <= new:
                self.shoot(f"{path.name} at {size} of {new}", {path: size})
        self.safe[str(path)] = new

    def shoot(self, when: str, torn: dict[Path, int] | None = None) -> None:
        """Copy."""
        copy = self.album / f"{len(self.shots):04}"
        copy.mkdir()
        if self.rig_folder.exists():
            shutil.copytree(self.rig_folder, copy / "segment")
        for path, size in (torn or {}).items():
            os.truncate(copy / "segment" / path.relative_to(self.rig_folder), size)
        files = {one: one.read_bytes() for one in sorted(copy.rglob("*")) if one.is_file()}
        looks = repr([(one.relative_to(copy), data) for one, data in files.items()] + sorted(self.vendor.targets))
        if looks in self.seen:
            shutil.rmtree(copy)
            return
        self.seen.add(looks)
        self.shots.append(Shot(when, copy, set(self.vendor.targets)))


def journals(folder: Path) -> Iterator[list[Line]]:
    """Yield the lines of the pages of each range, as far as they are whole."""
    for path in sorted(folder.glob("pages-*.jsonl")):
        copy = path.with_suffix(".copy")
        shutil.copy(path, copy)
        one = Journal(copy)
        one.open()
        one.close()
        yield list(one.lines())
        copy.unlink()


def finished_pages(folder: Path) -> set[tuple[str | None, int]]:
    """Return the cursors of the pages that are on disk; the first of a range has none, hence their number."""
    found: set[tuple[str | None, int]] = set()
    firsts = 0
    for lines in journals(folder):
        marks = [line.mark for line in lines if line.mark is not None]
        firsts += bool(marks)
        found |= {(mark.following, 0) for mark in marks[:-1]}
    return found | ({(None, firsts)} if firsts else set())


def pages_again(finished: set[tuple[str | None, int]], asked: list[Asked], ranges: int) -> set[str | None]:
    """Return the finished pages that are asked for again."""
    pages = [one for one in asked if one.name == "targets.query"]
    again = {one.body["next"] for one in pages if "next" in one.body} & {cursor for cursor, _ in finished}
    firsts = sum("next" not in one.body for one in pages)
    done = max((number for cursor, number in finished if cursor is None), default=0)
    return again | ({None} if done and firsts > ranges - done else set())


def noted_batches(folder: Path) -> set[frozenset[str]]:
    """Return the batches whose notes are on disk, as the ids that each holds."""
    notes = folder / "written.txt"
    if not notes.exists():
        return set()
    lines = [line for one in journals(folder) for line in one]
    if (folder / "found.jsonl").exists() and (folder / "found.jsonl").stat().st_size:
        one = Journal(folder / "found.jsonl")
        lines = list(one.lines())
    made = {
        name: list(batches(of_kind(lines, add=name == "add"), CUT[size]))
        for name, size in (("add", "adds"), ("remove", "removes"))
    }
    whole = notes.read_text().split("\n")[:-1]
    return {frozenset(made[name][int(number)]) for name, number in (line.split(" ") for line in whole)}


def state_of(folder: Path, name: str = "state.json") -> dict[str, Any]:
    path = folder / name
    return orjson.loads(path.read_bytes()) if path.exists() else {}


def begun_anew(rig: Rig) -> bool:
    """Say whether the segment was read from its first page on."""
    return [one.name for one in rig.in_phase["find"]][:1] == ["segment.get"]
