"""What the SQLite ledger knows of the sends of its jobs: guarded transitions, look-ups."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

import msgspec

from bulksend.errors import LedgerError
from bulksend.ledger.audit import Audit
from bulksend.ledger.base import Change, Intent, Invalid, Scope, SendRecord, Transition
from bulksend.ledger.database import Database
from bulksend.model import State

__all__ = ["Sends"]


class Sends:
    """The part of a ledger that is about sends; everything blocks."""

    def __init__(self, db: Database) -> None:
        self._db = db
        self._audit = Audit(db)

    def apply(self, batch: Sequence[tuple[int, Transition]], now: float) -> None:
        """Make transitions, inside the transaction that commits them; raises when one of them must not be made."""
        of_jobs: dict[int, tuple[list[Intent], list[Change], list[Invalid]]] = {}
        for job_id, one in batch:
            intents, changes, invalid = of_jobs.setdefault(job_id, ([], [], []))
            if isinstance(one, Intent):
                intents.append(one)
            elif isinstance(one, Change):
                changes.append(one)
            else:
                invalid.append(one)
        for job_id, (intents, changes, invalid) in of_jobs.items():
            self._guarded("intend", job_id, intents, now)
            self._guarded("change", job_id, changes, now)
            self._guarded("invalid", job_id, invalid, now)
            delta = _counted(intents, changes, invalid)
            if any(delta):
                self._db.execute_many("count", [(job_id, *delta)])
        self._audit.add(((job_id, one) for job_id, one in batch if isinstance(one, Change)), now)

    def _guarded(self, name: str, job_id: int, rows: Sequence[Transition], now: float) -> None:
        """Run a transition for each row; raise when one of them was not in the state that it must come from."""
        if not rows:
            return
        text = msgspec.json.encode(rows).decode()
        if self._db.execute(name, job_id=job_id, rows=text, now=now).rowcount != len(rows):
            keys = ", ".join(row.key for row in rows[:5])
            text = f"a send was not in the state that its change ({name}) starts from; among the keys {keys}"
            raise LedgerError(f"the ledger {self._db.path} refused a transition: {text}")

    def look_up(self, job_id: int, scope: Scope, keys: Sequence[str]) -> dict[str, SendRecord]:
        """Return the records of those keys that have one."""
        return _by_key(self._db.execute("look_up", job_id=job_id, scope=scope, keys=json.dumps(list(keys))))

    def look_up_in(self, job_id: int, keys: Sequence[str], states: Collection[State]) -> dict[str, SendRecord]:
        """Return the records of those sends that are in one of the states."""
        given = {"keys": json.dumps(list(keys)), "states": json.dumps(list(states))}
        return _by_key(self._db.execute("look_up_in", job_id=job_id, **given))

    def of_accounts(self, job_id: int) -> list[SendRecord]:
        """Return what was made once per account."""
        return [_read(row) for row in self._db.execute("of_accounts", job_id=job_id)]

    def page(self, job_id: int, state: State, after: str, most: int) -> list[SendRecord]:
        """Return the sends in a state behind a key, in order of key."""
        return [_read(row) for row in self._db.execute("by_state", job_id=job_id, state=state, after=after, most=most)]


_COUNTED = (State.ACCEPTED, State.REJECTED, State.UNKNOWN, State.SENDING)


def _counted(intents: Sequence[Intent], changes: Sequence[Change], invalid: Sequence[Invalid]) -> list[int]:
    """Return by how much each of the counted states of the job's sends grows."""
    became: Counter[State | None] = Counter({State.REJECTED: len(invalid)})
    became[State.SENDING] += sum(one.scope is Scope.SEND for one in intents)
    for (scope, frm, to), number in Counter((one.scope, one.frm, one.to) for one in changes).items():
        if scope is Scope.SEND:
            became[frm] -= number
            became[to] += number
    return [became[state] for state in _COUNTED]


def _by_key(rows: Iterable[tuple[object, ...]]) -> dict[str, SendRecord]:
    return {record.key: record for record in map(_read, rows)}


def _read(row: tuple[object, ...]) -> SendRecord:
    values = dict(zip(SendRecord.__struct_fields__, row, strict=True))
    return msgspec.convert({**values, "refs": json.loads(str(values["refs"]))}, SendRecord)
