"""The members of a segment: changed in sets of thousands, and paged in the order of their ids among a million."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bulksend.emulators.stream.answers import RefusedError
from bulksend.emulators.stream.filters import Field, as_text, build_filter
from bulksend.emulators.stream.pages import Ask, Page, cut, read_order

__all__ = ["Targets", "page_of_ids"]

# The specification declares none; a type of the JavaScript SDK has the first four. UNCONFIRMED: the others.
_FIELDS: Final[Mapping[str, Field[str]]] = {
    "target_id": Field(frozenset({"$eq", "$gte", "$in", "$lte", "$gt", "$lt"}), as_text, lambda each: each)
}


class Targets:
    """A set of ids with the moment when each was added, sorted when it is next asked for."""

    def __init__(self) -> None:
        self._added: dict[str, int] = {}
        self._sorted: list[str] = []
        self._unsorted: list[str] = []
        self._gone: set[str] = set()  # removed, and perhaps added again, since the last sort

    def __len__(self) -> int:
        return len(self._added)

    def __contains__(self, target_id: object) -> bool:
        return target_id in self._added

    def added_at(self, target_id: str) -> int | None:
        """Return when it was added."""
        return self._added.get(target_id)

    def ids(self) -> Collection[str]:
        """Return all, in no order."""
        return self._added.keys()

    def add(self, target_ids: Iterable[str], now: int) -> int:
        """Add those that are not there yet, and return how many these were."""
        new = dict.fromkeys((each for each in target_ids if each not in self._added), now)
        self._added.update(new)
        self._unsorted.extend(new)
        return len(new)

    def remove(self, target_ids: Iterable[str]) -> int:
        """Remove those that are there, and return how many these were."""
        gone = [each for each in target_ids if self._added.pop(each, None) is not None]
        self._gone.update(gone)
        return len(gone)

    def ordered(self) -> Sequence[str]:
        """Return the ids, ascending by code point. UNCONFIRMED: the vendor's collation."""
        if self._unsorted or self._gone:
            rows = [each for each in self._sorted if each not in self._gone] if self._gone else self._sorted
            rows += dict.fromkeys(each for each in self._unsorted if each in self._added)
            rows.sort()  # merges what is in order already
            self._sorted, self._unsorted, self._gone = rows, [], set()
        return self._sorted


def page_of_ids(ids: Sequence[str], ask: Ask) -> Page[str]:
    """Return a page of `ids`, which ascend; the plain ranges of the filter are found without looking at each."""
    order = read_order(ask.sort, _FIELDS)
    descending = bool(order) and order[0][1]
    found = _find(ids, ask.filter)
    if ask.anchor is None:
        return cut(found[::-1] if descending else found, 0, ask, lambda each: [each])
    if len(ask.anchor) != 1 or not isinstance(ask.anchor[0], str):
        raise RefusedError("next or prev is not a cursor of this query")
    # Rows after the anchor in the order asked for: to its right when that ascends, to its left when it descends.
    bisect = bisect_right if ask.backward is descending else bisect_left
    at = bisect(found, ask.anchor[0])
    if descending:
        return cut(found[::-1], len(found) - at, ask, lambda each: [each])
    return cut(found, at, ask, lambda each: [each])


@dataclass(slots=True)
class _Bounds:
    start: int
    end: int


def _find(ids: Sequence[str], given: object) -> Sequence[str]:
    passes = build_filter(given, _FIELDS.get)  # before anything else: it refuses what is not a filter
    if not isinstance(given, dict) or not given:
        return ids
    asked = given.get("target_id")
    conditions = asked if isinstance(asked, dict) else {} if asked is None else {"$eq": asked}
    bounds = _Bounds(0, len(ids))
    for operator, operand in conditions.items():
        if isinstance(operand, str):
            _narrow(bounds, ids, operator, operand)
    rows = ids[bounds.start : bounds.end]
    if "$in" in conditions:
        rows = [each for each in sorted(set(conditions["$in"])) if _is_among(rows, each)]
    return rows if len(given) == 1 and conditions else [each for each in rows if passes(each)]


def _is_among(ids: Sequence[str], target_id: str) -> bool:
    at = bisect_left(ids, target_id)
    return at < len(ids) and ids[at] == target_id


def _narrow(bounds: _Bounds, ids: Sequence[str], operator: str, operand: str) -> None:
    if operator in ("$eq", "$gte"):
        bounds.start = max(bounds.start, bisect_left(ids, operand))
    if operator == "$gt":
        bounds.start = max(bounds.start, bisect_right(ids, operand))
    if operator in ("$eq", "$lte"):
        bounds.end = min(bounds.end, bisect_right(ids, operand))
    if operator == "$lt":
        bounds.end = min(bounds.end, bisect_left(ids, operand))
