"""The segments of an app, and the calls that make, change, ask for and delete them and their targets."""

from __future__ import annotations

import hashlib
import random
import uuid
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Final

from bulksend.emulators.stream.answers import RefusedError
from bulksend.emulators.stream.collation import Rank
from bulksend.emulators.stream.fields import ID_MAX, Body, flag, must, object_, text, texts
from bulksend.emulators.stream.filters import RANGE, Field, as_flag, as_moment, as_text
from bulksend.emulators.stream.pages import query, read_ask
from bulksend.emulators.stream.request import Outcome, Request
from bulksend.emulators.stream.segment import Segment
from bulksend.emulators.stream.targets import page_of_ids
from bulksend.emulators.stream.users import Users

__all__ = ["Segments"]

_NAME_MAX: Final = 128
_DESCRIPTION_MAX: Final = 256
_PAGE_MAX: Final = 100
_TARGET_PAGE_MAX: Final = 10_000
_ADDED_MAX: Final = 10_000
_DELETED_MAX: Final = 100
_LOGGED_MAX: Final = 1_000  # the ids of larger calls are counted and hashed in the log of effects

_FIELDS: Final[Mapping[str, Field[Segment]]] = {
    "id": Field(RANGE, as_text, lambda segment: segment.id),
    "name": Field(RANGE, as_text, lambda segment: segment.name),
    "type": Field(frozenset({"$eq", "$exists", "$in"}), as_text, lambda segment: segment.type),
    "all_users": Field(RANGE, as_flag, lambda segment: segment.all_users),
    "created_at": Field(RANGE, as_moment, lambda segment: segment.created_at),
    "updated_at": Field(RANGE, as_moment, lambda segment: segment.updated_at),
}
_KEYS: Final[Mapping[str, Callable[[Segment], str | int]]] = {
    "id": lambda segment: segment.id,
    "name": lambda segment: segment.name,
    "type": lambda segment: segment.type,
    "all_users": lambda segment: segment.all_users,
    "created_at": lambda segment: segment.created_at,
    "updated_at": lambda segment: segment.updated_at,
}


class Segments:
    """The segments of one app; those of `existing` are there from the start, as empty lists of users.

    `rank` gives the order of their targets.
    """

    def __init__(
        self, users: Users, existing: Iterable[str], rng: random.Random, app_pk: int, now: int, rank: Rank
    ) -> None:
        self._users = users
        self._rng = rng
        self._app_pk = app_pk
        self._rank = rank
        self._by_id = {each: Segment(each, "user", now, now, now, rank=rank) for each in existing}
        self._strict = bool(self._by_id)

    def named(self, ids: Iterable[str]) -> list[Segment]:
        """Return those of a campaign's segments that there are, deleted ones as well."""
        return [segment for segment in map(self._by_id.get, ids) if segment is not None]

    def members(self, segment_id: str) -> Collection[str] | None:
        """Return whom a segment targets now, in no order; None where there is none of that id, or no more."""
        segment = self._by_id.get(segment_id)
        return None if segment is None or segment.deleted_at is not None else segment.members(self._users)

    def check(self, ids: Iterable[str]) -> None:
        """Refuse segments that do not exist, where the emulator was told which ones do; otherwise all do."""
        if not self._strict:
            return
        for segment_id in ids:
            segment = self._by_id.get(segment_id)
            if segment is None or segment.deleted_at is not None:
                raise RefusedError(f"segment with id {segment_id} does not exist")  # UNCONFIRMED: 400 rather than 404

    def create(self, request: Request) -> Outcome:
        """Make a segment. UNCONFIRMED: an id that is taken, if by a deleted one, is answered 400."""
        body = request.body
        segment_id = text(body, "id", ID_MAX) or str(uuid.UUID(int=self._rng.getrandbits(128), version=4))
        segment = Segment(
            segment_id,
            must(body, "type", allowed=("user", "channel")),
            request.now,
            request.now,
            request.now,
            name=text(body, "name", _NAME_MAX) or "",
            description=text(body, "description", _DESCRIPTION_MAX) or "",
            filter=object_(body, "filter"),
            all_users=flag(body, "all_users") or False,
            all_sender_channels=flag(body, "all_sender_channels") or False,
            rank=self._rank,
        )
        self._check_selection(segment)
        if segment_id in self._by_id:
            raise RefusedError(f"segment with id {segment_id} already exists")
        self._by_id[segment_id] = segment
        return self._told(segment, request, segment.id)

    def get(self, request: Request) -> Outcome:
        """Return a segment."""
        return self._told(self._live(request.id), request)

    def update(self, request: Request) -> Outcome:
        """Change name, description or filter; what is left out stays."""
        segment, body = self._live(request.id), request.body
        name = text(body, "name", _NAME_MAX)
        description = text(body, "description", _DESCRIPTION_MAX)
        given = object_(body, "filter")
        if given is not None:
            before, segment.filter = segment.filter, given
            try:
                self._check_selection(segment)
            except RefusedError:
                segment.filter = before
                raise
            segment.asked_at = request.now
        segment.name = segment.name if name is None else name
        segment.description = segment.description if description is None else description
        segment.updated_at = request.now
        return self._told(segment, request, segment.id)

    def delete(self, request: Request) -> Outcome:
        """Delete softly: the campaigns that use it go on showing it."""
        segment = self._live(request.id)
        segment.deleted_at = request.now
        return Outcome({}, segment.id)

    def query(self, request: Request) -> Outcome:
        """Return a page of segments."""
        living = [segment for segment in self._by_id.values() if segment.deleted_at is None]
        page = query(living, read_ask(request.body, _PAGE_MAX), _FIELDS, _KEYS)
        rows = [segment.as_json(self._users, request.dialect, request.now) for segment in page.rows]
        return Outcome({"segments": rows, **page.cursors()})

    def add_targets(self, request: Request) -> Outcome:
        """Add up to 10,000 targets; those that are there already change nothing."""
        segment = self._live(request.id)
        given = _target_ids(request, _ADDED_MAX)
        return self._changed(segment, request, segment.targets.add(given, request.now), given)

    def delete_targets(self, request: Request) -> Outcome:
        """Take away up to 100 targets; those that are not there are no error."""
        segment = self._live(request.id)
        given = _target_ids(request, _DELETED_MAX)
        return self._changed(segment, request, segment.targets.remove(given), given)

    def target_exists(self, request: Request) -> Outcome:
        """Tell by 200 or 404 whether a target is in the segment."""
        segment = self._live(request.id)
        if request.target_id not in segment.targets and request.target_id not in segment.members(self._users):
            raise RefusedError(f"target {request.target_id} does not exist in segment {segment.id}", 404)
        return Outcome({})

    def query_targets(self, request: Request) -> Outcome:
        """Return a page of targets, in the order of the collation unless the sort says otherwise."""
        segment = self._live(request.id)
        page = page_of_ids(segment.ordered(self._users), read_ask(request.body, _TARGET_PAGE_MAX), self._rank)
        show, selected_at = request.dialect.show, segment.asked_at
        rows = [
            {
                "app_pk": self._app_pk,
                "segment_id": segment.id,
                "target_id": target_id,
                "created_at": show(segment.targets.added_at(target_id) or selected_at),
            }
            for target_id in page.rows
        ]
        return Outcome({"targets": rows, **page.cursors()})

    def _live(self, segment_id: str) -> Segment:
        segment = self._by_id.get(segment_id)
        if segment is None or segment.deleted_at is not None:
            raise RefusedError(f"segment with id {segment_id} does not exist", 404)
        return segment

    def _check_selection(self, segment: Segment) -> None:
        if (segment.filter is not None) + segment.all_users + segment.all_sender_channels > 1:
            raise RefusedError("filter, all_users and all_sender_channels are mutually exclusive")
        # UNCONFIRMED: all_users of a channel segment and the reverse; each is an option of the one type only.
        if (segment.all_users and segment.type != "user") or (
            segment.all_sender_channels and segment.type != "channel"
        ):
            raise RefusedError(f"all_users and all_sender_channels are not both for segments of type {segment.type}")
        if segment.filter is not None and segment.type == "user":
            self._users.matching(segment.filter)  # refuses what is no filter

    def _changed(self, segment: Segment, request: Request, number: int, given: Collection[str]) -> Outcome:
        if not number:
            return Outcome({})
        segment.updated_at = request.now  # UNCONFIRMED: that its targets count as an update
        return Outcome({}, segment.id, _logged(request.body, given))

    def _told(self, segment: Segment, request: Request, effect: str | None = None) -> Outcome:
        return Outcome({"segment": segment.as_json(self._users, request.dialect, request.now)}, effect)


def _target_ids(request: Request, most: int) -> list[str]:
    found = texts(request.body, "target_ids", most)
    if not found:
        raise RefusedError("target_ids is a required field")
    return found


def _logged(body: Body, given: Collection[str]) -> Body | None:
    """Return what the log keeps in place of a body of very many ids: their number, and what tells whether it is them.

    The hash is of the distinct ids by code point, each as UTF-8 with a newline after it.
    """
    if len(given) <= _LOGGED_MAX:
        return None
    digest = hashlib.sha256("".join(f"{each}\n" for each in sorted(set(given))).encode()).hexdigest()
    rest = {key: value for key, value in body.items() if key != "target_ids"}
    return {**rest, "target_ids_count": len(given), "target_ids_sha256": digest}
