"""Stream campaigns as calls: made under an id of our own, started, and followed to their end."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from urllib.parse import quote, urlencode
from uuid import NAMESPACE_URL, uuid5

import msgspec
import orjson

from bulksend.fields import Fault, Field, Fields, Kind
from bulksend.model import Account, Call, Endpoint, Outcome, Probe, Reply, Secret, Standing, Step, Verdict
from bulksend.providers.base import SEGMENT, Flow, SendName, Tables, find_past, with_query
from bulksend.providers.stream import replies
from bulksend.providers.stream.tables import (
    BODIES,
    CAMPAIGN_CREATE,
    CAMPAIGN_GET,
    CAMPAIGN_START,
    CAMPAIGN_UPDATE,
    ENDPOINTS,
    SEGMENT_CREATE,
    SEGMENT_GET,
    SEGMENTS_MOST,
    TABLES,
    TARGETS_EXISTS,
    USERS_ADVISED,
    USERS_MOST,
)
from bulksend.providers.stream.targets import StreamTargets
from bulksend.providers.targets import Targets

__all__ = ["Stream"]

EVERY_S = 10.0
_EXCLUSIVE = ("filter", "all_users", "all_sender_channels")
_DATES = ("scheduled_for", "stop_at")


@dataclass(frozen=True, slots=True)
class Stream:
    """The provider `stream`.

    A campaign's id follows from account, job and key, so that the vendor itself tells whether a call whose reply was
    lost had its effect; a campaign can be started once only.
    """

    name: str = "stream"
    title: str = "Stream campaigns"
    base_url: str = "https://chat.stream-io-api.com"
    account_ids: Fields = field(
        default_factory=lambda: {"api_key": Field(Kind.TEXT, "The app's key, from its dashboard.", required=True)}
    )
    account_secrets: Fields = field(
        default_factory=lambda: {
            "api_secret": Field(Kind.TEXT, "The app's secret: env:NAME, file:PATH or cmd:COMMAND.", required=True)
        }
    )
    endpoints: Mapping[str, Endpoint] = field(default_factory=lambda: ENDPOINTS)
    bodies: Mapping[str, Fields] = field(default_factory=lambda: BODIES)
    tables: Mapping[str, Fields] = field(default_factory=lambda: TABLES)
    targets: Targets | None = field(default_factory=StreamTargets)

    def review(self, tables: Tables, *, has_audience: bool, chunk: int | None, syncs: bool = False) -> list[Fault]:
        """Check what the tables say together: whom the campaign goes to, and how its segment is made."""
        launch = tables.get("launch")
        faults = _review_segment(tables.get("segment"), syncs=syncs)
        if launch is None:
            if not syncs:
                return [Fault("launch", "is missing: a job for stream has a [launch] table")]
            unused = [name for name in ("start", "watch") if name in tables]
            return faults + [Fault(name, "belongs to a [launch], and there is none") for name in unused]
        both = [name for name in ("segment_ids", "user_ids") if name in launch]
        if not both and "segment" not in tables:
            faults.append(Fault("launch.segment_ids", "is required: segments, user_ids, or a [segment] table"))
        most = SEGMENTS_MOST if "segment_ids" in both else USERS_MOST
        if chunk is not None and chunk > most and both:
            text = f"is {chunk:,}, but one campaign takes at most {most:,} {both[0]}"
            faults.append(Fault("audience.chunk", text))
        return faults + _review_campaign(launch, "launch")

    def notes(self, tables: Tables, *, sends: int, chunk: int | None) -> list[Fault]:
        """Return what a person should know: where de-duplication ends, and when a segment is the better way."""
        notes = []
        launch = tables.get("launch", {})
        if sends > 1:
            text = f"{sends:,} campaigns: the vendor removes doubled users within a campaign, not between campaigns"
            notes.append(Fault("launch", f"{text}; a user in two of them gets two messages"))
        if "watch" in tables:
            text = "the run lasts until the vendor has completed each campaign; how long that is, the ETA does not know"
            notes.append(Fault("watch", text))
        aimed_at = launch.get("segment_ids")
        if (
            "segment" in tables
            and "launch" in tables
            and SEGMENT not in (aimed_at if isinstance(aimed_at, list) else ())
        ):
            given = tables["segment"].get("id")
            if given is None or given not in (aimed_at if isinstance(aimed_at, list) else ()):
                notes.append(Fault("launch", "goes to another audience than the job's [segment]"))
        users = launch.get("user_ids")
        number = len(users) if isinstance(users, list) else chunk or 0
        if users is not None and number > USERS_ADVISED:
            text = f"{number:,} users: above {USERS_ADVISED:,} the vendor's page advises a segment"
            notes.append(Fault("launch.user_ids", text))
        return notes

    def complete(self, tables: Tables) -> dict[str, dict[str, object]]:
        """Add a [start] where there is none, and aim a campaign without segments or users at the job's [segment]."""
        full = {name: dict(table) for name, table in tables.items()}
        launch = full.get("launch")
        if launch is None:
            return full
        full.setdefault("start", {})
        if "segment" in full and "segment_ids" not in launch and "user_ids" not in launch:
            launch["segment_ids"] = [SEGMENT]
        return full

    def flow(self, tables: Tables) -> Flow:
        """Make the segment where asked to; for each send: make the campaign, start it, follow it with [watch]."""
        steps: tuple[tuple[str, Endpoint], ...] = ()
        if "launch" in tables:
            steps = (("launch", CAMPAIGN_CREATE), ("start", CAMPAIGN_START))
        if "watch" in tables:
            steps += (("watch", CAMPAIGN_GET),)
        makes = tables.get("segment", {}).get("create") is True
        return Flow(prepare=(("segment", SEGMENT_CREATE),) if makes else (), steps=steps)

    def segment_id(self, tables: Tables, account: Account) -> str | None:
        """Return the [segment]'s id: as written, or the one that follows from account and name."""
        segment = tables.get("segment")
        if segment is None:
            return None
        given = segment.get("id")
        return str(given) if given is not None else _made_id(account, "segment", str(segment.get("name")))

    def check(self, table: str, body: Mapping[str, object], *, now: float) -> list[Fault]:
        """Check a body across its fields: times in order and to come, channels that can be made."""
        if table in (CAMPAIGN_CREATE.name, CAMPAIGN_UPDATE.name):
            return _review_campaign(body, table)
        if table == SEGMENT_CREATE.name:
            return _review_ways(body, table)
        faults = find_past(table, body, _DATES, now)
        starts, stops = (body.get(name) for name in _DATES)
        if isinstance(starts, float) and isinstance(stops, float) and stops <= starts:
            faults.append(Fault(f"{table}.stop_at", "is not after scheduled_for"))
        return faults

    def bounds(self, table: str, body: Mapping[str, object]) -> Mapping[str, int]:
        """Of a job's tables only times are looked into."""
        return {}

    def step(
        self, endpoint: Endpoint, table: str, body: Mapping[str, object], account: Account, *, name: SendName
    ) -> Step:
        """Write a campaign or segment with its id, a start, or the question of [watch]."""
        if table == "watch":
            every_s = body.get("every", EVERY_S)
            assert isinstance(every_s, float)
            return Step(endpoint, every_s=every_s)
        if table == "segment":
            made = _made_id(account, "segment", str(body["name"]))
            wire = {key: value for key, value in body.items() if key != "create"}
            wire.setdefault("type", "channel" if "all_sender_channels" in wire else "user")
            return self.request(endpoint, {"id": made, **wire}, account, ref=made)
        if endpoint is CAMPAIGN_CREATE:
            made = _made_id(account, "campaign", name.job, name.key)
            return self.request(endpoint, {"id": made, **body}, account, ref=made)
        times = [at for name in _DATES if isinstance(at := body.get(name), float)]
        step = self.request(endpoint, body, account, ref=None)
        return msgspec.structs.replace(step, not_after=min(times, default=None))

    def request(self, endpoint: Endpoint, body: Mapping[str, object], account: Account, *, ref: str | None) -> Step:
        """Write any call: times as RFC 3339 in UTC, what a read asks for in the query."""
        if endpoint is TARGETS_EXISTS:
            target = quote(str(body["target_id"]), safe="")
            return Step(endpoint, ref=ref, path=endpoint.path.replace("{target}", target))
        if endpoint.method in ("GET", "DELETE"):
            return Step(endpoint, ref=ref, path=with_query(endpoint.path, body))
        wire = dict(body)
        for name in _DATES:
            if isinstance(at := wire.get(name), float):
                wire[name] = datetime.fromtimestamp(at, UTC).isoformat().replace("+00:00", "Z")
        return Step(endpoint, orjson.dumps(wire), ref)

    def following(self, endpoint: Endpoint, asked: Mapping[str, object], answered: object) -> dict[str, object] | None:
        """Take the reply's `next`; a campaign's page of users has it inside `users`."""
        if not isinstance(answered, Mapping):
            return None
        page = answered.get("users") if endpoint is CAMPAIGN_GET else answered
        cursor = page.get("next") if isinstance(page, Mapping) else None
        if not isinstance(cursor, str) or not cursor:
            return None
        return {**{name: value for name, value in asked.items() if name != "prev"}, "next": cursor}

    def headers(self, account: Account) -> Mapping[str, str]:
        """A server's token, made from the secret: it holds no user and does not expire."""
        token = _server_token(account.secrets["api_secret"])
        return {"Authorization": token, "stream-auth-type": "jwt", "Content-Type": "application/json"}

    def call(self, step: Step, account: Account, headers: Mapping[str, str], *, repeats: int) -> Call:
        """Return the request, with the app's key in its query."""
        path = (step.path or step.endpoint.path).replace("{ref}", quote(step.ref or "", safe=""))
        key = urlencode({"api_key": account.ids["api_key"]})
        return Call(step.endpoint, f"{account.base_url}{path}{'&' if '?' in path else '?'}{key}", headers, step.body)

    def standing(self, reply: Reply) -> Standing | None:
        """Return the `X-RateLimit-*` of the reply."""
        return replies.standing(reply)

    def read(self, step: Step, reply: Reply, *, repeats: int) -> Outcome:
        """Return what the reply means."""
        return replies.read(step, reply, repeats=repeats)

    def probe(self, endpoint: Endpoint, account: Account, *, name: SendName, ref: str | None) -> Probe | None:
        """Ask for the campaign or the segment by its id, which is ours."""
        if ref is None:
            return None
        if endpoint in (CAMPAIGN_CREATE, CAMPAIGN_START):
            return Probe(Step(CAMPAIGN_GET, ref=ref, path=with_query(CAMPAIGN_GET.path, {"limit": 1})), endpoint.name)
        if endpoint is SEGMENT_CREATE:
            return Probe(Step(SEGMENT_GET, ref=ref), endpoint.name)
        return None

    def read_probe(self, probe: Probe, reply: Reply) -> Verdict:
        """Return what the lookup tells."""
        return replies.read_probe(probe, reply)


def _server_token(secret: Secret) -> str:
    """Return `{"server": true}` as a JSON Web Token, signed with HS256 (RFC 7515)."""
    # By hand: the usual library refuses secrets that it takes for keys of another kind, and this is all of it.
    head, claims = (_base64url(part) for part in (b'{"typ":"JWT","alg":"HS256"}', b'{"server":true}'))
    signature = hmac.digest(secret.reveal().encode(), f"{head}.{claims}".encode(), "sha256")
    return f"{head}.{claims}.{_base64url(signature)}"


def _base64url(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _made_id(account: Account, *names: str) -> str:
    return str(uuid5(NAMESPACE_URL, "\0".join(("bulksend", account.identity, *names))))


def _review_segment(segment: Mapping[str, object] | None, *, syncs: bool) -> list[Fault]:
    """A segment is named by its id, or made; one that is made has at most one way to fill itself."""
    if segment is None:
        return []
    faults = []
    if segment.get("create") is True:
        if "name" not in segment:
            faults.append(Fault("segment.name", "is required with create = true"))
        if "id" in segment:
            faults.append(Fault("segment.id", "cannot stand beside create = true: the id follows from the name"))
    elif "id" not in segment:
        faults.append(Fault("segment.id", "is required, or create = true beside a name"))
    else:
        extra = [name for name in segment if name not in ("id", "create")]
        faults += [
            Fault(f"segment.{name}", "needs create = true: an existing segment is named by its id") for name in extra
        ]
    if str(segment.get("id")) in (".", ".."):
        faults.append(Fault("segment.id", "cannot be an id: a path would lead elsewhere"))
    if syncs:
        faults += [
            Fault(f"segment.{name}", "lets the vendor choose the targets, and [desired] does: keep one of the two")
            for name in _EXCLUSIVE
            if segment.get(name)
        ]
    return faults + _review_ways(segment, "segment")


def _review_ways(segment: Mapping[str, object], path: str) -> list[Fault]:
    """The ways in which a segment fills itself exclude each other, and each goes with one type."""
    faults = []
    ways = [name for name in _EXCLUSIVE if segment.get(name)]
    if len(ways) > 1:
        text = f"stands beside {ways[0]}: filter, all_users and all_sender_channels exclude each other"
        faults.append(Fault(f"{path}.{ways[1]}", text))
    if segment.get("all_sender_channels") and segment.get("type") == "user":
        faults.append(Fault(f"{path}.all_sender_channels", 'makes a segment of channels: type must be "channel"'))
    if segment.get("all_users") and segment.get("type") == "channel":
        faults.append(Fault(f"{path}.all_users", 'makes a segment of users: type must be "user"'))
    return faults


def _review_campaign(body: Mapping[str, object], path: str) -> list[Fault]:
    """A campaign goes to segments or to users, and channels can be made only as a template says."""
    faults = []
    if path == CAMPAIGN_CREATE.name and "segment_ids" not in body and "user_ids" not in body:
        faults.append(Fault(f"{path}.segment_ids", "is required: segments, or user_ids in their place"))
    if "segment_ids" in body and "user_ids" in body:
        faults.append(Fault(f"{path}.user_ids", "stands beside segment_ids: a campaign has one of the two"))
    channel = body.get("channel_template")
    if body.get("create_channels", False) is not False and channel is None:
        faults.append(Fault(f"{path}.channel_template", "is required with create_channels = true"))
    if isinstance(channel, Mapping) and "members" in channel and "members_template" in channel:
        faults.append(Fault(f"{path}.channel_template.members_template", "stands beside members: keep one of the two"))
    return faults
