"""What the SQLite ledger knows of vendor segments, and who is bringing one into line."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

from bulksend.errors import JobLockedError
from bulksend.ledger.base import SegmentRecord
from bulksend.ledger.database import Database
from bulksend.ledger.lock import FileLock

__all__ = ["Segments"]


class Segments:
    """The part of a ledger that is about segments; everything blocks. `wall` is the clock."""

    def __init__(self, db: Database, wall: Callable[[], float]) -> None:
        self._db = db
        self._wall = wall
        self._locks: dict[Path, FileLock] = {}

    def find(self, identity: str, segment: str) -> SegmentRecord | None:
        """Return what the last reconciliation left."""
        row = self._db.execute("find_segment", identity=identity, segment=segment).fetchone()
        return None if row is None else SegmentRecord(*row)

    def finish(self, identity: str, segment: str, *, desired: int, fingerprint: str, job: str) -> None:
        """Record a reconciliation that came to its end, in place of the one before."""
        self._db.check_file()
        values = {"desired": desired, "fingerprint": fingerprint, "job": job, "now": self._wall()}
        self._db.execute("finish_segment", identity=identity, segment=segment, **values)

    def use_override(self, identity: str, segment: str, *, hash: str, by: str) -> bool:  # noqa: A002 - the shell's word
        """Record the hash; False when another used it. One statement: of two processes, one gets True."""
        self._db.check_file()
        values = {"identity": identity, "segment": segment, "hash": hash, "by": by, "now": self._wall()}
        return self._db.execute("use_override", **values).rowcount == 1

    def overrides(self, identity: str, segment: str) -> int:
        """Return how many overrides were used."""
        return int(self._db.execute("overrides", identity=identity, segment=segment).fetchone()[0])

    def folder(self, identity: str, segment: str) -> Path:
        """Return a path beside the ledger; an id may hold any character, hence the hash."""
        digest = hashlib.sha256(json.dumps([identity, segment]).encode()).hexdigest()
        return self._db.path.with_name(f"{self._db.path.name}.segment-{digest[:16]}")

    def lock(self, identity: str, segment: str, holder: str) -> None:
        """Take the segment's lock, unless this object has it."""
        self._db.check_file()
        folder = self.folder(identity, segment)
        if folder in self._locks:
            return
        lock = FileLock(folder.with_name(f"{folder.name}.lock"))
        other = lock.acquire(holder)
        if other is not None:
            raise JobLockedError(f'the segment "{segment}" is being brought into line by {other}')
        self._locks[folder] = lock

    def unlock(self, identity: str, segment: str) -> None:
        """Give the segment's lock back; nothing happens when it is not held."""
        lock = self._locks.pop(self.folder(identity, segment), None)
        if lock is not None:
            lock.release()

    def unlock_all(self) -> None:
        """Give every lock back."""
        while self._locks:
            self._locks.popitem()[1].release()
