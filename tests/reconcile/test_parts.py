"""The parts by themselves: batches, the hash of a difference, lines on disk, notes of what was written."""

from __future__ import annotations

import asyncio
import errno
import os
from collections import Counter
from itertools import permutations

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulksend.engine.limiter import StoppedError
from bulksend.errors import RunError
from bulksend.event import EventName
from bulksend.model import Accepted
from bulksend.providers.stream.tables import TARGETS_ADD, TARGETS_DELETE
from bulksend.providers.stream.targets import StreamTargets
from bulksend.providers.targets import Batch
from bulksend.reconcile.aside import aside, together
from bulksend.reconcile.difference import SAMPLES, Difference, Line, Mark, Tally, of_kind
from bulksend.reconcile.journal import Journal, StateFile
from bulksend.reconcile.writes import Writes, batches
from tests.reconcile.rig import ListBlocks, a_folder
from tests.simulated_time import InlineExecutor, run_simulated

text = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
marks = st.builds(Mark, st.integers(0, 9), st.integers(0, 99), st.none() | text, st.none() | text, st.integers(0, 3))
lines = st.builds(Line, *[st.lists(text, max_size=3)] * 3, st.none() | marks)


# Batches


@pytest.mark.parametrize(
    ("pieces", "size", "made"),
    [
        ([], 3, []),
        ([[]], 3, []),
        (["ab"], 3, ["ab"]),
        (["abc"], 3, ["abc"]),
        (["abcd"], 3, ["abc", "d"]),
        (["a", "b", "c", "d"], 2, ["ab", "cd"]),
        (["abcdefg", "h"], 3, ["abc", "def", "gh"]),
        (["a", "", "bcde"], 1, ["a", "b", "c", "d", "e"]),
    ],
)
def test_batches(pieces, size, made):
    assert ["".join(one) for one in batches([list(one) for one in pieces], size)] == made


@given(st.lists(st.lists(st.integers(), max_size=5), max_size=6), st.integers(1, 7))
def test_batches_lose_nothing_and_are_full_but_for_the_last(pieces, size):
    made = list(batches(pieces, size))  # type: ignore[type-var,arg-type]
    assert [one for batch in made for one in batch] == [one for piece in pieces for one in piece]
    assert all(len(one) == size for one in made[:-1])
    assert all(0 < len(one) <= size for one in made[-1:])


# The hash of a difference


def tallied(*given_lines: Line, names: tuple[str, ...] = ("account", "segment")) -> str:
    tally = Tally()
    tally.watch(given_lines)
    return tally.hash(*names)


def test_the_hash_does_not_depend_on_the_order_nor_on_the_lines():
    assert len({tallied(Line(add=list(one), remove=["x"])) for one in permutations("abcd")}) == 1
    assert tallied(Line(add=["a", "b"], remove=["x"])) == tallied(Line(remove=["x"]), Line(add=["b"]), Line(add=["a"]))
    assert tallied(Line(add=["a"], mark=Mark(1, 2)), Line(ids=["z"])) == tallied(Line(add=["a"]))


def test_any_other_difference_has_another_hash():
    hashes = [
        tallied(),
        tallied(Line(add=["a"])),
        tallied(Line(remove=["a"])),
        tallied(Line(add=["a", "b"])),
        tallied(Line(add=["a"], remove=["b"])),
        tallied(Line(add=["b"], remove=["a"])),
        tallied(Line(remove=["a", "b"])),
        tallied(Line(add=["ab"])),
        tallied(Line(add=["A"])),
        tallied(Line(add=["a "])),
        tallied(Line(add=["a"]), names=("account", "other")),
        tallied(Line(add=["a"]), names=("other", "segment")),
        tallied(Line(add=["a", "a"])),
    ]
    assert len(set(hashes)) == len(hashes)
    assert all(len(one) == 16 and set(one) <= set("0123456789abcdef") for one in hashes)


@given(st.sets(text, max_size=6), st.sets(text, max_size=6), st.sets(text, max_size=6), st.sets(text, max_size=6))
def test_hashes_are_the_same_where_the_sets_are(add, remove, other_add, other_remove):
    one, other = Line(add=list(add), remove=list(remove)), Line(add=list(other_add), remove=list(other_remove))
    assert (tallied(one) == tallied(other)) == ((add, remove) == (other_add, other_remove))


def test_samples_are_the_first_of_each_side():
    tally = Tally()
    tally.watch([Line(add=["a"]), Line(remove=["x"]), Line(add=list("bcde"), remove=list("yz"))])
    assert (tally.added, tally.removed) == (5, 3)
    assert (tally.add_samples, tally.remove_samples) == (list("abcde")[:SAMPLES], list("xyz")[:SAMPLES])


def test_of_kind_leaves_out_what_is_empty():
    given_lines = [Line(add=["a"]), Line(remove=["b"]), Line(add=["c"], remove=["d"]), Line(ids=["e"])]
    assert list(of_kind(given_lines, add=True)) == [["a"], ["c"]]
    assert list(of_kind(given_lines, add=False)) == [["b"], ["d"]]


@pytest.mark.parametrize(("added", "removed", "is_empty"), [(0, 0, True), (1, 0, False), (0, 1, False)])
def test_a_difference_is_empty_where_nothing_has_to_change(added, removed, is_empty):
    assert Difference(5, 5, added, removed, "").is_empty is is_empty


# Lines on disk


def pages_of(given_lines: list[Line]) -> list[Line]:
    """Return the lines up to the last one with a mark."""
    last = max((number for number, one in enumerate(given_lines) if one.mark is not None), default=-1)
    return given_lines[: last + 1]


def same(one: Line, other: Line) -> bool:
    return (*map(list, (one.add, one.remove, one.ids)), one.mark) == (
        *map(list, (other.add, other.remove, other.ids)),
        other.mark,
    )


@settings(max_examples=60, deadline=None)
@given(st.lists(lines, max_size=6), st.data())
def test_a_journal_that_was_cut_anywhere_has_the_pages_before(all_lines, data):
    with a_folder() as folder:
        path = folder / "j.jsonl"
        first = Journal(path)
        first.open()
        first.append(all_lines)
        first.close()
        whole = path.read_bytes()
        size = data.draw(st.integers(0, len(whole)))
        path.write_bytes(whole[:size])

        kept = pages_of(all_lines[: whole[:size].count(b"\n")])
        second = Journal(path)
        second.open()
        assert second.mark == (kept[-1].mark if kept else None)
        following = {one.mark.following for one in kept if one.mark is not None} - {None}
        assert second.cursors == {hash(one) for one in following}
        extra = Line(add=["new"], mark=Mark(77, 77, following="c"))
        second.append([extra])
        assert second.mark == extra.mark
        assert hash("c") in second.cursors
        second.close()
        read = list(Journal(path).lines())
        assert len(read) == len(kept) + 1
        assert all(same(one, other) for one, other in zip(read, [*kept, extra], strict=True))


@pytest.mark.parametrize(
    "garbage", [b"\0\0\0\0", b"{\n", b"nonsense\n", b'{"add":5}\n', b"\n", b'{"mark":{"pages":1}}\n', b"[]\n", b'"x"\n']
)
def test_a_journal_ends_before_what_is_no_line(folder, garbage):
    path = folder / "j.jsonl"
    page = orjson.dumps({"add": ["a"], "mark": {"pages": 1, "count": 1, "following": "c"}}) + b"\n"
    path.write_bytes(page + garbage + page)
    one = Journal(path)
    one.open()
    one.close()
    assert path.read_bytes() == page
    assert one.mark == Mark(1, 1, following="c")


@pytest.mark.parametrize("garbage", [b'{"add":["\xff"]}\n', b'{"remove":["\xc3"],"mark":{"pages":1,"count":1}}\n'])
def test_a_journal_ends_before_what_is_no_text(folder, garbage):
    path = folder / "j.jsonl"
    page = orjson.dumps({"add": ["a"], "mark": {"pages": 1, "count": 1}}) + b"\n"
    path.write_bytes(page + garbage)
    one = Journal(path)
    try:
        one.open()
    finally:
        one.close()
    assert path.read_bytes() == page
    path.write_bytes(page + garbage)
    assert len(list(one.lines())) == 1


def test_lines_of_a_journal_stand_as_they_were_given_however_long(folder):
    ids = ["x" * 255, "\U0001f600" * 255, '\\"\n\r\u2028\0', "\x7f"]
    one = Journal(folder / "j.jsonl")
    one.open()
    one.append([Line(add=ids * 3000), Line(remove=ids, mark=Mark(1, 2, ids[2], ids[1]))])
    one.close()
    read = list(one.lines())
    assert read[0].add == ids * 3000
    assert read[1].mark == Mark(1, 2, ids[2], ids[1])


def test_a_disk_that_fails_is_a_sentence(folder, monkeypatch):
    one = Journal(folder / "none" / "j.jsonl")
    with pytest.raises(RunError, match="run again to go on"):
        one.open()
    with pytest.raises(RunError):
        list(one.lines())
    other = Journal(folder / "j.jsonl")
    other.open()

    def full(_fd: int) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(RunError, match="No space left"):
        other.append([Line(mark=Mark(1, 1))])
    with pytest.raises(RunError, match="No space left"):
        StateFile(folder / "state.json", Mark).write(Mark(1, 1))
    other.close()
    other.close()


def test_a_state_is_the_last_one_that_was_written_whole(folder, monkeypatch):
    file = StateFile(folder / "state.json", Mark)
    assert file.read() is None
    file.write(Mark(1, 2, "a"))
    file.write(Mark(3, 4))
    assert file.read() == Mark(3, 4)
    (folder / "state.json.new").write_bytes(b'{"pages"')
    assert StateFile(folder / "state.json", Mark).read() == Mark(3, 4)
    file.write(Mark(5, 6))
    assert file.read() == Mark(5, 6)
    assert [one.name for one in folder.iterdir()] == ["state.json"]


@pytest.mark.parametrize("said", [b"", b"{", b"[]", b'{"pages":"x","count":1}', b"\0" * 40, b"null"])
def test_a_state_that_says_something_else_is_none(folder, said):
    (folder / "state.json").write_bytes(said)
    assert StateFile(folder / "state.json", Mark).read() is None


def test_a_state_that_is_no_text_is_none(folder):
    (folder / "state.json").write_bytes(b'{"pages":1,"count":1,"last":"\xff"}')
    assert StateFile(folder / "state.json", Mark).read() is None


def test_a_state_that_cannot_be_read_is_a_sentence(folder):
    (folder / "state.json").mkdir()
    with pytest.raises(RunError, match="cannot be read"):
        StateFile(folder / "state.json", Mark).read()


# Notes of what was written

IDS = {True: [f"a{one}" for one in range(7)], False: [f"r{one}" for one in range(5)]}


class Pretended:
    """Stands in for `Calls`: everything is accepted."""

    def __init__(self) -> None:
        self.made: Counter[tuple[str, ...]] = Counter()

    async def make(self, step):
        self.made[tuple(orjson.loads(step.body)["target_ids"])] += 1
        return Accepted()


def write_rest(folder, *, remove: bool = True) -> tuple[Pretended, list[tuple[EventName, dict[str, object]]]]:
    """Make what is left of the difference in batches of two and three."""
    calls, events = Pretended(), []
    targets = StreamTargets(add=Batch(TARGETS_ADD, 2), remove=Batch(TARGETS_DELETE, 3) if remove else None)

    async def main() -> None:
        writes = Writes(
            folder / "written.txt",
            calls=calls,  # type: ignore[arg-type]
            targets=targets,
            segment_id="s",
            lines=lambda: iter([Line(add=IDS[True][:3]), Line(add=IDS[True][3:], remove=IDS[False])]),
            executor=InlineExecutor(),
            tell=lambda name, **fields: events.append((name, fields)),
        )
        await writes.run(added=7, removed=5)

    run_simulated(main())
    return calls, events


ALL = {("a0", "a1"), ("a2", "a3"), ("a4", "a5"), ("a6",), ("r0", "r1", "r2"), ("r3", "r4")}


@pytest.mark.parametrize(
    ("notes", "made", "left"),
    [
        (b"", ALL, (7, 5)),
        (b"add 0\n", ALL - {("a0", "a1")}, (5, 5)),
        (b"add 3\nremove 1\n", ALL - {("a6",), ("r3", "r4")}, (6, 3)),
        (b"remove 0\nadd 3\nadd 3\n", ALL - {("a6",), ("r0", "r1", "r2")}, (6, 2)),
        (b"add 0\nadd 1", ALL - {("a0", "a1")}, (5, 5)),
        (b"add 1", ALL, (7, 5)),
        (b"a", ALL, (7, 5)),
        (b"add 0\nadd ", ALL - {("a0", "a1")}, (5, 5)),
        (b"add \nadd x\n\nrest 1\n\xff\xfe\nremove -1\nadd 1.0\n", ALL, (7, 5)),
        (b"add 0\nadd 1\nadd 2\nadd 3\nremove 0\nremove 1\n", set(), (0, 0)),
        (b"add 9\n", ALL, (7, 5)),
    ],
)
def test_what_was_noted_is_not_made_again(folder, notes, made, left):
    (folder / "written.txt").write_bytes(notes)
    calls, events = write_rest(folder)
    assert set(calls.made) == made
    assert set(calls.made.values()) <= {1}
    assert events[0] == (EventName.SEGMENT_CHANGING, {"added": left[0], "removed": left[1]})
    again, _ = write_rest(folder)
    assert not again.made, "a torn note does not spoil the one that comes after it"


def test_a_side_without_a_route_is_left_out(folder):
    calls, _ = write_rest(folder, remove=False)
    assert set(calls.made) == {one for one in ALL if one[0].startswith("a")}


# Work side by side


def test_the_first_that_fails_ends_the_others():
    ended: list[str] = []

    async def waits() -> None:
        try:
            await asyncio.sleep(1000)
        finally:
            await asyncio.sleep(1)
            ended.append("waits")

    async def fails() -> None:
        await asyncio.sleep(1)
        raise StoppedError

    async def main() -> None:
        with pytest.raises(StoppedError):
            await together(waits(), fails())
        assert ended == ["waits"]

    run_simulated(main())


def test_work_beside_the_loop_has_ended_when_it_was_cancelled():
    from concurrent.futures import Future

    class Slow(InlineExecutor):
        def submit(self, fn, /, *args, **kwargs):
            self.future: Future[object] = Future()
            self.future.set_running_or_notify_cancel()
            return self.future

    async def main() -> None:
        executor = Slow()
        work = asyncio.create_task(aside(executor, lambda: None))
        await asyncio.sleep(1)
        work.cancel()
        asyncio.get_running_loop().call_later(5, executor.future.set_result, None)
        before = asyncio.get_running_loop().time()
        with pytest.raises(asyncio.CancelledError):
            await work
        assert asyncio.get_running_loop().time() >= before + 5

    run_simulated(main())


def test_blocks_of_the_tests_are_what_the_protocol_says():
    one = ListBlocks(["b", "a", "c", "a"], 2)
    assert (one.count, one.blocks) == (3, 2)
    assert [one.block(number) for number in range(2)] == [["a", "b"], ["c"]]
    assert [one.last(number) for number in range(2)] == ["b", "c"]
    assert one.fingerprint == ListBlocks("abc", 1).fingerprint != ListBlocks("abd", 1).fingerprint
