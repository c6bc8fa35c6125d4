"""Sending rows that are made in code."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from typing import Self

from bulksend.api.opening import Opened, open_job, open_ledger, secret_problems
from bulksend.api.refusal import Observer, check_due
from bulksend.api.report import Report
from bulksend.api.run import JobSource
from bulksend.api.running import Run
from bulksend.api.source import code_source
from bulksend.errors import BulksendError, JobError
from bulksend.job.file import load_job
from bulksend.job.rows import Rows
from bulksend.ledger.base import Ledger
from bulksend.model import State

__all__ = ["Sender"]


class Sender:
    """Sends rows that are made in code, under the same promises as a job with an audience.

        async with bulksend.Sender("job.toml") as sender:
            report = await sender.send({"store_id": "7", "city": "Oslo"} for …)

    The job file (or a mapping with the same tables) has an [audience] with `key` and without `from`. Entering takes the
    job's lock, leaving gives it back. Rows are checked as they come: one that breaks a rule is rejected without a call.
    Raises what `run_async` raises.
    """

    def __init__(
        self,
        job: JobSource,
        *,
        vars: Mapping[str, str] | None = None,
        ledger: str | None = None,
        base_url: str | None = None,
        observers: Sequence[Observer] = (),
    ) -> None:
        self._job = load_job(job, variables=vars, base_url=base_url, rows_from_code=True)
        if self._job.audience is None:
            raise JobError(
                self._job.problem_at("audience", "is required: its `key` names the field that tells rows apart")
            )
        if self._job.audience.chunk is not None:
            raise JobError(
                self._job.problem_at("audience.chunk", "needs an audience file: rows from code are sent one by one")
            )
        if self._job.desired is not None:
            raise JobError(self._job.problem_at("desired", "needs `run`: rows from code are sent, and nothing else"))
        self._ledger = ledger
        self._observers = observers
        self._stack = AsyncExitStack()
        self._run: Run | None = None
        self._opened: Opened | None = None
        self._failure: BaseException | None = None

    async def __aenter__(self) -> Self:
        opened = self._stack.enter_context(open_job(self._job, rows_from_code=True))
        try:
            problems = await asyncio.to_thread(secret_problems, opened)
            if not await _has_begun(open_ledger(self._ledger, self._job.base_dir), self._job.name):
                problems += opened.renderer.static_problems()  # what was begun in time is gone on with
            if problems:
                raise JobError(problems)
            check_due(self._job, time.time(), self._observers)
            run = Run(opened, open_ledger(self._ledger, self._job.base_dir), self._observers, limited=False)
            self._stack.push_async_callback(run.ledger.close)
            await run.start()
        except BaseException:
            await self._stack.aclose()
            raise
        self._opened, self._run = opened, run
        return self

    async def send(self, rows: Rows) -> Report:
        """Send each row, of an iterable or async iterable, that is not settled yet; returns the numbers so far."""
        assert self._run is not None, "use `async with`"
        assert self._opened is not None
        run = self._run
        await run.launch(code_source(self._opened, rows, run))
        if run.failure is not None:
            self._failure = run.failure
            raise run.failure
        record = await run.ledger.find_job(self._job.name)
        assert record is not None
        return await run.report(record, None)

    async def __aexit__(self, kind: type[BaseException] | None, wrong: BaseException | None, _trace: object) -> None:
        assert self._run is not None
        try:
            report = await self._run.finish(self._failure or wrong)
            if isinstance(wrong, BulksendError):
                wrong.report = report
        finally:
            await self._stack.aclose()


async def _has_begun(ledger: Ledger, name: str) -> bool:
    """Say whether sends of the job stand between two steps, or are of unknown fate; closes the ledger again."""
    try:
        record = await ledger.find_job(name) if await ledger.open(create=False) else None
        if record is None:
            return False
        if record.counts.unknown or record.counts.sending:
            return True
        async for page in ledger.by_state(record.id, State.PENDING):
            if any(one.step for one in page):
                return True
        return False
    finally:
        await ledger.close()
