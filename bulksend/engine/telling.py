"""The events that the engine tells, built from what it knows of a call."""

from __future__ import annotations

from collections.abc import Callable

from bulksend.engine.lane import Lane
from bulksend.engine.rate import Bucket
from bulksend.engine.retry import Again, Settle
from bulksend.event import Event, EventName
from bulksend.model import Account, Endpoint, Lost, NotSent, Reply, Send, State

__all__ = ["Teller"]

_SETTLED = {
    State.ACCEPTED: EventName.SEND_ACCEPTED,
    State.REJECTED: EventName.SEND_REJECTED,
    State.UNKNOWN: EventName.SEND_UNKNOWN,
}


class Teller:
    """Tells `observe` what happens to the sends of one job; keys and reasons only, never a payload."""

    def __init__(self, job: str, observe: Callable[[Event], None]) -> None:
        self._job = job
        self._observe = observe

    def called(self, lane: Lane, send: Send, attempt: int, result: Reply | Lost | NotSent, took_s: float) -> None:
        """A call ended, whatever came of it; `took_s` includes the wait for a connection and for the gate."""
        duration_s = result.duration_s if isinstance(result, Reply) else None
        self._observe(
            Event(
                EventName.CALL_MADE,
                self._job,
                lane.endpoint.name,
                lane.account.name,
                send.key,
                send.row,
                attempt,
                result.status if isinstance(result, Reply) else None,
                None if isinstance(result, Reply) else result.reason,
                duration_s=duration_s,
                wait_s=max(0.0, took_s - (duration_s or 0.0)),
            )
        )

    def paused(self, lane: Lane, again: Again) -> None:
        """The endpoint is not called for a while."""
        self._observe(
            Event(
                EventName.LIMIT_PAUSED,
                self._job,
                lane.endpoint.name,
                lane.account.name,
                status=again.status,
                reason=again.reason,
                duration_s=again.pause_s,
            )
        )

    def circuit(self, name: EventName, lane: Lane, reason: str, rest_s: float | None) -> None:
        """An endpoint is taken to be down, and left in peace for so long; or it is up again."""
        self._observe(Event(name, self._job, lane.endpoint.name, lane.account.name, reason=reason, duration_s=rest_s))

    def limit_changed(self, endpoint: Endpoint, account: Account, bucket: Bucket) -> None:
        """The pace of an endpoint was fitted to how much the way to the vendor varies, or to its 429s."""
        pace = f"now {bucket.rate_per_s * 60:,.1f}/min, {bucket.burst} at once at most"
        self._observe(Event(EventName.LIMIT_CHANGED, self._job, endpoint.name, account.name, reason=pace))

    def settled(self, send: Send, endpoint: Endpoint | None, settle: Settle, attempt: int) -> None:
        """A send has its outcome, and the ledger has it too."""
        name = _SETTLED[settle.state]
        self._send(name, send, endpoint, attempt, settle.status, settle.reason, settle.ref)

    def retried(self, send: Send, endpoint: Endpoint, attempt: int, again: Again) -> None:
        """A call is made once more."""
        self._send(EventName.SEND_RETRIED, send, endpoint, attempt, again.status, again.reason)

    def watched(self, send: Send, endpoint: Endpoint, progress: float) -> None:
        """The vendor has said how far it is with a campaign."""
        self._observe(
            Event(
                EventName.SEND_WATCHED,
                self._job,
                endpoint.name,
                send.account.name,
                send.key,
                send.row,
                progress=progress,
            )
        )

    def returned(self, send: Send, endpoint: Endpoint, attempt: int, again: Again) -> None:
        """A send is pending again, for the next run."""
        self._send(EventName.SEND_RETURNED, send, endpoint, attempt, again.status, again.reason)

    def sampled(self, endpoint: str, in_flight: int, utilization: float, limit_per_s: float) -> None:
        """How an endpoint stands at this moment."""
        self._observe(
            Event(
                EventName.ENDPOINT_SAMPLED,
                self._job,
                endpoint,
                in_flight=in_flight,
                utilization=utilization,
                limit_per_s=limit_per_s,
            )
        )

    def waiting(self, waiting: int, commits: tuple[int, float]) -> None:
        """How the run stands at this moment; `commits` counts those since its beginning, and their seconds."""
        count, took_s = commits
        self._observe(Event(EventName.RUN_SAMPLED, self._job, count=count, duration_s=took_s, waiting=waiting))

    def _send(
        self,
        name: EventName,
        send: Send,
        endpoint: Endpoint | None,
        attempt: int,
        status: int | None,
        reason: str | None,
        ref: str | None = None,
    ) -> None:
        where = None if endpoint is None else endpoint.name
        event = Event(name, self._job, where, send.account.name, send.key, send.row, attempt, status, reason, ref)
        self._observe(event)
