"""User.com's segments are compared only: the difference is in files, and a launch goes to what is right, or by hash."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.end_to_end import jobs
from tests.end_to_end.segments import figures
from tests.end_to_end.vendor import Folder, Vendor

SIZE = 320
USERS = range(1, SIZE + 1)
TEXT = """\
[segment]
id = 77
[desired]
from = "desired.csv"
key = "id"
"""
LAUNCH = """\
[launch]
name = "Sale"
[[launch.messages]]
title = "Sale"
body = "Up to 50% off"
"""
LIMITS = jobs.limits("1000/s", "usercom.segments", "usercom.segment_users", "usercom.create", "usercom.list")
# User 300 has no custom_id.
NAMES = [f"customer-{one}" for one in USERS if one != 300]


@pytest.fixture(scope="module")
def vendor() -> Iterator[Vendor]:
    """Give one emulator to all tests here: nothing changes its segments."""
    with Vendor("--segment", f"77:{SIZE}", provider="usercom") as running:
        yield running


def job(path: Path, vendor: Vendor, desired: list[str], *, text: str = TEXT) -> Folder:
    folder = jobs.folder_of(path, vendor, jobs.head(vendor) + text + LIMITS)
    folder.csv("desired.csv", "id", ([one] for one in desired))
    return folder


def ids(path: Path) -> list[str]:
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    head, *rest = path.read_text("utf-8").splitlines()
    assert head == "id"
    return sorted(rest)


def test_a_difference_is_written_to_files_and_is_exit_3(vendor: Vendor, tmp_path: Path) -> None:
    folder = job(tmp_path, vendor, [*NAMES[2:], "customer-new"])
    planned = folder.command("plan", "job.toml", "--json")
    assert planned.code == 0, planned.err
    assert figures(planned) == [SIZE, SIZE - 2, 1, 2]
    done = folder.run()
    assert done.code == 3, done.err
    assert figures(done) == figures(planned)
    assert done.json["segment"]["hash"] == planned.json["segment"]["hash"]
    assert done.json["segment"]["applied"] is False
    assert ids(tmp_path / "job-diff" / "added.csv") == ["customer-new"]
    assert ids(tmp_path / "job-diff" / "removed.csv") == ["customer-1", "customer-2"]
    words = folder.command("run", "job.toml", "--diff-out", "elsewhere")
    assert words.code == 3
    assert "unnamed     1 targets lack the field that is compared" in words.err
    assert ids(tmp_path / "elsewhere" / "added.csv") == ["customer-new"]


def test_an_emulated_run_writes_no_files(vendor: Vendor, tmp_path: Path) -> None:
    done = job(tmp_path, vendor, NAMES[:5]).run("--emulate")
    assert done.code == 3, done.err
    assert sorted(one.name for one in tmp_path.iterdir()) == ["desired.csv", "job.toml"]


def test_no_difference_is_exit_0(vendor: Vendor, tmp_path: Path) -> None:
    done = job(tmp_path, vendor, NAMES).run()
    assert done.code == 0, done.err
    assert figures(done) == [SIZE, SIZE - 1, 0, 0]


def test_the_ids_may_be_another_field(vendor: Vendor, tmp_path: Path) -> None:
    folder = job(tmp_path, vendor, [str(one) for one in USERS if one != 7], text=TEXT + 'match = "id"\n')
    done = folder.run()
    assert done.code == 3, done.err
    assert ids(tmp_path / "job-diff" / "removed.csv") == ["7"]
    folder.csv("desired.csv", "id", ([one] for one in USERS))
    done = folder.run()
    assert done.code == 0, done.err
    assert figures(done) == [SIZE, SIZE, 0, 0]


def test_a_launch_goes_to_a_right_segment_or_on_the_word_of_a_hash(vendor: Vendor, tmp_path: Path) -> None:
    before = vendor.stats("usercom.create")["calls"]
    folder = job(tmp_path, vendor, NAMES[1:], text=TEXT + LAUNCH)
    done = folder.run()
    assert done.code == 4, done.err
    assert "the segment differs, and no route of the vendor changes it; the launch is not made" in done.err
    found = done.json["segment"]["hash"]
    assert ids(tmp_path / "job-diff" / "removed.csv") == ["customer-1"]
    assert folder.run("--apply", "0123456789abcdef").code == 4
    assert vendor.stats("usercom.create")["calls"] == before
    passed = folder.run("--apply", found)
    assert passed.sends["accepted"] == 1, passed.err
    assert vendor.effects("usercom.create")[-1]["body"]["segment"] == 77
    assert vendor.stats("usercom.create")["calls"] == before + 1
    # The segment still differs, which nobody is to overlook.
    assert passed.code == 3
    # A right segment needs no word.
    folder.edit('job = "sale"', 'job = "right"')
    folder.csv("desired.csv", "id", ([one] for one in NAMES))
    right = folder.run()
    assert right.code == 0, right.err
    assert vendor.stats("usercom.create")["calls"] == before + 2


def test_a_segment_that_is_not_there(vendor: Vendor, tmp_path: Path) -> None:
    done = job(tmp_path, vendor, NAMES, text=TEXT.replace("77", "78")).run()
    assert done.code == 2, done.err
    assert "there is no segment 78" in done.err
