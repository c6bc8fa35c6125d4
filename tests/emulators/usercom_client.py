"""A client of the emulated User.com, and what its tests send and expect."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping
from contextlib import asynccontextmanager
from typing import Any

import aiohttp

from tests.emulators.serving import serving

EXISTING = 4242
FUTURE = "2126-04-01T12:00:00Z"
DROP = object()
NOT_FOUND = (404, {"detail": "Not found."})
MESSAGE: Mapping[str, Any] = {"title": "Hello", "body": "How is it going?"}
CREATE: Mapping[str, Any] = {"name": "Spring", "segment": 1, "messages": [MESSAGE], "eta": FUTURE}
ROUTES = [
    ("usercom.create", "POST", "webpush-campaign/"),
    ("usercom.update", "PATCH", "webpush-campaign/4242/"),
    ("usercom.send", "POST", "webpush-campaign/4242/send/"),
    ("usercom.list", "GET", "webpush-campaign/"),
    ("usercom.get", "GET", "webpush-campaign/4242/"),
    ("usercom.segments", "GET", "segments/"),
    ("usercom.segment_users", "GET", "segments/1/users/"),
]


class Client:
    """Calls with the credentials of one account; a field given as `DROP` is left out."""

    def __init__(self, session: aiohttp.ClientSession, listening: Mapping[str, Any]) -> None:
        self.session = session
        self.listening = listening
        self.root = f"{listening['url']}/api/public/"

    async def call(
        self, method: str, path: str, body: object = DROP, headers: Mapping[str, str] | None = None
    ) -> tuple[int, Any]:
        """Call a path under the API's root, or an absolute URL."""
        if headers is None:
            headers = {"Authorization": f"Token {self.listening['token']}", "Accept": "*/*; version=2"}
        if isinstance(body, Mapping):
            body = {key: value for key, value in body.items() if value is not DROP}
        sent: dict[str, Any] = {} if body is DROP else {"data": body} if isinstance(body, bytes) else {"json": body}
        url = path if path.startswith("http") else self.root + path
        async with self.session.request(method, url, headers=headers, **sent, allow_redirects=False) as response:
            return response.status, (await response.json() if response.content_type == "application/json" else None)

    async def create(self, **fields: object) -> tuple[int, Any]:
        return await self.call("POST", "webpush-campaign/", {**CREATE, **fields})

    async def created(self, **fields: object) -> int:
        status, body = await self.create(**fields)
        assert status == 201
        return int(body["id"])

    async def update(self, campaign: object, **fields: object) -> tuple[int, Any]:
        return await self.call("PATCH", f"webpush-campaign/{campaign}/", fields)

    async def send(self, campaign: object) -> tuple[int, Any]:
        return await self.call("POST", f"webpush-campaign/{campaign}/send/")

    async def show(self, campaign: object) -> dict[str, Any]:
        status, body = await self.call("GET", f"webpush-campaign/{campaign}/")
        assert status == 200
        return dict(body)

    async def pages(self, path: str, link: str = "next") -> list[dict[str, Any]]:
        """Follow `link` as given, for at most ten pages."""
        found: list[dict[str, Any]] = []
        for _ in range(10):
            status, body = await self.call("GET", path)
            assert status == 200
            found.append(body)
            if body[link] is None:
                return found
            path = body[link]
        raise AssertionError("no end of pages")

    async def get(self, path: str) -> Any:
        async with self.session.get(f"{self.listening['url']}/_emulator/{path}") as response:
            return await response.json()

    async def effects(self) -> list[tuple[str, int]]:
        return [(each["endpoint"], each["ref"]) for each in (await self.get("effects"))["effects"]]


@asynccontextmanager
async def emulator(**flags: Any) -> AsyncIterator[Client]:
    async with serving("usercom", **{"campaigns": [EXISTING], **flags}) as (session, listening):
        yield Client(session, listening)


def run(test: Callable[[Client], Awaitable[None]], **flags: Any) -> None:
    async def main() -> None:
        async with emulator(**flags) as client:
            await test(client)

    asyncio.run(main())
