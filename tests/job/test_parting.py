"""One stream parted into several: each in its order, nothing lost or doubled, and no further read than asked for."""

from __future__ import annotations

import asyncio
import errno
import io
import os
import tempfile
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bulksend.errors import RunError
from bulksend.job import parting
from bulksend.job.parting import parted

Item = tuple[str, int]
NAMES = ["a", "b", "c"]


@contextmanager
def held_in_memory(items: int) -> Iterator[None]:
    """Let so few items wait in memory, in each part."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(parting, "IN_MEMORY", items)
        patch.setattr(parting, "IN_MEMORY_LEAST", items)
        yield


def name_of(item: Item) -> str:
    return item[0]


class Stream:
    """Batches of items; `read` counts those that were drawn, and `error` comes after the last."""

    def __init__(self, batches: Sequence[Sequence[Item]], error: Exception | None = None) -> None:
        self.batches = batches
        self.error = error
        self.read = 0
        self.closed = False

    async def items(self) -> AsyncGenerator[list[Item], None]:
        try:
            for batch in self.batches:
                await asyncio.sleep(0)
                self.read += 1
                yield list(batch)
            if self.error is not None:
                raise self.error
        finally:
            self.closed = True


async def rest(part: AsyncGenerator[list[Item], None]) -> list[Item]:
    return [item async for some in part for item in some]


batches_of = st.lists(st.lists(st.tuples(st.sampled_from("abcxy"), st.integers(0, 9)), max_size=12), max_size=20)


@settings(max_examples=300, deadline=None)
@given(batches=batches_of, draws=st.lists(st.integers(0, 3), max_size=60), most=st.integers(1, 20))
def test_any_order_of_drawing_gives_each_part_its_items_in_order(
    batches: list[list[Item]], draws: list[int], most: int
) -> None:
    numbered = [[(name, row * 100 + at) for at, (name, _) in enumerate(batch)] for row, batch in enumerate(batches)]

    async def main() -> list[list[Item]]:
        got: list[list[Item]] = [[] for _ in range(4)]
        async with parted(Stream(numbered).items(), name_of, NAMES, scratch_dir=Path(tempfile.gettempdir())) as parts:
            for which in draws:
                got[which] += await anext(parts[which], [])
            for which, part in enumerate(parts):
                got[which] += await rest(part)
        return got

    with held_in_memory(most):
        got = asyncio.run(main())
    every = [item for batch in numbered for item in batch]
    assert got == [*([item for item in every if item[0] == name] for name in NAMES), [i for i in every if i[0] in "xy"]]


@settings(max_examples=100, deadline=None)
@given(batches=batches_of, turns=st.lists(st.integers(0, 5), min_size=4, max_size=4), most=st.integers(1, 20))
def test_parts_that_are_drawn_at_the_same_time_share_one_reader(
    batches: list[list[Item]], turns: list[int], most: int
) -> None:
    stream = Stream(batches)

    async def slowly(part: AsyncGenerator[list[Item], None], turns: int) -> list[Item]:
        got: list[Item] = []
        async for some in part:
            got += some
            for _ in range(turns):
                await asyncio.sleep(0)
        return got

    async def main() -> list[list[Item]]:
        async with parted(stream.items(), name_of, NAMES, scratch_dir=Path(tempfile.gettempdir())) as parts:
            return await asyncio.gather(*(slowly(part, n) for part, n in zip(parts, turns, strict=True)))

    with held_in_memory(most):
        got = asyncio.run(main())
    every = [item for batch in batches for item in batch]
    assert got == [*([item for item in every if item[0] == name] for name in NAMES), [i for i in every if i[0] in "xy"]]
    assert stream.closed


def test_what_waits_goes_to_the_file_beyond_what_memory_holds(tmp_path: Path) -> None:
    """The part that nobody draws from holds a bounded number of items in memory, however long the stream is."""
    batches = [[("b", number)] for number in range(1000)]

    async def main() -> None:
        async with parted(Stream(batches).items(), name_of, NAMES, scratch_dir=tmp_path) as parts:
            assert await rest(parts[0]) == []
            queue: Any = parts[1].ag_frame.f_locals["queue"]
            assert len(queue._newest) < 5
            assert len(queue._pieces) == 200
            assert await rest(parts[1]) == [("b", number) for number in range(1000)]

    with held_in_memory(5):
        asyncio.run(main())
    assert list(tmp_path.iterdir()) == []


def test_it_reads_no_further_than_asked_for(tmp_path: Path) -> None:
    stream = Stream([[("a", 1)], [("b", 2)], [("b", 3)], [("a", 4)], [("c", 5)]])

    async def main() -> None:
        async with parted(stream.items(), name_of, NAMES, scratch_dir=tmp_path) as parts:
            assert stream.read == 0
            assert await anext(parts[0]) == [("a", 1)]
            assert stream.read == 1
            assert await anext(parts[1]) == [("b", 2)]
            assert stream.read == 2
            assert await anext(parts[0]) == [("a", 4)]
            assert stream.read == 4
            assert await anext(parts[1]) == [("b", 3)], "what was read for another is there without reading on"
            assert stream.read == 4

    asyncio.run(main())


def test_several_that_wait_at_once_read_one_batch_at_a_time(tmp_path: Path) -> None:
    stream = Stream([[("a", 1), ("b", 2), ("c", 3), ("x", 4)], [("a", 5)]])

    async def main() -> None:
        async with parted(stream.items(), name_of, NAMES, scratch_dir=tmp_path) as parts:
            got = await asyncio.gather(*(anext(part) for part in parts))
            assert got == [[("a", 1)], [("b", 2)], [("c", 3)], [("x", 4)]]
            assert stream.read == 1

    asyncio.run(main())


def test_whoever_a_batch_brings_something_for_gets_it_while_another_reads_on(tmp_path: Path) -> None:
    go_on = asyncio.Event()

    async def items() -> AsyncGenerator[list[Item], None]:
        yield [("a", 1), ("b", 2)]
        await go_on.wait()
        yield [("c", 3)]

    async def main() -> None:
        async with parted(items(), name_of, NAMES, scratch_dir=tmp_path) as parts:
            last = asyncio.ensure_future(anext(parts[2]))
            got = await asyncio.wait_for(asyncio.gather(anext(parts[0]), anext(parts[1])), 5)
            assert list(got) == [[("a", 1)], [("b", 2)]]
            go_on.set()
            assert await last == [("c", 3)]

    asyncio.run(main())


def test_a_reader_that_goes_away_leaves_the_reading_to_another(tmp_path: Path) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    class Items:
        """Draws that may be cancelled, and go on."""

        def __init__(self) -> None:
            self.left = [[("b", 2)]]

        async def __anext__(self) -> list[Item]:
            begun.set()
            await go_on.wait()
            if not self.left:
                raise StopAsyncIteration
            return self.left.pop()

        async def aclose(self) -> None:
            pass

    async def main() -> None:
        items: Any = Items()
        async with parted(items, name_of, NAMES, scratch_dir=tmp_path) as parts:
            first = asyncio.ensure_future(anext(parts[0]))
            await begun.wait()
            second = asyncio.ensure_future(anext(parts[1]))
            await asyncio.sleep(0)
            first.cancel()
            await asyncio.wait([first])
            go_on.set()
            assert await asyncio.wait_for(second, 5) == [("b", 2)]

    asyncio.run(main())


def test_of_many_parts_each_gets_several_items_at_a_time(tmp_path: Path) -> None:
    names = [f"n{number}" for number in range(200)]
    batches = [[(name, row) for name in names] for row in range(64)]
    pages: dict[str, list[int]] = {name: [] for name in names}

    async def draw(name: str, part: AsyncGenerator[list[Item], None]) -> None:
        async for some in part:
            pages[name].append(len(some))
            assert len(some) <= parting.IN_MEMORY_LEAST * 3

    async def main() -> None:
        async with parted(Stream(batches).items(), name_of, names, scratch_dir=tmp_path) as parts:
            await asyncio.gather(rest(parts[-1]), *(draw(*one) for one in zip(names, parts[:-1], strict=True)))

    asyncio.run(main())
    assert {sum(of_one) for of_one in pages.values()} == {64}
    assert max(map(len, pages.values())) <= 8


def test_once_the_run_stops_nothing_more_is_read(tmp_path: Path) -> None:
    stream = Stream([[("a", number)] for number in range(1000)])
    stopping = False

    async def main() -> None:
        nonlocal stopping
        opened = parted(stream.items(), name_of, NAMES, scratch_dir=tmp_path, stopping=lambda: stopping)
        async with opened as parts:
            others = asyncio.ensure_future(rest(parts[-1]))
            while stream.read < 10:
                await asyncio.sleep(0)
            stopping = True
            assert await others == []
            assert await rest(parts[0]) == [("a", number) for number in range(stream.read)], "what was read is there"

    asyncio.run(main())
    assert stream.read < 20


def test_a_name_that_stands_twice_has_one_part(tmp_path: Path) -> None:
    async def main() -> None:
        async with parted(Stream([[("a", 1), ("b", 2)]]).items(), name_of, ["a", "a"], scratch_dir=tmp_path) as parts:
            assert [await rest(part) for part in parts] == [[("a", 1)], [("b", 2)]]

    asyncio.run(main())


def test_an_error_of_the_source_reaches_whoever_reads_and_ends_all(tmp_path: Path) -> None:
    stream = Stream([[("a", 1), ("b", 2)], [("a", 3)]], error=ValueError("row 4 is broken"))

    async def main() -> None:
        async with parted(stream.items(), name_of, NAMES, scratch_dir=tmp_path) as parts:
            assert await anext(parts[0]) == [("a", 1)]
            assert await anext(parts[0]) == [("a", 3)]
            with pytest.raises(ValueError, match="row 4 is broken"):
                await anext(parts[0])
            assert await rest(parts[1]) == [("b", 2)], "what was read before is still there"
            assert await rest(parts[2]) == []

    asyncio.run(main())
    assert stream.closed


def test_one_of_many_readers_gets_the_error(tmp_path: Path) -> None:
    stream = Stream([], error=ValueError("broken"))

    async def main() -> None:
        async with parted(stream.items(), name_of, NAMES, scratch_dir=tmp_path) as parts:
            got = await asyncio.gather(*(rest(part) for part in parts), return_exceptions=True)
            assert sum(isinstance(one, ValueError) for one in got) == 1
            assert sum(one == [] for one in got) == 3

    asyncio.run(main())


def test_closing_early_closes_the_source_and_leaves_no_file(tmp_path: Path) -> None:
    stream = Stream([[("b", number)] for number in range(100)] + [[("a", 1)]] * 9)

    async def main() -> None:
        async with parted(stream.items(), name_of, NAMES, scratch_dir=tmp_path) as parts:
            await anext(parts[0])
            assert not stream.closed
        assert stream.closed

    with held_in_memory(2):
        asyncio.run(main())
    assert stream.read == 101
    assert list(tmp_path.iterdir()) == []


def test_an_error_of_the_consumer_closes_the_source_too(tmp_path: Path) -> None:
    stream = Stream([[("a", 1)]] * 9)

    async def main() -> None:
        async with parted(stream.items(), name_of, NAMES, scratch_dir=tmp_path) as parts:
            await anext(parts[0])
            raise KeyError("mine")

    with pytest.raises(KeyError, match="mine"):
        asyncio.run(main())
    assert stream.closed


class _Full(io.RawIOBase):
    """A file on a disk that takes so many bytes and no more."""

    def __init__(self, room: int) -> None:
        super().__init__()
        self._disk = io.BytesIO()
        self._room = room

    def readable(self) -> bool:
        return True

    def writable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        return self._disk.readinto(buffer)

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._disk.seek(offset, whence)

    def write(self, data: Any) -> int:
        if self._disk.tell() + len(data) > self._room:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self._disk.write(data)


def fill_up(room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str = "") -> Stream:
    """Draw from a part whose stream is all for another, until the disk is full."""
    monkeypatch.setattr(tempfile, "TemporaryFile", lambda **_: _Full(room))
    monkeypatch.setattr(parting, "IN_MEMORY_LEAST", 2)
    monkeypatch.setattr(parting, "IN_MEMORY", 2)
    stream = Stream([[("b" + text, number)] for number in range(5000)])

    async def main() -> None:
        async with parted(stream.items(), lambda item: item[0][0], NAMES, scratch_dir=tmp_path) as parts:
            await rest(parts[0])

    with pytest.raises(RunError, match="temporary file cannot be written: No space left on device"):
        asyncio.run(main())
    return stream


@pytest.mark.parametrize("room", [0, 10_000])
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="small pieces"),
        pytest.param("x" * 20_000, id="large pieces"),
    ],
)
def test_a_full_disk_is_told_as_such(text: str, room: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stream = fill_up(room, tmp_path, monkeypatch, text)
    assert stream.closed


def test_a_folder_that_is_not_there_is_told_as_such(tmp_path: Path) -> None:
    async def main() -> None:
        async with parted(Stream([]).items(), name_of, NAMES, scratch_dir=tmp_path / "none"):
            raise AssertionError("not reached")

    with pytest.raises(RunError, match=r"no temporary file in .*none"):
        asyncio.run(main())
