"""A job that runs elsewhere on the same ledger, looked at as it goes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Mapping

import msgspec

from bulksend.api.report import Report
from bulksend.api.run import JobSource
from bulksend.api.state import ledger_of, status_async
from bulksend.model import JobState
from bulksend.observe.history import History
from bulksend.observe.view import EndpointView, View

__all__ = ["watch_async"]

RATE_OVER_SLOTS = 5


async def watch_async(
    job: JobSource,
    *,
    vars: Mapping[str, str] | None = None,
    ledger: str | None = None,
    every_s: float = 1.0,
) -> AsyncIterator[tuple[Report, View]]:
    """Yield how a job stands, now and then every second; ends after a look at which no process runs it.

    What the running process has seen is in the ledger two seconds later at most.
    """
    while True:
        report = await status_async(job, vars=vars, ledger=ledger)
        history = await _history(job, vars, ledger) if report.started_at is not None else None
        yield report, _view(report, history)
        if report.state is not JobState.RUNNING:
            return
        await asyncio.sleep(every_s)


async def _history(job: JobSource, variables: Mapping[str, str] | None, ledger: str | None) -> History | None:
    """Return the history of the job's last run."""
    async with ledger_of(job, variables, ledger) as (_, store, record):
        kept = await store.histories(record.id)
    try:
        return msgspec.json.decode(kept[-1], type=History) if kept else None
    except msgspec.DecodeError:
        return None  # another version has written it


def _view(report: Report, history: History | None) -> View:
    counts = {"accepted": report.accepted, "rejected": report.rejected, "unknown": report.unknown}
    view = View(report.job, str(report.state), report.elapsed_s, report.total, counts)
    if history is None or report.state is not JobState.RUNNING:
        return view
    if report.started_at is not None and history.until < report.started_at:
        return view  # of the run before: this one has kept nothing yet
    # The last slot has only begun.
    settled = [sum(slots) for slots in zip(history.accepted, history.rejected, history.unknown, strict=True)]
    whole = settled[-1 - RATE_OVER_SLOTS : -1]
    per_s = sum(whole) / (len(whole) * history.slot_s) if whole else 0.0
    return View(
        job=report.job,
        state=str(report.state),
        elapsed_s=report.elapsed_s,
        total=report.total,
        counts=counts,
        per_min=per_s * 60,
        eta_s=report.pending / per_s if per_s > 0 and report.pending else None,
        paused_s=max(0.0, history.paused_until - time.time()),
        endpoints=[_endpoint(report, history, name, rate) for name, rate in history.rates_per_s.items()],
        accounts={name: rate * 60 for name, rate in history.account_rates_per_s.items()},
        reasons=history.reasons,
        latest=history.latest,
        outages=history.outages,
        at=time.time(),
    )


def _endpoint(report: Report, history: History, name: str, per_s: float) -> EndpointView:
    stats, series = report.endpoints.get(name, {}), history.endpoints.get(name)
    share = stats.get("utilization")
    return EndpointView(
        name,
        per_s * 60,
        share if isinstance(share, float) else None,
        limit=str(stats.get("limit", "")),
        p50_ms=None if series is None else next((one for one in reversed(series.p50_ms) if one is not None), None),
        p99_ms=None if series is None else next((one for one in reversed(series.p99_ms) if one is not None), None),
        throttled=0 if series is None else sum(series.throttled),
    )
