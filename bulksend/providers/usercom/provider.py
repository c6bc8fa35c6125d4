"""User.com web push: campaigns made, changed, sent, listed and read, and the segments that they go to.

Facts: the vendor's pages under apidocs.user.com/webpush and /segments. A create without `eta` is itself a send, and
there is no idempotency key: each campaign's name therefore ends in a mark of its own, by which one whose reply was lost
is looked for in the list. No limit is published.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, unquote

import msgspec
import orjson

from bulksend.fields import Fault, Field, Fields, Kind
from bulksend.model import (
    Accepted,
    Account,
    Call,
    Endpoint,
    Found,
    Outcome,
    Probe,
    Rejected,
    Reply,
    Step,
    Unknown,
    Untold,
    Verdict,
)
from bulksend.providers.base import (
    Flow,
    Plain,
    SendName,
    Tables,
    find_past,
    mark_of,
    read_common,
    read_object,
    with_query,
)
from bulksend.providers.targets import Targets
from bulksend.providers.usercom.pages import cursor_of
from bulksend.providers.usercom.tables import BODIES, CREATE, ENDPOINTS, LIST, SEGMENT_USERS, SEGMENTS, SEND, TABLES
from bulksend.providers.usercom.targets import UsercomTargets

__all__ = ["Usercom"]

PROBE_PAGES = 20
"""Pages of the list that are looked through for one campaign."""


@dataclass(frozen=True, slots=True)
class Usercom(Plain):
    """The provider `usercom`."""

    name: str = "usercom"
    title: str = "User.com web push"
    base_url: str = "https://{app}.user.com"
    account_ids: Fields = field(
        default_factory=lambda: {
            "app": Field(
                Kind.TEXT,
                "The app's subdomain: <app>.user.com.",
                required=True,
                pattern=r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?",
                pattern_text='a subdomain such as "shop" for shop.user.com',
            )
        }
    )
    account_secrets: Fields = field(
        default_factory=lambda: {
            "token": Field(Kind.TEXT, "The REST API key: env:NAME, file:PATH or cmd:COMMAND.", required=True)
        }
    )
    endpoints: Mapping[str, Endpoint] = field(default_factory=lambda: ENDPOINTS)
    bodies: Mapping[str, Fields] = field(default_factory=lambda: BODIES)
    tables: Mapping[str, Fields] = field(default_factory=lambda: TABLES)
    targets: Targets | None = field(default_factory=UsercomTargets)

    def review(self, tables: Tables, *, has_audience: bool, chunk: int | None, syncs: bool = False) -> list[Fault]:
        """Ask for a launch, and for the segment that it goes to."""
        launch = tables.get("launch")
        if launch is None:
            return [] if syncs else [Fault("launch", "is missing: a job for usercom has a [launch] table")]
        if "segment" not in launch and "segment" not in tables:
            return [Fault("launch.segment", "is required")]
        return []

    def complete(self, tables: Tables) -> dict[str, dict[str, object]]:
        """Aim a launch that names no segment at the job's [segment]."""
        full = Plain.complete(self, tables)
        if "launch" in full and "segment" in full and "id" in full["segment"]:
            full["launch"].setdefault("segment", full["segment"]["id"])
        return full

    def segment_id(self, tables: Tables, account: Account) -> str | None:
        """Return the number of the [segment]."""
        found = tables.get("segment", {}).get("id")
        return None if found is None else str(found)

    def flow(self, tables: Tables) -> Flow:
        """One create for each send: it is sent by itself, at once or at its eta."""
        if "launch" not in tables:
            return Flow(prepare=(), steps=())
        return Flow(prepare=(), steps=(("launch", CREATE),))

    def check(self, table: str, body: Mapping[str, object], *, now: float) -> list[Fault]:
        """Check that the eta is not past."""
        return find_past(table, body, ("eta",), now)

    def step(
        self, endpoint: Endpoint, table: str, body: Mapping[str, object], account: Account, *, name: SendName
    ) -> Step:
        """Write the body with a mark at the end of its name."""
        marked = f"{body['name']} [{mark_of(account, name)}]"
        step = self.request(endpoint, {**body, "name": marked}, account, ref=None)
        eta = body.get("eta")
        return msgspec.structs.replace(step, not_after=eta if isinstance(eta, float) else None)

    def request(self, endpoint: Endpoint, body: Mapping[str, object], account: Account, *, ref: str | None) -> Step:
        """Write any call; eta is sent as UTC, ttl as whole seconds."""
        if endpoint.reads:
            if isinstance(cursor := body.get("cursor"), str):
                # Also as it stands in the `next` of the page before: the whole address, or its part.
                body = {**body, "cursor": cursor_of(cursor) or unquote(cursor)}
            return Step(endpoint, ref=ref, path=with_query(endpoint.path, body))
        wire = dict(body)
        if isinstance(eta := wire.get("eta"), float):
            wire["eta"] = datetime.fromtimestamp(eta, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        if isinstance(ttl_s := wire.get("ttl"), float):
            wire["ttl"] = int(ttl_s)
        return Step(endpoint, orjson.dumps(wire), ref)

    def following(self, endpoint: Endpoint, asked: Mapping[str, object], answered: object) -> dict[str, object] | None:
        """Take the cursor of the absolute `next`; the address itself is not followed."""
        cursor = cursor_of(answered.get("next")) if isinstance(answered, Mapping) else None
        return None if cursor is None else {**asked, "cursor": cursor}

    def headers(self, account: Account) -> Mapping[str, str]:
        """Token, and the version that every sample of the pages asks for."""
        return {
            "Authorization": f"Token {account.secrets['token'].reveal()}",
            "Accept": "*/*; version=2",
            "Content-Type": "application/json",
        }

    def call(self, step: Step, account: Account, headers: Mapping[str, str], *, repeats: int) -> Call:
        """Return the request; paths end in a slash, since a redirect is not followed."""
        path = (step.path or step.endpoint.path).replace("{ref}", quote(step.ref or "", safe=""))
        return Call(step.endpoint, account.base_url + path, headers, step.body)

    def read(self, step: Step, reply: Reply, *, repeats: int) -> Outcome:
        """A create, an update or a campaign is accepted by its id; a page, by its results; a send, by its status."""
        common = read_common(reply)
        if common is not None:
            return common
        if reply.status in (400, 424):
            return Rejected(f"HTTP {reply.status}{_said(reply)}", reply.status)
        if step.endpoint is SEND and not reply.body.strip():
            return Accepted()  # the page shows no body
        decoded = read_object(reply.body)
        if decoded is None:
            return Unknown(f"HTTP {reply.status} without the documented body", reply.status)
        if step.endpoint is SEND:
            return Accepted()
        if step.endpoint in (LIST, SEGMENTS, SEGMENT_USERS):
            if not isinstance(decoded.get("results"), list):
                return Unknown(f"HTTP {reply.status} without results", reply.status)
            return Accepted()
        found = _id_of(decoded)
        return Unknown(f"HTTP {reply.status} without an id", reply.status) if found is None else Accepted(found)

    def probe(self, endpoint: Endpoint, account: Account, *, name: SendName, ref: str | None) -> Probe | None:
        """Look for a create by the mark in its name."""
        if endpoint is CREATE:
            return Probe(Step(LIST), mark_of(account, name), PROBE_PAGES - 1)
        return None

    def read_probe(self, probe: Probe, reply: Reply) -> Verdict:
        """Found by its name; a campaign that the list does not have proves nothing, nor does a list that is refused."""
        page = read_object(reply.body) if reply.status == 200 else None
        results = page.get("results") if page is not None else None
        if page is None or not isinstance(results, list):
            return Untold(f"the list of campaigns answers HTTP {reply.status}")
        for one in results:
            if not isinstance(one, dict):
                continue
            name, found = one.get("name"), _id_of(one)
            if isinstance(name, str) and f"[{probe.wanted}]" in name and found is not None:
                return Found(found)
        cursor = cursor_of(page.get("next"))
        if cursor is None or not probe.pages_left:
            return Untold("no campaign of this name is in the list, which is no proof")
        return Probe(Step(LIST, path=with_query(LIST.path, {"cursor": cursor})), probe.wanted, probe.pages_left - 1)


def _id_of(campaign: Mapping[str, object]) -> str | None:
    found = campaign.get("id")
    known = isinstance(found, int) and not isinstance(found, bool) and 0 < found < 10**18
    return str(found) if known else None


def _said(reply: Reply) -> str:
    """Name the fields that a 400 complains of, never what it quotes: that is the row's."""
    decoded = read_object(reply.body) or {}
    names = [name for name in decoded if name in (*BODIES[CREATE.name], "detail", "errors", "non_field_errors")]
    return f", the vendor objects to: {', '.join(names)}" if names else ""
