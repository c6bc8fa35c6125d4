"""What to do after a call, as a pure function of what came back: settle, try again, wait, or give up."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime

import msgspec

from bulksend.engine.circuit import TRIP_AFTER
from bulksend.errors import BulksendError, DeniedError, NetworkError
from bulksend.model import (
    Absent,
    Accepted,
    Denied,
    Endpoint,
    Found,
    NotSent,
    Outcome,
    Rejected,
    Repeat,
    State,
    Throttled,
    Unknown,
    Untold,
    Waiting,
)

__all__ = [
    "Abort",
    "Again",
    "Decision",
    "Settle",
    "accepted",
    "backoff_s",
    "decide",
    "reset_most_s",
    "retry_after_s",
    "throttle_pause_s",
]

BASE_S = 0.25
CAP_S = 10.0
ATTEMPTS_MOST = TRIP_AFTER + 2
"""Charged attempts of one call in a run; waiting for a 429, and trying an endpoint that is down, is not charged.

More than after how many the endpoint is taken to be down: a call that is made alone outlives an outage too.
"""
UNREACHABLE_S = 10.0
"""For how long no connection may be made before the run gives up."""
BUDGET_LEAST = 100
BUDGET_SHARE = 0.1
PAUSE_MOST_S = 86_400.0


class Settle(msgspec.Struct, frozen=True):
    """The call has its outcome."""

    state: State
    ref: str | None = None
    reason: str | None = None
    status: int | None = None
    tally: Mapping[str, int] = {}


class Again(msgspec.Struct, frozen=True):
    """Back to pending, and once more after `after_s`."""

    reason: str
    after_s: float = 0.0
    pause_s: float | None = None
    """Set: nobody calls the endpoint for the account so long; the retry budget is not charged."""
    repeats: int = 0
    """1 where the call may have had its effect, harmlessly."""
    status: int | None = None
    progress: float | None = None
    """Set where the vendor is at work on it, and was asked how far."""


class Abort(msgspec.Struct, frozen=True):
    """Back to pending, and the account's part of the run ends: every further call would fail too."""

    error: BulksendError
    reason: str
    status: int | None = None


Decision = Settle | Again | Abort


def backoff_s(attempt: int, random: Callable[[], float]) -> float:
    """Return a wait with full jitter: anywhere up to 0.25 s doubled by each attempt, 10 s at most."""
    return random() * min(CAP_S, BASE_S * 2.0 ** min(attempt - 1, 20))


def retry_after_s(text: str | None, now: float) -> float | None:
    """Read a Retry-After header, seconds or a date; None when there is none or it says nothing.

    `now` is in seconds since the epoch. A date that has passed is 0; more than a day counts as a day.
    """
    if text is None:
        return None
    try:
        seconds = float(text)
    except ValueError:
        try:
            at = parsedate_to_datetime(text)
        except (ValueError, TypeError, IndexError, OverflowError):
            return None
        seconds = (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp() - now
    if math.isnan(seconds):
        return None
    return min(max(seconds, 0.0), PAUSE_MOST_S)


def reset_most_s(period_s: float) -> float:
    """Return how long a reset may be away to be believed: vendors' windows are a minute, our own may be longer."""
    return max(60.0, period_s)


def throttle_pause_s(episode: int, period_s: float, random: Callable[[], float]) -> float:
    """Return how long to wait for a 429 that does not say: an eighth of the window, then twice that, up to all of it.

    `episode` counts 429s in a row on the endpoint, from 1.
    """
    wait = min(period_s, max(0.25, period_s / 8) * 2.0 ** min(episode - 1, 20))
    return wait * (1 + 0.1 * random())


def accepted(outcome: Accepted) -> Settle:
    """Return what follows from the vendor's word that it took a call, however things stand."""
    return Settle(State.ACCEPTED, ref=outcome.ref, tally=outcome.tally)


def decide(
    outcome: Outcome,
    endpoint: Endpoint,
    *,
    verdict: Found | Absent | Untold | None = None,
    attempt: int,
    episode: int,
    down_s: float,
    budget_left: int,
    period_s: float,
    now: float,
    random: Callable[[], float],
) -> Decision:
    """Decide what follows an outcome; `verdict` is what a lookup said of a call of unknown effect, where there was one.

    `attempt` counts this call's charged tries in the run, from 1; `episode` the pauses of the endpoint in a row, from
    1; `down_s` is for how long no connection was made, though calls tried to; `period_s` is the longest window of the
    endpoint's limit; `now` is seconds since the epoch, for dates in Retry-After.
    """
    out_of_tries = attempt >= ATTEMPTS_MOST or budget_left <= 0
    match outcome:
        case Accepted():
            return accepted(outcome)
        case Waiting(after_s=after_s, progress=progress):
            return Again("the vendor is at work on it", after_s=after_s, progress=progress or 0.0)
        case Rejected(reason=reason, status=status):
            return Settle(State.REJECTED, reason=reason, status=status)
        case Throttled(status=status, retry_after=text, at_least_s=at_least_s, reset_at=reset_at):
            told = retry_after_s(text, now)
            if told is None and reset_at is not None:
                told = min(max(reset_at - now, 0.0), reset_most_s(period_s))
            pause = throttle_pause_s(episode, period_s, random) if told is None else told
            if told is not None and told < 1.0 and episode > 1:
                # A vendor that says "at once" over and over, or whose clock is behind, is not believed a second time.
                pause = max(told, throttle_pause_s(episode - 1, period_s, random))
            return Again(f"HTTP {status}: told to wait", pause_s=max(pause, at_least_s), status=status)
        case Denied(reason=reason, status=status):
            text = (
                f"HTTP {status} from {endpoint.name}: {reason}; check the token and the account's ids, then run again"
            )
            return Abort(DeniedError(text), f"HTTP {status}: {reason}", status)
        case NotSent(reason=reason):
            if down_s >= UNREACHABLE_S:
                text = f"cannot reach the vendor for {endpoint.name}: {reason}; nothing is lost, run again to go on"
                return Abort(NetworkError(text), reason)
            return Again(reason, pause_s=backoff_s(episode, random))
        case Unknown(status=status) if isinstance(verdict, Found):
            return Settle(State.ACCEPTED, ref=verdict.ref, status=status)
        case Unknown(reason=reason, status=status, refused=refused):
            if refused and isinstance(verdict, Absent):
                return Settle(State.REJECTED, reason=reason, status=status)
            if isinstance(verdict, Untold):
                reason = f"{reason}; {verdict.reason}"
            if isinstance(verdict, Absent) and not out_of_tries:
                return Again(
                    f"{reason}; it had no effect", after_s=backoff_s(attempt, random), repeats=1, status=status
                )
            if endpoint.repeat is Repeat.NEVER or out_of_tries:
                return Settle(State.UNKNOWN, reason=reason, status=status)
            return Again(reason, after_s=backoff_s(attempt, random), repeats=1, status=status)
