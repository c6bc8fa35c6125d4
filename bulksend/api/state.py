"""Looking at a job in its ledger, and asking the process that runs it to stop."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager

from bulksend.api.opening import ledger_path, naming, open_ledger
from bulksend.api.report import Report, read_segment
from bulksend.api.run import JobSource
from bulksend.api.running import failures_of
from bulksend.errors import JobError
from bulksend.job.file import load_job
from bulksend.job.spec import Job
from bulksend.ledger.base import JobRecord, Ledger
from bulksend.model import JobState

__all__ = ["ledger_of", "opened_ledger", "status_async", "stop_async"]


@asynccontextmanager
async def ledger_of(
    source: JobSource, variables: Mapping[str, str] | None, ledger: str | None
) -> AsyncIterator[tuple[Job, Ledger, JobRecord]]:
    """Open the ledger of a job that was run with it; raises JobError for one that was not."""
    job = load_job(source, variables=variables, rows_from_code=True)
    with naming(job):
        async with opened_ledger(job, ledger) as found:
            yield found


@asynccontextmanager
async def opened_ledger(job: Job, ledger: str | None) -> AsyncIterator[tuple[Job, Ledger, JobRecord]]:
    """Open the ledger of a loaded job; raises JobError for a job that was never run with it."""
    store = open_ledger(ledger, job.base_dir)
    try:
        record = await store.find_job(job.name) if await store.open(create=False) else None
        if record is None:
            path = ledger_path(ledger, job.base_dir)
            raise JobError(f'job "{job.name}" was never run with the ledger {path}')
        yield job, store, record
    finally:
        await store.close()


async def status_async(
    job: JobSource,
    *,
    vars: Mapping[str, str] | None = None,
    ledger: str | None = None,
) -> Report:
    """Return a job's numbers from the ledger, running or not; calls and endpoints are the last finished run's.

    A job that the ledger does not know is `incomplete`, with nothing sent and no `started_at`.
    """
    job_file = load_job(job, variables=vars, rows_from_code=True)
    store = open_ledger(ledger, job_file.base_dir)
    try:
        if not await store.open(create=False) or await store.find_job(job_file.name) is None:
            return Report(job_file.name, JobState.INCOMPLETE)
    finally:
        await store.close()
    async with ledger_of(job, vars, ledger) as (loaded, store, record):
        last = record.summary
        calls = last.get("calls") if isinstance(last.get("calls"), dict) else {}
        endpoints = last.get("endpoints") if isinstance(last.get("endpoints"), dict) else {}
        campaigns = last.get("campaigns")
        assert isinstance(calls, dict)
        assert isinstance(endpoints, dict)
        counts = record.counts
        unknown = counts.unknown + (0 if record.state is JobState.RUNNING else counts.sending)
        settled = counts.accepted + counts.rejected + unknown
        total = max(record.sends, settled)
        elapsed_s, rate = last.get("elapsed_s", 0.0), last.get("rate_per_min")
        if record.state is JobState.RUNNING and record.started_at is not None:
            elapsed_s, rate = time.time() - record.started_at, None
        return Report(
            job=loaded.name,
            state=record.state,
            rows=record.rows,
            total=total,
            accepted=counts.accepted,
            rejected=counts.rejected,
            unknown=unknown,
            pending=total - settled,
            calls=calls.get("made", 0),
            retried=calls.get("retried", 0),
            throttled=calls.get("throttled", 0),
            elapsed_s=elapsed_s if isinstance(elapsed_s, int | float) else 0.0,
            rate_per_min=rate if isinstance(rate, int | float) else None,
            endpoints=endpoints,
            campaigns=campaigns if isinstance(campaigns, dict) else {},
            segment=read_segment(last.get("segment")),
            failures=await failures_of(store, record.id),
            started_at=record.started_at,
            finished_at=record.finished_at,
            holder=record.holder,
        )


async def stop_async(
    job: JobSource,
    *,
    vars: Mapping[str, str] | None = None,
    ledger: str | None = None,
) -> bool:
    """Ask the process that runs the job to stop, which it does within a second; False when none runs it."""
    async with ledger_of(job, vars, ledger) as (loaded, store, record):
        return record.state is JobState.RUNNING and await store.request_stop(loaded.name)
