"""What all calls of a run share on their way out: who may still call, the gate of each endpoint, the wire."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection
from functools import partial
from typing import NotRequired, TypedDict, Unpack

from bulksend.engine.breaker import Breaker
from bulksend.engine.circuit import Circuit
from bulksend.engine.lane import Lane, Permit
from bulksend.engine.limiter import Gate, StoppedError
from bulksend.engine.retry import Again, reset_most_s
from bulksend.engine.stats import EndpointStats
from bulksend.engine.telling import Teller
from bulksend.engine.transport import Transport
from bulksend.errors import DeniedError, InterruptedRunError, NetworkError
from bulksend.event import Event
from bulksend.ledger.base import Ledger
from bulksend.model import Account, Endpoint, Limit, Lost, NotSent, Reply, Send, Standing, Step
from bulksend.providers import Provider

__all__ = ["Surroundings", "Wire"]

OVERDUE = Lost("no whole reply in time")


class Surroundings(TypedDict):
    """What a caller is given."""

    job: str
    provider: Provider
    ledger: Ledger
    transport: Transport
    limit_of: Callable[[str], Limit]
    wall: Callable[[], float]
    random: Callable[[], float]
    observe: Callable[[Event], None]
    contract: NotRequired[Collection[str]]
    gives_up: NotRequired[bool]


class Wire:
    """The way of a run's calls to the vendor.

    Clock, sleeping and randomness come from outside: time is the event loop's, `wall` is seconds since the epoch,
    `random` is uniform in [0, 1). `observe` is called for every fact, on the event loop, and must not block. `contract`
    names the endpoints whose limit the user has set, so that what the vendor's replies say does not change it. An
    outage that lasts too long ends the account's part, unless `gives_up` is False.

    An account that cannot go on (its credentials are refused, its vendor not reached) ends by itself; the others go on.
    """

    def __init__(self, **surroundings: Unpack[Surroundings]) -> None:
        self.job = surroundings["job"]
        self.stats: dict[str, EndpointStats] = {}
        self.calls = 0
        self.retried = 0
        self.throttled = 0
        self.failure: BaseException | None = None
        """Why the run, or an account's part of it, cannot go on; the first reason wins."""
        self._provider = surroundings["provider"]
        self._ledger = surroundings["ledger"]
        self._transport = surroundings["transport"]
        self._limit_of = surroundings["limit_of"]
        self._wall = surroundings["wall"]
        self._random = surroundings["random"]
        self._tell = Teller(self.job, surroundings["observe"])
        self._gates: dict[tuple[str, str], Gate] = {}
        self._circuits: dict[tuple[str, str], Circuit] = {}
        """Outlive the gates: another account of the identity does not find out anew that the endpoint is down."""
        self._lanes: dict[tuple[str, str], Lane] = {}
        self._contract = frozenset(surroundings.get("contract", ()))
        self._stopping = False
        self._of_run = False
        """Whether `failure` is the run's own, and not that of one account."""
        self._failed: set[str] = set()
        self._ends: dict[str, asyncio.Event] = {}
        """By account, what its sleepers wait for beside time: that it is over."""
        self._spent = 0
        fail = self.fail if surroundings.get("gives_up", True) else lambda _account, _failure: None
        self._breaker = Breaker(self._tell, self._random, fail)
        self._overdue: set[Callable[[], None]] = set()
        """What ends the wait for replies that are late already."""

    @property
    def stopping(self) -> bool:
        """Say whether no new call is made any more."""
        return self._stopping

    def now(self) -> float:
        """Return the time, in seconds since the epoch."""
        return self._wall()

    def is_past(self, step: Step) -> bool:
        """Say whether the time of a step's call has passed; the clock is read only where that can be."""
        return step.not_after is not None and step.is_past(self._wall())

    def is_over(self, account: Account) -> bool:
        """Say whether no new call is made for this account any more."""
        return self._stopping or account.name in self._failed

    def stop(self, failure: BaseException | None = None) -> None:
        """Make no new call; those under way finish and are recorded."""
        weightier = not self._of_run and not isinstance(failure, InterruptedRunError)
        if failure is not None and (self.failure is None or weightier):
            self.failure = failure
            self._of_run = True
        if not self._stopping:
            self._stopping = True
            for gate in self._gates.values():
                gate.close(StoppedError())
            for end in self._ends.values():
                end.set()
            for give_up in tuple(self._overdue):
                give_up()

    def fail(self, account: Account, failure: BaseException) -> None:
        """Make no new call for this account; the others go on."""
        if self.failure is None:
            self.failure = failure
            if isinstance(failure, DeniedError | NetworkError) and account.name != "default":
                self.failure = type(failure)(f"account {account.name}: {failure}")
        self._failed.add(account.name)
        self._end_of(account).set()
        in_use = {id(lane.gate) for lane in self._lanes.values() if lane.account.name not in self._failed}
        for lane in self._lanes.values():
            if lane.account.name != account.name:
                continue
            lane.gate.dismiss(account.name)
            if id(lane.gate) not in in_use:
                lane.gate.close(StoppedError())
                # Another account of this identity may come, and then has a gate of its own.
                self._gates.pop((lane.gate.identity, lane.gate.endpoint), None)

    def _end_of(self, account: Account) -> asyncio.Event:
        end = self._ends.get(account.name)
        if end is None:
            end = self._ends[account.name] = asyncio.Event()
            if self._stopping:
                end.set()
        return end

    async def _exchange(
        self,
        lane: Lane,
        send: Send,
        step: Step,
        repeats: int,
        attempt: int,
        left: Permit | None = None,
        overdue: Callable[[], None] | None = None,
    ) -> Reply | Lost | NotSent:
        """Put one call through the gate and onto the wire; `left` is given back as it leaves.

        With `overdue`, that is called when no reply has come in time, and the reply is then waited for longer.
        """
        loop = asyncio.get_running_loop()
        call = self._provider.call(step, send.account, lane.headers, repeats=repeats)
        waited = loop.time()
        passage = _Passage(self, lane, send.account, step, left, overdue)
        try:
            if overdue is None:
                result = await self._transport.send(call, passage.leave)
            else:
                result = await self._transport.send(call, passage.leave, passage.took_too_long)
            counted = passage.counted
            if counted is not None:
                await counted
            # One that came late was counted when it was overdue; that it came at all shows that the vendor is up.
            if type(result) is Reply and result.status < 500:
                if lane.gate.circuit.has_failed:
                    await self._breaker.heard(lane, send.account, result, alone=passage.is_alone or counted is not None)
            elif counted is None:
                await self._breaker.heard(lane, send.account, result, alone=passage.is_alone)
        finally:
            passage.end()
        if passage.has_left or not self.is_over(send.account):
            self._tell.called(lane, send, attempt, result, loop.time() - waited)
        if type(result) is Reply:
            standing = self._provider.standing(result)
            if standing is not None:
                await self._note_standing(lane, result, standing)
        return result

    async def _note_standing(self, lane: Lane, reply: Reply, standing: Standing) -> None:
        """Keep to what the vendor says of its own count: its limit, and that nothing is left of it."""
        if standing.limit is not None and lane.endpoint.name not in self._contract:
            lane.gate.correct(standing.limit)
            self._stats(lane.endpoint).limit = standing.limit
        if standing.remaining == 0 and standing.reset_at is not None and reply.status != 429:
            pause_s = min(max(standing.reset_at - self._wall(), 0.0), reset_most_s(lane.gate.period_s))
            if pause_s > lane.gate.paused_for_s:
                self._tell.paused(lane, Again("nothing is left of the vendor's own limit", pause_s=pause_s))
            await lane.gate.pause(pause_s)

    def left(self, lane: Lane, at_s: float) -> None:
        """Count a call that leaves."""
        self.calls += 1
        self._stats(lane.endpoint).left(lane.gate.identity, at_s)

    def _stats(self, endpoint: Endpoint) -> EndpointStats:
        stats = self.stats.get(endpoint.name)
        if stats is None:
            stats = self.stats[endpoint.name] = EndpointStats(self._limit_of(endpoint.name))
        return stats

    def _lane(self, account: Account, endpoint: Endpoint) -> Lane:
        lane = self._lanes.get((account.name, endpoint.name))
        if lane is None:
            gate = self._gates.get((account.identity, endpoint.name))
            if gate is None:
                limit = self._limit_of(endpoint.name)
                told = partial(self._tell.limit_changed, endpoint, account)
                gate = Gate(account.identity, endpoint.name, limit, self._ledger, wall=self._wall, on_change=told)
                gate.circuit = self._circuits.setdefault((account.identity, endpoint.name), gate.circuit)
                self._gates[account.identity, endpoint.name] = gate
                if self.stopping:
                    gate.close(StoppedError())
            lane = Lane(account, endpoint, self._provider.headers(account), gate)
            self._lanes[account.name, endpoint.name] = lane
        return lane

    def wait_longer(self, give_up: Callable[[], None]) -> None:
        """Take note of a reply that is late, and of what ends the wait for it when the run stops."""
        self._overdue.add(give_up)

    def wait_no_more(self, give_up: Callable[[], None]) -> None:
        """Forget it again."""
        self._overdue.discard(give_up)

    async def count_overdue(self, lane: Lane, account: Account, *, alone: bool) -> None:
        """Count a reply that did not come in time as a failure of its endpoint."""
        try:
            await self._breaker.heard(lane, account, OVERDUE, alone=alone)
        except Exception as wrong:
            self.stop(wrong)

    async def _wait(self, seconds: float, account: Account) -> None:
        """Sleep, but no longer than until the run, or the account's part of it, stops."""
        if seconds > 0 and not self.is_over(account):
            try:
                async with asyncio.timeout(seconds):
                    await self._end_of(account).wait()
            except TimeoutError:
                pass


class _Passage:
    """One call on its way: through the gate, onto the wire, and to whoever must know that its reply is late."""

    __slots__ = (
        "_account",
        "_lane",
        "_left",
        "_overdue",
        "_step",
        "_waits",
        "_wire",
        "counted",
        "has_left",
        "is_alone",
    )

    def __init__(
        self,
        wire: Wire,
        lane: Lane,
        account: Account,
        step: Step,
        left: Permit | None,
        overdue: Callable[[], None] | None,
    ) -> None:
        self._wire = wire
        self._lane = lane
        self._account = account
        self._step = step
        self._left = left
        self._overdue = overdue
        self._waits: list[Callable[[], None]] = []
        self.has_left = False
        self.is_alone = False
        """Whether it goes alone through a gate whose circuit is open."""
        self.counted: asyncio.Task[None] | None = None

    async def leave(self) -> None:
        """Wait for the turn; raises StoppedError when the call is not to be made any more."""
        lane, wire = self._lane, self._wire
        if self.is_alone:
            self.is_alone = False
            lane.gate.answered()  # the connection was gone when the turn came: it is not used
        self.is_alone = await lane.gate.turn(self._account.name)
        if wire.is_over(self._account) or wire.is_past(self._step):
            raise StoppedError
        if not self.has_left:
            self.has_left = True
            if self._left is not None:
                self._left.release()
            wire.left(lane, asyncio.get_running_loop().time())

    def took_too_long(self, give_up: Callable[[], None]) -> None:
        """Tell that no reply has come in time."""
        if self._overdue is None or self._wire.stopping:
            give_up()
            return
        self._waits.append(give_up)
        self._wire.wait_longer(give_up)
        self.counted = asyncio.get_running_loop().create_task(self._count())
        self._overdue()

    async def _count(self) -> None:
        alone, self.is_alone = self.is_alone, False
        try:
            await self._wire.count_overdue(self._lane, self._account, alone=alone)
        finally:
            if alone:
                self._lane.gate.answered()

    def end(self) -> None:
        """Let the next one go where this one went alone; the wait is over."""
        for give_up in self._waits:
            self._wire.wait_no_more(give_up)
        if self.is_alone:
            self._lane.gate.answered()
