"""Who settled which send, when and how: written with the change itself, and kept for ever."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from bulksend.ledger.base import AuditRecord, Change
from bulksend.ledger.database import Database

__all__ = ["Audit"]


class Audit:
    """The part of a ledger that says who settled what; everything blocks."""

    def __init__(self, db: Database) -> None:
        self._db = db

    def add(self, settled: Iterable[tuple[int, Change]], now: float) -> None:
        """Write an entry for each change that says who made it; inside the transaction that makes the changes."""
        rows = [
            (job_id, one.key, one.frm, one.to, one.reason, one.settler.by, one.settler.host, now)
            for job_id, one in settled
            if one.settler is not None
        ]
        if rows:
            self._db.execute_many("add_audit", rows)

    def page(self, job_id: int, after: int, most: int) -> list[tuple[int, AuditRecord]]:
        """Return the entries of a job behind a number, each with its own, in the order of writing."""
        found = self._db.execute("audit", job_id=job_id, after=after, most=most).fetchall()
        names = AuditRecord.__struct_fields__
        return [(row[0], msgspec.convert(dict(zip(names, row[1:], strict=True)), AuditRecord)) for row in found]
