"""One campaign: what it sends and to whom, and how its run shows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from bulksend.emulators.stream.answers import RefusedError
from bulksend.emulators.stream.fields import Body, flag, must, text, texts
from bulksend.emulators.stream.moments import Dialect
from bulksend.emulators.stream.run import Run
from bulksend.emulators.stream.templates import read_channel_template, read_message_template

__all__ = ["Campaign", "Content"]

_SEGMENTS_MAX: Final = 25
_USERS_MAX: Final = 10_000
_FLAGS: Final = ("create_channels", "show_channels", "skip_push", "skip_webhook")


@dataclass(frozen=True, slots=True)
class Content:
    """All that a create or update gives; its ids are without duplicates."""

    sender_id: str
    message_template: Body
    channel_template: Body | None = None
    name: str = ""
    description: str = ""
    sender_mode: str = ""
    sender_visibility: str = ""
    flags: Mapping[str, bool] = field(default_factory=dict)
    segment_ids: Sequence[str] = ()
    user_ids: Sequence[str] = ()

    @classmethod
    def from_body(cls, body: Body, before: Content | None = None) -> Content:
        """Read a create, or an update of `before`.

        An update must have the sender and the message again. UNCONFIRMED: what else it leaves out stays; the names
        that are null show as empty strings, since the specification has them as strings that are required; an
        empty list of segments or users is as none.
        """
        sender_id, message = must(body, "sender_id"), read_message_template(body)
        flags = {key: flag(body, key) for key in _FLAGS}
        segment_ids = texts(body, "segment_ids", _SEGMENTS_MAX) or []
        user_ids = texts(body, "user_ids", _USERS_MAX) or []
        name, description = text(body, "name"), text(body, "description")
        mode = text(body, "sender_mode", allowed=("", "exclude", "include"))
        visibility = text(body, "sender_visibility", allowed=("", "hidden", "archived"))
        old = before or cls(sender_id, message)
        if segment_ids and user_ids:
            raise RefusedError("segment_ids and user_ids cannot be used together")
        if not segment_ids and not user_ids:
            if before is None:
                raise RefusedError("either segment_ids or user_ids must be provided")
            segment_ids, user_ids = list(old.segment_ids), list(old.user_ids)
        content = cls(
            sender_id,
            message,
            read_channel_template(body) or old.channel_template,
            old.name if name is None else name,
            old.description if description is None else description,
            old.sender_mode if mode is None else mode,
            old.sender_visibility if visibility is None else visibility,
            {key: old.flags.get(key, False) if value is None else value for key, value in flags.items()},
            tuple(dict.fromkeys(segment_ids)),
            tuple(dict.fromkeys(user_ids)),
        )
        if content.flags["create_channels"] and content.channel_template is None:
            raise RefusedError("channel_template is required when create_channels is true")
        return content


@dataclass(slots=True)
class Campaign:
    """A campaign and its one run; `told` counts the webhooks that it has sent."""

    id: str
    content: Content
    created_at: int
    updated_at: int
    run: Run | None = None
    told: int = 0

    def status(self, now: int) -> str:
        """Return its status as the pages name it."""
        return "draft" if self.run is None else self.run.status(now)

    def as_json(self, dialect: Dialect, now: int, **related: object) -> dict[str, object]:
        """Return the CampaignResponse at `now`; `related` are the sender, segments and users that belong in it."""
        content, run = self.content, self.run
        found: dict[str, object] = {
            "id": self.id,
            "name": content.name,
            "description": content.description,
            "status": self.status(now),
            "sender_id": content.sender_id,
            "sender_mode": content.sender_mode,
            "sender_visibility": content.sender_visibility,
            "segment_ids": content.segment_ids,
            "user_ids": content.user_ids,
            "message_template": content.message_template,
            "created_at": dialect.show(self.created_at),
            "updated_at": dialect.show(self.updated_at),
            "stats": self._stats(dialect, now),
            **{key: content.flags.get(key, False) for key in _FLAGS},
            **related,
        }
        if content.channel_template is not None:
            found["channel_template"] = content.channel_template
        if run is not None:
            if run.is_scheduled:
                found["scheduled_for"] = dialect.show(run.starts)
            if run.stop_at is not None:
                found["stop_at"] = dialect.show(run.stop_at)
        return found

    def _stats(self, dialect: Dialect, now: int) -> dict[str, object]:
        """Return the stats; the moments are null before they come (UNCONFIRMED).

        A message is sent to each user or channel, and with create_channels each user's is a new one (UNCONFIRMED:
        which of them exist already); nobody reads it.
        """
        run = self.run
        begun = run is not None and run.has_begun(now)
        progress = run.progress(now) if run is not None else 0.0
        users = int(run.audience.users * progress) if run is not None and run.audience is not None else 0
        channels = int(run.audience.channels * progress) if run is not None and run.audience is not None else 0
        completed = self.status(now) == "completed"
        return {
            "progress": progress,
            "stats_started_at": dialect.show(run.starts) if run is not None and begun else None,
            "stats_completed_at": dialect.show(run.ends) if run is not None and completed else None,
            "stats_messages_sent": users + channels,
            "stats_channels_created": users if self.content.flags.get("create_channels") else 0,
            "stats_users_sent": users,
            "stats_users_read": 0,
        }
