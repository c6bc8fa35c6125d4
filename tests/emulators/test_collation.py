"""The order of a segment's targets, by code point or without case: pages, cursors and ranges agree on it."""

from __future__ import annotations

import random
from typing import Any

import pytest

from bulksend.emulators.server import EmulatorConfig
from bulksend.emulators.stream.blocks import Blocks
from bulksend.emulators.stream.collation import by_code_point, by_no_case
from bulksend.emulators.stream.targets import Targets
from tests.emulators.test_stream import FAMILIES, Client, run
from tests.emulators.test_stream_runs import Clock

_ORDERS = {
    "code-point": ["-1", "A", "B", "a", "b", "z", "É", "é", "😀"],
    "no-case": ["-1", "A", "a", "B", "b", "z", "É", "é", "😀"],
}
_FILTERS: list[Any] = [
    {},
    {"target_id": "a"},
    {"target_id": {"$eq": "c"}},
    {"target_id": {"$gte": "B"}},
    {"target_id": {"$gt": "B"}},
    {"target_id": {"$lt": "b"}},
    {"target_id": {"$lte": "b"}},
    {"target_id": {"$gt": "A", "$lte": "b"}},
    {"target_id": {"$gt": "c"}},  # between two, and itself not there
    {"target_id": {"$lt": "C"}},
    {"target_id": {"$gt": "z", "$lt": "A"}},
    {"target_id": {"$in": ["z", "a", "B", "nobody"]}},
    {"target_id": {"$in": ["z", "a", "B"], "$gt": "a"}},
    {"$and": [{"target_id": {"$gt": "A"}}, {"target_id": {"$lte": "b"}}]},
    {"$or": [{"target_id": {"$lt": "a"}}, {"target_id": {"$gte": "é"}}]},
    {"$and": [{"target_id": {"$gte": "B"}}], "target_id": {"$lt": "z"}},
]
BOTH = pytest.mark.parametrize("collation", list(_ORDERS))


def _passes(order: list[str], each: str, given: Any) -> bool:
    """Judge by places in the order, written down by hand, with those that are not there put in theirs."""
    for field, asked in given.items():
        if field == "$and" and not all(_passes(order, each, one) for one in asked):
            return False
        if field == "$or" and not any(_passes(order, each, one) for one in asked):
            return False
        if field != "target_id":
            continue
        at = order.index(each)
        for operator, operand in (asked if isinstance(asked, dict) else {"$eq": asked}).items():
            if operator == "$in":
                good = each in operand
            else:
                bound = order.index(operand)
                tests = {"$eq": at == bound, "$gt": at > bound, "$gte": at >= bound}
                good = {**tests, "$lt": at < bound, "$lte": at <= bound}[operator]
            if not good:
                return False
    return True


@pytest.mark.parametrize("given", _FILTERS)
@pytest.mark.parametrize("direction", [1, -1])
@BOTH
def test_pages_and_ranges_follow_the_collation(collation: str, direction: int, given: Any) -> None:
    there = _ORDERS[collation]
    z = there.index("z")  # where c and C would be: after b and before z, or C after B
    order = [*there[:z], "C", "c", *there[z:]] if collation == "no-case" else ["-1", "A", "B", "C", *"abcz", *"Éé😀"]
    expected = [each for each in there if _passes(order, each, given)][::direction]
    clock = Clock(collation=collation)
    clock.segment("s", *random.Random(1).sample(there, len(there)))
    body = {"filter": given, "sort": [{"field": "target_id", "direction": direction}], "limit": 2}
    pages: list[list[str]] = []
    answer: Any = {"next": None}
    while "next" in answer:
        answer = clock.call("targets.query", {**body, "next": answer["next"]}, id="s")
        pages.append([each["target_id"] for each in answer["targets"]])
        assert len(pages) <= len(there)  # else there is no end
    assert [each for page in pages for each in page] == expected
    assert [len(page) for page in pages[:-1]] == [2] * (len(pages) - 1)
    for before in pages[-2::-1]:
        answer = clock.call("targets.query", {**body, "prev": answer["prev"]}, id="s")
        assert [each["target_id"] for each in answer["targets"]] == before
    assert "prev" not in answer


@FAMILIES
@BOTH
def test_a_cursor_holds_where_its_own_row_has_gone(collation: str, family: str) -> None:
    async def check(client: Client) -> None:
        segment = await client.segment("a", "B", "b", "C", "d", family=family)
        path = f"{family}/segments/{segment}"
        order = ["a", "B", "b", "C", "d"] if collation == "no-case" else ["B", "C", "a", "b", "d"]
        first = await client.good("POST", f"{path}/targets/query", {"limit": 2})
        assert [each["target_id"] for each in first["targets"]] == order[:2]
        await client.good("POST", f"{path}/deletetargets", {"target_ids": [order[1], order[2]]})
        await client.good("POST", f"{path}/addtargets", {"target_ids": ["A", "c"]})  # before the cursor, and after it
        rest = await client.good("POST", f"{path}/targets/query", {"next": first["next"]})
        after = ["C", "c", "d"] if collation == "no-case" else ["b", "c", "d"]
        assert [each["target_id"] for each in rest["targets"]] == after

    run(check, collation=collation)


def test_a_segment_by_filter_follows_the_collation_too() -> None:
    clock = Clock(collation="no-case")
    clock.segment("s", "User-0001", "user-0000", filter={"id": {"$lte": "user-0002"}})
    found = clock.call("targets.query", {}, id="s")["targets"]
    assert [each["target_id"] for each in found] == ["user-0000", "User-0001", "user-0001", "user-0002"]


def test_segments_that_exist_from_the_start_follow_the_collation() -> None:
    async def check(client: Client) -> None:
        await client.good("POST", "/segments/vip/addtargets", {"target_ids": ["B", "a"]})
        found = await client.good("POST", "/segments/vip/targets/query", {})
        assert [each["target_id"] for each in found["targets"]] == ["a", "B"]

    run(check, collation="no-case", segments=["vip"])


@pytest.mark.parametrize(("rank", "place"), [(by_code_point, None), (by_no_case, lambda each: (each.casefold(), each))])
def test_few_changes_and_many_end_in_the_same_order(rank: Any, place: Any) -> None:
    rng, targets, expected = random.Random(5), Targets(rank), set[str]()
    names = [f"{rng.choice('aAbBéÉ')}{number}" for number in range(3000)]
    for round_ in range(300):
        changed = rng.sample(names, 1000 if round_ % 50 == 0 else rng.randrange(1, 20))
        if rng.random() < 0.5 or round_ % 50 == 0:
            assert targets.add(changed, 1) == len(set(changed) - expected)
            expected |= set(changed)
        else:
            assert targets.remove(changed) == len(set(changed) & expected)
            expected -= set(changed)
            back = changed[: rng.randrange(len(changed) + 1)]
            targets.add(back, 2)
            expected |= set(back)
        assert list(targets.ordered()) == sorted(expected, key=place)


def test_an_unknown_collation_is_named() -> None:
    with pytest.raises(ValueError, match="collation 'no-cas': did you mean 'no-case'"):
        EmulatorConfig.from_texts(["stream"], collation="no-cas")


def test_a_page_after_few_changes_compares_few() -> None:
    compared: list[str] = []

    def rank(target_id: str) -> str:
        compared.append(target_id)
        return target_id

    ids = [f"{number:06}" for number in range(100_000)]
    targets = Targets(rank)
    targets.add(random.Random(6).sample(ids, len(ids)), 1)
    assert list(targets.ordered()) == ids
    compared.clear()
    targets.remove(ids[500:50_000:500])
    targets.add(["000000x", "x"], 2)
    rest = targets.ordered()
    assert len(rest) == len(ids) - 99 + 2
    assert (rest[1], rest[-1]) == ("000000x", "x")
    assert len(compared) < 101 * 25  # each by halving; a sort would look at all 100,000
    compared.clear()
    assert targets.ordered() is rest
    assert not compared


def test_blocks_are_a_sorted_list_whatever_is_done_to_them() -> None:
    rng = random.Random(7)
    expected = {f"{number:07}" for number in rng.sample(range(10_000_000), 3500)}
    blocks = Blocks(sorted(expected), by_code_point)
    assert list(Blocks((), by_code_point)) == []
    for round_ in range(60):
        near = (
            rng.randrange(9_900_000) if round_ % 2 else 5_000_000
        )  # one place over and over, so that blocks are split
        added = [f"{rng.randrange(near, near + 50_000):07}" for _ in range(200)]
        removed = [each for each in rng.sample(sorted(expected), 40 + round_) if each not in added]
        blocks.change([*added, *added[:3]], [*removed, *removed[:3], "nobody"])
        expected = (expected | set(added)) - set(removed)
        rows = sorted(expected)
        assert blocks[:] == rows
        assert len(blocks) == len(rows)
        start, end = sorted(rng.randrange(-10, len(rows) + 10) for _ in range(2))
        assert blocks[start:end] == rows[start:end]
        assert [blocks[at] for at in range(-90, len(rows), 97)] == [rows[at] for at in range(-90, len(rows), 97)]
        assert blocks[::-97] == rows[::-97]
        with pytest.raises(IndexError):
            blocks[len(rows)]
    blocks.change((), expected)
    assert blocks[:] == []
    blocks.change(["b", "a"], ())
    assert blocks[:] == ["a", "b"]
