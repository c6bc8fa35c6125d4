"""The campaigns of an app, and the calls that make, change, start, stop, ask for and delete them."""

from __future__ import annotations

import random
import uuid
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Final

from bulksend.emulators.stream.answers import RefusedError
from bulksend.emulators.stream.campaign import Campaign, Content
from bulksend.emulators.stream.fields import ID_MAX, Body, moment, text, whole
from bulksend.emulators.stream.filters import RANGE, Field, as_moment, as_text
from bulksend.emulators.stream.moments import Dialect
from bulksend.emulators.stream.pages import DEFAULT_LIMIT, Ask, Page, query, read_ask
from bulksend.emulators.stream.request import Outcome, Request
from bulksend.emulators.stream.run import Audience, Run
from bulksend.emulators.stream.segments import Segments
from bulksend.emulators.stream.targets import page_of_ids
from bulksend.emulators.stream.users import User, Users

__all__ = ["Campaigns"]

_PAGE_MAX: Final = 100
_USER_PAGE_MAX: Final = 1000
_FIRST_USERS: Final = Ask({}, [], DEFAULT_LIMIT)
_HOOK_DIALECT: Final = Dialect(v2=False)  # UNCONFIRMED: the pages' samples have texts, fixtures of an SDK numbers

_KEYS: Final[Mapping[str, Callable[[tuple[Campaign, str]], str | int]]] = {
    "id": lambda row: row[0].id,
    "name": lambda row: row[0].content.name,
    "sender_id": lambda row: row[0].content.sender_id,
    "status": lambda row: row[1],
    "created_at": lambda row: row[0].created_at,
    "updated_at": lambda row: row[0].updated_at,
}
_MOMENTS: Final = ("created_at", "updated_at")
_FIELDS: Final[Mapping[str, Field[tuple[Campaign, str]]]] = {
    **{key: Field(RANGE, as_moment if key in _MOMENTS else as_text, get) for key, get in _KEYS.items()},
    "segments": Field(frozenset({"$eq", "$in", "$contains"}), as_text, lambda row: tuple(row[0].content.segment_ids)),
}


class Campaigns:
    """The campaigns of one app; those of `existing` are drafts to nobody (the pages have no such thing)."""

    def __init__(self, users: Users, segments: Segments, existing: Iterable[str], rng: random.Random, now: int) -> None:
        self._users = users
        self._segments = segments
        self._rng = rng
        content = Content("user-0001", {"text": ""})
        self._by_id = {each: Campaign(each, content, now, now) for each in existing}
        self._deleted: set[str] = set()
        self._waiting: list[Campaign] = []  # begun neither yet nor never
        self._telling: list[Campaign] = []  # with webhooks still to come

    def settle(self, now: int) -> None:
        """Count the audience of what has begun by now. To be called before anything that changes a segment."""
        waiting, self._waiting = self._waiting, []
        for campaign in waiting:
            if campaign.run is not None and campaign.run.has_begun(now):
                campaign.run.audience = self._audience(campaign.content)
            elif campaign.status(now) == "scheduled":
                self._waiting.append(campaign)

    def events(self, now: int) -> Iterator[Mapping[str, object]]:
        """Return the bodies of the webhooks that have fallen due, each once.

        UNCONFIRMED: none tells of a campaign that was stopped; `skip_webhook` does not mute these two.
        """
        telling, self._telling = self._telling, []
        for campaign in telling:
            run, status = campaign.run, campaign.status(now)
            if run is None or status == "scheduled":
                self._telling.append(campaign)
                continue
            if not campaign.told and run.has_begun(now):
                campaign.told = 1
                yield self._event("campaign.started", campaign, run.starts)
            if status == "completed" and run.ends is not None:
                yield self._event("campaign.completed", campaign, run.ends)
            elif status == "in_progress":
                self._telling.append(campaign)

    def create(self, request: Request) -> Outcome:
        """Make a draft. UNCONFIRMED: an id that is taken, if by a deleted one, is answered 400."""
        body = request.body
        campaign_id = text(body, "id", ID_MAX) or str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        content = self._content(body)
        if campaign_id in self._by_id or campaign_id in self._deleted:
            raise RefusedError(f"campaign with id {campaign_id} already exists")
        campaign = Campaign(campaign_id, content, request.now, request.now)
        self._by_id[campaign_id] = campaign
        return self._told(campaign, request, campaign.id)

    def get(self, request: Request) -> Outcome:
        """Return a campaign with a page of its users."""
        asked = {key: request.query[key] for key in ("next", "prev") if key in request.query}
        limit = request.query.get("limit")
        if limit is not None and not (limit.isascii() and limit.isdecimal() and len(limit) < 10):
            raise RefusedError("limit must be an integer")
        ask = read_ask({**asked, "limit": None if limit is None else int(limit)}, _USER_PAGE_MAX)
        return self._told(self._live(request.id), request, ask=ask)

    def update(self, request: Request) -> Outcome:
        """Change a campaign. UNCONFIRMED: one that was started may be changed too, but not whom it is sent to."""
        campaign = self._live(request.id)
        text(request.body, "id", ID_MAX)
        campaign.content = self._content(request.body, campaign.content)
        return self._changed(campaign, request)

    def start(self, request: Request) -> Outcome:
        """Start now or later, and once only.

        UNCONFIRMED: that a second start is refused with 400, rescheduling among it; that a past scheduled_for is
        now; that the answer has the campaign in_progress already.
        """
        campaign, now = self._live(request.id), request.now
        scheduled_for, stop_at = moment(request.body, "scheduled_for"), moment(request.body, "stop_at")
        if campaign.run is not None:
            raise RefusedError(f"campaign is {campaign.status(now)}; a campaign can only be started once")
        campaign.run = Run(max(scheduled_for or now, now), scheduled_for is not None, stop_at)
        self._waiting.append(campaign)
        self._telling.append(campaign)
        self.settle(now)
        campaign.updated_at = now
        return self._told(campaign, request, campaign.id)

    def stop(self, request: Request) -> Outcome:
        """Stop what is scheduled or in progress; a completed campaign cannot be stopped.

        UNCONFIRMED: a draft becomes stopped as well; a second stop is no error and changes nothing.
        """
        campaign, now = self._live(request.id), request.now
        status = campaign.status(now)
        if status == "completed":
            raise RefusedError("a completed campaign cannot be stopped")
        if status == "stopped":
            return self._bare(self._told(campaign, request), request)
        if campaign.run is None:
            campaign.run = Run(now)
        campaign.run.stopped = now
        return self._changed(campaign, request)

    def delete(self, request: Request) -> Outcome:
        """Delete. UNCONFIRMED: one that is scheduled or in progress may be, and is stopped by it."""
        campaign, now = self._live(request.id), request.now
        if campaign.run is not None and campaign.status(now) in ("scheduled", "in_progress"):
            campaign.run.stopped = now
        del self._by_id[campaign.id]
        self._deleted.add(campaign.id)
        return Outcome({}, campaign.id)

    def query(self, request: Request) -> Outcome:
        """Return a page of campaigns, each with the first of its users."""
        body, now = request.body, request.now
        user_ask = Ask({}, [], whole(body, "user_limit", _USER_PAGE_MAX) or DEFAULT_LIMIT)
        rows = [(campaign, campaign.status(now)) for campaign in self._by_id.values()]
        page = query(rows, read_ask(body, _PAGE_MAX), _FIELDS, _KEYS)
        shown = [self._shown(campaign, request.dialect, now, user_ask)[0] for campaign, _ in page.rows]
        return Outcome({"campaigns": shown, **page.cursors()})

    def _live(self, campaign_id: str) -> Campaign:
        campaign = self._by_id.get(campaign_id)
        if campaign is None:
            raise RefusedError(f"campaign with id {campaign_id} does not exist", 404)
        return campaign

    def _content(self, body: Body, before: Content | None = None) -> Content:
        content = Content.from_body(body, before)
        self._segments.check(content.segment_ids)
        return content  # UNCONFIRMED: a sender or users that the app does not have are taken

    def _audience(self, content: Content) -> Audience:
        """Count whom it goes to: a user who is in several segments is one."""
        users, channels = set(content.user_ids), set[str]()
        for segment in self._segments.named(content.segment_ids):
            if segment.deleted_at is None:
                (users if segment.type == "user" else channels).update(segment.members(self._users))
        return Audience(len(users), len(channels))

    def _changed(self, campaign: Campaign, request: Request) -> Outcome:
        campaign.updated_at = request.now
        return self._bare(self._told(campaign, request, campaign.id), request)

    def _bare(self, outcome: Outcome, request: Request) -> Outcome:
        """Answer update and stop: the specification has a bare campaign, v1 is seen to wrap it, v2 gets both."""
        campaign = outcome.fields["campaign"]
        if not request.dialect.v2 or not isinstance(campaign, dict):
            return outcome
        return Outcome({**campaign, "campaign": campaign}, outcome.effect)

    def _told(
        self, campaign: Campaign, request: Request, effect: str | None = None, ask: Ask = _FIRST_USERS
    ) -> Outcome:
        shown, page = self._shown(campaign, request.dialect, request.now, ask)
        return Outcome({"campaign": shown, "users": page.cursors()}, effect)

    def _shown(self, campaign: Campaign, dialect: Dialect, now: int, ask: Ask) -> tuple[dict[str, object], Page[str]]:
        """Return the whole campaign. Its users are those that it names, not those of its segments."""
        content = campaign.content
        page = page_of_ids(sorted(content.user_ids), ask)
        # UNCONFIRMED: users that the app does not have are shown all the same, as are segments that were deleted.
        users = [
            self._users.get(user_id) or User(user_id, campaign.created_at, campaign.created_at) for user_id in page.rows
        ]
        sender = self._users.get(content.sender_id)
        segments = self._segments.named(content.segment_ids)
        shown = campaign.as_json(
            dialect,
            now,
            segments=[segment.as_json(self._users, dialect, now) for segment in segments],
            users=[user.as_json(dialect) for user in users],
            **({} if sender is None else {"sender": sender.as_json(dialect)}),
        )
        return shown, page

    def _event(self, kind: str, campaign: Campaign, at: int) -> Mapping[str, object]:
        shown, _ = self._shown(campaign, _HOOK_DIALECT, at, _FIRST_USERS)
        return {"type": kind, "created_at": _HOOK_DIALECT.show(at), "custom": {}, "campaign": shown}
