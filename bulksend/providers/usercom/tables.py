"""User.com's endpoints and the fields of their bodies.

Facts: the vendor's pages under apidocs.user.com/webpush and /segments. No limit is published.
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from bulksend.fields import Field, Fields, Kind
from bulksend.model import Endpoint, Limit, Repeat

__all__ = ["BODIES", "CREATE", "ENDPOINTS", "GET", "LIST", "SEGMENTS", "SEGMENT_USERS", "SEND", "TABLES", "UPDATE"]

TTL_MOST_S = 28 * 86400
"""Not published; what web push itself allows."""
_START = Limit.parse("60/min")


def _endpoint(name: str, method: str, path: str, repeat: Repeat = Repeat.SAFE) -> Endpoint:
    return Endpoint(f"usercom.{name}", method, f"/api/public/{path}", _START, repeat, documented=False)


CREATE = _endpoint("create", "POST", "webpush-campaign/", Repeat.NEVER)
UPDATE = _endpoint("update", "PATCH", "webpush-campaign/{ref}/")
SEND = _endpoint("send", "POST", "webpush-campaign/{ref}/send/", Repeat.NEVER)
LIST = _endpoint("list", "GET", "webpush-campaign/")
GET = _endpoint("get", "GET", "webpush-campaign/{ref}/")
SEGMENTS = _endpoint("segments", "GET", "segments/")
SEGMENT_USERS = _endpoint("segment_users", "GET", "segments/{ref}/users/")
ENDPOINTS: Mapping[str, Endpoint] = MappingProxyType(
    {one.name: one for one in (CREATE, UPDATE, SEND, LIST, GET, SEGMENTS, SEGMENT_USERS)}
)

_MESSAGE: Fields = {
    "title": Field(Kind.TEXT, "The push's title.", required=True),
    "body": Field(Kind.TEXT, "The push's text.", required=True),
    "url": Field(Kind.TEXT, "Where a click leads.", https=True),
    "require_interaction": Field(Kind.BOOLEAN, "true: it stays until the user clicks or dismisses it."),
    "doughnut_title": Field(Kind.TEXT, "Action button 1: its label."),
    "doughnut_url": Field(Kind.TEXT, "Action button 1: its address.", https=True),
    "coffee_title": Field(Kind.TEXT, "Action button 2: its label."),
    "coffee_url": Field(Kind.TEXT, "Action button 2: its address.", https=True),
    "icon": Field(Kind.TEXT, "The icon's address.", https=True),
    "badge": Field(Kind.TEXT, "The big picture's address; Windows only.", https=True),
}
_NAME = Field(
    Kind.TEXT, "The campaign's name in the panel; a mark is added, by which it is found again.", required=True
)
_SEGMENT = Field(Kind.INTEGER, "The number that User.com gave the segment; by default that of [segment].", least=1)
_SEGMENT_ID = Field(Kind.INTEGER, "The number that User.com gave the segment.", required=True, least=1)
_MESSAGES = Field(Kind.LIST, "One message, or several variants.", required=True, fields=_MESSAGE)
_ETA = Field(Kind.DATETIME, "When it is sent, with a zone; without it, at once.")
_TTL = Field(
    Kind.DURATION,
    "How long a message is kept for a user who is away, in words; 3 days by default.",
    whole_s=True,
    least_s=1,
    most_s=TTL_MOST_S,
)
_BODY: Fields = {"name": _NAME, "segment": _SEGMENT, "messages": _MESSAGES, "eta": _ETA, "ttl": _TTL}
_OPTIONAL = {
    name: Field(one.kind, one.about, least=one.least, least_s=one.least_s, most_s=one.most_s, fields=one.fields)
    for name, one in _BODY.items()
}
_PAGE: Fields = {"cursor": Field(Kind.TEXT, "Where the page begins, as the `next` of the page before has it.")}
BODIES: Mapping[str, Fields] = {
    CREATE.name: {**_BODY, "segment": _SEGMENT_ID},
    UPDATE.name: _OPTIONAL,
    SEND.name: {},
    LIST.name: _PAGE,
    GET.name: {},
    SEGMENTS.name: _PAGE,
    SEGMENT_USERS.name: _PAGE,
}
TABLES: Mapping[str, Fields] = {"segment": {"id": _SEGMENT_ID}, "launch": _BODY}
