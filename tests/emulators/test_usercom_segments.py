"""Segments of User.com that are given a size: their users, page by page, and how many of them a campaign reaches."""

from __future__ import annotations

from typing import Any

import pytest

from tests.emulators.usercom_client import FUTURE, Client, run


async def _users(client: Client, segment: int) -> tuple[list[Any], list[int]]:
    """Follow the pages to their end: the users, and how many each page had."""
    path, users, sizes = f"segments/{segment}/users/", [], []
    while path:
        status, body = await client.call("GET", path)
        assert status == 200
        users += body["results"]
        sizes.append(len(body["results"]))
        path = body["next"]
        assert len(sizes) < 1000, "no end of pages"
    return users, sizes


def test_a_segment_of_a_given_size_is_paged_to_its_end() -> None:
    async def check(client: Client) -> None:
        users, sizes = await _users(client, 77)
        assert [user["id"] for user in users] == list(range(1, 5001))
        assert len({user["user_key"] for user in users}) == 5000
        assert sizes[:3] == [100, 100, 100]
        assert len(set(sizes)) > 10  # they vary
        assert min(sizes) > 0
        assert max(sizes) == 100
        unnamed = [user["id"] for user in users if user["custom_id"] is None]
        assert unnamed == list(range(300, 5001, 50))
        assert {user["custom_id"] for user in users if user["id"] in (250, 299)} == {"customer-250", "customer-299"}
        assert (await _users(client, 77))[0] == users  # each is the same at every look
        assert (await _users(client, 78))[0] == users[:300]
        listed = (await client.call("GET", "segments/"))[1]["results"]
        assert {each["id"]: each["object_count"] for each in listed} == {1: 250, 2: 3, 77: 5000, 78: 300, 1033: 100}

    run(check, segments=["77:5000", "78:300"])


def test_large_pages_lead_back() -> None:
    async def check(client: Client) -> None:
        path, seen = "segments/77/users/", []
        while path:
            last = (await client.call("GET", path))[1]
            path = last["next"]
        path = last["previous"]
        first = last["results"][0]["id"]
        while path:
            body = (await client.call("GET", path))[1]
            seen = [*(user["id"] for user in body["results"]), *seen]
            path = body["previous"]
        assert seen == list(range(1, first))

    run(check, segments=["77:900"])


def test_a_campaign_reaches_those_who_take_pushes() -> None:
    async def check(client: Client) -> None:
        for segment in (77, 78, 1):
            users, _ = await _users(client, segment)
            campaign = await client.created(segment=segment, eta=FUTURE)
            reached = (await client.show(campaign))["recipients_count"]
            assert reached == sum(user["web_push_subscription"] for user in users) > 0

    run(check, segments=["77:1000", "78:2"])


@pytest.mark.parametrize(
    ("given", "sizes"),
    [
        ("77", {77: 10}),
        ("77:0", {77: 0}),
        ("77:12", {77: 12}),
        ("1:260", {1: 260}),
        ("1", {1: 250}),
        ("77:12x", {}),
        ("77:", {}),
        ("vip:12", {}),
        ("77:1:2", {}),
        ("٣:5", {}),
    ],
)
def test_how_a_size_is_given(given: str, sizes: dict[int, int]) -> None:
    async def check(client: Client) -> None:
        listed = (await client.call("GET", "segments/"))[1]["results"]
        found = {each["id"]: each["object_count"] for each in listed}
        assert found == {1: 250, 2: 3, 1033: 100, **sizes}
        for segment, size in found.items():
            assert len((await _users(client, segment))[0]) == size

    run(check, segments=[given])


def test_the_first_users_and_the_token_are_the_same_whatever_the_sizes() -> None:
    told: list[Any] = []

    async def check(client: Client) -> None:
        told.append((client.listening["token"], (await _users(client, 1))[0], await client.created()))

    run(check)
    run(check, segments=["1", "77:5000"])
    assert told[0] == told[1]
