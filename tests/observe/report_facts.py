"""Made-up facts for a report, large or small, always the same."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import msgspec

from bulksend.observe.history import EndpointHistory, Happening, History, SlowCall
from bulksend.observe.report import EndpointFigures, Facts, FailedSend, Figures, PlanLine, RunFacts

EVIL = "<img src=x onerror=alert(1)>"
BEGAN = 1_775_000_000.0


def endpoint(slots: int, *, calls: int = 100, silent: range = range(0)) -> EndpointHistory:
    """Answers in every slot but the silent ones."""
    return EndpointHistory(
        calls=[0 if at in silent else calls for at in range(slots)],
        throttled=[1 if at % 9 == 0 and at not in silent else 0 for at in range(slots)],
        p50_ms=[None if at in silent else 40.0 + at % 7 for at in range(slots)],
        p99_ms=[None if at in silent else 70.0 + at % 11 for at in range(slots)],
        accounts=1,
        busiest=calls * slots,
        first_s=0.2,
        last_s=float(slots),
    )


def run(
    slots: int = 10, *, names: tuple[str, ...] = ("insider.launch",), text: str = "HTTP 500", **more: Any
) -> RunFacts:
    """One run, in which everything has happened."""
    history = History(
        began_at=BEGAN,
        slot_s=1.0,
        accepted=[90] * slots,
        rejected=[6] * slots,
        unknown=[4] * slots,
        endpoints={name: endpoint(slots) for name in names},
        reasons={f"rejected: {text}": 6 * slots, "unknown: timeout": 4 * slots},
        statuses={"200": 90 * slots, "500": 10 * slots},
        slowest=[SlowCall(2.0, f"k{at}", at, names[0]) for at in range(10)],
        rates_per_s={},
        account_rates_per_s={},
        latest=[Happening(BEGAN + 1, "send.rejected", text)],
        reasons_over_time={f"rejected: {text}": [6] * slots, "unknown: timeout": [4] * slots},
        sends=100 * slots,
        settled=0,
        until=BEGAN + slots,
        state="done",
    )
    kept = {name: EndpointFigures("6000/min", 100 * slots, 3, 5990, 0.99, 41.0, 75.0) for name in names}
    numbers = Figures(rows=1000, elapsed_s=float(slots), rate_per_min=5900.0, endpoints=kept)
    return RunFacts(msgspec.structs.replace(history, **more), numbers, "done")


def facts(*runs: RunFacts, **more: Any) -> Facts:
    """A job with some of every outcome."""
    return replace(
        Facts(
            job="sale",
            provider="Insider One web push",
            state="done",
            holder=None,
            rows=1000,
            total=1000,
            accepted=900,
            rejected=60,
            unknown=40,
            pending=0,
            started_at=BEGAN,
            finished_at=BEGAN + 10,
            runs=runs,
            last=runs[-1].figures if runs else Figures(),
            plan=[PlanLine("insider.launch", "6000/min", 1000, 10.0, 1003, 10.4)],
            failures=[FailedSend(f"k{at}", at, "rejected", "HTTP 400", 400) for at in range(1, 101)],
            job_file="job.toml",
            job_text='job = "sale"\n',
            versions={"bulksend": "1"},
            made_at=BEGAN + 100,
        ),
        **more,
    )
