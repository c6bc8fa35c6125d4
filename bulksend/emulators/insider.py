"""Insider One web push, as its pages say: create v1, launch v1 and v2, delete v1, statistics v1.

Written from "Create a Single Web Push", "Launch Single Web Push v2" and the sheet of facts, section 2. Where the
pages are silent, the choice is marked UNCONFIRMED.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final

from bulksend.emulators import Account, Call, Endpoint, Hook, ProviderSpec, Reply, Setup, insider_statistics
from bulksend.emulators.insider_statistics import Launches
from bulksend.emulators.window import Window

__all__ = ["PROVIDER", "Insider"]

_CREATE: Final = "insider.create"
_LAUNCH: Final = "insider.launch"
_LAUNCH_V1: Final = "insider.launch_v1"
_DELETE: Final = "insider.delete"
_STATISTICS: Final = "insider.statistics"

_TITLE_MAX: Final = 100  # UNCONFIRMED: counted in code points
_DESCRIPTION_MAX: Final = 255
_DESCRIPTION_MAX_WITH_BANNER: Final = 30
_TTL_MAX_S: Final = 240 * 3600  # the page says 240 hours; UNCONFIRMED: that `ttl` is in seconds

_BAD_REQUEST: Final = Reply(400, {"message": "Bad Request"})
_UNAUTHORIZED: Final = Reply(401, {"message": "Unauthorized"})
_NOT_FOUND: Final = Reply(424, {"message": "SERVICE:-Campaign not found"})
_FAILED: Final[Mapping[int, object]] = MappingProxyType(
    {
        424: {"message": "SERVICE:-"},
        429: {"message": "Too Many Requests", "status": 429},  # UNCONFIRMED: one of two bodies in circulation
    }
)


@dataclass(slots=True)
class _Campaign:
    """A campaign of one account; `is_all` and `title` are None where it existed before the emulator."""

    launches: Launches
    title: str | None = None
    is_all: bool | None = None


@dataclass(slots=True)
class _State:
    """What one account holds; campaigns are under their id as a path says it."""

    campaigns: dict[str, _Campaign]
    titles: set[str] = field(default_factory=set)


class Insider:
    """The web push API of Insider One for a number of accounts; campaign ids count up over all of them."""

    def __init__(self, setup: Setup) -> None:
        self._started_at_s = setup.started_at_s
        self._accounts = _make_accounts(setup.accounts, setup.rng)
        self._by_token = {account.credentials["token"]: account for account in self._accounts}
        self._states = {
            account.id: _State({str(each): _Campaign(Launches(each)) for each in setup.campaigns})
            for account in self._accounts
        }
        # Above the ids that exist, so that none is given twice.
        self._last_id = max(setup.rng.randrange(20_000, 90_000), *setup.campaigns, 0)

    @property
    def accounts(self) -> Sequence[Account]:
        """The accounts that it accepts, each with its `partner_id` and `token`."""
        return self._accounts

    def authenticate(self, call: Call) -> Account | Reply:
        """Match the Bearer token; a `partner_id` that is missing or no string is left to validation (400)."""
        unauthorized = insider_statistics.UNAUTHORIZED if call.endpoint == _STATISTICS else _UNAUTHORIZED
        scheme, _, token = call.headers.get("Authorization", "").partition(" ")
        account = self._by_token.get(token)
        if scheme != "Bearer" or account is None:
            return unauthorized
        partner_id = call.body.get("partner_id") if isinstance(call.body, dict) else None
        if isinstance(partner_id, str) and partner_id and partner_id != account.id:
            return unauthorized  # UNCONFIRMED: inferred, the pages name only the token
        return account

    def judge(self, call: Call, account: Account) -> Reply:
        """Validate, then create, launch, delete or count; everything that the pages call required is enforced."""
        body = call.body
        if call.endpoint == _STATISTICS:
            # UNCONFIRMED: that a deleted campaign is no longer counted.
            found = self._states[account.id].campaigns.items()
            named = ((each.title or f"Campaign {campaign_id}", each.launches) for campaign_id, each in found)
            return insider_statistics.answer(call.path, body, named)
        if not isinstance(body, dict) or not _is_text(body.get("partner_id")):
            return _BAD_REQUEST
        state = self._states[account.id]
        if call.endpoint == _CREATE:
            return self._create(body, state)
        campaign_id = call.params["campaign_id"]
        if call.endpoint == _DELETE:
            return _delete(campaign_id, state)
        return _launch(campaign_id, body, state, self._started_at_s + call.now_s)

    def failed(self, endpoint: str, status: int) -> Reply:
        """Return the documented body of 424 and 429, and none for 500 and 503; statistics have 403 for 429."""
        if endpoint == _STATISTICS and status == 429:
            return insider_statistics.THROTTLED
        return Reply(status, _FAILED.get(status))

    def headers(self, endpoint: str, window: Window | None, now_s: float) -> Mapping[str, str]:
        """Return none: the vendor sends no quota headers."""
        return {}

    def hooks(self, now_s: float) -> Sequence[Hook]:
        """Return none: the pages know no webhook."""
        return ()

    def targets(self, account: Account, segment: str) -> Collection[str] | None:
        """Return none: there are no segments here."""
        return None

    def _create(self, body: Mapping[str, object], state: _State) -> Reply:
        title = body.get("title")
        is_all = body.get("is_all", False)
        if not _is_text(title, _TITLE_MAX) or not _is_text(body.get("language")) or not isinstance(is_all, bool):
            return _BAD_REQUEST
        if title in state.titles:
            return _BAD_REQUEST
        self._last_id += 1
        state.titles.add(str(title))
        state.campaigns[str(self._last_id)] = _Campaign(Launches(self._last_id), str(title), is_all)
        return _success(201, self._last_id)


def _make_accounts(count: int, rng: random.Random) -> tuple[Account, ...]:
    first = 100_000_000 + rng.randrange(1_000_000)
    return tuple(
        Account(partner_id, MappingProxyType({"partner_id": partner_id, "token": f"{rng.getrandbits(96):024x}"}))
        for partner_id in (str(first + index) for index in range(count))
    )


def _success(status: int, campaign_id: int) -> Reply:
    return Reply(status, {"success": True, "campaign_id": campaign_id}, effect=campaign_id)


def _launch(campaign_id: str, body: Mapping[str, object], state: _State, at_s: float) -> Reply:
    # UNCONFIRMED: that a bad body is told before an unknown campaign.
    if not _launch_body_is_valid(body):
        return _BAD_REQUEST
    campaign = state.campaigns.get(campaign_id)
    if campaign is None:
        return _NOT_FOUND
    target = body.get("target")
    if campaign.is_all:
        # Sent once, says the page; UNCONFIRMED: what a second launch is answered. A target is ignored.
        if campaign.launches.by_day:
            return _BAD_REQUEST
    elif target is None:
        if campaign.is_all is False:
            return _BAD_REQUEST
    elif not _is_target(target):
        return _BAD_REQUEST
    campaign.launches.add(at_s, str(body["link"]))
    return _success(200, int(campaign_id))


def _delete(campaign_id: str, state: _State) -> Reply:
    campaign = state.campaigns.get(campaign_id)
    if campaign is None:
        return _NOT_FOUND
    del state.campaigns[campaign_id]
    if campaign.title is not None:
        state.titles.discard(campaign.title)  # UNCONFIRMED: a deleted campaign's title may be used again
    return Reply(200, {"success": True}, effect=int(campaign_id))  # UNCONFIRMED: the body of a success


def _launch_body_is_valid(body: Mapping[str, object]) -> bool:
    banner = body.get("banner")
    description_max = _DESCRIPTION_MAX if banner is None else _DESCRIPTION_MAX_WITH_BANNER
    return (
        _is_text(body.get("title"), _TITLE_MAX)
        and _is_text(body.get("description"), description_max)
        and _is_https(body.get("image"))
        and (banner is None or _is_https(banner))
        and _is_text(body.get("link"))
        and _is_ttl(body.get("ttl"))
        and _is_unengaged(body)
    )


def _is_text(value: object, longest: int | None = None) -> bool:
    return isinstance(value, str) and bool(value) and (longest is None or len(value) <= longest)


def _is_https(value: object) -> bool:
    return isinstance(value, str) and value[:8].lower() == "https://" and len(value) > 8


def _is_ttl(value: object) -> bool:
    # The table says String; a number is taken as well, which the sheet of facts advises (2.4, row 2).
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 20:
        value = int(value)
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= _TTL_MAX_S


def _is_unengaged(body: Mapping[str, object]) -> bool:
    # The table spells it one way and the vendor's samples the other: either counts, and two that differ are refused.
    given = [body[key] for key in ("include_unengaged", "include_unengage") if key in body]
    return all(isinstance(value, bool) for value in given) and len(set(map(bool, given))) < 2


def _is_target(value: object) -> bool:
    if not isinstance(value, dict):
        return False
    attribute, values = value.get("attribute"), value.get("values")
    named = isinstance(attribute, str) and attribute[:2] in ("d_", "c_") and len(attribute) > 2
    return named and isinstance(values, list) and bool(values)


PROVIDER: Final = ProviderSpec(
    name="insider",
    endpoints=(
        Endpoint(_CREATE, (("POST", "/v1/single"),), "30/min"),
        Endpoint(_LAUNCH, (("POST", "/v2/single/{campaign_id}"),), "6000/min"),
        Endpoint(_LAUNCH_V1, (("POST", "/v1/single/{campaign_id}"),), "30/min"),
        Endpoint(_DELETE, (("DELETE", "/v1/single/{campaign_id}"),), "30/min"),
        Endpoint(_STATISTICS, insider_statistics.ROUTES, "30/min"),
    ),
    build=Insider,
)
