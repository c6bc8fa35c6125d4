"""Settling sends whose fate is unknown: by asking the vendor, or on a person's word; nothing is sent."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from typing import NamedTuple

from bulksend.api.key_file import open_keys
from bulksend.api.lookup import Lookup
from bulksend.api.opening import naming, open_job, secret_problems
from bulksend.api.report import Failure
from bulksend.api.run import JobSource
from bulksend.api.running import can_look_up, failures_of, vendor_of
from bulksend.api.settler import settler_of
from bulksend.api.signals import signals_end
from bulksend.api.state import opened_ledger
from bulksend.api.with_rows import load_with_rows
from bulksend.api.word import Word
from bulksend.errors import InterruptedRunError, JobError, JobLockedError
from bulksend.job.file import load_job
from bulksend.job.rows import batches_in
from bulksend.job.spec import Job
from bulksend.ledger.base import JobRecord, Ledger, Settler
from bulksend.model import JobState, State

__all__ = ["Resolved", "resolve_async"]

STOP_POLL_S = 0.4


class Resolved(NamedTuple):
    """How many unknown sends were accepted, how many the next run makes again, and which are still unknown."""

    accepted: int
    pending: int
    left: Sequence[Failure]
    """The first hundred, by key, each with what is known of it."""


async def resolve_async(
    job: JobSource,
    *,
    accept: Sequence[str] = (),
    resend: Sequence[str] = (),
    accept_all: bool = False,
    resend_all: bool = False,
    accept_file: str | os.PathLike[str] | None = None,
    resend_file: str | os.PathLike[str] | None = None,
    by: str | None = None,
    vars: Mapping[str, str] | None = None,
    ledger: str | None = None,
    base_url: str | None = None,
    handle_signals: bool = False,
) -> Resolved:
    """Settle unknown sends: `accept`, they arrived; `resend`, the next run makes them again; nothing is sent here.

    Without either, the vendor is asked where it can be: what it has is accepted, what it never got is pending, and what
    it does not tell stays unknown. A file names keys as `job.toml`'s audience does (.csv, .jsonl, .parquet with the key
    column), or one per line; the rows of a chunk stand for the chunk, and all of them must be in it. What of a file was
    settled so before is passed over, so that one that was cut off can be given again.

    Each change is kept in the ledger for ever with who had it made: `by`, or the user of this machine. Raises JobError,
    and changes nothing, when a key is not an unknown send of the job, and JobLockedError while the job runs.
    """
    settler = settler_of(by)
    both = set(accept) & set(resend)
    if both:
        raise JobError(f"a key cannot be both accepted and resent: {', '.join(sorted(both))}")
    loaded = load_job(job, variables=vars, base_url=base_url, rows_from_code=True)
    with naming(loaded):
        async with opened_ledger(loaded, ledger) as (_, store, record):
            if record.holder is not None:
                raise JobLockedError(f'the job "{loaded.name}" is being run by {record.holder}; resolve it afterwards')
            word = Word(loaded, store, record.id, settler)
            if not (accept or resend or accept_all or resend_all or accept_file or resend_file):
                readable = load_with_rows(job, vars, base_url)
                return await _ask(readable or loaded, store, record, settler, handle_signals=handle_signals)
            way = vendor_of(loaded).partition(" at ")[0]
            if record.vendor is not None and record.vendor.partition(" at ")[0] != way:
                raise JobError(f'the job "{loaded.name}" was sent by {record.vendor} before, now its file says {way}')
            stoppable = _stoppable(store, record.id, word.stop, handle_signals=handle_signals)
            async with _held(loaded, store, settler), stoppable as stopped:
                await word.check({**dict.fromkeys(accept, State.ACCEPTED), **dict.fromkeys(resend, State.PENDING)})
                files = ((accept_file, State.ACCEPTED), (resend_file, State.PENDING))
                for file, to in files:
                    if file is not None:
                        await _each(file, loaded, lambda pages, to=to: word.check_file(pages, to))  # type: ignore[misc]
                await word.settle(accept, State.ACCEPTED)
                await word.settle(resend, State.PENDING)
                for file, to in files:
                    if file is not None:
                        await _each(file, loaded, lambda pages, to=to: word.settle_file(pages, to))  # type: ignore[misc]
                if accept_all or resend_all:
                    await word.settle_all(State.ACCEPTED if accept_all else State.PENDING)
            if stopped:
                number = f"{word.accepted + word.pending:,} sends were settled"
                raise InterruptedRunError(f"{stopped[0]}; {number}, and the same again settles the rest")
            return Resolved(word.accepted, word.pending, await _left(store, record.id))


async def _each(
    file: str | os.PathLike[str], job: Job, work: Callable[[AsyncIterator[list[str]]], Awaitable[None]]
) -> None:
    """Do something with the keys of a file, drawn in a thread."""
    with ThreadPoolExecutor(1, thread_name_prefix="bulksend-reader") as executor:
        loop = asyncio.get_running_loop()
        stack = ExitStack()
        try:
            keys = await loop.run_in_executor(executor, stack.enter_context, open_keys(file, job))
            async with contextlib.aclosing(batches_in(executor, keys())) as pages:
                await work(pages)
        finally:
            await loop.run_in_executor(executor, stack.close)


@contextlib.asynccontextmanager
async def _held(job: Job, store: Ledger, settler: Settler, *, vendor: str | None = None) -> AsyncIterator[JobRecord]:
    """Hold the job's lock; afterwards it stands as before, but for what is open again."""
    holder = f"bulksend resolve, process {os.getpid()} of {settler.by} on {settler.host}"
    before, _ = await store.start_job(job.name, holder, vendor=vendor, is_run=False)
    try:
        yield before
    finally:
        after = await store.find_job(job.name)
        assert after is not None
        is_settled = after.counts.settled >= before.sends
        state = before.state if before.state is not JobState.DONE or is_settled else JobState.INCOMPLETE
        await store.end_job(before.id, state, before.summary, counts_as_finish=False)


async def _left(store: Ledger, job_id: int, untold: Mapping[str, str] | None = None) -> list[Failure]:
    """Return the first hundred that are unknown; with why the vendor did not tell, where that is not known yet."""
    found = []
    for one in await failures_of(store, job_id):
        if one.state is not State.UNKNOWN:
            continue
        why = (untold or {}).get(one.key)
        if why is not None and why not in (one.reason or ""):
            reason = f"{one.reason}; {why}" if one.reason else why
            one = Failure(one.key, one.row, one.state, reason, one.status)  # noqa: PLW2901
        found.append(one)
    return found


async def _ask(job: Job, store: Ledger, record: JobRecord, settler: Settler, *, handle_signals: bool) -> Resolved:
    """Ask the vendor where it can be asked; who cannot be asked needs neither rows nor secrets."""
    from_code = job.audience is not None and job.audience.source is None and job.audience.sql is None
    is_open = record.counts.unknown + record.counts.sending > 0
    flow = job.provider.flow(job.tables)
    if not is_open or from_code or not can_look_up(job.provider, flow):
        async with _held(job, store, settler):
            return Resolved(0, 0, await _left(store, record.id))
    with ExitStack() as stack:
        opened = stack.enter_context(open_job(job))
        executor = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="bulksend-reader"))
        problems = await asyncio.get_running_loop().run_in_executor(executor, secret_problems, opened)
        if problems:
            raise JobError(problems)
        async with _held(job, store, settler, vendor=vendor_of(job)):
            lookup = Lookup(opened, store, record.id, settler)
            async with _stoppable(store, record.id, lookup.stop, handle_signals=handle_signals) as stopped:
                try:
                    await lookup.run(executor)
                finally:
                    await lookup.close()
            why = stopped[0] if stopped else lookup.failure
            if why is not None:
                raise InterruptedRunError(f"{why}; what was found is kept, and resolve goes on with the rest")
            left = await _left(store, record.id, lookup.untold)
        return Resolved(lookup.accepted, lookup.pending, left)


@contextlib.asynccontextmanager
async def _stoppable(
    store: Ledger, job_id: int, act: Callable[[], None], *, handle_signals: bool
) -> AsyncIterator[list[str]]:
    """Give a list that says who has stopped it, once somebody has; `act` is called then."""
    stopped: list[str] = []

    def stop(text: str) -> None:
        stopped.append(text)
        act()

    with ExitStack() as stack:
        if handle_signals:
            stack.enter_context(signals_end(stop, lambda: bool(stopped)))
        watch = asyncio.create_task(_watch(store, job_id, stop))
        try:
            yield stopped
        finally:
            watch.cancel()


async def _watch(store: Ledger, job_id: int, stop: Callable[[str], None]) -> None:
    """Stop when `bulksend stop` asks for it."""
    while not await store.stop_requested(job_id):
        await asyncio.sleep(STOP_POLL_S)
    stop("stopped by `bulksend stop`")
