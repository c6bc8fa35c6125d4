"""Batch.com's Push Campaigns API (MEP v1.1), as its pages say: create, update, delete, list, get and stats.

Written from "POST - Create campaign" and the sheet of facts, section 3. Where the pages are silent, the choice is
marked UNCONFIRMED; [I] is what the sheet infers, and [L] what it found in other people's clients.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import islice
from types import MappingProxyType
from typing import Final

from bulksend.emulators import Account, Call, Endpoint, Hook, ProviderSpec, Reply, Setup
from bulksend.emulators.batch_body import EXCLUSIVE, NOW, TIMES, as_read, find_fault
from bulksend.emulators.window import Window

__all__ = ["PROVIDER", "Batch"]

_CREATE: Final = "batch.create"
_UPDATE: Final = "batch.update"
_DELETE: Final = "batch.delete"
_LIST: Final = "batch.list"
_GET: Final = "batch.get"
_STATS: Final = "batch.stats"
_WRITES: Final = frozenset({_CREATE, _UPDATE, _DELETE})

_LIST_DEFAULT: Final = 10
_LIST_MAX: Final = 100
_NOW_RUNS_S: Final = 2.0  # UNCONFIRMED: how long a campaign of "now" takes until it is completed
_FIRST_ZONE_S: Final = 14 * 3600  # a local time comes first in UTC+14,
_LAST_ZONE_S: Final = 12 * 3600  # and last in UTC-12

# The type of each code, and the status that goes with it. SERVER_ERROR is 1 on some pages and 0 on others.
_ERRORS: Final[Mapping[int, tuple[int, str]]] = MappingProxyType(
    {
        0: (500, "SERVER_ERROR"),
        1: (500, "SERVER_ERROR"),
        2: (503, "MAINTENANCE_ERROR"),
        10: (401, "AUTHENTICATION_INVALID"),
        12: (403, "API_MISUSE"),
        20: (404, "ROUTE_NOT_FOUND"),
        30: (400, "MISSING_PARAMETER"),
        31: (400, "MALFORMED_PARAMETER"),
        32: (400, "MALFORMED_JSON_BODY"),
        60: (429, "TOO_MANY_REQUESTS"),
    }
)


@dataclass(slots=True)
class _Campaign:
    """A campaign of one app: what was written, and what became of it, as far as `advance` was told the time.

    `since_s` is the moment that "now" means: when it was set live, or got a new time while it was. `sends` has the
    moment of each time that it went out, which is at most once between being set live and being stopped: `is_out`.
    """

    definition: Mapping[str, object]
    created_s: float
    from_api: bool = True
    dev_only: bool = False
    since_s: float = 0.0
    sends: list[float] = field(default_factory=list)
    is_out: bool = False
    completed: bool = False

    @property
    def live(self) -> bool:
        return self.definition["live"] is True

    def advance(self, now_s: float) -> None:
        """Let everything happen that was due by now."""
        if not self.live or self.completed:
            return
        begin_s, end_s = _span_s(self.definition, self.since_s)
        if now_s >= begin_s and not self.is_out:
            self.is_out = True
            self.sends.append(begin_s)
        self.completed = now_s >= end_s

    def change(self, definition: Mapping[str, object], now_s: float) -> None:
        """Take on a new definition; `advance` must have come before."""
        was_live, old_time = self.live, _time_of(self.definition)
        self.definition = definition
        if not self.live:
            self.is_out = False
        elif not was_live or _time_of(definition) != old_time:
            self.since_s = now_s

    def basics(self, token: str) -> dict[str, object]:
        return {
            "campaign_token": token,
            "from_api": self.from_api,
            "dev_only": self.dev_only,
            "created_date": f"{datetime.fromtimestamp(self.created_s, UTC):%Y-%m-%dT%H:%M:%S}",
        }


_Campaigns = dict[str, _Campaign]


class Batch:
    """The campaigns of a number of apps, each with a Live, a Dev and an SDK key, and the REST key of its company."""

    def __init__(self, setup: Setup) -> None:
        self._rng = setup.rng
        self._started_at_s = setup.started_at_s
        self._accounts = tuple(_make_account(setup.rng) for _ in range(setup.accounts))
        self._by_key = {
            account.credentials[name]: account
            for account in self._accounts
            for name in ("api_key", "dev_api_key", "sdk_api_key")
        }
        # Those that exist beforehand were made in the dashboard, with the id as the digits of the token.
        self._campaigns: dict[str, _Campaigns] = {
            account.id: {f"{each:032}": _made_in_dashboard(each, setup.started_at_s) for each in setup.campaigns}
            for account in self._accounts
        }

    @property
    def accounts(self) -> Sequence[Account]:
        """The accounts that it accepts, each an app with its keys."""
        return self._accounts

    def authenticate(self, call: Call) -> Account | Reply:
        """Match the REST key with the app that the path names; an app unknown is answered like a wrong key [I]."""
        account = self._by_key.get(call.params["api_key"])
        if account is None:
            return _error(10, "the API key in the path is not that of an app")
        if call.headers.get("X-Authorization") != account.credentials["rest_key"]:
            return _error(10, "the X-Authorization header must hold the REST API key of your company")
        return account

    def judge(self, call: Call, account: Account) -> Reply:
        """Do what is asked; only the Live key may read, and any other is API_MISUSE [I].

        UNCONFIRMED: that every key finds every campaign of the app, so that the Live one lists what Dev made.
        """
        campaigns = self._campaigns[account.id]
        now_s = self._started_at_s + call.now_s
        if call.endpoint not in _WRITES and call.params["api_key"] != account.id:
            return _error(12, "this route needs the Live API key")
        if call.endpoint == _CREATE:
            return self._create(call, account, now_s)
        if call.endpoint == _LIST:
            return _list(call.query, campaigns)
        token = call.params["token"]
        campaign = campaigns.get(token)
        if campaign is None:
            return _error(20, f"there is no campaign {token}")  # [I]; told before a bad body, which is UNCONFIRMED
        if call.endpoint == _GET:
            return Reply(200, {**campaign.definition, **campaign.basics(token)})
        campaign.advance(now_s)
        if call.endpoint == _STATS:
            return Reply(200, {"campaign_token": token, "detail": _detail(campaign.sends)})
        if call.endpoint == _UPDATE:
            return _update(call.body, token, campaign, now_s)
        del campaigns[token]
        return _done(token)

    def failed(self, endpoint: str, status: int) -> Reply:
        """Return the documented body; none for a status that the vendor does not have (424)."""
        if status == 404:
            return _error(20, "there is no such route")
        if status == 429:
            return _error(60, "wait for at least 5 seconds before trying again")
        if status == 500:
            return _error(1 if endpoint in (_CREATE, _UPDATE) else 0, "internal server error")
        if status == 503:
            return _error(2, "under maintenance")  # documented for create and update only
        return Reply(status)

    def headers(self, endpoint: str, window: Window | None, now_s: float) -> Mapping[str, str]:
        """Return none: the pages know no quota headers."""
        return {}

    def hooks(self, now_s: float) -> Sequence[Hook]:
        """Return none: the pages know no webhook."""
        return ()

    def targets(self, account: Account, segment: str) -> Collection[str] | None:
        """Return none: there are no segments here."""
        return None

    def _create(self, call: Call, account: Account, now_s: float) -> Reply:
        body = call.body
        if not isinstance(body, dict):
            return _NOT_JSON
        bad = find_fault(body, whole=True)
        if bad:
            return _error(*bad)
        token = f"{self._rng.getrandbits(128):032x}"
        # UNCONFIRMED: that the SDK key is like the Live one here.
        dev_only = call.params["api_key"] == account.credentials["dev_api_key"]
        self._campaigns[account.id][token] = _Campaign(as_read(body), now_s, dev_only=dev_only, since_s=now_s)
        return Reply(201, {"campaign_token": token}, effect=token)


def _error(code: int, message: str) -> Reply:
    # The doc shows no body of an error; three independent clients agree on this one [L].
    status, kind = _ERRORS[code]
    return Reply(status, {"code": code, "type": kind, "message": message})


def _done(effect: str | None = None) -> Reply:
    return Reply(200, {}, effect=effect)  # UNCONFIRMED: the body; the pages give the status only


_NOT_JSON: Final = _error(32, "the body must be a JSON object")


def _make_account(rng: random.Random) -> Account:
    keys = {name: f"{rng.getrandbits(128):032X}" for name in ("api_key", "dev_api_key", "sdk_api_key")}
    keys["dev_api_key"] = f"DEV{keys['dev_api_key'][3:]}"
    return Account(keys["api_key"], MappingProxyType({**keys, "rest_key": f"{rng.getrandbits(128):032x}"}))


def _made_in_dashboard(campaign_id: int, created_s: float) -> _Campaign:
    name = f"Campaign {campaign_id}"
    messages = [{"language": "en", "body": name}]
    definition = {"name": name, "live": False, "push_time": NOW, "messages": messages}
    return _Campaign(MappingProxyType(definition), created_s, from_api=False)


def _update(body: object, token: str, campaign: _Campaign, now_s: float) -> Reply:
    """Merge what the body has; one that leaves all as it was succeeds, and is not an effect."""
    if not campaign.from_api:
        return _error(12, "only campaigns that were created by the API can be updated")
    if not isinstance(body, dict):
        return _NOT_JSON
    # The page wants as many parameters as at creation, and its own sample sends two: any number will do.
    bad = find_fault(body, whole=False)
    if bad:
        return _error(*bad)
    if campaign.completed and body.get("live"):
        return _error(31, "live: a completed campaign cannot be set live again")  # UNCONFIRMED: the code
    # UNCONFIRMED: one of two that exclude each other takes the place of the other.
    kept = {key: value for key, value in campaign.definition.items() if EXCLUSIVE.get(key) not in body}
    changed = {**kept, **as_read(body)}
    if changed == campaign.definition:
        return _done()
    campaign.change(changed, now_s)
    return _done(token)


def _list(query: Mapping[str, str], campaigns: _Campaigns) -> Reply:
    start = _to_int(query.get("from", "0"))
    limit = _to_int(query.get("limit", str(_LIST_DEFAULT)))
    if start is None:
        return _error(31, "from must be a number of at least 0")
    if limit is None or limit > _LIST_MAX:
        return _error(31, f"limit must be a number of at most {_LIST_MAX}")
    for name in ("live", "from_api"):
        if query.get(name, "true") not in ("true", "false"):
            return _error(31, f"{name} must be true or false")
    # UNCONFIRMED: a campaign that is completed still reads live; the filter counts it as such.
    found = (
        {
            **campaign.basics(token),
            **{key: campaign.definition[key] for key in ("name", "live", *TIMES) if key in campaign.definition},
        }
        for token, campaign in reversed(campaigns.items())
        if query.get("live") in (None, str(campaign.live).lower())
        and query.get("from_api") in (None, str(campaign.from_api).lower())
    )
    return Reply(200, list(islice(found, start, start + limit)))


def _to_int(text: str) -> int | None:
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else None


def _detail(sends: Sequence[float]) -> list[dict[str, object]]:
    """Return the statistics of an app that is installed on one device: `sent` is how often the campaign went out."""
    dates = [f"{datetime.fromtimestamp(sent_s, UTC):%Y-%m-%d}" for sent_s in sends]
    idle = {"direct_open": 0, "influenced_open": 0, "reengaged": 0, "errors": 0}
    return [
        {"date": date, "sent": dates.count(date), "sent_optins": dates.count(date), **idle}
        for date in dict.fromkeys(dates)
    ]


def _time_of(definition: Mapping[str, object]) -> tuple[str, object] | None:
    return next(((name, definition[name]) for name in TIMES if name in definition), None)


def _span_s(definition: Mapping[str, object], since_s: float) -> tuple[float, float]:
    """Return when a live campaign goes out, and when it is completed."""
    if "local_push_time" in definition:
        local_s = _to_seconds(definition["local_push_time"])
        return max(local_s - _FIRST_ZONE_S, since_s), local_s + _LAST_ZONE_S
    if definition["push_time"] == NOW:
        return since_s, since_s + _NOW_RUNS_S
    push_s = _to_seconds(definition["push_time"])
    return max(push_s, since_s), push_s  # UNCONFIRMED: one that is set live after its time goes out at once


def _to_seconds(time: object) -> float:
    return datetime.fromisoformat(str(time)).replace(tzinfo=UTC).timestamp()


PROVIDER: Final = ProviderSpec(
    name="batch",
    endpoints=(
        # The literal paths stand before the one that takes any token.
        Endpoint(_CREATE, (("POST", "/1.1/{api_key}/campaigns/create"),), None),
        Endpoint(_UPDATE, (("POST", "/1.1/{api_key}/campaigns/update/{token}"),), None),
        Endpoint(_DELETE, (("POST", "/1.1/{api_key}/campaigns/delete/{token}"),), None),
        Endpoint(_LIST, (("GET", "/1.1/{api_key}/campaigns/list"),), None),
        Endpoint(_STATS, (("GET", "/1.1/{api_key}/campaigns/stats/{token}"),), None),
        Endpoint(_GET, (("GET", "/1.1/{api_key}/campaigns/{token}"),), None),
    ),
    build=Batch,
)
