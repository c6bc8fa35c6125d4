"""Insider One, Single Web Push: create v1, launch v1 and v2, delete v1, and the statistics.

Facts: the vendor's pages "Create Single Web Pushes", "Launch Single Web Pushes v2" and "Delete Single Web Pushes"
(academy.insiderone.com/v1/docs). There is no idempotency key and no route that reads a campaign back.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import lru_cache
from math import isfinite
from urllib.parse import quote

import orjson

from bulksend.fields import Fault, Field, Fields, Kind
from bulksend.model import (
    Accepted,
    Account,
    Call,
    Endpoint,
    Limit,
    Outcome,
    Rejected,
    Repeat,
    Reply,
    Step,
    Unknown,
)
from bulksend.providers.base import Flow, Plain, SendName, Tables, read_common, read_object

__all__ = ["Insider"]

TITLE_MOST = 100
DESCRIPTION_MOST = 255
DESCRIPTION_MOST_WITH_BANNER = 30
TTL_MOST_S = 240 * 3600

CREATE = Endpoint("insider.create", "POST", "/v1/single", Limit.parse("30/min"), Repeat.SAFE)
LAUNCH = Endpoint("insider.launch", "POST", "/v2/single/{ref}", Limit.parse("6000/min"), Repeat.NEVER)
LAUNCH_V1 = Endpoint("insider.launch_v1", "POST", "/v1/single/{ref}", Limit.parse("30/min"), Repeat.NEVER)
DELETE = Endpoint("insider.delete", "DELETE", "/v1/single/{ref}", Limit.parse("30/min"), Repeat.SAFE)
STATISTICS = Endpoint("insider.statistics", "POST", "/v1/statistics/{ref}", Limit.parse("30/min"), Repeat.SAFE)

_LOCALE = Field(
    Kind.TEXT,
    about="A locale such as en_GB, or all_ALL for every language.",
    pattern=r"[a-z]{2,3}_[A-Z]{2}|all_ALL",
    pattern_text='a locale such as "en_GB", or "all_ALL"',
)
_CREATE_BODY: Fields = {
    "title": Field(
        Kind.TEXT, "The campaign's name in the panel, unique in the account.", required=True, most_chars=TITLE_MOST
    ),
    "language": Field(
        Kind.TEXT, _LOCALE.about, required=True, pattern=_LOCALE.pattern, pattern_text=_LOCALE.pattern_text
    ),
    "is_all": Field(
        Kind.BOOLEAN, "true: one launch to every subscriber; false (default): launched to targets.", fixed=True
    ),
}
_LAUNCH_BODY: Fields = {
    "title": Field(Kind.TEXT, "The push's title.", required=True, most_chars=TITLE_MOST),
    "description": Field(
        Kind.TEXT,
        f"The push's text; at most {DESCRIPTION_MOST_WITH_BANNER} characters with a banner.",
        required=True,
        most_chars=DESCRIPTION_MOST,
    ),
    "image": Field(Kind.TEXT, "The icon's https address.", required=True, https=True),
    "banner": Field(Kind.TEXT, "The large picture's https address.", https=True),
    "link": Field(Kind.TEXT, "Where a click leads.", required=True),
    "include_unengaged": Field(Kind.BOOLEAN, "true: unengaged users too."),
    "ttl": Field(
        Kind.DURATION,
        'How long the vendor tries, in words ("1 day"), at most 240 hours.',
        required=True,
        least_s=1,
        most_s=TTL_MOST_S,
        whole_s=True,
    ),
    "language": _LOCALE,
    "target": Field(
        Kind.TABLE,
        "Who gets it: one attribute and its values.",
        fields={
            "attribute": Field(
                Kind.TEXT,
                "d_ and a default attribute's name, or c_ and a custom one's.",
                required=True,
                pattern=r"[dc]_\S.*",
                pattern_text='an attribute that begins with d_ (default) or c_ (custom), such as "c_store_id"',
            ),
            "values": Field(Kind.LIST, "The attribute's values to reach.", required=True),
        },
    ),
}
_DAY = {"pattern": r"\d{4}-\d\d-\d\d", "pattern_text": 'a day such as "2026-04-01"'}
_STATISTICS_BODY: Fields = {
    "start_date": Field(
        Kind.TEXT, "The first day.", required=True, pattern=_DAY["pattern"], pattern_text=_DAY["pattern_text"]
    ),
    "end_date": Field(
        Kind.TEXT, "The last day.", required=True, pattern=_DAY["pattern"], pattern_text=_DAY["pattern_text"]
    ),
    "page": Field(Kind.INTEGER, "From 1.", least=1),
    "per_page": Field(Kind.INTEGER, "Campaigns per page; 10 by default.", least=1, most=20),
    "campaign_id": Field(Kind.INTEGER, "campaign-metrics: the builderId that overall-metrics gave.", least=1),
}
BODIES: Mapping[str, Fields] = {
    CREATE.name: _CREATE_BODY,
    LAUNCH.name: _LAUNCH_BODY,
    LAUNCH_V1.name: _LAUNCH_BODY,
    DELETE.name: {},
    STATISTICS.name: _STATISTICS_BODY,
}
STATISTICS_REFS = ("overall-metrics", "campaign-metrics", "top-metrics")

TABLES: Mapping[str, Fields] = {
    "create": {
        "per": Field(
            Kind.TEXT,
            "job (default): one campaign for all launches; row: one for each, at 30/min. Not part of the body.",
            choices=("job", "row"),
            fixed=True,
        ),
        **_CREATE_BODY,
    },
    "launch": {
        "campaign_id": Field(
            Kind.INTEGER, "An existing campaign to launch, in place of [create]; not part of the body.", least=1
        ),
        **_LAUNCH_BODY,
    },
}


@dataclass(frozen=True, slots=True)
class Insider(Plain):
    """The provider `insider`."""

    name: str = "insider"
    title: str = "Insider One web push"
    base_url: str = "https://web-push.api.useinsider.com"
    account_ids: Fields = field(
        default_factory=lambda: {"partner_id": Field(Kind.TEXT, "InOne Settings > Account Settings.", required=True)}
    )
    account_secrets: Fields = field(
        default_factory=lambda: {
            "token": Field(Kind.TEXT, "The web-push API key: env:NAME, file:PATH or cmd:COMMAND.", required=True)
        }
    )
    endpoints: Mapping[str, Endpoint] = field(
        default_factory=lambda: {one.name: one for one in (CREATE, LAUNCH, LAUNCH_V1, DELETE, STATISTICS)}
    )
    bodies: Mapping[str, Fields] = field(default_factory=lambda: BODIES)
    tables: Mapping[str, Fields] = field(default_factory=lambda: TABLES)

    def review(self, tables: Tables, *, has_audience: bool, chunk: int | None, syncs: bool = False) -> list[Fault]:
        """Check what the tables say together: which campaign is launched, and to whom."""
        faults = []
        create, launch = tables.get("create"), tables.get("launch")
        if launch is None:
            return [Fault("launch", "is missing: a job for insider has a [launch] table")]
        if create is None and "campaign_id" not in launch:
            faults.append(
                Fault("launch", "there is no campaign to launch: add a [create] table, or campaign_id to [launch]")
            )
        if create is not None and "campaign_id" in launch:
            faults.append(Fault("launch.campaign_id", "stands beside [create]: keep one of the two"))
        if create is None:
            return faults
        if create.get("per") == "row" and "${" not in str(create.get("title")):
            text = 'must differ from row to row with per = "row", since titles are unique: name a ${column} in it'
            faults.append(Fault("create.title", text))
        is_all = create.get("is_all", False)
        if is_all is True and has_audience:
            text = "true sends to every subscriber at once, once: it cannot stand beside [audience]"
            faults.append(Fault("create.is_all", text))
        if is_all is True and "target" in launch:
            faults.append(Fault("launch.target", "cannot stand beside is_all = true in [create]"))
        if is_all is not True and "target" not in launch:
            text = "is required: without is_all = true in [create], the vendor launches to a target only"
            faults.append(Fault("launch.target", text))
        return faults

    def notes(self, tables: Tables, *, sends: int, chunk: int | None) -> list[Fault]:
        """Return what a person should know; here, that a campaign per row is bound to the create's limit."""
        if tables.get("create", {}).get("per") == "row" and sends > 1:
            text = '"row" makes a campaign for each of the sends, and creates are limited to 30/min'
            return [Fault("create.per", f"{text}; one campaign for all (the default) launches at 6000/min")]
        return []

    def complete(self, tables: Tables) -> dict[str, dict[str, object]]:
        """Repeat the campaign's language in a targeted launch, as the vendor's segmented sample does."""
        full = {name: dict(table) for name, table in tables.items()}
        launch, create = full.get("launch", {}), full.get("create", {})
        if "target" in launch and "language" in create:
            launch.setdefault("language", create["language"])
        return full

    def flow(self, tables: Tables) -> Flow:
        """One create for the job (none with campaign_id) or for each send, one launch for each send."""
        create, launch = (("create", CREATE),), (("launch", LAUNCH),)
        if tables.get("create", {}).get("per") == "row":
            return Flow(prepare=(), steps=create + launch, way="a campaign per row")
        hint = "its title may be taken: give it another, or name the campaign with campaign_id in [launch]"
        return Flow(prepare=create if "create" in tables else (), steps=launch, hint=hint)

    def check(self, table: str, body: Mapping[str, object], *, now: float) -> list[Fault]:
        """Check a rendered body across its fields: the short text beside a banner, the target's values."""
        if table not in ("launch", LAUNCH.name, LAUNCH_V1.name):
            return []
        faults = []
        description = body.get("description")
        if "banner" in body and isinstance(description, str) and len(description) > DESCRIPTION_MOST_WITH_BANNER:
            most = DESCRIPTION_MOST_WITH_BANNER
            text = f"has {len(description)} characters, at most {most} are allowed with a banner"
            faults.append(Fault(f"{table}.description", text))
        target = body.get("target")
        if isinstance(target, Mapping) and isinstance(values := target.get("values"), list):
            for value in values:
                if (
                    isinstance(value, list | Mapping)
                    or value is None
                    or (isinstance(value, float) and not isfinite(value))
                ):
                    text = 'holds texts or numbers only; a list column stands alone: values = "${column[]}"'
                    faults.append(Fault(f"{table}.target.values", text))
                    break
                if isinstance(value, str) and not value.strip():
                    faults.append(Fault(f"{table}.target.values", "must not hold a blank value"))
                    break
        return faults

    def bounds(self, table: str, body: Mapping[str, object]) -> Mapping[str, int]:
        """A description is short beside a banner."""
        return {"description": DESCRIPTION_MOST_WITH_BANNER} if table == "launch" and "banner" in body else {}

    def step(
        self, endpoint: Endpoint, table: str, body: Mapping[str, object], account: Account, *, name: SendName
    ) -> Step:
        """Write the body as the vendor's page has it; partner_id is a text, ttl a text of seconds."""
        wire = dict(body)
        ref = wire.pop("campaign_id", None)
        wire.pop("per", None)
        return self.request(endpoint, wire, account, ref=None if ref is None else str(ref))

    def request(self, endpoint: Endpoint, body: Mapping[str, object], account: Account, *, ref: str | None) -> Step:
        """Write any call's body; a delete has one too, and the statistics' `ref` is one of their three routes."""
        if endpoint is STATISTICS and ref not in STATISTICS_REFS:
            raise ValueError(f"ref must be one of {', '.join(STATISTICS_REFS)}")
        if ref == "campaign-metrics" and "campaign_id" not in body:
            raise ValueError("campaign_id is required for campaign-metrics: the builderId of overall-metrics")
        wire: dict[str, object] = {"partner_id": account.ids["partner_id"], **body}
        if "ttl" in wire:
            ttl_s = wire["ttl"]
            assert isinstance(ttl_s, float)
            wire["ttl"] = str(int(ttl_s))
        if wire.pop("include_unengaged", False):
            # The page's table says include_unengaged, its samples include_unengage; which one works is not known.
            wire["include_unengaged"] = wire["include_unengage"] = True
        return Step(endpoint, orjson.dumps(wire), ref)

    def following(self, endpoint: Endpoint, asked: Mapping[str, object], answered: object) -> dict[str, object] | None:
        """Count pages on until `total` campaigns have come."""
        if endpoint is not STATISTICS or not isinstance(answered, Mapping):
            return None
        page, per_page, total = (answered.get(name) for name in ("page", "per_page", "total"))
        counted = all(isinstance(one, int) and not isinstance(one, bool) for one in (page, per_page, total))
        if not counted or not answered.get("data") or page * per_page >= total:  # type: ignore[operator]
            return None
        return {**asked, "page": page + 1}  # type: ignore[operator]

    def headers(self, account: Account) -> Mapping[str, str]:
        """Bearer token and JSON, as both pages show."""
        return {"Authorization": f"Bearer {account.secrets['token'].reveal()}", "Content-Type": "application/json"}

    def call(self, step: Step, account: Account, headers: Mapping[str, str], *, repeats: int) -> Call:
        """A create after one of unknown effect gets a suffix: its title may be taken. A launch is never changed."""
        body = step.body
        if step.endpoint is CREATE and repeats:
            wire = orjson.loads(body)
            suffix = f" ({repeats + 1})"
            wire["title"] = wire["title"][: TITLE_MOST - len(suffix)] + suffix
            body = orjson.dumps(wire)
        return Call(step.endpoint, account.base_url + _path(step.endpoint.path, step.ref or ""), headers, body)

    def read(self, step: Step, reply: Reply, *, repeats: int) -> Outcome:
        """Accepted only by the documented body; 424 is told apart by the text after `SERVICE:-`."""
        endpoint = step.endpoint
        throttled = (429, 403) if endpoint is STATISTICS else (429,)
        common = read_common(reply, throttled=throttled)
        if common is not None:
            return common
        decoded = read_object(reply.body)
        if reply.status == 424:
            return _read_424(decoded)
        if reply.status == 400:
            if endpoint is CREATE and repeats:
                # The title of the create whose reply was lost, or an earlier suffix: taken, so the next one is tried.
                return Unknown("HTTP 400 after a create of unknown effect: the title may be taken", 400)
            return Rejected("HTTP 400 Bad Request", 400)
        if endpoint is DELETE:
            # The page shows no body; one that is not JSON is not the vendor's.
            taken = decoded is not None or not reply.body.strip()
            return Accepted() if taken else Unknown(f"HTTP {reply.status} without JSON", reply.status)
        if endpoint is STATISTICS:
            return (
                Unknown(f"HTTP {reply.status} without a JSON object", reply.status) if decoded is None else Accepted()
            )
        if decoded is None or decoded.get("success") is not True:
            return Unknown(f"HTTP {reply.status} without the documented body", reply.status)
        campaign_id = decoded.get("campaign_id")
        if (
            isinstance(campaign_id, bool)
            or not isinstance(campaign_id, int | str)
            or not re.fullmatch(r"[0-9]{1,20}", str(campaign_id))
        ):
            return Unknown(f"HTTP {reply.status} without a campaign_id", reply.status)
        return Accepted(str(campaign_id))


@lru_cache(maxsize=1024)
def _path(path: str, ref: str) -> str:
    """Return an endpoint's path; most launches of a job are of one campaign."""
    return path.format(ref=quote(ref, safe=""))


def _read_424(decoded: dict[str, object] | None) -> Outcome:
    """`SERVICE:-` alone is a dependency's fault of unknown effect; a text after it (`Campaign not found`) is a refusal.

    The envelope of the second form is recorded once as "message" and once as "error"; both are read.
    """
    said = (decoded or {}).get("message") or (decoded or {}).get("error")
    after = said.partition("SERVICE:-")[2].strip() if isinstance(said, str) and said.startswith("SERVICE:-") else ""
    if after:
        return Rejected(f"HTTP 424 {after[:100]}", 424)
    return Unknown("HTTP 424 failed dependency", 424)
