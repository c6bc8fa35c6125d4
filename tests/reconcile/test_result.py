"""The look at the result: what others change is told apart from what was not done, all of it or a sample."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from bulksend.engine.limiter import StoppedError
from bulksend.errors import DeniedError, RunError
from bulksend.event import EventName
from bulksend.job.spec import Verify
from bulksend.model import Reply
from bulksend.reconcile import comparison, sync
from tests.reconcile.rig import reconcile
from tests.reconcile.vendor import Vendor

THERE = {f"{number:02}" for number in range(30)}
WANTED = {one for one in THERE if int(one) % 5} | {"x1", "x2", "x3"}
PAGES: dict[str, Any] = {"page": 4}


# Changed by others


@pytest.mark.parametrize("page", [1, 3, 100])
@pytest.mark.parametrize("span", [4, 1000])
def test_what_others_change_while_pages_are_read_is_drift_or_put_right(folder, monkeypatch, page, span):
    """Where the change is after the page that is read next, it is part of the difference; where it is before, drift."""
    monkeypatch.setattr(comparison, "SPAN_TARGETS", span)
    monkeypatch.setattr(comparison, "PAGES_SPARE", 1000)
    for at in range(2, 10):
        vendor = Vendor(set(THERE), others={at: lambda targets: (targets.discard("01"), targets.update({"00a", "zz"}))})
        path = folder / str(at)
        path.mkdir()
        rig = reconcile(path, vendor, WANTED, page=page)
        assert rig.verified is not None
        assert rig.verified.left == 0
        wrong = vendor.targets ^ WANTED
        assert wrong <= {"01", "00a", "zz"}
        looks = [one.number for one in rig.in_phase["verify"] if one.name == "targets.query"]
        if at <= looks[0]:
            assert rig.verified.drift == len(wrong)
        assert not rig.verified.missing
        assert not rig.verified.extra
        again = reconcile(path, vendor, WANTED, later_s=50.0, page=page)
        assert again.verified is not None
        assert vendor.targets == WANTED


@pytest.mark.parametrize("collation", ["code point", "reversed"])
def test_what_others_change_between_both_looks_is_drift(folder, collation):
    vendor = Vendor(set(THERE), collation=collation)
    rig = reconcile(folder, vendor, WANTED, until="applied", **PAGES)
    vendor.targets = vendor.targets - {"01", "02"} | {"y"}
    rig = reconcile(folder, vendor, WANTED, later_s=50.0, **PAGES)
    assert rig.verified is not None
    assert (rig.verified.left, rig.verified.drift) == (0, 3)
    assert rig.told(EventName.SEGMENT_VERIFIED) == [{"count": 0, "drift": 3}]


SWALLOWED = frozenset({"x1", "x3", "05"})


@pytest.mark.parametrize("collation", ["code point", "reversed"])
def test_what_the_vendor_swallows_is_left(folder, collation):
    """Two additions and a removal are answered well, and did nothing; somebody else's change is told apart."""
    vendor = Vendor(set(THERE), collation=collation, swallows=SWALLOWED)
    reconcile(folder, vendor, WANTED, until="applied", **PAGES)
    vendor.targets = vendor.targets | {"y"}
    rig = reconcile(folder, vendor, WANTED, later_s=50.0, **PAGES)
    assert rig.verified is not None
    assert (rig.verified.left, rig.verified.drift) == (3, 1)
    assert (list(rig.verified.missing), list(rig.verified.extra)) == (["x1", "x3"], ["05"])
    assert not rig.folder.exists()


def test_what_is_left_is_counted_whole_though_it_is_held_in_parts(folder, monkeypatch):
    monkeypatch.setattr(sync, "TOLD_MOST", 2)
    wanted = {f"x{number}" for number in range(9)}
    vendor = Vendor({"a", "b", "c"}, swallows=frozenset(wanted | {"a", "b", "c"}))
    rig = reconcile(folder, vendor, wanted, page=1)
    assert rig.verified is not None
    assert (rig.verified.left, rig.verified.drift) == (12, 0)
    assert len(rig.verified.missing) == len(rig.verified.extra) == 2


@pytest.mark.parametrize(
    ("verify", "left", "drift", "calls"),
    [
        (Verify.FULL, 3, 1, {"segment.get", "targets.query"}),
        (Verify.SAMPLE, 3, None, {"targets.exists"}),
        (Verify.OFF, 0, None, set()),
    ],
)
def test_how_the_result_is_looked_at(folder, verify, left, drift, calls):
    vendor = Vendor(set(THERE), swallows=SWALLOWED)
    reconcile(folder, vendor, WANTED, until="applied", **PAGES)
    vendor.targets = vendor.targets | {"y"}
    rig = reconcile(folder, vendor, WANTED, verify=verify, later_s=50.0, **PAGES)
    assert rig.verified is not None
    assert (rig.verified.left, rig.verified.drift) == (left, drift)
    assert {one.name for one in rig.in_phase["verify"]} == calls


@pytest.mark.parametrize("verify", Verify)
def test_nothing_is_looked_at_again_where_nothing_was_changed(folder, verify):
    vendor = Vendor(set(WANTED))
    rig = reconcile(folder, vendor, WANTED, verify=verify, **PAGES)
    assert rig.verified is not None
    assert (rig.verified.left, rig.verified.drift) == (0, 0)
    assert rig.in_phase["apply"] == rig.in_phase["verify"] == []


@pytest.mark.parametrize("number", [1, 49, 50, 51, 99, 100, 101, 149, 160, 500])
def test_a_sample_is_of_each_side_and_spread_over_all(folder, number):
    wanted = {f"n{one:04}" for one in range(number)}
    there = {f"o{one:04}" for one in range(number)}
    vendor = Vendor(set(there))
    rig = reconcile(folder, vendor, wanted, verify=Verify.SAMPLE, page=100, block=50)
    asked = [one.body["path"].rpartition("/")[2] for one in rig.in_phase["verify"]]
    for letter in ("n", "o"):
        numbers = sorted(int(one[1:]) for one in asked if one[0] == letter)
        assert min(number, 25) <= len(set(numbers)) == len(numbers) <= 50
        # No stretch without one is much longer than it has to be, and none is at the end.
        steps = [one - before for before, one in pairwise([*numbers, number])]
        assert max(steps) <= -(-number // 50) + 1
    assert rig.verified is not None
    assert (rig.verified.left, rig.verified.drift) == (0, None)


@pytest.mark.parametrize("number", [1, 49, 50, 100, 500, 51, 101, 160])
def test_a_sample_is_of_fifty_where_there_are_as_many(folder, number):
    """As `plan` says."""
    rig = reconcile(folder, Vendor(set()), {f"n{one:04}" for one in range(number)}, verify=Verify.SAMPLE)
    assert len(rig.in_phase["verify"]) == min(number, sync.SAMPLED)


class Says(Vendor):
    """Answers a question for one target as it is told to."""

    said: Reply

    def _answer(self, name, body):
        return self.said if name == "targets.exists" else super()._answer(name, body)


@pytest.mark.parametrize(
    ("status", "kind", "words"),
    [
        (400, RunError, "stream.targets.exists was rejected"),
        (410, RunError, "stream.targets.exists was rejected"),
        (422, RunError, "stream.targets.exists was rejected"),
        (403, DeniedError, "token"),
        (500, StoppedError, "run again to go on"),
    ],
)
@pytest.mark.parametrize("wanted", [WANTED, THERE - {"01", "02"}], ids=["both sides", "removals"])
def test_a_sample_that_is_refused_says_nothing_of_the_segment(folder, status, kind, words, wanted):
    """Of a removal too, where not finding it is what is hoped for."""
    vendor = Says(set(THERE))
    vendor.said = Reply(status, {}, b'{"code":4}')
    rig = reconcile(folder, vendor, wanted, verify=Verify.SAMPLE, fails=True, **PAGES)
    assert type(rig.failure) is kind
    assert words in str(rig.caller.failure if kind is StoppedError else rig.failure)
    assert rig.verified is None
    # Nothing is written twice by the run that goes on.
    vendor = Vendor(vendor.targets)
    rig = reconcile(folder, vendor, wanted, verify=Verify.SAMPLE, later_s=50.0, **PAGES)
    assert rig.was[2]
    assert rig.in_phase["find"] == rig.in_phase["apply"] == []
    assert rig.verified is not None
    assert rig.verified.left == 0


def test_a_sample_is_asked_for_by_paths_of_every_kind(folder):
    strange = {"a/b", "a?b", "a#b", "%2F", "é", "\U0001f600", " ", "..", ".", "{ref}", "{target}", "x" * 255, "a\nb"}
    vendor = Vendor({"old"}, swallows=frozenset(strange))
    rig = reconcile(folder, vendor, strange, verify=Verify.SAMPLE)
    assert rig.verified is not None
    assert set(rig.verified.missing) == strange - {".", ".."}
    vendor = Vendor({"old"})
    rig = reconcile(folder, vendor, strange, verify=Verify.SAMPLE)
    assert rig.verified is not None
    assert rig.verified.left == 0
