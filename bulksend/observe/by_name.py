"""Observers that have a method for each event they have use for."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from bulksend.event import Event, EventName

__all__ = ["ByName", "both"]

_Method = Callable[[Event], None]


class ByName:
    """An observer that is told each event by the method for its name.

    Whoever tells many events may look these methods up once, as Observers does: what has none then costs nothing.
    """

    def __init__(self, methods: Mapping[EventName, _Method]) -> None:
        self.methods = methods
        """The same for as long as the observer is."""

    def __call__(self, event: Event) -> None:
        """Take note of an event."""
        method = self.methods.get(event.name)
        if method is not None:
            method(event)


def both(first: _Method | None, second: _Method) -> _Method:
    """Return what calls one method, where there is one, and then another."""
    if first is None:
        return second

    def told(event: Event) -> None:
        first(event)
        second(event)

    return told
