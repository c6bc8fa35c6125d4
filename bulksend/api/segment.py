"""The segment of a run: found to differ, guarded, asked about, brought into line, and looked at."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from bulksend.api.diff_files import DiffFiles
from bulksend.api.opening import Opened
from bulksend.api.report import SegmentReport
from bulksend.api.running import Run
from bulksend.engine.caller import Caller
from bulksend.errors import GuardError, InterruptedRunError, JobError, Problem
from bulksend.event import Event, EventName
from bulksend.job.spec import Job
from bulksend.model import Account
from bulksend.providers.targets import Targets
from bulksend.reconcile.aside import aside
from bulksend.reconcile.calls import Calls
from bulksend.reconcile.difference import Difference
from bulksend.reconcile.guards import reasons
from bulksend.reconcile.sync import Subject, Sync, Verified

if TYPE_CHECKING:
    from bulksend.job.desired import DesiredIds

__all__ = ["Segment", "check_hash", "check_limit", "segment_report"]


def segment_report(subject: Subject, difference: Difference, *, applied: bool = False) -> SegmentReport:
    """Return a difference as a report tells it."""
    return SegmentReport(
        id=subject.segment_id,
        remote=difference.remote + difference.unnamed,
        desired=difference.desired,
        added=difference.added,
        removed=difference.removed,
        hash=difference.hash,
        unnamed=difference.unnamed,
        add_samples=difference.add_samples,
        remove_samples=difference.remove_samples,
        applied=applied,
        is_absent=difference.is_absent,
    )


class Segment:
    """The [segment] of an opened job, and the list that it shall hold."""

    def __init__(self, opened: Opened, desired: DesiredIds, executor: Executor) -> None:
        job = opened.job
        targets = job.provider.targets
        assert targets is not None
        assert job.desired is not None
        self._opened = opened
        self._executor = executor
        self.account: Account = opened.accounts.of([])
        segment_id = job.segment_id(self.account)
        assert segment_id is not None
        self.subject = Subject(self.account.identity, segment_id, targets, job.desired.match, desired)

    @property
    def targets(self) -> Targets:
        """Return how its targets are read and changed."""
        return self.subject.targets

    @property
    def is_made(self) -> bool:
        """Say whether the job makes the segment where there is none."""
        return bool(self._opened.flow.prepare)

    def sync(
        self,
        caller: Caller,
        folder: Path,
        *,
        observe: Callable[[Event], None],
        ledger: str = "",
        overrides: int = 0,
    ) -> Sync:
        """Return the reconciliation, which keeps what it has done in `folder`.

        `ledger` names the one that the folder stands beside, `overrides` is how many it knows of the segment.
        """
        job = self._opened.job.name

        def tell(name: EventName, **fields: object) -> None:
            observe(Event(name, job, account=self.account.name, ref=self.subject.segment_id, **fields))  # type: ignore[arg-type]

        return Sync(
            self.subject,
            folder,
            calls=Calls(caller, self.account, self.subject.segment_id),
            executor=self._executor,
            scratch_dir=self._opened.scratch_dir,
            wall=time.time,
            stopping=lambda: caller.stopping,
            tell=tell,
            ledger=ledger,
            overrides=overrides,
            may_be_absent=self.is_made,
        )

    async def bring_into_line(
        self,
        run: Run,
        *,
        apply_hash: str | None,
        diff_out: Path | None,
        confirm: Callable[[SegmentReport], bool] | None,
    ) -> None:
        """Read, compare, write and look again; `run.segment` tells how far it came.

        Raises GuardError where nothing may be written, or where the launch must not go on; JobLockedError while another
        job brings the same segment into line; StoppedError when the run ends before.
        """
        ledger, subject = run.ledger, self.subject
        where = subject.identity, subject.segment_id
        holder = f'job "{run.job.name}", process {os.getpid()} on {socket.gethostname()}'
        await ledger.lock_segment(*where, holder)
        files = DiffFiles(diff_out, self._opened.job)
        await aside(self._executor, files.open)
        sync = self.sync(
            run.engine,
            ledger.segment_folder(*where),
            observe=run.observe,
            ledger=await ledger.id(),
            overrides=await ledger.overrides(*where),
        )
        try:
            difference = await sync.find()
            run.segment = segment_report(subject, difference)
            await aside(self._executor, partial(files.write, sync.lines))
            if not sync.is_applied:
                overrides = await self._guard(run, sync, difference, apply_hash=apply_hash)
                asks = not difference.is_empty or bool(run.opened.flow.steps)
                if asks and confirm is not None and not confirm(run.segment):
                    await sync.refuse()
                    raise InterruptedRunError("nothing more was changed: the question was not answered with yes")
                if overrides and not await ledger.use_override(*where, hash=difference.hash, by=sync.token):
                    await sync.refuse()
                    text = f"--apply {apply_hash} was used before, and it lets a difference pass once"
                    raise self._guard_error(run, text, refused=True)
                await sync.approve(overrides=overrides)
            if difference.is_absent:
                await run.prepare(self.account, again=True)
            if self.targets.add is None:
                verified = Verified(0 if difference.is_empty else None, 0)
            else:
                await sync.apply(difference)
                run.segment = segment_report(subject, difference, applied=True)
                verified = await sync.verify(difference, run.job.guard.verify)
                run.segment = run.segment.verified(drift=verified.drift, left=verified.left)
            await aside(self._executor, partial(files.write_left, verified))
            await sync.finish()
            if run.segment.is_right:
                desired = subject.desired
                await ledger.finish_segment(
                    *where, desired=desired.count, fingerprint=desired.fingerprint, job=run.job.name
                )
            self._hold_launch(run)
        finally:
            sync.close()

    async def _guard(self, run: Run, sync: Sync, difference: Difference, *, apply_hash: str | None) -> bool:
        """Raise GuardError unless the difference may be applied; say whether that takes an override from now on.

        Also where an earlier run had begun to apply it: whoever stopped that run may have drawn the guards tighter.
        """
        record = await run.ledger.find_segment(self.subject.identity, self.subject.segment_id)
        found = reasons(
            difference,
            run.job.guard,
            desired_before=None if record is None else record.desired,
            changes=self.targets.add is not None,
        )
        asked_for = apply_hash == difference.hash
        if apply_hash is not None and not asked_for and not difference.is_empty:
            found.insert(0, f"--apply {apply_hash}: the difference is another one now")
        if self.targets.add is None and run.opened.flow.steps and not difference.is_empty:
            found.append("the segment differs, and no route of the vendor changes it; the launch is not made")
        if not found or asked_for or sync.is_overridden:
            return bool(found) and not sync.is_overridden
        way_out = self._way_out(difference, is_begun=sync.is_begun)
        await sync.refuse()
        raise self._guard_error(run, f"{'; '.join(found)}. {way_out}", refused=True)

    def _way_out(self, difference: Difference, *, is_begun: bool) -> str:
        if is_begun:
            return "An earlier run has made a part of the changes; plan shows what is left of them, and its hash"
        return (
            f"The difference of +{difference.added:,} -{difference.removed:,} is not applied; "
            f"--apply {difference.hash} lets exactly this one pass, once"
        )

    def _guard_error(self, run: Run, text: str, *, refused: bool = False) -> GuardError:
        run.observe(Event(EventName.GUARD_STOPPED, run.job.name, reason=text))
        return GuardError(text, refused=refused)

    def _hold_launch(self, run: Run) -> None:
        """Raise GuardError where a launch must not go to the segment as it is."""
        found = run.segment
        if not run.opened.flow.steps or found is None or found.is_right or not found.applied:
            return
        text = f"{found.left:,} ids still differ after they were written"
        if not found.left:
            text = f"{found.drift:,} targets were changed by others meanwhile"
        raise self._guard_error(run, f"{text}; the launch is not made, run again to go on")


def check_limit(job: Job, limit: int | None) -> None:
    """Raise JobError where a limit on rows would cut the list that a segment shall hold."""
    if limit is not None and job.desired is not None and not job.provider.flow(job.tables).steps:
        text = "cannot cut a desired list: what it left out would be removed from the segment"
        raise JobError(Problem(text, field="--limit"))


def check_hash(apply_hash: str | None) -> None:
    """Raise JobError for what cannot be the hash of a difference."""
    if apply_hash is not None and not (len(apply_hash) == 16 and set(apply_hash) <= set("0123456789abcdef")):
        raise JobError("--apply takes the 16 digits that `plan` or a refused run has shown")
