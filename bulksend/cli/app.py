"""All commands in one place."""

from __future__ import annotations

from typing import Annotated

import typer

from bulksend.cli.dashboard import dashboard
from bulksend.cli.emulate import emulate
from bulksend.cli.loadtest import loadtest
from bulksend.cli.plan import plan
from bulksend.cli.report import report
from bulksend.cli.resolve import resolve
from bulksend.cli.run import run
from bulksend.cli.starter import demo, init, schema
from bulksend.cli.state import status, stop

__all__ = ["app"]

app = typer.Typer(
    name="bulksend",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    epilog=(
        "Exit codes: 0 all accepted; 1 failed; 2 wrong usage or job file; 3 done, but some rejected or unknown; "
        "4 refused or stopped by a guard; 75 stopped before the end, run again to go on; "
        "99 a threshold of a load test failed."
    ),
)


def _version(wanted: bool) -> None:  # noqa: FBT001  # typer calls it so
    if wanted:
        from bulksend import __version__

        typer.echo(f"bulksend {__version__}")
        raise typer.Exit


@app.callback()
def root(
    *,
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version and exit.")
    ] = False,
) -> None:
    """Mass push launches through vendor APIs: once each, at the vendor's own limit, with proof."""


_COMMANDS = (
    (init, "Write a starter job and a small audience."),
    (plan, "Show what a run would do; changes nothing."),
    (run, "Send what the job has not sent yet."),
    (status, "Show how far a job is."),
    (report, "Write a page about a job's runs."),
    (resolve, "Settle sends whose fate is unknown."),
    (stop, "Ask the process that runs a job to stop."),
    (loadtest, "Make a job's calls at a rate; find a limit."),
    (emulate, "Behave as a vendor does, on this machine."),
    (dashboard, "Print a Grafana dashboard of the metrics."),
    (schema, "Print the JSON Schema of the job file."),
    (demo, "See it work; nothing to configure."),
)
for command, short in _COMMANDS:
    app.command(short_help=short)(command)
