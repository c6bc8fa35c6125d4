"""A loss of power at any moment of a real job's run: what the ledger acknowledged is there, and the job goes on.

A job runs in this process against an emulator, and every write and sync of its ledger is recorded. Before each sync
the power is lost, with none, all or some of what was not synced on the disk; the files are built as they may be then,
opened with the real ledger, and held against what had been acknowledged. `power.py` says what is assumed of the disk.
"""

from __future__ import annotations

import asyncio
import functools
import sqlite3
import tempfile
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import pytest

from bulksend.ledger.base import Change, Intent, Lease, Scope, Transition
from bulksend.ledger.sqlite import SqliteLedger
from bulksend.model import State
from tests.end_to_end.vendor import JobFolder, Vendor
from tests.ledger.power import Connection, Disk, Recorder, dice, is_whole
from tests.simulated_time import InlineExecutor

ROWS = 60
SURVIVING = (1.0, 0.9, 0.5, 0.1)
"""Shares of what was not synced, in turn."""
OFTEN = "PRAGMA wal_autocheckpoint = 12"
"""Pages; so that a short job goes through checkpoints, too, which come every 1,000."""

Fate = tuple[str, int]
"""State and step of a send."""


@dataclass
class Run:
    """What was done to the disk, and what the ledger was asked for and acknowledged, by the disk's operations."""

    disk: Disk = field(default_factory=Disk)
    fates: dict[str, list[tuple[int, int | None, Fate]]] = field(default_factory=lambda: defaultdict(list))
    """By key, in order: asked for at, acknowledged at, what the send then is."""
    leases: list[tuple[int, Lease]] = field(default_factory=list)
    accounts: set[str] = field(default_factory=set)

    @property
    def now(self) -> int:
        return len(self.disk.operations)

    @contextmanager
    def recording(self, *pragmas: str) -> Iterator[None]:
        """Send the ledger's statements through the recorder, and note what it acknowledges."""
        record, lease, run = SqliteLedger.record, SqliteLedger.lease, self
        recorder = Recorder(self.disk)

        async def noted(ledger: SqliteLedger, job_id: int, one: Transition) -> None:
            fates = run.fates[one.key] if isinstance(one, Intent | Change) and one.scope is Scope.SEND else []
            index, asked_at = len(fates), run.now
            fates.append((asked_at, None, _fate(one)))
            await record(ledger, job_id, one)
            fates[index] = (asked_at, run.now, _fate(one))

        async def leased(ledger: SqliteLedger, identity: str, endpoint: str, **asked: Any) -> Lease:
            given = await lease(ledger, identity, endpoint, **asked)
            if endpoint == "insider.launch":
                run.leases.append((run.now, given))
            return given

        connect = functools.partial(Connection, pragmas=pragmas)
        with (
            mock.patch.object(SqliteLedger, "record", noted),
            mock.patch.object(SqliteLedger, "lease", leased),
            mock.patch.object(sqlite3, "connect", lambda path, **_: connect(path)),
        ):
            yield
        recorder.unregister()


def _fate(one: Transition) -> Fate:
    return (
        ("sending", one.step)
        if isinstance(one, Intent)
        else (str(one.to), one.step)
        if isinstance(one, Change)
        else ("", 0)
    )


@pytest.fixture(scope="module", name="run")
def _run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return run_of(tmp_path_factory.mktemp("power"), OFTEN)


def run_of(path: Path, *pragmas: str) -> Run:
    """Run a job of some hundred commits to its end."""
    run = Run()
    with Vendor("--limit", "insider.launch=400/s", "--latency", "20ms±15ms") as vendor:
        folder = JobFolder(path, vendor, rows=ROWS, extra='[limits]\n"insider.launch" = "100/s"\n')
        with run.recording(*pragmas):
            assert folder.run().sends["accepted"] == ROWS
    assert {fates[-1][2][0] for fates in run.fates.values()} == {"accepted"}
    return run


@pytest.fixture(name="scratch")
def _scratch() -> Iterator[Path]:
    """Memory, where there is a file system in it: hundreds of ledgers are opened and synced."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if Path("/dev/shm").is_dir() else None) as folder:
        yield Path(folder)


@pytest.mark.parametrize("shares", [(0.0,), SURVIVING], ids=["nothing", "some"])
def test_what_was_acknowledged_survives_a_loss_of_power(run: Run, shares: Sequence[float], scratch: Path) -> None:
    moments = [*run.disk.syncs(), run.now]
    assert len(moments) > 60
    for number, moment in enumerate(moments):
        files = run.disk.left_at(moment, dice(shares[number % len(shares)], moment))
        assert problem_of(scratch / f"{moment}.db", files, run, moment) is None, f"before operation {moment}"


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_a_loss_of_power_at_every_write(run: Run, scratch: Path) -> None:
    for moment in range(run.now + 1):
        for share in (0.0, *SURVIVING):
            files = run.disk.left_at(moment, dice(share, moment))
            path = scratch / f"{moment}-{share}.db"
            assert problem_of(path, files, run, moment) is None, f"before operation {moment}, {share} survive"
            for one in scratch.iterdir():
                one.unlink()
    moments, syncs = run.now + 1, len(run.disk.syncs())
    print(f"{moments} moments, {syncs} of them before a sync, {1 + len(SURVIVING)} losses each")  # noqa: T201  # figures


def test_the_replay_finds_a_ledger_that_does_not_sync(tmp_path: Path, scratch: Path) -> None:
    """The same with the sync of each commit left out: the replay would see it."""
    run = run_of(tmp_path, OFTEN, "PRAGMA synchronous = NORMAL")
    moments = [*run.disk.syncs(), run.now]
    problems = [
        problem_of(scratch / f"{moment}.db", run.disk.left_at(moment, dice(0.0, 0)), run, moment) for moment in moments
    ]
    assert any(problem is not None and "acknowledged" in problem for problem in problems)


def problem_of(path: Path, files: dict[str, bytes], run: Run, moment: int) -> str | None:
    """Open what is left with the real ledger; returns what is wrong with it."""
    for ending, content in files.items():
        path.with_name(path.name + ending).write_bytes(content)
    if not path.exists():
        path.touch()  # made, and its name is there, before SQLite writes a byte
    fates = asyncio.run(_recovered(path))
    if not is_whole(path):
        return "the integrity check fails"
    for key, asked in run.fates.items():
        possible = {fate for asked_at, _, fate in asked if asked_at <= moment} | {("", 0)}
        done = [
            index for index, (_, acknowledged_at, _) in enumerate(asked) if (acknowledged_at or moment + 1) <= moment
        ]
        if done:
            possible = {fate for asked_at, _, fate in asked[done[-1] :] if asked_at <= moment}
        if fates.get(key, ("", 0)) not in {_recovered_fate(fate) for fate in possible}:
            return f"key {key} is {fates.get(key)}, acknowledged was {possible}"
    # The last lease is shortened when what is left of it is given back.
    given = [lease.end for at, lease in run.leases if at <= moment][:-1]
    with closing(sqlite3.connect(path)) as db:
        kept = db.execute("SELECT next_at FROM bucket WHERE endpoint = 'insider.launch'").fetchone()
    if given and (kept is None or kept[0] < max(given)):
        return f"the acknowledged lease until {max(given)} is forgotten"
    return None


def _recovered_fate(fate: Fate) -> Fate:
    return ("unknown", fate[1]) if fate[0] == "sending" else fate


async def _recovered(path: Path) -> dict[str, Fate]:
    """Begin the job's next run; returns the state and step of each send."""
    ledger = SqliteLedger(path, executor=InlineExecutor())
    await ledger.open(create=True)
    try:
        before, _ = await ledger.start_job("sale", "the next run", vendor=None)
        counts = defaultdict[str, int](int)
        fates: dict[str, Fate] = {}
        for state in State:
            async for page in ledger.by_state(before.id, state):
                for one in page:
                    fates[one.key] = (str(one.state), one.step)
                    counts[str(one.state)] += 1
        record = await ledger.find_job("sale")
        assert record is not None
        told = record.counts
        assert (told.accepted, told.rejected, told.unknown, told.sending) == (
            *(counts[state] for state in ("accepted", "rejected", "unknown")),
            0,
        )
        return fates
    finally:
        await ledger.close()
