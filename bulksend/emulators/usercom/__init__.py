"""User.com's web push campaigns and segments, as its pages say.

Written from "Create webpush campaigns" and the sheet of facts, section 1. Where the pages are silent, the choice is
marked UNCONFIRMED, and [I] where the sheet infers it: the API has the marks of Django REST framework.
"""

from __future__ import annotations

import itertools
import random
import re
from collections.abc import Collection, Mapping, Sequence
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final

from bulksend.emulators import Account, Call, Endpoint, Hook, ProviderSpec, Reply, Setup
from bulksend.emulators.usercom.campaigns import Campaign, Message, RefusedError, read_change, zulu
from bulksend.emulators.usercom.pages import page
from bulksend.emulators.usercom.segments import Segments
from bulksend.emulators.window import Window

__all__ = ["PROVIDER", "UserCom"]

_CREATE: Final = "usercom.create"
_UPDATE: Final = "usercom.update"
_SEND: Final = "usercom.send"
_LIST: Final = "usercom.list"
_GET: Final = "usercom.get"
_SEGMENTS: Final = "usercom.segments"
_SEGMENT_USERS: Final = "usercom.segment_users"

_VERSION: Final = re.compile(r";\s*version\s*=\s*\"?([^\s\",;]*)")
_VERSIONS: Final = frozenset({"1", "2"})

_NO_CREDENTIALS: Final = Reply(401, {"detail": "Authentication credentials were not provided."})
_BAD_TOKEN: Final = Reply(401, {"detail": "Invalid token."})
_NOT_FOUND: Final = Reply(404, {"detail": "Not found."})
_BAD_VERSION: Final = Reply(406, {"detail": 'Invalid version in "Accept" header.'})
_BAD_JSON: Final = Reply(400, {"detail": "JSON parse error - Expecting value: line 1 column 1 (char 0)"})
# The seconds are not known here and mean nothing: the true wait is in Retry-After, where the server sends one.
_THROTTLED: Final = Reply(429, {"detail": "Request was throttled. Expected available in 5 seconds."})


class UserCom:
    """The public API for a number of accounts, which share the segments; campaign ids count up over all of them."""

    def __init__(self, setup: Setup) -> None:
        self._accounts = _make_accounts(setup.accounts, setup.rng)
        self._by_token = {account.credentials["token"]: account for account in self._accounts}
        self._segments = Segments(setup.rng, setup.segments)
        self._started_at_s = setup.started_at_s
        self._message_ids = itertools.count(1)
        # Oldest first, as every later one is put at the end.
        self._campaigns = {account.id: self._existing(sorted(setup.campaigns)) for account in self._accounts}
        # Above the ids that exist, so that none is given twice.
        self._last_id = max(setup.rng.randrange(1_000, 9_000), *setup.campaigns, 0)

    @property
    def accounts(self) -> Sequence[Account]:
        """The accounts that it accepts, each with its `app` (the subdomain) and `token`."""
        return self._accounts

    def authenticate(self, call: Call) -> Account | Reply:
        """Match `Token <key>`; the two refusals are [I], and their status is the page's."""
        scheme, _, token = call.headers.get("Authorization", "").partition(" ")
        if scheme != "Token":
            return _NO_CREDENTIALS
        return self._by_token.get(token, _BAD_TOKEN)

    def judge(self, call: Call, account: Account) -> Reply:
        """Validate, then do what the endpoint says; reads have no effect."""
        if not _version_is_known(call.headers):
            return _BAD_VERSION
        if call.endpoint == _SEGMENTS:
            return page(self._segments.known, lambda each: each.id, lambda each: each.as_json(call.headers), call)
        if call.endpoint == _SEGMENT_USERS:
            ids = self._segments.user_ids(call.params["id"])
            if ids is None:
                return _NOT_FOUND
            return page(
                ids, lambda each: each, lambda each: self._segments.user(each).as_json(), call, self._segments.page_size
            )
        campaigns = self._campaigns[account.id]
        now = datetime.fromtimestamp(self._started_at_s + call.now_s, UTC)
        if call.endpoint == _CREATE:
            return self._create(call.body, campaigns, now)
        if call.endpoint == _LIST:
            newest_first = list(reversed(campaigns.values()))
            return page(newest_first, lambda each: -each.id, lambda each: self._show(each, now), call)
        campaign = campaigns.get(call.params["id"])
        if campaign is None:
            return _NOT_FOUND
        if call.endpoint == _UPDATE:
            return self._update(call.body, campaign, now)
        if call.endpoint == _SEND:
            # UNCONFIRMED: status and body of the answer, what a repeat is answered, and that the body is not read.
            campaign.sent = True
            return Reply(200, _written(campaign), effect=campaign.id)
        return Reply(200, self._show(campaign, now))

    def failed(self, endpoint: str, status: int) -> Reply:
        """Return 429 and 404 with [I] bodies, and every other status with none: the pages show no body at all."""
        return {404: _NOT_FOUND, 429: _THROTTLED}.get(status) or Reply(status)

    def headers(self, endpoint: str, window: Window | None, now_s: float) -> Mapping[str, str]:
        """Return none: the pages know no quota headers."""
        return {}

    def hooks(self, now_s: float) -> Sequence[Hook]:
        """Return none: the pages know no webhook."""
        return ()

    def targets(self, account: Account, segment: str) -> Collection[str] | None:
        """Return none: no call changes whom a segment has, and the routes show it."""
        return None

    def _create(self, body: object, campaigns: dict[str, Campaign], now: datetime) -> Reply:
        if body is None:
            return _BAD_JSON
        try:
            change = read_change(body, self._segments.has, self._message_ids, partial=False)
        except RefusedError as error:
            return Reply(400, error.said)
        self._last_id += 1
        campaign = Campaign(self._last_id, now)
        campaign.take(change, now)
        # The attribute's table says so, although there is a route to send as well and a status of draft.
        campaign.sent = campaign.eta is None
        campaigns[str(campaign.id)] = campaign
        return Reply(201, _written(campaign), effect=campaign.id)  # [I]: the page gives no status

    def _update(self, body: object, campaign: Campaign, now: datetime) -> Reply:
        if body is None:
            return _BAD_JSON
        try:
            change = read_change(body, self._segments.has, self._message_ids, partial=True)
        except RefusedError as error:
            return Reply(400, error.said)
        campaign.take(change, now)
        return Reply(200, _written(campaign), effect=campaign.id)

    def _show(self, campaign: Campaign, now: datetime) -> dict[str, object]:
        """Return what GET says of a campaign, which is not what was written."""
        return {
            **_written(campaign),  # [I]: that `category` and `ttl` are among it
            "description": "",
            "type": 1,  # manual
            "status": campaign.status(now),
            "messages": [message.as_json(index) for index, message in enumerate(campaign.messages)],
            "recipients": {},  # a query, and not the segment's id; UNCONFIRMED: what is in it
            "recipients_count": self._segments.reach(campaign.segment),
            "created": zulu(campaign.created),  # UNCONFIRMED: the name, which the stored page cuts off
        }

    def _existing(self, ids: Sequence[int]) -> dict[str, Campaign]:
        created = datetime.fromtimestamp(self._started_at_s, UTC)
        found = {str(each): Campaign(each, created, f"Campaign {each}") for each in ids}
        for campaign in found.values():
            campaign.messages = (Message(next(self._message_ids), {"title": campaign.name, "body": campaign.name}),)
        return found


def _make_accounts(count: int, rng: random.Random) -> tuple[Account, ...]:
    return tuple(
        Account(app, MappingProxyType({"app": app, "token": f"{rng.getrandbits(256):064x}"}))
        for app in (f"app{index}-{rng.getrandbits(24):06x}" for index in range(1, count + 1))
    )


def _version_is_known(headers: Mapping[str, str]) -> bool:
    # Older samples send two Accept headers, only one of which names a version. None at all means version 1.
    accepts = (value for name, value in headers.items() if name.lower() == "accept")
    return _VERSIONS.issuperset(version for accept in accepts for version in _VERSION.findall(accept))


def _written(campaign: Campaign) -> dict[str, object]:
    """Return the minimal object that create and update answer; `category` is deprecated and always null."""
    return {
        "id": campaign.id,
        "name": campaign.name,
        "category": None,
        "eta": zulu(campaign.eta) if campaign.eta else None,
        "ttl": campaign.ttl_s,
    }


_CAMPAIGNS: Final = "/api/public/webpush-campaign/"
_CAMPAIGN: Final = "/api/public/webpush-campaign/{id}/"

# The paths of list and get are [I], by symmetry; a path without its last slash is 404 for every method [I].
PROVIDER: Final = ProviderSpec(
    name="usercom",
    endpoints=(
        Endpoint(_CREATE, (("POST", _CAMPAIGNS),), None),
        Endpoint(_UPDATE, (("PATCH", _CAMPAIGN),), None),
        Endpoint(_SEND, (("POST", f"{_CAMPAIGN}send/"),), None),
        Endpoint(_LIST, (("GET", _CAMPAIGNS),), None),
        Endpoint(_GET, (("GET", _CAMPAIGN),), None),
        Endpoint(_SEGMENTS, (("GET", "/api/public/segments/"),), None),
        Endpoint(_SEGMENT_USERS, (("GET", "/api/public/segments/{id}/users/"),), None),
    ),
    build=UserCom,
)
