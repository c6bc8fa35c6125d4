"""Ctrl-C and SIGTERM: the first ends a run in good order, the second where it stands."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable
from contextlib import ExitStack

__all__ = ["signals_end"]

SAME_SIGNAL_S = 0.5
"""A second signal within this is the first one delivered twice, by a terminal and by what wraps the command."""


def signals_end(interrupt: Callable[[str], None], interrupted: Callable[[], bool]) -> ExitStack:
    """Handle both signals until the block ends: `interrupt` is told the first, the second cancels the current task.

    The ledger is right either way: what was under way when the task was cancelled is unknown in the next run.
    """
    loop = asyncio.get_running_loop()
    task = asyncio.current_task()
    assert task is not None
    first_at_s = 0.0

    def caught(name: str) -> None:
        nonlocal first_at_s
        if not interrupted():
            first_at_s = loop.time()
            interrupt(f"stopped by {name}")
        elif loop.time() - first_at_s >= SAME_SIGNAL_S:
            task.cancel()

    stack = ExitStack()
    for number in (signal.SIGINT, signal.SIGTERM):
        # What the host program had is put back: the loop alone would leave the system's default.
        stack.callback(signal.signal, number, signal.getsignal(number) or signal.SIG_DFL)
        loop.add_signal_handler(number, caught, number.name)
        stack.callback(loop.remove_signal_handler, number)
    return stack
