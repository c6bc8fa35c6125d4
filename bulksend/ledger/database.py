"""The SQLite file, the only door to `sqlite3`: opening, migrating, named statements, transactions, plain errors."""

from __future__ import annotations

import asyncio
import os
import re
import sqlite3
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import cache
from importlib import resources
from pathlib import Path
from typing import TypeVar

from bulksend.errors import LedgerError, LedgerVersionError

__all__ = ["Database"]

APPLICATION_ID = 0x62756C6B  # "bulk"
VERSION = 3
BUSY_TIMEOUT_S = 30.0
"""How long whoever writes waits for another who does."""

T = TypeVar("T")


@cache
def _text(file: str) -> str:
    return resources.files("bulksend.ledger").joinpath(file).read_text("utf-8")


@cache
def _named(file: str) -> dict[str, str]:
    """Return the parts of a file in which a line `-- name --` stands before each."""
    parts = re.split(r"^-- (\w+) --$", _text(file), flags=re.MULTILINE)
    return {name: part.strip() for name, part in zip(parts[1::2], parts[2::2], strict=True)}


def _steps(version: int) -> list[str]:
    """Return the statements that lead from a version (0: an empty file) to this one."""
    if version == 0:
        texts = [_text("schema.sql")]
    else:
        texts = [_named("migrations.sql")[f"version_{number}"] for number in range(version + 1, VERSION + 1)]
    return [one for text in texts for one in re.sub(r"--.*", "", text).split(";") if one.strip()]


class Database:
    """One connection to the ledger's file. `run` does blocking work in the executor; everything else blocks."""

    def __init__(self, path: Path, executor: Executor | None, *, busy_timeout_s: float | None = None) -> None:
        self.path = path
        self._busy_timeout_s = BUSY_TIMEOUT_S if busy_timeout_s is None else busy_timeout_s
        self._executor = executor or ThreadPoolExecutor(1, thread_name_prefix="bulksend-ledger")
        self._db: sqlite3.Connection | None = None
        self._file: os.stat_result | None = None
        self._wal: os.stat_result | None = None

    async def run(self, work: Callable[[], T]) -> T:
        """Do blocking work off the event loop; every failure is a LedgerError in plain words."""

        def translated() -> T:
            try:
                return work()
            except sqlite3.Error as wrong:
                raise self._translate(wrong) from wrong
            except ValueError as wrong:  # text that is no text, JSON that is none: in what it holds, or in its schema
                raise LedgerError(f"the ledger {self.path} {_DAMAGED}") from wrong
            except OSError as wrong:
                raise LedgerError(f"the ledger {self.path} cannot be written: {wrong.strerror}") from wrong

        return await asyncio.get_running_loop().run_in_executor(self._executor, translated)

    def _translate(self, wrong: sqlite3.Error) -> LedgerError:
        said = str(wrong)
        if "unable to open" in said and os.access(self.path, os.R_OK) and not os.access(self.path.parent, os.W_OK):
            text = "its directory is read-only for this user, and even who only reads it has to write beside it"
            return LedgerError(f"the ledger {self.path} cannot be opened: {text}")
        for needle, text in _PLAIN:
            if needle in said:
                return LedgerError(f"the ledger {self.path} {text.format(waited_s=self._busy_timeout_s)}")
        return LedgerError(f"the ledger {self.path} failed: {said}")

    @property
    def _connection(self) -> sqlite3.Connection:
        if self._db is None:
            raise LedgerError(f"the ledger {self.path} is not open")
        return self._db

    def execute(self, query: str, /, **values: object) -> sqlite3.Cursor:
        """Run a named statement."""
        return self._connection.execute(_named("queries.sql")[query], values)

    def execute_many(self, query: str, rows: Sequence[tuple[object, ...]]) -> int:
        """Run a named statement for each row; returns how many rows changed."""
        return self._connection.executemany(_named("queries.sql")[query], rows).rowcount

    def transaction(self) -> Transaction:
        """Return a block that commits as a whole or not at all."""
        return Transaction(self._connection)

    def open(self, *, create: bool) -> bool:
        """Open the file, made with mode 0600 when it is new; False when it is not there and shall not be made.

        An older ledger is migrated, also for one who only reads. Once open, it stays so.
        """
        if self._db is not None:
            return True
        if self.path.is_dir():
            raise LedgerError(f"the ledger {self.path} is a directory")
        if not self.path.exists():
            if not create:
                return False
            if not self.path.parent.is_dir():
                raise LedgerError(f"the ledger {self.path} cannot be made: there is no directory {self.path.parent}")
            os.close(os.open(self.path, os.O_CREAT | os.O_RDWR, 0o600))
        db = sqlite3.connect(self.path, timeout=self._busy_timeout_s, isolation_level=None, check_same_thread=False)
        try:
            version = self._version(db)
            if version == 0 and not create:
                db.close()
                return False
            db.execute("PRAGMA synchronous = FULL")
            if create:
                self._use_wal(db)
            if version < VERSION:
                self._bring_up_to_date(db, version)
        except BaseException:
            db.close()
            raise
        self._db = db
        self._file = self.path.stat()
        return True

    def _use_wal(self, db: sqlite3.Connection) -> None:
        """Switch the journal; SQLite does not wait by itself while another process makes the ledger."""
        until = time.monotonic() + self._busy_timeout_s
        while True:
            try:
                db.execute("PRAGMA journal_mode = WAL")
            except sqlite3.OperationalError as wrong:
                if (
                    wrong.sqlite_errorcode not in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
                    or time.monotonic() > until
                ):
                    raise
                time.sleep(0.01)
            else:
                return

    def check_file(self) -> None:
        """Raise LedgerError when an open file is not the one at its path any more: what is written would be lost.

        That counts for the write-ahead log beside the ledger, too: nobody removes it rightly while we have it open.
        """
        _ = self._connection
        wal = self.path.with_name(f"{self.path.name}-wal")
        try:
            same = self._file is not None and os.path.samestat(self._file, self.path.stat())
            if self._wal is not None or wal.exists():
                now = wal.stat()
                same = same and (self._wal is None or os.path.samestat(self._wal, now))
                self._wal = now
        except FileNotFoundError:
            same = False
        if not same:
            raise LedgerError(f"the ledger {self.path} was removed or replaced while the job ran")

    def _version(self, db: sqlite3.Connection) -> int:
        # In one statement: another process may be making the ledger at this moment.
        application_id, version, tables = db.execute(
            "SELECT application_id, user_version, (SELECT count(*) FROM sqlite_schema) "
            "FROM pragma_application_id, pragma_user_version"
        ).fetchone()
        if application_id != APPLICATION_ID and (tables or version):
            raise LedgerError(f"{self.path} is a database of another program, not a ledger")
        if version > VERSION:
            text = f"the ledger {self.path} is of version {version}, from a newer bulksend; this one knows {VERSION}"
            raise LedgerVersionError(text)
        return int(version)

    def _bring_up_to_date(self, db: sqlite3.Connection, version: int) -> None:
        """Make or migrate the ledger, as a whole or not at all."""
        try:
            with Transaction(db):
                version = self._version(db)  # somebody may have been quicker
                if version < VERSION:
                    for statement in _steps(version):
                        db.execute(statement)
                    db.execute(f"PRAGMA application_id = {APPLICATION_ID}")
                    db.execute(f"PRAGMA user_version = {VERSION}")
        except sqlite3.OperationalError as wrong:
            if version == 0 or wrong.sqlite_errorcode & 0xFF != sqlite3.SQLITE_READONLY:
                raise
            text = f"is of version {version} and must be brought to version {VERSION} before it can be read"
            raise LedgerError(f"the ledger {self.path} {text}, but it is read-only for this user") from wrong

    async def close(self) -> None:
        """Close the file."""
        if self._db is not None:
            db, self._db = self._db, None
            await self.run(db.close)
        if isinstance(self._executor, ThreadPoolExecutor):
            self._executor.shutdown(wait=False)


class Transaction:
    """BEGIN IMMEDIATE … COMMIT, or ROLLBACK when anything goes wrong."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self._db = db

    def __enter__(self) -> None:
        self._db.execute("BEGIN IMMEDIATE")

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            try:
                self._db.execute("COMMIT")
            except sqlite3.Error:
                self._roll_back()
                raise
        else:
            self._roll_back()

    def _roll_back(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")


_DAMAGED = "is damaged: restore it from a copy before the job goes on"
_PLAIN = (
    ("disk is full", "cannot be written: the disk is full"),
    ("disk I/O error", "cannot be written: the disk reports an error (or is full)"),
    ("readonly", "cannot be written: it is read-only for this user"),
    ("unable to open", "cannot be opened: check its directory and permissions"),
    ("is locked", "is locked by another program for more than {waited_s:g} s"),
    ("not a database", "is not a SQLite database"),
    ("malformed", _DAMAGED),
)
