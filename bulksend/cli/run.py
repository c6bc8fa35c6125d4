"""`bulksend run`."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from bulksend.cli.metrics import MetricsAddress, MetricsFile, OtlpUrl, metered
from bulksend.cli.options import BaseUrl, DiffOut, JobFile, Json, LedgerUrl, Limit, Vars, variables
from bulksend.cli.printing import at_local, endpoint_line, exit_codes, say, say_report, segment_lines
from bulksend.observe.logs import LogFormat, Logs

if TYPE_CHECKING:
    from bulksend.api.report import Report, SegmentReport
    from bulksend.job.check import Checked
    from bulksend.job.spec import Job
    from bulksend.observe.live import Live, Ticker

__all__ = ["run"]


def run(
    job: JobFile,
    *,
    var: Vars = [],
    ledger: LedgerUrl = None,
    base_url: BaseUrl = None,
    emulate: Annotated[
        bool,
        typer.Option("--emulate", help="Send to an emulator of the vendor, with a scratch ledger: a dress rehearsal."),
    ] = False,
    limit: Limit = None,
    yes: Annotated[
        bool, typer.Option("--yes", "-y", help="Do not ask before sending (asked on a terminal only).")
    ] = False,
    precheck: Annotated[
        bool, typer.Option("--precheck/--no-precheck", help="Check every row before the first call.")
    ] = True,
    apply: Annotated[
        str | None,
        typer.Option(
            "--apply", metavar="HASH", help="Let just this difference of a segment pass its guards.", show_default=False
        ),
    ] = None,
    diff_out: DiffOut = None,
    as_json: Json = False,
    log: Annotated[
        LogFormat | None, typer.Option("--log", help="Log lines on stderr; default: console on a terminal, else json.")
    ] = None,
    log_file: Annotated[
        Path | None, typer.Option("--log-file", metavar="FILE", help="Append every event to FILE as JSON lines.")
    ] = None,
    progress: Annotated[
        bool | None, typer.Option("--progress/--no-progress", help="The live display; default: on a terminal.")
    ] = None,
    metrics: MetricsAddress = None,
    metrics_file: MetricsFile = None,
    otlp: OtlpUrl = None,
) -> None:
    """Send what the job has not sent yet.

    The same job again goes on where it stopped; a finished job sends nothing. Ctrl-C finishes the calls under way.

    Example: bulksend run spring-sale.toml --var day=2026-04-01 --yes
    """
    import asyncio

    from bulksend.api.blocking import run as run_job

    is_terminal = sys.stderr.isatty()
    with exit_codes(job.name, as_json=as_json), metered(metrics, metrics_file, otlp) as meters:
        logs = Logs(log, log_file)
        bar = _bar() if is_terminal and progress is not False else None  # a display needs a terminal, asked for or not
        asks = is_terminal and sys.stdin.isatty() and not yes and not emulate

        def confirm(loaded: Job, checked: Checked, segment: SegmentReport | None) -> bool:
            if segment is not None:
                _say_difference(loaded, segment)
            return not asks or _ask(loaded, checked, segment)

        try:
            report = run_job(
                job,
                vars=variables(var),
                ledger=ledger,
                base_url=base_url,
                emulate=emulate,
                limit=limit,
                precheck=precheck,
                apply=apply,
                diff_out=diff_out,
                observers=[logs, bar or _ticker(logs), *meters],
                confirm=confirm,
                handle_signals=True,
            )
        except (asyncio.CancelledError, KeyboardInterrupt):
            # The second signal: the ledger has every intent, so what was under way is unknown in the next run.
            if bar is not None:
                bar.close()
            say("error: stopped at once; run again to go on")
            sys.stdout.flush()
            os._exit(75)
        finally:
            if bar is not None:
                bar.close()
            logs.close()
        _say_idle(report)
        say_report(report, as_json=as_json)
        raise typer.Exit(report.exit_code)


def _bar() -> Live:
    from bulksend.observe.live import Live

    return Live(sys.stderr)


def _ticker(logs: Logs) -> Ticker:
    from bulksend.observe.live import Ticker

    return Ticker(logs)


def _ask(job: Job, checked: Checked, segment: SegmentReport | None) -> bool:
    accounts = ", ".join(sorted({spec.base_url for spec in job.accounts.values()}))
    # While the question stands, Ctrl-C is an answer; the engine's own handler would wait for one.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        sends = f"{checked.sends:,} {'send' if checked.sends == 1 else 'sends'}"
        does = [f"with {sends}"] if checked.sends else []
        if segment is not None:
            does.insert(0, f"adding {segment.added:,} targets and removing {segment.removed:,}")
        return typer.confirm(f'Run job "{job.name}" {", then ".join(does)}, at {accounts}?', err=True)
    except typer.Abort:
        say()
        return False
    finally:
        signal.signal(signal.SIGINT, before)


def _say_difference(job: Job, segment: SegmentReport) -> None:
    """Tell what is about to be changed, before the first write."""
    from bulksend.api.forecast import segment_plan

    for line in segment_lines(segment, is_tty=sys.stderr.isatty()):
        say(line)
    for name, one in segment_plan(job, segment, is_read=True).items():
        if one.calls:
            say(endpoint_line(name, one))


def _say_idle(report: Report) -> None:
    if report.calls == 0 and report.pending == 0 and report.total:
        when = f", finished {at_local(report.finished_at)}" if report.finished_at is not None else ""
        say(f'job "{report.job}" was finished before{when}: nothing was sent')
