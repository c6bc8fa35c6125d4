"""A segment read page by page and compared with the desired list, several ranges of ids at once.

Each page is one step that is finished, on disk, or not made: a comparison that was interrupted goes on after the last.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from concurrent.futures import Executor
from functools import partial
from itertools import chain, pairwise
from pathlib import Path

import msgspec

from bulksend.errors import JobError, RunError
from bulksend.event import EventName
from bulksend.model import Accepted, Described, Listed, Rejected
from bulksend.providers.targets import Span, Targets
from bulksend.reconcile import unordered
from bulksend.reconcile.aside import aside, together
from bulksend.reconcile.calls import Calls
from bulksend.reconcile.difference import Line, Mark
from bulksend.reconcile.journal import Journal, StateFile
from bulksend.reconcile.merge import Blocks, Merge, OutOfOrderError

__all__ = ["Comparison", "Tell"]

SPANS_MOST = 4
"""Ranges that are read at once; each holds two pages in memory."""
SPAN_TARGETS = 25_000
"""So many targets are worth a range of their own."""
PAGES_SPARE = 20
PAGES_MOST = 1_000_000
"""Where the vendor does not say how large the segment is."""

Tell = Callable[..., None]
"""Tells an event by name, with the fields that it has."""


class _RefusedPageError(Exception):
    """The vendor refuses a page: a range of ids, or a cursor of an earlier run."""


class _Progress(msgspec.Struct, frozen=True, omit_defaults=True):
    """What stands in a file about one comparison; `spans` are ranges of desired blocks."""

    spans: list[tuple[int, int]]
    in_order: bool
    size_before: int | None
    size_after: int | None = None
    has_ended: bool = False


class Comparison:
    """One reading of a segment against the desired list; its files are in `folder`, which is there."""

    def __init__(
        self,
        folder: Path,
        *,
        calls: Calls,
        targets: Targets,
        segment_id: str,
        match: str,
        desired: Blocks,
        executor: Executor,
        scratch_dir: Path,
        stopping: Callable[[], bool],
        tell: Tell,
        may_be_absent: bool = False,
    ) -> None:
        self._folder = folder
        self._calls = calls
        self._targets = targets
        self._segment_id = segment_id
        self._match = match
        self._desired = desired
        self._executor = executor
        self._scratch_dir = scratch_dir
        self._stopping = stopping
        self._tell = tell
        self._may_be_absent = may_be_absent
        self._state = StateFile(folder / "reading.json", _Progress)
        self._found = Journal(folder / "found.jsonl")
        self._spans: list[Journal] = []
        self._in_order = True
        self.order_holds = True
        """Whether the vendor's order was that of code points; once it has run, as what follows."""
        self.is_absent = False
        """Whether there is no segment yet."""
        self.remote = 0
        self.unnamed = 0
        self.sizes: tuple[int | None, int | None] = (None, None)

    async def run(self, *, in_order: bool = True) -> None:
        """Read and compare to the end, from where an earlier run stopped.

        `in_order` says whether the vendor's order is worth trying. Raises StoppedError when the run ends before,
        JobError where there is no such segment or it cannot be set, RunError when it cannot be read.
        """
        state = await aside(self._executor, self._resumable)
        resumed = state is not None
        if state is None:
            await aside(self._executor, self.forget)
            state = await self._begin(in_order=in_order and self._targets.is_ordered, spans_most=SPANS_MOST)
        while not state.has_ended:
            self._in_order = state.in_order
            try:
                state = await self._read(state)
            except OutOfOrderError:
                text = "its targets do not come in the order of code points: it is read once more, and compared at once"
                self._tell(EventName.SEGMENT_UNORDERED, reason=text)
                await aside(self._executor, self.forget)
                state = await self._begin(in_order=False, spans_most=1)
            except _RefusedPageError as wrong:
                if not resumed and len(state.spans) == 1:
                    raise RunError(f"{self._targets.page_endpoint.name} was rejected: {wrong}") from None
                # A cursor may have gone stale, and ranges are known from the vendor's own client alone.
                resumed = False
                await aside(self._executor, self.forget)
                state = await self._begin(in_order=state.in_order, spans_most=1)
        self._in_order = state.in_order
        self.order_holds = state.in_order or not state.spans
        self.is_absent = not state.spans
        if not self._spans and self._found.mark is None:
            await aside(self._executor, partial(self._open, state))
        self.sizes = state.size_before, state.size_after
        ends = [journal.mark for journal in ([*self._spans] if self._in_order else [self._found])]
        self.remote = sum(mark.count for mark in ends if mark is not None)
        self.unnamed = sum(journal.mark.unnamed for journal in self._spans if journal.mark is not None)

    def lines(self) -> Iterator[Line]:
        """Yield all that was found, the same at each call; blocks."""
        if not self._in_order:
            yield from self._found.lines()
            return
        for journal in self._spans:
            yield from journal.lines()

    def close(self) -> None:
        """Let go of the files."""
        for journal in (*self._spans, self._found):
            journal.close()

    def is_whole(self) -> bool:
        """Say whether an earlier run came to the end of it, and all of its files are there; blocks, as what follows."""
        state = self._resumable()
        return state is not None and state.has_ended

    def has_ended(self) -> bool:
        """Say whether an earlier run came to the end of it."""
        state = self._state.read()
        return state is not None and state.has_ended

    def forget(self) -> None:
        """Remove what was read so far."""
        self.close()
        self._found = Journal(self._folder / "found.jsonl")
        self._spans = []
        # What speaks of the pages goes before them.
        for path in (self._folder / "reading.json", *self._folder.glob("*.jsonl")):
            path.unlink(missing_ok=True)

    # Beginning

    async def _begin(self, *, in_order: bool, spans_most: int) -> _Progress:
        described = await self._describe()
        spans: list[tuple[int, int]] = []
        if described.found:
            blocks = self._desired.blocks
            number = 1
            if self._targets.has_spans and in_order:
                number = max(1, min(spans_most, -(-(described.size or 0) // SPAN_TARGETS), blocks))
            cuts = [blocks * one // number for one in range(number + 1)]
            spans = list(pairwise(cuts))
        state = _Progress(spans, in_order, described.size)
        if not described.found:
            state = await aside(self._executor, partial(self._all_missing, state))
        await aside(self._executor, partial(self._state.write, state))
        return state

    async def _describe(self) -> Described:
        """Ask what the segment is, through the vendor's list of them where it must be."""
        following: str | None = None
        seen: set[str] = set()
        while True:
            step = self._targets.describe(self._segment_id, following=following)
            outcome = await self._calls.make(step, partial(self._targets.read_description, step, self._segment_id))
            if not isinstance(outcome, Described):
                reason = outcome.reason if isinstance(outcome, Rejected) else "it answers something else"
                raise RunError(f"{step.endpoint.name} was rejected: {reason}")
            following = outcome.following
            if following is None or outcome.found:
                break
            if following in seen:
                raise RunError(f"{step.endpoint.name}: the vendor's cursor leads in a circle")
            seen.add(following)
        if not outcome.found and not self._may_be_absent:
            raise JobError(f"there is no segment {self._segment_id} in this account")
        if outcome.fills_itself is not None:
            text = f"segment {self._segment_id} chooses its targets by itself ({outcome.fills_itself})"
            raise JobError(f"{text}: they cannot be brought into line with a list")
        return outcome

    def _all_missing(self, state: _Progress) -> _Progress:
        """Note that there is no segment yet, so that it lacks all."""
        self._found.open()
        numbers = range(self._desired.blocks)
        missing = (Line(add=self._desired.block(number)) for number in numbers)
        self._found.append(chain(missing, (Line(mark=Mark(0, 0)),)))
        self._found.close()
        return msgspec.structs.replace(state, in_order=False, has_ended=True)

    def _resumable(self) -> _Progress | None:
        """Return where an earlier run stopped; None where its files are not all there."""
        state = self._state.read()
        if state is None or not state.has_ended:
            return state
        self._open(state)
        needed = [*self._spans] if state.in_order else [*self._spans, self._found]
        return state if all(one.mark is not None and one.mark.following is None for one in needed) else None

    def _open(self, state: _Progress) -> None:
        self.close()
        self._found = Journal(self._folder / "found.jsonl")
        self._spans = [Journal(self._folder / f"pages-{number}.jsonl") for number in range(len(state.spans))]
        for journal in (*self._spans, self._found):
            journal.open()

    # Reading

    async def _read(self, state: _Progress) -> _Progress:
        await aside(self._executor, partial(self._open, state))
        pages = sum(journal.mark.pages for journal in self._spans if journal.mark is not None)
        expected = self._pages_of(state.size_before)
        if expected is not None:
            expected += len(self._spans) - 1  # about: each of them ends with a page that is not full
        self._tell(EventName.SEGMENT_READING, count=expected, settled=pages)
        await together(
            *(
                self._read_span(journal, first, end, is_single=len(state.spans) == 1, size=state.size_before)
                for journal, (first, end) in zip(self._spans, state.spans, strict=True)
            )
        )
        described = await self._describe()
        state = msgspec.structs.replace(state, size_after=described.size, has_ended=True)
        if not state.in_order:
            await aside(self._executor, self._compare_all)
        await aside(self._executor, partial(self._state.write, state))
        return state

    def _pages_of(self, size: int | None) -> int | None:
        return None if size is None else -(-size // self._targets.page_most)

    def _is_endless(self, mark: Mark | None, size: int | None) -> bool:
        """Say whether a span goes on long after it should have ended: in pages, or in targets."""
        if mark is None or size is None:
            return mark is not None and mark.pages >= PAGES_MOST
        targets_most = 2 * size + PAGES_SPARE * self._targets.page_most
        return mark.count > targets_most or mark.pages >= PAGES_SPARE + max(10 * size // self._targets.page_most, size)

    async def _read_span(self, journal: Journal, first: int, end: int, *, is_single: bool, size: int | None) -> None:
        mark = journal.mark
        if mark is not None and mark.following is None:
            return
        merge = None
        if self._in_order:
            merge = Merge(self._desired, first, end, after=None if mark is None else mark.last)
        span = Span()
        if not is_single:
            least = self._desired.last(first - 1) if first else None
            most = self._desired.last(end - 1) if end < self._desired.blocks else None
            span = Span(least, most)
        following = None if mark is None else mark.following
        ahead = asyncio.create_task(self._page(span, following))
        barren = 0
        try:
            while True:
                page = await ahead
                barren = 0 if page.ids or page.unnamed else barren + 1
                following = page.following
                if following is not None:
                    if hash(following) in journal.cursors:
                        raise RunError(f"{self._targets.page_endpoint.name}: the vendor's cursor leads in a circle")
                    if barren > PAGES_SPARE or self._is_endless(journal.mark, size):
                        text = "the segment goes on and on, though its size says otherwise"
                        raise RunError(f"{self._targets.page_endpoint.name}: {text}")
                    ahead = asyncio.create_task(self._page(span, following))
                await aside(self._executor, partial(self._take, journal, merge, page))
                self._tell(EventName.SEGMENT_PAGE, count=len(page.ids))
                if following is None:
                    return
        finally:
            ahead.cancel()
            await asyncio.gather(ahead, return_exceptions=True)

    async def _page(self, span: Span, following: str | None) -> Listed:
        step = self._targets.page(self._segment_id, span, following=following)
        outcome: Accepted | Rejected = await self._calls.make(step, partial(self._targets.read_page, step, self._match))
        if isinstance(outcome, Rejected):
            raise _RefusedPageError(outcome.reason)
        if not isinstance(outcome, Listed):
            raise RunError(f"{step.endpoint.name} answers something else than a page")
        return outcome

    def _take(self, journal: Journal, merge: Merge | None, page: Listed) -> None:
        """Compare a page, where that can be done by itself, and put it on disk."""
        before = journal.mark or Mark(0, 0)
        mark = Mark(before.pages + 1, before.count, None, page.following, before.unnamed + page.unnamed)
        if merge is not None:
            journal.append(merge.page(page.ids, mark, ends=page.following is None))
        else:
            counted = msgspec.structs.replace(mark, count=mark.count + len(page.ids))
            journal.append((Line(ids=page.ids, mark=counted),))

    def _compare_all(self) -> None:
        """Compare pages that were only kept."""
        if self._found.mark is not None:
            return  # an earlier run was ended between this and its word that it was done
        kept = sum(journal.mark.count for journal in self._spans if journal.mark is not None)
        pages = (line.ids for journal in self._spans for line in journal.lines())
        self._found.append(
            unordered.compare(
                pages, self._desired, targets=kept, scratch_dir=self._scratch_dir, stopping=self._stopping
            )
        )
