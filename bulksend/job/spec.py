"""The tables of a job file that are bulksend's own, [audience] and [policy]: their fields and their typed values."""

from __future__ import annotations

import re
from dataclasses import dataclass

from bulksend.fields import Field, Fields, Kind

__all__ = ["AUDIENCE", "POLICY", "AudienceSpec", "Policy", "share"]


def share(text: str) -> float:
    """Read a percentage as a share of 1; raises ValueError with a sentence for the user."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", text)
    if found is None or not 0 <= float(found[1]) <= 100:
        raise ValueError('is not a share such as "5%"')
    return float(found[1]) / 100


AUDIENCE: Fields = {
    "from": Field(Kind.TEXT, "A .csv, .jsonl or .parquet file, or a glob, relative to the job file."),
    "sql": Field(Kind.TEXT, "One DuckDB SELECT in place of `from`; file names in it are relative to the job file."),
    "key": Field(Kind.TEXT, "The column that names a send; unique.", required=True),
    "chunk": Field(Kind.INTEGER, "Rows per send; ${column[]} is then the column's list.", least=1),
    "account": Field(Kind.TEXT, 'Which [account.NAME] a row belongs to: "${brand}".'),
}
POLICY: Fields = {
    "canary": Field(Kind.INTEGER, "The first N must all be accepted before the rest goes.", least=1),
    "max_sends": Field(Kind.INTEGER, "More sends than this: refused before the first call.", least=1),
    "stop_after": Field(Kind.TEXT, 'Share of rejects over the last 200 sends that stops the job: "5%".', check=share),
    "deadline": Field(Kind.DURATION, "How long a run may take.", least_s=1),
    "due": Field(Kind.DATETIME, "When the run should start; see max_lateness."),
    "max_lateness": Field(Kind.DURATION, "How much later than `due` a run may start."),
    "on_unknown": Field(
        Kind.TEXT, "hold: an unknown waits for a person; resend: sent once more at the end.", choices=("hold", "resend")
    ),
}


@dataclass(frozen=True, slots=True)
class Policy:
    """[policy]: the guards; None is no limit."""

    canary: int | None = None
    max_sends: int | None = None
    stop_after: float | None = None
    """Share of rejects, 0 to 1."""
    deadline_s: float | None = None
    due: float | None = None
    """Seconds since the epoch."""
    max_lateness_s: float | None = None
    resend_unknown: bool = False


@dataclass(frozen=True, slots=True)
class AudienceSpec:
    """[audience] as written; exactly one of `source` and `sql` is set, unless rows come from code."""

    key: str
    source: str | None = None
    sql: str | None = None
    chunk: int | None = None
    account: str | None = None
