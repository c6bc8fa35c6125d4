"""A look at a segment without a write: what `plan` shows of a job with [desired]."""

from __future__ import annotations

import random
import tempfile
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Executor
from contextlib import AbstractContextManager, AsyncExitStack, nullcontext
from functools import partial
from pathlib import Path

from bulksend.api.diff_files import DiffFiles
from bulksend.api.opening import Opened, open_ledger
from bulksend.api.refusal import Observer
from bulksend.api.report import SegmentReport
from bulksend.api.segment import Segment, segment_report
from bulksend.api.signals import signals_end
from bulksend.engine.caller import Caller
from bulksend.engine.direct import open_transport
from bulksend.engine.limiter import StoppedError
from bulksend.errors import InterruptedRunError
from bulksend.ledger.base import Ledger
from bulksend.reconcile.aside import aside
from bulksend.reconcile.guards import reasons

__all__ = ["compare"]


async def compare(
    opened: Opened,
    segment: Segment,
    executor: Executor,
    *,
    ledger: str | None,
    diff_out: Path | None,
    observers: Sequence[Observer],
) -> tuple[SegmentReport, list[str]]:
    """Read the segment, and return how it differs and why a run would refuse that.

    The calls keep to the limits that the ledger shares; where there is no ledger yet, none is made.
    """
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(dir=opened.scratch_dir)))
        files = DiffFiles(diff_out, opened.job)
        await aside(executor, files.open)
        known = await _open(ledger, opened, folder)
        stack.push_async_callback(known.close)
        transport = open_transport()
        stack.push_async_callback(transport.close)

        def observe(event: object) -> None:
            for observer in observers:
                observer(event)  # type: ignore[arg-type]

        caller = Caller(
            job=opened.job.name,
            provider=opened.job.provider,
            ledger=known,
            transport=transport,
            limit_of=opened.job.limit,
            wall=time.time,
            random=random.random,
            observe=observe,
            contract=opened.job.limits,
        )
        stack.push_async_callback(caller.close)
        stack.callback(caller.stop)
        subject = segment.subject
        where = subject.identity, subject.segment_id
        overrides = await known.overrides(*where)
        sync = segment.sync(caller, folder / "segment", observe=observe, overrides=overrides)
        stack.enter_context(_signals(caller))
        stack.callback(sync.close)
        try:
            difference = await sync.find()
        except StoppedError:
            raise caller.failure or InterruptedRunError("the segment was not read to its end") from None
        await aside(executor, partial(files.write, sync.lines))
        record = await known.find_segment(*where)
        found = reasons(
            difference,
            opened.job.guard,
            desired_before=None if record is None else record.desired,
            changes=subject.targets.add is not None,
        )
        return segment_report(subject, difference), found


def _signals(caller: Caller) -> AbstractContextManager[object]:
    """End the look in good order, so that no id stays in a file, where this is the main thread."""
    if threading.current_thread() is not threading.main_thread():
        return nullcontext()
    return signals_end(lambda _: caller.stop(), lambda: caller.stopping)


async def _open(url: str | None, opened: Opened, folder: Path) -> Ledger:
    known = open_ledger(url, opened.job.base_dir)
    if await known.open(create=False):
        return known
    await known.close()
    fresh = open_ledger(f"sqlite://{folder / 'limits.db'}", folder)
    await fresh.open(create=True)
    return fresh
