"""The way between transport and vendor: delays, losses before and after the effect, and a record of what left when."""

from __future__ import annotations

import asyncio
import heapq
import random
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

import orjson

from bulksend.emulators import Reply as Answer
from bulksend.engine.limiter import StoppedError
from bulksend.engine.transport import CALL_TIMEOUT_S, CONNECT_TIMEOUT_S, PATIENCE_S, Overdue
from bulksend.model import Call, Lost, NotSent, Reply
from tests.simulation.scenario import LATE, Scenario
from tests.simulation.vendor import Vendor

RESET = Lost("the connection was reset")
TIMED_OUT = Lost("no whole reply within 30 s")


@dataclass(order=True)
class Packet:
    """A request on its way; `reply` is gone when the process is."""

    at_s: float
    number: int
    call: Call = field(compare=False)
    fate: str = field(compare=False)
    reply: asyncio.Future[Answer] | None = field(compare=False)


@dataclass
class World:
    """What outlives a process: the vendor, what is on its way to it, the clocks, and the source of all chance."""

    scenario: Scenario
    now_s: float = 1000.0
    calm: bool = False
    """Nothing goes wrong any more."""

    def __post_init__(self) -> None:
        way = self.scenario.way
        self.rng = random.Random(f"world:{self.scenario.seed}")
        self.vendor = Vendor(way.provider, len(self.scenario.accounts), self.scenario.limits, self.scenario.seed)
        self.began_s = self.now_s
        self.on_way: list[Packet] = []
        self.left: list[tuple[float, str, str]] = []
        """When each request left, its endpoint, and the account whose limit it takes from."""
        self.told_to_wait: list[tuple[float, float, str, str]] = []
        """From when to when a Retry-After that was read keeps which endpoint of which account."""
        self.trace: list[tuple[float, str]] = []
        self._number = 0

    def end_of_life(self) -> None:
        """Nobody waits for replies any more, and nobody knows what was told shortly before."""
        for packet in self.on_way:
            packet.reply = None
        self.told_to_wait = [(one[0], min(one[1], self.now_s), *one[2:]) for one in self.told_to_wait]

    def wall_offset_s(self) -> float:
        return sum(by_s for at_s, by_s in self.scenario.jumps if self.now_s - self.began_s >= at_s)

    def fate(self) -> str:
        """Draw what becomes of the next call; the same number of draws whatever comes out."""
        drawn = self.rng.random()
        if self.calm:
            return ""
        since_s = self.now_s - self.began_s
        for outage in self.scenario.outages:
            if outage.from_s <= since_s < outage.to_s:
                return outage.fate
        for kind, share in self.scenario.faults.items():
            drawn -= share / max(1.0, sum(self.scenario.faults.values()))
            if drawn < 0:
                return kind
        return ""

    def depart(self, call: Call, fate: str, reply: asyncio.Future[Answer] | None, up_s: float) -> Packet:
        self._number += 1
        packet = Packet(self.now_s + up_s, self._number, call, fate, reply)
        heapq.heappush(self.on_way, packet)
        return packet

    def arrive(self, until_s: float) -> None:
        """Let the vendor have what has reached it by then, each at its own time."""
        while self.on_way and self.on_way[0].at_s <= until_s:
            packet = heapq.heappop(self.on_way)
            self.trace.append((packet.at_s, packet.call.url))
            answer = self.vendor.answer(packet.call, packet.at_s, packet.fate, self.scenario.refused)
            if packet.reply is not None and not packet.reply.done():
                packet.reply.set_result(answer)


class Network:
    """A `Transport` of one process; once that is dead, nothing leaves any more."""

    def __init__(self, world: World) -> None:
        self._world = world
        self.is_dead = False

    async def send(
        self, call: Call, leave: Callable[[], Awaitable[None]], overdue: Overdue | None = None
    ) -> Reply | Lost | NotSent:
        """Make one call, as far as the fates let it come."""
        world, scenario = self._world, self._world.scenario
        fate = world.fate()
        up_s = scenario.latency_s / 2 + world.rng.uniform(0.0, scenario.spread_s)
        down_s = scenario.latency_s / 2 + world.rng.uniform(0.0, scenario.spread_s)
        held_s = world.rng.uniform(0.0, 90.0)
        if fate == "refused":
            await asyncio.sleep(min(held_s / 30, CONNECT_TIMEOUT_S))
            return NotSent("no connection")
        try:
            await leave()
        except StoppedError:
            return NotSent("the run is stopping")
        if self.is_dead:
            return NotSent("the process is dead")
        loop = asyncio.get_running_loop()
        left_s = loop.time()
        world.left.append((left_s, call.endpoint.name, world.vendor.account_of(call)))
        if fate == "reset before":
            await asyncio.sleep(down_s)
            return RESET
        in_time = left_s + CALL_TIMEOUT_S
        try:
            async with asyncio.timeout_at(in_time if overdue is None else in_time + PATIENCE_S) as timeout:
                timer = None if overdue is None else loop.call_at(in_time, overdue, _end_of(timeout))
                try:
                    answer = await self._exchange(call, fate, up_s, down_s, held_s)
                finally:
                    if timer is not None:
                        timer.cancel()
        except TimeoutError:
            return TIMED_OUT
        match fate:
            case "reset after":
                return RESET
            case "truncated":
                return Lost("the reply broke off")
        body = b"" if answer.body is None else orjson.dumps(answer.body)
        headers = {name.lower(): text for name, text in (answer.headers or {}).items()}
        if fate == "not JSON":
            body = b"<!DOCTYPE html><title>Please wait</title>"
        if "retry-after" in headers and not self.is_dead:
            now_s = loop.time()
            until_s = now_s + float(headers["retry-after"])
            world.told_to_wait.append((now_s, until_s, call.endpoint.name, world.vendor.account_of(call)))
        return Reply(answer.status, headers, body, loop.time() - left_s)

    async def _exchange(self, call: Call, fate: str, up_s: float, down_s: float, held_s: float) -> Answer:
        world, loop = self._world, asyncio.get_running_loop()
        if fate == "never arrives":
            await loop.create_future()
        answered: asyncio.Future[Answer] = loop.create_future()
        packet = world.depart(call, fate, answered, up_s + held_s if fate == LATE else up_s)
        loop.call_at(packet.at_s, self._arrive, packet.at_s)
        answer = await answered
        if fate == "never answered":
            await loop.create_future()
        await asyncio.sleep(down_s + held_s if fate == "slow" else down_s)
        return answer

    def _arrive(self, at_s: float) -> None:
        if not self.is_dead:
            self._world.arrive(at_s)

    async def close(self) -> None:
        """Nothing is open."""


def _end_of(timeout: asyncio.Timeout) -> Callable[[], None]:
    def end() -> None:
        if not timeout.expired():
            timeout.reschedule(asyncio.get_running_loop().time())

    return end
