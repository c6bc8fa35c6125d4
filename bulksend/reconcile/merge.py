"""A page of a segment against the desired ids around it: set operations on what is in order, page by page."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from itertools import filterfalse, islice
from operator import le, lt
from typing import Protocol

from bulksend.reconcile.difference import Line, Mark

__all__ = ["Blocks", "Merge", "OutOfOrderError"]

LINE_IDS = 10_000
"""About so many ids stand in one line."""


class Blocks(Protocol):
    """Distinct ids in ascending order by code point, a block at a time; `DesiredIds` is one."""

    @property
    def count(self) -> int:
        """Return how many ids there are."""

    @property
    def fingerprint(self) -> str:
        """Return a text that the same ids have, and no others."""

    @property
    def blocks(self) -> int:
        """Return how many blocks there are."""

    def block(self, number: int) -> list[str]:
        """Return the ids of a block."""

    def last(self, number: int) -> str:
        """Return the last id of a block."""


class OutOfOrderError(Exception):
    """The vendor's order is not that of code points: what was compared in order may be wrong."""


class Merge:
    """Compares the pages of one span, which ascend, with the desired ids in it; holds one block of these.

    The span is the desired blocks from `first` up to but without `end`: every id after the last one before them, up to
    their last one; a span that ends with the last block has no end. `after` is the last id that was compared already.
    """

    def __init__(self, desired: Blocks, first: int, end: int, *, after: str | None) -> None:
        self._desired = desired
        self._above = desired.last(first - 1) if first else None
        self._most = desired.last(end - 1) if end < desired.blocks else None
        self._last = self._above if after is None else after
        self._block = first
        if self._last is not None:
            while self._block < end and desired.last(self._block) <= self._last:
                self._block += 1
        self._end = end
        self._after = self._last
        """Set until the first block is looked at."""
        self._before: list[str] = []
        """The page before."""
        self._ids: list[str] = []
        self._at = 0

    def page(self, ids: list[str], mark: Mark, *, ends: bool) -> Iterator[Line]:
        """Yield what a page has to change, the last line with the mark; `ends` says that it is the span's last page.

        An id that comes twice in a row, or once more at the beginning of the next page, counts once. Raises
        OutOfOrderError for one that comes before its turn, or is not of the span.
        """
        ids = self._in_order(ids)
        if ids:
            self._last, self._before = ids[-1], ids
        upto = self._most if ends else self._last
        remote = set(ids)
        add: list[str] = []
        if ends or self._last is not None:
            for piece in self._pieces(upto):
                # A piece ascends, and none of it is in another: what is taken out of the set is not asked for again.
                add += filterfalse(remote.__contains__, piece)
                remote.difference_update(piece)
                if len(add) >= LINE_IDS:
                    yield Line(add=add)
                    add = []
        made = Mark(mark.pages, mark.count + len(ids), self._last, mark.following, mark.unnamed)
        yield Line(add=add, remove=sorted(remote), mark=made)

    def _in_order(self, ids: list[str]) -> list[str]:
        """Return the ids without those that are doubled; raise where they do not ascend."""
        if not all(map(lt, ids, islice(ids, 1, None))):
            if not all(map(le, ids, islice(ids, 1, None))):
                raise OutOfOrderError
            ids = list(dict.fromkeys(ids))
        if not ids:
            return ids
        if self._last is not None and ids[0] <= self._last:
            # A page may begin with the end of the page before, or of the span before, where others add targets.
            start = bisect_right(ids, self._last)
            if not {self._last, *self._before}.issuperset(ids[:start]):
                raise OutOfOrderError
            ids = ids[start:]
        if ids and self._most is not None and ids[-1] > self._most:
            raise OutOfOrderError
        return ids

    def _pieces(self, upto: str | None) -> Iterator[list[str]]:
        """Yield the desired ids that were not compared yet, up to `upto`, or to the end of the span."""
        while True:
            if self._at == len(self._ids):
                if self._block == self._end:
                    return
                self._ids = self._desired.block(self._block)
                self._block += 1
                self._at = 0 if self._after is None else bisect_right(self._ids, self._after)
                self._after = None
            end = len(self._ids) if upto is None else bisect_right(self._ids, upto, self._at)
            piece, self._at = self._ids[self._at : end], end
            if piece:
                yield piece
            if self._at < len(self._ids):
                return
