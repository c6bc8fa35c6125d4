"""The vendors' own curl examples, quoted as they stand: with only host and secrets changed, the documented answer.

What is sent is read from the text as a shell and curl would read it, so that no curl is needed.
"""

from __future__ import annotations

import asyncio
import re
import shlex
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import aiohttp

from tests.emulators.serving import serving

_INSIDER_CREATE = r"""
curl --location --request POST 'https://web-push.api.useinsider.com/v1/single' \
--header 'Content-Type: application/json' \
--header 'Authorization: Bearer 1a2b3c4d5e6f' \
--data-raw '{
"partner_id": "100XXXXX",
"title": "Title of campaign",
"language": "en_GB",
"is_all": false
}'"""

_INSIDER_LAUNCH_TO_ALL = r"""
curl --location --request POST 'https://web-push.api.useinsider.com/v2/single/campaign_id' \
--header 'Content-Type: application/json' \
--header 'Authorization: Bearer 1a2b3c4d5e6f' \
--data-raw '{
"partner_id": "100000001",
"title": "title of push",
"description": "description of push",
"image": "https://image.useinsider.com/mywebsite/webPushDefaultImage/JpVu9aBXgTXmcrBkiZLB1512577074.jpeg",
"banner": "https://image.useinsider.com/mywebsite/webPushDefaultImage/JpVu9aBXgTXmcrBkiZLB1512577074.jpeg",
"link": "https://image.useinsider.com",
"include_unengage": true,
"ttl": "1000"
}'"""

_INSIDER_LAUNCH_TO_TARGET = r"""
curl --location --request POST 'https://web-push.api.useinsider.com/v2/single/campaign_id' \
--header 'Content-Type: application/json' \
--header 'Authorization: Bearer 1a2b3c4d5e6f' \
--data-raw '{
"partner_id": "10000001",
"title": "title of push",
"description": "description of push",
"image": "https://image.useinsider.com/mywebsite/webPushDefaultImage/JpVu9aBXgTXmcrBkiZLB1512577074.jpeg",
"banner": "https://image.useinsider.com/mywebsite/webPushDefaultImage/JpVu9aBXgTXmcrBkiZLB1512577074.jpeg",
"link": "https://image.useinsider.com",
"include_unengage": true,
"ttl": "1000",
"language": "en_US",
"target": {
"attribute": "d_wp_browser",
"values": ["Edg"]
}
}'"""

_USERCOM_CREATE = r"""
curl -X POST \
  "https://<your_app_subdomain>.user.com/api/public/webpush-campaign/" \
  -H "Authorization: Token <your_64_char_api_key>" \
  -H "Accept: */*; version=2" \
  -H "Content-Type: application/json" \
  -d '{
    "name": "Spring Sale Push",
    "eta": "2026-04-01T12:00:00Z",
    "ttl": 86400,
    "messages": [
      {
        "title": "Spring Sale is Live!",
        "body": "Up to 50% off selected items. Shop now!",
        "url": "https://yoursite.com/sale",
        "require_interaction": true,
        "doughnut_title": "Shop Now",
        "doughnut_url": "https://yoursite.com/sale",
        "coffee_title": "Learn More",
        "coffee_url": "https://yoursite.com/about-sale",
        "icon": "https://yoursite.com/icon-192.png",
        "badge": "https://yoursite.com/badge-512.png"
      }
    ],
    "segment": 1
  }'"""

_BATCH_CREATE = r"""
curl -X POST "https://api.batch.com/1.1/BATCH_API_KEY/campaigns/create" \
-H "Content-Type: application/json" \
-H "X-Authorization: BATCH_REST_API_KEY" \
-d '{
"name": "Test Campaign",
"live": true,
"push_time": "now",
"messages": [{
"language": "en",
"body": "Hello!"
}]
}'"""

_BATCH_MINIMAL_PAYLOAD = """{
"name": "Test Campaign",
"push_time": "now",
"live": true,
"messages": [
{
"language": "en",
"title": "Hello!",
"body": "How's it going?"
}
]
}"""


def _changed(example: str, changes: Mapping[str, str]) -> str:
    """Put the reader's own values in; each of the vendor's must be there."""
    for theirs, ours in changes.items():
        assert theirs in example
        example = example.replace(theirs, ours)
    return example


async def _run(session: aiohttp.ClientSession, example: str, data: str | None = None) -> tuple[int, Any]:
    """Send what the curl command would; `data` stands in for its own."""
    words = shlex.split(example.replace("\\\n", " "))  # shlex does not join lines as a shell does
    assert words.pop(0) == "curl"
    method, url, headers, body = "", "", [], ""
    while words:
        match words.pop(0):
            case "-X" | "--request":
                method = words.pop(0)
            case "-H" | "--header":
                name, _, value = words.pop(0).partition(":")
                headers.append((name, value.strip()))
            case "-d" | "--data-raw":
                body = words.pop(0)
            case "--location":
                pass
            case word:
                assert not word.startswith("-")
                url = word
    async with session.request(method, url, headers=headers, data=(data or body).encode()) as response:
        return response.status, await response.json()


def _with_emulator(provider: str, test: Callable[[aiohttp.ClientSession, Mapping[str, str]], Awaitable[None]]) -> None:
    async def main() -> None:
        async with serving(provider) as (session, listening):
            await test(session, listening)

    asyncio.run(main())


def test_insider() -> None:
    async def check(session: aiohttp.ClientSession, account: Mapping[str, str]) -> None:
        ours = {"https://web-push.api.useinsider.com": account["url"], "1a2b3c4d5e6f": account["token"]}
        create = _changed(_INSIDER_CREATE, {**ours, "100XXXXX": account["partner_id"]})
        status, created = await _run(session, create)
        assert (status, created) == (201, {"success": True, "campaign_id": created["campaign_id"]})
        assert type(created["campaign_id"]) is int
        assert await _run(session, create) == (400, {"message": "Bad Request"})  # the title is taken

        success = (200, created)
        path = {"single/campaign_id": f"single/{created['campaign_id']}"}
        to_target = _changed(_INSIDER_LAUNCH_TO_TARGET, {**ours, **path, "10000001": account["partner_id"]})
        assert await _run(session, to_target) == success
        to_all = {**ours, **path, "100000001": account["partner_id"]}
        assert await _run(session, _changed(_INSIDER_LAUNCH_TO_ALL, to_all)) == (400, {"message": "Bad Request"})

        # The page has its first sample for a campaign that was created with is_all true.
        create_to_all = _changed(create, {"Title of campaign": "Another", '"is_all": false': '"is_all": true'})
        status, created = await _run(session, create_to_all)
        assert status == 201
        to_all["single/campaign_id"] = f"single/{created['campaign_id']}"
        assert await _run(session, _changed(_INSIDER_LAUNCH_TO_ALL, to_all)) == (200, created)

        unauthorized = (401, {"message": "Unauthorized"})
        theirs = {"https://web-push.api.useinsider.com": account["url"]}
        for example in (_INSIDER_CREATE, _INSIDER_LAUNCH_TO_ALL, _INSIDER_LAUNCH_TO_TARGET):
            assert await _run(session, _changed(example, theirs)) == unauthorized

    _with_emulator("insider", check)


def test_usercom() -> None:
    async def check(session: aiohttp.ClientSession, account: Mapping[str, str]) -> None:
        host = {"https://<your_app_subdomain>.user.com": account["url"]}
        create = _changed(_USERCOM_CREATE, {**host, "<your_64_char_api_key>": account["token"]})
        status, created = await _run(session, create)
        assert status == 201
        expected = {"name": "Spring Sale Push", "category": None, "eta": "2026-04-01T12:00:00Z", "ttl": 86400}
        assert created == {"id": created["id"], **expected}
        assert type(created["id"]) is int
        assert (await _run(session, _changed(_USERCOM_CREATE, host)))[0] == 401

    _with_emulator("usercom", check)


def test_batch() -> None:
    async def check(session: aiohttp.ClientSession, account: Mapping[str, str]) -> None:
        ours = {"https://api.batch.com": account["url"], "BATCH_API_KEY": account["api_key"]}
        create = _changed(_BATCH_CREATE, {**ours, "BATCH_REST_API_KEY": account["rest_key"]})
        for payload in (None, _BATCH_MINIMAL_PAYLOAD):
            status, created = await _run(session, create, payload)
            assert (status, list(created)) == (201, ["campaign_token"])
            assert re.fullmatch(r"[0-9a-f]{32}", created["campaign_token"])
        status, refused = await _run(session, _changed(_BATCH_CREATE, ours))
        assert (status, refused["code"], refused["type"]) == (401, 10, "AUTHENTICATION_INVALID")

    _with_emulator("batch", check)
