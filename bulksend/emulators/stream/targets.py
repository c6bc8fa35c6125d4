"""The members of a segment: changed in sets of thousands, and paged in the order of their ids among a million."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from bulksend.emulators.stream.answers import RefusedError
from bulksend.emulators.stream.blocks import Blocks
from bulksend.emulators.stream.collation import Rank, by_code_point
from bulksend.emulators.stream.filters import Field, as_text, build_filter
from bulksend.emulators.stream.pages import Ask, Page, read_order

__all__ = ["Targets", "page_of_ids"]

# The specification declares none; a type of the JavaScript SDK has the first four. UNCONFIRMED: the others.
_OPERATORS: Final = frozenset({"$eq", "$gte", "$in", "$lte", "$gt", "$lt"})
_TARGET_ID: Final = "target_id"
_FEW: Final = 16  # one in so many, or fewer, are few


class Targets:
    """A set of ids with the moment when each was added, put in the order of `rank` when it is next asked for."""

    def __init__(self, rank: Rank = by_code_point) -> None:
        self._rank = rank
        self._added: dict[str, int] = {}
        self._sorted = Blocks((), rank)
        self._touched: set[str] = set()  # added or removed since the last sort

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
        self._touched.update(new)
        return len(new)

    def remove(self, target_ids: Iterable[str]) -> int:
        """Remove those that are there, and return how many these were."""
        gone = [each for each in target_ids if self._added.pop(each, None) is not None]
        self._touched.update(gone)
        return len(gone)

    def ordered(self) -> Sequence[str]:
        """Return the ids, ascending by `rank`; few that were touched are put in their places, for more all are sorted.

        What is returned holds until the next change.
        """
        touched, added = self._touched, self._added
        if not touched:
            return self._sorted
        if len(touched) * _FEW <= len(self._sorted):
            self._sorted.change(
                (each for each in touched if each in added), (each for each in touched if each not in added)
            )
        else:
            rows = [each for each in self._sorted[:] if each not in touched]
            rows += (each for each in touched if each in added)
            rows.sort(key=self._rank)  # merges what is in order already
            self._sorted = Blocks(rows, self._rank)
        self._touched = set()
        return self._sorted


@dataclass(slots=True)
class _Found:
    """The ids from `start` to before `end`, none of them copied: there may be a million."""

    ids: Sequence[str]
    start: int
    end: int


def page_of_ids(ids: Sequence[str], ask: Ask, rank: Rank = by_code_point) -> Page[str]:
    """Return a page of `ids`, which ascend by `rank`; the plain ranges of the filter are found without a scan."""
    order = read_order(ask.sort, (_TARGET_ID,))
    descending = bool(order) and order[0][1]
    found = _find(ids, ask.filter, rank)
    upward = ask.backward is descending  # whether the page lies above the row where it begins
    if ask.anchor is None:
        at = found.start if upward else found.end
    elif len(ask.anchor) == 1 and isinstance(ask.anchor[0], str):
        bisect = bisect_right if upward else bisect_left
        at = bisect(found.ids, rank(ask.anchor[0]), found.start, found.end, key=rank)
    else:
        raise RefusedError("next or prev is not a cursor of this query")
    low, high = (at, min(found.end, at + ask.limit)) if upward else (max(found.start, at - ask.limit), at)
    rows, before, after = list(found.ids[low:high]), low > found.start, high < found.end
    if descending:
        rows.reverse()
        before, after = after, before
    following = ask.cursor([rows[-1]], backward=False) if rows and after else None
    preceding = ask.cursor([rows[0]], backward=True) if rows and before else None
    return Page(rows, following, preceding)


def _find(ids: Sequence[str], given: object, rank: Rank) -> _Found:
    fields: Mapping[str, Field[str]] = {_TARGET_ID: Field(_OPERATORS, as_text, lambda each: each, rank)}
    passes = build_filter(given, fields.get)  # before anything else: it refuses what is not a filter
    found = _Found(ids, 0, len(ids))
    if not isinstance(given, dict) or not given:
        return found
    asked = given.get(_TARGET_ID)
    conditions = asked if isinstance(asked, dict) else {} if asked is None else {"$eq": asked}
    for operator, operand in conditions.items():
        if isinstance(operand, str):
            _narrow(found, operator, operand, rank)
    if "$in" in conditions:
        wanted = sorted(set(conditions["$in"]), key=rank)
        rows = [each for each in wanted if _is_among(found, each, rank)]
        found = _Found(rows, 0, len(rows))
    if len(given) == 1 and conditions:
        return found
    rows = [each for each in found.ids[found.start : found.end] if passes(each)]
    return _Found(rows, 0, len(rows))


def _is_among(found: _Found, target_id: str, rank: Rank) -> bool:
    at = bisect_left(found.ids, rank(target_id), found.start, found.end, key=rank)
    return at < found.end and found.ids[at] == target_id


def _narrow(found: _Found, operator: str, operand: str, rank: Rank) -> None:
    if operator in ("$eq", "$gte"):
        found.start = max(found.start, bisect_left(found.ids, rank(operand), key=rank))
    if operator == "$gt":
        found.start = max(found.start, bisect_right(found.ids, rank(operand), key=rank))
    if operator in ("$eq", "$lte"):
        found.end = min(found.end, bisect_right(found.ids, rank(operand), key=rank))
    if operator == "$lt":
        found.end = min(found.end, bisect_left(found.ids, rank(operand), key=rank))
