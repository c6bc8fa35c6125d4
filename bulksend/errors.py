"""The exception tree: what went wrong with the *run*; a refused launch is a value, never an exception.

BulksendError                 exit code
├── JobError                  2   the job file, the audience or the arguments are wrong; nothing was called
├── GuardError                4   a guard of [policy] or [guard] refused the job or stopped it
├── InterruptedRunError      75   stopped before the end by a signal or by `stop`; run again to go on
├── SendsFailedError          3   raised by `Report.raise_for_failures()` only
└── RunError                  1   the run could not go on; nothing acknowledged is lost
    ├── LedgerError               the disk or the database failed, or a guarded transition did not hold
    │   ├── LedgerVersionError    the ledger was written by a newer bulksend
    │   └── JobLockedError        another process runs this job, or changes its segment
    ├── DeniedError               the vendor refuses the credentials (401, or 403 that is not throttling)
    ├── NetworkError              the vendor cannot be reached
    ├── PrepareError              the vendor refused what every send depends on (a campaign create)
    └── EmulatorError             the emulator's process did not come up
"""

from __future__ import annotations

import re
from dataclasses import dataclass

__all__ = [
    "BulksendError",
    "CallFailedError",
    "DeniedError",
    "EmulatorError",
    "GuardError",
    "InterruptedRunError",
    "JobError",
    "JobLockedError",
    "LedgerError",
    "LedgerVersionError",
    "NetworkError",
    "PrepareError",
    "Problem",
    "RunError",
    "SendsFailedError",
    "WebhookError",
]

SAID_MOST = 1000
"""Characters of one line; what is quoted from the input may be as long as it likes."""
_UNSAID = re.compile("[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
"""What would end the line, move the cursor, turn the text around, or cannot be written at all."""


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong with the input, and where it stands.

    `line` counts from 1 in the job file; `row` counts the audience's data rows from 1 (a CSV header is not a row).
    The text never holds a value of the row other than its key. `late` where only time has made it wrong.
    """

    text: str
    file: str | None = None
    line: int | None = None
    row: int | None = None
    key: str | None = None
    field: str | None = None
    late: bool = False

    def __str__(self) -> str:
        where = self.file or ""
        if self.line is not None:
            where += f":{self.line}" if where else f"line {self.line}"
        if self.row is not None:
            where += f"{', ' if where else ''}row {self.row}"
        if self.key is not None:
            where += f" (key {self.key})" if where else f"key {self.key}"
        parts = [part for part in (where, self.field, self.text) if part]
        return _on_one_line(": ".join(parts))


def _on_one_line(text: str) -> str:
    """Return a text as it can be said: what cannot be printed is escaped, the middle of a long one left out."""
    if len(text) > SAID_MOST:
        text = f"{text[: SAID_MOST // 2]} … {text[-SAID_MOST // 2 :]}"
    return _UNSAID.sub(lambda found: found[0].encode("unicode_escape").decode(), text)


class BulksendError(Exception):
    """Anything that bulksend raises on purpose.

    `job` is the job's name once its file was read; `report` holds the numbers where the job had begun.
    """

    exit_code = 1
    job: str | None = None
    report: object = None


class JobError(BulksendError):
    """The job file, the audience or the arguments are wrong; every problem found is in `problems`, in reading order."""

    exit_code = 2

    def __init__(self, problems: Problem | list[Problem] | str, *, more: int = 0) -> None:
        if isinstance(problems, str):
            problems = Problem(problems)
        self.problems: tuple[Problem, ...] = (problems,) if isinstance(problems, Problem) else tuple(problems)
        self.partial: object = None
        """The job as far as it could be read, where the fault is in its file."""
        self.more = more
        """How many further problems were counted but not kept."""
        super().__init__("\n".join(self.lines()))

    def lines(self) -> list[str]:
        """Return one line per problem, and one that counts those not kept."""
        lines = [str(problem) for problem in self.problems]
        if self.more:
            lines.append(f"… and {self.more:,} more problems of the audience")
        return lines


class GuardError(BulksendError):
    """A guard of [policy] or [guard] refused the job, or stopped it; `refused` where nothing was changed yet."""

    exit_code = 4

    def __init__(self, text: str, *, refused: bool = False) -> None:
        self.refused = refused
        super().__init__(text)


class InterruptedRunError(BulksendError):
    """The run was stopped before its end; running the job again goes on where it stopped."""

    exit_code = 75


class SendsFailedError(BulksendError):
    """Some sends were rejected, are unknown or are still pending."""

    exit_code = 3


class RunError(BulksendError):
    """The run could not go on; what was acknowledged is in the ledger, and running the job again goes on."""


class LedgerError(RunError):
    """The ledger could not be read or written, or refused a transition that its states do not allow."""


class LedgerVersionError(LedgerError):
    """The ledger was written by a newer bulksend; this one must not touch it."""


class JobLockedError(LedgerError):
    """Another process is running this job, or brings its segment into line."""


class DeniedError(RunError):
    """The vendor refuses the credentials, so that every further call would fail."""


class NetworkError(RunError):
    """The vendor cannot be reached; what had not left is still pending."""


class PrepareError(RunError):
    """The vendor refused what every send of an account depends on."""


class CallFailedError(RunError):
    """A single call was not accepted."""


class WebhookError(BulksendError):
    """A webhook that is not to be believed, or not one that is known here."""


class EmulatorError(RunError):
    """The emulator's process did not come up."""
