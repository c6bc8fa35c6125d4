"""A step as a text with holes: what a provider writes for a row, learnt from two rows that are made up.

The provider stays the one that knows how a body is written. What it writes for a row of marks shows where each column
goes; a row of other cells under another key shows that nothing else of the step comes from the row.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Self

import msgspec
import orjson

from bulksend.job.texts import Columns
from bulksend.model import Step

__all__ = ["Mould"]

_FIRST_MARK = 0xE100
"""Marks are characters of the private use area, one for each column."""
_MARKS = re.compile("([\ue100-\uf8ff])")
_COLUMNS_MOST = 0xF8FF - _FIRST_MARK
_ESCAPED = re.compile(r'["\\\x00-\x1f]')

Make = Callable[[Sequence[str], str], tuple[Step, Mapping[str, object]] | None]
"""Makes a step of a row's cells and the send's key, and says what the provider was given to write."""


class Mould:
    """Makes the steps of rows whose cells are texts that nothing is wrong with."""

    __slots__ = ("_order", "_step", "_text", "body", "tail")

    def __init__(self, step: Step, text: str, order: tuple[int, ...], body: Mapping[str, object]) -> None:
        self._step = step
        self._text = text
        self._order = order
        self.body = body
        """What the provider was given for the row of marks."""
        self.tail = (step.ref or "").encode() + (step.path or "").encode()
        """What a send's fingerprint is made of beside the body."""

    @classmethod
    def cast(cls, make: Make, columns: int) -> Self | None:
        """Return the mould; None where the step does not follow from the cells alone, or not as text put in."""
        if columns > _COLUMNS_MOST:
            return None
        marks = [chr(_FIRST_MARK + index) for index in range(columns)]
        cells = [f"{index}\\" for index in range(columns)]
        marked, other = make(marks, "a"), make(cells, "b")
        if marked is None or other is None:
            return None
        step, body = marked
        pieces = _MARKS.split(step.body.decode())
        order = tuple(ord(mark) - _FIRST_MARK for mark in pieces[1::2])
        if any(index >= columns for index in order):
            return None
        text = "%s".join(piece.replace("%", "%%") for piece in pieces[::2])
        mould = cls(step, text, order, body)
        (filled,) = mould.bodies([[cell] for cell in cells], 1)
        is_same = mould.steps([filled]) == [other[0]] and not _MARKS.search(filled.decode())
        return mould if is_same else None

    def bodies(self, columns: Columns, rows: int) -> list[bytes]:
        """Return the rows' bodies."""
        if not self._order:
            return [self._step.body] * rows
        within = {index: _in_json(columns[index]) for index in set(self._order)}
        filled = map(self._text.__mod__, zip(*(within[index] for index in self._order), strict=True))
        return list(map(str.encode, filled))

    def steps(self, bodies: Sequence[bytes]) -> list[Step]:
        """Return the step of each body."""
        _, _, ref, path, every_s, not_after = msgspec.structs.astuple(self._step)
        endpoint = self._step.endpoint
        return [Step(endpoint, body, ref, path, every_s, not_after) for body in bodies]


def _in_json(cells: Sequence[str]) -> Sequence[str]:
    """Write texts as they stand within a text of JSON."""
    if _ESCAPED.search("".join(cells)) is None:
        return cells
    return [orjson.dumps(cell).decode()[1:-1] if _ESCAPED.search(cell) else cell for cell in cells]
