"""What a run would do: calls per endpoint, the bottleneck, the time it takes, the first payloads, every input error."""

from __future__ import annotations

import asyncio
import json
import os
import time
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from bulksend.api.checking import check_input
from bulksend.api.comparing import compare
from bulksend.api.desired import desired_of
from bulksend.api.forecast import EndpointPlan, endpoint_plan, segment_plan
from bulksend.api.lateness import is_late
from bulksend.api.opening import Opened, load_whole, naming, open_job, open_ledger, secret_problems
from bulksend.api.refusal import Observer, check_due
from bulksend.api.report import SegmentReport
from bulksend.api.run import JobSource, start_emulator
from bulksend.api.segment import Segment, check_limit
from bulksend.errors import GuardError, JobError, Problem
from bulksend.job.check import Checked
from bulksend.job.rows import batches_in
from bulksend.job.template import placeholders
from bulksend.ledger.base import Scope
from bulksend.model import State

__all__ = ["EndpointPlan", "Plan", "Sample", "plan_async"]

SETTLED = (State.ACCEPTED, State.REJECTED, State.UNKNOWN)


@dataclass(frozen=True, slots=True)
class Sample:
    """One rendered payload."""

    key: str
    row: int
    account: str
    endpoint: str
    body: Mapping[str, object]


@dataclass(frozen=True, slots=True)
class Plan:
    """A job as it stands. With `problems` a run would refuse; then the other figures are for what could be read."""

    job: str
    provider: str
    rows: int
    sends: int
    settled: int
    """Sends that an earlier run settled; they are not made again."""
    endpoints: Mapping[str, EndpointPlan]
    bottleneck: str | None
    """The endpoint whose limit decides how long the run takes."""
    eta_s: float | None
    """None with `problems`: how long a run would take is not known then."""
    samples: Sequence[Sample]
    problems: Sequence[Problem]
    more_problems: int
    warnings: Sequence[Problem]
    segment: SegmentReport | None = None
    """How the job's segment differs from its desired list; None for a job without, and with `problems`."""

    def to_dict(self) -> dict[str, object]:
        """Return the object that `plan --json` prints."""
        return {
            "job": self.job,
            "provider": self.provider,
            "rows": self.rows,
            "sends": {"total": self.sends, "settled": self.settled, "pending": max(0, self.sends - self.settled)},
            "endpoints": {
                name: {"calls": one.calls, "limit": one.limit, "duration_s": round(one.duration_s, 1)}
                for name, one in self.endpoints.items()
            },
            "bottleneck": self.bottleneck,
            "eta_s": None if self.eta_s is None else round(self.eta_s, 1),
            "samples": [
                {"key": one.key, "row": one.row, "account": one.account, "endpoint": one.endpoint, "body": one.body}
                for one in self.samples
            ],
            "problems": [str(problem) for problem in self.problems],
            "more_problems": self.more_problems,
            "warnings": [str(problem) for problem in self.warnings],
            **({} if self.segment is None else {"segment": {**self.segment.to_dict(), "samples": self._ids()}}),
        }

    def _ids(self) -> dict[str, list[str]]:
        assert self.segment is not None
        return {"added": list(self.segment.add_samples), "removed": list(self.segment.remove_samples)}


async def plan_async(
    job: JobSource,
    *,
    vars: Mapping[str, str] | None = None,
    ledger: str | None = None,
    base_url: str | None = None,
    limit: int | None = None,
    emulate: bool = False,
    diff_out: str | os.PathLike[str] | None = None,
    observers: Sequence[Observer] = (),
) -> Plan:
    """Look at a job without a change; the ledger is only read, and need not exist.

    No call is made, but for a job with [desired]: its segment is read, and the ids of the difference are written to the
    folder `diff_out`. `observers` are told of these calls. With `emulate` an emulator is asked.

    Raises JobError when the job file itself cannot be used; problems of rows are in the plan. A secret that is not set
    is a warning. Raises RunError where a segment cannot be read.
    """
    loaded = load_whole(job, variables=vars, base_url=base_url, with_secrets=False)
    async with AsyncExitStack() as stack:
        stack.enter_context(naming(loaded))
        opened = stack.enter_context(open_job(loaded))
        executor = stack.enter_context(ThreadPoolExecutor(1))
        if limit is not None and limit < 1:
            raise JobError(Problem("must be at least 1", field="--limit"))
        # Only a segment is asked for; without one no call is made, and no command is run for a secret.
        look = partial(secret_problems, opened, run_commands=loaded.desired is not None)
        secrets = [] if emulate else await asyncio.get_running_loop().run_in_executor(executor, look)
        warnings = list(secrets)
        checked = await check_input(
            opened, executor, limit=limit, precheck=True, with_secrets=False, stopping=lambda: False
        )
        check_limit(loaded, limit)
        begun = bool(opened.flow.steps) and not emulate and await _has_begun(opened, ledger)
        if begun and loaded.desired is not None:
            text = "the launch has begun: a run neither reads nor changes the segment any more"
            warnings.append(loaded.problem_at("desired", text))
        desired, wrong = (None, None) if begun else await desired_of(opened, executor, lambda: False)
        if wrong is not None:
            checked.problems, checked.only_late = [*checked.problems, *wrong.problems], False
            checked.more += wrong.more
        settled = 0 if emulate else await _settled(opened, ledger, executor, limit=limit)
        made = _Made() if emulate else await _made(opened, ledger, checked)
        warnings += [] if emulate else _row_secrets(opened)
        chunk = loaded.audience.chunk if loaded.audience is not None else None
        notes = loaded.provider.notes(loaded.tables, sends=checked.sends, chunk=chunk)
        warnings += [loaded.problem(note) for note in notes]
        if checked.problems and checked.only_late and not emulate:
            store = open_ledger(ledger, loaded.base_dir)
            try:
                late = await is_late(opened, store, executor, limit=limit)
            finally:
                await store.close()
            if not late:
                checked.problems, checked.more = [], 0
        try:
            check_due(loaded, time.time())
        except GuardError as late:
            warnings.append(loaded.problem_at("policy.due", f"{late}: a run is refused"))
        most = loaded.policy.max_sends
        if most is not None and checked.sends > most:
            text = f"{checked.sends:,} sends, at most {most:,} are allowed: a run is refused"
            warnings.append(loaded.problem_at("policy.max_sends", text))
        found: SegmentReport | None = None
        if desired is not None and not checked.problems and not secrets:
            if emulate:
                ledger = await start_emulator(stack, opened, executor)
            segment = Segment(opened, desired, executor)
            folder = None if diff_out is None else Path(diff_out)
            found, refusals = await compare(
                opened, segment, executor, ledger=ledger, diff_out=folder, observers=observers
            )
            for name, _, text in (refusal.partition(": ") for refusal in refusals):
                warnings.append(loaded.problem_at(f"guard.{name}", f"{text}: a run is refused"))
        elif secrets and desired is not None and not checked.problems:
            text = "was not read, since a secret is not set; so nothing is known of its difference"
            warnings.append(loaded.problem_at("segment", text))
        return _plan(opened, checked, settled, made, warnings, found)


def _row_secrets(opened: Opened) -> list[Problem]:
    """Warn of secrets that rows pick and that are not there."""
    return [
        opened.job.problem_at(f"account.{field}", f"{number:,} of the accounts have no secret at {source}")
        for (field, source), number in opened.accounts.unset.items()
        if placeholders(source)
    ]


async def _has_begun(opened: Opened, url: str | None) -> bool:
    """Say whether a send of the job was settled, or was under way when a run ended."""
    store = open_ledger(url, opened.job.base_dir)
    try:
        record = await store.find_job(opened.job.name) if await store.open(create=False) else None
    finally:
        await store.close()
    return record is not None and bool(record.counts.settled or record.counts.sending)


async def _settled(opened: Opened, url: str | None, executor: ThreadPoolExecutor, *, limit: int | None) -> int:
    """Count the sends of this audience that the ledger has as settled; a chunk counts by its members."""
    store = open_ledger(url, opened.job.base_dir)
    try:
        record = await store.find_job(opened.job.name) if await store.open(create=False) else None
        if record is None or not record.counts.settled:
            return 0
        if opened.audience is None:
            return record.counts.settled
        assert opened.job.audience is not None
        key, chunked = opened.job.audience.key, opened.job.audience.chunk is not None
        found: set[str] = set()
        number = 0
        async for batch in batches_in(executor, opened.audience.rows([key], limit=limit)):
            keys = [str(row[0]) for row in batch]
            if chunked:
                members = await store.members_of(record.id, keys)
                keys = list({member.chunk for member in members.values()} - found)
            records = await store.look_up(record.id, Scope.SEND, keys)
            settled = [one.key for one in records.values() if one.state in SETTLED]
            number += len(settled)
            if chunked:
                found.update(settled)
        return number
    finally:
        await store.close()


@dataclass(frozen=True, slots=True)
class _Made:
    """What earlier runs made, of what a plan shows."""

    prepared: Collection[str] = ()
    """Keys of the accounts' own calls that were accepted."""
    settled: Collection[str] = ()
    """Keys of the first sends that are settled."""


async def _made(opened: Opened, url: str | None, checked: Checked) -> _Made:
    store = open_ledger(url, opened.job.base_dir)
    try:
        record = await store.find_job(opened.job.name) if await store.open(create=False) else None
        if record is None:
            return _Made()
        keys = [send.key for account in opened.accounts.made for send in opened.renderer.prepare(account)]
        prepared = await store.look_up(record.id, Scope.ACCOUNT, keys)
        first = await store.look_up(record.id, Scope.SEND, [send.key for send in checked.samples])
    finally:
        await store.close()
    return _Made(
        {key for key, one in prepared.items() if one.state is State.ACCEPTED},
        {key for key, one in first.items() if one.state in SETTLED},
    )


def _plan(
    opened: Opened,
    checked: Checked,
    settled: int,
    made: _Made,
    warnings: list[Problem],
    found: SegmentReport | None,
) -> Plan:
    job, flow = opened.job, opened.flow
    settled = min(settled, checked.sends)
    share = (checked.sends - settled) / checked.sends if checked.sends else 0.0
    by_account = [round(number * share) for number in checked.by_account.values()]
    busiest = max(by_account, default=0)
    pending = checked.sends - settled
    endpoints: dict[str, EndpointPlan] = {}
    for _, endpoint in flow.prepare:
        sends = [send for account in opened.accounts.made for send in opened.renderer.prepare(account)]
        to_make = {send.key for send in sends if send.steps[0].endpoint is endpoint} - set(made.prepared)
        number = 1 if found is not None and found.is_absent else len(to_make) if pending else 0
        endpoints[endpoint.name] = endpoint_plan(job, endpoint.name, number, busiest=0)
    for _, endpoint in flow.steps:
        endpoints[endpoint.name] = endpoint_plan(job, endpoint.name, pending, busiest=busiest)
    launch_s = max((one.duration_s for one in endpoints.values()), default=0.0)
    of_segment = {} if found is None else segment_plan(job, found, is_read=False)
    segment_s = sum(one.duration_s for one in of_segment.values())
    endpoints |= of_segment
    called = [name for name, one in endpoints.items() if one.calls]
    known = bool(called) and not checked.problems
    bottleneck = max(called, key=lambda name: endpoints[name].duration_s) if known else None
    return Plan(
        job=job.name,
        provider=job.provider.name,
        rows=checked.rows,
        sends=checked.sends,
        settled=settled,
        endpoints=endpoints,
        bottleneck=bottleneck,
        eta_s=None if checked.problems else launch_s + segment_s,
        samples=_samples(opened, checked, made),
        problems=checked.problems,
        more_problems=checked.more,
        warnings=warnings,
        segment=found,
    )


def _samples(opened: Opened, checked: Checked, made: _Made) -> list[Sample]:
    """Return the first payloads of what is still to be made."""
    of_rows = opened.audience is not None
    prepared = opened.renderer.prepare(checked.samples[0].account) if checked.samples else []
    return [
        Sample(
            send.key if send.row and of_rows else "",
            send.row if of_rows else 0,
            send.account.name,
            step.endpoint.name,
            json.loads(step.body),
        )
        for send in [*prepared, *checked.samples]
        for step in send.steps
        if step.body and send.key not in made.prepared and send.key not in made.settled
    ]
