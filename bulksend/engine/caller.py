"""One call to its outcome: made, read, decided on, and made again where that does no harm."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable

from bulksend.engine.breaker import outage_of
from bulksend.engine.lane import Lane
from bulksend.engine.limiter import StoppedError
from bulksend.engine.retry import (
    BUDGET_LEAST,
    BUDGET_SHARE,
    Again,
    Decision,
    accepted,
    decide,
)
from bulksend.engine.wire import Wire
from bulksend.model import (
    Absent,
    Accepted,
    Found,
    Lost,
    NotSent,
    Outcome,
    Rejected,
    Reply,
    Send,
    Step,
    Throttled,
    Unknown,
    Untold,
)

__all__ = ["Caller"]

TRIES_MOST = 8
"""How often a call by itself is made that is not answered."""
THROTTLED_MOST = 10
"""How often a call by itself lets itself be told to wait."""


class Caller(Wire):
    """Makes calls at the limits of one ledger, and says what comes of them."""

    def sample(self, waiting: int) -> None:
        """Tell how things stand at this moment: calls under way by endpoint, and how many sends wait for theirs."""
        now_s = asyncio.get_running_loop().time()
        in_flight: Counter[str] = Counter()
        for lane in self._lanes.values():
            in_flight[lane.endpoint.name] += lane.in_flight.in_use
        for name, stats in self.stats.items():
            self._tell.sampled(name, in_flight[name], stats.sample(now_s), stats.limit_per_s)
        self._tell.waiting(max(0, waiting - in_flight.total()), self._ledger.commit_time())

    async def close(self) -> None:
        """Give back what was leased of the limits and not used."""
        for gate in self._gates.values():
            gate.close(StoppedError())
        # At once, for one commit of them all; whoever fails, the others have gone the same way.
        await asyncio.gather(*(gate.give_back() for gate in self._gates.values()))

    async def request(
        self,
        send: Send,
        step: Step,
        *,
        tries: int = TRIES_MOST,
        read: Callable[[Reply], Outcome] | None = None,
        waits: bool = False,
    ) -> tuple[Reply | None, Outcome | None]:
        """Make a call to its outcome, by itself: nothing of it stands in the ledger, and nothing repeats it later.

        Repeated only as far as that does no harm, `tries` times at most; told to wait more than ten times, it ends as
        throttled. One that `waits` is told to wait as often as it takes, and outlives an outage. No outcome where the
        run has ended before. `read` says what a reply means, in place of the provider's own reading.
        """
        lane = self._lane(send.account, step.endpoint)
        attempt = repeats = throttled = 0
        while True:
            attempt += 1
            result = await self._alone(lane, send, step, repeats, attempt)
            if result is None:
                return None, None
            outcome = self._read(lane, step, result, repeats, read)
            self._count(lane, step, outcome)
            if isinstance(outcome, Unknown) and outcome.refused:
                if not repeats:  # nothing was tried before that it could be about
                    outcome = Rejected(outcome.reason, outcome.status)
                return (result if isinstance(result, Reply) else None), outcome
            is_down = isinstance(outcome, Unknown) and lane.gate.circuit.is_open
            if waits and is_down:
                attempt -= 1
            decision = self._decide(lane, step, outcome, attempt, None)
            throttled += isinstance(outcome, Throttled)
            if isinstance(decision, Again) and decision.pause_s is not None:
                await self._pause(lane, decision, outcome)  # everybody was told, also where this call gives up
            if not isinstance(decision, Again) or self.is_over(send.account):
                return (result if isinstance(result, Reply) else None), outcome
            out_of_tries = (attempt >= tries or is_down) and decision.pause_s is None
            if not waits and (throttled > THROTTLED_MOST or out_of_tries):
                return (result if isinstance(result, Reply) else None), outcome
            repeats += decision.repeats
            self.retried += 1
            self._stats(step.endpoint).retried += 1
            self._tell.retried(send, step.endpoint, attempt, decision)
            if decision.pause_s is not None:
                attempt -= 1
            await self._wait(decision.after_s, send.account)

    async def _alone(
        self, lane: Lane, send: Send, step: Step, repeats: int, attempt: int
    ) -> Reply | Lost | NotSent | None:
        await lane.in_flight.acquire()
        try:
            while not self.is_over(send.account) and lane.gate.paused_for_s > 0:
                await self._wait(lane.gate.paused_for_s, send.account)
            if self.is_over(send.account):
                return None
            return await self._exchange(lane, send, step, repeats, attempt)
        finally:
            lane.in_flight.release()

    def _count(self, lane: Lane, step: Step, outcome: Outcome) -> None:
        if isinstance(outcome, Throttled):
            self.throttled += 1
            self._stats(step.endpoint).throttled += 1
        if not (isinstance(outcome, NotSent) and self.is_past(step)):
            self._count_episode(lane, outcome)

    @property
    def outage(self) -> str | None:
        """Return what is to be said of an endpoint that is down at this moment; None while all get through."""
        return next((said for said in map(outage_of, self._gates.values()) if said is not None), None)

    def _count_episode(self, lane: Lane, outcome: Outcome) -> None:
        """A pause counts once, however many calls were under way when it began."""
        if not isinstance(outcome, NotSent):
            lane.down_since_s = None
        elif lane.down_since_s is None:
            lane.down_since_s = asyncio.get_running_loop().time()
        if not isinstance(outcome, Throttled | NotSent):
            lane.episode = 0
        elif lane.gate.paused_for_s <= 0:
            lane.episode += 1

    def _decide(
        self, lane: Lane, step: Step, outcome: Outcome, attempt: int, verdict: Found | Absent | Untold | None
    ) -> Decision:
        if isinstance(outcome, Accepted):
            return accepted(outcome)
        if isinstance(outcome, NotSent) and (self.is_over(lane.account) or self.is_past(step)):
            return Again(outcome.reason)
        return decide(
            outcome,
            step.endpoint,
            verdict=verdict,
            attempt=attempt,
            episode=max(1, lane.episode),
            down_s=0.0 if lane.down_since_s is None else asyncio.get_running_loop().time() - lane.down_since_s,
            budget_left=max(BUDGET_LEAST, int(self.calls * BUDGET_SHARE)) - self._spent,
            period_s=lane.gate.period_s,
            now=self._wall(),
            random=self._random,
        )

    def _read(
        self,
        lane: Lane,
        step: Step,
        result: Reply | Lost | NotSent,
        repeats: int,
        read: Callable[[Reply], Outcome] | None = None,
    ) -> Outcome:
        if isinstance(result, NotSent):
            return result
        if isinstance(result, Lost):
            return Unknown(result.reason)
        now_s = asyncio.get_running_loop().time()
        lane.heard(result.duration_s, now_s)
        self._stats(lane.endpoint).answered(result.duration_s, now_s)
        return self._provider.read(step, result, repeats=repeats) if read is None else read(result)

    async def _pause(self, lane: Lane, again: Again, outcome: Outcome) -> None:
        pause_s = again.pause_s or 0.0
        if lane.gate.paused_for_s < pause_s:
            fresh = lane.gate.paused_for_s <= 0
            told = isinstance(outcome, Throttled) and (outcome.retry_after, outcome.reset_at) != (None, None)
            if fresh and isinstance(outcome, Throttled) and not told:
                lane.gate.told_to_wait()
            await lane.gate.pause(pause_s)
            if fresh:
                self._tell.paused(lane, again)
