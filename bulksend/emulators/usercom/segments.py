"""The segments that the emulated User.com has from the start, and the users in them; no call changes any."""

from __future__ import annotations

import random
import re
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from bulksend.emulators.usercom.campaigns import zulu
from bulksend.emulators.usercom.pages import absolute

__all__ = ["Segment", "Segments", "User"]

_USERS: Final = 250  # three pages; those beyond are in segments that are given a size
_GIVEN_SIZE: Final = 10
_GIVEN: Final = re.compile(r"([0-9]{1,18})(?::([0-9]{1,9}))?")  # ID or ID:SIZE
_NO_PUSH_EVERY: Final = 3
_NO_CUSTOM_ID_EVERY: Final = 50  # beyond the first users
_LETTERS: Final = string.ascii_lowercase + string.digits
_FIRST_CREATED: Final = datetime(2022, 9, 6, 11, 52, 48, 828444, UTC)


@dataclass(frozen=True, slots=True)
class User:
    """A contact, some of whom have no push subscription, e-mail address or custom id, or have unsubscribed."""

    id: int
    user_key: str

    @property
    def has_push(self) -> bool:
        """Whether a push reaches the user."""
        return self.id % _NO_PUSH_EVERY != 0

    def as_json(self) -> dict[str, object]:
        """Return the user in the fields that clients of the API have been seen to read."""
        is_visitor = self.id % 4 == 0
        is_unnamed = self.id > _USERS and self.id % _NO_CUSTOM_ID_EVERY == 0
        created = zulu(_FIRST_CREATED + timedelta(minutes=self.id))
        return {
            "id": self.id,
            "custom_id": None if is_unnamed else f"customer-{self.id}",
            "user_key": self.user_key,
            "email": None if is_visitor else f"user{self.id}@example.com",
            "status": "visitor" if is_visitor else "user",
            "unsubscribed": self.id % 10 == 0,
            "web_push_subscription": self.has_push,
            "created_at": created,
            "updated_at": created,
        }


@dataclass(frozen=True, slots=True)
class Segment:
    """A segment with the first `size` of all users."""

    id: int
    name: str
    size: int

    def as_json(self, headers: Mapping[str, str]) -> dict[str, object]:
        """Return the segment as the list of segments shows it."""
        return {
            "id": self.id,
            "name": self.name,
            "description": f"The first {self.size} users",
            "object_count": self.size,
            "users": absolute(f"/api/public/segments/{self.id}/users/", headers),
        }


_SEGMENTS: Final = (Segment(1, "All users", _USERS), Segment(2, "Newsletter", 3), Segment(1033, "Active", 100))


class Segments:
    """The segments that there are: three, and those that the emulator was started with.

    Without any of the latter a campaign may name any, so that a job can be tried with its user's own ids.
    """

    def __init__(self, rng: random.Random, given: Sequence[str]) -> None:
        known = {each.id: each for each in _SEGMENTS}
        # The flag is every provider's: what is no number here is another's segment.
        for number, size in (found.groups() for found in map(_GIVEN.fullmatch, given) if found):
            before = known.get(int(number), Segment(int(number), f"Segment {int(number)}", _GIVEN_SIZE))
            known[before.id] = Segment(before.id, before.name, before.size if size is None else int(size))
        self._by_id = dict(sorted(known.items()))
        self._any = not given
        self._first = tuple(User(each, _make_key(rng)) for each in range(1, _USERS + 1))
        self._seed = f"{self._first[0].user_key}:{self._first[-1].user_key}"

    @property
    def known(self) -> Sequence[Segment]:
        """The segments in the order of their ids."""
        return tuple(self._by_id.values())

    def has(self, segment: int) -> bool:
        """Say whether a campaign may name the segment."""
        return segment > 0 and (self._any or segment in self._by_id)

    def user_ids(self, segment: str) -> Sequence[int] | None:
        """Return the ids of the users of a segment named as a path does; None if there is no such segment."""
        sizes = (each.size for each in self._by_id.values() if str(each.id) == segment)
        return next((range(1, size + 1) for size in sizes), None)

    def user(self, user_id: int) -> User:
        """Return a user; those beyond the first are made when they are asked for, each time the same."""
        if user_id <= _USERS:
            return self._first[user_id - 1]
        return User(user_id, _make_key(random.Random(f"{self._seed}:{user_id}")))

    def page_size(self, after: int) -> int:
        """Return how many users the page after (or before) a user has: up to 100, and as the vendor says it may vary.

        The first 250 are in pages of 100.
        """
        return 100 if after < _USERS else 60 + after % 41

    def reach(self, segment: int | None) -> int:
        """Return how many users a campaign reaches; none in a segment that is only taken to exist."""
        found = self._by_id.get(segment) if segment is not None else None
        return found.size - found.size // _NO_PUSH_EVERY if found else 0


def _make_key(rng: random.Random) -> str:
    return "".join(rng.choices(_LETTERS, k=12))
