"""Where a launch's sends come from: rows of the audience, chunks of them, or rows made in code."""

from __future__ import annotations

import csv
from collections.abc import AsyncIterator, Iterator
from concurrent.futures import Executor
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from bulksend.api.opening import Opened
from bulksend.errors import JobError, Problem
from bulksend.job.check import Numbered, Row
from bulksend.job.render import Renderer, chunk_key
from bulksend.job.rows import BATCH, Rows, batches_in, code_batches
from bulksend.launch import SendSource
from bulksend.ledger.base import Ledger, Member
from bulksend.model import Account, Send

if TYPE_CHECKING:
    from bulksend.job.audience import Audience

__all__ = ["RowCount", "chunk_source", "code_source", "row_source"]

NOBODY = Account("-", "", "")
"""Stands in for the account of a row that names none."""


class RowCount(Protocol):
    """What counts the rows from code as they come by."""

    rows: int


def _or_invalid(key: object, row: int, made: tuple[Send | None, list[Problem]]) -> Send:
    """Return the send, or one that is recorded as rejected without a call: its row was not looked at beforehand."""
    send, problems = made
    if send is not None:
        return send
    if not isinstance(key, str) or not key.strip():
        raise JobError(problems)
    text = "; ".join(f"{one.field}: {one.text}" if one.field else one.text for one in problems)
    return Send(key, row, NOBODY, (), 0, invalid=f"not sent: {text}")


def _key_of(renderer: Renderer, row: Row) -> object:
    return str(row[0]) if renderer.columns and row[0] is not None else None


def row_source(opened: Opened, executor: Executor, *, limit: int | None) -> SendSource:
    """Give one send per row of the audience, or the one send of a job without an audience."""
    audience, renderer = opened.audience, opened.renderer

    def rendered() -> Iterator[list[Send]]:
        batches: Iterator[list[tuple[object, ...]]]
        batches = iter([[()]]) if audience is None else audience.rows(renderer.columns, limit=limit, batch=BATCH)
        number = 0
        for batch in batches:
            sends = []
            for row in batch:
                number += 1
                made = renderer.send(0 if audience is None else number, row)
                sends.append(_or_invalid(_key_of(renderer, row), number, made))
            yield sends

    return lambda: batches_in(executor, rendered())


def code_source(opened: Opened, rows: Rows, count: RowCount) -> SendSource:
    """Give one send per row that the caller's code makes; it can be drawn from once."""
    renderer = opened.renderer

    async def sends() -> AsyncIterator[list[Send]]:
        async for batch in code_batches(rows, renderer.columns):
            made = []
            for row in batch:
                count.rows += 1
                made.append(_or_invalid(_key_of(renderer, row), count.rows, renderer.send(count.rows, row)))
            yield made

    return sends


def chunk_source(opened: Opened, ledger: Ledger, job_id: int, executor: Executor, *, limit: int | None) -> SendSource:
    """Give one send per chunk. Rows that have no chunk yet are put into new ones first, in the ledger and for good."""
    audience, renderer = opened.audience, opened.renderer
    assert audience is not None

    async def sends() -> AsyncIterator[list[Send]]:
        await _assign(opened, audience, ledger, job_id, executor, limit=limit)
        path = opened.scratch_dir / "members.csv"
        await _write_open_members(path, ledger, job_id)
        rows = batches_in(executor, audience.chunk_rows(renderer.columns, path, batch=BATCH))
        expected = _chunks_of_members(ledger, job_id)
        async for number, found in _grouped(rows):
            members = await anext(expected)
            if members[0].number < number:
                raise _missing(members[0])
            if len(found) < len(members):
                keys = {str(row[0]) for _, row in found}
                raise _missing(next(member for member in members if member.key not in keys))
            made = renderer.chunk(members[0].chunk, found[0][0], [row for _, row in found])
            yield [_or_invalid(members[0].chunk, found[0][0], made)]
        left = await anext(expected, None)
        if left is not None:
            raise _missing(left[0])

    return sends


def _missing(member: Member) -> JobError:
    text = "belongs to a chunk that an earlier run made and did not send, but the audience has no such row any more"
    return JobError(Problem(f"{text}; put it back, or give the job another name", key=member.key))


async def _assign(
    opened: Opened, audience: Audience, ledger: Ledger, job_id: int, executor: Executor, *, limit: int | None
) -> None:
    """Put rows without a chunk into new chunks, in the order of the audience."""
    renderer, spec = opened.renderer, opened.job.audience
    assert spec is not None
    assert spec.chunk is not None
    number = await ledger.last_chunk(job_id)
    opened_chunks: dict[str, list[Numbered]] = {}
    new: list[Member] = []

    def full(chunk: list[Numbered]) -> None:
        nonlocal number
        number += 1
        keys = [str(row[0]) for _, row in chunk]
        name = chunk_key(keys)
        new.extend(Member(key, name, number) for key in keys)

    row_number = 0
    async for batch in batches_in(executor, audience.rows(renderer.columns, limit=limit, batch=BATCH)):
        known = await ledger.members_of(job_id, [str(row[0]) for row in batch])
        for row in batch:
            row_number += 1
            if str(row[0]) in known:
                continue
            chunk = opened_chunks.setdefault(renderer.account_of(row).name, [])
            chunk.append((row_number, row))
            if len(chunk) == spec.chunk:
                full(opened_chunks.pop(renderer.account_of(row).name))
        if len(new) >= 10_000:
            await ledger.add_members(job_id, new)
            new.clear()
    for chunk in opened_chunks.values():
        full(chunk)
    if new:
        await ledger.add_members(job_id, new)


async def _write_open_members(path: Path, ledger: Ledger, job_id: int) -> None:
    """Write chunk number and key of every member that is not settled, for the join with the audience."""
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        async for page in ledger.open_members(job_id):
            writer.writerows((member.number, member.key) for member in page)


async def _chunks_of_members(ledger: Ledger, job_id: int) -> AsyncIterator[list[Member]]:
    chunk: list[Member] = []
    async for page in ledger.open_members(job_id):
        for member in page:
            if chunk and chunk[0].number != member.number:
                yield chunk
                chunk = []
            chunk.append(member)
    if chunk:
        yield chunk


async def _grouped(batches: AsyncIterator[list[tuple[object, ...]]]) -> AsyncIterator[tuple[int, list[Numbered]]]:
    """Gather the rows (chunk number, row number, cells …), ordered by chunk number, into chunks."""
    number, rows = 0, list[Numbered]()
    async for batch in batches:
        for chunk, row, *cells in batch:
            assert isinstance(chunk, int)
            assert isinstance(row, int)
            if rows and chunk != number:
                yield number, rows
                rows = []
            number = chunk
            rows.append((row, cells))
    if rows:
        yield number, rows
