"""What Stream's replies mean."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from bulksend.model import (
    Absent,
    Accepted,
    Denied,
    Found,
    Limit,
    Outcome,
    Probe,
    Rejected,
    Reply,
    Standing,
    Step,
    Throttled,
    Unknown,
    Untold,
    Verdict,
    Waiting,
    Window,
)
from bulksend.providers.base import read_common, read_object
from bulksend.providers.stream.tables import (
    CAMPAIGN_CREATE,
    CAMPAIGN_GET,
    CAMPAIGN_QUERY,
    CAMPAIGN_START,
    CAMPAIGN_STOP,
    CAMPAIGN_UPDATE,
    ID_MOST,
    SEGMENT_CREATE,
    SEGMENT_GET,
    SEGMENT_QUERY,
    SEGMENT_UPDATE,
    TARGETS_QUERY,
)

__all__ = ["read", "read_probe", "standing"]

_WITH_CAMPAIGN = (CAMPAIGN_CREATE, CAMPAIGN_GET, CAMPAIGN_UPDATE, CAMPAIGN_START, CAMPAIGN_STOP)
_WITH_SEGMENT = (SEGMENT_CREATE, SEGMENT_GET, SEGMENT_UPDATE)
_LISTS = {CAMPAIGN_QUERY.name: "campaigns", SEGMENT_QUERY.name: "segments", TARGETS_QUERY.name: "targets"}
_ENDED = ("completed", "stopped")
_STARTED = ("scheduled", "in_progress", *_ENDED)
_TALLIED = ("stats_users_sent", "stats_messages_sent", "stats_channels_created", "stats_users_read")
_CODES = {
    4: "input error",
    5: "authentication",
    9: "rate limit",
    16: "does not exist",
    17: "not allowed",
    22: "payload too big",
    40: "token expired",
    43: "token signature",
    99: "app suspended",
}
_CODES_MOST = 10_000
"""A number past this is no error code, and may be something of the row's."""
_LIMITS_MOST = 10_000_000


def read(step: Step, reply: Reply, *, repeats: int) -> Outcome:
    """Accepted by the object that the page promises; a watched campaign once it is completed or stopped."""
    common = read_common(reply)
    match common:
        case None:
            pass
        case Throttled(status=status, retry_after=text):
            return Throttled(status, text, reset_at=_number(reply, "x-ratelimit-reset"))
        case Denied(status=status):
            return Denied(f"the vendor refuses the credentials{_code(reply)}", status)
        case Rejected(status=status):
            return Rejected(f"HTTP {status}{_code(reply)}", status)
        case _:
            return common
    if reply.status in (400, 424):
        reason = f"HTTP {reply.status}{_code(reply)}"
        # An id of ours that is taken looks like any other refusal: whether it is, the probe tells.
        if step.endpoint is SEGMENT_CREATE or (repeats and step.endpoint in (CAMPAIGN_CREATE, CAMPAIGN_START)):
            return Unknown(reason, reply.status, refused=True)
        return Rejected(reason, reply.status)
    decoded = read_object(reply.body)
    if decoded is None:
        return Unknown(f"HTTP {reply.status} without a JSON object", reply.status)
    if step.endpoint in _WITH_CAMPAIGN:
        # An update and a stop answer with a bare campaign, says the vendor's description, where its own tests say not.
        bare = decoded if step.endpoint in (CAMPAIGN_UPDATE, CAMPAIGN_STOP) else None
        return _read_campaign(step, reply.status, decoded.get("campaign", bare))
    if step.endpoint in _WITH_SEGMENT:
        found = _id_of(decoded.get("segment"))
        if step.ref is not None and found != step.ref:
            found = None
        return Unknown(f"HTTP {reply.status} without a segment", reply.status) if found is None else Accepted(found)
    listed = _LISTS.get(step.endpoint.name)
    promised = "duration" in decoded if listed is None else isinstance(decoded.get(listed), list)
    if not promised:
        return Unknown(f"HTTP {reply.status} without the documented body", reply.status)
    return Accepted()


def _read_campaign(step: Step, status: int, campaign: object) -> Outcome:
    found = _id_of(campaign)
    if found is None or not isinstance(campaign, Mapping):
        return Unknown(f"HTTP {status} without a campaign", status)
    if step.ref is not None and found != step.ref:
        return Unknown(f"HTTP {status} with another campaign than the one that was called", status)
    state = campaign.get("status")
    if step.endpoint is CAMPAIGN_START and state not in _STARTED:
        return Unknown(f"HTTP {status}, and the campaign is not started", status)
    if not step.every_s:
        return Accepted(found)
    stats = campaign.get("stats")
    stats = stats if isinstance(stats, Mapping) else {}
    if state in _ENDED:
        counts = {name.removeprefix("stats_"): _count(stats.get(name)) for name in _TALLIED}
        return Accepted(found, {str(state): 1, **counts})
    if state not in _STARTED:
        return Unknown(f"HTTP {status}, and the campaign is neither running nor at its end", status)
    progress = stats.get("progress")
    known = isinstance(progress, int | float) and not isinstance(progress, bool) and 0 <= progress <= 1
    return Waiting(step.every_s, float(progress) if known else None)  # type: ignore[arg-type]


def read_probe(probe: Probe, reply: Reply) -> Verdict:
    """The campaign or segment is there, or is not; a start had its effect unless the campaign is a draft still."""
    asked_for_start = probe.wanted == CAMPAIGN_START.name
    if reply.status == 404 and read_object(reply.body) is not None:
        return Untold("the campaign is not there any more") if asked_for_start else Absent()
    decoded = read_object(reply.body) if reply.status == 200 else None
    if decoded is None:
        return Untold(f"the lookup answers HTTP {reply.status}")
    thing = decoded.get("segment" if probe.step.endpoint is SEGMENT_GET else "campaign")
    found = _id_of(thing)
    if found is None or not isinstance(thing, Mapping):
        return Untold("the lookup answers without the documented body")
    if not asked_for_start:
        return Found(found)
    match thing.get("status"):
        case "draft":
            return Absent()
        case state if state in _STARTED:
            return Found(found)
        case _:
            return Untold("the lookup answers without a documented status")


def standing(reply: Reply) -> Standing | None:
    """Read `X-RateLimit-*`: a limit per minute, of which a thirtieth may go out in one second."""
    per_min = _number(reply, "x-ratelimit-limit")
    remaining = _number(reply, "x-ratelimit-remaining")
    reset_at = _number(reply, "x-ratelimit-reset")
    if per_min is None and remaining is None:
        return None
    limit = None
    if per_min is not None and 1 <= per_min <= _LIMITS_MOST:
        limit = Limit((Window(int(per_min), 60.0), Window(max(1, int(per_min) // 30), 1.0)))
    return Standing(limit, None if remaining is None else int(remaining), reset_at)


def _number(reply: Reply, header: str) -> float | None:
    """Read a header's number; one that arrives doubled (`300, 300`) counts once."""
    text = reply.headers.get(header, "").partition(",")[0].strip()
    return float(text) if text.isascii() and text.isdigit() and len(text) < 16 else None


def _id_of(thing: object) -> str | None:
    found = thing.get("id") if isinstance(thing, Mapping) else None
    return found if isinstance(found, str) and 0 < len(found) <= ID_MOST else None


def _count(value: object) -> int:
    return value if isinstance(value, int) and not isinstance(value, bool) and value >= 0 else 0


class _Error(msgspec.Struct):
    code: int


def _code(reply: Reply) -> str:
    """Return the vendor's error code in words, after a comma; its message may quote the row, and is left out."""
    try:
        code = msgspec.json.decode(reply.body, type=_Error).code
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return ""  # the edge answers without JSON
    if abs(code) >= _CODES_MOST:
        return ""
    return f", code {code}" + (f": {_CODES[code]}" if code in _CODES else "")
