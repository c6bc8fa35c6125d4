"""Jobs of any size for the benchmarks of rows and memory, and ledgers in which all of their rows are settled.

A ledger is filled by SQL, since ten million sends would take hours: what stands in it for a row is what a run would
have left, its fingerprint as the renderer makes it.
"""

from __future__ import annotations

import asyncio
import os
import sqlite3
import sys
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path

from bulksend.api.opening import load_whole, open_job, open_ledger
from bulksend.api.running import vendor_of
from bulksend.job.bulk import Bulk
from bulksend.job.render import Renderer
from bulksend.job.spec import Job
from bulksend.model import JobState, Send

__all__ = ["command", "settle", "write_job"]

TOKEN = "BULKSEND_BENCHMARK_TOKEN"
_JOB = """
job = "rows"

[account]
provider = "insider"
partner_id = "100000001"
token = "env:BULKSEND_BENCHMARK_TOKEN"
base_url = "{url}"

[audience]
from = "stores.csv"
key = "id"

[launch]
campaign_id = 7
title = "Sale in store ${{id}}"
description = "Up to 50% off in ${{city}}"
image = "https://example.com/icon.png"
link = "https://example.com/?store=${{id}}"
ttl = "1 day"
language = "en_GB"
target = {{ attribute = "c_store_id", values = ["${{id}}"] }}

[limits]
"insider.launch" = "1_000_000_000/min"
"""
_ROW = (
    "INSERT INTO send (job_id, scope, key, account, row, step, state, attempts, fingerprint, refs, at) "
    "VALUES (?, 'send', ?, ?, ?, 0, 'accepted', 1, ?, '[\"7\"]', 1.8e9)"
)


def write_job(folder: Path, rows: int, *, url: str = "http://127.0.0.1:9") -> Path:
    """Write an Insider launch of so many rows, four texts of a row made of two columns; returns the job file."""
    os.environ[TOKEN] = "x" * 32
    path = folder / "job.toml"
    path.write_text(_JOB.format(url=url), "utf-8")
    with (folder / "stores.csv").open("w", encoding="utf-8") as file:
        file.write("id,city\n")
        file.writelines(f"s{number:08d},City {number % 977}\n" for number in range(rows))
    return path


def command(*arguments: str | Path) -> list[str]:
    """Return what runs bulksend's shell as a user would, without a word on the terminal."""
    code = "import os, sys; os.dup2(os.open(os.devnull, os.O_WRONLY), 2); from bulksend.cli import main; main()"
    return [sys.executable, "-c", code, *map(str, arguments)]


def settle(job_file: Path, rows: int) -> None:
    """Fill the ledger beside a job: its first rows as accepted, with the fingerprint that each has."""
    job = load_whole(job_file, variables=None, base_url=None, with_secrets=True)
    job_id = asyncio.run(_begin(job))
    with closing(sqlite3.connect(job.base_dir / "bulksend.db", isolation_level=None)) as db:
        db.execute("PRAGMA synchronous = OFF")
        db.execute("BEGIN")
        for sends in _sends(job, rows):
            account = sends[0].account.name
            db.executemany(_ROW, ((job_id, send.key, account, send.row, send.fingerprint) for send in sends))
        db.execute("UPDATE job SET accepted = ? WHERE id = ?", (rows, job_id))
        db.execute("COMMIT")
        db.execute("PRAGMA wal_checkpoint(TRUNCATE)")


async def _begin(job: Job) -> int:
    """Make the ledger and the job in it, as a run that was broken off leaves them."""
    ledger = open_ledger(None, job.base_dir)
    await ledger.open(create=True)
    try:
        record, _ = await ledger.start_job(job.name, "benchmark", vendor=vendor_of(job))
        await ledger.end_job(record.id, JobState.INCOMPLETE, {}, counts_as_finish=False)
        return record.id
    finally:
        await ledger.close()


def _sends(job: Job, rows: int) -> Iterator[list[Send]]:
    with open_job(job) as opened:
        assert opened.audience is not None
        number, bulk = 1, Bulk(opened.renderer)
        for batch in opened.audience.rows(opened.renderer.columns, limit=rows):
            yield _rendered(opened.renderer, bulk, batch, number)
            number += len(batch)


def _rendered(renderer: Renderer, bulk: Bulk, batch: Sequence[Sequence[object]], number: int) -> list[Send]:
    (fine,) = bulk.fine(batch)
    sends = list(fine.sends(range(number, number + len(batch))))
    if sends[:1] != [renderer.send(number, batch[0])[0]]:
        raise SystemExit("a row by the batch is not what it is by itself")
    return sends
