"""An event loop whose clock moves by itself: a timer of an hour costs nothing, and nothing ever really sleeps."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Executor, Future
from typing import Any, TypeVar

T = TypeVar("T")
EPOCH_S = 1_800_000_000.0
TURN_S = 1e-7


class _Selector(selectors.DefaultSelector):  # type: ignore[misc,valid-type]
    """Instead of waiting for a timer, moves the loop's clock to it."""

    loop: SimulatedLoop

    def select(self, timeout: float | None = None) -> Any:
        if timeout is None:
            raise RuntimeError("every task waits for something that never happens")
        ready = super().select(0)
        # Each turn of the loop takes a moment, as it does in life: two times that differ by rounding only never spin.
        self.loop.now_s += TURN_S if ready else max(timeout, TURN_S)
        return ready


class SimulatedLoop(asyncio.SelectorEventLoop):
    """Time starts at 1,000 s and passes only when there is nothing else to do; `at_end` is awaited last."""

    def __init__(self) -> None:
        self.at_end: list[Callable[[], Awaitable[None]]] = []
        self.now_s = 1000.0
        selector = _Selector()
        super().__init__(selector)
        selector.loop = self

    def time(self) -> float:
        return self.now_s

    def wall(self) -> float:
        return EPOCH_S + self.now_s


class InlineExecutor(Executor):
    """Runs what it is given at once, on the caller's thread."""

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        future: Future[Any] = Future()
        try:
            future.set_result(fn(*args, **kwargs))
        except BaseException as wrong:
            future.set_exception(wrong)
        return future


def run_simulated(main: Coroutine[Any, Any, T]) -> T:
    """Run a coroutine to its end in simulated time."""

    async def whole() -> T:
        try:
            return await main
        finally:
            loop = asyncio.get_running_loop()
            assert isinstance(loop, SimulatedLoop)
            for close in loop.at_end:
                await close()

    with asyncio.Runner(loop_factory=SimulatedLoop) as runner:
        return runner.run(whole())
