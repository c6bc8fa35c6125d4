"""Running a job: check everything, take the lock, launch, and say how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import tempfile
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

from bulksend.api.checking import check_input
from bulksend.api.desired import desired_of
from bulksend.api.emulation import emulator
from bulksend.api.lateness import is_late
from bulksend.api.opening import Opened, load_whole, naming, open_job, open_ledger, secret_problems
from bulksend.api.refusal import Observer, check_due, check_size
from bulksend.api.report import Report, SegmentReport
from bulksend.api.running import Run
from bulksend.api.segment import Segment, check_hash, check_limit
from bulksend.api.signals import signals_end
from bulksend.api.source import chunk_source, row_source
from bulksend.engine.limiter import StoppedError
from bulksend.errors import (
    BulksendError,
    InterruptedRunError,
    JobError,
    JobLockedError,
    Problem,
)
from bulksend.event import Event, EventName
from bulksend.job.check import Checked
from bulksend.job.spec import Job
from bulksend.launch import Source

__all__ = ["Confirm", "JobSource", "Observer", "run_async", "start_emulator"]

ACCOUNTS_MOST = 10_000
"""Different accounts that are looked for where the rows were not looked at beforehand."""

Confirm = Callable[[Job, Checked, SegmentReport | None], bool]
"""Asks a person before the first write; told how the segment differs, where the job has one."""
JobSource = str | os.PathLike[str] | Mapping[str, object]


async def run_async(
    job: JobSource,
    *,
    vars: Mapping[str, str] | None = None,
    ledger: str | None = None,
    base_url: str | None = None,
    emulate: bool = False,
    limit: int | None = None,
    precheck: bool = True,
    observers: Sequence[Observer] = (),
    apply: str | None = None,
    diff_out: str | os.PathLike[str] | None = None,
    confirm: Confirm | None = None,
    handle_signals: bool = False,
) -> Report:
    """Run a job to its end and return the numbers; the job's name is its identity, so a second run goes on.

    `ledger` is a URL (`sqlite:///absolute/path`, `sqlite:relative`), by default $BULKSEND_LEDGER, else `bulksend.db`
    beside the job file. `limit` takes only the first N rows. `precheck=False` does not look at the rows before the
    first call. `emulate` sends to an emulator, with a scratch ledger. `observers` are called with every Event. For a
    job with [desired]: `apply` is the hash of the one difference that may pass its guards, `diff_out` a folder that the
    ids of the difference are written to. With `handle_signals`, SIGINT and SIGTERM end the run in good order.

    Raises JobError (wrong input, before any call), GuardError, InterruptedRunError or RunError; once the job had begun,
    the exception's `report` holds the numbers. A rejected or unknown send raises nothing: see
    `Report.raise_for_failures`.
    """
    async with AsyncExitStack() as stack:
        loaded = load_whole(job, variables=vars, base_url=base_url, with_secrets=not emulate)
        stack.enter_context(naming(loaded))
        if limit is not None and limit < 1:
            raise JobError(Problem("must be at least 1", field="--limit"))
        check_limit(loaded, limit)
        check_hash(apply)
        opened = stack.enter_context(open_job(loaded))
        # Left before the audience is closed: its thread must not be reading then.
        executor = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="bulksend-reader"))
        loop = asyncio.get_running_loop()
        problems = [] if emulate else await loop.run_in_executor(executor, secret_problems, opened)
        check_due(loaded, time.time(), observers)
        if emulate:
            ledger = await start_emulator(stack, opened, executor)
        current = Run(opened, open_ledger(ledger, loaded.base_dir), observers, limited=limit is not None)
        begun = await _look_at(current)
        if handle_signals:
            stack.enter_context(signals_end(current.interrupt, lambda: current.interrupted is not None))
        stopping = partial(lambda run: run.interrupted is not None, current)
        checked = await check_input(
            opened, executor, limit=limit, precheck=precheck, with_secrets=not problems, stopping=stopping
        )
        if current.interrupted is not None:
            raise current.interrupted
        if checked.problems and checked.only_late and not await is_late(opened, current.ledger, executor, limit=limit):
            checked.problems, checked.more = [], 0
        # Once a launch has begun, its segment was right: a run that goes on does not change it under the launch.
        skips = begun and bool(opened.flow.steps)
        desired, wrong = (None, None) if skips else await desired_of(opened, executor, stopping)
        if problems or checked.problems or wrong is not None:
            more = () if wrong is None else wrong.problems
            raise JobError([*problems, *checked.problems, *more], more=checked.more + (wrong.more if wrong else 0))
        if current.interrupted is not None:
            raise current.interrupted
        current.observe(Event(EventName.AUDIENCE_CHECKED, loaded.name, count=checked.sends))
        check_size(loaded, checked, [current.observe])
        if desired is None and confirm is not None and not confirm(loaded, checked, None):
            raise InterruptedRunError("nothing was sent: the question was not answered with yes")
        if skips and loaded.desired is not None:
            text = "its launch has begun, so that it is neither read nor changed any more"
            current.observe(Event(EventName.SEGMENT_KEPT, loaded.name, reason=text))
        current.rows, current.total, current.size = checked.rows, checked.sends, checked.size
        accounts = await _account_names(opened, checked, executor)
        bring: Callable[[], Awaitable[None]] | None = None
        if desired is not None:
            asked = None if confirm is None else partial(confirm, loaded, checked)
            folder = None if emulate and diff_out is None else _diff_folder(loaded, diff_out)
            segment = Segment(opened, desired, executor)
            bring = partial(segment.bring_into_line, current, apply_hash=apply, diff_out=folder, confirm=asked)
        return await _go(current, partial(_source, opened, executor, current, accounts, limit), bring)


def _diff_folder(job: Job, given: str | os.PathLike[str] | None) -> Path | None:
    """Return where the difference is written to: where no route changes the segment, it is what the job is for."""
    if given is not None:
        return Path(given)
    targets = job.provider.targets
    return job.path.with_name(f"{job.path.stem}-diff") if targets is not None and targets.add is None else None


async def _account_names(opened: Opened, checked: Checked, executor: ThreadPoolExecutor) -> list[str]:
    """Return the names of the accounts that rows belong to, in order of appearance."""
    if checked.by_account or opened.audience is None or not opened.accounts.columns:
        return list(checked.by_account)
    distinct = partial(opened.audience.distinct, opened.accounts.columns, ACCOUNTS_MOST)
    names = []
    for values in await asyncio.get_running_loop().run_in_executor(executor, distinct):
        with contextlib.suppress(JobError):  # told with the row
            names.append(opened.accounts.of(values).name)
    return names


def _source(
    opened: Opened, executor: ThreadPoolExecutor, current: Run, accounts: Sequence[str], limit: int | None
) -> Source:
    stopping = partial(lambda run: run.stopping, current)
    if opened.job.audience is not None and opened.job.audience.chunk is not None:
        return chunk_source(opened, current.ledger, current.job_id, executor, accounts, limit=limit, stopping=stopping)
    return row_source(opened, executor, accounts, limit=limit, stopping=stopping)


async def _look_at(current: Run) -> bool:
    """Say whether a send of the job was settled, or was under way when a run ended.

    Raises JobLockedError, before the audience is looked at, where another process runs the job; the lock itself is
    taken later.
    """
    if await current.ledger.open(create=False):
        record = await current.ledger.find_job(current.job.name)
        if record is not None and record.holder is not None:
            await current.ledger.close()
            raise JobLockedError(
                f'the job "{record.name}" is being run by {record.holder}; it is not run twice at a time'
            )
        return record is not None and bool(record.counts.settled or record.counts.sending)
    return False


async def _go(
    current: Run, make_source: Callable[[], Source], bring: Callable[[], Awaitable[None]] | None = None
) -> Report:
    """Take the lock, bring the segment into line, launch, and end the job whatever happens."""
    try:
        await current.start()
        failure: BaseException | None = None
        try:
            if bring is not None:
                await bring()
            if current.opened.flow.steps:
                await current.launch(make_source())
            failure = current.failure
        except StoppedError:
            failure = current.failure or InterruptedRunError("the run was stopped; run again to go on")
        except BaseException as wrong:
            failure = wrong
        try:
            report = await current.finish(failure)
        except BulksendError as wrong:
            # The ledger itself failed: what this process has seen is all that can be told.
            failure = failure or wrong
            report = await current.report(None, failure)
        if failure is not None:
            if isinstance(failure, BulksendError):
                failure.report = report
            raise failure
        return report
    finally:
        await current.ledger.close()


async def start_emulator(stack: AsyncExitStack, opened: Opened, executor: ThreadPoolExecutor) -> str:
    """Point the job at an emulator of its own; returns the URL of a scratch ledger."""
    job = opened.job
    number = len(job.accounts)
    if opened.audience is not None and opened.accounts.columns:
        distinct = partial(opened.audience.distinct, opened.accounts.columns, 1000)
        number = max(1, len(await asyncio.get_running_loop().run_in_executor(executor, distinct)))
    campaign = job.tables.get("launch", {}).get("campaign_id")
    campaigns = [str(campaign)] if isinstance(campaign, int | str) and str(campaign).isdigit() else []
    segment = job.tables.get("segment", {}).get("id")
    flags = ["--segment", str(segment)] if segment is not None and job.desired is not None else []
    given = await stack.enter_async_context(
        emulator(job.provider, accounts=number, limits=job.limits, campaigns=campaigns, flags=flags)
    )
    opened.accounts.replace(given)
    scratch = stack.enter_context(tempfile.TemporaryDirectory(prefix="bulksend-emulate-"))
    return f"sqlite://{Path(scratch) / 'bulksend.db'}"
