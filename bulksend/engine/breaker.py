"""What becomes of an endpoint whose calls fail: its circuit opens, it is left in peace, and in the end given up."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from bulksend.duration import format_duration
from bulksend.engine.circuit import OUTAGE_MOST_S
from bulksend.engine.lane import Lane
from bulksend.engine.limiter import Gate
from bulksend.engine.telling import Teller
from bulksend.errors import InterruptedRunError
from bulksend.event import EventName
from bulksend.model import Account, Lost, NotSent, Reply

__all__ = ["Breaker", "outage_of"]


class Breaker:
    """Judges the endpoints of a run by what comes back; `fail` ends the part of an account that waited too long."""

    def __init__(
        self, tell: Teller, random: Callable[[], float], fail: Callable[[Account, BaseException], None]
    ) -> None:
        self._tell = tell
        self._random = random
        self._fail = fail

    async def heard(self, lane: Lane, account: Account, result: Reply | Lost | NotSent, *, alone: bool) -> None:
        """Count what came of a call; while the circuit is open, only of one that went alone."""
        gate, circuit = lane.gate, lane.gate.circuit
        if isinstance(result, NotSent) or (circuit.is_open and not alone):
            return
        if isinstance(result, Reply) and result.status < 500:
            if circuit.is_open:
                self._tell.circuit(EventName.ENDPOINT_UP, lane, "it answers again", None)
            circuit.got_through()
            return
        now_s = asyncio.get_running_loop().time()
        rest_s = circuit.failed(now_s, self._random)
        if rest_s is None:
            return
        reason = f"HTTP {result.status}" if isinstance(result, Reply) else result.reason
        self._tell.circuit(EventName.ENDPOINT_DOWN, lane, reason, rest_s)
        await gate.pause(rest_s)
        if circuit.down_since_s is not None and now_s - circuit.down_since_s > OUTAGE_MOST_S:
            text = f"{lane.endpoint.name} has been failing for {format_duration(OUTAGE_MOST_S)} ({reason})"
            self._fail(account, InterruptedRunError(f"{text}; run again to go on"))


def outage_of(gate: Gate) -> str | None:
    """Return what is to be said of an endpoint that is down at this moment; None while calls get through."""
    if not gate.circuit.is_open or gate.circuit.down_since_s is None:
        return None
    down_s = asyncio.get_running_loop().time() - gate.circuit.down_since_s
    return f"{gate.endpoint} has been failing for {format_duration(down_s)}"
