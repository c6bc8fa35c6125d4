"""A job's report: what its ledger holds, gathered and written as one page."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from bulksend.api.forecast import MARGIN_S, segment_plan
from bulksend.api.opening import ledger_path, naming, open_ledger
from bulksend.api.page_file import job_text, need_pictures, page_path, page_versions, write_page
from bulksend.api.report import Report, read_segment
from bulksend.api.run import JobSource
from bulksend.api.state import status_async
from bulksend.engine.rate import bucket_of
from bulksend.errors import JobError
from bulksend.job.file import load_job
from bulksend.job.spec import Job
from bulksend.model import JobState, Limit
from bulksend.observe.report import (
    MARK,
    Facts,
    FailedSend,
    PlanLine,
    RunFacts,
    page,
    read_figures,
    read_run,
)

__all__ = ["ReportFile", "report_async"]


@dataclass(frozen=True, slots=True)
class ReportFile:
    """A report that was written."""

    path: Path
    summary: Report
    """The job's numbers, as `status` gives them."""
    runs: int
    """How many runs it tells of."""

    def to_dict(self) -> dict[str, object]:
        """Return the object that `report --json` prints."""
        return {**self.summary.to_dict(), "report": str(self.path), "runs": self.runs}


async def report_async(
    job: JobSource,
    *,
    output: str | os.PathLike[str] | None = None,
    vars: Mapping[str, str] | None = None,
    ledger: str | None = None,
) -> ReportFile:
    """Write a job's report: one HTML file that loads nothing, by default `<job file>-report.html` beside the job file.

    It may be read by nobody else (mode 0600), since it holds keys of the audience. An earlier report is replaced, any
    other file is not. Raises JobError for a job that never ran, and where matplotlib is not installed.
    """
    loaded = load_job(job, variables=vars, rows_from_code=True)
    with naming(loaded):
        need_pictures()
        beside = loaded.path.with_name(f"{loaded.path.stem}-report.html")
        path = page_path(beside if output is None else output, MARK)
        summary = await status_async(job, vars=vars, ledger=ledger)
        facts = await _gather(job, loaded, summary, ledger)
        write_page(path, page(facts))
        return ReportFile(path, summary, len(facts.runs))


async def _gather(source: JobSource, job: Job, summary: Report, ledger: str | None) -> Facts:
    store = open_ledger(ledger, job.base_dir)
    try:
        record = await store.find_job(job.name) if await store.open(create=False) else None
        if record is None or record.started_at is None:
            raise JobError(f'job "{job.name}" was never run with the ledger {ledger_path(ledger, job.base_dir)}')
        kept = await store.histories(record.id)
    finally:
        await store.close()
    since = record.started_at if summary.state is JobState.RUNNING else None
    read = [read_run(data, running_since=since) for data in kept]
    runs = [run for run in read if run is not None]
    facts = Facts(
        job=job.name,
        provider=job.provider.title,
        state=str(summary.state),
        holder=summary.holder,
        rows=summary.rows,
        total=summary.total,
        accepted=summary.accepted,
        rejected=summary.rejected,
        unknown=summary.unknown,
        pending=summary.pending,
        started_at=summary.started_at,
        finished_at=summary.finished_at,
        runs=runs,
        last=read_figures(record.summary),
        plan=(),
        failures=[FailedSend(one.key, one.row, str(one.state), one.reason, one.status) for one in summary.failures],
        job_file=job.path.name,
        job_text=job_text(source),
        versions=page_versions(),
        made_at=time.time(),
    )
    return facts if facts.drawn is None else replace(facts, plan=_plan(job, facts.drawn))


def _plan(job: Job, run: RunFacts) -> list[PlanLine]:
    """Return what the run's sends ask for at its limits, beside what was made; the limits are those it ran with."""
    history, figures = run.history, run.figures
    planned: dict[str, int] = {}
    flow = job.provider.flow(job.tables)
    accounts = max((one.accounts for one in history.endpoints.values()), default=0)
    sends = None if history.sends is None else max(0, history.sends - (history.settled or 0))
    for _, endpoint in flow.prepare:
        planned[endpoint.name] = max(0, accounts - history.reused) if sends else 0
    segment = read_segment(figures.segment)
    if segment is not None and job.provider.targets is not None:
        planned |= {name: one.calls for name, one in segment_plan(job, segment, is_read=False).items()}
    if sends is not None:
        planned |= {endpoint.name: sends for _, endpoint in flow.steps}
    lines = []
    for name in [*planned, *(name for name in history.endpoints if name not in planned)]:
        found = history.endpoints.get(name)
        kept = figures.endpoints.get(name)
        calls, made = planned.get(name), 0 if found is None else sum(found.calls)
        if not calls and not made:
            continue
        limit = job.limit(name) if kept is None and name in job.provider.endpoints else None
        text = kept.limit if kept is not None else str(limit or "")
        share = 1.0 if found is None or not made else found.busiest / made
        at_once = None if calls is None else max(0, round(calls * share) - 1)
        by_limit_s = (
            None if at_once is None or not text else at_once / bucket_of(Limit.parse(text), MARGIN_S).rate_per_s
        )
        took_s = None if found is None else found.last_s - found.first_s
        lines.append(PlanLine(name, text, calls, by_limit_s, made, took_s))
    return lines
