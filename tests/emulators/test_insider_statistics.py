"""Insider's statistics over the launches that were made: rows, pages, refusals, and throttling that is a 403."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from tests.emulators.test_insider import Client, run

_EXISTING = 4242
_TARGET = {"attribute": "d_wp_browser", "values": ["Edg"]}
_KINDS = ("overall", "campaign", "top")
_THROTTLED = (
    403,
    {
        "error": {"message": "Too many attempts, please slow down the request. 30 Requests/minute is allowed."},
        "status": 403,
    },
)
_DROP = object()


def _days(around: int = 1) -> dict[str, Any]:
    """Return dates that today is between, whatever day it is by the time of the call."""
    today = datetime.now(UTC).date()
    return {"start_date": f"{today - timedelta(around)}", "end_date": f"{today + timedelta(around)}"}


async def _ask(client: Client, kind: str, **fields: object) -> tuple[int, Any]:
    body = {"partner_id": client.listening["partner_id"], **_days(), **fields}
    given = {key: value for key, value in body.items() if value is not _DROP}
    headers = {"Authorization": f"Bearer {client.listening['token']}"}
    async with client.session.post(
        f"{client.listening['url']}/v1/statistics/{kind}-metrics", json=given, headers=headers
    ) as response:
        return response.status, await response.json()


def test_nothing_is_counted_before_a_launch_and_statistics_have_no_effect() -> None:
    async def check(client: Client) -> None:
        await client.created()
        empty = {"page": 1, "per_page": 10, "total": 0, "data": []}
        assert await _ask(client, "overall") == (200, empty)
        status, top = await _ask(client, "top")
        assert (status, top["overview"]["total"]["targeted"], top["performance"][0]["campaignCount"]) == (200, "0", 0)
        assert top["overview"]["total"]["deliveryRate"] == "0.00%"
        assert [each["endpoint"] for each in (await client.get("effects"))["effects"]] == ["insider.create"]

    run(check)


def test_launches_are_counted_in_all_three_routes() -> None:
    async def check(client: Client) -> None:
        campaign = await client.created()
        for version in ("v2", "v1", "v2"):
            assert (await client.launch(campaign, version, target=_TARGET))[0] == 200
        assert (await client.launch(_EXISTING, link="https://example.com/last"))[0] == 200
        assert (await client.launch(campaign))[0] == 400  # is not counted

        status, overall = await _ask(client, "overall")
        assert (status, overall["total"]) == (200, 2)
        last, first = overall["data"]
        assert (last["id"], last["campName"], last["sent"]) == (_EXISTING, f"Campaign {_EXISTING}", 1000)
        assert last["messageLink"] == "https://example.com/last"
        expected = {
            "id": campaign,
            "campName": "Spring",
            "targeted": 3000,
            "sent": 3000,
            "delivered": 3000,
            "clicks": 0,
        }
        assert {key: first[key] for key in expected} == expected
        assert first["builderId"] != campaign
        assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d", first["sendDate"])
        assert first["startDate"] == first["endDate"] == f"{first['sendDate'][:16]}:00"

        dates = _days()
        status, one = await _ask(client, "campaign", campaign_id=str(first["builderId"]), **dates)
        assert (status, one["name"], one["overview"]["targeted"]) == (200, "Spring", {"sent": "3,000", "dropped": "0"})
        assert one["overview"]["total"]["deliveryRate"] == "100.00%"
        assert one["startDate"] == f"{dates['start_date']}T00:00:00.000000Z"
        assert (await _ask(client, "campaign", campaign_id=first["builderId"]))[0] == 200

        status, top = await _ask(client, "top")
        assert (status, top["overview"]["targeted"]["sent"]) == (200, "4,000")
        assert [(each["label"], each["campaignCount"]) for each in top["performance"]] == [("Bulk", 2)]

    run(check)


def test_only_launches_within_the_dates_are_counted() -> None:
    async def check(client: Client) -> None:
        await client.launch(_EXISTING)
        builder_id = (await _ask(client, "overall"))[1]["data"][0]["builderId"]
        past = {"start_date": "2020-01-01", "end_date": "2020-01-31"}
        assert (await _ask(client, "overall", **past))[1]["total"] == 0
        assert (await _ask(client, "top", **past))[1]["overview"]["targeted"]["sent"] == "0"
        status, one = await _ask(client, "campaign", campaign_id=builder_id, **past)
        assert (status, one["overview"]["targeted"]["sent"]) == (200, "0")

    run(check)


def test_statistics_belong_to_the_account_and_leave_out_the_deleted() -> None:
    async def check(client: Client) -> None:
        other = Client(client.session, client.listening["accounts"][1])
        await client.launch(_EXISTING)
        assert (await _ask(client, "overall"))[1]["total"] == 1
        assert (await _ask(other, "overall"))[1]["total"] == 0
        await client.delete(_EXISTING)
        assert (await _ask(client, "overall"))[1]["total"] == 0

    run(check, accounts=2)


def test_overall_metrics_come_in_pages() -> None:
    async def check(client: Client) -> None:
        for campaign in range(1, 26):
            await client.launch(campaign)
        pages = [(await _ask(client, "overall", page=page))[1] for page in (1, "2", 3, 4)]
        assert [(each["page"], each["per_page"], each["total"]) for each in pages] == [
            (page, 10, 25) for page in range(1, 5)
        ]
        assert [[row["id"] for row in each["data"]] for each in pages] == [
            list(range(25, 15, -1)),
            list(range(15, 5, -1)),
            list(range(5, 0, -1)),
            [],
        ]
        assert len((await _ask(client, "overall", per_page="20"))[1]["data"]) == 20

    run(check, campaigns=list(range(1, 26)))


@pytest.mark.parametrize("kind", _KINDS)
@pytest.mark.parametrize(
    ("fields", "errors"),
    [
        ({"end_date": "19.12.2023"}, {"end_date": ["The end date does not match the format Y-m-d."]}),
        ({"start_date": "2023-02-30"}, {"start_date": ["The start date does not match the format Y-m-d."]}),
        ({"start_date": "20230201"}, {"start_date": ["The start date does not match the format Y-m-d."]}),
        ({"start_date": 20230201}, {"start_date": ["The start date does not match the format Y-m-d."]}),
        ({"end_date": _DROP}, {"end_date": ["The end date field is required."]}),
        ({"end_date": ""}, {"end_date": ["The end date field is required."]}),
        ({"partner_id": _DROP}, {"partner_id": ["The partner id field is required."]}),
        ({"partner_id": 5}, {"partner_id": ["The partner id must be a string."]}),
    ],
)
def test_fields_that_every_route_refuses(kind: str, fields: dict[str, Any], errors: dict[str, Any]) -> None:
    async def check(client: Client) -> None:
        await client.launch(_EXISTING)
        builder_id = (await _ask(client, "overall"))[1]["data"][0]["builderId"]
        expected = (422, {"status_code": 422, "errors": errors})
        assert await _ask(client, kind, campaign_id=builder_id, **fields) == expected
        assert (await client.get("stats"))["endpoints"]["insider.statistics"]["rejected"] == {"422": 1}

    run(check)


@pytest.mark.parametrize(
    ("kind", "fields", "errors"),
    [
        ("overall", {"per_page": 21}, {"per_page": ["The per page may not be greater than 20."]}),
        ("overall", {"per_page": "100"}, {"per_page": ["The per page may not be greater than 20."]}),
        ("overall", {"per_page": 0}, {"per_page": ["The per page must be at least 1."]}),
        ("overall", {"page": "one"}, {"page": ["The page must be an integer."]}),
        ("overall", {"page": True}, {"page": ["The page must be an integer."]}),
        ("campaign", {}, {"campaign_id": ["The campaign id field is required."]}),
        ("campaign", {"campaign_id": _EXISTING}, {"campaign_id": ["The campaign id is invalid."]}),
        (
            "campaign",
            {"campaign_id": "1", "end_date": "soon"},
            {
                "end_date": ["The end date does not match the format Y-m-d."],
                "campaign_id": ["The campaign id is invalid."],
            },
        ),
    ],
)
def test_fields_that_one_route_refuses(kind: str, fields: dict[str, Any], errors: dict[str, Any]) -> None:
    async def check(client: Client) -> None:
        assert await _ask(client, kind, **fields) == (422, {"status_code": 422, "errors": errors})

    run(check)


def test_body_that_is_no_object_lacks_every_field() -> None:
    async def check(client: Client) -> None:
        for kind in _KINDS:
            for body in (b"", b"[]", b"{"):
                status, answer = await client.call("POST", f"/v1/statistics/{kind}-metrics", body)
                assert (status, answer["status_code"]) == (422, 422)
                assert {"partner_id", "start_date", "end_date"} <= answer["errors"].keys()

    run(check)


@pytest.mark.parametrize("kind", _KINDS)
def test_unauthorized_has_a_body_of_its_own(kind: str) -> None:
    async def check(client: Client) -> None:
        path = f"/v1/statistics/{kind}-metrics"
        for headers in ({}, {"Authorization": "Bearer wrong"}):
            assert await client.call("POST", path, _days(), headers) == (401, {"status_code": 401})
        assert await _ask(client, kind, partner_id="nobody") == (401, {"status_code": 401})

    run(check)


def test_three_routes_share_30_a_minute_and_are_throttled_by_403() -> None:
    async def check(client: Client) -> None:
        statuses = [(await _ask(client, _KINDS[index % 3]))[0] for index in range(30)]
        assert set(statuses) == {200, 422}
        for kind in _KINDS:
            assert await _ask(client, kind) == _THROTTLED
        headers = {"Authorization": f"Bearer {client.listening['token']}"}
        url = f"{client.listening['url']}/v1/statistics/top-metrics"
        async with client.session.post(url, json={}, headers=headers) as response:
            assert response.status == 403
            assert 1 <= int(response.headers["Retry-After"]) <= 60
        stats = (await client.get("stats"))["endpoints"]["insider.statistics"]
        assert (stats["admitted"], stats["throttled"], stats["limit"]) == (30, 4, "30/min")
        assert (await client.launch(_EXISTING))[0] == 200  # is not held back

    run(check, retry_after=True)


def test_fault_429_is_a_403_here_and_429_elsewhere() -> None:
    async def check(client: Client) -> None:
        assert await _ask(client, "overall") == _THROTTLED
        assert (await client.launch(_EXISTING))[0] == 429

    run(check, faults=["429:100%"])
