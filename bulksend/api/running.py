"""One run of an opened job: the lock, the engine and the launch, and how it ended."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import socket
import time
from collections.abc import Sequence
from functools import partial

import msgspec

from bulksend.api.observing import Observer, Observers
from bulksend.api.opening import Opened
from bulksend.api.report import Failure, Report, SegmentReport
from bulksend.duration import format_duration
from bulksend.engine.direct import open_transport
from bulksend.engine.sender import Sender as Engine
from bulksend.engine.transport import Transport
from bulksend.errors import (
    BulksendError,
    GuardError,
    InterruptedRunError,
    LedgerError,
)
from bulksend.event import Event, EventName
from bulksend.job.spec import Job
from bulksend.launch import Launch, Source
from bulksend.ledger.base import Counts, JobRecord, Ledger
from bulksend.model import Account, JobState, Repeat, State
from bulksend.observe.chronicle import Chronicle
from bulksend.providers import Flow, Provider, SendName

__all__ = ["Run", "can_look_up", "failures_of", "vendor_of"]

STOP_POLL_S = 0.4
SAMPLE_EVERY = 2
"""Polls between two samples."""
SAVE_EVERY = 5
"""Polls between two times that the numbers so far are saved for `status`."""
_SETTLED = (State.ACCEPTED, State.REJECTED, State.UNKNOWN)
FAILURES_MOST = 100


class Run:
    """One run of an opened job, from the ledger's lock to the report."""

    def __init__(self, opened: Opened, ledger: Ledger, observers: Sequence[Observer], *, limited: bool) -> None:
        self.opened = opened
        self.job = opened.job
        self.ledger = ledger
        self.began_s = time.monotonic()
        self.total: int | None = None
        self.rows = 0
        self.size: tuple[int, int] | None = None
        """Rows and sends of the whole audience, also where the run takes only the first of them."""
        self.segment: SegmentReport | None = None
        """How the job's segment stands, once that is known."""
        self._chronicle = Chronicle()
        self._tell = Observers([self._chronicle, *observers])
        self._limited = limited
        self._transport: Transport = open_transport()
        self._engine: Engine | None = None
        self._launch: Launch | None = None
        self._record: JobRecord | None = None
        self._watch: asyncio.Task[None] | None = None
        self._deadline: asyncio.TimerHandle | None = None
        self._interrupted: InterruptedRunError | None = None

    def observe(self, event: Event) -> None:
        self._tell(event)

    def interrupt(self, text: str) -> None:
        """Make no new call; whatever is under way finishes."""
        if self._interrupted is None:
            self._interrupted = InterruptedRunError(f"{text}; run again to go on")
            self.observe(Event(EventName.RUN_STOPPING, self.job.name, reason=text))
            if self._engine is not None:
                self._engine.stop(self._interrupted)

    @property
    def interrupted(self) -> InterruptedRunError | None:
        return self._interrupted

    async def start(self) -> JobRecord:
        """Open the ledger, take the job's lock, and get the engine ready. Returns the job as it was before."""
        await self.ledger.open(create=True)
        holder = f"process {os.getpid()} on {socket.gethostname()}, since {time.strftime('%Y-%m-%d %H:%M:%S')}"
        before, turned = await self.ledger.start_job(self.job.name, holder, vendor=vendor_of(self.job))
        self._record = before
        if turned:
            self.observe(Event(EventName.LEDGER_RECOVERED, self.job.name, count=turned))
        self._engine = Engine(
            job=self.job.name,
            job_id=before.id,
            provider=self.job.provider,
            ledger=self.ledger,
            transport=self._transport,
            limit_of=self.job.limit,
            wall=time.time,
            random=random.random,
            observe=self.observe,
            contract=self.job.limits,
        )
        self._launch = Launch(
            sender=self._engine,
            ledger=self.ledger,
            job_id=before.id,
            renderer=self.opened.renderer,
            policy=self.job.policy,
            can_look_up=_can_look_up(self.opened),
            observe=self.observe,
        )
        if self._interrupted is not None:
            self._engine.stop(self._interrupted)
        if self.job.policy.deadline_s is not None:
            left_s = self.job.policy.deadline_s - (time.monotonic() - self.began_s)
            self._deadline = asyncio.get_running_loop().call_later(max(0.0, left_s), self._end_at_deadline)
        self._watch = asyncio.create_task(self._watch_stop(before.id))
        self.observe(self._started(before.counts, turned))
        return before

    def _started(self, before: Counts, turned: int) -> Event:
        """Return the event that says what the run has before it, and what became of the rest; `turned` is unknown now.

        How much of its first rows is settled, a run with a limit does not know.
        """
        name, settled = self.job.name, before.settled + turned
        if self._limited:
            return Event(EventName.RUN_STARTED, name, count=self.total)
        unknown = before.unknown + turned
        return Event(
            EventName.RUN_STARTED, name, count=self.total, settled=settled, rejected=before.rejected, unknown=unknown
        )

    def _end_at_deadline(self) -> None:
        """End the run as a guard does; where the vendor is down, it is only to be run again."""
        assert self._engine is not None
        assert self._launch is not None
        text = f"deadline: the run takes longer than {format_duration(self.job.policy.deadline_s or 0.0)}"
        outage = self._engine.outage
        if outage is None:
            self._launch.guard(text)
        else:
            self.interrupt(f"{text}, and {outage}")

    @property
    def job_id(self) -> int:
        assert self._record is not None
        return self._record.id

    async def _watch_stop(self, job_id: int) -> None:
        """Stop when somebody asks for it, or when the ledger is not there any more; save the numbers so far."""
        polls = 0
        try:
            while not await self.ledger.stop_requested(job_id):
                await asyncio.sleep(STOP_POLL_S)
                polls += 1
                if polls % SAMPLE_EVERY == 0:
                    assert self._engine is not None
                    assert self._launch is not None
                    self._engine.sample(self._launch.under_way)
                if polls % SAVE_EVERY == 0 and (record := await self.ledger.find_job(self.job.name)) is not None:
                    so_far = await self.report(record, None, brief=True)
                    await self.ledger.save_summary(job_id, so_far.to_dict())
                    await self._save_history(so_far)
            self.interrupt("stopped by `bulksend stop`")
        except LedgerError as wrong:
            assert self._engine is not None
            self._engine.stop(wrong)

    async def _save_history(self, report: Report, state: JobState | None = None, why: str | None = None) -> None:
        """Keep the run's history with its numbers; with a state, as that of a run that has ended."""
        kept = {"summary": report.to_dict(), "state": str(state or ""), "why": why}
        history = msgspec.structs.replace(self._chronicle.history(), **kept)
        await self.ledger.save_history(self.job_id, history.began_at, msgspec.json.encode(history).decode())

    async def launch(self, source: Source) -> None:
        """Send what is pending."""
        assert self._launch is not None
        assert self._record is not None
        if self.size is not None:
            await self.ledger.set_size(self.job_id, rows=self.size[0], sends=self.size[1])
        record = await self.ledger.find_job(self.job.name)
        counts = Counts() if record is None else record.counts
        await self._launch.run(source, accepted_before=counts.accepted, unknown_before=counts.unknown)

    @property
    def engine(self) -> Engine:
        """Return what makes the run's calls; there is one once it has started."""
        assert self._engine is not None
        return self._engine

    async def prepare(self, account: Account, *, again: bool = False) -> None:
        """Make what the account's sends depend on, before any of them; `again` also where it was made before."""
        assert self._launch is not None
        await self._launch.prepare(account, again=again)

    @property
    def stopping(self) -> bool:
        return self._engine is not None and self._engine.stopping

    @property
    def failure(self) -> BaseException | None:
        return None if self._engine is None else self._engine.failure

    async def finish(self, failure: BaseException | None) -> Report:
        """Close the engine, record how the run ended, give the lock back."""
        assert self._engine is not None
        assert self._launch is not None
        if self._watch is not None:
            self._watch.cancel()
        if self._deadline is not None:
            self._deadline.cancel()
        self._engine.stop()
        await self._launch.close()
        await self._transport.close()
        with contextlib.suppress(BulksendError):
            await self._engine.close()
        record = await self.ledger.find_job(self.job.name)
        assert record is not None
        report = await self.report(record, failure)
        state = report.state
        if self._limited and state is JobState.DONE and record.sends > record.counts.settled:
            state = JobState.INCOMPLETE  # the first rows are done, the job is not
        # A run that found nothing to do does not finish the job once more.
        finished = state is JobState.DONE and (report.calls > 0 or record.finished_at is None)
        reason = None if failure is None else str(failure)
        await self._save_history(report, state, reason)
        await self.ledger.end_job(self.job_id, state, report.to_dict(), counts_as_finish=finished)
        self._engine.sample(self._launch.under_way)  # for a run that was over before its first
        code = report.exit_code if failure is None else getattr(failure, "exit_code", 1)
        self.observe(Event(_ended(failure), self.job.name, count=report.accepted, reason=reason, exit_code=code))
        return report

    async def report(self, record: JobRecord | None, failure: BaseException | None, *, brief: bool = False) -> Report:
        """Return the numbers: the job's by its ledger; with a limit, those of the rows that it takes.

        Without a record (a ledger that failed), those that this run has seen. `brief` leaves the failures out.
        """
        assert self._engine is not None
        assert self._launch is not None
        seen = self._launch.seen
        counts = record.counts if record is not None else Counts(*(seen[state] for state in _SETTLED))
        # What is still `sending` was cut off with the run: its fate is as unknown as it will be for the next one.
        accepted, rejected, unknown = counts.accepted, counts.rejected, counts.unknown + counts.sending
        if self._limited:
            accepted, rejected, unknown = (seen[state] for state in _SETTLED)
        settled = accepted + rejected + unknown
        # Rows that were replaced under the same job name count as settled and as pending, never as neither.
        unsettled = max(0, self._launch.under_way - counts.sending) + len(self._launch.held_back)
        pending = max((self.total or 0) - settled, unsettled)
        return Report(
            job=self.job.name,
            state=_state(failure, pending),
            rows=self.rows,
            total=settled + pending,
            accepted=accepted,
            rejected=rejected,
            unknown=unknown,
            pending=pending,
            calls=self._engine.calls,
            retried=self._engine.retried,
            throttled=self._engine.throttled,
            elapsed_s=time.monotonic() - self.began_s,
            rate_per_min=self._rate_per_min(),
            endpoints={name: stats.summary() for name, stats in self._engine.stats.items()},
            campaigns=dict(self._engine.tally),
            segment=self.segment,
            changed=self._launch.changed,
            failures=await failures_of(self.ledger, record.id) if record is not None and not brief else (),
            started_at=record.started_at if record is not None else None,
            finished_at=record.finished_at if record is not None else None,
        )

    def _rate_per_min(self) -> float | None:
        """Settled sends per minute, from the first launch call to the last reply."""
        assert self._engine is not None
        assert self._launch is not None
        names = {endpoint.name for _, endpoint in self.opened.flow.steps}
        stats = [one for name, one in self._engine.stats.items() if name in names]
        took_s = max((one.last_reply_at_s for one in stats), default=0.0) - min(
            (one.first_at_s for one in stats), default=0.0
        )
        # A burst within a second says nothing about a minute.
        return 60 * self._launch.settled_now / took_s if took_s >= 1 else None


def vendor_of(job: Job) -> str:
    """Return where and how a job sends: what it may not change once it has begun."""
    addresses = sorted({spec.base_url for spec in job.accounts.values()})
    # A send between two of its steps can be gone on with only in the same way.
    way = job.provider.flow(job.tables).way
    return f"{job.provider.name}{f' ({way})' if way else ''} at {', '.join(addresses)}"


def _ended(failure: BaseException | None) -> EventName:
    if isinstance(failure, GuardError | InterruptedRunError):
        return EventName.RUN_STOPPED
    return EventName.RUN_FINISHED if failure is None else EventName.RUN_FAILED


def _state(failure: BaseException | None, pending: int) -> JobState:
    if isinstance(failure, GuardError) and failure.refused:
        return JobState.REFUSED
    if isinstance(failure, GuardError | InterruptedRunError):
        return JobState.STOPPED
    return JobState.INCOMPLETE if failure is not None or pending else JobState.DONE


async def failures_of(ledger: Ledger, job_id: int) -> tuple[Failure, ...]:
    """Return the first hundred sends that are unknown or rejected, in that order, each by key."""
    failures: list[Failure] = []
    for state in (State.UNKNOWN, State.REJECTED):
        async for page in ledger.by_state(job_id, state):
            room = FAILURES_MOST - len(failures)
            failures += [Failure(one.key, one.row, one.state, one.reason, one.status) for one in page[:room]]
            if len(failures) == FAILURES_MOST:
                return tuple(failures)
    return tuple(failures)


def _can_look_up(opened: Opened) -> bool:
    return can_look_up(opened.job.provider, opened.flow)


def can_look_up(provider: Provider, flow: Flow) -> bool:
    """Say whether an unknown can be settled without a person: by a lookup, or since a repeat is harmless."""
    nobody = Account("-", provider.name, "")
    probe = partial(provider.probe, account=nobody, name=SendName("", ""), ref="-")
    return any(one.repeat is Repeat.SAFE or probe(one) is not None for _, one in flow.steps)
