"""One call of a load test, as it is made and as it ended."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

from bulksend.engine.transport import Transport
from bulksend.event import Event, EventName
from bulksend.model import Accepted, Call, Denied, Lost, NotSent, Outcome, Rejected, Send, Step, Throttled, Unknown
from bulksend.providers import Provider

__all__ = ["Round", "Shoot", "Shot", "outcome_name", "shooter"]


@dataclass(frozen=True, slots=True)
class Round:
    """A call that is ready to be made, as often as one likes."""

    send: Send
    step: Step
    call: Call


@dataclass(frozen=True, slots=True)
class Shot:
    """One call that was made. `left_s` is None where nothing of it left."""

    left_s: float | None
    done_s: float
    outcome: Outcome
    status: int | None = None
    key: str = ""
    row: int = 0
    account: str = ""
    """What tells accounts apart at the vendor, each of which has a limit of its own."""


Shoot = Callable[[int], Awaitable[Shot]]
"""Makes the call with this number, counted over the whole test."""


def outcome_name(outcome: Outcome) -> str:
    """Return what a call's outcome counts as."""
    match outcome:
        case Accepted():
            return "accepted"
        case Throttled():
            return "throttled"
        case Rejected() | Denied():
            return "rejected"
        case Unknown():
            return "unknown"
        case NotSent():
            return "unsent"
        case _:
            return "accepted"  # a vendor that is still at work on it has taken the call


def shooter(
    rounds: Sequence[Round],
    provider: Provider,
    transport: Transport,
    clock: Callable[[], float],
    left: Callable[[str, float], None] = lambda _account, _at_s: None,
) -> Shoot:
    """Return what makes the calls, over and over from the first; no limiter, no repeat, no ledger.

    `left` is told the account and the time as each call leaves.
    """

    async def shoot(number: int) -> Shot:
        one = rounds[number % len(rounds)]
        left_s: float | None = None

        async def leave() -> None:
            nonlocal left_s
            left_s = clock()
            left(one.send.account.identity, left_s)

        result = await transport.send(one.call, leave)
        done_s = clock()
        outcome: Outcome
        status = None
        if isinstance(result, NotSent):
            outcome, left_s = result, None
        elif isinstance(result, Lost):
            outcome = Unknown(result.reason)
        else:
            status = result.status
            outcome = provider.read(one.step, result, repeats=0)
        return Shot(left_s, done_s, outcome, status, one.send.key, one.send.row, one.send.account.identity)

    return shoot


def event_of(shot: Shot, job: str, endpoint: str, due_s: float) -> Event:
    """Return the shot as the event that logs and histories know; its duration counts from when the call was due."""
    reason = getattr(shot.outcome, "reason", None)
    wait_s = None if shot.left_s is None else shot.left_s - due_s
    return Event(
        EventName.CALL_MADE,
        job,
        endpoint,
        key=shot.key,
        row=shot.row,
        status=shot.status,
        reason=reason,
        duration_s=shot.done_s - due_s,
        wait_s=wait_s,
    )
