"""The rows whose sends failed, out of the audience into a file that is an audience itself."""

from __future__ import annotations

import asyncio
import heapq
import os
from collections.abc import Collection, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, aclosing
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from bulksend.api.listing import CUT_OFF, states_of
from bulksend.api.opening import at_table, ledger_path
from bulksend.api.out_file import check_out, kind_of_out, whole_file
from bulksend.api.row_file import Mark, row_file
from bulksend.api.run import JobSource
from bulksend.api.state import ledger_of
from bulksend.api.with_rows import load_with_rows
from bulksend.errors import JobError, JobLockedError
from bulksend.job.buckets import Buckets, bucket_count
from bulksend.job.rows import batches_in
from bulksend.job.spec import Job
from bulksend.job.whole_rows import ADDED, WholeRows
from bulksend.ledger.base import Ledger, SendRecord
from bulksend.model import State

__all__ = ["DeadLetters", "dead_letters_async"]

MISSING_MOST = 100


@dataclass(frozen=True, slots=True)
class DeadLetters:
    """A file of rows that failed: how many of how many sends, and which are not in the audience any more."""

    path: Path
    rows: int
    sends: int
    missing: int
    """Rows of those sends that the file lacks, since the audience does."""
    missing_keys: tuple[str, ...]
    """The first hundred of them."""

    def to_dict(self) -> dict[str, object]:
        """Return the object that `--json` prints."""
        return {
            "file": str(self.path),
            "rows": self.rows,
            "sends": self.sends,
            "missing": self.missing,
            "missing_keys": list(self.missing_keys),
        }


async def dead_letters_async(
    job: JobSource,
    out: str | os.PathLike[str],
    *,
    states: Collection[State] = (State.REJECTED,),
    vars: Mapping[str, str] | None = None,
    ledger: str | None = None,
) -> DeadLetters:
    """Write the rows whose sends are rejected (or unknown) to a file: the next job's audience.

    In the audience's own format and order, every column unchanged, and behind them `bulksend_state`, `bulksend_reason`
    and `bulksend_status`, in place of those of an earlier round; of a chunk, all its rows. The rows of `sql` come in
    the format that the file's ending names. The file is made new, with mode 0600, or not at all.

    Raises JobError for a file that the job reads, or of another format, and for a job whose rows are made in code;
    JobLockedError while the job runs.
    """
    path = Path(out)
    wrong = [state for state in states if state not in (State.REJECTED, State.UNKNOWN)]
    if wrong or not states:
        raise JobError(f"only rejected and unknown sends have dead letters, not {', '.join(wrong) or 'none'}")
    async with ledger_of(job, vars, ledger) as (loaded, store, record):
        if record.holder is not None:
            raise JobLockedError(f'the job "{loaded.name}" is being run by {record.holder}; ask again afterwards')
        readable = load_with_rows(job, vars)
        if readable is None or readable.audience is None:
            what = "has no file of rows: its rows are made in code" if readable is None else "has no [audience]"
            raise JobError(f'the job "{loaded.name}" {what}; list its sends without --out')
        spec = readable.audience
        with ExitStack() as stack:
            scratch = Path(stack.enter_context(TemporaryDirectory(prefix="bulksend-")))
            executor = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="bulksend-reader"))
            loop = asyncio.get_running_loop()
            rows = await loop.run_in_executor(executor, _open, readable, scratch)
            try:
                if spec.key.casefold() in ADDED:
                    raise JobError(f"the key column {spec.key} has the name of a column that would be added")
                kind = kind_of_out(path, rows.kind)
                place = check_out(readable, path, ledger_path(ledger, loaded.base_dir), rows.files)
                wanted = {each: state for state in states for each in states_of(record, state)}
                chosen = _Chosen(store, record.id, wanted, chunked=spec.chunk is not None)
                most = record.counts.rejected + record.counts.unknown + record.counts.sending
                parts = bucket_count(most * (spec.chunk or 1))
                with Buckets(parts, scratch) as expected, Buckets(parts, scratch) as found, whole_file(place) as file:
                    sends = await chosen.expect(expected)
                    packed = path.name.lower().endswith(".gz")
                    made = row_file(rows, kind, file, packed=packed, scratch=scratch)
                    written = 0
                    async with aclosing(batches_in(executor, made.rows())) as batches:
                        async for batch in batches:
                            marks = await chosen.marks([key for key, _ in batch if key is not None])
                            found.put((hash(key) % parts, key) for key in marks)
                            written += await loop.run_in_executor(executor, made.write, batch, marks)
                    await loop.run_in_executor(executor, made.finish)
                    missing, first = _missing(expected, found)
            finally:
                await loop.run_in_executor(executor, rows.close)
        return DeadLetters(path, written, sends, missing, first)


def _open(job: Job, scratch: Path) -> WholeRows:
    spec = job.audience
    assert spec is not None
    try:
        return WholeRows(base_dir=job.base_dir, source=spec.source, sql=spec.sql, key=spec.key, scratch_dir=scratch)
    except JobError as wrong:
        field = "audience.from" if spec.sql is None else "audience.sql"
        raise JobError([at_table(job, field, problem) for problem in wrong.problems]) from None


class _Chosen:
    """Which rows the sends in some states stand for; `states` says as what each of the ledger's is told."""

    def __init__(self, ledger: Ledger, job_id: int, states: Mapping[State, State], *, chunked: bool) -> None:
        self._ledger = ledger
        self._job_id = job_id
        self._states = states
        self._chunked = chunked

    async def expect(self, keys: Buckets) -> int:
        """Put the keys of all their rows into buckets; returns how many sends there are."""
        sends = 0
        for state in self._states:
            async for page in self._ledger.by_state(self._job_id, state):
                sends += len(page)
                if not self._chunked:
                    keys.put((hash(one.key) % keys.count, one.key) for one in page)
            if self._chunked:
                async for members in self._ledger.open_members(self._job_id, state):
                    keys.put((hash(one.key) % keys.count, one.key) for one in members)
        return sends

    async def marks(self, keys: list[str]) -> dict[str, Mark]:
        """Return by key what became of those rows among these whose sends are in the states."""
        names = {key: key for key in keys}
        if self._chunked:
            names = {key: one.chunk for key, one in (await self._ledger.members_of(self._job_id, keys)).items()}
        records = await self._ledger.look_up_in(self._job_id, list(dict.fromkeys(names.values())), list(self._states))
        return {key: self._mark(records[name]) for key, name in names.items() if name in records}

    def _mark(self, one: SendRecord) -> Mark:
        return Mark(self._states[one.state], CUT_OFF if one.state is State.SENDING else one.reason, one.status)


def _missing(expected: Buckets, found: Buckets) -> tuple[int, tuple[str, ...]]:
    """Return how many keys were expected and not found, and the first of them in their order."""
    number = 0

    def each() -> Iterator[str]:
        nonlocal number
        for bucket in range(expected.count):
            missing = set(expected.rows(bucket)) - set(found.rows(bucket))
            number += len(missing)
            yield from missing

    first = heapq.nsmallest(MISSING_MOST, each())
    return number, tuple(first)
