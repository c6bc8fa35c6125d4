"""`bulksend report`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bulksend.cli.options import JobFile, Json, LedgerUrl, Vars, variables
from bulksend.cli.printing import exit_codes, print_json, say

__all__ = ["report"]


def report(
    job: JobFile,
    *,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output",
            "-o",
            metavar="FILE",
            help="Where to write; default: <job file>-report.html beside it.",
            show_default=False,
        ),
    ] = None,
    var: Vars = [],
    ledger: LedgerUrl = None,
    as_json: Json = False,
) -> None:
    """Write one HTML page about a job and its runs; it opens offline and loads nothing.

    Outcomes, throughput against the limit, latency, the window proof, what failed and why. It holds keys of the
    audience, so that only you may read the file. A job that runs gets a report of so far. Needs bulksend[report].

    Example: bulksend report spring-sale.toml --var day=2026-04-01 -o report.html
    """
    from bulksend.api.blocking import report as report_on

    with exit_codes(job.name, as_json=as_json):
        written = report_on(job, output=output, vars=variables(var), ledger=ledger)
        if as_json:
            print_json(written.to_dict())
        else:
            typer.echo(written.path)
        so_far = ", of so far: the job is running" if written.summary.state == "running" else ""
        runs = f"{written.runs} {'run' if written.runs == 1 else 'runs'}"
        say(f'report of job "{written.summary.job}", {runs}{so_far}')
