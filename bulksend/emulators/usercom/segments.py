"""The segments that the emulated User.com has from the start, and the users in them; no call changes any."""

from __future__ import annotations

import random
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from bulksend.emulators.usercom.campaigns import zulu
from bulksend.emulators.usercom.pages import absolute

__all__ = ["Segment", "Segments", "User"]

_USERS: Final = 250  # three pages
_GIVEN_SIZE: Final = 10
_FIRST_CREATED: Final = datetime(2022, 9, 6, 11, 52, 48, 828444, UTC)


@dataclass(frozen=True, slots=True)
class User:
    """A contact, some of whom have no push subscription, no e-mail address, or have unsubscribed."""

    id: int
    user_key: str

    @property
    def has_push(self) -> bool:
        """Whether a push reaches the user."""
        return self.id % 3 != 0

    def as_json(self) -> dict[str, object]:
        """Return the user in the fields that clients of the API have been seen to read."""
        is_visitor = self.id % 4 == 0
        created = zulu(_FIRST_CREATED + timedelta(minutes=self.id))
        return {
            "id": self.id,
            "custom_id": f"customer-{self.id}",
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
        # The flag is every provider's: what is no number here is another's segment.
        numbers = {int(each) for each in given if each.isascii() and each.isdigit() and len(each) < 19}
        known = {each.id: each for each in _SEGMENTS}
        known |= {each: Segment(each, f"Segment {each}", _GIVEN_SIZE) for each in numbers - known.keys()}
        self._by_id = dict(sorted(known.items()))
        self._any = not given
        letters = string.ascii_lowercase + string.digits
        self._users = tuple(User(each, "".join(rng.choices(letters, k=12))) for each in range(1, _USERS + 1))

    @property
    def known(self) -> Sequence[Segment]:
        """The segments in the order of their ids."""
        return tuple(self._by_id.values())

    def has(self, segment: int) -> bool:
        """Say whether a campaign may name the segment."""
        return segment > 0 and (self._any or segment in self._by_id)

    def users(self, segment: str) -> Sequence[User] | None:
        """Return the users of a segment named as a path does, by their ids; None if there is no such segment."""
        return next((self._users[: each.size] for each in self._by_id.values() if str(each.id) == segment), None)

    def reach(self, segment: int | None) -> int:
        """Return how many users a campaign reaches; none in a segment that is only taken to exist."""
        found = self._by_id.get(segment) if segment is not None else None
        return sum(each.has_push for each in self._users[: found.size]) if found else 0
