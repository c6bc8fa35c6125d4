"""Whole reconciliations in simulated time: real calls, ledger and files, and a vendor that lives in a set."""

from __future__ import annotations

import hashlib
import random
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

import orjson

from bulksend.engine.caller import Caller
from bulksend.engine.limiter import StoppedError
from bulksend.errors import BulksendError
from bulksend.event import Event, EventName
from bulksend.job.spec import Verify
from bulksend.ledger.sqlite import SqliteLedger
from bulksend.model import Limit
from bulksend.providers import PROVIDERS
from bulksend.providers.stream.tables import TARGETS_ADD, TARGETS_DELETE
from bulksend.providers.stream.targets import StreamTargets
from bulksend.providers.targets import Batch, Targets
from bulksend.reconcile.calls import Calls
from bulksend.reconcile.difference import Difference, Line, Tally
from bulksend.reconcile.merge import Blocks
from bulksend.reconcile.sync import Subject, Sync, Verified
from tests.engine.rig import account_of, loop
from tests.reconcile.vendor import SEGMENT, Asked, Vendor
from tests.simulated_time import InlineExecutor, run_simulated

LIMIT = Limit.parse("60000/min")
ACCOUNT = account_of("stream")


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
        ledger_id: str = "one",
        overrides: int = 0,
        limit: Limit = LIMIT,
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
        self.ledger_id, self.overrides = ledger_id, overrides
        self.limit = limit
        self.told_of_calls: list[Event] = []
        self.events: list[tuple[EventName, dict[str, object]]] = []
        self.difference: Difference | None = None
        self.lines: list[Line] = []
        self.verified: Verified | None = None
        self.failure: BaseException | None = None
        self.was = "", False, False
        """What is known once the difference is: the reconciliation's name, overridden, applied."""
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
            limit_of=lambda _name: self.limit,
            wall=self.wall,
            random=random.Random(7).random,
            observe=self.told_of_calls.append,
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
            ledger=self.ledger_id,
            overrides=self.overrides,
            may_be_absent=self.may_be_absent,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        self.sync.close()
        self.caller.stop()
        await self.caller.close()
        await self.ledger.close()

    async def run(self, *, verify: Verify, overridden: bool, until: str) -> None:
        """Do what a run does, up to `until`: found, refused, approved, applied, verified or finished."""
        at = len(self.vendor.calls)

        def phase(name: str) -> None:
            nonlocal at
            self.in_phase[name] = self.vendor.calls[at:]
            at = len(self.vendor.calls)

        self.difference = await self.sync.find()
        self.was = self.sync.token, self.sync.is_overridden, self.sync.is_applied
        phase("find")
        self.lines = list(self.sync.lines())
        if until == "found":
            return
        if until == "refused":
            await self.sync.refuse()
            return
        await self.sync.approve(overrides=overridden)
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
    overridden: bool = False,
    until: str = "finished",
    fails: bool = False,
    **how: Any,
) -> Rig:
    """Run one process in simulated time; with `fails`, what ended it is kept as `failure`, else it is raised."""
    rig = Rig(path, vendor, wanted, **how)

    async def main() -> None:
        async with rig:
            try:
                await rig.run(verify=verify, overridden=overridden, until=until)
            except (BulksendError, StoppedError) as wrong:
                if not fails:
                    raise
                rig.failure = wrong

    run_simulated(main())
    return rig


def hash_of(added: Iterable[str], removed: Iterable[str], *, overrides: int = 0) -> str:
    """Return the hash that a difference of just these ids has, after so many overrides."""
    tally = Tally()
    tally.watch([Line(add=list(added), remove=list(removed))])
    return tally.hash(ACCOUNT.identity, SEGMENT, str(overrides))


@contextmanager
def a_folder() -> Iterator[Path]:
    """Make a folder of its own, in memory where there is such a place: hundreds of runs sync hundreds of files."""
    shared = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=shared if shared.is_dir() else None) as name:
        yield Path(name)
