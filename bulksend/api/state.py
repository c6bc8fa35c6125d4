"""Looking at a job in its ledger, and settling by hand what no machine can know."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

from bulksend.api.opening import ledger_path, naming, open_ledger
from bulksend.api.report import Failure, Report, read_segment
from bulksend.api.run import JobSource
from bulksend.api.running import failures_of, vendor_of
from bulksend.errors import JobError, JobLockedError, Problem
from bulksend.job.file import load_job
from bulksend.job.spec import Job
from bulksend.ledger.base import Change, JobRecord, Ledger, Scope, SendRecord
from bulksend.model import JobState, State

__all__ = ["ledger_of", "resolve_async", "status_async", "stop_async"]


@asynccontextmanager
async def ledger_of(
    source: JobSource, variables: Mapping[str, str] | None, ledger: str | None
) -> AsyncIterator[tuple[Job, Ledger, JobRecord]]:
    """Open the ledger of a job that was run with it; raises JobError for one that was not."""
    job = load_job(source, variables=variables, rows_from_code=True)
    with naming(job):
        async with _opened(job, ledger) as found:
            yield found


@asynccontextmanager
async def _opened(job: Job, ledger: str | None) -> AsyncIterator[tuple[Job, Ledger, JobRecord]]:
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


async def resolve_async(
    job: JobSource,
    *,
    accept: Sequence[str] = (),
    resend: Sequence[str] = (),
    accept_all: bool = False,
    resend_all: bool = False,
    vars: Mapping[str, str] | None = None,
    ledger: str | None = None,
) -> tuple[int, int, Sequence[Failure]]:
    """Settle unknown sends on a person's word: `accept`, they arrived; `resend`, the next run makes them again.

    Returns how many were accepted, how many are pending again, and which are still unknown (the first hundred). Raises
    JobError, and changes nothing, when a key is not an unknown send of the job, and JobLockedError while the job runs.
    """
    async with ledger_of(job, vars, ledger) as (loaded, store, record):
        if record.holder is not None:
            raise JobLockedError(f'the job "{loaded.name}" is being run by {record.holder}; resolve it afterwards')
        both = set(accept) & set(resend)
        if both:
            raise JobError(f"a key cannot be both accepted and resent: {', '.join(sorted(both))}")
        if not (accept or resend or accept_all or resend_all):
            return 0, 0, [one for one in await failures_of(store, record.id) if one.state is State.UNKNOWN]
        way = vendor_of(loaded).partition(" at ")[0]
        if record.vendor is not None and record.vendor.partition(" at ")[0] != way:
            raise JobError(f'the job "{loaded.name}" was sent by {record.vendor} before, now its file says {way}')
        before, _ = await store.start_job(loaded.name, "bulksend resolve")
        try:
            keys = {**dict.fromkeys(accept, State.ACCEPTED), **dict.fromkeys(resend, State.PENDING)}
            known = await store.look_up(record.id, Scope.SEND, list(keys))
            wrong = [key for key in keys if key not in known or known[key].state is not State.UNKNOWN]
            if wrong:
                raise JobError([Problem(_not_unknown(known.get(key)), key=key) for key in wrong])
            steps = {key: known[key].step for key in keys}
            # Before its last sending step a send has reached nobody, whatever became of the step.
            last = sum(not endpoint.reads for _, endpoint in loaded.provider.flow(loaded.tables).steps) - 1
            early = [key for key, to in keys.items() if to is State.ACCEPTED and steps[key] < last]
            if early:
                text = "cannot be accepted: only a draft of it is unknown, nobody was reached; run the job again"
                raise JobError([Problem(text, key=key) for key in early])
            if accept_all or resend_all:
                to = State.ACCEPTED if accept_all else State.PENDING
                async for page in store.by_state(record.id, State.UNKNOWN):
                    for one in page:
                        if accept_all and one.step < last:
                            continue
                        keys.setdefault(one.key, to)
                        steps[one.key] = one.step
            changes = [
                Change(Scope.SEND, key, State.UNKNOWN, to_state, steps[key], reason="settled by a person")
                for key, to_state in keys.items()
            ]
            await asyncio.gather(*(store.record(record.id, change) for change in changes))
            left = [one for one in await failures_of(store, record.id) if one.state is State.UNKNOWN]
        finally:
            after = await store.find_job(loaded.name)
            assert after is not None
            settled = after.counts.settled >= before.sends
            state = before.state if before.state is not JobState.DONE or settled else JobState.INCOMPLETE
            await store.end_job(record.id, state, record.summary, counts_as_finish=False)
        accepted = sum(one is State.ACCEPTED for one in keys.values())
        return accepted, len(keys) - accepted, left


def _not_unknown(record: SendRecord | None) -> str:
    return "is not in the ledger" if record is None else f"is {record.state}, not unknown"
