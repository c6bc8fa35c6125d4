"""The frozen values that every room speaks in; no I/O, no clock, no vendor."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

import msgspec

__all__ = [
    "Absent",
    "Accepted",
    "Account",
    "Call",
    "Denied",
    "Described",
    "Endpoint",
    "Found",
    "JobState",
    "Limit",
    "Listed",
    "Lost",
    "NotSent",
    "Outcome",
    "Probe",
    "Rejected",
    "Repeat",
    "Reply",
    "Secret",
    "Send",
    "Standing",
    "State",
    "Step",
    "Throttled",
    "Unknown",
    "Untold",
    "Verdict",
    "Waiting",
    "Window",
]


class State(StrEnum):
    """Where a send stands in the ledger; see the drawing in `ledger/base.py`."""

    PENDING = "pending"
    SENDING = "sending"
    ACCEPTED = "accepted"
    REJECTED = "rejected"
    UNKNOWN = "unknown"


class JobState(StrEnum):
    """Where a job stands: `refused` changed nothing, `stopped` was told to stop, `incomplete` broke off."""

    RUNNING = "running"
    DONE = "done"
    INCOMPLETE = "incomplete"
    STOPPED = "stopped"
    REFUSED = "refused"


_PERIOD_S = {
    **dict.fromkeys(("s", "sec", "second"), 1.0),
    **dict.fromkeys(("min", "minute"), 60.0),
    **dict.fromkeys(("h", "hour"), 3600.0),
    **dict.fromkeys(("d", "day"), 86400.0),
}
CALLS_MOST = 1_000_000_000
PERIOD_MOST_S = 31 * 86400.0
_WINDOW = re.compile(r"\s*(\d+(?:[_,]\d{3})*|\d+)\s*/\s*(\d+(?:\.\d+)?)?\s*([a-z]+)\s*", re.ASCII)


@dataclass(frozen=True, slots=True)
class Window:
    """At most `calls` calls in any `period_s` seconds."""

    calls: int
    period_s: float


@dataclass(frozen=True, slots=True)
class Limit:
    """What an endpoint allows: one or more windows that hold together; text form `"6000/min"`, `"300/min, 10/s"`."""

    windows: tuple[Window, ...]

    @classmethod
    def parse(cls, text: str) -> Limit:
        """Read the text form; raises ValueError with a sentence for the user."""
        windows = []
        for part in re.split(r"(?<!\d),|,(?!\d{3}\b)", text):
            found = _WINDOW.fullmatch(part.lower())
            if found is None or found[3] not in _PERIOD_S:
                raise ValueError(f'{text!r} is not a limit such as "6000/min", "600/6s" or "300/min, 10/s"')
            # Twelve digits are past what can be, and Python reads no number of thousands of them.
            calls = int(re.sub(r"[_,]", "", found[1]).lstrip("0")[:12] or "0")
            period_s = float(found[2] or "1") * _PERIOD_S[found[3]]
            if calls < 1 or period_s <= 0:
                raise ValueError(f"{text!r} allows no call at all")
            if calls > CALLS_MOST or period_s > PERIOD_MOST_S:
                raise ValueError(f"is past what a limit can be: {CALLS_MOST:,} calls, a window of 31 days")
            windows.append(Window(calls, period_s))
        return cls(tuple(windows))

    def __str__(self) -> str:
        return ", ".join(_window_text(window) for window in self.windows)


def _window_text(window: Window) -> str:
    for unit, period_s in (("h", 3600.0), ("min", 60.0), ("s", 1.0)):
        if window.period_s == period_s:
            return f"{window.calls}/{unit}"
    return f"{window.calls}/{window.period_s:g}s"


class Secret:
    """A text that never shows: not in `repr`, `str`, logs or pickles; `reveal()` is called at the wire only."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        """Return the text itself."""
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    def __hash__(self) -> int:
        return hash(("Secret", self._text))

    def __reduce__(self) -> tuple[type, tuple[str]]:
        raise TypeError("a Secret is not pickled")


@dataclass(frozen=True, slots=True, eq=False)
class Account:
    """Credentials and base URL at one provider; `identity` (no secret in it) is what the vendor limits by."""

    name: str
    provider: str
    base_url: str
    ids: Mapping[str, str] = field(default_factory=dict)
    secrets: Mapping[str, Secret] = field(default_factory=dict, repr=False)

    identity: str = field(init=False)
    """The text under which the ledger keeps this account's limits."""

    def __post_init__(self) -> None:
        text = "|".join((self.provider, self.base_url, *(f"{key}={self.ids[key]}" for key in sorted(self.ids))))
        object.__setattr__(self, "identity", text)


class Repeat(StrEnum):
    """Whether a call whose reply was lost may be made again."""

    SAFE = "safe"
    """Repeating does no harm (a draft, a set operation, a read)."""
    NEVER = "never"
    """Each call may reach people: a lost reply stays unknown."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A named operation of a provider with its documented limit."""

    name: str
    method: str
    path: str
    limit: Limit
    repeat: Repeat
    documented: bool = True
    """False where the vendor publishes no limit and `limit` is the client's own careful start."""

    @property
    def reads(self) -> bool:
        """Say whether a call changes nothing at the vendor, so that it needs no intent on disk."""
        return self.method == "GET"


class Call(msgspec.Struct, frozen=True):
    """One HTTP request, ready for the wire; `headers` holds credentials and is shared by all calls of a lane."""

    endpoint: Endpoint
    url: str
    headers: Mapping[str, str]
    body: bytes

    def __repr__(self) -> str:
        return f"Call({self.endpoint.name})"


class Reply(msgspec.Struct, frozen=True):
    """One whole HTTP answer; header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    duration_s: float = 0.0
    """From the gate to the last byte."""

    def __repr__(self) -> str:
        return f"Reply({self.status}, {len(self.body)} bytes)"


class Lost(msgspec.Struct, frozen=True):
    """The request had left, no whole reply came: the effect is not known."""

    reason: str


class NotSent(msgspec.Struct, frozen=True):
    """Proof that no byte of the request reached the vendor."""

    reason: str


class Accepted(msgspec.Struct, frozen=True):
    """The vendor's documented word that it took the call; `ref` is its id for it.

    `tally` counts what the vendor says that it came to (users, messages), for a step that follows a campaign.
    """

    ref: str | None = None
    tally: Mapping[str, int] = {}


class Listed(Accepted, frozen=True, kw_only=True):
    """A page of a segment: the ids of its targets, as the vendor orders them."""

    ids: list[str]
    following: str | None = None
    """The vendor's cursor for the next page; None after the last."""
    unnamed: int = 0
    """Targets of the page that have no id of the kind that was asked for."""


class Described(Accepted, frozen=True, kw_only=True):
    """What a vendor says of a segment as a whole."""

    found: bool = True
    size: int | None = None
    """How many targets it says there are; None where it does not."""
    fills_itself: str | None = None
    """The rule by which the vendor chooses the targets, so that they cannot be set; None where there is none."""
    following: str | None = None
    """Where it is not found yet: the cursor of the next page of segments."""


class Rejected(msgspec.Struct, frozen=True):
    """The vendor's word that it did not, and will not, take the call."""

    reason: str
    status: int | None = None


class Unknown(msgspec.Struct, frozen=True):
    """Neither: nobody can say from here whether the call took effect.

    `refused` where the vendor refused the call, perhaps because an earlier one of unknown effect had had it.
    """

    reason: str
    status: int | None = None
    refused: bool = False


class Throttled(msgspec.Struct, frozen=True):
    """Told to wait; the call had no effect.

    `retry_after` is the header's text, seconds or a date; `reset_at` is when the vendor's window ends, in seconds since
    the epoch.
    """

    status: int
    retry_after: str | None = None
    at_least_s: float = 0.0
    reset_at: float | None = None


class Waiting(msgspec.Struct, frozen=True):
    """The vendor is at work on it: to be asked again after `after_s`. `progress` is a share, 0 to 1."""

    after_s: float
    progress: float | None = None


class Denied(msgspec.Struct, frozen=True):
    """The credentials are refused; the call had no effect and every further one would fail too."""

    reason: str
    status: int


Outcome = Accepted | Rejected | Unknown | Throttled | Denied | NotSent | Waiting


class Standing(msgspec.Struct, frozen=True):
    """What a reply says of the vendor's own count: its limit, what is left of it, and when it begins anew (epoch)."""

    limit: Limit | None = None
    remaining: int | None = None
    reset_at: float | None = None


class Step(msgspec.Struct, frozen=True):
    """One call's worth of a send: the rendered body, and the vendor's id in its path where that is known beforehand."""

    endpoint: Endpoint
    body: bytes = b""
    ref: str | None = None
    path: str | None = None
    """In place of the endpoint's, where more than the id differs: a query, an id within an id. May hold `{ref}`."""
    every_s: float = 0.0
    """Above 0: the call is made again so long after the last one, until the vendor is done."""
    not_after: float | None = None
    """After this moment, in seconds since the epoch, the call must not be made any more: what it is for has passed."""

    def is_past(self, now: float) -> bool:
        """Say whether the call comes too late."""
        return self.not_after is not None and self.not_after < now


class Probe(msgspec.Struct, frozen=True):
    """The question whether a call of unknown effect had it; `wanted` is what the answer is searched for."""

    step: Step
    wanted: str
    pages_left: int = 1
    """How many more pages may be asked for."""


class Found(msgspec.Struct, frozen=True):
    """The call had its effect; `ref` is the vendor's id for it."""

    ref: str | None = None


class Absent(msgspec.Struct, frozen=True):
    """The call has had no effect, and repeating it cannot have one twice."""


class Untold(msgspec.Struct, frozen=True):
    """The vendor's answer settles nothing."""

    reason: str


Verdict = Found | Absent | Untold | Probe
"""What an answer to a probe means; a further Probe where the answer goes on."""


class Send(msgspec.Struct, frozen=True):
    """What one row, or one chunk of rows, asks of the provider; its steps are made in order."""

    key: str
    row: int
    """Number of the (first) row in the audience, from 1; 0 where there is no audience."""
    account: Account
    steps: tuple[Step, ...]
    fingerprint: int
    """A signed 64-bit hash of all bodies: the same key with another payload is told from a repeat."""
    rows: int = 1
    invalid: str | None = None
    """Why this send must not be made (rows that were not checked beforehand); it has no steps then."""
