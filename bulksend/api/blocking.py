"""The library for code without an event loop: each function runs its namesake to the end."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable, Coroutine, Iterator
from functools import wraps
from typing import Any, ParamSpec, TypeVar

from bulksend.api.dead_letters import dead_letters_async
from bulksend.api.listing import audit_async, drawn, sends_async
from bulksend.api.loadtest import load_test_async
from bulksend.api.plan import plan_async
from bulksend.api.reporting import report_async
from bulksend.api.resolving import resolve_async
from bulksend.api.run import run_async
from bulksend.api.state import status_async, stop_async

__all__ = [
    "audit",
    "dead_letters",
    "load_test",
    "loop_factory",
    "plan",
    "report",
    "resolve",
    "run",
    "sends",
    "status",
    "stop",
]

P = ParamSpec("P")
T = TypeVar("T")


def _blocking(work: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, T]:
    @wraps(work)
    def run_to_end(*args: P.args, **kwargs: P.kwargs) -> T:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            return runner.run(work(*args, **kwargs))

    run_to_end.__name__ = run_to_end.__qualname__ = work.__name__.removesuffix("_async")
    return run_to_end


def _drawing(work: Callable[P, AsyncGenerator[T, None]]) -> Callable[P, Iterator[T]]:
    @wraps(work)
    def draw(*args: P.args, **kwargs: P.kwargs) -> Iterator[T]:
        with asyncio.Runner(loop_factory=loop_factory()) as runner:
            yield from drawn(work(*args, **kwargs), runner)

    draw.__name__ = draw.__qualname__ = work.__name__.removesuffix("_async")
    return draw


def loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    """Return how to make an event loop: uvloop's where it exists."""
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


run = _blocking(run_async)
plan = _blocking(plan_async)
status = _blocking(status_async)
stop = _blocking(stop_async)
report = _blocking(report_async)
resolve = _blocking(resolve_async)
load_test = _blocking(load_test_async)
dead_letters = _blocking(dead_letters_async)
sends = _drawing(sends_async)
audit = _drawing(audit_async)
