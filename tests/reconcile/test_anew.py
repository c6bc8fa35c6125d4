"""What is not gone on with: too old, of another list or ledger, refused, damaged; nothing of it is trusted then."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import orjson
import pytest

from bulksend.event import EventName
from bulksend.job.spec import Verify
from bulksend.reconcile import comparison, merge, sync, writes
from tests.reconcile.remains import CUT, THERE, WANTED, begun_anew, noted_batches, state_of
from tests.reconcile.rig import Rig, hash_of, reconcile
from tests.reconcile.vendor import Vendor

HOUR_S = 3600.0


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(comparison, "SPAN_TARGETS", 6)
    monkeypatch.setattr(merge, "LINE_IDS", 2)


def test_how_long_something_is_gone_on_with():
    assert (sync.RESUMED_MOST_S, sync.VERIFYING_MOST_S) == (6 * HOUR_S, HOUR_S)


ALL = {"found", "approved", "applied"}
CASES = {
    "within the hour": ({"later_s": HOUR_S - 60}, ALL),
    "an hour later": ({"later_s": HOUR_S + 60}, ALL - {"applied"}),
    "within six hours": ({"later_s": 6 * HOUR_S - 60}, ALL - {"applied"}),
    "six hours later": ({"later_s": 6 * HOUR_S + 60}, set()),
    "the clock was set back": ({"later_s": -60.0}, set()),
    "another list": ({"wanted": WANTED | {"y"}}, set()),
    "another list of the same length": ({"wanted": WANTED - {"0"} | {"y"}}, set()),
    "another ledger": ({"ledger_id": "two"}, set()),
}


@pytest.mark.parametrize("until", ["found", "refused", "approved", "applied"])
@pytest.mark.parametrize("name", CASES)
def test_what_is_too_old_or_about_another_list_or_ledger_is_begun_anew(folder, until, name):
    how, gone_on_with = CASES[name]
    how = dict(how)
    wanted = how.pop("wanted", WANTED)
    vendor = Vendor(set(THERE))
    first = reconcile(folder, vendor, WANTED, until=until, **CUT)
    # What the next run finds is not what the last one left.
    vendor.targets = vendor.targets - {"02"} | {"zz"}
    rig = reconcile(folder, vendor, wanted, **{"later_s": 50.0, **how}, **CUT)
    goes_on = until in gone_on_with
    assert begun_anew(rig) is not goes_on
    assert (rig.was[0] == first.was[0]) is goes_on, "its name is that of the reconciliation"
    assert rig.was[2] is (goes_on and until == "applied")
    if goes_on:
        assert rig.verified is not None
        assert rig.verified.drift == 2
        assert vendor.targets == wanted - {"02"} | {"zz"}
    else:
        assert vendor.targets == wanted


# Refused


def test_what_was_refused_leaves_nothing_and_is_found_anew(folder):
    vendor = Vendor(set(THERE))
    first = reconcile(folder, vendor, WANTED, until="refused", **CUT)
    assert vendor.targets == THERE
    assert not first.folder.exists()
    rig = reconcile(folder, vendor, WANTED, later_s=50.0, until="refused", **CUT)
    assert begun_anew(rig)
    assert rig.difference == first.difference, "and it has the same hash, so that a word on it counts"
    vendor.targets = vendor.targets - {"02"} | {"zz"}
    changed = reconcile(folder, vendor, WANTED, later_s=90.0, **CUT)
    assert changed.difference is not None
    assert first.difference is not None
    assert changed.difference.hash != first.difference.hash
    assert vendor.targets == WANTED


def stopped_half_way(folder: Path, vendor: Vendor, monkeypatch: pytest.MonkeyPatch, **how: bool) -> Rig:
    """Leave a difference of which some batches are written and noted; returns the run that found it."""
    monkeypatch.setattr(comparison, "SPAN_TARGETS", 1000)
    monkeypatch.setattr(writes, "IN_FLIGHT", 1)
    first = reconcile(folder, vendor, WANTED, until="approved", **how, **CUT)
    vendor.stop_at = len(vendor.calls) + 4
    reconcile(folder, vendor, WANTED, fails=True, later_s=10.0, **CUT)
    vendor.stop_at = None
    assert noted_batches(folder / "segment")
    return first


def test_what_was_refused_half_way_is_found_anew_as_what_is_left(folder, monkeypatch):
    vendor = Vendor(set(THERE))
    first = stopped_half_way(folder, vendor, monkeypatch)
    reconcile(folder, vendor, WANTED, until="refused", later_s=20.0, **CUT)
    left = vendor.targets ^ WANTED
    rig = reconcile(folder, vendor, WANTED, later_s=30.0, **CUT)
    assert begun_anew(rig)
    assert rig.difference is not None
    assert first.difference is not None
    assert {*rig.added, *rig.removed} == left
    assert rig.difference.hash != first.difference.hash
    assert vendor.targets == WANTED


# Overrides


def test_the_same_difference_after_an_override_has_another_hash(folder):
    hashes = []
    for overrides in (0, 1, 2, 1):
        vendor = Vendor(set(THERE))
        rig = reconcile(folder, vendor, WANTED, overrides=overrides, until="refused", **CUT)
        assert rig.difference is not None
        assert rig.difference.hash == hash_of(WANTED - THERE, THERE - WANTED, overrides=overrides)
        hashes.append(rig.difference.hash)
    assert len(set(hashes)) == 3
    assert hashes[1] == hashes[3]


@pytest.mark.parametrize("until", ["found", "approved", "applied"])
def test_its_own_override_does_not_change_the_hash_of_what_is_gone_on_with(folder, until):
    """The ledger knows one more by then."""
    vendor = Vendor(set(THERE))
    first = reconcile(folder, vendor, WANTED, overridden=True, until=until, **CUT)
    rig = reconcile(folder, vendor, WANTED, overrides=1, later_s=50.0, **CUT)
    assert not begun_anew(rig)
    assert rig.difference == first.difference
    assert rig.was[:2] == (first.was[0], until != "found")
    assert vendor.targets == WANTED


# Damaged


def damage(folder: Path, what: str) -> None:
    """Lose or spoil a file of the first look."""
    if what == "pages spoiled":
        path = folder / "pages-0.jsonl"
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2] + b"\0\n")
    elif what == "reading.json spoiled":
        (folder / "reading.json").write_bytes(b"{")
    else:
        (folder / what).unlink()


DAMAGES = ["reading.json", "pages-0.jsonl", "pages spoiled", "reading.json spoiled"]


@pytest.mark.parametrize("what", DAMAGES)
def test_notes_and_an_override_go_with_the_difference_that_they_are_of(folder, monkeypatch, what):
    """What was noted is about the batches of another difference then."""
    vendor = Vendor(set(THERE))
    stopped_half_way(folder, vendor, monkeypatch, overridden=True)
    assert state_of(folder / "segment")["is_overridden"] is True
    damage(folder / "segment", what)
    rig = reconcile(folder, vendor, WANTED, later_s=50.0, until="found", **CUT)
    assert begun_anew(rig)
    assert rig.was[1:] == (False, False)
    assert state_of(folder / "segment")["is_overridden"] is False
    assert not (folder / "segment" / "written.txt").exists()
    reconcile(folder, vendor, WANTED, later_s=60.0, **CUT)
    assert vendor.targets == WANTED


@pytest.mark.parametrize("what", DAMAGES)
def test_a_look_at_the_result_goes_with_the_difference_that_it_is_of(folder, monkeypatch, what):
    monkeypatch.setattr(comparison, "SPAN_TARGETS", 1000)
    vendor = Vendor(set(THERE))
    reconcile(folder, vendor, WANTED, overridden=True, until="verified", **CUT)
    assert (folder / "segment" / "verify" / "reading.json").exists()
    vendor.targets = vendor.targets - {"02"} | {"zz"}
    damage(folder / "segment", what)
    rig = reconcile(folder, vendor, WANTED, later_s=50.0, until="found", **CUT)
    assert rig.was[1:] == (False, False)
    assert not (folder / "segment" / "verify").exists()
    assert (rig.added, rig.removed) == (["02"], ["zz"])
    rig = reconcile(folder, vendor, WANTED, later_s=60.0, **CUT)
    assert vendor.targets == WANTED
    assert rig.verified is not None
    assert (rig.verified.left, rig.verified.drift) == (0, 0)


@pytest.mark.parametrize("verify", [Verify.OFF, Verify.FULL])
def test_notes_go_also_where_the_difference_found_anew_is_the_same(folder, monkeypatch, verify):
    """Somebody has put the segment back as it was: what was noted is to be written again."""
    vendor = Vendor(set(THERE))
    stopped_half_way(folder, vendor, monkeypatch)
    vendor.targets = set(THERE)
    (folder / "segment" / "reading.json").unlink()
    reconcile(folder, vendor, WANTED, later_s=50.0, verify=verify, **CUT)
    assert vendor.targets == WANTED


def test_a_state_of_another_version_is_begun_anew(folder):
    vendor = Vendor(set(THERE))
    reconcile(folder, vendor, WANTED, until="approved", **CUT)
    path = folder / "segment" / "state.json"
    path.write_bytes(orjson.dumps({**orjson.loads(path.read_bytes()), "phase": "refused"}))
    assert begun_anew(reconcile(folder, vendor, WANTED, later_s=50.0, **CUT))
    assert vendor.targets == WANTED


# The look at the result


@pytest.mark.parametrize("collation", ["code point", "casefold"])
def test_a_look_at_the_result_that_had_ended_is_done_again(folder, collation):
    """Whoever ended the run after it may have come back an hour later: it is not what stands there now."""
    vendor = Vendor(set(THERE), collation=collation)
    first = reconcile(folder, vendor, WANTED, until="verified", **CUT)
    vendor.targets = vendor.targets - {"02"} | {"zz"}
    rig = reconcile(folder, vendor, WANTED, later_s=50.0, **CUT)
    assert rig.in_phase["find"] == rig.in_phase["apply"] == []
    assert len(rig.in_phase["verify"]) == len(first.in_phase["verify"])
    assert rig.told(EventName.SEGMENT_VERIFIED) == [{"count": 0, "drift": 2}]


def test_a_look_at_the_result_that_was_cut_off_is_gone_on_with_for_an_hour(folder):
    for name, later_s in (("soon", HOUR_S - 60), ("late", HOUR_S + 60)):
        path = folder / name
        path.mkdir()
        vendor = Vendor(set(THERE))
        reconcile(path, vendor, WANTED, until="applied", **CUT)
        vendor.stop_at = len(vendor.calls) + 4
        reconcile(path, vendor, WANTED, fails=True, later_s=10.0, **CUT)
        vendor.stop_at = None
        rig = reconcile(path, vendor, WANTED, later_s=later_s, **CUT)
        assert begun_anew(rig) is (name == "late")
        assert vendor.targets == WANTED


# The files


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


@pytest.mark.parametrize("until", ["verified", "found"])
@pytest.mark.parametrize("gone", ["pages-0.jsonl", "reading.json", "written.txt", "state.json"])
def test_killed_while_the_files_are_removed(folder, monkeypatch, gone, until):
    """After the end, or a refusal; the next run is about the same list, and others have changed the segment since."""
    monkeypatch.setattr(comparison, "SPAN_TARGETS", 1000)
    vendor = Vendor(set(THERE))
    reconcile(folder, vendor, WANTED, until=until, **CUT)
    shutil.rmtree(folder / "segment" / "verify", ignore_errors=True)
    (folder / "segment" / gone).unlink(missing_ok=gone == "written.txt")
    vendor.targets = vendor.targets - {"02"} | {"zz"}
    rig = reconcile(folder, vendor, WANTED, later_s=HOUR_S / 2, **CUT)
    assert rig.verified is not None
    assert vendor.targets == WANTED or rig.verified.left or rig.verified.drift, "it says that all is right"
