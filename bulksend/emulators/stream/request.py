"""One call as the operations see it, and what comes of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from bulksend.emulators.stream.fields import Body, as_body
from bulksend.emulators.stream.moments import Dialect

__all__ = ["Outcome", "Request"]


@dataclass(frozen=True, slots=True)
class Request:
    """The parts of a call; `id` and `target_id` are from the path, and empty where it has none."""

    id: str
    target_id: str
    query: Mapping[str, str]
    raw: object
    now: int
    dialect: Dialect

    @property
    def body(self) -> Body:
        """The body, which must be a JSON object."""
        return as_body(self.raw)


@dataclass(frozen=True, slots=True)
class Outcome:
    """The fields of a success, the id of what it changed, and what the log is to keep in place of the body."""

    fields: Mapping[str, object]
    effect: str | None = None
    logged: Body | None = None
