"""The rows of an audience, streamed from files or SQL through DuckDB; nobody else knows DuckDB.

Memory stays flat because nothing here sorts or keeps what is as wide as a row: keys are compared by a hash of 128 bits
beside the row number, in sorts that spill into the scratch directory.
"""

# ruff: noqa: S608 - the parts put in are made here or quoted; no values of rows are among them

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self

import msgspec

from bulksend.errors import JobError, Problem, RunError
from bulksend.job.buckets import Buckets, Span, bucket_count, chunk_of_rows, sorted_by_chunk
from bulksend.job.keys import KEY_RULE, KEY_TYPES, Duplicate, KeyCheck, KeyColumn
from bulksend.job.keys import members as members_query
from bulksend.job.sql import first_sentence, tables_of
from bulksend.job.tables import TableFiles, find_files, literal
from bulksend.job.values import NotAnObjectError, from_objects, with_utc

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["Audience", "Duplicate", "KeyCheck"]

Row = tuple[object, ...]

_MEMORY = "40MB"
_MEMORY_JSON = "60MB"
"""While an `sql` reads JSON Lines: DuckDB's reader takes 32 MB for its buffer."""
_MEMORY_MORE = "512MB"
"""For an `sql` that this is too little for, while it runs."""
_STREAM_BUFFER = "1MB"
_SORT_ROWS = 5_000_000
"""Rows of one sort: with more, the ends of the spilled pieces would no longer fit into the memory."""
_SAMPLE = 1000
"""Objects of a JSON Lines file that decide which columns there are."""


class Audience:
    """One table of rows in a fixed order, numbered from 1.

    Rows of files come in the order of the files (sorted by path) and of their lines. Rows of `sql` come in the order in
    which DuckDB delivered them when the audience was opened; without ORDER BY another run may number them otherwise.
    `sql` is run once, into a table that spills into `scratch_dir`, so that every method sees the same rows.

    CSV cells are text or, when empty, None. JSON values keep the type of each; a name that an object lacks is None.
    One thread at a time; an iterator of rows may stay open while other methods are called.
    """

    columns: tuple[str, ...]
    """For JSON Lines: of the first 1,000 objects, in order of appearance."""
    label: str
    """What problems call the audience: the source as written, or "sql"."""

    def __init__(self, *, base_dir: Path, source: str | None, sql: str | None, key: str, scratch_dir: Path) -> None:
        """Open it; raises JobError for whatever of the source can be seen to be wrong (`sql`: for all)."""
        if (source is None) == (sql is None):
            raise JobError("an audience has either `from` or `sql`")
        self.key = key
        self._json = False
        self._files: list[TableFiles] = []
        self._expressions: dict[str, str] = {}
        self._utc: frozenset[str] = frozenset()
        self._rows: int | None = None
        self._scratch = scratch_dir
        self.label = "sql" if source is None else source
        self._connection = _connect(scratch_dir)
        try:
            with self._translated():
                if source is not None:
                    self._open_files(source, base_dir)
                elif sql is not None:
                    self._open_sql(sql, base_dir)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Let go of the files and of what was spilled; a second time does nothing."""
        self._connection.close()

    # Opening

    def _open_files(self, source: str, base_dir: Path) -> None:
        files = find_files(source, base_dir)
        self._files = [files]
        if files.kind == "csv":
            # Short names of our own: DuckDB would not tell `City` from `city`.
            names = [f"c{number}" for number in range(len(files.columns))]
            self._relation = files.csv_reader(names)
            self._expressions = dict(zip(files.columns, names, strict=True))
            self.columns = files.columns
            self._check_key()
            self._keys = KeyColumn(self._relation, self._expressions[self.key], self.key)
        elif files.kind == "jsonl":
            self._json = True
            self._relation = files.objects_reader()
            self.columns = files.object_names(_SAMPLE)
            self._check_key()
            pointer = "/" + self.key.replace("~", "~0").replace("/", "~1")
            text = f"json_extract_string(json, {literal(pointer)})"
            self._keys = KeyColumn(self._relation, text, self.key, pointer)
        else:
            self._relation = files.parquet_reader()
            self._typed_columns(self._parquet_columns(files))

    def _parquet_columns(self, files: TableFiles) -> list[tuple[str, str]]:
        first: list[tuple[str, str]] | None = None
        for path, shown in zip(files.sql_paths, files.shown, strict=True):
            with self._translated(Problem("is not a readable Parquet file", file=shown)):
                columns = _described(self._connection, f"select * from read_parquet({literal(path)})")
            first = first or columns
            if columns != first:
                raise JobError(Problem(f"its columns are not the same as those of {files.shown[0]}", file=shown))
        assert first is not None
        return first

    def _open_sql(self, sql: str, base_dir: Path) -> None:
        connection = self._connection
        found = connection.execute("select json_serialize_sql(?)", [sql]).fetchone()
        assert found is not None
        self._files = [find_files(name, base_dir) for name in tables_of(msgspec.json.decode(found[0]))]
        if any(files.kind == "jsonl" for files in self._files):
            connection.execute(f"set memory_limit = '{_MEMORY_JSON}'")
        for files in self._files:
            with self._translated(Problem(f"cannot be read as {files.kind}", file=files.name)):
                connection.execute(f"create view {_quoted(files.name)} as select * from {_view_reader(files)}")
        reachable = [path for files in self._files for path in (*files.sql_paths, *map(str, files.paths))]
        connection.execute(f"set allowed_paths = [{', '.join(map(literal, reachable))}]")
        connection.execute(f"set allowed_directories = [{literal(str(self._scratch.absolute()))}]")
        connection.execute("set allowed_configs = ['memory_limit', 'streaming_buffer_size']")
        connection.execute("set enable_external_access = false")
        connection.execute("set lock_configuration = true")
        self._run_sql(f"create table audience as\n{sql}")
        self._relation = "audience"
        self._typed_columns(_described(connection, "select * from audience"))

    def _run_sql(self, sql: str) -> None:
        import duckdb

        try:
            self._connection.execute(sql)
        except duckdb.OutOfMemoryException:
            self._connection.execute(f"set memory_limit = '{_MEMORY_MORE}'")
            try:
                self._connection.execute(sql)
            except duckdb.OutOfMemoryException as error:
                if "max_temp_directory_size" in str(error):
                    raise
                text = f"needs more than {_MEMORY_MORE} of memory; make the table beforehand, and name its file"
                raise JobError(Problem(text, file=self.label)) from None
        self._connection.execute(f"set memory_limit = '{_MEMORY}'")

    def _typed_columns(self, columns: list[tuple[str, str]]) -> None:
        """Take over columns with DuckDB's types."""
        types = dict(columns)
        self.columns = tuple(types)
        self._check_key()
        if not KEY_TYPES.fullmatch(types[self.key]):
            text = f"the key column {self.key!r} is {types[self.key]}; {KEY_RULE} (in `sql`: cast it to varchar)"
            raise JobError(Problem(text, file=self.label))
        # DuckDB makes a Python value of an instant with a library that is not among ours.
        self._utc = frozenset(name for name, kind in columns if kind == "TIMESTAMP WITH TIME ZONE")
        self._expressions = {
            name: f"timezone('UTC', {_quoted(name)})" if name in self._utc else _quoted(name) for name in types
        }
        self._keys = KeyColumn(self._relation, f"cast({_quoted(self.key)} as varchar)", self.key)

    def _check_key(self) -> None:
        if self.key not in self.columns:
            raise JobError(self._no_column(self.key, "key column"))

    def _no_column(self, name: str, what: str) -> Problem:
        folded = {column.casefold(): column for column in self.columns}
        near = difflib.get_close_matches(name.casefold(), folded, n=1)
        hint = f"; did you mean {folded[near[0]]!r}?" if near else ""
        shown = ", ".join(self.columns[:30]) + (", …" if len(self.columns) > 30 else "")
        return Problem(f"has no {what} {name!r}{hint} (its columns: {shown})", file=self.label)

    # Reading

    def count(self) -> int:
        """Return how many rows there are."""
        if self._rows is None:
            ((self._rows,),) = self._all(f"select count(*) from {self._relation}")
        assert self._rows is not None
        return self._rows

    def check_keys(self, most: int = 20) -> KeyCheck:
        """Look at every key, in two passes; raises JobError for a key that is neither text nor a whole number.

        Blank is NULL, empty or only white space. Keys are compared as text: 7 and "7" are the same.
        """
        ((self._rows, blank_count, blank_rows, odd, twice),) = self._all(self._keys.counts(most))
        if odd is not None:
            raise JobError(self._find_fault() or Problem(KEY_RULE, file=self.label, row=odd, field=self.key))
        if twice is not None:
            raise JobError(Problem("stands twice in the object", file=self.label, row=twice, field=self.key))
        assert self._rows is not None
        duplicate_count = 0
        pairs: list[tuple[int, int]] = []
        parts = -(-self._rows // _SORT_ROWS)
        for part in range(parts):
            ((count, firsts, seconds),) = self._all(self._keys.duplicates(most, part, parts))
            duplicate_count += count
            pairs = sorted([*pairs, *zip(seconds or (), firsts or (), strict=True)])[:most]
        texts: dict[int, str] = dict(self._all(self._keys.texts([first for _, first in pairs]))) if pairs else {}
        duplicates = tuple(Duplicate(texts[first], first, second) for second, first in pairs)
        return KeyCheck(self._rows, duplicates, duplicate_count, tuple(blank_rows or ()), blank_count)

    def distinct(self, columns: Sequence[str], most: int) -> list[Row]:
        """Return up to `most` different tuples of these columns' values, in order of appearance."""
        seen: dict[str, Row] = {}
        for batch in self.rows(columns):
            for row in batch:
                # Not by equality: 1 and True are equal in Python, and a list has no hash.
                if seen.setdefault(repr(row), row) is row and len(seen) == most:
                    return list(seen.values())
        return list(seen.values())

    def rows(self, columns: Sequence[str], *, limit: int | None = None, batch: int = 1000) -> Iterator[list[Row]]:
        """Yield the values of these columns, in this order, row by row in batches; `limit` takes the first rows only.

        Raises JobError, at once for a column that there is not, and at the line for one that cannot be read.
        """
        for name in columns:
            if name not in self.columns:
                raise JobError(self._no_column(name, "column"))
        return self._select(columns, limit, batch)

    def _select(self, columns: Sequence[str], limit: int | None, batch: int) -> Iterator[list[Row]]:
        chosen = "json" if self._json else ", ".join(self._expressions[name] for name in columns) or "NULL"
        cut = "" if limit is None else f" limit {max(limit, 0)}"
        done = 0
        for found in self._stream(f"select {chosen} from {self._relation}{cut}", batch):
            if self._json:
                try:
                    yield from_objects(found, columns)
                except NotAnObjectError as wrong:
                    row = done + wrong.offset + 1
                    raise JobError(self._find_fault() or Problem(str(wrong), file=self.label, row=row)) from None
            elif not columns:
                yield [()] * len(found)
            else:
                yield found if self._utc.isdisjoint(columns) else with_utc(found, columns, self._utc)
            done += len(found)

    def chunk_rows(self, columns: Sequence[str], members: Path, *, batch: int = 1000) -> Iterator[list[Row]]:
        """Yield (chunk number, row number, *columns) of the rows whose key is a member, by chunk, then by row.

        `members` is a CSV file without a header, of chunk number and key, inside `scratch_dir`; a key may stand in it
        once. A member that has no row is left out.
        """
        names = list(columns)
        for name in names:
            if name not in self.columns:
                raise JobError(self._no_column(name, "column"))
        return self._chunk_rows(names, members, batch)

    def _chunk_rows(self, columns: list[str], members: Path, batch: int) -> Iterator[list[Row]]:
        rows = self.count()
        parts = bucket_count(rows)
        with Buckets(1, self._scratch) as pairs:
            with Buckets(parts, self._scratch) as chunks, Buckets(parts, self._scratch) as keys:
                for buckets, query in ((chunks, members_query(members, parts)), (keys, self._keys.parted(parts))):
                    for found in self._stream(query, batch):
                        buckets.put((part, (key, number)) for part, key, number in found)  # type: ignore[misc]
                span = Span()
                pairs.put((0, pair) for pair in span.watch(chunk_of_rows(chunks, keys, rows, self._scratch)))
            if not span.count:
                return
            numbered = self._numbered(pairs.rows(0), columns, batch)
            if span.mixed:
                # Chunks overlap: several accounts, or rows that came later than others around them.
                numbered = sorted_by_chunk(numbered, span, self._scratch, batch)
            yield from numbered

    def _numbered(self, pairs: Iterator[Row], columns: list[str], batch: int) -> Iterator[list[Row]]:
        """Walk the rows and the (row, chunk) pairs side by side."""
        row, chunk = next(pairs, (0, 0))
        number = 0
        for values in self._select(columns, None, batch):
            made: list[Row] = []
            for value in values:
                number += 1
                if number == row:
                    made.append((chunk, number, *value))
                    row, chunk = next(pairs, (0, 0))
            if made:
                yield made
            if not row:
                return

    # DuckDB

    @contextmanager
    def _cursor(self) -> Iterator[DuckDBPyConnection]:
        """Give a cursor of its own, so that results which are read at the same time do not end each other."""
        cursor = self._connection.cursor()
        try:
            with self._translated():
                cursor.execute(f"set streaming_buffer_size = '{_STREAM_BUFFER}'")
                yield cursor
        finally:
            cursor.close()

    def _stream(self, query: str, batch: int) -> Iterator[list[Row]]:
        with self._cursor() as cursor:
            cursor.execute(query)
            while found := cursor.fetchmany(batch):
                yield found

    def _all(self, query: str) -> list[Any]:
        with self._cursor() as cursor:
            return cursor.execute(query).fetchall()

    def _find_fault(self) -> Problem | None:
        return next((fault for files in self._files if (fault := files.find_fault()) is not None), None)

    @contextmanager
    def _translated(self, otherwise: Problem | None = None) -> Iterator[None]:
        """Turn DuckDB's errors into ours. Only messages about names and syntax are passed on: others quote the data."""
        import duckdb

        try:
            yield
        except (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException) as error:
            raise JobError(Problem(first_sentence(str(error)), file=self.label)) from None
        except duckdb.Error as error:
            text = str(error)
            if "No space left" in text or "max_temp_directory_size" in text:
                raise RunError(f"the disk of {self._scratch} is full") from None
            if str(self._scratch.absolute()) in text and isinstance(error, duckdb.IOException):
                raise RunError(f"temporary files in {self._scratch} cannot be read or written") from None
            kind = type(error).__name__.removesuffix("Exception")
            fault = None
            if not isinstance(error, duckdb.ConversionException | duckdb.OutOfMemoryException):
                fault = self._find_fault() or otherwise
            line = re.match(r"Invalid Input Error: CSV Error on Line: (\d+)\n", text)
            if fault is None and (line or "state machine" in text):
                asked = "do all lines end in the same way, and is each quote in its place?"
                number = int(line[1]) if line else None
                fault = Problem(f"cannot be parted into columns: {asked}", file=self.label, line=number)
            raise JobError(fault or Problem(f"{kind} error while reading {self.label}", file=self.label)) from None


def _connect(scratch_dir: Path) -> DuckDBPyConnection:
    """Open a database in memory that spills into the scratch directory and loads nothing from anywhere."""
    import duckdb

    return duckdb.connect(
        ":memory:",
        config={
            "memory_limit": _MEMORY,
            "threads": "1",
            "temp_directory": str(scratch_dir.absolute()),
            "preserve_insertion_order": "true",
            "python_enable_replacements": "false",
            "autoinstall_known_extensions": "false",
            "autoload_known_extensions": "false",
            "allow_community_extensions": "false",
            "allow_persistent_secrets": "false",
        },
    )


def _described(connection: DuckDBPyConnection, query: str) -> list[tuple[str, str]]:
    return [(str(column[0]), str(column[1])) for column in connection.execute(f"describe {query}").fetchall()]


def _view_reader(files: TableFiles) -> str:
    match files.kind:
        case "csv":
            return files.csv_reader(list(files.columns))
        case "jsonl":
            return files.json_reader()
        case _:
            return files.parquet_reader()


def _quoted(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'
