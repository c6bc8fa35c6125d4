"""Whether a job whose times have passed has anything left to be late with."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import Executor

from bulksend.api.opening import Opened
from bulksend.job.check import Row
from bulksend.job.rows import batches_in
from bulksend.launch import is_too_late
from bulksend.ledger.base import Ledger, Scope
from bulksend.model import Send, State

__all__ = ["is_late"]


async def is_late(opened: Opened, ledger: Ledger, executor: Executor, *, limit: int | None) -> bool:
    """Say whether a send with a time that has passed is still to be made; the ledger is only read.

    What was made in time may still be looked up, and followed to its end. Of chunks, each counts whose last sending
    step was not made.
    """
    record = await ledger.find_job(opened.job.name) if await ledger.open(create=False) else None
    if record is None:
        return True
    audience, renderer, spec = opened.audience, opened.renderer, opened.job.audience
    if spec is not None and spec.chunk is not None:
        sending = sum(not endpoint.reads for _, endpoint in opened.flow.steps)
        async for members in ledger.open_members(record.id, State.PENDING):
            chunks = list({member.chunk for member in members})
            begun = await ledger.look_up(record.id, Scope.SEND, chunks)
            if any(chunk not in begun or begun[chunk].step < sending for chunk in chunks):
                return True
        assert audience is not None
        async for some in batches_in(executor, audience.rows([spec.key], limit=limit)):
            keys = [str(row[0]) for row in some]
            if len(await ledger.members_of(record.id, keys)) < len(keys):
                return True  # a row that is in no chunk yet
        return False

    def render(rows: Sequence[Row], first: int) -> list[Send]:
        made = (renderer.send(number, row)[0] for number, row in enumerate(rows, first))
        return [send for send in made if send is not None and is_too_late(send, None, renderer.now)]

    number = 1
    batches: Iterator[Sequence[Row]]
    batches = iter([[()]]) if audience is None else audience.rows(renderer.columns, limit=limit)
    async for batch in batches_in(executor, batches):
        late = render(batch, number)
        number += len(batch)
        records = await ledger.look_up(record.id, Scope.SEND, [send.key for send in late])
        if any(is_too_late(send, records.get(send.key), renderer.now) for send in late):
            return True
    return False
