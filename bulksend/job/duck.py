"""The one door to DuckDB: a connection that spills and reaches for nothing, results as streams, its errors as ours."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bulksend.errors import JobError, Problem, RunError
from bulksend.job.sql import first_sentence
from bulksend.job.tables import TableFiles, literal

if TYPE_CHECKING:
    from duckdb import DuckDBPyConnection

__all__ = ["Connection", "quoted"]

Row = tuple[object, ...]

_MEMORY = "40MB"
_MEMORY_JSON = "60MB"
"""While an `sql` reads JSON Lines: DuckDB's reader takes 32 MB for its buffer."""
_MEMORY_MORE = "512MB"
"""For an `sql` that this is too little for, while it runs."""
_STREAM_BUFFER = "1MB"


class Connection:
    """A database in memory that spills into the scratch directory and loads nothing from anywhere.

    One thread at a time.
    """

    def __init__(self, scratch_dir: Path, *, label: str) -> None:
        """Open it; `label` is what problems call the table."""
        import duckdb

        self.files: list[TableFiles] = []
        """The files behind the table: searched for a broken line once DuckDB has refused them."""
        self._scratch = scratch_dir
        self._label = label
        self._connection = duckdb.connect(
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

    def close(self) -> None:
        """Let go of the files, the memory and what was spilled; a second time does nothing."""
        self._connection.close()

    def execute(self, query: str, values: Sequence[object] = ()) -> DuckDBPyConnection:
        """Run a statement; DuckDB's errors come as they are, unless inside `translated`."""
        return self._connection.execute(query, values or None)

    def described(self, query: str) -> list[tuple[str, str]]:
        """Return the names and types of a query's columns."""
        return [(str(column[0]), str(column[1])) for column in self.execute(f"describe {query}").fetchall()]

    def stream(self, query: str, batch: int) -> Iterator[list[Row]]:
        """Yield the rows of a query in batches; other queries may run in between."""
        with self._cursor() as cursor:
            cursor.execute(query)
            while found := cursor.fetchmany(batch):
                yield found

    def all(self, query: str) -> list[Any]:
        """Return the rows of a query that has few."""
        with self._cursor() as cursor:
            return cursor.execute(query).fetchall()

    @contextmanager
    def _cursor(self) -> Iterator[DuckDBPyConnection]:
        """Give a cursor of its own, so that results which are read at the same time do not end each other."""
        cursor = self._connection.cursor()
        try:
            with self.translated():
                cursor.execute(f"set streaming_buffer_size = '{_STREAM_BUFFER}'")
                yield cursor
        finally:
            cursor.close()

    def read_json_views(self) -> None:
        """Take the memory that DuckDB's own reader of JSON needs, until `run_foreign` has ended."""
        self.execute(f"set memory_limit = '{_MEMORY_JSON}'")

    def confine(self, reachable: Sequence[str]) -> None:
        """Let nothing but these files be read from now on, and no setting be changed that could open more."""
        self.execute(f"set allowed_paths = [{', '.join(map(literal, reachable))}]")
        self.execute(f"set allowed_directories = [{literal(str(self._scratch.absolute()))}]")
        self.execute("set allowed_configs = ['memory_limit', 'streaming_buffer_size']")
        self.execute("set enable_external_access = false")
        self.execute("set lock_configuration = true")

    def run_foreign(self, sql: str) -> None:
        """Run a statement that others wrote; one that needs it gets more memory."""
        import duckdb

        try:
            self.execute(sql)
        except duckdb.OutOfMemoryException:
            self.execute(f"set memory_limit = '{_MEMORY_MORE}'")
            try:
                self.execute(sql)
            except duckdb.OutOfMemoryException as error:
                if "max_temp_directory_size" in str(error):
                    raise
                text = f"needs more than {_MEMORY_MORE} of memory; make the table beforehand, and name its file"
                raise JobError(Problem(text, file=self._label)) from None
        self.execute(f"set memory_limit = '{_MEMORY}'")

    def find_fault(self) -> Problem | None:
        """Return the first thing that is wrong with the files; None when all look right."""
        return next((fault for files in self.files if (fault := files.find_fault()) is not None), None)

    @contextmanager
    def translated(self, otherwise: Problem | None = None) -> Iterator[None]:
        """Turn DuckDB's errors into ours. Only messages about names and syntax are passed on: others quote the data."""
        import duckdb

        try:
            yield
        except (duckdb.BinderException, duckdb.CatalogException, duckdb.ParserException) as error:
            raise JobError(Problem(first_sentence(str(error)), file=self._label)) from None
        except duckdb.Error as error:
            text = str(error)
            if "No space left" in text or "max_temp_directory_size" in text:
                raise RunError(f"the disk of {self._scratch} is full") from None
            if str(self._scratch.absolute()) in text and isinstance(error, duckdb.IOException):
                raise RunError(f"temporary files in {self._scratch} cannot be read or written") from None
            kind = type(error).__name__.removesuffix("Exception")
            fault = None
            if not isinstance(error, duckdb.ConversionException | duckdb.OutOfMemoryException):
                fault = self.find_fault() or otherwise
            line = re.match(r"Invalid Input Error: CSV Error on Line: (\d+)\n", text)
            if fault is None and (line or "state machine" in text):
                asked = "do all lines end in the same way, and is each quote in its place?"
                number = int(line[1]) if line else None
                fault = Problem(f"cannot be parted into columns: {asked}", file=self._label, line=number)
            raise JobError(fault or Problem(f"{kind} error while reading {self._label}", file=self._label)) from None


def quoted(name: str) -> str:
    """Return an SQL name."""
    return '"' + name.replace('"', '""') + '"'
