"""What a run would do: calls per endpoint, the bottleneck, the time it takes, the first payloads, every input error."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from bulksend.api.checking import check_input
from bulksend.api.opening import Opened, open_job, open_ledger, secret_problems
from bulksend.api.run import JobSource
from bulksend.engine.rate import bucket_of
from bulksend.errors import JobError, Problem
from bulksend.job.check import Checked
from bulksend.job.file import load_job
from bulksend.ledger.base import JobRecord

__all__ = ["EndpointPlan", "Plan", "Sample", "plan_async"]

MARGIN_S = 0.05


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
    loaded = load_job(job, variables=vars, base_url=base_url)
    if limit is not None and limit < 1:
        raise JobError(Problem("must be at least 1", field="--limit"))
    with open_job(loaded) as opened, ThreadPoolExecutor(1, thread_name_prefix="bulksend-reader") as executor:
        warnings = [] if emulate else secret_problems(opened)
        checked = await check_input(
            opened, executor, limit=limit, precheck=True, with_secrets=False, stopping=lambda: False
        )
        record = None
        if not emulate:
            store = open_ledger(ledger, loaded.base_dir)
            try:
                if await store.open(create=False):
                    record = await store.find_job(loaded.name)
            finally:
                await store.close()
        most = loaded.policy.max_sends
        if most is not None and checked.sends > most:
            text = f"{checked.sends:,} sends, at most {most:,} are allowed: a run is refused"
            warnings.append(loaded.problem_at("policy.max_sends", text))
        return _plan(opened, checked, record, warnings)


def _plan(opened: Opened, checked: Checked, record: JobRecord | None, warnings: list[Problem]) -> Plan:
    job, flow = opened.job, opened.flow
    settled = min(record.counts.settled, checked.sends) if record is not None else 0
    share = (checked.sends - settled) / checked.sends if checked.sends else 0.0
    by_account = [round(number * share) for number in checked.by_account.values()]
    busiest = max(by_account, default=0)
    pending = checked.sends - settled
    endpoints: dict[str, EndpointPlan] = {}
    for _, endpoint in flow.prepare:
        accounts = sum(1 for number in by_account if number)
        fresh = 0 if record is not None and record.counts.accepted else accounts
        endpoints[endpoint.name] = EndpointPlan(
            fresh, str(job.limit(endpoint.name)), endpoint.documented or endpoint.name in job.limits, 0.0
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
    samples = []
    if checked.samples:
        first = checked.samples[0].account
        for send in opened.renderer.prepare(first):
            body = json.loads(send.steps[0].body)
            samples.append(Sample("", 0, first.name, send.steps[0].endpoint.name, body))
    for send in checked.samples:
        samples += [
            Sample(send.key, send.row, send.account.name, step.endpoint.name, json.loads(step.body))
            for step in send.steps
        ]
    return samples
