"""The typed values of a job file, and the fields of the tables that are bulksend's own, [audience] and [policy]."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

from bulksend.errors import Problem
from bulksend.fields import Fault, Field, Fields, Kind
from bulksend.job.accounts import AccountSpec
from bulksend.job.template import unescape
from bulksend.model import Account, Limit
from bulksend.providers import Provider

__all__ = [
    "AUDIENCE",
    "DESIRED",
    "GUARD",
    "POLICY",
    "SHRINK_MOST",
    "Amount",
    "AudienceSpec",
    "DesiredSpec",
    "Guard",
    "Job",
    "LoadedAccount",
    "Policy",
    "Verify",
    "part_of",
    "share",
]


SHRINK_MOST = 0.5
"""Without a word in [guard]: a list that lost half of itself since the last run is rather a broken export."""


def share(text: str) -> float:
    """Read a percentage as a share of 1; raises ValueError with a sentence for the user."""
    found = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*%\s*", text)
    if found is None or not 0 <= float(found[1]) <= 100:
        raise ValueError('is not a share such as "5%"')
    return float(found[1]) / 100


def part_of(share: float, of: int) -> int:
    """Return how many of so many a share is, rounded down; 29 % of 100 are 29, whatever a float makes of it."""
    return math.floor(share * of + 1e-6)


@dataclass(frozen=True, slots=True)
class Amount:
    """How many targets of a segment may change: a share, so many, or both; text form `"10%"`, `"10%, 500"`."""

    share: float | None = None
    count: int | None = None

    @classmethod
    def parse(cls, text: str) -> Amount:
        """Read the text form; raises ValueError with a sentence for the user."""
        found: dict[str, float] = {}
        for part in re.split(r"(?<=%)\s*,\s*|\s*,(?!\d{3}\b)\s*", text.strip()):
            counted = re.fullmatch(r"\d{1,3}(?:[_,]\d{3})+|\d{1,18}", part)
            name, value = ("count", int(re.sub("[_,]", "", part))) if counted else ("share", share(part))
            if name in found:
                raise ValueError(f"names two {name}s: keep one of them")
            found[name] = value
        return cls(found.get("share"), None if (count := found.get("count")) is None else int(count))

    def allows(self, number: int, of: int) -> bool:
        """Say whether so many of so many may change; a share says nothing where there are none."""
        if self.count is not None and number > self.count:
            return False
        return self.share is None or not of or number <= part_of(self.share, of)

    def __str__(self) -> str:
        parts = [f"{self.share:.2%}".replace(".00%", "%")] if self.share is not None else []
        return ", ".join(parts + ([f"{self.count:,}"] if self.count is not None else []))


class Verify(StrEnum):
    """How a segment is looked at once its targets were changed."""

    FULL = "full"
    SAMPLE = "sample"
    OFF = "off"


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


DESIRED: Fields = {
    "from": Field(Kind.TEXT, "A .csv, .jsonl or .parquet file, or a glob, relative to the job file."),
    "sql": Field(Kind.TEXT, "One DuckDB SELECT in place of `from`; file names in it are relative to the job file."),
    "key": Field(Kind.TEXT, "The column that holds the ids; an id that stands twice counts once.", required=True),
    "match": Field(Kind.TEXT, "User.com: which field of a user the ids are; custom_id by default."),
}
GUARD: Fields = {
    "max_remove": Field(
        Kind.AMOUNT, 'Targets that may be removed: "10%" of the segment, 500, or "10%, 500".', check=Amount.parse
    ),
    "max_add": Field(
        Kind.AMOUNT, 'Targets that may be added: "10%" of the segment, 500, or "10%, 500".', check=Amount.parse
    ),
    "max_shrink": Field(
        Kind.TEXT,
        'How much shorter than in the last run the desired list may be; "50%" by default.',
        check=share,
    ),
    "allow_empty": Field(Kind.BOOLEAN, "true: an empty desired list is no error, and empties the segment."),
    "verify": Field(
        Kind.TEXT,
        "How the result is looked at: full (default) pages the segment again, sample asks for 100 targets, off.",
        choices=tuple(Verify),
    ),
}


@dataclass(frozen=True, slots=True)
class DesiredSpec:
    """[desired] as written; exactly one of `source` and `sql` is set."""

    key: str
    source: str | None = None
    sql: str | None = None
    match: str = ""
    """Which field of a target the ids are; empty where a target is an id alone."""


@dataclass(frozen=True, slots=True)
class Guard:
    """[guard]: what a difference may be at most; None is no limit."""

    max_remove: Amount | None = None
    max_add: Amount | None = None
    max_shrink: float = SHRINK_MOST
    """Share of the last run's desired list, 0 to 1."""
    allow_empty: bool = False
    verify: Verify = Verify.FULL


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


@dataclass(frozen=True, slots=True)
class Job:
    """A checked job file: variables filled in, `${column}` still standing in the provider's tables."""

    name: str
    path: Path
    """The job file; for a job made in code, a name in the current directory that need not exist."""
    provider: Provider
    accounts: Mapping[str, AccountSpec]
    audience: AudienceSpec | None
    desired: DesiredSpec | None
    guard: Guard
    tables: Mapping[str, Mapping[str, object]]
    limits: Mapping[str, Limit]
    policy: Policy
    lines: Mapping[str, int]
    loose: frozenset[str] = frozenset()
    """Dotted paths whose value came from a variable, so that a number may stand as text."""
    faulty: bool = False
    """True for a job whose file has faults: its rows can be checked further, but no send is made of them."""

    @property
    def base_dir(self) -> Path:
        """What relative paths in the job file start from."""
        return self.path.parent

    def problem(self, fault: Fault) -> Problem:
        """Say where in the job file a fault stands."""
        path = re.sub(r"\[\d+\]", "", fault.path)
        while path and path not in self.lines:
            path = path.rpartition(".")[0]
        return Problem(fault.text, file=self.path.name, line=self.lines.get(path), field=fault.path, late=fault.late)

    def problem_at(self, path: str, text: str) -> Problem:
        """Say that something is wrong at a dotted path of the job file."""
        return self.problem(Fault(path, text))

    def segment_id(self, account: Account) -> str | None:
        """Return what `${segment.id}` stands for in the account; None where the job has no segment."""
        segment = {
            name: unescape(value) if isinstance(value, str) else value
            for name, value in self.tables.get("segment", {}).items()
        }
        return self.provider.segment_id({**self.tables, "segment": segment} if segment else self.tables, account)

    def limit(self, endpoint: str) -> Limit:
        """Return the limit in force: the contract's from [limits], else the documented one."""
        return self.limits.get(endpoint) or self.provider.endpoints[endpoint].limit


@dataclass(frozen=True, slots=True)
class LoadedAccount:
    """A checked [account] and [limits] by themselves."""

    provider: Provider
    account: AccountSpec
    limits: Mapping[str, Limit]

    def limit(self, endpoint: str) -> Limit:
        """Return the limit in force, as a job has it."""
        return self.limits.get(endpoint) or self.provider.endpoints[endpoint].limit
