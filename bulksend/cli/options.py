"""Options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from bulksend.errors import JobError, Problem

__all__ = ["BaseUrl", "DiffOut", "JobFile", "Json", "LedgerUrl", "Limit", "Vars", "variables"]

JobFile = Annotated[Path, typer.Argument(metavar="JOB", help="The job file (TOML).", show_default=False)]
Vars = Annotated[
    list[str], typer.Option("--var", metavar="NAME=VALUE", help="Fills ${var.NAME} in the job file; may be repeated.")
]
LedgerUrl = Annotated[
    str | None,
    typer.Option(
        "--ledger",
        metavar="URL",
        envvar="BULKSEND_LEDGER",
        help="sqlite:///absolute/path or sqlite:relative/path; default: bulksend.db beside the job file.",
        show_default=False,
    ),
]
BaseUrl = Annotated[
    str | None,
    typer.Option("--base-url", metavar="URL", help="Send to this address instead of the vendor's.", show_default=False),
]
Limit = Annotated[
    int | None, typer.Option("--limit", metavar="N", min=1, help="Only the first N rows.", show_default=False)
]
DiffOut = Annotated[
    Path | None,
    typer.Option(
        "--diff-out", metavar="DIR", help="Write the ids of a segment's difference to files in DIR.", show_default=False
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print one JSON object on stdout.")]


def variables(given: list[str]) -> dict[str, str]:
    """Read `NAME=VALUE` texts; raises JobError for one without `=`."""
    read = {}
    for text in given:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise JobError(Problem(f"{text!r} is not NAME=VALUE", field="--var"))
        read[name] = value
    return read
