"""The ledger's file in trouble while a real job runs: full, locked, removed, overwritten. See tests/README.md."""

from __future__ import annotations

import random
import resource
import shutil
import sqlite3
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.request import Request, urlopen

import pytest

import bulksend
from bulksend.errors import LedgerError
from bulksend.ledger import database
from tests.end_to_end.outage import VENDOR, Outage, small_files
from tests.end_to_end.vendor import Vendor


@pytest.fixture(name="vendor", scope="module")
def _vendor() -> Iterator[Vendor]:
    with Vendor(*VENDOR) as vendor:
        yield vendor


@pytest.fixture(name="outage")
def _outage(tmp_path: Path, vendor: Vendor) -> Outage:
    urlopen(Request(f"{vendor.url}/_emulator/reset", method="POST"), timeout=20).close()
    return Outage(tmp_path, vendor)


@pytest.fixture(autouse=True)
def _file_limit() -> Iterator[None]:
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


# No room


def no_more_room(folder: Path) -> None:
    """Let no file of this process grow beyond the largest of the ledger's: the next page that is new fails."""
    largest = max(one.stat().st_size for one in folder.glob("bulksend.db*"))
    resource.setrlimit(resource.RLIMIT_FSIZE, (largest, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))


@pytest.mark.parametrize("after", [0, 1, 40, 99])
def test_a_disk_that_is_full_in_the_middle_ends_the_run(outage: Outage, after: int) -> None:
    with pytest.raises(LedgerError, match=r"bulksend\.db cannot be written: the disk") as ended:
        outage.run(lambda: no_more_room(outage.folder.path), after=after)
    assert isinstance(ended.value.report, bulksend.Report)
    resource.setrlimit(resource.RLIMIT_FSIZE, (-1, resource.getrlimit(resource.RLIMIT_FSIZE)[1]))
    outage.goes_on()


def test_no_room_for_the_ledger_is_said_before_the_first_call(outage: Outage) -> None:
    with small_files(2000), pytest.raises(LedgerError, match=r"bulksend\.db cannot be written: the disk"):
        outage.run()
    assert outage.vendor.stats()["calls"] == 0
    outage.goes_on()


# Locked by another program


def lock(path: Path) -> sqlite3.Connection:
    other = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    other.execute("BEGIN EXCLUSIVE")
    return other


@pytest.mark.parametrize("after", [0, 40])
def test_a_ledger_that_stays_locked_ends_the_run(outage: Outage, monkeypatch: pytest.MonkeyPatch, after: int) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.3)
    held: list[sqlite3.Connection] = []
    with pytest.raises(LedgerError, match=r"bulksend\.db is locked by another program for more than 0\.3 s"):
        outage.run(lambda: held.append(lock(outage.ledger)), after=after)
    held.pop().close()
    outage.goes_on()


def test_a_ledger_that_is_locked_before_the_start_is_told_before_the_first_call(
    outage: Outage, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(database, "BUSY_TIMEOUT_S", 0.2)
    assert outage.run().accepted == outage.rows
    outage.folder.rows(outage.rows + 5)
    held = lock(outage.ledger)
    with pytest.raises(LedgerError, match="is locked by another program"):
        outage.run()
    held.close()
    assert outage.vendor.stats()["calls"] == outage.rows


def test_a_lock_that_ends_in_time_costs_nothing(outage: Outage) -> None:
    def hold() -> None:
        threading.Timer(0.4, lock(outage.ledger).close).start()

    assert outage.run(hold, after=40).accepted == outage.rows
    assert set(outage.vendor.launches().values()) == {1}


# Removed or replaced while the run goes on


def test_a_ledger_that_was_replaced_ends_the_run(outage: Outage) -> None:
    def replace() -> None:
        shutil.copy(outage.ledger, outage.ledger.with_name("copy.db"))
        outage.ledger.with_name("copy.db").replace(outage.ledger)

    with pytest.raises(LedgerError, match="was removed or replaced while the job ran"):
        outage.run(replace, after=40)
    assert max(outage.vendor.launches().values()) == 1


def test_a_log_that_was_removed_ends_the_run_and_is_not_lost(outage: Outage) -> None:
    """What only the write-ahead log held comes into the ledger as it is closed."""
    with pytest.raises(LedgerError, match="was removed or replaced while the job ran"):
        outage.run(lambda: outage.ledger.with_name("bulksend.db-wal").unlink(), after=40)
    outage.goes_on()


# Overwritten


def overwrite(path: Path, seed: int, *, size: int = 4096) -> None:
    dice = random.Random(seed)
    whole = path.stat().st_size // size
    with path.open("r+b") as file:
        file.seek(dice.randrange(1, whole) * size)
        file.write(dice.randbytes(size))


def test_a_ledger_that_was_overwritten_is_told_or_harmless(outage: Outage, tmp_path: Path) -> None:
    """A block of a finished job's ledger is overwritten, each time another: no row goes out again."""
    assert outage.run().accepted == outage.rows
    shutil.copy(outage.ledger, tmp_path / "whole.db")
    told = []
    for seed in range(12):
        shutil.copy(tmp_path / "whole.db", outage.ledger)
        overwrite(outage.ledger, seed, size=512 if seed % 2 else 4096)
        try:
            outage.run()
        except LedgerError as wrong:
            told.append(str(wrong))
    assert told
    assert all("is damaged" in one for one in told), told
    assert outage.vendor.stats()["calls"] == outage.rows


def test_a_ledger_that_is_overwritten_while_the_job_runs(outage: Outage) -> None:
    """The run ends well or says so, and so does the next: nothing goes out twice."""
    said = []
    for seed in range(3):
        try:
            outage.run(lambda seed=seed: overwrite(outage.ledger, seed), after=20 * seed)  # type: ignore[misc]
        except LedgerError as wrong:
            said.append(str(wrong))
    assert all("is damaged" in one for one in said), said
    assert max(outage.vendor.launches().values()) == 1


def test_a_file_that_is_no_ledger_is_left_alone(outage: Outage) -> None:
    outage.ledger.write_bytes(b"something else " * 1000)
    with pytest.raises(LedgerError, match=r"bulksend\.db is not a SQLite database"):
        outage.run()
    assert outage.ledger.read_bytes() == b"something else " * 1000
    assert outage.vendor.stats()["calls"] == 0
