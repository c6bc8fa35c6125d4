"""The desired list of a job's segment, read and sorted before the first call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING

from bulksend.api.opening import Opened, at_table
from bulksend.errors import JobError

if TYPE_CHECKING:
    from bulksend.job.desired import DesiredIds

__all__ = ["desired_of"]


async def desired_of(
    opened: Opened, executor: Executor, stopping: Callable[[], bool]
) -> tuple[DesiredIds | None, JobError | None]:
    """Return the desired list of the job's segment, or what is wrong with it."""
    try:
        work = partial(_read, opened, stopping=stopping)
        return await asyncio.get_running_loop().run_in_executor(executor, work), None
    except JobError as wrong:
        return None, wrong


def _read(opened: Opened, *, stopping: Callable[[], bool]) -> DesiredIds | None:
    """Return the ids of [desired], None for a job without; blocks. Raises JobError with every fault of the list."""
    job, spec = opened.job, opened.job.desired
    if spec is None or job.provider.targets is None:
        return None
    from bulksend.job.desired import sort_desired

    try:
        return sort_desired(
            base_dir=job.base_dir,
            source=spec.source,
            sql=spec.sql,
            key=spec.key,
            scratch_dir=opened.scratch_dir,
            most_chars=job.provider.targets.id_most_chars,
            stopping=stopping,
        )
    except JobError as wrong:
        field = "desired.sql" if spec.sql is not None else "desired.from"
        raise JobError([at_table(job, field, problem) for problem in wrong.problems], more=wrong.more) from None
