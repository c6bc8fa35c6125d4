"""Stream's endpoints and the fields of their bodies.

Facts: the vendor's page "Campaign API" (getstream.io/chat/docs) and its OpenAPI description, unversioned routes. No
limit of these routes is published: replies tell it (`X-RateLimit-*`).
"""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from bulksend.fields import Field, Fields, Kind
from bulksend.model import Endpoint, Limit, Repeat

__all__ = ["BODIES", "ENDPOINTS", "SEGMENTS_MOST", "TABLES", "USERS_ADVISED", "USERS_MOST"]

ID_MOST = 255
SEGMENTS_MOST = 25
USERS_MOST = 10_000
USERS_ADVISED = 1000
"""Above this the page advises a segment."""
TARGETS_ADDED_MOST = 10_000
TARGETS_PAGE_MOST = 10_000
TARGETS_DELETED_MOST = 100
_START = Limit.parse("60/min")


def _endpoint(name: str, method: str, path: str, repeat: Repeat = Repeat.SAFE) -> Endpoint:
    return Endpoint(f"stream.{name}", method, path, _START, repeat, documented=False)


CAMPAIGN_CREATE = _endpoint("campaign.create", "POST", "/campaigns")
CAMPAIGN_GET = _endpoint("campaign.get", "GET", "/campaigns/{ref}")
CAMPAIGN_UPDATE = _endpoint("campaign.update", "PUT", "/campaigns/{ref}")
CAMPAIGN_START = _endpoint("campaign.start", "POST", "/campaigns/{ref}/start", Repeat.NEVER)
CAMPAIGN_STOP = _endpoint("campaign.stop", "POST", "/campaigns/{ref}/stop")
CAMPAIGN_DELETE = _endpoint("campaign.delete", "DELETE", "/campaigns/{ref}")
CAMPAIGN_QUERY = _endpoint("campaign.query", "POST", "/campaigns/query")
SEGMENT_CREATE = _endpoint("segment.create", "POST", "/segments")
SEGMENT_GET = _endpoint("segment.get", "GET", "/segments/{ref}")
SEGMENT_UPDATE = _endpoint("segment.update", "PUT", "/segments/{ref}")
SEGMENT_DELETE = _endpoint("segment.delete", "DELETE", "/segments/{ref}")
SEGMENT_QUERY = _endpoint("segment.query", "POST", "/segments/query")
TARGETS_ADD = _endpoint("targets.add", "POST", "/segments/{ref}/addtargets")
TARGETS_DELETE = _endpoint("targets.delete", "POST", "/segments/{ref}/deletetargets")
TARGETS_QUERY = _endpoint("targets.query", "POST", "/segments/{ref}/targets/query")
TARGETS_EXISTS = _endpoint("targets.exists", "GET", "/segments/{ref}/target/{target}")
ENDPOINTS: Mapping[str, Endpoint] = MappingProxyType(
    {
        one.name: one
        for one in (
            CAMPAIGN_CREATE,
            CAMPAIGN_GET,
            CAMPAIGN_UPDATE,
            CAMPAIGN_START,
            CAMPAIGN_STOP,
            CAMPAIGN_DELETE,
            CAMPAIGN_QUERY,
            SEGMENT_CREATE,
            SEGMENT_GET,
            SEGMENT_UPDATE,
            SEGMENT_DELETE,
            SEGMENT_QUERY,
            TARGETS_ADD,
            TARGETS_DELETE,
            TARGETS_QUERY,
            TARGETS_EXISTS,
        )
    }
)

_ID = Field(Kind.TEXT, most_chars=ID_MOST)
_CUSTOM = Field(Kind.TABLE, "Fields of your own.")
_MESSAGE_TEMPLATE: Fields = {
    "text": Field(Kind.TEXT, "The message; {{ receiver.name }} and the like are the vendor's.", required=True),
    "attachments": Field(Kind.LIST, "At most 30.", item=Field(Kind.TABLE), most_items=30),
    "poll_id": Field(Kind.TEXT, "A poll."),
    "searchable": Field(Kind.BOOLEAN, "true: search finds it."),
    "custom": _CUSTOM,
}
_CHANNEL_TEMPLATE: Fields = {
    "type": Field(Kind.TEXT, "The channel's type, such as messaging.", required=True, most_chars=64),
    "id": Field(Kind.TEXT, "The channel's id; may hold {{ receiver.id }} and {{ sender.id }}."),
    "members": Field(Kind.LIST, "User ids; not beside members_template.", item=_ID, most_items=1000),
    "members_template": Field(
        Kind.LIST,
        "Members with roles; not beside members.",
        fields={"user_id": Field(Kind.TEXT, required=True), "channel_role": Field(Kind.TEXT), "custom": _CUSTOM},
        most_items=1000,
    ),
    "team": Field(Kind.TEXT, "The team.", most_chars=1000),
    "custom": _CUSTOM,
}
_CAMPAIGN: Fields = {
    "id": Field(Kind.TEXT, "Its id; by default one that follows from account, job and key.", most_chars=ID_MOST),
    "name": Field(Kind.TEXT, "The campaign's name."),
    "description": Field(Kind.TEXT, "What it is about."),
    "segment_ids": Field(Kind.LIST, "Segments to reach, at most 25.", item=_ID, most_items=SEGMENTS_MOST),
    "user_ids": Field(
        Kind.LIST, "Users to reach, at most 10,000; above 1,000 rather a segment.", item=_ID, most_items=USERS_MOST
    ),
    "sender_id": Field(Kind.TEXT, "The user that it comes from.", required=True, most_chars=ID_MOST),
    "message_template": Field(Kind.TABLE, "The message.", required=True, fields=_MESSAGE_TEMPLATE),
    "create_channels": Field(Kind.BOOLEAN, "true: channels that do not exist are made by channel_template."),
    "channel_template": Field(Kind.TABLE, "The channel between sender and receiver.", fields=_CHANNEL_TEMPLATE),
    "show_channels": Field(Kind.BOOLEAN, "true: hidden channels are shown again."),
    "sender_mode": Field(Kind.TEXT, "Whether the sender joins the channels.", choices=("exclude", "include")),
    "sender_visibility": Field(Kind.TEXT, "How the sender's own list shows them.", choices=("hidden", "archived")),
    "skip_push": Field(Kind.BOOLEAN, "true: no push notifications."),
    "skip_webhook": Field(Kind.BOOLEAN, "true: no webhooks for the messages."),
}
_START_BODY: Fields = {
    "scheduled_for": Field(Kind.DATETIME, "When it starts; without it, at once."),
    "stop_at": Field(Kind.DATETIME, "When it is stopped."),
}
_SEGMENT: Fields = {
    "id": Field(Kind.TEXT, "The segment's id.", most_chars=ID_MOST),
    "type": Field(Kind.TEXT, "user (default) or channel.", choices=("user", "channel")),
    "name": Field(Kind.TEXT, "The segment's name.", most_chars=128),
    "description": Field(Kind.TEXT, "What it is for.", most_chars=256),
    "filter": Field(Kind.TABLE, 'Its users or channels: { country = "USA" }.'),
    "all_users": Field(Kind.BOOLEAN, "true: every user of the app."),
    "all_sender_channels": Field(Kind.BOOLEAN, "true: every channel that the sender is a member of."),
}
_QUERY: Fields = {
    "filter": Field(Kind.TABLE, "Conditions."),
    "sort": Field(Kind.LIST, 'Fields: [{ field = "created_at", direction = -1 }].', item=Field(Kind.TABLE)),
    "limit": Field(Kind.INTEGER, "At most 100 a page.", least=0, most=100),
    "next": Field(Kind.TEXT, "The page before's `next`."),
    "prev": Field(Kind.TEXT, "The page before's `prev`."),
}
_USERS_PAGE = Field(Kind.INTEGER, "Users a page.", least=0, most=1000)
BODIES: Mapping[str, Fields] = {
    CAMPAIGN_CREATE.name: _CAMPAIGN,
    CAMPAIGN_GET.name: {"limit": _USERS_PAGE, "next": _QUERY["next"], "prev": _QUERY["prev"]},
    CAMPAIGN_UPDATE.name: {name: one for name, one in _CAMPAIGN.items() if name != "id"},
    CAMPAIGN_START.name: _START_BODY,
    CAMPAIGN_STOP.name: {},
    CAMPAIGN_DELETE.name: {},
    CAMPAIGN_QUERY.name: {**_QUERY, "user_limit": _USERS_PAGE},
    SEGMENT_CREATE.name: {
        **_SEGMENT,
        "type": Field(Kind.TEXT, "What it is made of.", required=True, choices=("user", "channel")),
    },
    SEGMENT_GET.name: {},
    SEGMENT_UPDATE.name: {name: _SEGMENT[name] for name in ("name", "description", "filter")},
    SEGMENT_DELETE.name: {},
    SEGMENT_QUERY.name: _QUERY,
    TARGETS_ADD.name: {
        "target_ids": Field(Kind.LIST, "At most 10,000.", required=True, item=_ID, most_items=TARGETS_ADDED_MOST)
    },
    TARGETS_DELETE.name: {
        "target_ids": Field(Kind.LIST, "At most 100.", required=True, item=_ID, most_items=TARGETS_DELETED_MOST)
    },
    TARGETS_QUERY.name: {
        **_QUERY,
        "limit": Field(Kind.INTEGER, "At most 10,000 a page.", least=0, most=TARGETS_PAGE_MOST),
    },
    TARGETS_EXISTS.name: {"target_id": Field(Kind.TEXT, "The target.", required=True, most_chars=ID_MOST)},
}
TABLES: Mapping[str, Fields] = {
    "segment": {
        **_SEGMENT,
        "create": Field(Kind.BOOLEAN, "true: made where there is none of this name yet.", fixed=True),
    },
    "launch": {
        **_CAMPAIGN,
        "id": Field(
            Kind.TEXT,
            "The campaign's id is made here.",
            refused="is not given: it follows from account, job and key, so that none is made twice",
        ),
    },
    "start": _START_BODY,
    "watch": {
        "every": Field(
            Kind.DURATION, 'How often a campaign is asked for until it is completed; "10 s" by default.', least_s=1
        )
    },
}
