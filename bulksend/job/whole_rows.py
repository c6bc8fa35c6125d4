"""The rows of an audience as they stand in it, every column: to be written again in the same form."""

# ruff: noqa: S608 - the parts put in are made here or quoted; no values of rows are among them

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import msgspec

from bulksend.errors import JobError, Problem
from bulksend.job.audience import Audience
from bulksend.job.duck import quoted
from bulksend.job.tables import MAX_LINE, literal
from bulksend.job.template import _as_json, _as_text

__all__ = ["ADDED", "Keyed", "WholeRows"]

ADDED = ("bulksend_state", "bulksend_reason", "bulksend_status")
"""Columns that tell what became of a row; those of an earlier round are left out of what is read."""
ROW_GROUP = 10_000
"""Rows of Parquet that are in memory until they are written."""
_MEMORY = "256MB"
"""While Parquet is written: a row group that is read must fit, however large another program made it."""

Keyed = list[tuple[str | None, Any]]
"""Rows with their keys as the ledger has them; a blank key is None, and no send's."""

_decode_raw = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode


class WholeRows(Audience):
    """An audience whose rows come in full, in its order, batch by batch."""

    @property
    def kind(self) -> str:
        """Return `csv`, `jsonl` or `parquet`; `sql` for the rows of a query, which have no file of their own."""
        return "sql" if self.label == "sql" else self._connection.files[0].kind

    @property
    def files(self) -> list[Path]:
        """Return the files that are read."""
        return [path for files in self._connection.files for path in files.paths]

    @property
    def delimiter(self) -> str:
        """Return what parts the columns of CSV."""
        return self._connection.files[0].delimiter if self.kind == "csv" else ","

    @property
    def kept(self) -> tuple[str, ...]:
        """Return the columns without those of an earlier round, which DuckDB would not tell apart by case."""
        return tuple(name for name in self.columns if name.casefold() not in ADDED)

    def cells(self, batch: int = 1000) -> Iterator[Keyed]:
        """Yield the texts of each row's kept columns, as `${column}` would put them into a text."""
        for found in self.rows((self.key, *self.kept), batch=batch):
            yield [(_key(row[0]), [_text(value) for value in row[1:]]) for row in found]

    def objects(self, batch: int = 1000) -> Iterator[Keyed]:
        """Yield each row as an object; the values of JSON Lines are the bytes that stand there."""
        if self.kind != "jsonl":
            for found in self.rows((self.key, *self.kept), batch=batch):
                named = (dict(zip(self.kept, map(_as_json, row[1:]), strict=True)) for row in found)
                yield [(_key(row[0]), value) for row, value in zip(found, named, strict=True)]
            return
        number = 0
        for found in self._connection.stream(f"select json from {self._relation}", batch):
            keyed: Keyed = []
            for (text,) in found:
                number += 1
                try:
                    read = _decode_raw(text)  # type: ignore[arg-type]
                    key = msgspec.json.decode(read[self.key]) if self.key in read else None
                except (msgspec.DecodeError, RecursionError):
                    raise JobError(Problem("is not a JSON object", file=self.label, row=number)) from None
                keyed.append((_key(key), {name: raw for name, raw in read.items() if name.casefold() not in ADDED}))
            yield keyed

    def row_keys(self, batch: int = 1000) -> Iterator[Keyed]:
        """Yield the keys alone."""
        for found in self._connection.stream(f"select {self._keys.text} from {self._relation}", batch):
            yield [(_key(key), None) for (key,) in found]

    def copy_parquet(self, marks: Path, to: Path) -> int:
        """Write the marked rows with DuckDB's own types; returns how many.

        `marks` is a CSV file without a header, a line per row of the audience, empty or of a 1, state, reason and
        status. Both files are inside `scratch_dir`. The two are walked side by side: nothing is sorted or joined.
        """
        types = {"chosen": "VARCHAR", **dict.fromkeys(ADDED[:2], "VARCHAR"), ADDED[2]: "BIGINT"}
        columns = ", ".join(f"{literal(name)}: {literal(kind)}" for name, kind in types.items())
        reader = (
            f"read_csv({literal(str(marks.absolute()))}, columns={{{columns}}}, header=false, auto_detect=false, "
            f"delim=',', quote='\"', escape='\"', nullstr='', max_line_size={MAX_LINE}, buffer_size={2 * MAX_LINE})"
        )
        chosen = ", ".join([*(f"a.{quoted(name)}" for name in self.kept), *(f"m.{name}" for name in ADDED)])
        rows = f"select {chosen} from {self._relation} a positional join {reader} m where m.chosen is not null"
        options = f"format parquet, row_group_size {ROW_GROUP}"
        self._connection.execute(f"set memory_limit = '{_MEMORY}'")
        ((count,),) = self._connection.all(f"copy ({rows}) to {literal(str(to.absolute()))} ({options})")
        return int(count)

    def described(self) -> Sequence[str]:
        """Return the names of what is written: the kept columns and those that are added."""
        return (*self.kept, *ADDED)


def _key(value: object) -> str | None:
    return None if value is None else str(value)


def _text(value: object) -> str:
    if value is None:
        return ""
    text = _as_text(value)
    if text is not None:
        return text
    return msgspec.json.encode(_as_json(value), enc_hook=str).decode()
