"""The users of an app: those that it starts with, and those that a client adds."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from typing import Final

from bulksend.emulators.stream.answers import RefusedError
from bulksend.emulators.stream.fields import ID_MAX, Body, flag, must, object_, text, texts
from bulksend.emulators.stream.filters import RANGE, Field, as_any, as_flag, as_moment, as_text, build_filter
from bulksend.emulators.stream.moments import SECOND, Dialect

__all__ = ["User", "Users"]

_FIRST_USERS: Final = 300
_DAY: Final = 86_400 * SECOND
_COUNTRIES: Final = ("USA", "Netherlands", "Germany")
_TEAMS: Final = ("red", "blue")
_OWN: Final = frozenset(
    {"id", "name", "image", "language", "role", "teams", "teams_role", "invisible", "banned", "online", "custom"}
    | {"shadow_banned", "created_at", "updated_at", "deleted_at", "last_active", "blocked_user_ids"}
)
# UNCONFIRMED: what a segment's own filter may use. Every operator of the vendor's, on these and on custom fields.
_ALL: Final = RANGE | {"$ne", "$nin", "$contains", "$autocomplete"}


@dataclass(slots=True)
class User:
    """One user; `custom` are the fields that are the customer's own."""

    id: str
    created_at: int
    updated_at: int
    name: str | None = None
    image: str | None = None
    language: str = ""
    role: str = "user"
    invisible: bool = False
    teams: tuple[str, ...] = ()
    custom: Mapping[str, object] = field(default_factory=dict)

    def as_json(self, dialect: Dialect) -> dict[str, object]:
        """Return the UserResponse, and what more a FullUserResponse has.

        UNCONFIRMED: custom fields. v1 has them beside the others, where its SDKs put and look for them, and under
        `custom`, which the specification requires; v2 has the latter.
        """
        return {
            **({} if dialect.v2 else self.custom),
            "id": self.id,
            **({} if self.name is None else {"name": self.name}),
            **({} if self.image is None else {"image": self.image}),
            "language": self.language,
            "role": self.role,
            "teams": self.teams,
            "created_at": dialect.show(self.created_at),
            "updated_at": dialect.show(self.updated_at),
            "banned": False,
            "online": False,
            "shadow_banned": False,
            "invisible": self.invisible,
            "blocked_user_ids": (),
            "custom": self.custom,
        }


_FIELDS: Final[Mapping[str, Field[User]]] = {
    "id": Field(_ALL, as_text, lambda user: user.id),
    "name": Field(_ALL, as_text, lambda user: user.name),
    "image": Field(_ALL, as_text, lambda user: user.image),
    "language": Field(_ALL, as_text, lambda user: user.language),
    "role": Field(_ALL, as_text, lambda user: user.role),
    "teams": Field(_ALL, as_any, lambda user: user.teams),
    "invisible": Field(_ALL, as_flag, lambda user: user.invisible),
    "created_at": Field(_ALL, as_moment, lambda user: user.created_at),
    "updated_at": Field(_ALL, as_moment, lambda user: user.updated_at),
}


class Users:
    """The users of one app, by id."""

    def __init__(self, now: int) -> None:
        self._by_id: dict[str, User] = {}
        for number in range(1, _FIRST_USERS + 1):
            created = now - (_FIRST_USERS - number + 1) * _DAY
            custom = {"country": _COUNTRIES[number % 3], "team": _TEAMS[number % 2]}
            user = User(f"user-{number:04}", created, created, name=f"User {number}", custom=custom)
            self._by_id[user.id] = user

    def get(self, user_id: str) -> User | None:
        """Return a user, where the app has it."""
        return self._by_id.get(user_id)

    def ids(self) -> Collection[str]:
        """Return the ids of all."""
        return self._by_id.keys()

    def matching(self, given: Body) -> Collection[str]:
        """Return the ids of those that a segment's filter finds. Raises RefusedError for a bad filter."""
        passes = build_filter(given, _find)
        return [user.id for user in self._by_id.values() if passes(user)]

    def upsert(self, given: Body, now: int) -> list[User]:
        """Add or replace the users of `given`, all or none."""
        users = [self._read(user_id, fields, now) for user_id, fields in given.items()]
        if not users:
            raise RefusedError("users is a required field")
        self._by_id.update((user.id, user) for user in users)
        return users

    def delete(self, user_ids: Collection[str]) -> list[str]:
        """Take away those that are there, and return which were."""
        return [user_id for user_id in user_ids if self._by_id.pop(user_id, None) is not None]

    def _read(self, user_id: str, fields: object, now: int) -> User:
        if not isinstance(fields, dict):
            raise RefusedError("users must be an object of users")
        if must(fields, "id", ID_MAX) != user_id:
            raise RefusedError(f'the user under "{user_id}" has another id')
        known = self._by_id.get(user_id)
        return User(
            user_id,
            known.created_at if known else now,
            now,
            name=text(fields, "name"),
            image=text(fields, "image"),
            language=text(fields, "language") or "",
            role=text(fields, "role") or "user",
            invisible=flag(fields, "invisible") or False,
            teams=tuple(texts(fields, "teams", 1000) or ()),
            custom={
                **{key: value for key, value in fields.items() if key not in _OWN},
                **(object_(fields, "custom") or {}),
            },
        )


def _find(name: str) -> Field[User]:
    known = _FIELDS.get(name)
    return known or Field(_ALL, as_any, lambda user: _as_compared(user.custom.get(name)))


def _as_compared(value: object) -> object:
    return tuple(value) if isinstance(value, list) else value
