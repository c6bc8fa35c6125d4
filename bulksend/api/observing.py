"""Telling those who look on, none of whom may cost a run anything."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable

from bulksend.event import Event

__all__ = ["Observer", "Observers"]

Observer = Callable[[Event], None]


class Observers:
    """Tells every observer each event; one that raises is told no more, so that no send loses its outcome by it."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = [*observers]

    def __call__(self, event: Event) -> None:
        """Tell an event."""
        for observer in tuple(self._observers):
            try:
                observer(event)
            except Exception as wrong:
                self._observers.remove(observer)
                with contextlib.suppress(RuntimeWarning):  # an error where warnings are errors
                    text = f"an observer failed and is not told any more: {wrong!r}"
                    warnings.warn(text, RuntimeWarning, stacklevel=3)
