"""Rows of an audience written again, each with what became of it: CSV, JSON Lines or Parquet."""

from __future__ import annotations

import gzip
import re
import shutil
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

import msgspec

from bulksend.errors import RunError
from bulksend.job.whole_rows import ADDED, Keyed, WholeRows

__all__ = ["Mark", "RowFile", "row_file"]

_PARTS = ",;\t|"
"""What may part the columns of CSV; the reader counts them in the header."""


class Mark(NamedTuple):
    """What became of a row."""

    state: str
    reason: str | None
    status: int | None


class RowFile(Protocol):
    """Takes every batch of the audience in order, and keeps the rows that have a mark; everything blocks."""

    def rows(self) -> Iterator[Keyed]:
        """Yield the audience in the form that `write` takes."""

    def write(self, batch: Keyed, marks: Mapping[str, Mark]) -> int:
        """Write those rows whose key has a mark; returns how many."""

    def finish(self) -> None:
        """Write what waits."""


def row_file(rows: WholeRows, kind: str, stream: BinaryIO, *, packed: bool, scratch: Path) -> RowFile:
    """Begin a file of one of the kinds; `packed` for gzip."""
    if kind == "parquet":
        return _Parquet(rows, stream, scratch)
    file: BinaryIO = gzip.GzipFile(fileobj=stream, mode="wb", mtime=0) if packed else stream  # type: ignore[assignment]
    made = _Csv(rows, file) if kind == "csv" else _Jsonl(rows, file)
    if packed:
        made.close = file.close
    return made


class _Lines(ABC):
    """A file of lines; those of the rows that are kept are made by `line`."""

    close: Callable[[], None] | None = None

    def __init__(self, rows: WholeRows, file: BinaryIO) -> None:
        self._rows = rows
        self._file = file

    def write(self, batch: Keyed, marks: Mapping[str, Mark]) -> int:
        lines = [self.line(row, marks[key]) for key, row in batch if key is not None and key in marks]
        self._file.write(b"".join(lines))
        return len(lines)

    @abstractmethod
    def line(self, row: object, mark: Mark) -> bytes:
        """Return one row, as its audience wrote it, with what became of it."""

    def finish(self) -> None:
        if self.close is not None:
            self.close()


class _Csv(_Lines):
    def __init__(self, rows: WholeRows, file: BinaryIO) -> None:
        super().__init__(rows, file)
        self._delimiter = rows.delimiter or ","
        header = (_quoted(name, _PARTS) for name in rows.described())
        file.write((self._delimiter.join(header) + "\n").encode())

    def rows(self) -> Iterator[Keyed]:
        return self._rows.cells()

    def line(self, row: object, mark: Mark) -> bytes:
        assert isinstance(row, list)
        return _csv_line([*row, *_texts(mark)], self._delimiter)


class _Jsonl(_Lines):
    def rows(self) -> Iterator[Keyed]:
        return self._rows.objects()

    def line(self, row: object, mark: Mark) -> bytes:
        assert isinstance(row, dict)
        return msgspec.json.encode({**row, **dict(zip(ADDED, mark, strict=True))}, enc_hook=str) + b"\n"


class _Parquet:
    """Notes in a file beside the audience which of its rows are kept; DuckDB then writes them in one go."""

    def __init__(self, rows: WholeRows, stream: BinaryIO, scratch: Path) -> None:
        self._rows = rows
        self._stream = stream
        self._scratch = scratch
        self._marks = (scratch / "marks.csv").open("wb")
        self._written = 0

    def rows(self) -> Iterator[Keyed]:
        return self._rows.row_keys()

    def write(self, batch: Keyed, marks: Mapping[str, Mark]) -> int:
        found = [None if key is None else marks.get(key) for key, _ in batch]
        self._marks.write(b"".join(b",,,\n" if one is None else _csv_line(["1", *_texts(one)], ",") for one in found))
        number = sum(one is not None for one in found)
        self._written += number
        return number

    def finish(self) -> None:
        self._marks.close()
        made = self._scratch / "rows.parquet"
        if self._rows.copy_parquet(self._scratch / "marks.csv", made) != self._written:
            raise RunError(f"the rows of {self._rows.label} changed while they were read; nothing was written")
        with made.open("rb") as file:
            shutil.copyfileobj(file, self._stream)


def _texts(mark: Mark) -> Iterable[str]:
    return mark.state, mark.reason or "", "" if mark.status is None else str(mark.status)


def _csv_line(cells: Sequence[str], delimiter: str) -> bytes:
    return (delimiter.join(_quoted(cell, delimiter) for cell in cells) + "\n").encode()


def _quoted(cell: str, parts: str) -> str:
    """Write a cell so that it is read back as it is: not with `csv`, which leaves a lone carriage return bare."""
    if cell and (cell[0].isspace() or cell[-1].isspace() or re.search(f'["\r\n{re.escape(parts)}]', cell)):
        return '"' + cell.replace('"', '""') + '"'
    return cell
