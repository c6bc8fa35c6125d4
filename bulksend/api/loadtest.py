"""A load test of a job's calls: checked and made ready as a run is, with no ledger and no limiter."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import partial

from bulksend.api.load_page import LoadPage
from bulksend.api.load_report import LoadReport
from bulksend.api.observing import Observer, Observers
from bulksend.api.opening import Opened, load_whole, naming, open_job, secret_problems
from bulksend.api.run import JobSource, start_emulator
from bulksend.api.signals import signals_end
from bulksend.duration import parse_duration
from bulksend.engine.direct import open_transport
from bulksend.errors import DeniedError, InterruptedRunError, JobError, Problem, RunError
from bulksend.job.check import Row
from bulksend.job.rows import BATCH
from bulksend.loadtest.asking import asker
from bulksend.loadtest.fullest import Fullest
from bulksend.loadtest.latency import need_histograms
from bulksend.loadtest.open_model import Stop, fire
from bulksend.loadtest.profile import CALLS_MOST, Profile, parse_rate
from bulksend.loadtest.record import LoadRecord
from bulksend.loadtest.rounds import ROUNDS_MOST, chosen_step, draw, make_rounds
from bulksend.loadtest.safety import check_confirmed, check_marked
from bulksend.loadtest.search import Found, LimitSearch
from bulksend.loadtest.shot import Shoot, Shot, event_of, shooter
from bulksend.loadtest.tally import Tally
from bulksend.loadtest.thresholds import COUNTS, Figures, Threshold
from bulksend.loadtest.trial_runner import TrialRunner
from bulksend.model import Denied
from bulksend.observe.chronicle import Chronicle

__all__ = ["load_test_async"]

IN_FLIGHT_MOST = 1000
BUDGET = 100
SEARCH_IN_FLIGHT = 32
"""A search needs no more at once, and each call under way at the first 429 is one more of them."""


@dataclass(frozen=True, slots=True)
class _Asked:
    """What the test is to do, read."""

    profile: Profile
    thresholds: tuple[Threshold, ...]
    max_in_flight: int
    budget: int
    find_limit: bool


async def load_test_async(
    job: JobSource,
    *,
    rate: str,
    duration: str = "1 min",
    ramp_from: str | None = None,
    find_limit: bool = False,
    fail_if: Sequence[str] = (),
    max_in_flight: int = IN_FLIGHT_MOST,
    max_429: int = BUDGET,
    endpoint: str | None = None,
    confirm_hosts: Sequence[str] = (),
    vars: Mapping[str, str] | None = None,
    base_url: str | None = None,
    emulate: bool = False,
    limit: int | None = None,
    report: str | os.PathLike[str] | None = None,
    observers: Sequence[Observer] = (),
    handle_signals: bool = False,
) -> LoadReport:
    """Make a job's calls at a rate, whatever the replies do, and return what came of them.

    With `find_limit`, `rate` is the highest that is tried, `duration` how long longer windows are looked for, and
    `max_429` how often the vendor may say 429. `endpoint` is by default the one that decides how fast the job is;
    `confirm_hosts` names each host that is called for real. `report` is where a page of the test is written, as
    `report_async` does for a job, also where it is stopped or fails. `observers` are called with an Event for each
    call, whose duration counts from when it was due.

    Raises JobError (wrong input), GuardError (an account that a load test may not go to), PrepareError, before any
    load; with the numbers as its `report`, DeniedError once the vendor refuses the credentials, and RunError where the
    page could not be written.
    """
    asked = _read(rate, duration, ramp_from, fail_if, max_in_flight, max_429, find_limit=find_limit)
    need_histograms()
    async with AsyncExitStack() as stack:
        loaded = load_whole(job, variables=vars, base_url=base_url, with_secrets=not emulate)
        stack.enter_context(naming(loaded))
        if limit is not None and limit < 1:
            raise JobError(Problem("must be at least 1", field="--limit"))
        page = None if report is None else LoadPage(job, loaded, report)
        if not emulate:
            check_marked(loaded.accounts.values())
        opened = stack.enter_context(open_job(loaded))
        executor = stack.enter_context(ThreadPoolExecutor(1, thread_name_prefix="bulksend-reader"))
        step = chosen_step(loaded, opened.flow, endpoint)
        stop = Stop()
        if handle_signals:
            stack.enter_context(
                signals_end(lambda text: stop.because(InterruptedRunError(text)), lambda: stop.reason is not None)
            )
        if emulate:
            await start_emulator(stack, opened, executor)
        elif problems := await asyncio.get_running_loop().run_in_executor(executor, secret_problems, opened):
            raise JobError(problems)
        wanted = ROUNDS_MOST if find_limit else asked.profile.calls
        rows = partial(_rows, opened, limit)
        sends = await asyncio.get_running_loop().run_in_executor(executor, draw, opened.renderer, rows, wanted)
        check_confirmed((send.account for send in sends), {host.lower() for host in confirm_hosts})
        transport = open_transport()
        stack.push_async_callback(transport.close)
        rounds = await make_rounds(opened.renderer, sends, step, asker(loaded.provider, transport))
        name = opened.flow.steps[step][1].name
        fullest = Fullest(loaded.limit(name), asked.profile.highest_per_s)
        shoot = shooter(rounds, loaded.provider, transport, time.perf_counter, fullest.left)
        test = _Test(loaded.name, name, asked, stop, fullest, [*observers])
        numbers = await test.run(shoot)
        denied = stop.reason if isinstance(stop.reason, DeniedError) else None
        if page is not None:
            why = None if stop.reason is None else str(stop.reason)
            try:
                numbers = page.written(numbers, (send.account for send in sends), why)
            except RunError as wrong:
                if denied is None:
                    raise
                denied.__cause__ = wrong
        if denied is not None:
            denied.report = numbers
            raise denied
        return numbers


def _rows(opened: Opened, limit: int | None) -> Iterator[Sequence[Row]]:
    if opened.audience is None:
        return iter([[()]])
    return opened.audience.rows(opened.renderer.columns, limit=limit, batch=BATCH)


def _read(
    rate: str,
    duration: str,
    ramp_from: str | None,
    fail_if: Sequence[str],
    max_in_flight: int,
    max_429: int,
    *,
    find_limit: bool,
) -> _Asked:
    """Read what was asked for; raises JobError with everything that is wrong with it."""
    problems: list[Problem] = []

    def read(field: str, reader: Callable[[str], float], text: str) -> float:
        try:
            value = reader(text)
            if value > 0:
                return value
            problems.append(Problem("must be above zero", field=field))
        except ValueError as wrong:
            problems.append(Problem(str(wrong), field=field))
        return 1.0

    profile = Profile(
        read("--rate", parse_rate, rate),
        read("--duration", parse_duration, duration),
        None if ramp_from is None else read("--ramp-from", parse_rate, ramp_from),
    )
    thresholds = []
    for text in fail_if:
        try:
            thresholds.append(Threshold.parse(text))
        except ValueError as wrong:
            problems.append(Problem(str(wrong), field="--fail-if"))
    for field, number in (("--max-in-flight", max_in_flight), ("--max-429", max_429)):
        if number < 1:
            problems.append(Problem("must be at least 1", field=field))
    if not problems and profile.calls > CALLS_MOST:
        problems.append(Problem(f"{profile.calls:,} calls are more than {CALLS_MOST:,}", field="--rate"))
    if problems:
        raise JobError(problems)
    return _Asked(profile, tuple(thresholds), max_in_flight, max_429, find_limit)


class _Test:
    """One load test, from the first call to its report."""

    def __init__(
        self, job: str, endpoint: str, asked: _Asked, stop: Stop, fullest: Fullest, observers: list[Observer]
    ) -> None:
        self._job, self._endpoint, self._asked, self._stop, self._fullest = job, endpoint, asked, stop, fullest
        self._tally = Tally()
        self._chronicle = Chronicle()
        self._tell = Observers([self._chronicle, *observers])
        self._began_at = time.time()
        self._began_s = time.perf_counter()

    async def run(self, shoot: Shoot) -> LoadReport:
        asked = self._asked
        found: Found | None = None
        if asked.find_limit:
            found = await self._search(shoot)
        else:
            began_s = await fire(
                asked.profile,
                shoot,
                self._tally,
                clock=time.perf_counter,
                max_in_flight=asked.max_in_flight,
                stop=self._stop,
                ended=self._ended,
            )
            self._began_at += began_s - self._began_s
        return self._report(found)

    async def _search(self, shoot: Shoot) -> Found:
        asked = self._asked
        search = LimitSearch(
            top_per_s=asked.profile.rate_per_s,
            hold_s=asked.profile.duration_s,
            budget=asked.budget,
            from_per_s=asked.profile.from_per_s,
            now_s=self._began_s,
        )

        def told(shot: Shot, due_s: float) -> None:
            self._tally.planned(due_s - self._began_s, 0)
            self._tally.ended(shot, due_s - self._began_s, self._began_s)
            self._ended(shot, due_s)

        runner = TrialRunner(
            shoot,
            clock=time.perf_counter,
            wall=time.time,
            max_in_flight=min(asked.max_in_flight, SEARCH_IN_FLIGHT),
            stop=self._stop,
            told=told,
        )
        return await runner.run(search)

    def _ended(self, shot: Shot, due_s: float) -> None:
        self._tell(event_of(shot, self._job, self._endpoint, due_s))
        self._fullest.ended(shot)
        if isinstance(shot.outcome, Denied):
            self._stop.because(DeniedError(shot.outcome.reason))

    def _report(self, found: Found | None) -> LoadReport:
        tally, profile = self._tally, self._asked.profile
        elapsed_s = time.perf_counter() - self._began_s
        whole = self._stop.reason is None and found is None
        over_s = profile.duration_s if whole else max(tally.last_due_s, 1.0)
        counts = {name: tally.counts[name] for name in ("planned", "sent", "late", "dropped", "unsent")}
        outcomes = {name: tally.counts[name] for name in ("accepted", "rejected", "unknown", "throttled")}
        rate_per_s = counts["sent"] / over_s
        figures = {name: tally.counts[name] for name in COUNTS}
        figures["429"] = outcomes["throttled"]
        figures["errors"] = outcomes["rejected"] + outcomes["unknown"] + counts["unsent"]
        seen = Figures(figures, rate_per_s, tally.latency.percentile_s, tally.latency.mean_s)
        verdicts = tuple(one.judge(seen) for one in self._asked.thresholds)
        state = "failed" if any(one.failed for one in verdicts) else "done"
        if found is not None and found.ended is not None and state == "done":
            state = "unsettled"
        if self._stop.reason is not None:
            state = "stopped"
        report = LoadReport(
            self._job,
            self._endpoint,
            state,
            _profile(profile, find_limit=found is not None),
            counts,
            outcomes,
            dict(tally.statuses.most_common()),
            dict(tally.reasons.most_common()),
            elapsed_s,
            rate_per_s * 60,
            tally.latency.summary_ms(),
            tally.wire.summary_ms(),
            verdicts,
            self._fullest.told(),
            found,
        )
        record = LoadRecord(
            report.to_dict(),
            self._began_at,
            tally.timeline(),
            self._chronicle.history(),
            tally.latency.curve_ms(),
            tally.wire.curve_ms(),
            tally.latency.encoded(),
        )
        return replace(report, record=record)


def _profile(profile: Profile, *, find_limit: bool) -> dict[str, object]:
    per_min = {"rate_per_min": round(profile.rate_per_s * 60, 3), "duration_s": profile.duration_s}
    ramp = None if profile.from_per_s is None else round(profile.from_per_s * 60, 3)
    return {**per_min, "ramp_from_per_min": ramp, "find_limit": find_limit}
