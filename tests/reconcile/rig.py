"""Whole reconciliations in simulated time: real calls, ledger and files, and a vendor that lives in a set.

The vendor speaks Stream's wire format and misbehaves as it is told to.
"""

from __future__ import annotations

import asyncio
import base64
import hashlib
import random
import tempfile
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self
from urllib.parse import unquote, urlsplit

import orjson

from bulksend.engine.caller import Caller
from bulksend.engine.limiter import StoppedError
from bulksend.errors import BulksendError
from bulksend.event import EventName
from bulksend.job.spec import Verify
from bulksend.ledger.sqlite import SqliteLedger
from bulksend.model import Call, Limit, Lost, NotSent, Reply
from bulksend.providers import PROVIDERS
from bulksend.providers.stream.tables import TARGETS_ADD, TARGETS_DELETE
from bulksend.providers.stream.targets import StreamTargets
from bulksend.providers.targets import Batch, Targets
from bulksend.reconcile.calls import Calls
from bulksend.reconcile.difference import Difference, Line, Tally
from bulksend.reconcile.merge import Blocks
from bulksend.reconcile.sync import Subject, Sync, Verified
from tests.engine.rig import account_of, loop
from tests.simulated_time import InlineExecutor, run_simulated

SEGMENT = "segment-1"
LIMIT = Limit.parse("60000/min")
ACCOUNT = account_of("stream")
JSON = {"content-type": "application/json"}

COLLATIONS: dict[str, Callable[[str], Any]] = {
    "code point": lambda one: one,
    "casefold": str.casefold,
    "no punctuation": lambda one: "".join(filter(str.isalnum, one.casefold())),
    "reversed": lambda one: (*(-ord(each) for each in one), 1),
    "utf-16": lambda one: one.encode("utf-16-be"),
    "none": lambda one: hashlib.blake2b(one.encode()).digest(),
}
"""By which key a vendor orders ids; ids with the same key are the same to its filters."""


class ListBlocks:
    """`Blocks` in memory."""

    def __init__(self, ids: Iterable[str], size: int = 3) -> None:
        ordered = sorted(set(ids))
        self._blocks = [ordered[at : at + size] for at in range(0, len(ordered), size)]
        self.count = len(ordered)
        self.blocks = len(self._blocks)
        self.fingerprint = hashlib.sha256(orjson.dumps(ordered)).hexdigest()

    def block(self, number: int) -> list[str]:
        """Return the ids of a block."""
        return list(self._blocks[number])

    def last(self, number: int) -> str:
        """Return the last id of a block."""
        return self._blocks[number][-1]


@dataclass(frozen=True)
class Asked:
    """A call as the vendor has seen it."""

    number: int
    """From 1."""
    name: str
    """The endpoint's, without the provider's."""
    body: Any
    took_effect: bool

    @property
    def page(self) -> tuple[bytes, str | None]:
        """What tells one page from another: the range, and the cursor."""
        return orjson.dumps(self.body.get("filter")), self.body.get("next")

    @property
    def ids(self) -> frozenset[str]:
        """The ids that are added or removed."""
        return frozenset(self.body["target_ids"])


@dataclass
class Vendor:
    """A `Transport` in front of one segment."""

    targets: set[str]
    collation: str = "code point"
    page_most: int = 10_000
    """A page holds no more, whatever is asked for."""
    doubles: int = 0
    """So many ids at the end of a page come again at the beginning of the next."""
    circle_at: int | None = None
    """The page, counted from 1 in each range, whose cursor is that of the page before."""
    is_endless: bool = False
    """After the last page come empty ones."""
    filters: str = "kept"
    """kept | refused | ignored"""
    size: Callable[[int], object] | None = lambda number: number
    """What is said of so many targets; None: nothing."""
    rule: Mapping[str, object] = field(default_factory=dict)
    is_there: bool = True
    faults: Mapping[int, str] = field(default_factory=dict)
    """By call number: reset, lost, 429, 429-after, 500, truncated, html, unreachable; `lost` has no effect, `reset`
    has."""
    others: Mapping[int, Callable[[set[str]], object]] = field(default_factory=dict)
    """What others do to the targets before a call has its effect, by call number."""
    swallows: frozenset[str] = frozenset()
    """Ids whose addition and removal is answered well, and does nothing."""
    stop_at: int | None = None
    latency_s: float = 0.02
    calls: list[Asked] = field(default_factory=list)
    watch: Callable[[str], None] = lambda _when: None
    """Called as "arrived" before a call has its effect, and as "done" after it."""
    stop: Callable[[], None] = lambda: None

    def named(self, name: str) -> list[Asked]:
        """Return the calls of an endpoint."""
        return [one for one in self.calls if one.name == name]

    async def send(self, call: Call, leave: Callable[[], Awaitable[None]]) -> Reply | Lost | NotSent:
        """Answer one call, once its turn has come."""
        try:
            await leave()
        except StoppedError:
            return NotSent("the run is stopping")
        number = len(self.calls) + 1
        fault = self.faults.get(number)
        name = call.endpoint.name.partition(".")[2]
        body = orjson.loads(call.body) if call.body else {"path": urlsplit(call.url).path}
        has_effect = fault not in ("lost", "429", "429-after", "unreachable")
        self.calls.append(Asked(number, name, body, has_effect))
        self.watch("arrived")
        self.others.get(number, lambda _targets: None)(self.targets)
        said = self._answer(name, body) if has_effect else None
        self.watch("done")
        if number == self.stop_at:
            self.stop()
        await asyncio.sleep(self.latency_s)
        return self._spoiled(fault, said)

    async def close(self) -> None:
        """Nothing is open."""

    def _spoiled(self, fault: str | None, said: Reply | None) -> Reply | Lost | NotSent:
        match fault:
            case None:
                assert said is not None
                return said
            case "reset" | "lost":
                return Lost("the connection was reset")
            case "unreachable":
                return NotSent("no connection")
            case "429":
                return Reply(429, JSON, b'{"code":9}', self.latency_s)
            case "429-after":
                return Reply(429, {"retry-after": "3"}, b'{"code":9}', self.latency_s)
            case "500":
                return Reply(500, {}, b"", self.latency_s)
            case "html":
                return Reply(200, {"content-type": "text/html"}, b"<html>all is well</html>", self.latency_s)
            case "truncated":
                assert said is not None
                return Reply(said.status, said.headers, said.body[: len(said.body) // 2], self.latency_s)
            case _:
                raise AssertionError(fault)

    def _answer(self, name: str, body: dict[str, Any]) -> Reply:
        if not self.is_there:
            return _reply(404, {"code": 16, "message": "segment not found", "StatusCode": 404, "duration": "1ms"})
        if name == "segment.get":
            segment = {"id": SEGMENT, "type": "user", "name": "", **self.rule}
            if self.size is not None:
                segment["size"] = self.size(len(self.targets))
            return _reply(200, {"segment": segment, "duration": "1ms"})
        if name == "targets.query":
            return self._page(body)
        if name == "targets.exists":
            is_in = unquote(body["path"].rpartition("/")[2]) in self.targets
            return _reply(200 if is_in else 404, {"duration": "1ms"} if is_in else {"code": 16, "duration": "1ms"})
        most = {"targets.add": 10_000, "targets.delete": 100}[name]
        ids = body["target_ids"]
        assert set(body) == {"target_ids"}
        assert 0 < len(ids) == len(set(ids)) <= most
        assert all(isinstance(one, str) and 0 < len(one) <= 255 for one in ids)
        changed = set(ids) - self.swallows
        self.targets = self.targets | changed if name == "targets.add" else self.targets - changed
        return _reply(201, {"duration": "1ms"})

    def _page(self, body: dict[str, Any]) -> Reply:
        assert set(body) <= {"limit", "filter", "next"}
        assert 0 < body["limit"] <= 10_000
        key = COLLATIONS[self.collation]
        ids = sorted(self.targets, key=lambda one: (key(one), one[::-1]))
        span = body.get("filter", {}).get("target_id", {})
        if span and self.filters == "refused":
            return _reply(400, {"code": 4, "message": "bad filter", "StatusCode": 400, "duration": "1ms"})
        if self.filters == "kept":
            assert set(span) <= {"$gte", "$lte"}
            least, most = span.get("$gte"), span.get("$lte")
            ids = [one for one in ids if least is None or key(one) >= key(least)]
            ids = [one for one in ids if most is None or key(one) <= key(most)]
        number, after = 1, None
        if "next" in body:
            number, after = orjson.loads(base64.b64decode(body["next"]))
        left = ids
        if after is not None:
            left = [one for one in ids if (key(one), one[::-1]) > (key(after), after[::-1])]
        ids_of_page = left[: min(body["limit"], self.page_most)]
        again = ids[: len(ids) - len(left)][-self.doubles :] if self.doubles and after is not None else []
        page: dict[str, Any] = {"targets": [{"target_id": one} for one in (*again, *ids_of_page)], "duration": "1ms"}
        if len(left) > len(ids_of_page) or self.is_endless:
            last = ids_of_page[-1] if ids_of_page else after
            page["next"] = base64.b64encode(orjson.dumps([number + 1, last])).decode()
        if number == self.circle_at and "next" in body:
            page["next"] = body["next"]
        return _reply(201, page)


def _reply(status: int, body: object) -> Reply:
    return Reply(status, JSON, orjson.dumps(body), 0.02)


class Rig:
    """One process that brings the segment into line; the files in `path` are kept, so that another can go on."""

    def __init__(
        self,
        path: Path,
        vendor: Vendor,
        wanted: Iterable[str] | Blocks,
        *,
        block: int = 3,
        page: int = 10_000,
        adds: int = 10_000,
        removes: int = 100,
        later_s: float = 0.0,
        may_be_absent: bool = False,
        provider: str = "stream",
        match: str = "",
    ) -> None:
        self.path, self.vendor = path, vendor
        self.provider, self.match, self.account = PROVIDERS[provider], match, account_of(provider)
        self.folder = path / "segment"
        self.desired: Any = wanted if hasattr(wanted, "fingerprint") else ListBlocks(wanted, block)  # type: ignore[arg-type]
        targets: Targets | None = StreamTargets(
            page_most=page, add=Batch(TARGETS_ADD, adds), remove=Batch(TARGETS_DELETE, removes)
        )
        if provider != "stream":
            targets = self.provider.targets
        assert targets is not None
        self.targets = targets
        self.later_s = later_s
        self.may_be_absent = may_be_absent
        self.events: list[tuple[EventName, dict[str, object]]] = []
        self.difference: Difference | None = None
        self.lines: list[Line] = []
        self.verified: Verified | None = None
        self.failure: BaseException | None = None
        self.in_phase: dict[str, list[Asked]] = {}
        """The calls of find, apply and verify."""

    def wall(self) -> float:
        """Return the time; a later process has a later one."""
        return loop().wall() + self.later_s

    async def __aenter__(self) -> Self:
        self.ledger = SqliteLedger(self.path / "ledger.db", executor=InlineExecutor(), wall=self.wall)
        await self.ledger.open(create=True)
        self.caller = Caller(
            job="sync",
            provider=self.provider,
            ledger=self.ledger,
            transport=self.vendor,
            limit_of=lambda _name: LIMIT,
            wall=self.wall,
            random=random.Random(7).random,
            observe=lambda _event: None,
        )
        self.vendor.stop = self.caller.stop
        self.sync = Sync(
            Subject(self.account.identity, SEGMENT, self.targets, self.match, self.desired),
            self.folder,
            calls=Calls(self.caller, self.account, SEGMENT),
            executor=InlineExecutor(),
            scratch_dir=self.path,
            wall=self.wall,
            stopping=lambda: self.caller.stopping,
            tell=lambda name, **fields: self.events.append((name, fields)),
            may_be_absent=self.may_be_absent,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.sync.close()
        self.caller.stop()
        await self.caller.close()
        await self.ledger.close()

    async def run(self, *, verify: Verify, apply_hash: str | None, until: str) -> None:
        """Do what a run does, up to `until`: found, refused, approved, applied, verified or finished."""
        at = len(self.vendor.calls)

        def phase(name: str) -> None:
            nonlocal at
            self.in_phase[name] = self.vendor.calls[at:]
            at = len(self.vendor.calls)

        self.difference = await self.sync.find(apply_hash=apply_hash)
        phase("find")
        self.lines = list(self.sync.lines())
        if until == "found":
            return
        if until == "refused":
            await self.sync.refuse()
            return
        await self.sync.approve(overrides=apply_hash is not None)
        if until == "approved":
            return
        await self.sync.apply(self.difference)
        phase("apply")
        if until == "applied":
            return
        self.verified = await self.sync.verify(self.difference, verify)
        phase("verify")
        if until == "finished":
            await self.sync.finish()

    @property
    def added(self) -> list[str]:
        """Return the ids to add, as they stand in the lines."""
        return [one for line in self.lines for one in line.add]

    @property
    def removed(self) -> list[str]:
        """Return the ids to remove, as they stand in the lines."""
        return [one for line in self.lines for one in line.remove]

    def told(self, name: EventName) -> list[dict[str, object]]:
        """Return the events of a name."""
        return [fields for one, fields in self.events if one is name]


def reconcile(
    path: Path,
    vendor: Vendor,
    wanted: Iterable[str] | Blocks,
    *,
    verify: Verify = Verify.FULL,
    apply_hash: str | None = None,
    until: str = "finished",
    fails: bool = False,
    **how: Any,
) -> Rig:
    """Run one process in simulated time; with `fails`, what ended it is kept as `failure`, else it is raised."""
    rig = Rig(path, vendor, wanted, **how)

    async def main() -> None:
        async with rig:
            try:
                await rig.run(verify=verify, apply_hash=apply_hash, until=until)
            except (BulksendError, StoppedError) as wrong:
                if not fails:
                    raise
                rig.failure = wrong

    run_simulated(main())
    return rig


def hash_of(added: Iterable[str], removed: Iterable[str]) -> str:
    """Return the hash that a difference of just these ids has."""
    tally = Tally()
    tally.watch([Line(add=list(added), remove=list(removed))])
    return tally.hash(ACCOUNT.identity, SEGMENT)


@contextmanager
def a_folder() -> Iterator[Path]:
    """Make a folder of its own, in memory where there is such a place: hundreds of runs sync hundreds of files."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as name:
        yield Path(name)
