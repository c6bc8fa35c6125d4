"""The look at a job's whole input before its first call."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from typing import TYPE_CHECKING

from bulksend.api.opening import Opened, key_problems
from bulksend.errors import JobError
from bulksend.job.check import Checked, check_rows

if TYPE_CHECKING:
    from bulksend.job.audience import KeyCheck

__all__ = ["check_input"]


async def check_input(
    opened: Opened,
    executor: Executor,
    *,
    limit: int | None,
    precheck: bool,
    with_secrets: bool,
    stopping: Callable[[], bool],
) -> Checked:
    """Look at the whole audience: its keys always, its rows unless told not to. What is wrong is in `problems`."""
    loop = asyncio.get_running_loop()
    audience, renderer = opened.audience, opened.renderer
    if audience is None and not opened.flow.steps:
        checked = Checked()
        checked.add(renderer.static_problems())
    elif audience is None:
        checked = check_rows(renderer, [[()]], with_secrets=with_secrets, stopping=stopping)
        checked.rows, checked.size = 0, (0, 1)
    else:
        keys = await loop.run_in_executor(executor, audience.check_keys)
        if keys.rows == 0:
            text = f"{audience.label} has no rows: there is nothing to send"
            raise JobError(opened.job.problem_at("audience", text))
        if precheck:
            batches = audience.rows(renderer.columns, limit=limit)
            work = partial(check_rows, renderer, batches, with_secrets=with_secrets, stopping=stopping)
            checked = await loop.run_in_executor(executor, work)
        else:
            rows = keys.rows if limit is None else min(limit, keys.rows)
            chunk = opened.job.audience.chunk if opened.job.audience is not None else None
            checked = Checked(rows=rows, sends=rows if chunk is None else -(-rows // chunk))
            checked.add(renderer.static_problems())
        spec = opened.job.audience
        chunk = None if spec is None else spec.chunk
        whole = keys.rows if chunk is None else -(-keys.rows // chunk)
        checked.size = (keys.rows, whole if limit is not None else checked.sends)
        _add_key_problems(checked, keys, audience.label)
    return checked


def _add_key_problems(checked: Checked, keys: KeyCheck, label: str) -> None:
    """Say which keys are blank or stand twice, in the order of rows among what else is wrong."""
    found = key_problems(keys, label)
    checked.only_late = checked.only_late and not found
    checked.more += keys.blank_count + keys.duplicate_count - len(found)
    checked.problems = sorted(found + checked.problems, key=lambda problem: problem.row or 0)
