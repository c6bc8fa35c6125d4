"""Damage that SQLite does not see: it keeps no checksums, and a block that was overwritten may only look emptier."""

from __future__ import annotations

from bulksend.errors import LedgerError
from bulksend.ledger.database import Database

__all__ = ["check_whole"]


def check_whole(db: Database, job_id: int) -> None:
    """Raise LedgerError when jobs are missing, or sends of this one: what is missing would be sent a second time.

    The sends must be as many, state by state, as were counted when they were recorded. Blocks, for a second or so for
    each million of them; the job's lock must be held. Not seen is a byte that changed within a key, or a block of sends
    in the place of another that held as many.
    """
    if db.execute("check_jobs").fetchone()[0] != "ok" or db.execute("has_sends_of_nobody").fetchone()[0]:
        raise LedgerError(f"the ledger {db.path} is damaged: jobs are missing; {_CURE}")
    if not db.execute("is_counted_right", job_id=job_id).fetchone()[0]:
        raise LedgerError(f"the ledger {db.path} is damaged: it does not hold the sends that it has counted; {_CURE}")


_CURE = "restore it from a copy before the job goes on"
