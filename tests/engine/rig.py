"""Whole launches in simulated time: a real job, provider, ledger and engine, and a vendor that follows a script."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Collection, Mapping, Sequence
from concurrent.futures import Executor
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Self

from bulksend.api.running import _can_look_up
from bulksend.engine.limiter import StoppedError
from bulksend.engine.sender import Sender
from bulksend.engine.transport import Overdue, Transport
from bulksend.event import Event, EventName
from bulksend.job.accounts import Accounts
from bulksend.job.file import load_job
from bulksend.job.parting import parted
from bulksend.job.render import Renderer
from bulksend.launch import Launch, Source
from bulksend.ledger.base import Change, Intent, Scope, SendRecord
from bulksend.ledger.sqlite import SqliteLedger
from bulksend.model import Account, Call, Lost, NotSent, Reply, Secret, Send, State
from bulksend.providers import PROVIDERS
from tests.simulated_time import InlineExecutor, SimulatedLoop, run_simulated

URL = "http://127.0.0.1:1"
LOST = Lost("the connection was reset")
UNREACHABLE = NotSent("no connection")
Said = Reply | Lost | NotSent

CREDENTIALS = {
    "insider": ({"partner_id": "1"}, {"token": Secret("t0ken")}),
    "usercom": ({"app": "shop"}, {"token": Secret("t0ken")}),
    "batch": ({"api_key": "KEY"}, {"rest_key": Secret("t0ken")}),
    "stream": ({"api_key": "KEY"}, {"api_secret": Secret("t0ken-that-is-long-enough-for-hs256")}),
}
LAUNCHES: dict[str, dict[str, Any]] = {
    "insider": {
        "title": "Sale",
        "description": "Up to 50% off",
        "image": "https://example.com/icon.png",
        "link": "https://example.com/",
        "ttl": "1 day",
        "target": {"attribute": "c_store_id", "values": ["${key}"]},
    },
    "usercom": {"name": "Sale ${key}", "segment": 1, "messages": [{"title": "Sale", "body": "50% off"}]},
    "batch": {
        "name": "Sale ${key}",
        "push_time": "now",
        "messages": [{"language": "en", "title": "Sale", "body": "50% off"}],
    },
    "stream": {
        "name": "Sale ${key}",
        "sender_id": "sam",
        "segment_ids": ["segment-${key}"],
        "message_template": {"text": "Hi"},
    },
}


def reply(status: int, body: bytes = b"", **headers: str) -> Reply:
    """Return a reply; `retry_after=` is the header `retry-after`."""
    return Reply(status, {name.replace("_", "-"): text for name, text in headers.items()}, body)


def job_of(provider: str, *, launch: Mapping[str, Any] | None = None, **tables: Any) -> dict[str, Any]:
    """Return the tables of a job with one send per key; `launch` is merged into the provider's own."""
    spec = PROVIDERS[provider]
    fields = dict.fromkeys(spec.account_ids, "1") | dict.fromkeys(spec.account_secrets, "env:SECRET")
    return {
        "job": "sale",
        "account": {"provider": provider, "base_url": URL, **fields},
        "audience": {"from": "rows.csv", "key": "key"},
        "launch": {**LAUNCHES[provider], **(launch or {})},
        **tables,
    }


def account_of(provider: str, **ids: str) -> Account:
    """Return an account at the vendor that is simulated."""
    given, secrets = CREDENTIALS[provider]
    return Account("-", provider, URL, {**given, **ids}, secrets)


def loop() -> SimulatedLoop:
    """Return the loop whose clock moves by itself."""
    running = asyncio.get_running_loop()
    assert isinstance(running, SimulatedLoop)
    return running


@dataclass
class Script:
    """A `Transport` whose answer to each endpoint is what stands in line, the last again and again, or a function's."""

    answers: Mapping[str, Said | Sequence[Said] | Callable[[Call], Said]]
    latency_s: float = 0.02
    calls: list[tuple[str, float, str]] = field(default_factory=list)
    """Endpoint, time of leaving, and URL of each call."""
    on_call: Callable[[Call], None] | None = None

    def __post_init__(self) -> None:
        self._lines = {name: list(one) for name, one in self.answers.items() if isinstance(one, Sequence)}

    @property
    def made(self) -> Counter[str]:
        """Count the calls by the endpoint's name, without the provider's."""
        return Counter(name.partition(".")[2] for name, _, _ in self.calls)

    def at(self, endpoint: str) -> list[float]:
        """Return when the calls to an endpoint left."""
        return [at for name, at, _ in self.calls if name.partition(".")[2] == endpoint]

    def _answer(self, call: Call) -> Said:
        name = call.endpoint.name.partition(".")[2]
        assert name in self.answers, f"no call of {name} is expected"
        if name in self._lines:
            line = self._lines[name]
            return line.pop(0) if len(line) > 1 else line[0]
        said = self.answers[name]
        if isinstance(said, Reply | Lost | NotSent):
            return said
        assert callable(said)
        return said(call)

    async def send(self, call: Call, leave: Callable[[], Awaitable[None]], overdue: Overdue | None = None) -> Said:
        """Answer one call, once its turn has come."""
        try:
            await leave()
        except StoppedError:
            return NotSent("the run is stopping")
        said = self._answer(call)
        if not isinstance(said, NotSent):
            self.calls.append((call.endpoint.name, loop().time(), call.url))
        if self.on_call is not None:
            self.on_call(call)
        await asyncio.sleep(self.latency_s)
        return Reply(said.status, said.headers, said.body, self.latency_s) if isinstance(said, Reply) else said

    async def close(self) -> None:
        """Nothing is open."""


@dataclass(frozen=True)
class Surroundings:
    """What a run is given from outside, where it is not the simulated loop's own."""

    executor: Executor = field(default_factory=InlineExecutor)
    wall: Callable[[], float] | None = None
    random: Callable[[], float] = field(default_factory=lambda: random.Random(7).random)


class Rig:
    """One run of a job over some keys; the ledger's file is kept, so that another can go on.

    With `accounts`, by name and in the order of the keys, each row names one of them: the key's first letter.
    """

    def __init__(
        self,
        path: Path,
        script: Transport,
        job: Mapping[str, Any],
        keys: Sequence[str] = ("k1",),
        *,
        accounts: Mapping[str, Account] | None = None,
        apart: bool = True,
        contract: Collection[str] = (),
        surroundings: Surroundings | None = None,
    ) -> None:
        tree = dict(job)
        if accounts is not None:
            ids = dict.fromkeys(PROVIDERS[tree["account"]["provider"]].account_ids, "${account}")
            tree["account"] = {**tree["account"], **ids}
        self.path, self.script, self.keys = path, script, list(keys)
        self.job = load_job(tree)
        self.accounts = Accounts(self.job.accounts, chooser=None, provider=self.job.provider, base_dir=path)
        self._given = dict(accounts or {})
        self.accounts.replace(list(self._given.values()) or [account_of(self.job.provider.name)])
        self.flow = self.job.provider.flow(self.job.tables)
        self.apart = apart
        self.contract = contract
        self.surroundings = surroundings or Surroundings()
        self.events: list[Event] = []
        self.readings = 0
        """How often the audience was read."""

    async def __aenter__(self) -> Self:
        wall = self.surroundings.wall or loop().wall
        self.renderer = Renderer(self.job, self.flow, self.accounts, now=wall())
        self.ledger = SqliteLedger(self.path / "a.db", executor=self.surroundings.executor, wall=wall)
        await self.ledger.open(create=True)
        before, self.turned = await self.ledger.start_job(self.job.name, "the test")
        self.job_id, self.before = before.id, before
        self.sender = Sender(
            job=self.job.name,
            job_id=self.job_id,
            provider=self.job.provider,
            ledger=self.ledger,
            transport=self.script,
            limit_of=self.job.limit,
            wall=wall,
            random=self.surroundings.random,
            observe=self.events.append,
            contract=self.contract,
        )
        self.launch = Launch(
            sender=self.sender,
            ledger=self.ledger,
            job_id=self.job_id,
            renderer=self.renderer,
            policy=self.job.policy,
            can_look_up=_can_look_up(SimpleNamespace(job=self.job, flow=self.flow)),  # type: ignore[arg-type]
            observe=self.events.append,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.sender.stop()
        await self.launch.close()
        await self.sender.close()
        await self.ledger.close()

    def send(self, key: str) -> Send:
        """Render one row."""
        row = [key if name == "key" else key[0] for name in self.renderer.columns]
        made, problems = self.renderer.send(self.keys.index(key) + 1, row)
        assert made is not None, problems
        return made

    async def _whole(self, _state: State) -> AsyncGenerator[list[Send], None]:
        self.readings += 1
        for key in self.keys:
            yield [self.send(key)]

    @asynccontextmanager
    async def _parts(self, state: State) -> AsyncIterator[list[AsyncGenerator[list[Send], None]]]:
        names = list(dict.fromkeys(self.send(key).account.name for key in self.keys))
        async with parted(self._whole(state), lambda send: send.account.name, names, scratch_dir=self.path) as parts:
            yield parts

    async def run(self) -> None:
        """Launch what is not settled."""
        several = len({key[0] for key in self.keys}) > 1 and bool(self._given)
        source = Source(self._whole, self._parts if several and self.apart else None, one_account=not several)
        await self.launch.run(source, accepted_before=self.before.counts.accepted)

    async def record(self, key: str = "k1") -> SendRecord:
        """Return what the ledger knows of a send."""
        return (await self.ledger.look_up(self.job_id, Scope.SEND, [key]))[key]

    async def states(self) -> Counter[str]:
        """Count the ledger's sends by state."""
        return Counter(
            one.state.value for one in (await self.ledger.look_up(self.job_id, Scope.SEND, self.keys)).values()
        )

    async def leave_unknown(
        self, key: str = "k1", *, step: int = 0, refs: Sequence[str] = (), repeats: int = 1
    ) -> None:
        """Put a send of unknown fate into the ledger, as an earlier run would."""
        send = self.send(key)
        for number in range(step + 1):
            intent = Intent(Scope.SEND, key, send.account.name, send.row, number, send.fingerprint)
            await self.ledger.record(self.job_id, intent)
            if number < step:
                after = Change(Scope.SEND, key, State.SENDING, State.PENDING, number + 1, ref=refs[number])
                await self.ledger.record(self.job_id, after)
        lost = Change(Scope.SEND, key, State.SENDING, State.UNKNOWN, step, reason="lost earlier", repeats=1)
        await self.ledger.record(self.job_id, lost)

    def named(self, name: EventName) -> list[Event]:
        """Return the events of a name."""
        return [event for event in self.events if event.name is name]


def simulate(
    rig: Callable[[], Rig],
    check: Callable[[Rig], Awaitable[None]],
    *,
    before: Callable[[Rig], Awaitable[None]] | None = None,
) -> None:
    """Run a rig in simulated time; `before` prepares the ledger in a run of its own."""

    async def main(made: Rig, what: Callable[[Rig], Awaitable[None]]) -> None:
        async with made:
            await what(made)

    if before is not None:
        run_simulated(main(rig(), before))
    run_simulated(main(rig(), check))
