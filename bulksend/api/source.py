"""Where a launch's sends come from: rows of the audience, chunks of them, or rows made in code."""

from __future__ import annotations

import asyncio
import csv
import time
from array import array
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterator, Sequence
from concurrent.futures import Executor
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Protocol

from bulksend.api.opening import Opened
from bulksend.errors import JobError, Problem
from bulksend.job.bulk import Bulk
from bulksend.job.check import Numbered, Row
from bulksend.job.parting import parted
from bulksend.job.render import Renderer, chunk_key, is_fit_key
from bulksend.job.rows import BATCH, READ, Rows, batches_in, code_batches
from bulksend.launch import Source
from bulksend.ledger.base import Ledger, Member
from bulksend.model import Account, Send, State

if TYPE_CHECKING:
    from bulksend.job.audience import Audience

__all__ = ["RowCount", "chunk_source", "code_source", "row_source"]

NOBODY = Account("-", "", "")
"""Stands in for the account of a row that names none."""


_Chunk = tuple[str, list[Numbered]]
"""A chunk's key and its rows."""


class RowCount(Protocol):
    """What counts the rows from code as they come by."""

    rows: int


def _or_invalid(key: object, row: int, made: tuple[Send | None, list[Problem]]) -> Send:
    """Return the send, or one that is recorded as rejected without a call: its row was not looked at beforehand.

    Raises JobError for a row whose key cannot stand in the ledger.
    """
    send, problems = made
    if send is not None:
        return send
    if not isinstance(key, str) or not is_fit_key(key):
        raise JobError(problems)
    text = "; ".join(f"{one.field}: {one.text}" if one.field else one.text for one in problems)
    return Send(key, row, NOBODY, (), 0, invalid=f"not sent: {text}")


def _key_of(renderer: Renderer, row: Row) -> object:
    return str(row[0]) if renderer.columns and row[0] is not None else None


def _draw(opened: Opened, limit: int | None) -> Iterator[tuple[Sequence[int], Sequence[Row]]]:
    """Give the rows that are needed of the audience, with their numbers; one empty row for a job without one."""
    number = 1
    audience, columns = opened.audience, opened.renderer.columns
    if audience is None:
        yield range(1), [()]
        return
    for batch in audience.rows(columns, limit=limit, batch=READ):
        yield range(number, number + len(batch)), batch
        number += len(batch)


def _render(renderer: Renderer, bulk: Bulk, numbers: Sequence[int], rows: Sequence[Row]) -> list[Send]:
    sends: dict[int, Send] = {}
    for fine in bulk.fine(rows):
        sends.update(zip(fine.at, fine.sends(numbers), strict=True))
    for index in set(range(len(rows))).difference(sends) if len(sends) < len(rows) else ():
        number, row = numbers[index], rows[index]
        sends[index] = _or_invalid(_key_of(renderer, row), number, renderer.send(number, row))
    return [sends[index] for index in range(len(rows))]


def _render_numbered(renderer: Renderer, bulk: Bulk, numbered: Sequence[Numbered]) -> list[Send]:
    return _render(renderer, bulk, [number for number, _ in numbered], [row for _, row in numbered])


def row_source(
    opened: Opened,
    executor: Executor,
    accounts: Sequence[str],
    *,
    limit: int | None,
    stopping: Callable[[], bool] = lambda: False,
) -> Source:
    """Give one send per row of the audience, or the one send of a job without an audience.

    With several `accounts` (their names), the rows of each can be had by themselves.
    """
    renderer, bulk = opened.renderer, Bulk(opened.renderer)

    def whole(_state: State) -> AsyncGenerator[list[Send], None]:
        return batches_in(executor, (_render(renderer, bulk, *drawn) for drawn in _draw(opened, limit)))

    def name_of(item: Numbered) -> str:
        return renderer.account_name(item[1])

    async def rendered(part: AsyncGenerator[list[Numbered], None]) -> AsyncGenerator[list[Send], None]:
        async for rows in part:
            yield await asyncio.get_running_loop().run_in_executor(executor, _render_numbered, renderer, bulk, rows)

    @asynccontextmanager
    async def parts(_state: State) -> AsyncIterator[list[AsyncGenerator[list[Send], None]]]:
        items = batches_in(executor, (list(zip(*drawn, strict=True)) for drawn in _draw(opened, limit)))
        async with parted(items, name_of, accounts, scratch_dir=opened.scratch_dir, stopping=stopping) as drawn:
            yield [rendered(part) for part in drawn]

    return Source(whole, parts if len(accounts) > 1 else None, one_account=len(accounts) <= 1)


def code_source(opened: Opened, rows: Rows, count: RowCount) -> Source:
    """Give one send per row that the caller's code makes; it can be drawn from once.

    With [account.NAME] tables, the rows of each account can be had by themselves; those of others come together.
    """
    renderer, bulk = opened.renderer, Bulk(opened.renderer)
    names = list(opened.job.accounts)

    async def numbered() -> AsyncGenerator[list[Numbered], None]:
        async for batch in code_batches(rows, renderer.columns):
            renderer.now = time.time()  # rows may come for hours
            yield list(enumerate(batch, count.rows + 1))
            count.rows += len(batch)

    drawn = numbered()

    def name_of(item: Numbered) -> str:
        return renderer.account_name(item[1])

    async def rendered(some: AsyncGenerator[list[Numbered], None]) -> AsyncGenerator[list[Send], None]:
        async for batch in some:
            yield _render_numbered(renderer, bulk, batch)

    @asynccontextmanager
    async def parts(_state: State) -> AsyncIterator[list[AsyncGenerator[list[Send], None]]]:
        async with parted(drawn, name_of, names, scratch_dir=opened.scratch_dir) as split:
            yield [rendered(part) for part in split]

    return Source(lambda _state: rendered(drawn), parts if len(names) > 1 else None, redraw=False)


def chunk_source(
    opened: Opened,
    ledger: Ledger,
    job_id: int,
    executor: Executor,
    accounts: Sequence[str],
    *,
    limit: int | None,
    stopping: Callable[[], bool],
) -> Source:
    """Give one send per chunk in a state; with several `accounts`, also those of each by itself.

    Rows without a chunk are put into new ones first, in the ledger, for good. With a limit, only chunks whose rows are
    all among the first N are given. Raises JobError, before it gives the first chunk, when a row of an open chunk is
    not in the audience any more.
    """
    audience, renderer = opened.audience, opened.renderer
    assert audience is not None

    async def chunks(state: State) -> AsyncGenerator[list[_Chunk], None]:
        found = await _assign(opened, audience, ledger, job_id, executor, limit=limit, stopping=stopping)
        if stopping():
            return
        path = opened.scratch_dir / f"members-{state}.csv"
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            async for members in _open_chunks(ledger, job_id, state):
                if _is_whole(members, found, limited=limit is not None):
                    writer.writerows((member.number, member.key) for member in members)
        batches = batches_in(executor, audience.chunk_rows(renderer.columns, path, batch=BATCH))
        expected = _open_chunks(ledger, job_id, state)
        async with aclosing(batches):
            async for number, rows in _grouped(batches):
                members = await anext(expected)
                while members[0].number < number:
                    members = await anext(expected)
                yield [(members[0].chunk, rows)]

    def render(some: list[_Chunk]) -> list[Send]:
        return [
            _or_invalid(key, rows[0][0], renderer.chunk(key, rows[0][0], [row for _, row in rows]))
            for key, rows in some
        ]

    async def rendered(drawn: AsyncGenerator[list[_Chunk], None]) -> AsyncGenerator[list[Send], None]:
        async with aclosing(drawn):
            async for some in drawn:
                yield render(some)

    @asynccontextmanager
    async def parts(state: State) -> AsyncIterator[list[AsyncGenerator[list[Send], None]]]:
        def name_of(chunk: _Chunk) -> str:
            return renderer.account_name(chunk[1][0][1])

        drawn_from = chunks(state)
        async with parted(drawn_from, name_of, accounts, scratch_dir=opened.scratch_dir, stopping=stopping) as drawn:
            yield [rendered(part) for part in drawn]

    def whole(state: State) -> AsyncGenerator[list[Send], None]:
        return rendered(chunks(state))

    return Source(whole, parts if len(accounts) > 1 else None, one_account=len(accounts) <= 1)


def _is_whole(members: list[Member], found: array[int], *, limited: bool) -> bool:
    """Say whether all rows of a chunk came by; where all rows did, one that is missing is an error."""
    number = members[0].number
    if number < len(found) and found[number] == len(members):
        return True
    if limited:
        return False
    text = "belongs to a chunk that an earlier run made and did not send, but the audience lacks rows of this chunk now"
    raise JobError(Problem(f"{text}; put them back, or give the job another name", key=members[0].key))


async def _assign(
    opened: Opened,
    audience: Audience,
    ledger: Ledger,
    job_id: int,
    executor: Executor,
    *,
    limit: int | None,
    stopping: Callable[[], bool],
) -> array[int]:
    """Put rows without a chunk into new chunks, in the order of the audience.

    Returns, by chunk number, how many of its rows came by: four bytes a chunk.
    """
    renderer, spec = opened.renderer, opened.job.audience
    assert spec is not None
    assert spec.chunk is not None
    number = await ledger.last_chunk(job_id)
    opened_chunks: dict[str, list[Numbered]] = {}
    new: list[Member] = []
    found = array("L", bytes(array("L").itemsize * (number + 1)))

    def full(chunk: list[Numbered]) -> None:
        nonlocal number
        number += 1
        keys = [str(row[0]) for _, row in chunk]
        name = chunk_key(keys)
        new.extend(Member(key, name, number) for key in keys)
        found.append(len(keys))

    row_number = 0
    async for batch in batches_in(executor, audience.rows(renderer.columns, limit=limit, batch=BATCH)):
        if stopping():
            return found
        known = await ledger.members_of(job_id, [str(row[0]) for row in batch])
        for row in batch:
            row_number += 1
            if not is_fit_key(str(row[0])):
                raise JobError(renderer.chunk("", row_number, [row])[1])
            if (member := known.get(str(row[0]))) is not None:
                found[member.number] += 1
                continue
            name = renderer.account_name(row)
            chunk = opened_chunks.setdefault(name, [])
            chunk.append((row_number, row))
            if len(chunk) == spec.chunk:
                full(opened_chunks.pop(name))
        if len(new) >= 10_000:
            await ledger.add_members(job_id, new)
            new.clear()
    for chunk in opened_chunks.values():
        full(chunk)
    if new:
        await ledger.add_members(job_id, new)
    return found


async def _open_chunks(ledger: Ledger, job_id: int, state: State) -> AsyncIterator[list[Member]]:
    chunk: list[Member] = []
    async for page in ledger.open_members(job_id, state):
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
