"""What a load test calls: the job's own sends, rendered before the first call and used over and over."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import msgspec

from bulksend.errors import DeniedError, JobError, PrepareError, Problem
from bulksend.fields import did_you_mean
from bulksend.job.check import Numbered, Row, in_chunks
from bulksend.job.render import Renderer, chunk_key
from bulksend.job.spec import Job
from bulksend.loadtest.shot import Round
from bulksend.model import Accepted, Account, Denied, Endpoint, Outcome, Send, Step
from bulksend.providers import Flow

__all__ = ["ROUNDS_MOST", "Ask", "chosen_step", "draw", "make_rounds"]

ROUNDS_MOST = 20_000
"""Different calls that are kept; after these they are made again from the first."""
PROBLEMS_MOST = 100

Ask = Callable[[Step, Account], Awaitable[Outcome]]
"""Makes one call to its outcome, before the test."""


def chosen_step(job: Job, flow: Flow, endpoint: str | None) -> int:
    """Return which step of a send is called: the named one, else the first of those with the lowest limit."""
    names = [one.name for _, one in flow.steps]
    if not names:
        raise JobError(job.problem_at("launch", "is missing: a load test makes the calls of a job's sends"))
    if endpoint is None:
        rates = [min(one.calls / one.period_s for one in job.limit(name).windows) for name in names]
        return rates.index(min(rates))
    if endpoint not in names:
        text = f"no send of this job calls {endpoint}{did_you_mean(endpoint, names)}"
        raise JobError(Problem(text, field="--endpoint"))
    return names.index(endpoint)


def draw(renderer: Renderer, rows: Callable[[], Iterator[Sequence[Row]]], wanted: int) -> list[Send]:
    """Render sends, over and over through the rows until there are as many as wanted, or `ROUNDS_MOST`.

    Each time through, they are sends of a job of another name, so that ids which are made of it are new ones. Raises
    JobError for rows that are wrong.
    """
    sends: list[Send] = []
    problems: list[Problem] = []
    job, times = renderer.job, 0
    wanted = min(wanted, ROUNDS_MOST)
    try:
        while len(sends) < wanted:
            times += 1
            renderer.job = replace(job, name=f"{job.name} {times}") if times > 1 else job
            before = len(sends)
            for send, wrong in _once(renderer, rows()):
                problems += wrong
                if send is not None:
                    sends.append(send)
                if len(sends) >= wanted or len(problems) >= PROBLEMS_MOST:
                    break
            if problems:
                raise JobError(problems[:PROBLEMS_MOST])
            if len(sends) == before:
                raise JobError(job.problem_at("audience", "has no rows: there is nothing to send"))
    finally:
        renderer.job = job
    return sends


def _once(renderer: Renderer, batches: Iterator[Sequence[Row]]) -> Iterator[tuple[Send | None, list[Problem]]]:
    def numbered() -> Iterator[Numbered]:
        number = 0
        for batch in batches:
            for row in batch:
                number += 1
                yield number, row

    spec = renderer.job.audience
    if spec is None or spec.chunk is None:
        for number, row in numbered():
            yield renderer.send(number, row)
        return
    for chunk in in_chunks(numbered(), spec.chunk, renderer.account_name):
        key = chunk_key([str(row[0]) for _, row in chunk])
        yield renderer.chunk(key, chunk[0][0], [row for _, row in chunk])


async def make_rounds(renderer: Renderer, sends: Sequence[Send], step: int, ask: Ask) -> list[Round]:
    """Make ready what is to be called: each account's prepare calls are made first, once.

    Where it is a later step of a send, one send per account goes through the steps before it, and this one is repeated.
    """
    provider = renderer.job.provider
    refs: dict[str, str | None] = {}
    headers: dict[str, Mapping[str, str]] = {}
    rounds: list[Round] = []
    for send in sends:
        account = send.account
        if account.name not in headers:
            headers[account.name] = provider.headers(account)
            ref: str | None = None
            before = [one.steps[0] for one in renderer.prepare(account)] if account.identity not in refs else []
            before += send.steps[:step]
            for one in before:
                outcome = await ask(with_ref(one, ref), account)
                if isinstance(outcome, Denied):
                    raise DeniedError(f"{one.endpoint.name}: {outcome.reason}")
                if not isinstance(outcome, Accepted):
                    raise PrepareError(_why(one.endpoint, outcome, renderer.flow.hint))
                ref = outcome.ref or ref
            refs.setdefault(account.identity, ref)
        elif step:
            continue
        now = with_ref(send.steps[step], refs[account.identity])
        rounds.append(Round(send, now, provider.call(now, account, headers[account.name], repeats=0)))
    return rounds


def with_ref(step: Step, ref: str | None) -> Step:
    """Return the step with the vendor's id that it needs in its path."""
    return step if step.ref is not None else msgspec.structs.replace(step, ref=ref)


def _why(endpoint: Endpoint, outcome: Outcome, hint: str) -> str:
    reason = getattr(outcome, "reason", None) or f"HTTP {getattr(outcome, 'status', '')}"
    return f"{endpoint.name} was not accepted: {reason}{f'; {hint}' if hint else ''}; no load was made"
