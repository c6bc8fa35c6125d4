"""One life of the process: a loop that may die between any two steps, a disk with its moods, and the job on them."""

from __future__ import annotations

import asyncio
import contextlib
import random
import shutil
import tempfile
from asyncio.base_events import _run_until_complete_cb
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, Future
from functools import cache
from pathlib import Path
from typing import Any

from bulksend.errors import BulksendError, LedgerError
from bulksend.event import EventName
from bulksend.ledger.base import Scope
from bulksend.ledger.sqlite import SqliteLedger
from bulksend.model import Account, Secret
from bulksend.providers import PROVIDERS
from tests.engine.rig import URL, Rig, Surroundings
from tests.simulated_time import EPOCH_S, InlineExecutor, SimulatedLoop, run_simulated
from tests.simulation.network import Network, World

STEPS_MOST = 200_000
LONGEST_S = 6 * 3600.0
STALL_S = 1.5
DISK_ERROR = "the disk reports an error"


class Died(KeyboardInterrupt):
    """The process is gone; of this kind since asyncio lets nothing else out of a step."""


class NeverEndsError(AssertionError):
    """A life goes on and on."""


class MortalLoop(SimulatedLoop):
    """A simulated loop at the world's time that dies after so many steps; None is never."""

    def __init__(self, world: World, steps: int | None, on_death: Callable[[], None]) -> None:
        self._world = world
        self._left = steps
        self._on_death = on_death
        self._steps = 0
        self._is_over = False
        super().__init__()
        self.now_s = world.now_s
        self._until_s = world.now_s + LONGEST_S

    def time(self) -> float:
        """Return the world's time, which goes on as long as this life does."""
        if not self._is_over:
            self._world.now_s = self.now_s
        return self.now_s

    def call_soon(self, callback: Any, *args: Any, context: Any = None) -> asyncio.Handle:
        """Count what is run, and die before it where that was drawn."""
        return super().call_soon(self._step, callback, *args, context=context)

    def _step(self, callback: Callable[..., object], *args: object) -> None:
        self._steps += 1
        if self._steps > STEPS_MOST or (self.now_s > self._until_s and not self._is_over):
            raise NeverEndsError(f"{self._steps} steps, {self.now_s - self._until_s + LONGEST_S:.0f} s")
        if self._steps == self._left and not self._is_over:
            if callback is not _run_until_complete_cb:
                super().call_soon(callback, *args)  # for the tidying up, which would wait for it
            self.end()
            raise Died
        callback(*args)

    def end(self) -> None:
        """The process is gone; what still runs is the tidying up of this simulation."""
        if not self._is_over:
            self._is_over = True
            self._on_death()


class Disk(Executor):
    """Does one thing at a time, each taking a while; may fail before or after it is done."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._free_at_s = 0.0

    def submit(self, fn: Any, /, *args: Any, **kwargs: Any) -> Future[Any]:
        """Do it half-way through its time; the caller knows at the end of it."""
        scenario, rng, loop = self._world.scenario, self._world.rng, asyncio.get_running_loop()
        future: Future[Any] = Future()
        takes_s = rng.uniform(0.0, 2 * scenario.commit_s)
        if rng.random() < scenario.stalls:
            takes_s += STALL_S
        error = None if self._world.calm or rng.random() >= scenario.disk_errors else rng.choice(("before", "after"))

        def work() -> tuple[object, BaseException | None]:
            failed = LedgerError(DISK_ERROR)
            if error == "before":
                return None, failed
            try:
                result = fn(*args, **kwargs)
            except Exception as wrong:
                return None, wrong
            return result, failed if error == "after" else None

        def tell(done: tuple[object, BaseException | None]) -> None:
            result, wrong = done
            if not future.set_running_or_notify_cancel():
                return  # whoever asked does not wait any more; it is done all the same
            if wrong is None:
                future.set_result(result)
            else:
                future.set_exception(wrong)

        begins_s = max(loop.time(), self._free_at_s)
        self._free_at_s = begins_s + takes_s
        if takes_s == 0.0 and begins_s <= loop.time():
            tell(work())
        else:
            loop.call_at(begins_s + takes_s / 2, lambda: loop.call_at(begins_s + takes_s, tell, work()))
        return future


@cache
def _empty_ledger() -> Mapping[str, bytes]:
    """Return the files of a ledger that was just made."""

    async def make(path: Path) -> None:
        ledger = SqliteLedger(path / "a.db", executor=InlineExecutor())
        await ledger.open(create=True)
        await ledger.close()

    with tempfile.TemporaryDirectory() as folder:
        run_simulated(make(Path(folder)))
        return {one.name: one.read_bytes() for one in Path(folder).iterdir()}


@contextlib.contextmanager
def scratch() -> Iterator[Path]:
    """A folder, in memory where there is one, with a ledger that was just made."""
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(prefix="bulksend-", dir=memory if memory.is_dir() else None) as folder:
        first = Path(folder) / "0"
        first.mkdir()
        for name, data in _empty_ledger().items():
            (first / name).write_bytes(data)
        yield first


def _next_of(folder: Path) -> Path:
    """Return where the next life finds what this one leaves on the disk at this moment; locks die with a process."""
    after = folder.with_name(str(int(folder.name) + 1))
    after.mkdir()
    for name in ("a.db", "a.db-wal"):
        if (folder / name).exists():
            shutil.copyfile(folder / name, after / name)
    return after


class Life:
    """One process of the job; `folder` is then where its ledger is left, and `ended` how it went."""

    def __init__(self, world: World, folder: Path, *, mortal: bool) -> None:
        self.world = world
        self.folder = folder
        self.ended = "died"
        self.acknowledged: dict[str, str] = {}
        """What was said of sends to whoever looks on, which the ledger must keep to."""
        self.states: dict[str, str] = {}
        self.counts: dict[str, int] = {}
        self.max_in_window: dict[str, int] = {}
        self._network = Network(world)
        steps = int(world.rng.expovariate(1 / world.scenario.steps_alive)) + 1 if mortal else None
        self._loop = MortalLoop(world, steps, self._die)
        self._live()

    def _die(self) -> None:
        self._network.is_dead = True
        self.world.end_of_life()
        self.folder = _next_of(self._before)

    def _live(self) -> None:
        self._before = self.folder
        self.world.arrive(self.world.now_s)
        for packet in self.world.on_way:
            self._loop.call_at(packet.at_s, self._network._arrive, packet.at_s)
        try:
            with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
                try:
                    self.ended = runner.run(self._run())
                except Died:
                    pass  # as it stands there already
                finally:
                    self._loop.end()
            if self.ended == DISK_ERROR:
                self.world.end_of_life()  # what was told last may not have been written down
        finally:
            shutil.rmtree(self._before)

    async def _run(self) -> str:
        """Run the job as far as it comes; what it stops for is how the life ended."""
        rig = self._rig()
        try:
            try:
                await rig.__aenter__()
                await self._launch(rig)
            except BulksendError as wrong:
                return str(wrong)
            return "done"
        finally:
            for close in (rig.__aexit__, rig.ledger.close):
                with contextlib.suppress(BulksendError, AttributeError):  # what was not made is not closed
                    await close()
                    break

    async def _launch(self, rig: Rig) -> None:
        try:
            await rig.run()
        finally:
            self._note(rig)
        if rig.sender.failure is not None:
            raise rig.sender.failure
        found = await rig.ledger.look_up(rig.job_id, Scope.SEND, rig.keys)
        record = await rig.ledger.find_job(rig.job.name)
        assert record is not None
        self.states = {key: one.state.value for key, one in found.items()}
        self.counts = {name: getattr(record.counts, name) for name in record.counts.__struct_fields__}

    def _note(self, rig: Rig) -> None:
        if self._network.is_dead:
            return
        for event in rig.events:
            if event.name in (EventName.SEND_ACCEPTED, EventName.SEND_REJECTED) and event.key is not None:
                self.acknowledged[event.key] = event.name.value.partition(".")[2]
        self.max_in_window = {name: one.max_in_window for name, one in rig.sender.stats.items()}

    def _rig(self) -> Rig:
        world = self.world
        scenario = world.scenario
        rng = random.Random(world.rng.random())
        return Rig(
            self.folder,
            self._network,
            scenario.job(),
            scenario.keys,
            accounts=_accounts(world),
            contract=frozenset(scenario.limits),
            surroundings=Surroundings(
                executor=Disk(world),
                wall=lambda: EPOCH_S + world.now_s + world.wall_offset_s(),
                random=rng.random,
            ),
        )


def _accounts(world: World) -> dict[str, Account]:
    """Return the job's accounts with the credentials that the vendor gave."""
    spec = PROVIDERS[world.scenario.way.provider]
    made = {}
    for name, theirs in zip(world.scenario.accounts, world.vendor.provider.accounts, strict=True):
        ids = {field: theirs.credentials[field] for field in spec.account_ids}
        secrets = {field: Secret(theirs.credentials[field]) for field in spec.account_secrets}
        made[name] = Account(name, spec.name, URL, ids, secrets)
    return made
