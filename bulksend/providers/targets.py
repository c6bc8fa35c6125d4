"""What a reconciliation asks of a provider whose segments can be read, and perhaps changed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from bulksend.model import Endpoint, Outcome, Reply, Step

__all__ = ["Batch", "Span", "Targets"]


@dataclass(frozen=True, slots=True)
class Span:
    """A range of ids, both ends included; None is no end."""

    least: str | None = None
    most: str | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """A call that adds targets, or removes them: all of its ids at once, and harmless to repeat."""

    endpoint: Endpoint
    ids_most: int


class Targets(Protocol):
    """The targets of a vendor's segments as pure functions of values."""

    @property
    def matches(self) -> tuple[str, ...]:
        """Return the fields of a target that the desired ids may be, the usual one first; empty: it is an id alone."""

    @property
    def id_most_chars(self) -> int | None:
        """Return how long an id may be."""

    @property
    def page_most(self) -> int:
        """Return how many targets a page may hold."""

    @property
    def page_endpoint(self) -> Endpoint:
        """Return the endpoint of the pages."""

    @property
    def is_ordered(self) -> bool:
        """Say whether pages come in the order of the ids, if by the vendor's own collation."""

    @property
    def has_spans(self) -> bool:
        """Say whether a page can be asked for within a range of ids."""

    @property
    def add(self) -> Batch | None:
        """Return how targets are added; None where no route does."""

    @property
    def remove(self) -> Batch | None:
        """Return how targets are removed; None where no route does."""

    def describe(self, segment_id: str, *, following: str | None) -> Step:
        """Return the question what the segment is; `following` goes on in the vendor's list of segments."""

    def read_description(self, step: Step, segment_id: str, reply: Reply) -> Outcome:
        """Return what the answer says: `Described` where the vendor has taken the question; it never raises."""

    def page(self, segment_id: str, span: Span, *, following: str | None) -> Step:
        """Return the question for a page, the first of the range without `following`."""

    def read_page(self, step: Step, match: str, reply: Reply) -> Outcome:
        """Return the page: `Listed`, its ids being the field `match`; it never raises."""

    def write(self, batch: Batch, segment_id: str, ids: Sequence[str]) -> Step:
        """Return the call that adds or removes these ids, at most `ids_most` of them."""

    def exists(self, segment_id: str, target_id: str) -> Step | None:
        """Return the question whether an id is a target, answered by 2xx or 404; None where no route tells."""
