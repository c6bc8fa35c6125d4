"""What holds for every route of User.com: key, version, pages, segments and failures, through a real socket."""

from __future__ import annotations

import random

import aiohttp
import pytest

from bulksend.emulators import Setup
from bulksend.emulators.usercom import UserCom
from tests.emulators.usercom_client import CREATE, DROP, EXISTING, NOT_FOUND, ROUTES, Client, run

_NO_CREDENTIALS = (401, {"detail": "Authentication credentials were not provided."})
_BAD_TOKEN = (401, {"detail": "Invalid token."})


def test_account_is_a_subdomain_and_a_key_of_64_characters() -> None:
    async def check(client: Client) -> None:
        accounts = client.listening["accounts"]
        assert [sorted(each) for each in accounts] == [["app", "token", "url"]] * 2
        assert accounts[0]["app"] != accounts[1]["app"]
        assert accounts[0]["token"] != accounts[1]["token"]
        assert [len(bytes.fromhex(each["token"])) for each in accounts] == [32, 32]

    run(check, accounts=2)


def test_list_is_newest_first_in_pages_that_new_campaigns_do_not_shift() -> None:
    async def check(client: Client) -> None:
        ids = [await client.created(name=f"mark-{index}") for index in range(230)]
        first = (await client.call("GET", "webpush-campaign/?name=mark-7&limit=1"))[1]  # both are unknown
        assert (first["count"], len(first["results"]), first["previous"]) == (231, 100, None)
        assert first["next"].startswith(f"{client.root}webpush-campaign/?cursor=")
        assert first["results"][0] == await client.show(ids[-1])
        newer = await client.created()
        pages = [first, *await client.pages(first["next"])]
        assert [len(each["results"]) for each in pages] == [100, 100, 31]
        assert [each["id"] for page in pages for each in page["results"]] == [*reversed(ids), EXISTING]
        back = await client.pages(pages[-1]["previous"], "previous")
        assert [each["id"] for page in back for each in page["results"]] == [
            *ids[30:130][::-1],
            *ids[130:][::-1],
            newer,
        ]

    run(check)


def test_segments_lead_to_all_their_users() -> None:
    async def check(client: Client) -> None:
        (listed,) = await client.pages("segments/")
        assert (listed["count"], listed["previous"]) == (3, None)
        sizes = {each["id"]: each["object_count"] for each in listed["results"]}
        assert sizes == {1: 250, 2: 3, 1033: 100}
        for segment in listed["results"]:
            assert segment["users"] == f"{client.root}segments/{segment['id']}/users/"
            pages = await client.pages(segment["users"])
            assert {page["count"] for page in pages} == {segment["object_count"]}
            users = [user for page in pages for user in page["results"]]
            assert len({user["id"] for user in users}) == len(users) == segment["object_count"]
            assert len({user["user_key"] for user in users}) == len(users)
        assert sorted(users[0]) == [
            "created_at",
            "custom_id",
            "email",
            "id",
            "status",
            "unsubscribed",
            "updated_at",
            "user_key",
            "web_push_subscription",
        ]
        assert {user["web_push_subscription"] for user in users} == {user["unsubscribed"] for user in users}
        assert {user["status"] for user in users} == {"user", "visitor"}

    run(check)


def test_pages_of_users_lead_back() -> None:
    async def check(client: Client) -> None:
        pages = await client.pages("segments/1/users/")
        assert [len(page["results"]) for page in pages] == [100, 100, 50]
        back = await client.pages(pages[-1]["previous"], "previous")
        assert [page["results"] for page in back] == [pages[1]["results"], pages[0]["results"]]

    run(check)


@pytest.mark.parametrize("path", ["segments/9/users/", "segments/one/users/", "segments/01/users/"])
def test_unknown_segment_has_no_users(path: str) -> None:
    async def check(client: Client) -> None:
        assert await client.call("GET", path) == NOT_FOUND

    run(check)


@pytest.mark.parametrize("cursor", ["x", "%20", "YQ==", "é", ""])
def test_bad_cursor(cursor: str) -> None:
    async def check(client: Client) -> None:
        for path in ("segments/", "segments/1/users/", "webpush-campaign/"):
            assert await client.call("GET", f"{path}?cursor={cursor}") == (404, {"detail": "Invalid cursor"})

    run(check)


def test_given_segments_are_the_only_further_ones() -> None:
    async def check(client: Client) -> None:
        assert (await client.create(segment=9)) == (400, {"segment": ['Invalid pk "9" - object does not exist.']})
        assert [(await client.create(segment=each))[0] for each in (77, "77", 1, 1033)] == [201] * 4
        listed = (await client.call("GET", "segments/"))[1]["results"]
        assert [each["id"] for each in listed] == [1, 2, 77, 1033]
        assert len((await client.call("GET", "segments/77/users/"))[1]["results"]) == 10

    run(check, segments=["77", "vip"])


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        (None, _NO_CREDENTIALS),
        ("", _NO_CREDENTIALS),
        ("Bearer {token}", _NO_CREDENTIALS),
        ("{token}", _NO_CREDENTIALS),
        ("Token", _BAD_TOKEN),
        ("Token wrong", _BAD_TOKEN),
        ("Token {token}x", _BAD_TOKEN),
        ("Token  {token}", _BAD_TOKEN),
    ],
)
def test_bad_authorization(header: str | None, expected: tuple[int, object]) -> None:
    async def check(client: Client) -> None:
        headers = {} if header is None else {"Authorization": header.format(token=client.listening["token"])}
        for endpoint, method, path in ROUTES:
            assert await client.call(method, path, dict(CREATE), headers) == expected
            assert (await client.get("stats"))["endpoints"][endpoint]["rejected"] == {"401": 1}
        assert await client.effects() == []

    run(check)


@pytest.mark.parametrize(
    ("accept", "good"),
    [
        ("*/*; version=2", True),
        ("*/*;version=2", True),
        ('*/*; version="2"', True),
        ("application/json; version=1", True),
        ("application/json, */*; version=2", True),
        ("*/*", True),
        (None, True),
        ("*/*; version=3", False),
        ("*/*; version=", False),
        ("*/*; version=2.0", False),
        ("*/*; version=2, application/json; version=9", False),
    ],
)
def test_version_of_the_api(accept: str | None, good: bool) -> None:
    async def check(client: Client) -> None:
        headers = {"Authorization": f"Token {client.listening['token']}"}
        if accept is not None:
            headers["Accept"] = accept
        for _, method, path in ROUTES:
            status, body = await client.call(method, path, dict(CREATE), headers)
            if good:
                assert status < 300
            else:
                assert (status, body) == (406, {"detail": 'Invalid version in "Accept" header.'})

    run(check)


def test_version_in_the_second_of_two_accept_headers() -> None:
    async def check(client: Client) -> None:
        for version, status in ((2, 200), (3, 406)):
            headers = [
                ("Authorization", f"Token {client.listening['token']}"),
                ("Accept", "application/json"),
                ("Accept", f"*/*; version={version}"),
            ]
            async with client.session.get(f"{client.root}segments/", headers=headers) as response:
                assert response.status == status

    run(check)


@pytest.mark.parametrize(("method", "path"), [(method, path.rstrip("/")) for _, method, path in ROUTES])
def test_path_without_its_last_slash(method: str, path: str) -> None:
    async def check(client: Client) -> None:
        assert await client.call(method, path, dict(CREATE)) == NOT_FOUND
        assert await client.effects() == []

    run(check)


@pytest.mark.parametrize(
    ("method", "path", "status"), [("DELETE", "webpush-campaign/4242/", 405), ("GET", "campaigns/", 404)]
)
def test_routes_that_the_pages_do_not_have(method: str, path: str, status: int) -> None:
    async def check(client: Client) -> None:
        assert (await client.call(method, path))[0] == status

    run(check)


def test_throttled_when_a_limit_is_asked_for() -> None:
    async def check(client: Client) -> None:
        assert (await client.create())[0] == 201
        headers = {"Authorization": f"Token {client.listening['token']}"}
        url = f"{client.root}webpush-campaign/"
        async with client.session.post(url, json=dict(CREATE), headers=headers) as response:
            assert response.status == 429
            assert (await response.json())["detail"].startswith("Request was throttled. Expected available in ")
            assert 3000 < int(response.headers["Retry-After"]) <= 3600
        assert (await client.call("GET", "webpush-campaign/"))[0] == 200
        assert len(await client.effects()) == 1

    run(check, limits=["usercom.create=1/h"], retry_after=True)


@pytest.mark.parametrize(
    ("fault", "status", "effects"), [("429", 429, 0), ("500", 500, 0), ("503", 503, 0), ("500-after", 500, 1)]
)
def test_faults(fault: str, status: int, effects: int) -> None:
    async def check(client: Client) -> None:
        assert (await client.create(eta=DROP))[0] == status
        assert len(await client.effects()) == effects
        listed = (await client.call("GET", "webpush-campaign/"))[1]["results"]
        assert [each["name"] for each in listed] == ["Spring"] * effects + [f"Campaign {EXISTING}"]

    run(check, faults=[f"usercom.create={fault}:100%"])


def test_lost_answer_of_a_create_is_found_by_name() -> None:
    async def check(client: Client) -> None:
        with pytest.raises(aiohttp.ClientConnectionError):
            await client.create(name="mark")
        first = (await client.call("GET", "webpush-campaign/"))[1]["results"][0]
        assert (first["name"], first["status"]) == ("mark", 1)
        assert await client.effects() == [("usercom.create", first["id"])]

    run(check, faults=["usercom.create=reset-after:100%"])


@pytest.mark.parametrize("status", [403, 500, 502, 503, 504])
def test_other_failures_have_no_body(status: int) -> None:
    provider = UserCom(Setup(1, (), random.Random(1)))
    reply = provider.failed("usercom.create", status)
    assert (reply.status, reply.body) == (status, None)
