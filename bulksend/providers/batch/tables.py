"""Batch's endpoints and the fields of their bodies; facts: the pages that provider.py names."""

from __future__ import annotations

from collections.abc import Mapping

from bulksend.fields import Field, Fields, Kind, Zone
from bulksend.model import Endpoint, Limit, Repeat

__all__ = [
    "BODIES",
    "CODES_MOST",
    "CREATE",
    "CREATE_LIVE",
    "DELETE",
    "ENDPOINTS",
    "GET",
    "LIST",
    "LIST_DEFAULT",
    "LIST_PAGE",
    "PROBE_PAGES",
    "STATS",
    "TABLES",
    "THROTTLED_AT_LEAST_S",
    "UPDATE",
]


NAME_LEAST = 3
LABELS_MOST = 3
TTL_MOST_S = 28 * 86400
THROTTLED_AT_LEAST_S = 5.0
CODES_MOST = 10_000
"""A number past this is no error code, and may be something of the row's."""
LIST_PAGE = 100
LIST_DEFAULT = 10
PROBE_PAGES = 5
"""Pages of the list, newest first, that are looked through for one campaign."""

_START = Limit.parse("60/min")


def _endpoint(name: str, method: str, path: str, repeat: Repeat = Repeat.SAFE) -> Endpoint:
    return Endpoint(f"batch.{name}", method, f"/1.1/{{app}}/campaigns/{path}", _START, repeat, documented=False)


CREATE = _endpoint("create", "POST", "create")
CREATE_LIVE = _endpoint("create", "POST", "create", Repeat.NEVER)
"""The same route, where the body says `live`: each call is a send."""
UPDATE = _endpoint("update", "POST", "update/{ref}", Repeat.NEVER)
DELETE = _endpoint("delete", "POST", "delete/{ref}")
LIST = _endpoint("list", "GET", "list")
GET = _endpoint("get", "GET", "{ref}")
STATS = _endpoint("stats", "GET", "stats/{ref}")
ENDPOINTS = (CREATE, UPDATE, DELETE, LIST, GET, STATS)

_TEXTS = Field(Kind.TEXT)
_MESSAGE: Fields = {
    "language": Field(Kind.TEXT, "The language that it is for, such as en.", required=True),
    "title": Field(Kind.TEXT, "The push's title."),
    "body": Field(Kind.TEXT, "The push's text.", required=True),
}
_TARGETING: Fields = {
    "segments": Field(
        Kind.LIST,
        "Batch's own segments.",
        item=Field(Kind.TEXT, choices=("NEW", "ONE_TIME", "ENGAGED", "DORMANT", "IMPORTED")),
    ),
    "query": Field(Kind.TABLE, 'Tags and attributes: { "c.city" = "Oslo" }.'),
    "languages": Field(Kind.LIST, "Only users of these languages.", item=_TEXTS),
    "regions": Field(Kind.LIST, "Only users of these regions.", item=_TEXTS),
    "custom_audiences": Field(Kind.LIST, "Names of custom audiences.", item=_TEXTS),
}
_MEDIA: Fields = {
    name: Field(Kind.TEXT, f"The {name}'s https address.", https=True) for name in ("icon", "picture", "audio", "video")
}
_BODY: Fields = {
    "name": Field(Kind.TEXT, "The campaign's name; at least 3 characters.", required=True, least_chars=NAME_LEAST),
    "push_time": Field(Kind.DATETIME, '"now", or when: without a zone it is UTC.', zone=Zone.UTC, choices=("now",)),
    "local_push_time": Field(
        Kind.DATETIME, "When, in each receiver's own time; in place of push_time.", zone=Zone.LOCAL
    ),
    "messages": Field(Kind.LIST, "One message per language.", required=True, fields=_MESSAGE),
    "labels": Field(Kind.LIST, "Codes of labels; at most 3.", item=_TEXTS, most_items=LABELS_MOST),
    "priority": Field(Kind.TEXT, "normal, or high (default).", choices=("normal", "high")),
    "time_to_live": Field(
        Kind.DURATION,
        "How long a push is kept for a device that is off, in words; at most 28 days.",
        least_s=1,
        most_s=TTL_MOST_S,
        whole_s=True,
    ),
    "gcm_collapse_key": Field(
        Kind.TABLE,
        "Android: whether a later push replaces an earlier one.",
        fields={"enabled": Field(Kind.BOOLEAN, required=True), "key": Field(Kind.TEXT)},
    ),
    "push_type": Field(Kind.TEXT, "background: nothing is shown."),
    "targeting": Field(Kind.TABLE, "Who gets it; without it, everybody.", fields=_TARGETING),
    "media": Field(Kind.TABLE, "Pictures and sounds.", fields=_MEDIA),
    "deeplink": Field(Kind.TEXT, "Where a click leads."),
    "landing": Field(Kind.TABLE, "A landing page; not beside a deeplink."),
    "custom_payload": Field(Kind.TEXT, "JSON for the app, as a text."),
    "skip_media_check": Field(Kind.BOOLEAN, "true: the media's addresses are not looked at."),
}
_LIVE = Field(Kind.BOOLEAN, "true (default): it is sent; false: it stays a draft.", fixed=True)
_CALL_BODY: Fields = {**_BODY, "live": Field(Kind.BOOLEAN, "false: saved as a draft.", required=True)}
BODIES: Mapping[str, Fields] = {
    CREATE.name: _CALL_BODY,
    UPDATE.name: {
        **{name: one for name, one in _BODY.items() if not one.required},
        "name": Field(Kind.TEXT, "The campaign's name.", least_chars=NAME_LEAST),
        "messages": Field(Kind.LIST, "One message per language.", fields=_MESSAGE),
        "live": Field(Kind.BOOLEAN, "true: set live; false: stopped."),
    },
    DELETE.name: {},
    LIST.name: {
        "from": Field(Kind.INTEGER, "How many to skip, newest first.", least=0),
        "limit": Field(Kind.INTEGER, "How many; 10 by default.", least=1, most=LIST_PAGE),
        "live": Field(Kind.BOOLEAN, "true: running or completed; false: stopped or drafts."),
        "from_api": Field(Kind.BOOLEAN, "true: made through the API."),
    },
    GET.name: {},
    STATS.name: {},
}
TABLES: Mapping[str, Fields] = {
    "launch": {
        "send": Field(
            Kind.TEXT,
            "draft (default): made as a draft, then set live; direct: one live create. Not part of the body.",
            choices=("draft", "direct"),
            fixed=True,
        ),
        "live": _LIVE,
        **_BODY,
    }
}
