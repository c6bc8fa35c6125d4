"""The API's routes in both families, and the judge that every call of theirs goes through."""

from __future__ import annotations

import math
import random
import uuid
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import orjson

from bulksend.emulators import Account, Call, Endpoint, Hook, ProviderSpec, Reply, Setup
from bulksend.emulators.stream.answers import RefusedError, refuse, succeed
from bulksend.emulators.stream.auth import identify, make_accounts, sign
from bulksend.emulators.stream.campaigns import Campaigns
from bulksend.emulators.stream.collation import COLLATIONS
from bulksend.emulators.stream.fields import object_, texts
from bulksend.emulators.stream.moments import dialect_of, moment_at
from bulksend.emulators.stream.request import Outcome, Request
from bulksend.emulators.stream.segments import Segments
from bulksend.emulators.stream.users import Users
from bulksend.emulators.window import Window

__all__ = ["PROVIDER", "Stream"]

_DELETED_USERS_MAX: Final = 100_000  # UNCONFIRMED: any; users are here for the fixtures of campaigns


class _App:
    """What one account holds."""

    def __init__(self, setup: Setup, rng: random.Random) -> None:
        now = moment_at(setup.started_at_s)
        self.rng = rng
        self.users = Users(now)
        app_pk, rank = rng.randrange(100_000, 1_000_000), COLLATIONS[setup.collation]
        self.segments = Segments(self.users, setup.segments, rng, app_pk, now, rank)
        self.campaigns = Campaigns(self.users, self.segments, map(str, setup.campaigns), rng, now)

    def upsert_users(self, request: Request) -> Outcome:
        """Add or replace users."""
        users = self.users.upsert(object_(request.body, "users") or {}, request.now)
        shown = {user.id: user.as_json(request.dialect) for user in users}
        return Outcome({"users": shown, "membership_deletion_task_id": ""}, users[0].id)

    def delete_users(self, request: Request) -> Outcome:
        """Delete users, which the vendor does in a task and the emulator at once."""
        gone = self.users.delete(texts(request.body, "user_ids", _DELETED_USERS_MAX) or ())
        task = str(uuid.UUID(int=self.rng.getrandbits(128), version=4))
        return Outcome({"task_id": task}, gone[0] if gone else None)


@dataclass(frozen=True, slots=True)
class _Operation:
    """An operation by the vendor's name, and who does it; `path` is that of the unversioned family."""

    endpoint: str
    name: str
    method: str
    path: str
    handler: Callable[[_App], Callable[[Request], Outcome]]

    @property
    def routes(self) -> tuple[tuple[str, str], ...]:
        prefix = "/api/v2" if self.path.startswith("/users") else "/api/v2/chat"
        return ((self.method, self.path), (self.method, prefix + self.path))

    @property
    def status(self) -> int:
        """201 for whatever is posted or put, queries too."""
        return 201 if self.method in ("POST", "PUT") else 200


_OPERATIONS: Final = (
    _Operation("stream.campaign.create", "CreateCampaign", "POST", "/campaigns", lambda app: app.campaigns.create),
    _Operation("stream.campaign.query", "QueryCampaigns", "POST", "/campaigns/query", lambda app: app.campaigns.query),
    _Operation("stream.campaign.get", "GetCampaign", "GET", "/campaigns/{id:[^/]+}", lambda app: app.campaigns.get),
    _Operation(
        "stream.campaign.update", "UpdateCampaign", "PUT", "/campaigns/{id:[^/]+}", lambda app: app.campaigns.update
    ),
    _Operation(
        "stream.campaign.delete", "DeleteCampaign", "DELETE", "/campaigns/{id:[^/]+}", lambda app: app.campaigns.delete
    ),
    _Operation(
        "stream.campaign.start", "StartCampaign", "POST", "/campaigns/{id:[^/]+}/start", lambda app: app.campaigns.start
    ),
    _Operation(
        "stream.campaign.stop", "StopCampaign", "POST", "/campaigns/{id:[^/]+}/stop", lambda app: app.campaigns.stop
    ),
    _Operation("stream.segment.create", "CreateSegment", "POST", "/segments", lambda app: app.segments.create),
    _Operation("stream.segment.query", "QuerySegments", "POST", "/segments/query", lambda app: app.segments.query),
    _Operation("stream.segment.get", "GetSegment", "GET", "/segments/{id:[^/]+}", lambda app: app.segments.get),
    _Operation(
        "stream.segment.update", "UpdateSegment", "PUT", "/segments/{id:[^/]+}", lambda app: app.segments.update
    ),
    _Operation(
        "stream.segment.delete", "DeleteSegment", "DELETE", "/segments/{id:[^/]+}", lambda app: app.segments.delete
    ),
    _Operation(
        "stream.targets.add",
        "AddSegmentTargets",
        "POST",
        "/segments/{id:[^/]+}/addtargets",
        lambda app: app.segments.add_targets,
    ),
    _Operation(
        "stream.targets.delete",
        "DeleteSegmentTargets",
        "POST",
        "/segments/{id:[^/]+}/deletetargets",
        lambda app: app.segments.delete_targets,
    ),
    _Operation(
        "stream.targets.query",
        "QuerySegmentTargets",
        "POST",
        "/segments/{id:[^/]+}/targets/query",
        lambda app: app.segments.query_targets,
    ),
    _Operation(
        "stream.targets.exists",
        "SegmentTargetExists",
        "GET",
        "/segments/{id:[^/]+}/target/{target_id:[^/]+}",
        lambda app: app.segments.target_exists,
    ),
    _Operation("stream.users", "UpdateUsers", "POST", "/users", lambda app: app.upsert_users),
    _Operation("stream.users", "DeleteUsers", "POST", "/users/delete", lambda app: app.delete_users),
)


def _operation(endpoint: str, path: str) -> _Operation:
    """Find the operation of a call; only that of users has two behind one endpoint."""
    found = [each for each in _OPERATIONS if each.endpoint == endpoint]
    return found[-1] if path.endswith("/delete") else found[0]


class Stream:
    """Campaigns, segments and the users of them, for a number of accounts, each an app of its own."""

    def __init__(self, setup: Setup) -> None:
        self._rng = setup.rng
        self._started_s = setup.started_at_s
        self._accounts = {account.id: account for account in make_accounts(setup.accounts, setup.rng)}
        self._apps = {api_key: _App(setup, setup.rng) for api_key in self._accounts}

    @property
    def accounts(self) -> Sequence[Account]:
        """The accounts that it accepts, each with its `api_key` and `api_secret`."""
        return tuple(self._accounts.values())

    def authenticate(self, call: Call) -> Account | Reply:
        """Match the api_key and the token that its secret signed."""
        name = _operation(call.endpoint, call.path).name
        return identify(call, self._accounts, name, self._started_s + call.now_s)

    def judge(self, call: Call, account: Account) -> Reply:
        """Validate, make the effect, and answer; what has begun by now is settled first."""
        operation, app, now = _operation(call.endpoint, call.path), self._apps[account.id], self._moment(call.now_s)
        app.campaigns.settle(now)
        # UNCONFIRMED: a stop without a body; one SDK sends none.
        raw = {} if call.body is None and call.endpoint == "stream.campaign.stop" else call.body
        params = call.params
        request = Request(
            params.get("id", ""), params.get("target_id", ""), call.query, raw, now, dialect_of(call.path)
        )
        try:
            outcome = operation.handler(app)(request)
        except RefusedError as refused:
            return refuse(operation.name, refused.reason, refused.status)
        return succeed(operation.status, outcome.fields, outcome.effect, outcome.logged)

    def failed(self, endpoint: str, status: int) -> Reply:
        """Return the documented body: code 9 over the limit, 16 for an unknown path, -1 for trouble."""
        reason = {404: "Not Found", 429: "Too many requests"}.get(status, "Internal Server Error")
        return refuse(_operation(endpoint, "").name if endpoint else "", reason, status)

    def headers(self, endpoint: str, window: Window | None, now_s: float) -> Mapping[str, str]:
        """Return X-RateLimit-*, of the longest of the rates; the reset is in seconds since the epoch.

        It is never before the moment when a call is admitted again.
        """
        if window is None:
            return {}
        rate = max(window.limit.rates, key=lambda each: each.seconds)
        left = window.remaining(now_s)
        wait_s = rate.seconds if left else window.wait_s(now_s)
        return {
            "X-RateLimit-Limit": str(rate.calls),
            "X-RateLimit-Remaining": str(left),
            "X-RateLimit-Reset": str(math.ceil(self._started_s + now_s + wait_s)),
        }

    def hooks(self, now_s: float) -> Sequence[Hook]:
        """Return campaign.started and campaign.completed as they fall due."""
        return tuple(self._hooks(self._moment(now_s)))

    def targets(self, account: Account, segment: str) -> Collection[str] | None:
        """Return whom a segment targets, by its list or by its filter."""
        return self._apps[account.id].segments.members(segment)

    def _hooks(self, now: int) -> Iterator[Hook]:
        for api_key, app in self._apps.items():
            app.campaigns.settle(now)
            for event in app.campaigns.events(now):
                body = orjson.dumps(event)
                headers = {
                    "X-Webhook-Id": str(uuid.UUID(int=self._rng.getrandbits(128), version=4)),
                    "X-Api-Key": api_key,
                    "X-Signature": sign(self._accounts[api_key].credentials["api_secret"], body),
                }
                yield Hook(body, headers)

    def _moment(self, now_s: float) -> int:
        return moment_at(self._started_s + now_s)


def _endpoints() -> Iterator[Endpoint]:
    """Yield each endpoint once; the vendor publishes no limit for any."""
    for name in dict.fromkeys(each.endpoint for each in _OPERATIONS):
        routes = [route for each in _OPERATIONS if each.endpoint == name for route in each.routes]
        yield Endpoint(name, tuple(routes), None)


PROVIDER: Final = ProviderSpec("stream", tuple(_endpoints()), Stream)
