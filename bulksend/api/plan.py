"""What a run would do: calls per endpoint, the bottleneck, the time it takes, the first payloads, every input error."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bulksend.api.checking import check_input
from bulksend.api.lateness import is_late
from bulksend.api.opening import Opened, load_whole, naming, open_job, open_ledger, secret_problems
from bulksend.api.refusal import check_due
from bulksend.api.run import JobSource
from bulksend.engine.rate import bucket_of
from bulksend.errors import GuardError, JobError, Problem
from bulksend.job.check import Checked
from bulksend.job.rows import batches_in
from bulksend.job.template import placeholders
from bulksend.ledger.base import Scope
from bulksend.model import State

__all__ = ["EndpointPlan", "Plan", "Sample", "plan_async"]

MARGIN_S = 0.05
SETTLED = (State.ACCEPTED, State.REJECTED, State.UNKNOWN)


@dataclass(frozen=True, slots=True)
class EndpointPlan:
    """The calls to one endpoint; `duration_s` is how long its limit makes them take, for the busiest account."""

    calls: int
    limit: str
    documented: bool
    duration_s: float


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
    eta_s: float
    samples: Sequence[Sample]
    problems: Sequence[Problem]
    more_problems: int
    warnings: Sequence[Problem]

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
            "eta_s": round(self.eta_s, 1),
            "samples": [
                {"key": one.key, "row": one.row, "account": one.account, "endpoint": one.endpoint, "body": one.body}
                for one in self.samples
            ],
            "problems": [str(problem) for problem in self.problems],
            "more_problems": self.more_problems,
            "warnings": [str(problem) for problem in self.warnings],
        }


async def plan_async(
    job: JobSource,
    *,
    vars: Mapping[str, str] | None = None,
    ledger: str | None = None,
    base_url: str | None = None,
    limit: int | None = None,
    emulate: bool = False,
) -> Plan:
    """Look at a job without a call and without a change; the ledger is only read, and need not exist.

    Raises JobError when the job file itself cannot be used; problems of rows are in the plan. A secret that is not set
    is a warning.
    """
    loaded = load_whole(job, variables=vars, base_url=base_url, with_secrets=False)
    with naming(loaded), open_job(loaded) as opened, ThreadPoolExecutor(1) as executor:
        if limit is not None and limit < 1:
            raise JobError(Problem("must be at least 1", field="--limit"))
        warnings = [] if emulate else secret_problems(opened)
        checked = await check_input(
            opened, executor, limit=limit, precheck=True, with_secrets=False, stopping=lambda: False
        )
        settled = 0 if emulate else await _settled(opened, ledger, executor, limit=limit)
        warnings += [] if emulate else _row_secrets(opened)
        chunk = loaded.audience.chunk if loaded.audience is not None else None
        notes = loaded.provider.notes(loaded.tables, sends=checked.sends, chunk=chunk)
        warnings += [loaded.problem(note) for note in notes]
        if any(problem.late for problem in checked.problems) and not emulate:
            store = open_ledger(ledger, loaded.base_dir)
            try:
                late = await is_late(opened, store, executor, limit=limit)
            finally:
                await store.close()
            checked.problems = [problem for problem in checked.problems if late or not problem.late]
        try:
            check_due(loaded, time.time())
        except GuardError as late:
            warnings.append(loaded.problem_at("policy.due", f"{late}: a run is refused"))
        most = loaded.policy.max_sends
        if most is not None and checked.sends > most:
            text = f"{checked.sends:,} sends, at most {most:,} are allowed: a run is refused"
            warnings.append(loaded.problem_at("policy.max_sends", text))
        return _plan(opened, checked, settled, warnings)


def _row_secrets(opened: Opened) -> list[Problem]:
    """Warn of secrets that rows pick and that are not there."""
    return [
        opened.job.problem_at(f"account.{field}", f"{number:,} of the accounts have no secret at {source}")
        for (field, source), number in opened.accounts.unset.items()
        if placeholders(source)
    ]


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


def _plan(opened: Opened, checked: Checked, settled: int, warnings: list[Problem]) -> Plan:
    job, flow = opened.job, opened.flow
    settled = min(settled, checked.sends)
    share = (checked.sends - settled) / checked.sends if checked.sends else 0.0
    by_account = [round(number * share) for number in checked.by_account.values()]
    busiest = max(by_account, default=0)
    pending = checked.sends - settled
    endpoints: dict[str, EndpointPlan] = {}
    for _, endpoint in flow.prepare:
        accounts = sum(1 for number in by_account if number)
        endpoints[endpoint.name] = EndpointPlan(
            accounts if not settled else 0,
            str(job.limit(endpoint.name)),
            endpoint.documented or endpoint.name in job.limits,
            0.0,
        )
    for _, endpoint in flow.steps:
        limit = job.limit(endpoint.name)
        duration_s = max(0, busiest - 1) / bucket_of(limit, MARGIN_S).rate_per_s
        endpoints[endpoint.name] = EndpointPlan(
            pending, str(limit), endpoint.documented or endpoint.name in job.limits, duration_s
        )
    bottleneck = max(endpoints, key=lambda name: endpoints[name].duration_s) if pending else None
    return Plan(
        job=job.name,
        provider=job.provider.name,
        rows=checked.rows,
        sends=checked.sends,
        settled=settled,
        endpoints=endpoints,
        bottleneck=bottleneck,
        eta_s=max((one.duration_s for one in endpoints.values()), default=0.0),
        samples=_samples(opened, checked),
        problems=checked.problems,
        more_problems=checked.more,
        warnings=warnings,
    )


def _samples(opened: Opened, checked: Checked) -> list[Sample]:
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
        if step.body
    ]
