"""Stream's filters, sorts and pages: of campaigns, of segments, of their targets, and of a campaign's users."""

from __future__ import annotations

import random
from typing import Any

import pytest

from bulksend.emulators.stream.targets import Targets
from tests.emulators.test_stream import FAMILIES, V2, Client, run
from tests.emulators.test_stream_runs import Clock

_CAMPAIGNS = {
    "c1": {"name": "Alpha", "sender_id": "user-0001"},
    "c2": {"name": "Beta", "sender_id": "user-0002", "user_ids": None, "segment_ids": ["s1", "s2"]},
    "c3": {"name": "Beta", "sender_id": "user-0003", "user_ids": None, "segment_ids": ["s2"]},
}
_TARGETS = ["-1", "A", "B", "a", "b", "z", "é", "😀"]  # in the order of code points


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "c1 c2 c3"),
        ({"id": "c2"}, "c2"),
        ({"id": {"$in": ["c3", "c1", "c9"]}}, "c1 c3"),
        ({"id": {"$gt": "c1", "$lte": "c2"}}, "c2"),
        ({"id": {"$exists": True}}, "c1 c2 c3"),
        ({"id": {"$exists": False}}, ""),
        ({"name": {"$eq": "Beta"}, "sender_id": {"$gte": "user-0003"}}, "c3"),
        ({"name": {"$lt": "Beta"}}, "c1"),
        ({"status": {"$in": ["scheduled", "in_progress"]}}, "c3"),
        ({"status": "draft"}, "c1 c2"),
        ({"created_at": {"$gte": "2021-01-01T00:00:00Z"}}, "c1 c2 c3"),
        ({"updated_at": {"$lt": "2021-01-01T00:00:00Z"}}, ""),
        ({"segments": {"$in": ["s1", "s9"]}}, "c2"),
        ({"segments": {"$contains": "s2"}}, "c2 c3"),
        ({"segments": "s1"}, "c2"),
        ({"$or": [{"id": "c1"}, {"segments": {"$eq": "s1"}}]}, "c1 c2"),
        ({"$and": [{"name": "Beta"}, {"$or": [{"id": "c1"}, {"id": "c3"}]}]}, "c3"),
        ({"segment_ids": "s1"}, None),
        ({"segments": {"$gt": "s1"}}, None),
        ({"name": {"$autocomplete": "B"}}, None),
        ({"name": {"$ne": "Beta"}}, None),
        ({"name": 5}, None),
        ({"name": {"$in": "Beta"}}, None),
        ({"created_at": {"$gte": "yesterday"}}, None),
        ({"id": {"$exists": 1}}, None),
    ],
)
@FAMILIES
def test_campaign_filters(family: str, given: object, expected: str | None) -> None:
    async def check(client: Client) -> None:
        for campaign_id, fields in _CAMPAIGNS.items():
            await client.campaign(id=campaign_id, **fields)
        await client.good("POST", "/campaigns/c3/start", {"scheduled_for": "2100-01-01T00:00:00Z"})
        if expected is None:
            await client.bad(400, 4, "POST", f"{family}/campaigns/query", {"filter": given})
        else:
            found = await client.good("POST", f"{family}/campaigns/query", {"filter": given})
            assert " ".join(each["id"] for each in found["campaigns"]) == expected

    run(check)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "s1 s2 s3"),
        ({"type": "channel"}, "s3"),
        ({"type": {"$in": ["user"]}}, "s1 s2"),
        ({"all_users": True}, "s2"),
        ({"all_users": {"$eq": False}}, "s1 s3"),
        ({"name": {"$gte": "b"}}, "s2"),
        ({"type": {"$gt": "channel"}}, None),
        ({"all_users": "yes"}, None),
        ({"size": 1}, None),
    ],
)
def test_segment_filters(given: object, expected: str | None) -> None:
    async def check(client: Client) -> None:
        await client.segment(id="s1", name="a")
        await client.segment(id="s2", name="b", all_users=True)
        await client.segment(id="s3", type="channel")
        if expected is None:
            await client.bad(400, 4, "POST", "/segments/query", {"filter": given})
        else:
            found = await client.good("POST", f"{V2}/segments/query", {"filter": given})
            assert " ".join(each["id"] for each in found["segments"]) == expected

    run(check)


@pytest.mark.parametrize(
    ("sort", "expected"),
    [
        ([], "c1 c2 c3"),
        ([{"field": "created_at", "direction": -1}], "c3 c2 c1"),
        ([{"field": "name"}, {"field": "id", "direction": -1, "type": "number"}], "c1 c3 c2"),
        ([{"field": "name", "direction": -1}], "c2 c3 c1"),
    ],
)
def test_sorts_hold_over_pages_there_and_back(sort: object, expected: str) -> None:
    async def check(client: Client) -> None:
        for campaign_id, fields in _CAMPAIGNS.items():
            await client.campaign(id=campaign_id, **fields)

        async def page(**more: object) -> tuple[str, Any]:
            found = await client.good("POST", "/campaigns/query", {"sort": sort, "limit": 1, **more})
            return " ".join(each["id"] for each in found["campaigns"]), found

        first, body = await page()
        assert "prev" not in body
        second, body = await page(next=body["next"])
        third, body = await page(next=body["next"])
        assert "next" not in body
        assert f"{first} {second} {third}" == expected
        back, body = await page(prev=body["prev"])
        assert back == second
        assert (await page(prev=body["prev"]))[0] == first
        assert (await page(next=body["next"], prev=body["prev"]))[0] == third
        other = await client.good("POST", "/campaigns/query", {"next": body["next"], "filter": {"id": "c9"}})
        assert [each["id"] for each in other["campaigns"]] == [third]  # a cursor goes on with its own query

    run(check)


def test_cursors_hold_when_rows_come_and_go() -> None:
    async def check(client: Client) -> None:
        segment = await client.segment("a", "c", "e", "g")
        path = f"/segments/{segment}/targets/query"
        body = await client.good("POST", path, {"limit": 2})
        await client.good("POST", f"/segments/{segment}/deletetargets", {"target_ids": ["c"]})
        await client.good("POST", f"/segments/{segment}/addtargets", {"target_ids": ["b", "d"]})
        found = await client.good("POST", path, {"limit": 2, "next": body["next"]})
        assert [each["target_id"] for each in found["targets"]] == ["d", "e"]
        await client.bad(400, 4, "POST", "/segments/query", {"next": body["next"]})

    run(check)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, _TARGETS),
        ({"target_id": "a"}, ["a"]),
        ({"target_id": {"$eq": "c"}}, []),
        ({"target_id": {"$gte": "a"}}, _TARGETS[3:]),
        ({"target_id": {"$gt": "a", "$lte": "z"}}, ["b", "z"]),
        ({"target_id": {"$gte": "B", "$lt": "b"}}, ["B", "a"]),
        ({"target_id": {"$gt": "z", "$lt": "a"}}, []),
        ({"target_id": {"$in": ["z", "a", "nobody"]}}, ["a", "z"]),
        ({"target_id": {"$in": ["z", "a"], "$gt": "a"}}, ["z"]),
        ({"$or": [{"target_id": "A"}, {"target_id": {"$gte": "é"}}]}, ["A", "é", "😀"]),
        ({"$and": [{"target_id": {"$gte": "b"}}], "target_id": {"$lte": "z"}}, ["b", "z"]),
    ],
)
@pytest.mark.parametrize("direction", [1, -1])
@pytest.mark.parametrize("keys", ["filter sort", "Filter Sort"])
def test_target_filters(keys: str, direction: int, given: Any, expected: list[str]) -> None:
    async def check(client: Client) -> None:
        shuffled = random.Random(1).sample(_TARGETS, len(_TARGETS))
        segment = await client.segment(*shuffled)
        filter_, sort = keys.split()
        body = {filter_: given, sort: [{"field": "target_id", "direction": direction}], "limit": 2}
        found: list[str] = []
        before: list[list[str]] = []
        answer: Any = {"next": None}
        while "next" in answer:
            sent = {**body, "next": answer["next"]}
            answer = await client.good("POST", f"{V2}/segments/{segment}/targets/query", sent)
            before.append([each["target_id"] for each in answer["targets"]])
            found += before[-1]
        assert found == expected[::direction]
        while "prev" in answer:
            sent = {**body, "prev": answer["prev"]}
            answer = await client.good("POST", f"{V2}/segments/{segment}/targets/query", sent)
            before.pop()
            assert [each["target_id"] for each in answer["targets"]] == before[-1]
        assert len(before) == 1

    run(check)


def test_a_large_segment_is_filled_and_read_in_pages_of_ten_thousand() -> None:
    clock = Clock()
    ids = [f"{number:07x}" for number in range(200_000)]
    shuffled = random.Random(2).sample(ids, len(ids))
    clock.call("segment.create", {"type": "user", "id": "s"})
    for start in range(0, len(ids), 10_000):
        clock.call("targets.add", {"target_ids": shuffled[start : start + 10_000]}, id="s")
    clock.call("targets.add", {"target_ids": shuffled[:10_000]}, id="s")
    clock.call("targets.delete", {"target_ids": ids[:100]}, id="s")
    found: list[str] = []
    answer: Any = {"next": None}
    while "next" in answer:
        answer = clock.call("targets.query", {"limit": 10_000, "next": answer["next"]}, id="s")
        found += [each["target_id"] for each in answer["targets"]]
    assert found == ids[100:]
    assert clock.size("s") == len(ids) - 100


@FAMILIES
def test_adding_what_is_there_is_no_effect(family: str) -> None:
    async def check(client: Client) -> None:
        segment = await client.segment("a", "b")
        path = f"{family}/segments/{segment}"
        await client.good("POST", f"{path}/addtargets", {"target_ids": ["b", "a", "a"]})
        await client.good("POST", f"{path}/deletetargets", {"target_ids": ["c"]})
        assert (await client.good("GET", path))["segment"]["size"] == 2
        assert len(await client.effects()) == 2
        await client.good("POST", f"{path}/addtargets", {"target_ids": ["b", "c", "c"]})
        assert (await client.good("GET", path))["segment"]["size"] == 3

    run(check)


@FAMILIES
def test_users_of_a_campaign_come_in_pages(family: str) -> None:
    async def check(client: Client) -> None:
        ids = [f"u{number:04}" for number in range(1500)]
        await client.campaign(family, id="c", user_ids=[*ids[::-1], ids[0]])
        path = f"{family}/campaigns/c"
        first = await client.good("GET", path, query={"limit": "1000"})
        assert [user["id"] for user in first["campaign"]["users"]] == ids[:1000]
        rest = await client.good("GET", path, query={"limit": "1000", "next": first["users"]["next"]})
        assert [user["id"] for user in rest["campaign"]["users"]] == ids[1000:]
        assert "next" not in rest["users"]
        back = await client.good("GET", path, query={"limit": "1000", "prev": rest["users"]["prev"]})
        assert back["campaign"]["users"] == first["campaign"]["users"]
        for query in ({"limit": "1001"}, {"limit": "-1"}, {"limit": "x"}, {"next": "x"}):
            await client.bad(400, 4, "GET", path, query=query)
        found = await client.good("POST", f"{family}/campaigns/query", {"user_limit": 3})
        assert [user["id"] for user in found["campaigns"][0]["users"]] == ids[:3]
        await client.bad(400, 4, "POST", f"{family}/campaigns/query", {"user_limit": 1001})

    run(check)


@pytest.mark.parametrize(
    ("given", "size"),
    [
        ({"country": "USA"}, 100),
        ({"country": {"$in": ["USA", "Germany"]}}, 200),
        ({"country": {"$ne": "USA"}}, 200),
        ({"country": {"$nin": ["USA", "Germany"]}}, 100),
        ({"country": {"$exists": False}}, 0),
        ({"team": "red", "country": "USA"}, 50),
        ({"id": {"$lte": "user-0010"}}, 10),
        ({"name": {"$autocomplete": "User 29"}}, 11),
        ({"teams": {"$contains": "x"}}, 0),
        ({"invisible": False}, 300),
        ({"created_at": {"$gte": "2023-11-04T00:00:00Z"}}, 10),
        ({"$nor": [{"country": "USA"}, {"country": "Germany"}]}, 100),
        ({"unheard_of": {"$gt": 5}}, 0),
    ],
)
def test_segments_find_users_by_their_filter(given: object, size: int) -> None:
    clock = Clock()
    clock.segment("s", filter=given)
    clock.now_s = 1
    assert clock.size("s") == size
    found = clock.call("targets.query", {"limit": 1000}, id="s")["targets"]
    assert len(found) == size
    clock.call("segment.update", {"filter": {"id": "user-0007"}}, id="s")
    clock.now_s = 2
    assert clock.size("s") == 1


def test_targets_are_a_sorted_set_whatever_is_done_to_them() -> None:
    rng, targets, expected = random.Random(3), Targets(), set[str]()
    for _ in range(2000):
        ids = [str(rng.randrange(30)) for _ in range(rng.randrange(5))]
        if rng.random() < 0.5:
            assert targets.add(ids, 1) == len(set(ids) - expected)
            expected |= set(ids)
        else:
            assert targets.remove(ids) == len(set(ids) & expected)
            expected -= set(ids)
        if rng.random() < 0.3:
            assert list(targets.ordered()) == sorted(expected)
        assert len(targets) == len(expected)
