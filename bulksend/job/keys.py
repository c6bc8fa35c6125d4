"""What is looked for in the keys of an audience, as SQL over its rows; DuckDB is not known here, only its language."""

# ruff: noqa: S608 - the parts put in are made here or quoted by `literal`; no values of rows are among them

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from bulksend.job.tables import MAX_LINE, literal

__all__ = ["KEY_RULE", "KEY_TYPES", "Duplicate", "KeyCheck", "KeyColumn", "KeySizes", "members"]

KEY_TYPES = re.compile(
    r"VARCHAR|U?(TINY|SMALL|BIG|HUGE)INT|U?INTEGER|DATE|UUID|DECIMAL\(\d+,\s?0\)|ENUM\(.*", re.DOTALL
)
"""Types whose text is the same in DuckDB and in Python."""
KEY_RULE = "a key must be text or a whole number"
_SPACE = "".join(chr(code) for code in range(0x3001) if chr(code).isspace())
_BLANK = (
    # To trim every key would take longer than to sort them.
    f"case when k is null then true when contains({literal(_SPACE)}, left(k, 1)) then trim(k, {literal(_SPACE)}) = '' "
    "else false end"
)


@dataclass(frozen=True, slots=True)
class Duplicate:
    """A key that stands in more than one row: the first two of them, counted from 1."""

    key: str
    first_row: int
    second_row: int


@dataclass(frozen=True, slots=True)
class KeyCheck:
    """What is wrong with the keys; the tuples hold the first few in the order of (second) rows, the counts all.

    `duplicate_count` counts keys, not rows.
    """

    rows: int
    duplicates: tuple[Duplicate, ...]
    duplicate_count: int
    blank_rows: tuple[int, ...]
    blank_count: int


@dataclass(frozen=True, slots=True)
class KeySizes:
    """How much the keys are, and which are no ids; the tuples hold the first few rows in order, the counts all.

    `size` is their bytes in UTF-8. A blank key is never counted as too long.
    """

    rows: int
    size: int
    blank_rows: tuple[int, ...]
    blank_count: int
    long_rows: tuple[int, ...]
    long_count: int


@dataclass(frozen=True, slots=True)
class KeyColumn:
    """The key of a relation: `text` is its expression as text. For raw JSON objects, `pointer` leads to it.

    The queries sort no more than a hash of 128 bits and a row number, so that they spill well: a sort as wide as
    the keys needs memory that grows with the rows.
    """

    relation: str
    text: str
    name: str
    pointer: str | None = None

    @property
    def _keys(self) -> str:
        return f"select {self.text} as k, row_number() over () as r from {self.relation}"

    def counts(self, most: int) -> str:
        """Query (rows, blank keys, the first blank rows, first row with a key of a wrong type, first with two keys)."""
        return self._counted(f"count(*), count(*) filter ({_BLANK}), min(r, {most}) filter ({_BLANK})")

    def sizes(self, most: int, most_chars: int | None) -> str:
        """Query (rows, bytes, blank keys, their first rows, too long keys, theirs) and two wrong rows, as `counts`."""
        long = "false" if most_chars is None else f"length(k) > {most_chars} and not ({_BLANK})"
        blank_keys = f"count(*) filter ({_BLANK}), min(r, {most}) filter ({_BLANK})"
        long_keys = f"count(*) filter ({long}), min(r, {most}) filter ({long})"
        return self._counted(f"count(*), coalesce(sum(strlen(k)), 0), {blank_keys}, {long_keys}")

    def sample(self, rows: int) -> str:
        """Query the keys of so many rows, drawn evenly from all."""
        drawn = f"using sample reservoir({rows} rows) repeatable (1)"
        return f"select k from (select {self.text} as k from {self.relation}) {drawn}"

    def all(self) -> str:
        """Query every key that there is."""
        return f"select k from (select {self.text} as k from {self.relation}) where k is not null"

    def _counted(self, counts: str) -> str:
        if self.pointer is None:
            return f"select {counts}, null, null from ({self._keys})"
        pointer = literal(self.pointer)
        typed = f"case when json_type(json) = 'OBJECT' then json_type(json, {pointer}) else 'NO OBJECT' end as t"
        # A row holds the last of two values of the same name, DuckDB looks at the first: such an object is refused.
        twice = f"len(list_filter(json_keys(json), lambda name: name = {literal(self.name)})) > 1 as twice"
        keys = f"select {self.text} as k, row_number() over () as r, {typed}, {twice} from {self.relation}"
        odd = "min(r) filter (t not in ('VARCHAR', 'UBIGINT', 'BIGINT', 'NULL'))"
        return f"select {counts}, {odd}, min(r) filter (twice) from ({keys})"

    def duplicates(self, most: int, part: int, parts: int) -> str:
        """Query (keys that stand twice, first rows of some, second rows of the same), in the order of second rows.

        Of one part of the keys: each falls into one of `parts` by its hash.
        """
        hashed = f"select md5_number(k) as h, r from ({self._keys}) where not {_BLANK} and hash(k) % {parts} = {part}"
        neighbours = (
            f"select h, r, lag(r) over w as first, lag(h) over w as h1, lag(h, 2) over w as h2 from ({hashed}) "
            "window w as (order by h, r)"
        )
        return (
            f"select count(*), arg_min(first, r, {most}), min(r, {most}) from ({neighbours}) "
            "where h = h1 and h2 is distinct from h"
        )

    def texts(self, rows: list[int]) -> str:
        """Query (row, key) of these rows."""
        return f"select r, k from ({self._keys}) where r in ({', '.join(map(str, rows))})"

    def parted(self, parts: int) -> str:
        """Query (part, key, row) of every row that has a key."""
        return f"select hash(k) % {parts}, k, r from ({self._keys}) where k is not null"


def members(path: Path, parts: int) -> str:
    """Query (part, key, chunk) from a headerless CSV file of chunk number and key; parted as by `KeyColumn.parted`."""
    return (
        f"select hash(k) % {parts}, k, c from read_csv({literal(str(path.absolute()))}, "
        "columns={'c': 'BIGINT', 'k': 'VARCHAR'}, header=false, auto_detect=false, "
        f"delim=',', quote='\"', escape='\"', max_line_size={MAX_LINE}, buffer_size={2 * MAX_LINE})"
    )
