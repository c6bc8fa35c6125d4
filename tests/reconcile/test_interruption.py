"""A reconciliation that ends anywhere, stopped or killed, is gone on with where it was."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import orjson
import pytest

from bulksend.engine.limiter import StoppedError
from bulksend.errors import InterruptedRunError
from bulksend.event import EventName
from bulksend.job.spec import Verify
from bulksend.model import Limit, Reply
from bulksend.reconcile import comparison, journal, merge
from tests.reconcile.remains import (
    CUT,
    ORDERS,
    THERE,
    WANTED,
    Camera,
    finished_pages,
    journals,
    noted_batches,
    pages_again,
    state_of,
)
from tests.reconcile.rig import Rig, a_folder, reconcile
from tests.reconcile.vendor import Vendor


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "SPAN_TARGETS", 6)
    monkeypatch.setattr(merge, "LINE_IDS", 2)


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
    if verifying and not verifying.get("has_ended"):
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
        assert isinstance(rig.caller.failure, InterruptedRunError)
        assert "run again to go on" in str(rig.caller.failure)
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


def test_a_call_that_never_left_since_the_run_stopped_is_not_told(folder):
    """Its turn at the limit had not come: nothing of it reached the vendor."""
    vendor = Vendor(set(THERE), stop_at=3)
    rig = reconcile(folder, vendor, WANTED, fails=True, limit=Limit.parse("6/min"), **CUT)
    assert isinstance(rig.failure, StoppedError)
    told = [one.endpoint for one in rig.told_of_calls if one.name is EventName.CALL_MADE]
    assert told == [f"stream.{one.name}" for one in vendor.calls]
    assert len(told) == 3
