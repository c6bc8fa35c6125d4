"""The files behind a table that a job names: found, told apart by ending, and searched for a broken line.

Knows nothing of DuckDB beyond the text of its reader functions; DuckDB reads the rows, this file what it must be told.
"""

from __future__ import annotations

import csv
import glob
import gzip
import io
import itertools
import os
import re
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import msgspec

from bulksend.errors import JobError, Problem

__all__ = ["ENDINGS", "MAX_LINE", "TableFiles", "find_files", "literal", "objects"]

ENDINGS = {
    ".csv": "csv",
    ".csv.gz": "csv",
    ".jsonl": "jsonl",
    ".jsonl.gz": "jsonl",
    ".ndjson": "jsonl",
    ".parquet": "parquet",
}
MAX_LINE = 1 << 20
"""Bytes of one CSV line or JSON object; DuckDB's read buffers are a small multiple of it."""

_HEADER_MAX = 1 << 20
_UNREADABLE = (OSError, EOFError, zlib.error)
"""What the disk has against reading on, or gzip."""
_DELIMITERS = ",;\t|"
_GLOB = re.compile(r"([*?[])")
_BUFFERS = f"max_line_size={MAX_LINE}, buffer_size={2 * MAX_LINE}"
_CSV_OPTIONS = (
    f"quote='\"', escape='\"', header=true, auto_detect=false, nullstr='', strict_mode=true, null_padding=false, "
    f"ignore_errors=false, {_BUFFERS}"
)
_decode = msgspec.json.Decoder(dict[str, Any]).decode


def literal(text: str) -> str:
    """Return an SQL text literal."""
    return "'" + text.replace("'", "''") + "'"


@dataclass(frozen=True, slots=True)
class TableFiles:
    """The files of one table, all of one kind, sorted by path; `shown` is what problems call each.

    `columns` and `delimiter` are of the CSV header, the same in every file; other kinds leave them empty.
    """

    name: str
    kind: str
    paths: tuple[Path, ...]
    shown: tuple[str, ...]
    columns: tuple[str, ...] = ()
    delimiter: str = ""

    @property
    def sql_paths(self) -> list[str]:
        """The paths as DuckDB must be given them: what would be a glob there is written so that it is none."""
        return [_GLOB.sub(r"[\1]", str(path)) for path in self.paths]

    def csv_reader(self, names: list[str]) -> str:
        """Return the call that reads every CSV column as text under these names, in the order of the files."""
        columns = ", ".join(f"{literal(name)}: 'VARCHAR'" for name in names)
        return f"read_csv({self._list()}, columns={{{columns}}}, delim={literal(self.delimiter)}, {_CSV_OPTIONS})"

    def parquet_reader(self) -> str:
        """Return the call that reads the typed values of Parquet files."""
        return f"read_parquet({self._list()})"

    def objects_reader(self) -> str:
        """Return the query that gives each line of JSON Lines as text, in a column `json`; without blank lines.

        Not read_ndjson_objects, which takes 32 MB for its buffer. No raw control character stands in valid JSON,
        so that one of them as the delimiter leaves the lines whole.
        """
        options = "delim='\x01', quote='', escape='', header=false, auto_detect=false, strict_mode=true"
        reader = f"read_csv({self._list()}, columns={{'json': 'VARCHAR'}}, {options}, {_BUFFERS})"
        return f"(select json from {reader} where trim(json, ' \t\r') <> '')"  # noqa: S608 - paths, quoted

    def json_reader(self) -> str:
        """Return the call that reads JSON objects into columns, typed by all of their values."""
        options = "format='newline_delimited', sample_size=-1, union_by_name=true"
        return f"read_json({self._list()}, {options})"

    def _list(self) -> str:
        return "[" + ", ".join(literal(path) for path in self.sql_paths) + "]"

    def object_names(self, most: int) -> tuple[str, ...]:
        """Return the names in the first `most` JSON objects, as they appear; raises JobError when there are none."""
        names: dict[str, None] = {}
        files = zip(self.paths, self.shown, strict=True)
        first = itertools.islice(itertools.chain.from_iterable(objects(path, shown) for path, shown in files), most)
        for seen in first:
            names.update(dict.fromkeys(seen))
        if not names:
            raise JobError(Problem("is empty; it must hold one JSON object per line", file=self.name))
        return tuple(names)

    def find_fault(self) -> Problem | None:
        """Read the files until a line that cannot be right, and say where it is; None when all look right.

        Done only after DuckDB has refused a file: its own messages quote the line. The text never does.
        """
        for path, shown in zip(self.paths, self.shown, strict=True):
            try:
                if self.kind == "csv":
                    _check_csv(path, shown, self.delimiter, len(self.columns))
                elif self.kind == "jsonl":
                    for _ in objects(path, shown):
                        pass
            except JobError as wrong:
                return wrong.problems[0]
        return None


def find_files(name: str, base_dir: Path) -> TableFiles:
    """Return the files that a text of the job names, relative to `base_dir`: one file, or those of a glob.

    Raises JobError for a URL, a directory, an ending that is not one of `ENDINGS`, nothing found, or CSV headers that
    are broken or differ.
    """

    def wrong(text: str) -> JobError:
        return JobError(Problem(text, file=name))

    if "://" in name:
        raise wrong("is a URL; only files of this machine are read")
    if name.startswith("~"):
        raise wrong("begins with ~; write the path from the job file, or the whole path")
    if not name.strip() or "\0" in name:
        raise wrong("is not a file name")
    path = base_dir.absolute() / name
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError):
        pass  # a glob, or told below
    except OSError as error:
        raise wrong(f"cannot be read: {error.strerror}") from None
    if path.is_dir():
        raise wrong("is a directory; name the files in it, such as " + f"{name.rstrip('/')}/*.csv")
    if path.exists() or not _GLOB.search(name):
        paths, shown = [path], [name]
    else:
        # Not Path.glob, which takes no absolute pattern; root_dir leaves an absolute one as it is.
        found = sorted(glob.glob(name, root_dir=base_dir, recursive=True))  # noqa: PTH207
        paths = [file for file in (base_dir.absolute() / one for one in found) if not file.is_dir()]
        shown = [os.path.relpath(file, base_dir.absolute()) for file in paths]
        if not paths:
            raise wrong("no file matches")
    kinds = {_kind(path.name) for path in paths}
    if None in kinds:
        raise wrong(f"has an ending that is not known; accepted are {' '.join(ENDINGS)}")
    if len(kinds) > 1:
        raise wrong(f"matches files of several kinds ({', '.join(sorted(map(str, kinds)))}); name those of one kind")
    if not paths[0].exists():
        raise wrong(f"file not found (looked in {path.parent})")
    for path, one in zip(paths, shown, strict=True):
        try:
            path.open("rb").close()
        except OSError as error:
            raise JobError(Problem(f"cannot be read: {error.strerror}", file=one)) from None
    kind = kinds.pop()
    assert kind is not None
    files = TableFiles(name, kind, tuple(paths), tuple(shown))
    return _with_header(files) if kind == "csv" else files


def _kind(name: str) -> str | None:
    lower = name.lower()
    return next((kind for ending, kind in ENDINGS.items() if lower.endswith(ending)), None)


def _open(path: Path) -> IO[bytes]:
    return gzip.open(path, "rb") if path.name.lower().endswith(".gz") else path.open("rb")  # type: ignore[return-value]


def _with_header(files: TableFiles) -> TableFiles:
    """Read the header of every CSV file."""
    headers = [_read_header(path, shown) for path, shown in zip(files.paths, files.shown, strict=True)]
    for shown, header in zip(files.shown, headers, strict=True):
        if header != headers[0]:
            text = f"its header is not the same as that of {files.shown[0]}"
            raise JobError(Problem(text, file=shown, line=1))
    delimiter, columns = headers[0]
    return TableFiles(files.name, files.kind, files.paths, files.shown, columns, delimiter)


def _read_header(path: Path, shown: str) -> tuple[str, tuple[str, ...]]:
    """Return the delimiter and the column names of a CSV file."""

    def wrong(text: str) -> JobError:
        return JobError(Problem(text, file=shown, line=1))

    try:
        with _open(path) as stream:
            start = stream.read(_HEADER_MAX).removeprefix(b"\xef\xbb\xbf")
    except (*_UNREADABLE, ValueError):
        raise JobError(Problem("cannot be unpacked", file=shown)) from None
    if not start.strip():
        raise JobError(Problem("is empty; its first line must hold the column names", file=shown))
    # Blank out what is quoted, so that the delimiter and the end of the line are looked for outside of quotes.
    bare = re.sub(rb'"[^"]*("|\Z)', lambda quoted: b"_" * len(quoted[0]), start)
    end = re.search(rb"[\r\n]", bare)
    if end is None and len(start) >= _HEADER_MAX:
        raise wrong("its first line is longer than 1 MB; it must hold the column names")
    size = len(start) if end is None else end.start()
    try:
        header, outside = start[:size].decode(), bare[:size].decode()
    except UnicodeDecodeError:
        raise wrong("is not UTF-8 text") from None
    counts = Counter({each: outside.count(each) for each in _DELIMITERS if each in outside}).most_common(2)
    if len(counts) > 1 and counts[0][1] == counts[1][1]:
        marks = " and ".join("tab" if mark == "\t" else mark for mark, _ in counts)
        raise wrong(f"{marks} stand equally often between its column names: which one parts them?")
    delimiter = counts[0][0] if counts else ","
    try:
        cells = next(csv.reader(io.StringIO(header, newline=""), delimiter=delimiter, strict=True), [])
    except csv.Error:
        raise wrong("its header has a quote that is not closed") from None
    columns = tuple(cell.strip() for cell in cells)
    if not any(columns):
        raise wrong("has no column names; they must be its first line")
    if "" in columns:
        raise wrong(f"column {columns.index('') + 1} of its header has no name")
    twice = [name for name, times in Counter(columns).items() if times > 1]
    if twice:
        raise wrong(f"its header names {twice[0]!r} twice")
    return delimiter, columns


def _check_csv(path: Path, shown: str, delimiter: str, columns: int) -> None:
    """Raise JobError at the first record of a CSV file that has not this many columns, or cannot be parted at all."""
    line = 1

    def wrong(text: str) -> JobError:
        return JobError(Problem(text, file=shown, line=line))

    try:
        with _open(path) as stream, io.TextIOWrapper(stream, "utf-8-sig", "surrogateescape", newline="") as text:
            reader = csv.reader(text, delimiter=delimiter, strict=True)
            for cells in reader:
                if cells and len(cells) != columns:
                    raise wrong(f"expected {columns} columns, found {len(cells)}")
                joined = "".join(cells)
                if not joined.isascii():
                    joined.encode()
                if len(joined) > MAX_LINE:
                    raise wrong("is longer than 1 MB")
                line = reader.line_num + 1
    except UnicodeEncodeError:
        raise wrong("is not UTF-8 text") from None
    except csv.Error as error:
        if "field limit" in str(error):
            raise wrong("has a quote that is not closed, or a cell over 128 KB") from None
        if "unexpected end" in str(error):
            raise wrong("has a quote that is not closed") from None
        raise wrong("has text after a closing quote (a quote inside a cell is written twice)") from None
    except _UNREADABLE:
        raise wrong("cannot be read further") from None


def objects(path: Path, shown: str) -> Iterator[dict[str, Any]]:
    """Yield the objects of a JSON Lines file; raises JobError, with its line, for a line that is not one object."""
    with _open(path) as stream:
        line = 0
        while True:
            line += 1
            try:
                text = stream.readline(MAX_LINE + 1)
            except _UNREADABLE:
                raise JobError(Problem("cannot be read further", file=shown, line=line)) from None
            if not text:
                return
            if len(text) > MAX_LINE:
                raise JobError(Problem("is longer than 1 MB", file=shown, line=line))
            if text.isspace():
                continue
            try:
                yield _decode(text)
            except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                raise JobError(Problem("is not a JSON object", file=shown, line=line)) from None
