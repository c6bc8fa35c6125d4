"""`bulksend status` and `stop`: a job as its ledger has it."""

from __future__ import annotations

import math
import sys
import time
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Annotated

import typer

from bulksend.cli.listing import audit_line, out_lines, print_json_with, send_line
from bulksend.cli.options import JobFile, Json, LedgerUrl, Vars, variables
from bulksend.cli.printing import at_local, exit_codes, print_json, say, say_report
from bulksend.errors import JobError, Problem

__all__ = ["status", "stop"]

LINE_EVERY_S = 5.0
"""Where there is no terminal to draw on."""


def status(
    job: JobFile,
    *,
    var: Vars = [],
    ledger: LedgerUrl = None,
    watch: Annotated[
        bool, typer.Option("--watch", "-w", help="Go on showing it until no process runs the job any more.")
    ] = False,
    unknown: Annotated[
        bool, typer.Option("--unknown", help="List every send whose fate is unknown, with what is known of it.")
    ] = False,
    rejected: Annotated[bool, typer.Option("--rejected", help="List every rejected send, with the reason.")] = False,
    out: Annotated[
        Path | None,
        typer.Option(
            "--out",
            metavar="FILE",
            help="Write the rows of these sends to FILE, in the audience's own format with the reason, in place of a "
            "list; the next job's audience.",
            show_default=False,
        ),
    ] = None,
    audit: Annotated[
        bool, typer.Option("--audit", help="List who settled which send by `resolve`, when, and to what.")
    ] = False,
    as_json: Json = False,
) -> None:
    """Show how far a job is, running or not; always exits with 0 when there is one.

    With --watch a job that runs elsewhere on the same ledger is shown as its own terminal would show it; with --json
    too, as one object a second. Ctrl-C ends the watching and not the job.

    Example: bulksend status spring-sale.toml --var day=2026-04-01 --watch

    Example: bulksend status spring-sale.toml --var day=2026-04-01 --rejected --out rejected.csv
    """
    from bulksend.api.blocking import status as status_of

    with exit_codes(job.name, as_json=as_json):
        if watch and (unknown or rejected or audit or out is not None):
            raise JobError("--watch stands alone: --unknown, --rejected, --audit and --out show a job as it is now")
        if out is not None and not (unknown or rejected):
            raise JobError(Problem("say which rows: --unknown, --rejected or both", field="--out"))
        if unknown or rejected or audit:
            _list(job, variables(var), ledger, (unknown, rejected, audit), out, as_json=as_json)
            return
        if watch:
            _watch(job, variables(var), ledger, as_json=as_json)
            if as_json:
                return
        report = status_of(job, vars=variables(var), ledger=ledger)
        say_report(report, as_json=as_json, to_stdout=True)
        if report.started_at is None:
            say(f'job "{report.job}" was never run with this ledger')
        if not as_json and report.started_at is not None:
            typer.echo(f"  started     {at_local(report.started_at)}")
        if not as_json and report.finished_at is not None:
            typer.echo(f"  finished    {at_local(report.finished_at)}")


def _list(
    job: Path,
    given: dict[str, str],
    ledger: str | None,
    which: tuple[bool, bool, bool],
    out: Path | None,
    *,
    as_json: bool,
) -> None:
    """Show the job's numbers, then unknown sends, rejected sends and audit entries one by one, or a file of rows."""
    from bulksend.api.blocking import audit, dead_letters, sends
    from bulksend.api.blocking import status as status_of
    from bulksend.model import State

    unknown, rejected, audited = which
    states = [state for state, wanted in ((State.UNKNOWN, unknown), (State.REJECTED, rejected)) if wanted]
    report = status_of(job, vars=given, ledger=ledger)
    made = None if out is None else dead_letters(job, out, states=states, vars=given, ledger=ledger)
    listed = [] if out is not None or report.started_at is None else states
    lists = {state: sends(job, state=state, vars=given, ledger=ledger) for state in listed}
    entries = audit(job, vars=given, ledger=ledger) if audited and report.started_at is not None else iter(())
    if as_json:
        data = {**report.to_dict(), **({} if made is None else {"out": made.to_dict()})}
        drawn = {str(state): lists.get(state, iter(())) for state in states if out is None}
        print_json_with(data, {**drawn, **({"audit": entries} if audited else {})})
    else:
        say_report(report, as_json=False, to_stdout=True)
        for one in lists.values():
            for send in one:
                typer.echo(send_line(send))
        for entry in entries:
            typer.echo(audit_line(entry))
    for line in () if made is None else out_lines(made):
        say(line)
    if report.started_at is None:
        say(f'job "{report.job}" was never run with this ledger')


def _watch(job: Path, given: dict[str, str], ledger: str | None, *, as_json: bool) -> None:
    """Show the job until it has ended, or Ctrl-C."""
    import asyncio

    from bulksend.api.watching import watch_async

    async def show() -> None:
        from rich.console import Console
        from rich.live import Live

        from bulksend.observe.view import line_of, panel_of

        is_terminal = sys.stderr.isatty() and not as_json
        with (
            Live(console=Console(stderr=True), auto_refresh=False, transient=True)
            if is_terminal
            else nullcontext() as live
        ):
            told_s = -math.inf
            async for report, view in watch_async(job, vars=given, ledger=ledger):
                if as_json:
                    print_json(report.to_dict())
                elif live is not None:
                    live.update(panel_of(view), refresh=True)
                elif time.monotonic() - told_s >= LINE_EVERY_S:
                    told_s = time.monotonic()
                    say(line_of(view))

    with suppress(KeyboardInterrupt):
        asyncio.run(show())


def stop(job: JobFile, *, var: Vars = [], ledger: LedgerUrl = None, as_json: Json = False) -> None:
    """Ask the process that runs the job to stop: no new call within a second, those under way finish.

    Example: bulksend stop spring-sale.toml --var day=2026-04-01
    """
    from bulksend.api.blocking import stop as stop_job

    with exit_codes(job.name, as_json=as_json):
        stopping = stop_job(job, vars=variables(var), ledger=ledger)
        if as_json:
            print_json({"job": _name(job, var), "stopping": stopping})
        say("the run was asked to stop" if stopping else "nobody runs this job: there is nothing to stop")


def _name(job: Path, var: list[str]) -> str:
    from bulksend.job.file import load_job

    return load_job(job, variables=variables(var), rows_from_code=True).name
