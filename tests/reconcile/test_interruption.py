"""A reconciliation that ends anywhere, stopped or killed, is gone on with where it was."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import pytest

from bulksend.engine.limiter import StoppedError
from bulksend.errors import RunError
from bulksend.job.spec import Verify
from bulksend.model import Reply
from bulksend.reconcile import comparison, journal, merge, writes
from bulksend.reconcile.difference import Line, of_kind
from bulksend.reconcile.journal import Journal
from bulksend.reconcile.writes import batches
from tests.reconcile.rig import Asked, Rig, Vendor, a_folder, reconcile

DAY_S = 86_400.0
CUT: dict[str, Any] = {"block": 2, "page": 4, "adds": 3, "removes": 2}
THERE = {f"{number:02}" for number in range(16)} | {"a", "B"}
WANTED = {f"{number:02}" for number in range(0, 16, 2)} | {"a", "B", "x1", "x2", "x3", "x4", "08b", "0"}
ORDERS = ["code point", "casefold"]


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "SPAN_TARGETS", 6)
    monkeypatch.setattr(merge, "LINE_IDS", 2)


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


def go_on(shot: Path, vendor: Vendor, **how: Any) -> Rig:
    """Go on in a later process, and see that nothing is done twice and that the end is exact."""
    segment = shot / "segment"
    phase = state_of(segment).get("phase")
    reading = state_of(segment, "reading.json")
    verifying = state_of(segment / "verify", "reading.json")
    first, second = finished_pages(segment), finished_pages(segment / "verify")
    noted = noted_batches(segment)
    before = len(vendor.calls)
    rig = reconcile(shot, vendor, WANTED, later_s=50.0, **CUT, **how)

    in_order = vendor.collation == "code point"
    if reading and (in_order or not reading["in_order"]):
        assert not pages_again(first, rig.in_phase["find"], len(reading["spans"])), "a finished page is read again"
    if verifying:
        assert not pages_again(second, rig.in_phase["verify"], len(verifying["spans"])), "so it is at the second look"
    if phase in ("known", "applying", "verifying"):
        assert rig.in_phase["find"] == [], "the difference is known"
    if phase == "verifying":
        assert rig.in_phase["apply"] == []
    written = {one.ids for one in vendor.calls[before:] if one.name in ("targets.add", "targets.delete")}
    assert not written & noted, "a batch that was noted is made again"
    assert rig.difference is not None
    assert len({*rig.added}) == len(rig.added) == rig.difference.added, "what was found stands there twice"
    assert len({*rig.removed}) == len(rig.removed) == rig.difference.removed
    if noted and phase == "applying":
        assert set().union(*written, *noted) == {*rig.added, *rig.removed}, "a write is lost"
    assert vendor.targets == WANTED
    assert rig.verified is not None
    assert (rig.verified.left, rig.verified.drift) == (0, 0)
    assert not segment.exists()
    return rig


@pytest.mark.parametrize("collation", ORDERS)
def test_killed_at_any_moment(folder, monkeypatch, collation):
    vendor = Vendor(set(THERE), collation=collation)
    (folder / "album").mkdir()
    camera = Camera(folder / "segment", folder / "album", vendor)
    vendor.watch = camera.call
    real = os.fsync
    with monkeypatch.context() as patch:
        patch.setattr(journal.os, "fsync", lambda fd: (camera.sync(fd), real(fd)))
        reconcile(folder, vendor, WANTED, **CUT)
    assert vendor.targets == WANTED
    phases = set()
    for shot in camera.shots:
        phases.add(state_of(shot.folder / "segment").get("phase"))
        rest = Vendor(set(shot.targets), collation=collation)
        try:
            go_on(shot.folder, rest)
        except Exception as wrong:
            raise AssertionError(f"after a death at {shot.when}, {shot.folder.name}") from wrong
    assert phases == {None, "reading", "known", "applying", "verifying"}
    assert len(camera.shots) > 60


def calls_of_all(collation: str, verify: Verify = Verify.FULL) -> int:
    with a_folder() as folder:
        vendor = Vendor(set(THERE), collation=collation)
        reconcile(folder, vendor, WANTED, verify=verify, **CUT)
        return len(vendor.calls)


@pytest.mark.parametrize("collation", ORDERS)
def test_stopped_after_any_call(folder, collation):
    most = calls_of_all(collation)
    assert most > 15
    for number in range(1, most):
        path = folder / str(number)
        path.mkdir()
        vendor = Vendor(set(THERE), collation=collation, stop_at=number)
        rig = reconcile(path, vendor, WANTED, fails=True, **CUT)
        assert rig.failure is None or isinstance(rig.failure, StoppedError)
        assert rig.failure is not None or number > most - 3, "the last answers may be all that was missing"
        assert len(vendor.calls) <= number + 12, "what is under way ends, nothing is begun"
        vendor.stop_at = None
        if rig.failure is None:
            assert vendor.targets == WANTED
        else:
            go_on(path, vendor)


@pytest.mark.parametrize("collation", ORDERS)
def test_stopped_at_every_call_again_and_again(folder, collation):
    vendor = Vendor(set(THERE), collation=collation)
    runs = 0
    while runs < 100:
        runs += 1
        vendor.stop_at = len(vendor.calls) + 9
        rig = reconcile(folder, vendor, WANTED, fails=True, later_s=10.0 * runs, **CUT)
        if rig.failure is None:
            break
    assert vendor.targets == WANTED
    assert 2 < runs < 20


@pytest.mark.parametrize("extra", [1, 3, 5])
def test_what_is_under_way_when_a_run_is_stopped_is_recorded(folder, extra):
    """Design, the first Ctrl-C: no new calls; those in flight finish and are recorded."""
    vendor = Vendor(set(THERE))
    reconcile(folder, vendor, WANTED, until="approved", **CUT)
    before = len(vendor.calls)
    vendor.stop_at = before + extra
    reconcile(folder, vendor, WANTED, fails=True, later_s=10.0, **CUT)
    assert noted_batches(folder / "segment") == {one.ids for one in vendor.calls[before:]}


@pytest.mark.parametrize("number", [2, 3, 4, 5])
def test_pages_that_are_under_way_when_a_run_is_stopped_are_kept(folder, number):
    vendor = Vendor(set(THERE), stop_at=number)
    reconcile(folder, vendor, WANTED, fails=True, **CUT)
    kept = sum(line.mark is not None for one in journals(folder / "segment") for line in one)
    assert kept == len(vendor.named("targets.query"))


def test_what_ends_a_run_leaves_what_was_done(folder):
    """A vendor that does not answer any more, rather than a person, ends the run."""
    most = calls_of_all("code point")
    for number in range(1, most, 3):
        path = folder / str(number)
        path.mkdir()
        vendor = Vendor(set(THERE), faults=dict.fromkeys(range(number, number + 200), "500"))
        rig = reconcile(path, vendor, WANTED, fails=True, **CUT)
        assert isinstance(rig.failure, RunError)
        assert "run again to go on" in str(rig.failure)
        vendor.faults = {}
        go_on(path, vendor)


class Forgetful(Vendor):
    """Refuses the cursors of an earlier time."""

    era = "1:"

    def _page(self, body):
        if "next" in body and not body["next"].startswith(self.era):
            return Reply(400, {}, b'{"code":4}')
        said = super()._page({**body, "next": body["next"][len(self.era) :]} if "next" in body else body)
        page = orjson.loads(said.body)
        if "next" in page:
            page["next"] = self.era + page["next"]
        return Reply(said.status, said.headers, orjson.dumps(page))


@pytest.mark.parametrize("span", [6, 1000])
@pytest.mark.parametrize("collation", ORDERS)
def test_a_cursor_that_has_gone_stale_is_left(folder, monkeypatch, span, collation):
    monkeypatch.setattr(comparison, "SPAN_TARGETS", span)
    vendor = Forgetful(set(THERE), collation=collation)
    vendor.stop_at = 9 if span == 6 and collation != "code point" else 5
    reconcile(folder, vendor, WANTED, fails=True, **CUT)
    assert any(line.mark.following for one in journals(folder / "segment") for line in one if line.mark is not None)
    vendor.era, vendor.stop_at = "2:", None
    rig = reconcile(folder, vendor, WANTED, later_s=50.0, **CUT)
    assert vendor.targets == WANTED
    if collation == "code point":
        assert [one.name for one in rig.in_phase["find"]].count("segment.get") == 2, "it is begun anew, once"


# Begun anew


def begun_anew(rig: Rig) -> bool:
    """Say whether the segment was read from its first page on."""
    return [one.name for one in rig.in_phase["find"]][:1] == ["segment.get"]


@pytest.mark.parametrize("until", ["found", "refused", "approved", "applied"])
@pytest.mark.parametrize(
    ("what", "how"),
    [
        ("an hour later", {"later_s": 3600.0}),
        ("just within the day", {"later_s": DAY_S - 60}),
        ("a day later", {"later_s": DAY_S + 60}),
        ("the clock was set back", {"later_s": -60.0}),
        ("another list", {"wanted": WANTED | {"y"}}),
        ("another list of the same length", {"wanted": WANTED - {"0"} | {"y"}}),
    ],
)
def test_what_is_too_old_or_about_another_list_is_begun_anew(folder, until, what, how):
    how = dict(how)
    wanted = how.pop("wanted", WANTED)
    vendor = Vendor(set(THERE))
    reconcile(folder, vendor, WANTED, until=until, **CUT)
    # What the next run finds is not what the last one left.
    vendor.targets = vendor.targets - {"02"} | {"zz"}
    rig = reconcile(folder, vendor, wanted, **{"later_s": 50.0, **how}, **CUT)
    goes_on = until != "refused" and what in ("an hour later", "just within the day")
    assert begun_anew(rig) is not goes_on
    if goes_on:
        assert rig.verified is not None
        assert rig.verified.drift == 2
        assert vendor.targets == wanted - {"02"} | {"zz"}
    else:
        assert vendor.targets == wanted


@pytest.mark.parametrize(("asked", "goes_on"), [(None, False), ("0" * 16, False), ("its own", True)])
def test_what_was_refused_is_found_anew_unless_it_is_asked_for(folder, asked, goes_on):
    vendor = Vendor(set(THERE))
    first = reconcile(folder, vendor, WANTED, until="refused", **CUT)
    assert vendor.targets == THERE
    assert first.difference is not None
    apply_hash = first.difference.hash if asked == "its own" else asked
    rig = reconcile(folder, vendor, WANTED, apply_hash=apply_hash, later_s=50.0, **CUT)
    assert begun_anew(rig) is not goes_on
    assert rig.difference == first.difference
    assert vendor.targets == WANTED


def test_what_was_refused_half_way_is_gone_on_with_by_its_hash(folder, monkeypatch):
    monkeypatch.setattr(writes, "IN_FLIGHT", 1)
    vendor = Vendor(set(THERE))
    stopped = reconcile(folder, vendor, WANTED, until="approved", **CUT)
    vendor.stop_at = len(vendor.calls) + 4
    reconcile(folder, vendor, WANTED, fails=True, later_s=10.0, **CUT)
    vendor.stop_at = None
    noted = noted_batches(folder / "segment")
    assert noted
    reconcile(folder, vendor, WANTED, until="refused", later_s=20.0, **CUT)
    assert stopped.difference is not None
    rig = reconcile(folder, vendor, WANTED, apply_hash=stopped.difference.hash, later_s=30.0, **CUT)
    assert not begun_anew(rig)
    assert not {one.ids for one in rig.in_phase["apply"]} & noted
    assert vendor.targets == WANTED


def test_a_state_of_another_version_is_begun_anew(folder):
    vendor = Vendor(set(THERE))
    reconcile(folder, vendor, WANTED, until="approved", **CUT)
    path = folder / "segment" / "state.json"
    path.write_bytes(orjson.dumps({**orjson.loads(path.read_bytes()), "phase": "thinking"}))
    assert begun_anew(reconcile(folder, vendor, WANTED, later_s=50.0, **CUT))
    assert vendor.targets == WANTED


def test_files_are_for_their_owner_alone(folder):
    umask = os.umask(0)
    try:
        reconcile(folder, Vendor(set(THERE)), WANTED, until="verified", **CUT)
    finally:
        os.umask(umask)
    files = [*(folder / "segment").rglob("*")]
    assert {one.name for one in files} >= {"state.json", "reading.json", "pages-0.jsonl", "written.txt", "verify"}
    assert {one.stat().st_mode & 0o777 for one in [*files, folder / "segment"] if one.is_dir()} == {0o700}
    assert {one.stat().st_mode & 0o777 for one in files if one.is_file()} == {0o600}


# A death while the files are removed


@pytest.mark.parametrize("gone", ["pages-0.jsonl", "reading.json", "written.txt", "state.json"])
def test_killed_while_the_files_of_a_finished_run_are_removed(folder, monkeypatch, gone):
    """The next run is about the same list, and others have changed the segment since."""
    monkeypatch.setattr(comparison, "SPAN_TARGETS", 1000)
    vendor = Vendor(set(THERE))
    reconcile(folder, vendor, WANTED, until="verified", **CUT)
    shutil.rmtree(folder / "segment" / "verify")
    (folder / "segment" / gone).unlink()
    vendor.targets = vendor.targets - {"02"} | {"zz"}
    rig = reconcile(folder, vendor, WANTED, later_s=3600.0, **CUT)
    assert rig.verified is not None
    assert vendor.targets == WANTED or rig.verified.left or rig.verified.drift, "it says that all is right"


def test_killed_while_the_files_of_a_refused_difference_are_removed(folder, monkeypatch):
    """The next run asks for just that difference."""
    monkeypatch.setattr(comparison, "SPAN_TARGETS", 1000)
    vendor = Vendor(set(THERE))
    first = reconcile(folder, vendor, WANTED, until="refused", **CUT)
    (folder / "segment" / "pages-0.jsonl").unlink()
    assert first.difference is not None
    rig = reconcile(folder, vendor, WANTED, apply_hash=first.difference.hash, later_s=50.0, **CUT)
    assert rig.difference == first.difference
    assert vendor.targets == WANTED


@pytest.mark.xfail(strict=True, reason="written.txt outlives the difference whose batches it numbers")
def test_pages_that_are_lost_while_the_difference_is_applied(folder, monkeypatch):
    """Not by a death: what was noted is about the batches of another difference then."""
    monkeypatch.setattr(comparison, "SPAN_TARGETS", 1000)
    monkeypatch.setattr(writes, "IN_FLIGHT", 1)
    vendor = Vendor(set(THERE))
    reconcile(folder, vendor, WANTED, until="approved", **CUT)
    vendor.stop_at = len(vendor.calls) + 3
    reconcile(folder, vendor, WANTED, fails=True, later_s=10.0, **CUT)
    vendor.stop_at = None
    assert noted_batches(folder / "segment")
    (folder / "segment" / "pages-0.jsonl").unlink()
    reconcile(folder, vendor, WANTED, later_s=50.0, **CUT)
    assert vendor.targets == WANTED
