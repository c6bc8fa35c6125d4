"""Work that is done every few seconds beside a run, and once more at its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

__all__ = ["CLOSE_S", "Repeating"]

CLOSE_S = 2.0
"""How long the end of a run waits for the last time."""


class Repeating:
    """Calls `work` every `every_s` in a thread of its own; when it fails, `warn` is told so once.

    The thread keeps no process from ending: work that hangs costs the run's end two seconds, and the run nothing.
    """

    def __init__(self, what: str, work: Callable[[], None], *, every_s: float, warn: Callable[[str], None]) -> None:
        self._what = what
        self._work = work
        self._every_s = every_s
        self._warn = warn
        self._has_warned = False
        self._stop = threading.Event()
        self._close_by_s = 0.0
        self._thread = threading.Thread(target=self._run, name="bulksend-metrics", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Begin the last time."""
        self._close_by_s = time.monotonic() + CLOSE_S
        self._stop.set()

    def join(self) -> None:
        """Wait until the last time is over, after `stop`."""
        self._thread.join(max(0.0, self._close_by_s - time.monotonic()))
        if self._thread.is_alive():
            self._say(f"not done within {CLOSE_S:g} s")

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            self._try()
        self._try()

    def _try(self) -> None:
        try:
            self._work()
        except Exception as wrong:
            self._say(str(wrong) or type(wrong).__name__)

    def _say(self, wrong: str) -> None:
        if not self._has_warned:
            self._has_warned = True
            self._warn(f"{self._what}: {wrong}; the run is not touched by that")
