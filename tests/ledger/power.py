"""Records what SQLite writes and syncs, and builds the files that a loss of power may leave.

The recorder is a VFS of apsw's, a SQLite of its own: the standard library's `sqlite3` has no door for one, so the
ledger's own statements are driven through an apsw connection that stands in for `sqlite3.connect`.

What is assumed of the disk: what was synced stays; of what was written since, any subset of 512-byte sectors may be
there, in any order; a file's length follows what is there of it; a sector holds the old or the new, never rubbish, and
nothing outside a write changes (SQLite's "powersafe overwrite"). A removed file stays removed, and the directory entry
of a new one is there. The `-shm` file is not kept: SQLite makes it anew. So this does not show a disk that lies about
its syncs, bit rot, or a file system that loses files.
"""

from __future__ import annotations

import random
import sqlite3
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import apsw

SECTOR = 512
VFS = "bulksend-recording"


@dataclass(frozen=True)
class Write:
    file: str
    offset: int
    data: bytes


@dataclass(frozen=True)
class Cut:
    file: str
    size: int


@dataclass(frozen=True)
class Sync:
    file: str


@dataclass(frozen=True)
class Gone:
    file: str


Operation = Write | Cut | Sync | Gone


@dataclass
class Disk:
    """What was done to the files beside each other, in order; files are known by the end of their names."""

    operations: list[Operation] = field(default_factory=list)

    def syncs(self) -> list[int]:
        return [index for index, one in enumerate(self.operations) if isinstance(one, Sync)]

    def left_at(self, moment: int, survives: Callable[[], bool]) -> dict[str, bytes]:
        """Return the files after a loss of power before operation number `moment`.

        `survives` is asked for each sector, and each change of length, that was not synced by then.
        """
        synced = {one.file: index for index, one in enumerate(self.operations[:moment]) if isinstance(one, Sync)}
        files: dict[str, bytearray] = {}
        for index, one in enumerate(self.operations[:moment]):
            is_safe = index <= synced.get(one.file, -1)
            match one:
                case Write(name, offset, data):
                    file = files.setdefault(name, bytearray())
                    for start, part in _sectors(offset, data):
                        if is_safe or survives():
                            file.extend(bytes(max(0, start + len(part) - len(file))))
                            file[start : start + len(part)] = part
                case Cut(name, size):
                    if is_safe or survives():
                        file = files.setdefault(name, bytearray())
                        file[:] = file[:size].ljust(size, b"\0")
                case Gone(name):
                    files.pop(name, None)
        return {name: bytes(content) for name, content in files.items()}


def _sectors(offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    at = 0
    while at < len(data):
        room = SECTOR - (offset + at) % SECTOR
        yield offset + at, data[at : at + room]
        at += room


class _File(apsw.VFSFile):
    def __init__(self, disk: Disk, name: Any, flags: list[int]) -> None:
        self._disk = disk
        self._name = _ending(name.filename() if isinstance(name, apsw.URIFilename) else name)
        super().__init__("", name, flags)

    def xWrite(self, data: bytes, offset: int) -> None:  # noqa: N802  # the name is apsw's
        super().xWrite(data, offset)
        self._disk.operations.append(Write(self._name, offset, bytes(data)))

    def xTruncate(self, size: int) -> None:  # noqa: N802  # the name is apsw's
        super().xTruncate(size)
        self._disk.operations.append(Cut(self._name, size))

    def xSync(self, flags: int) -> None:  # noqa: N802  # the name is apsw's
        super().xSync(flags)
        self._disk.operations.append(Sync(self._name))


class Recorder(apsw.VFS):
    """A VFS that notes on a disk what goes to its files."""

    def __init__(self, disk: Disk) -> None:
        self._disk = disk
        super().__init__(VFS, "")

    def xOpen(self, name: Any, flags: list[int]) -> apsw.VFSFile:  # noqa: N802  # the name is apsw's
        return _File(self._disk, name, flags)

    def xDelete(self, name: str, sync_folder: bool) -> None:  # noqa: N802  # the name is apsw's
        super().xDelete(name, sync_folder)
        self._disk.operations.append(Gone(_ending(name)))


def _ending(name: str | None) -> str:
    assert name is not None
    return next((end for end in ("-wal", "-journal") if name.endswith(end)), "")


class Connection:
    """As much of a `sqlite3.Connection` as the ledger needs, over the recorder."""

    def __init__(self, path: Path, *, pragmas: Sequence[str] = (), **_: object) -> None:
        self._db = apsw.Connection(str(path), vfs=VFS)
        self._pragmas = pragmas

    @property
    def in_transaction(self) -> bool:
        return self._db.in_transaction

    def execute(self, statement: str, values: Mapping[str, object] | Sequence[object] = ()) -> _Cursor:
        cursor = _Cursor(self._db, lambda: self._db.execute(statement, values))  # type: ignore[arg-type]
        if statement.startswith("PRAGMA synchronous"):
            for pragma in self._pragmas:
                self._db.execute(pragma)
        return cursor

    def executemany(self, statement: str, rows: Sequence[Sequence[object]]) -> _Cursor:
        return _Cursor(self._db, lambda: self._db.executemany(statement, rows))  # type: ignore[arg-type]

    def close(self) -> None:
        self._db.close()


class _Cursor:
    def __init__(self, db: apsw.Connection, run: Callable[[], apsw.Cursor]) -> None:
        before = db.total_changes()
        self._rows = list(run())
        self.rowcount = db.total_changes() - before

    def fetchone(self) -> Any:
        return self._rows[0] if self._rows else None

    def fetchall(self) -> list[Any]:
        return self._rows

    def __iter__(self) -> Iterator[Any]:
        return iter(self._rows)


def dice(share: float, seed: int) -> Callable[[], bool]:
    """Return what lets about this share of the sectors survive; 0 none, 1 all."""
    rng = random.Random(seed)
    return lambda: rng.random() < share


def is_whole(path: Path) -> bool:
    db = sqlite3.connect(path)
    try:
        return db.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    finally:
        db.close()
