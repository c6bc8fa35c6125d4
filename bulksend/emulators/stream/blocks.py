"""A million ids in order, in blocks: a change moves the ids of its own block and no others."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from itertools import accumulate
from typing import Final, overload

from bulksend.emulators.stream.collation import Rank

__all__ = ["Blocks"]

_SIZE: Final = 1_000  # at first; one of twice as many is split


class Blocks(Sequence[str]):
    """Ids that ascend by `rank`; `rows` do so already."""

    def __init__(self, rows: Sequence[str], rank: Rank) -> None:
        self._rank = rank
        self._blocks = [list(rows[start : start + _SIZE]) for start in range(0, len(rows), _SIZE)]
        self._count()

    def _count(self) -> None:
        self._starts = [0, *accumulate(map(len, self._blocks))]  # of each block, and of one after the last

    def __len__(self) -> int:
        return self._starts[-1]

    @overload
    def __getitem__(self, at: int) -> str: ...
    @overload
    def __getitem__(self, at: slice) -> list[str]: ...
    def __getitem__(self, at: int | slice) -> str | list[str]:
        if isinstance(at, slice):
            places = range(len(self))[at]
            return self._cut(places.start, places.stop) if places.step == 1 else [self[each] for each in places]
        at = range(len(self))[at]  # as a list has it: from the end below 0, and an IndexError beyond
        index = bisect_right(self._starts, at) - 1
        return self._blocks[index][at - self._starts[index]]

    def _cut(self, start: int, end: int) -> list[str]:
        first = bisect_right(self._starts, start) - 1
        rows: list[str] = []
        for index in range(first, bisect_left(self._starts, end)):
            begun = self._starts[index]
            rows += self._blocks[index][max(0, start - begun) : end - begun]
        return rows

    def change(self, added: Iterable[str], removed: Iterable[str]) -> None:
        """Put ids in that may be there already, and take others out that may not."""
        for each in added:
            self._change(each, wanted=True)
        for each in removed:
            self._change(each, wanted=False)
        self._count()

    def _change(self, target_id: str, *, wanted: bool) -> None:
        rank, blocks, sought = self._rank, self._blocks, self._rank(target_id)
        if not blocks:
            blocks.append([])
            index = 0
        else:
            index = min(bisect_left(blocks, sought, key=lambda block: rank(block[-1])), len(blocks) - 1)
        block = blocks[index]
        at = bisect_left(block, sought, key=rank)
        there = at < len(block) and block[at] == target_id
        if wanted and not there:
            block.insert(at, target_id)
        elif there and not wanted:
            del block[at]
        if not block:
            del blocks[index]
        elif len(block) >= 2 * _SIZE:
            blocks[index : index + 1] = [block[:_SIZE], block[_SIZE:]]
