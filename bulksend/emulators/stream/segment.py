"""One segment: a list of targets, a filter over the users, all users, or the channels of the sender."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field
from typing import Final

from bulksend.emulators.stream.collation import Rank, by_code_point
from bulksend.emulators.stream.fields import Body
from bulksend.emulators.stream.moments import SECOND, Dialect
from bulksend.emulators.stream.targets import Targets
from bulksend.emulators.stream.users import Users

__all__ = ["Segment"]

_SIZED_AFTER: Final = SECOND // 20  # the page says only that a size is calculated asynchronously


@dataclass(slots=True)
class Segment:
    """A segment of users or of channels; `asked_at` is when what it selects was last given, `rank` its order."""

    id: str
    type: str
    created_at: int
    updated_at: int
    asked_at: int
    name: str = ""
    description: str = ""
    filter: Body | None = None
    all_users: bool = False
    all_sender_channels: bool = False
    deleted_at: int | None = None
    rank: Rank = by_code_point
    targets: Targets = field(init=False)

    def __post_init__(self) -> None:
        self.targets = Targets(self.rank)

    def members(self, users: Users) -> Collection[str]:
        """Return whom it targets now. The emulator has no channels but those that are added by their id."""
        selected = self._selected(users)
        if not selected:
            return self.targets.ids()
        # UNCONFIRMED: targets that are added to a segment with a filter count beside those that it finds.
        return {*selected, *self.targets.ids()}

    def ordered(self, users: Users) -> Sequence[str]:
        """Return the members, ascending by `rank`."""
        return sorted(self.members(users), key=self.rank) if self._selected(users) else self.targets.ordered()

    def size(self, users: Users, now: int) -> int:
        """Return the size that is known at `now`: in place for a list, soon for a filter, else never."""
        if self.all_sender_channels:
            return 0
        if now < self.asked_at + _SIZED_AFTER:
            return len(self.targets)
        return len(self.members(users))

    def as_json(self, users: Users, dialect: Dialect, now: int) -> dict[str, object]:
        """Return the SegmentResponse. UNCONFIRMED: `deleted_at` is left out until then."""
        found: dict[str, object] = {
            "id": self.id,
            "type": self.type,
            "name": self.name,
            "description": self.description,
            "filter": self.filter,
            "all_users": self.all_users,
            "all_sender_channels": self.all_sender_channels,
            "size": self.size(users, now),
            "created_at": dialect.show(self.created_at),
            "updated_at": dialect.show(self.updated_at),
        }
        return found if self.deleted_at is None else {**found, "deleted_at": dialect.show(self.deleted_at)}

    def _selected(self, users: Users) -> Collection[str]:
        if self.type != "user":
            return ()
        if self.all_users:
            return users.ids()
        return () if self.filter is None else users.matching(self.filter)
