"""One reconciliation from its first page to the look at its result; every part of it can be the last of a process."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass
from enum import StrEnum
from functools import partial
from pathlib import Path
from uuid import uuid4

import msgspec

from bulksend.engine.limiter import StoppedError
from bulksend.errors import RunError
from bulksend.event import EventName
from bulksend.job.spec import Verify
from bulksend.model import Accepted, Rejected
from bulksend.providers.targets import Targets
from bulksend.reconcile.aside import aside
from bulksend.reconcile.calls import Calls
from bulksend.reconcile.comparison import Comparison, Tell
from bulksend.reconcile.difference import Difference, Line, Tally, of_kind
from bulksend.reconcile.journal import StateFile, translated
from bulksend.reconcile.merge import Blocks
from bulksend.reconcile.writes import Writes

__all__ = ["SAMPLED", "Subject", "Sync", "Verified"]

RESUMED_MOST_S = 6 * 3600.0
"""A difference that is older is found anew."""
VERIFYING_MOST_S = 3600.0
"""A look at the result that was begun before that is not gone on with: the segment is read anew."""
SAMPLED = 50
"""Targets of each side that `verify = "sample"` asks for."""
TOLD_MOST = 100_000
"""Ids that are held at once while two lists of differences are compared."""


class _Phase(StrEnum):
    READING = "reading"
    KNOWN = "known"
    APPLYING = "applying"
    VERIFYING = "verifying"


class _State(msgspec.Struct, frozen=True):
    """What stands in a file about the whole reconciliation."""

    fingerprint: str
    """Of the desired list."""
    match: str
    ledger: str
    """The ledger that it stands beside."""
    begun_at: float
    token: str = ""
    """Names this reconciliation."""
    overrides: int = 0
    """How many the ledger knew when it began: they are in the hash, so that none is used twice."""
    phase: _Phase = _Phase.READING
    phase_at: float = 0.0
    hash: str = ""
    is_overridden: bool = False


@dataclass(frozen=True, slots=True)
class Subject:
    """What is reconciled with what."""

    identity: str
    """The account's."""
    segment_id: str
    targets: Targets
    match: str
    desired: Blocks


@dataclass(frozen=True, slots=True)
class Verified:
    """What differs after the writes."""

    drift: int | None
    """Ids that others have changed since the first look; None where nobody looked at all of them."""
    left: int
    """Ids that were written, and are not as they were written."""
    missing: Sequence[str] = ()
    """The first of them that the segment lacks, as the next: at most a hundred thousand."""
    extra: Sequence[str] = ()


class Sync:
    """Reads, compares, writes and looks again; what was done is in `folder`, which is made and removed here."""

    def __init__(
        self,
        subject: Subject,
        folder: Path,
        *,
        calls: Calls,
        executor: Executor,
        scratch_dir: Path,
        wall: Callable[[], float],
        stopping: Callable[[], bool],
        tell: Tell,
        ledger: str = "",
        overrides: int = 0,
        may_be_absent: bool = False,
    ) -> None:
        self._subject = subject
        self._folder = folder
        self._calls = calls
        self._executor = executor
        self._wall = wall
        self._stopping = stopping
        self._tell = tell
        self._state_file = StateFile(folder / "state.json", _State)
        self._state = _State(subject.desired.fingerprint, subject.match, ledger, 0.0, overrides=overrides)
        self._comparing = partial(
            Comparison,
            calls=calls,
            targets=subject.targets,
            segment_id=subject.segment_id,
            match=subject.match,
            desired=subject.desired,
            executor=executor,
            scratch_dir=scratch_dir,
            stopping=stopping,
            tell=tell,
            may_be_absent=may_be_absent,
        )
        self._first: Comparison = self._comparing(folder)

    async def find(self) -> Difference:
        """Return the whole difference; what an earlier run has read of it is not read again."""
        self._state = await aside(self._executor, self._open)
        if self._state.phase is not _Phase.READING and not await aside(self._executor, self._first.is_whole):
            await self._know_nothing()  # what an earlier run has noted is of pages that are lost
        await self._first.run()
        difference = await aside(self._executor, self._tally)
        if self._state.hash not in ("", difference.hash):
            await self._know_nothing()
        if self._state.phase is _Phase.READING:
            await self._go_on(_Phase.KNOWN, difference.hash)
        self._tell(
            EventName.SEGMENT_COMPARED,
            count=difference.remote,
            added=difference.added,
            removed=difference.removed,
            hash=difference.hash,
        )
        return difference

    @property
    def is_overridden(self) -> bool:
        """Say whether a person has let this difference pass its guards."""
        return self._state.is_overridden

    @property
    def is_applied(self) -> bool:
        """Say whether all was written, and only the look at the result is left."""
        return self._state.phase is _Phase.VERIFYING

    @property
    def is_begun(self) -> bool:
        """Say whether an earlier run has written a part of it."""
        return self._state.phase is _Phase.APPLYING

    @property
    def token(self) -> str:
        """Return the name of this reconciliation, the same in every run that goes on with it."""
        return self._state.token

    def lines(self) -> Iterator[Line]:
        """Yield the difference; blocks."""
        return self._first.lines()

    async def approve(self, *, overrides: bool) -> None:
        """Note that the difference is applied from now on, and whether its guards were overridden for it."""
        self._state = msgspec.structs.replace(self._state, is_overridden=self._state.is_overridden or overrides)
        if self._state.phase is not _Phase.VERIFYING:
            await self._go_on(_Phase.APPLYING, self._state.hash)

    async def refuse(self) -> None:
        """Let go of a difference that is not applied, or not any further: it is found anew next time."""
        await self.finish()

    async def apply(self, difference: Difference) -> None:
        """Make what is left of the difference."""
        if self._state.phase is _Phase.VERIFYING:
            return
        writes = Writes(
            self._folder / "written.txt",
            calls=self._calls,
            targets=self._subject.targets,
            segment_id=self._subject.segment_id,
            lines=self.lines,
            executor=self._executor,
            tell=self._tell,
        )
        await writes.run(added=difference.added, removed=difference.removed)
        await self._go_on(_Phase.VERIFYING, difference.hash)

    async def verify(self, difference: Difference, verify: Verify) -> Verified:
        """Look at the segment once more."""
        if difference.is_empty or verify is Verify.OFF:
            verified = Verified(0 if difference.is_empty else None, 0)
        elif verify is Verify.SAMPLE:
            verified = await self._sample()
        else:
            folder = self._folder / "verify"
            with translated(folder):
                folder.mkdir(mode=0o700, exist_ok=True)
            again: Comparison = self._comparing(folder)
            if await aside(self._executor, again.has_ended):
                # Somebody may have waited for long between that look and this run.
                await aside(self._executor, again.forget)
            try:
                await again.run(in_order=self._first.order_holds)
                verified = await aside(self._executor, partial(self._sort_out, again.lines))
            finally:
                again.close()
        self._tell(EventName.SEGMENT_VERIFIED, count=verified.left, drift=verified.drift)
        return verified

    async def finish(self) -> None:
        """Remove what was kept for a run to come."""
        self._first.close()
        await aside(self._executor, self._remove)

    def close(self) -> None:
        """Let go of the files, which stay."""
        self._first.close()

    # Inside

    def _open(self) -> _State:
        """Return where an earlier run stopped, if that is this reconciliation; else begin in an empty folder."""
        state = self._state_file.read()
        now = self._wall()
        if state is not None:
            same = (state.fingerprint, state.match, state.ledger) == (
                self._state.fingerprint,
                self._state.match,
                self._state.ledger,
            )
            is_recent = 0 <= now - state.begun_at < RESUMED_MOST_S
            if state.phase is _Phase.VERIFYING:
                is_recent = is_recent and now - state.phase_at < VERIFYING_MOST_S
            if same and is_recent:
                return state
        with translated(self._folder):
            self._remove()
            self._folder.mkdir(mode=0o700)
        state = msgspec.structs.replace(self._state, begun_at=now, phase_at=now, token=uuid4().hex)
        self._state_file.write(state)
        return state

    def _remove(self) -> None:
        with translated(self._folder):
            if self._folder.exists():
                (self._folder / "state.json").unlink(missing_ok=True)  # what speaks of the other files goes before them
                shutil.rmtree(self._folder)

    async def _know_nothing(self) -> None:
        """Let go of what an earlier run has done about its difference."""
        await aside(self._executor, self._forget_writes)
        self._state = msgspec.structs.replace(self._state, is_overridden=False)
        await self._go_on(_Phase.READING, "")

    def _forget_writes(self) -> None:
        with translated(self._folder):
            (self._folder / "written.txt").unlink(missing_ok=True)
            if (self._folder / "verify").exists():
                shutil.rmtree(self._folder / "verify")

    async def _go_on(self, phase: _Phase, text: str) -> None:
        self._state = msgspec.structs.replace(self._state, phase=phase, phase_at=self._wall(), hash=text)
        await aside(self._executor, partial(self._state_file.write, self._state))

    def _tally(self) -> Difference:
        tally = Tally()
        tally.watch(self._first.lines())
        return Difference(
            remote=self._first.remote,
            desired=self._subject.desired.count,
            added=tally.added,
            removed=tally.removed,
            hash=tally.hash(self._subject.identity, self._subject.segment_id, str(self._state.overrides)),
            sizes=self._first.sizes,
            unnamed=self._first.unnamed,
            is_absent=self._first.is_absent,
            add_samples=tuple(tally.add_samples),
            remove_samples=tuple(tally.remove_samples),
        )

    def _sort_out(self, again: Callable[[], Iterator[Line]]) -> Verified:
        """Part what differs now into what was written and what others have changed."""
        left = differing = 0
        told: dict[bool, list[str]] = {True: [], False: []}
        for add in (True, False):
            for ids in _held(of_kind(again(), add=add)):
                if self._stopping():
                    raise StoppedError
                differing += len(ids)
                written = {one for piece in of_kind(self.lines(), add=add) for one in ids.intersection(piece)}
                left += len(written)
                told[add] += sorted(written)[: TOLD_MOST - len(told[add])]
        return Verified(differing - left, left, told[True], told[False])

    async def _sample(self) -> Verified:
        """Ask for some of the ids that were written, spread over all of them."""
        wrong: dict[bool, list[str]] = {True: [], False: []}
        for add in (True, False):
            ids = await aside(self._executor, partial(self._spread, add=add))
            for one in ids:
                step = self._subject.targets.exists(self._subject.segment_id, one)
                if step is None:
                    continue
                outcome = await self._calls.make(step)
                if isinstance(outcome, Rejected) and outcome.status != 404:
                    raise RunError(f"{step.endpoint.name} was rejected: {outcome.reason}")
                if isinstance(outcome, Accepted) is not add:
                    wrong[add].append(one)
        return Verified(None, len(wrong[True]) + len(wrong[False]), wrong[True], wrong[False])

    def _spread(self, *, add: bool) -> list[str]:
        number = sum(len(piece) for piece in of_kind(self.lines(), add=add))
        wanted = min(number, SAMPLED)
        at = {one * number // wanted for one in range(wanted)}
        ids = (one for piece in of_kind(self.lines(), add=add) for one in piece)
        return [one for index, one in enumerate(ids) if index in at]


def _held(pieces: Iterable[Sequence[str]]) -> Iterator[set[str]]:
    """Gather pieces into sets of a bounded size."""
    held: set[str] = set()
    for piece in pieces:
        held.update(piece)
        if len(held) >= TOLD_MOST:
            yield held
            held = set()
    if held:
        yield held
