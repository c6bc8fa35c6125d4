"""Batch push campaigns (MEP, API 1.1): create, update, delete, list, get, stats.

Facts: the vendor's pages under doc.batch.com, "Campaigns API". There is no idempotency key: a campaign is made as a
draft, which is harmless to repeat, and set live by its token, which can be read back with a Live key. No limit is
published; after a 429 nothing is called for five seconds at least.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote

import msgspec
import orjson

from bulksend.fields import Fault, Field, Fields, Kind
from bulksend.model import (
    Absent,
    Accepted,
    Account,
    Call,
    Denied,
    Endpoint,
    Found,
    Outcome,
    Probe,
    Rejected,
    Reply,
    Step,
    Throttled,
    Unknown,
    Untold,
    Verdict,
)
from bulksend.providers.base import (
    Flow,
    Plain,
    SendName,
    Tables,
    mark_of,
    read_common,
    read_json,
    read_object,
    with_query,
)
from bulksend.providers.batch.tables import (
    BODIES,
    CODES_MOST,
    CREATE,
    CREATE_LIVE,
    DELETE,
    ENDPOINTS,
    GET,
    LIST,
    LIST_DEFAULT,
    LIST_PAGE,
    PROBE_PAGES,
    TABLES,
    THROTTLED_AT_LEAST_S,
    UPDATE,
)

__all__ = ["Batch"]

_REASONS = {
    10: "AUTHENTICATION_INVALID",
    12: "API_MISUSE",
    20: "ROUTE_NOT_FOUND",
    30: "MISSING_PARAMETER",
    31: "MALFORMED_PARAMETER",
    32: "MALFORMED_JSON_BODY",
    60: "TOO_MANY_REQUESTS",
}
_TOKEN = re.compile(r"[0-9a-fA-F-]{8,64}")
LIVE_KEY = "needs the app's Live API key, and this account's api_key is another"


@dataclass(frozen=True, slots=True)
class Batch(Plain):
    """The provider `batch`."""

    name: str = "batch"
    title: str = "Batch push campaigns"
    base_url: str = "https://api.batch.com"
    account_ids: Fields = field(
        default_factory=lambda: {
            "api_key": Field(
                Kind.TEXT,
                "The app's Live, Dev or SDK key: one app on one platform. Lookups need the Live key.",
                required=True,
                pattern=r"[A-Za-z0-9_.-]+",
                pattern_text="an API key of letters and digits",
            )
        }
    )
    account_secrets: Fields = field(
        default_factory=lambda: {
            "rest_key": Field(
                Kind.TEXT, "The company's REST API key: env:NAME, file:PATH or cmd:COMMAND.", required=True
            )
        }
    )
    endpoints: Mapping[str, Endpoint] = field(default_factory=lambda: {one.name: one for one in ENDPOINTS})
    bodies: Mapping[str, Fields] = field(default_factory=lambda: BODIES)
    tables: Mapping[str, Fields] = field(default_factory=lambda: TABLES)

    def review(self, tables: Tables, *, has_audience: bool, chunk: int | None, syncs: bool = False) -> list[Fault]:
        """Check what the table says together: when it is sent, and how."""
        launch = tables.get("launch")
        if launch is None:
            return [Fault("launch", "is missing: a job for batch has a [launch] table")]
        faults = _exclusive(launch, "launch")
        if launch.get("live") is False and launch.get("send") == "direct":
            faults.append(Fault("launch.live", 'false makes drafts only, send = "direct" sends: keep one of the two'))
        return faults

    def notes(self, tables: Tables, *, sends: int, chunk: int | None) -> list[Fault]:
        """Return what a person should know: that nobody gets a draft, and when a lost reply cannot be looked up."""
        launch = tables.get("launch", {})
        if launch.get("send") == "direct":
            text = "direct: a create whose reply is lost is looked for with a Live key only; else it stays unknown"
            return [Fault("launch.send", text)]
        if launch.get("live") is False:
            return [Fault("launch.live", "false: the campaigns stay drafts, nobody gets a push")]
        return []

    def flow(self, tables: Tables) -> Flow:
        """A draft and its setting live for each send; one live create with `direct`; live = false: the draft alone."""
        launch = tables.get("launch", {})
        if launch.get("send") == "direct":
            return Flow(prepare=(), steps=(("launch", CREATE_LIVE),), way="direct")
        if launch.get("live") is False:
            return Flow(prepare=(), steps=(("launch", CREATE),), way="drafts")
        return Flow(prepare=(), steps=(("launch", CREATE), ("launch", UPDATE)), way="draft, then live")

    def check(self, table: str, body: Mapping[str, object], *, now: float) -> list[Fault]:
        """Check that the push_time is not past, and that custom_payload is JSON."""
        last = _last_moment(body)
        faults = []
        if last is not None and last < now:
            field = "push_time" if "push_time" in body else "local_push_time"
            faults.append(Fault(f"{table}.{field}", "is in the past", late=True))
        if table in (CREATE.name, UPDATE.name):
            faults += _exclusive(body, table, partial=table == UPDATE.name)
        payload = body.get("custom_payload")
        if isinstance(payload, str) and "${" not in payload:
            try:
                orjson.loads(payload)
            except orjson.JSONDecodeError:
                faults.append(Fault(f"{table}.custom_payload", "must be JSON, written as a text"))
        return faults

    def bounds(self, table: str, body: Mapping[str, object]) -> Mapping[str, int]:
        """The custom payload is parsed."""
        return {"custom_payload": 0}

    def step(
        self, endpoint: Endpoint, table: str, body: Mapping[str, object], account: Account, *, name: SendName
    ) -> Step:
        """Write the draft, its setting live (the whole body again, as the update page asks), or the live create."""
        wire = {key: value for key, value in body.items() if key != "send"}
        wire["live"] = endpoint is not CREATE
        if endpoint is CREATE_LIVE:
            wire["name"] = f"{wire['name']} [{mark_of(account, name)}]"
        return msgspec.structs.replace(self.request(endpoint, wire, account, ref=None), not_after=_last_moment(body))

    def request(self, endpoint: Endpoint, body: Mapping[str, object], account: Account, *, ref: str | None) -> Step:
        """Write any call; push_time goes out in UTC without a zone, time_to_live in whole seconds."""
        if endpoint.reads:
            return Step(endpoint, ref=ref, path=with_query(endpoint.path, body))
        if endpoint is CREATE and body.get("live") is True:
            endpoint = CREATE_LIVE
        if endpoint is DELETE:
            return Step(endpoint, ref=ref)
        wire = dict(body)
        if isinstance(at := wire.get("push_time"), float):
            wire["push_time"] = datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%S")
        if isinstance(ttl_s := wire.get("time_to_live"), float):
            wire["time_to_live"] = int(ttl_s)
        return Step(endpoint, orjson.dumps(wire), ref)

    def following(self, endpoint: Endpoint, asked: Mapping[str, object], answered: object) -> dict[str, object] | None:
        """Count on from the campaigns that came; a page that is not full is the last."""
        limit, start = asked.get("limit", LIST_DEFAULT), asked.get("from", 0)
        if endpoint is not LIST or not isinstance(answered, list) or not isinstance(limit, int):
            return None
        if len(answered) < limit or not isinstance(start, int):
            return None
        return {**asked, "from": start + len(answered)}

    def headers(self, account: Account) -> Mapping[str, str]:
        """The company's REST key in a header of its own."""
        return {"X-Authorization": account.secrets["rest_key"].reveal(), "Content-Type": "application/json"}

    def call(self, step: Step, account: Account, headers: Mapping[str, str], *, repeats: int) -> Call:
        """Return the request; the app's key is part of the path."""
        path = (step.path or step.endpoint.path).replace("{app}", quote(account.ids["api_key"], safe=""))
        return Call(
            step.endpoint,
            account.base_url + path.replace("{ref}", quote(step.ref or "", safe="")),
            headers,
            step.body,
        )

    def read(self, step: Step, reply: Reply, *, repeats: int) -> Outcome:
        """A create is accepted by its token; the vendor's error code becomes the reason."""
        endpoint = step.endpoint
        common = read_common(reply, at_least_s=THROTTLED_AT_LEAST_S)
        reason = _reason(reply)
        match common:
            case None:
                pass
            case Denied() if endpoint.reads and reply.status == 403:
                return Rejected(f"{reason}: the lookup {LIVE_KEY}", reply.status)
            case Denied(status=status):
                return Denied(f"the vendor refuses the credentials{_code(reply)}", status)
            case Rejected(status=status):
                return Rejected(reason, status)
            case Throttled() | _:
                return common
        if reply.status in (400, 424):
            # A campaign that an earlier call has set live may be completed by now, and cannot be set live again.
            if endpoint is UPDATE and repeats:
                return Unknown(reason, reply.status, refused=True)
            return Rejected(reason, reply.status)
        if endpoint in (CREATE, CREATE_LIVE):
            token = _token_of(read_json(reply.body))
            if token is None:
                return Unknown(f"HTTP {reply.status} without a campaign_token", reply.status)
            return Accepted(token)
        if endpoint.reads:
            decoded = read_json(reply.body)
            promised = isinstance(decoded, list) if endpoint is LIST else _token_of(decoded) is not None
            if not promised:
                return Unknown(f"HTTP {reply.status} without the documented body", reply.status)
            return Accepted()
        # The pages say nothing of the body of an update or a delete, but an error page of something between is none.
        if reply.body.strip() and read_json(reply.body) is None:
            return Unknown(f"HTTP {reply.status} without JSON", reply.status)
        return Accepted()

    def probe(self, endpoint: Endpoint, account: Account, *, name: SendName, ref: str | None) -> Probe | None:
        """Read `live` back for a campaign that was to be set live; look for a live create by the mark in its name."""
        if endpoint is UPDATE and ref is not None:
            return Probe(Step(GET, ref=ref), ref)
        if endpoint is CREATE_LIVE:
            return _list_probe(mark_of(account, name), 0)
        return None

    def read_probe(self, probe: Probe, reply: Reply) -> Verdict:
        """A campaign that is not live was not sent; one that is not in the list proves nothing."""
        if reply.status == 403:
            return Untold(f"{_reason(reply)}: the lookup {LIVE_KEY}")
        decoded = read_json(reply.body) if reply.status == 200 else None
        if probe.step.endpoint is GET:
            live = decoded.get("live") if isinstance(decoded, dict) else None
            if not isinstance(live, bool):
                return Untold(f"the lookup answers {_reason(reply)}")
            return Found(probe.wanted) if live else Absent()
        if not isinstance(decoded, list):
            return Untold(f"the list of campaigns answers {_reason(reply)}")
        for one in decoded:
            if not isinstance(one, dict):
                continue
            name, token = one.get("name"), _token_of(one)
            if isinstance(name, str) and f"[{probe.wanted}]" in name and token is not None:
                return Found(token)
        if len(decoded) < LIST_PAGE or not probe.pages_left:
            return Untold("no campaign of this name is in the list, which is no proof")
        return _list_probe(probe.wanted, PROBE_PAGES - probe.pages_left)


def _list_probe(wanted: str, page: int) -> Probe:
    # Pages overlap, since others may create in the meantime: the list is newest first.
    query = {"from": page * (LIST_PAGE - 10), "limit": LIST_PAGE, "from_api": True}
    return Probe(Step(LIST, path=with_query(LIST.path, query)), wanted, PROBE_PAGES - 1 - page)


def _last_moment(body: Mapping[str, object]) -> float | None:
    """Return when a campaign's time has come for everybody: a local one comes last twelve hours west of Greenwich."""
    at, local = body.get("push_time"), body.get("local_push_time")
    if isinstance(at, float):
        return at
    try:
        when = datetime.fromisoformat(local) if isinstance(local, str) else local
    except ValueError:
        return None  # told with the field
    if not isinstance(when, datetime) or not 1970 < when.year < 9999:
        return None
    return when.replace(tzinfo=UTC).timestamp() + 12 * 3600


def _exclusive(body: Mapping[str, object], path: str, *, partial: bool = False) -> list[Fault]:
    """A campaign is sent at one time, in UTC or in each receiver's own, and a click leads to one place."""
    faults = []
    if "push_time" in body and "local_push_time" in body:
        faults.append(Fault(f"{path}.local_push_time", "stands beside push_time: keep one of the two"))
    if not partial and "push_time" not in body and "local_push_time" not in body:
        faults.append(Fault(f"{path}.push_time", 'is required: "now", a time, or local_push_time in its place'))
    if "deeplink" in body and "landing" in body:
        faults.append(Fault(f"{path}.landing", "stands beside deeplink: keep one of the two"))
    return faults


def _token_of(campaign: object) -> str | None:
    token = campaign.get("campaign_token") if isinstance(campaign, dict) else None
    return token if isinstance(token, str) and _TOKEN.fullmatch(token) else None


def _code(reply: Reply) -> str:
    """Return the vendor's error code in words, after a comma; nothing where the reply has none."""
    code = (read_object(reply.body) or {}).get("code")
    if isinstance(code, bool) or not isinstance(code, int) or not 0 <= code < CODES_MOST:
        return ""
    return f", {_REASONS[code]}" if code in _REASONS else f", code {code}"


def _reason(reply: Reply) -> str:
    return f"HTTP {reply.status}{_code(reply)}"
