"""Telling those who look on, none of whom may cost a run anything."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Callable, Iterable

from bulksend.event import Event, EventName
from bulksend.observe.by_name import ByName

__all__ = ["Observer", "Observers"]

Observer = Callable[[Event], None]


class Observers:
    """Tells every observer each event; one that raises is told no more, so that no send loses its outcome by it."""

    def __init__(self, observers: Iterable[Observer]) -> None:
        self._observers = [*observers]
        self._methods = self._arranged()

    def __call__(self, event: Event) -> None:
        """Tell an event."""
        for method in self._methods[event.name]:
            try:
                method(event)
            except Exception as wrong:
                self._drop(event.name, method, wrong)

    def _arranged(self) -> dict[EventName, tuple[Observer, ...]]:
        """Return whom to tell, by the event's name, in the order of the observers."""
        found = {name: [_method(observer, name) for observer in self._observers] for name in EventName}
        return {name: tuple(method for method in methods if method is not None) for name, methods in found.items()}

    def _drop(self, name: EventName, method: Observer, wrong: Exception) -> None:
        self._observers = [observer for observer in self._observers if _method(observer, name) is not method]
        self._methods = self._arranged()
        with contextlib.suppress(RuntimeWarning):  # an error where warnings are errors
            text = f"an observer failed and is not told any more: {wrong!r}"
            warnings.warn(text, RuntimeWarning, stacklevel=4)


def _method(observer: Observer, name: EventName) -> Observer | None:
    """Return what is called with an event of this name: a method of its own, where nothing else is done for all."""
    if isinstance(observer, ByName) and type(observer).__call__ is ByName.__call__:
        return observer.methods.get(name)
    return observer
