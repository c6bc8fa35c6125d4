"""The rows of an audience, streamed from files or SQL through DuckDB.

Memory stays flat because nothing here sorts or keeps what is as wide as a row: keys are compared by a hash of 128 bits
beside the row number, in sorts that spill into the scratch directory.
"""

# ruff: noqa: S608 - the parts put in are made here or quoted; no values of rows are among them

from __future__ import annotations

import difflib
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import msgspec

from bulksend.errors import JobError, Problem
from bulksend.job.buckets import Buckets, Span, bucket_count, chunk_of_rows, sorted_by_chunk
from bulksend.job.duck import Connection, quoted
from bulksend.job.keys import KEY_RULE, KEY_TYPES, Duplicate, KeyCheck, KeyColumn, KeySizes
from bulksend.job.keys import members as members_query
from bulksend.job.sql import tables_of
from bulksend.job.tables import TableFiles, find_files, literal, objects
from bulksend.job.values import NotAnObjectError, from_objects, with_utc

__all__ = ["Audience", "Duplicate", "KeyCheck", "KeySizes"]

Row = tuple[object, ...]

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

    def __init__(
        self,
        *,
        base_dir: Path,
        source: str | None,
        sql: str | None,
        key: str,
        scratch_dir: Path,
        may_be_empty: bool = False,
    ) -> None:
        """Open it; raises JobError for whatever of the source can be seen to be wrong (`sql`: for all).

        Files of JSON Lines without any object are refused, unless `may_be_empty`: they name no columns.
        """
        if (source is None) == (sql is None):
            raise JobError("an audience has either `from` or `sql`")
        self.key = key
        self._may_be_empty = may_be_empty
        self._json = False
        self._expressions: dict[str, str] = {}
        self._utc: frozenset[str] = frozenset()
        self._rows: int | None = None
        self._scratch = scratch_dir
        self.label = "sql" if source is None else source
        self._connection = Connection(scratch_dir, label=self.label)
        try:
            with self._connection.translated():
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
        self._connection.files = [files]
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
            if self._may_be_empty and _is_empty(files):
                self._relation, self.columns = "(select '{}' as json where false)", (self.key,)
            else:
                self._relation, self.columns = files.objects_reader(), files.object_names(_SAMPLE)
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
            with self._connection.translated(Problem("is not a readable Parquet file", file=shown)):
                columns = self._connection.described(f"select * from read_parquet({literal(path)})")
            first = first or columns
            if columns != first:
                raise JobError(Problem(f"its columns are not the same as those of {files.shown[0]}", file=shown))
        assert first is not None
        return first

    def _open_sql(self, sql: str, base_dir: Path) -> None:
        connection = self._connection
        found = connection.execute("select json_serialize_sql(?)", [sql]).fetchone()
        assert found is not None
        tables = connection.files = [find_files(name, base_dir) for name in tables_of(msgspec.json.decode(found[0]))]
        if any(files.kind == "jsonl" for files in tables):
            connection.read_json_views()
        for files in tables:
            with connection.translated(Problem(f"cannot be read as {files.kind}", file=files.name)):
                connection.execute(f"create view {quoted(files.name)} as select * from {_view_reader(files)}")
        connection.confine([path for files in tables for path in (*files.sql_paths, *map(str, files.paths))])
        connection.run_foreign(f"create table audience as\n{sql}")
        self._relation = "audience"
        self._typed_columns(connection.described("select * from audience"))

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
            name: f"timezone('UTC', {quoted(name)})" if name in self._utc else quoted(name) for name in types
        }
        self._keys = KeyColumn(self._relation, f"cast({quoted(self.key)} as varchar)", self.key)

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
            ((self._rows,),) = self._connection.all(f"select count(*) from {self._relation}")
        assert self._rows is not None
        return self._rows

    def check_keys(self, most: int = 20) -> KeyCheck:
        """Look at every key, in two passes; raises JobError for a key that is neither text nor a whole number.

        Blank is NULL, empty or only white space. Keys are compared as text: 7 and "7" are the same.
        """
        ((self._rows, blank_count, blank_rows, odd, twice),) = self._connection.all(self._keys.counts(most))
        self._refuse_keys(odd, twice)
        assert self._rows is not None
        duplicate_count = 0
        pairs: list[tuple[int, int]] = []
        parts = -(-self._rows // _SORT_ROWS)
        for part in range(parts):
            ((count, firsts, seconds),) = self._connection.all(self._keys.duplicates(most, part, parts))
            duplicate_count += count
            pairs = sorted([*pairs, *zip(seconds or (), firsts or (), strict=True)])[:most]
        texts: dict[int, str] = {}
        if pairs:
            texts.update(self._connection.all(self._keys.texts([first for _, first in pairs])))
        duplicates = tuple(Duplicate(texts[first], first, second) for second, first in pairs)
        return KeyCheck(self._rows, duplicates, duplicate_count, tuple(blank_rows or ()), blank_count)

    def measure_keys(self, most: int = 20, *, most_chars: int | None = None) -> KeySizes:
        """Look at every key in one pass, not for duplicates; refuses types as `check_keys` does.

        Keys of more than `most_chars` characters (code points) are too long; None: no key is.
        """
        ((self._rows, size, blank_count, blank, long_count, long, odd, twice),) = self._connection.all(
            self._keys.sizes(most, most_chars)
        )
        self._refuse_keys(odd, twice)
        assert self._rows is not None
        return KeySizes(self._rows, int(size), tuple(blank or ()), blank_count, tuple(long or ()), long_count)

    def _refuse_keys(self, odd: int | None, twice: int | None) -> None:
        if odd is not None:
            raise JobError(self._connection.find_fault() or Problem(KEY_RULE, file=self.label, row=odd, field=self.key))
        if twice is not None:
            raise JobError(Problem("stands twice in the object", file=self.label, row=twice, field=self.key))

    def sample_keys(self, rows: int) -> list[str]:
        """Return the keys of so many rows drawn evenly from all, in no order; fewer where there are fewer."""
        return [key for (key,) in self._connection.all(self._keys.sample(rows)) if key is not None]

    def keys(self, *, batch: int = 1000) -> Iterator[list[str]]:
        """Yield the keys as text, row by row in batches, NULL left out; duplicates and blanks are among them."""
        for found in self._connection.stream(self._keys.all(), batch):
            yield [key for (key,) in found]  # type: ignore[misc]

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
        for found in self._connection.stream(f"select {chosen} from {self._relation}{cut}", batch):
            if self._json:
                try:
                    yield from_objects(found, columns)
                except NotAnObjectError as wrong:
                    problem = Problem(str(wrong), file=self.label, row=done + wrong.offset + 1)
                    raise JobError(self._connection.find_fault() or problem) from None
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
                    for found in self._connection.stream(query, batch):
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


def _is_empty(files: TableFiles) -> bool:
    """Say whether no file of JSON Lines holds an object."""
    return not any(True for path, shown in zip(files.paths, files.shown, strict=True) for _ in objects(path, shown))


def _view_reader(files: TableFiles) -> str:
    match files.kind:
        case "csv":
            return files.csv_reader(list(files.columns))
        case "jsonl":
            return files.json_reader()
        case _:
            return files.parquet_reader()
