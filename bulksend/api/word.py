"""A person's word on sends of unknown fate: looked at as a whole first, then recorded, page by page."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Mapping, Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from bulksend.errors import JobError, Problem
from bulksend.job.buckets import Buckets, bucket_count
from bulksend.job.spec import Job
from bulksend.ledger.base import Change, Ledger, Scope, SendRecord, Settler
from bulksend.model import State

__all__ = ["Word"]

REASON = "settled by a person"
PROBLEMS_MOST = 100
PAGE = 1000


class Word:
    """Settles sends of a job whose lock is held; counts what it changed. A page is one commit."""

    def __init__(self, job: Job, ledger: Ledger, job_id: int, settler: Settler) -> None:
        self.accepted = 0
        self.pending = 0
        self._stopped = False
        self._ledger = ledger
        self._job_id = job_id
        self._settler = settler
        # Before its last sending step a send has reached nobody, whatever became of the step.
        self._last = sum(not endpoint.reads for _, endpoint in job.provider.flow(job.tables).steps) - 1
        self._job = job.name
        self._chunk = None if job.audience is None else job.audience.chunk

    def stop(self) -> None:
        """Settle no further page; what was settled stays."""
        self._stopped = True

    async def check(self, wanted: Mapping[str, State]) -> None:
        """Raise JobError unless each key is an unknown send that can become what is said of it."""
        known = await self._ledger.look_up(self._job_id, Scope.SEND, list(wanted))
        problems = [
            Problem(text, key=key)
            for key, to in wanted.items()
            if (text := self._wrong(known.get(key), to)) is not None
        ]
        if problems:
            raise JobError(problems[:PROBLEMS_MOST], more=max(0, len(problems) - PROBLEMS_MOST))

    def _wrong(self, record: SendRecord | None, to: State) -> str | None:
        if record is None:
            return "is not in the ledger"
        if record.state is not State.UNKNOWN:
            return f"is {record.state}, not unknown"
        if to is State.ACCEPTED and record.step < self._last:
            return "cannot be accepted: only a draft of it is unknown, nobody was reached; run the job again"
        return None

    async def check_file(self, pages: AsyncIterator[list[str]], to: State) -> None:
        """Do the same for the keys of a file, of rows in chunks too; what was settled so before is passed over."""
        problems: list[Problem] = []
        more = total = 0
        job = await self._ledger.find_job(self._job)
        parts = bucket_count((self._chunk or 0) * (0 if job is None else job.counts.unknown))
        with TemporaryDirectory(prefix="bulksend-") as scratch, Buckets(parts, Path(scratch)) as rows:
            async for page in pages:
                if self._stopped:
                    return
                total += len(page)
                sends, members = await self._sends_of(page)
                rows.put((number % parts, (number, key)) for number, key in members)
                for key, record in sends.items():
                    text = None if _is_done(record, to) else self._wrong(record, to)
                    if text is not None and len(problems) < PROBLEMS_MOST:
                        problems.append(Problem(text, key=key))
                    elif text is not None:
                        more += 1
            if not problems and self._chunk is not None:
                problems = await self._parts(_by_chunk(rows))
        if problems:
            raise JobError(problems, more=more)
        if not total:
            raise JobError(Problem("names no key", field="--file"))

    async def _sends_of(self, keys: Iterable[str]) -> tuple[dict[str, SendRecord | None], list[tuple[int, str]]]:
        """Return the sends that keys of sends, or of rows in chunks, stand for; and each row with its chunk number."""
        wanted = list(dict.fromkeys(keys))
        found: dict[str, SendRecord | None] = dict.fromkeys(wanted)
        found.update(await self._ledger.look_up(self._job_id, Scope.SEND, wanted))
        if self._chunk is None:
            return found, []
        unnamed = [key for key, record in found.items() if record is None]
        members = await self._ledger.members_of(self._job_id, unnamed)
        chunks = {member.chunk for member in members.values()}
        records = await self._ledger.look_up(self._job_id, Scope.SEND, list(chunks))
        for key, member in members.items():
            del found[key]
            found[member.chunk] = records.get(member.chunk)
        return found, [(member.number, key) for key, member in members.items()]

    async def _parts(self, rows: Mapping[int, int]) -> list[Problem]:
        """Return a problem for each unknown chunk of which some rows are named, and not all."""
        problems: list[Problem] = []
        whole: Counter[int] = Counter()
        first: dict[int, str] = {}
        async for page in self._ledger.open_members(self._job_id, State.UNKNOWN):
            for member in page:
                if member.number in rows:
                    whole[member.number] += 1
                    first.setdefault(member.number, member.chunk)
        for number, count in whole.items():
            if rows[number] < count and len(problems) < PROBLEMS_MOST:
                text = f"the file has {rows[number]} of the {count} rows of its chunk, which is settled as a whole"
                problems.append(Problem(text, key=first[number]))
        return problems

    async def settle(self, keys: Sequence[str], to: State) -> None:
        """Record it for keys that were checked."""
        for start in range(0, 0 if self._stopped else len(keys), PAGE):
            some = list(dict.fromkeys(keys[start : start + PAGE]))
            known = await self._ledger.look_up(self._job_id, Scope.SEND, some)
            await self._record(known.values(), to)

    async def settle_file(self, pages: AsyncIterator[list[str]], to: State) -> None:
        """Record it for the keys of a file that was checked."""
        async for page in pages:
            if self._stopped:
                return
            sends, _ = await self._sends_of(page)
            await self._record([one for one in sends.values() if one is not None], to)

    async def settle_all(self, to: State) -> None:
        """Record it for every unknown send; a draft is left where it would be accepted."""
        async for page in self._ledger.by_state(self._job_id, State.UNKNOWN):
            if self._stopped:
                return
            await self._record([one for one in page if to is State.PENDING or one.step >= self._last], to)

    async def _record(self, records: Iterable[SendRecord], to: State) -> None:
        changes = [
            Change(Scope.SEND, one.key, State.UNKNOWN, to, one.step, reason=REASON, settler=self._settler)
            for one in records
            if one.state is State.UNKNOWN  # a key may stand in a file twice
        ]
        await asyncio.gather(*(self._ledger.record(self._job_id, change) for change in changes))
        if to is State.ACCEPTED:
            self.accepted += len(changes)
        else:
            self.pending += len(changes)


def _by_chunk(rows: Buckets) -> Counter[int]:
    """Count the rows of each chunk; one that is named twice counts once."""
    counts: Counter[int] = Counter()
    for bucket in range(rows.count):
        counts.update(number for number, _ in set(rows.rows(bucket)))
    return counts


def _is_done(record: SendRecord | None, to: State) -> bool:
    return record is not None and record.state is to and record.reason == REASON
