"""The templates of a campaign: what must be in the message and in the channels that it makes."""

from __future__ import annotations

from typing import Final

from bulksend.emulators.stream.answers import RefusedError
from bulksend.emulators.stream.fields import Body, as_body, flag, items, must, object_, text, texts

__all__ = ["read_channel_template", "read_message_template"]

_ATTACHMENTS_MAX: Final = 30
_MEMBERS_MAX: Final = 1000
_TEAM_MAX: Final = 1000
_TYPE_MAX: Final = 64


def read_message_template(body: Body) -> Body:
    """Return the message_template, which is required and has a text."""
    template = object_(body, "message_template")
    if template is None:
        raise RefusedError("message_template is a required field")
    must(template, "text")
    text(template, "poll_id")
    flag(template, "searchable")
    object_(template, "custom")
    for attachment in items(template, "attachments", _ATTACHMENTS_MAX) or ():
        as_body(attachment)
    return template


def read_channel_template(body: Body) -> Body | None:
    """Return the channel_template, where there is one."""
    template = object_(body, "channel_template")
    if template is None:
        return None
    must(template, "type", _TYPE_MAX)
    text(template, "id")
    text(template, "team", _TEAM_MAX)
    object_(template, "custom")
    members = texts(template, "members", _MEMBERS_MAX)
    members_template = items(template, "members_template", _MEMBERS_MAX)
    if members and members_template:
        raise RefusedError("members and members_template cannot be used together")
    for each in members_template or ():
        member = as_body(each)
        must(member, "user_id")
        text(member, "channel_role")
        object_(member, "custom")
    return template
