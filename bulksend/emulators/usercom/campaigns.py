"""A User.com campaign: how one is written, what it holds, and when it counts as sent.

The texts of the refusals are those of Django REST framework [I]; the vendor publishes none.
"""

from __future__ import annotations

import re
import string
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from types import MappingProxyType
from typing import Final, TypeVar

__all__ = ["Campaign", "Change", "Message", "RefusedError", "read_change", "zulu"]

_T = TypeVar("_T")

_DEFAULT_TTL_S: Final = 259_200
_DRAFT: Final = 1
_SENT: Final = 2

_TEXTS: Final = ("url", "icon", "badge", "doughnut_title", "doughnut_url", "coffee_title", "coffee_url")
_BUTTONS: Final = ("doughnut_title", "doughnut_url", "coffee_title", "coffee_url")
_SHOWN: Final = ("title", "body", "badge", "icon", "url", "require_interaction")

_ETA: Final = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}(:?[0-9]{2})?)?"
)

_REQUIRED: Final = "This field is required."
_NULL: Final = "This field may not be null."
_BAD_ETA: Final = (
    "Datetime has wrong format. Use one of these formats instead: YYYY-MM-DDThh:mm[:ss[.uuuuuu]][+HH:MM|-HH:MM|Z]."
)


class RefusedError(ValueError):
    """A value that is refused; `said` is what the answer says of it."""

    def __init__(self, said: object) -> None:
        super().__init__(said)
        self.said = said


@dataclass(frozen=True, slots=True)
class Message:
    """One variant of a campaign's message: the fields as they were written, those without a value left out."""

    id: int
    fields: Mapping[str, object]

    def as_json(self, index: int) -> dict[str, object]:
        """Return the form that is read, with its prefix; `index` gives the variant's letter.

        UNCONFIRMED: that null stands for what was not written.
        """
        letters = string.ascii_uppercase
        return {
            "id": self.id,
            "name": letters[index % len(letters)] * (index // len(letters) + 1),  # UNCONFIRMED after "Z"
            "message_id": self.id,  # UNCONFIRMED: in what it differs from `id`
            **{f"message_{key}": self.fields.get(key) for key in _SHOWN},
            "message_actions": any(self.fields.get(key) for key in _BUTTONS),
            **{f"message_{key}": self.fields.get(key) for key in _BUTTONS},
        }


@dataclass(frozen=True, slots=True)
class Change:
    """A body that was found good; None stands for what it does not say. `moves` tells whether it says an eta."""

    name: str | None
    segment: int | None
    messages: tuple[Message, ...] | None
    eta: datetime | None
    ttl_s: int | None
    moves: bool


@dataclass(slots=True)
class Campaign:
    """A campaign; `sent` holds what was sent by a call, and `status` knows of the eta as well."""

    id: int
    created: datetime
    name: str = ""
    segment: int | None = None
    messages: tuple[Message, ...] = ()
    eta: datetime | None = None
    ttl_s: int = _DEFAULT_TTL_S
    sent: bool = False

    def status(self, now: datetime) -> int:
        """Return 1 for a draft and 2 for what is sent, by a call or by its eta having passed."""
        return _SENT if self.sent or (self.eta is not None and self.eta <= now) else _DRAFT

    def take(self, change: Change, now: datetime) -> None:
        """Put the change in. What is sent stays so, wherever its eta is moved; `messages` are all replaced."""
        self.sent = self.status(now) == _SENT
        self.name = self.name if change.name is None else change.name
        self.segment = self.segment if change.segment is None else change.segment
        self.messages = self.messages if change.messages is None else change.messages
        self.ttl_s = self.ttl_s if change.ttl_s is None else change.ttl_s
        if change.moves:
            self.eta = change.eta
            self.sent = self.sent or self.eta is None  # UNCONFIRMED: that taking the eta away sends at once


def zulu(at: datetime) -> str:
    """Write a UTC time as the vendor does."""
    return at.isoformat().replace("+00:00", "Z")


def read_change(
    body: object, has_segment: Callable[[int], bool], message_ids: Iterator[int], *, partial: bool
) -> Change:
    """Check a body; unknown keys count for nothing, and None as good as nothing where nothing is allowed.

    Raises RefusedError with all that is wrong.
    """

    def segment(value: object) -> int:
        return _segment(value, has_segment)

    fields = _Fields(body, partial=partial)
    name = fields.take("name", _text, required=True)
    target = fields.take("segment", segment, required=True)
    written = fields.take("messages", _messages, required=True)
    eta = fields.take("eta", _eta)
    ttl_s = fields.take("ttl", _ttl)
    fields.refuse()
    messages = tuple(Message(next(message_ids), each) for each in written) if written else None
    return Change(name, target, messages, eta, ttl_s, moves="eta" in fields.body)


class _Fields:
    """An object's fields one by one, and what is wrong with them."""

    def __init__(self, body: object, *, partial: bool = False) -> None:
        if not isinstance(body, dict):
            kind = type(body).__name__
            raise RefusedError({"non_field_errors": [f"Invalid data. Expected a dictionary, but got {kind}."]})
        self.body: Mapping[str, object] = body
        self._partial = partial
        self._wrong: dict[str, object] = {}

    def take(self, key: str, read: Callable[[object], _T], *, required: bool = False) -> _T | None:
        value = self.body.get(key)
        if value is None:
            if required and key in self.body:
                self._wrong[key] = [_NULL]
            elif required and not self._partial:
                self._wrong[key] = [_REQUIRED]
            return None
        try:
            return read(value)
        except RefusedError as error:
            self._wrong[key] = error.said
            return None

    def refuse(self) -> None:
        if self._wrong:
            raise RefusedError(self._wrong)


def _string(value: object) -> str:
    # UNCONFIRMED: longest texts, and whether what should be an URL is looked at.
    if not isinstance(value, str):
        raise RefusedError(["Not a valid string."])
    return value


def _text(value: object) -> str:
    text = _string(value)
    if not text.strip():
        raise RefusedError(["This field may not be blank."])
    return text


def _flag(value: object) -> bool:
    if not isinstance(value, bool):
        raise RefusedError(["Must be a valid boolean."])
    return value


def _segment(value: object, has_segment: Callable[[int], bool]) -> int:
    # A number in a string is taken too, which the sheet of facts advises (1.4, row 5).
    number = int(value) if isinstance(value, str) and re.fullmatch(r"[0-9]{1,18}", value) else value
    if not isinstance(number, int) or isinstance(number, bool):
        raise RefusedError([f"Incorrect type. Expected pk value, received {type(value).__name__}."])
    if not has_segment(number):
        raise RefusedError([f'Invalid pk "{number}" - object does not exist.'])
    return number


def _ttl(value: object) -> int:
    # UNCONFIRMED: that zero is refused, and that there is no largest one.
    if not isinstance(value, int) or isinstance(value, bool):
        raise RefusedError(["A valid integer is required."])
    if value < 1:
        raise RefusedError(["Ensure this value is greater than or equal to 1."])
    return value


def _eta(value: object) -> datetime:
    """Read a time; UNCONFIRMED: that offsets and times that have passed are taken, and that none means UTC."""
    if not isinstance(value, str) or _ETA.fullmatch(value) is None:
        raise RefusedError([_BAD_ETA])
    try:
        at = datetime.fromisoformat(value)
        return at.replace(tzinfo=UTC) if at.tzinfo is None else at.astimezone(UTC)
    except (ValueError, OverflowError):
        raise RefusedError([_BAD_ETA]) from None


def _messages(value: object) -> tuple[Mapping[str, object], ...]:
    if not isinstance(value, list):
        raise RefusedError([f'Expected a list of items but got type "{type(value).__name__}".'])
    if not value:
        raise RefusedError(["This list may not be empty."])  # UNCONFIRMED
    read: list[Mapping[str, object]] = []
    wrong: list[object] = []  # one for each message, empty where nothing is wrong with it
    for each in value:
        try:
            read.append(_message(each))
            wrong.append({})
        except RefusedError as error:
            wrong.append(error.said)
    if any(wrong):
        raise RefusedError(wrong)
    return tuple(read)


def _message(value: object) -> Mapping[str, object]:
    fields = _Fields(value)
    found: dict[str, object] = {key: fields.take(key, _text, required=True) for key in ("title", "body")}
    found |= {key: fields.take(key, _string) for key in _TEXTS}
    found["require_interaction"] = fields.take("require_interaction", _flag)
    fields.refuse()
    return MappingProxyType({key: each for key, each in found.items() if each is not None})
