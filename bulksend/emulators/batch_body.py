"""What Batch.com takes as the body of a campaign, whole at its creation and in part at an update.

UNCONFIRMED, [I] and [L] are as in `batch.py`. What is not named here is taken as it is: the vendor's list of
parameters is longer than what could be read of it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from types import MappingProxyType
from typing import Final

__all__ = ["EXCLUSIVE", "NOW", "TIMES", "as_read", "find_fault"]

NOW: Final = "now"
TIMES: Final = ("push_time", "local_push_time")
# Each of these excludes the other [L].
EXCLUSIVE: Final[Mapping[str, str]] = MappingProxyType(
    {"push_time": "local_push_time", "local_push_time": "push_time", "deeplink": "landing", "landing": "deeplink"}
)

_MISSING: Final = 30
_MALFORMED: Final = 31
_REQUIRED: Final = ("name", "live", "messages")
_NAME_MIN: Final = 3  # UNCONFIRMED: counted in code points, blanks too
_LABELS_MAX: Final = 3
_TTL_MAX_S: Final = 28 * 86400
_TIME: Final = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d", re.ASCII)

_Fault = tuple[int, str]


def find_fault(body: Mapping[str, object], *, whole: bool) -> _Fault | None:
    """Return the first thing wrong, as the vendor's code and a text that names the parameter.

    A body that is not `whole` may leave out any parameter, but not a part of one that it has.
    """
    fault = _check(body, _RULES, _REQUIRED if whole else ())
    if fault:
        return fault
    if whole and not any(name in body for name in TIMES):
        return _MISSING, "push_time or local_push_time is missing"
    for one, other in EXCLUSIVE.items():
        if one in body and other in body:
            return _MALFORMED, f"{one} and {other} exclude each other"
    messages = body.get("messages")
    for index, message in enumerate(messages if isinstance(messages, list) else ()):
        where = f"messages[{index}]"
        if not isinstance(message, dict):
            return _MALFORMED, f"{where} must be an object"
        fault = _check(message, _MESSAGE, ("language", "body"), f"{where}.")
        if fault:
            return fault
    for name, rules in (("targeting", _TARGETING), ("media", _MEDIA)):
        inside = body.get(name)
        fault = _check(inside, rules, where=f"{name}.") if isinstance(inside, dict) else None
        if fault:
            return fault
    return None


def as_read(body: Mapping[str, object]) -> dict[str, object]:
    """Return what a get answers: all as it was written but the collapse key, written as an object and read as text."""
    key = body.get("gcm_collapse_key")
    # UNCONFIRMED: what is read where there is no `key`; "default" is what the page's sample has.
    return {**body, "gcm_collapse_key": key.get("key", "default")} if isinstance(key, dict) else dict(body)


def _is_name(value: object) -> bool:
    return isinstance(value, str) and len(value) >= _NAME_MIN


def _is_bool(value: object) -> bool:
    return isinstance(value, bool)


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_filled(value: object) -> bool:
    return isinstance(value, str) and bool(value)


def _is_object(value: object) -> bool:
    return isinstance(value, dict)


def _is_list(value: object) -> bool:
    return isinstance(value, list) and bool(value)


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(isinstance(each, str) for each in value)


def _is_labels(value: object) -> bool:
    return isinstance(value, list) and len(value) <= _LABELS_MAX and _is_texts(value)


def _is_priority(value: object) -> bool:
    return value in ("normal", "high")


def _is_ttl(value: object) -> bool:
    # One sentence says that 0 means a single try, and another that it must be above 0: 0 is taken.
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _TTL_MAX_S


def _is_time(value: object) -> bool:
    if not isinstance(value, str) or not _TIME.fullmatch(value):
        return False
    try:
        datetime.fromisoformat(value)
    except ValueError:
        return False
    return True


def _is_push_time(value: object) -> bool:
    return value == NOW or _is_time(value)


def _is_collapse_key(value: object) -> bool:
    # The parameter page says object, and clients show its shape [L]; reading gives a text, which is taken too.
    if not isinstance(value, dict):
        return isinstance(value, str)
    return isinstance(value.get("enabled", True), bool) and isinstance(value.get("key", ""), str)


_Rules = Mapping[str, tuple[Callable[[object], bool], str]]
_RULES: Final[_Rules] = MappingProxyType(
    {
        "name": (_is_name, f"a text of at least {_NAME_MIN} characters"),
        "live": (_is_bool, "true or false"),
        "push_time": (_is_push_time, '"now" or a UTC time as yyyy-MM-ddTHH:mm:ss'),
        "local_push_time": (_is_time, "a local time as yyyy-MM-ddTHH:mm:ss"),
        "messages": (_is_list, "a list of at least one message"),
        "labels": (_is_labels, f"a list of at most {_LABELS_MAX} texts"),
        "priority": (_is_priority, "normal or high"),
        "time_to_live": (_is_ttl, f"a whole number of seconds from 0 to {_TTL_MAX_S}"),
        "gcm_collapse_key": (_is_collapse_key, "an object of enabled (true or false) and key (a text)"),
        "targeting": (_is_object, "an object"),
        # UNCONFIRMED for campaigns: these names and types are those of the vendor's transactional API.
        "media": (_is_object, "an object"),
        "deeplink": (_is_text, "a text"),
        "landing": (_is_object, "an object"),
        "custom_payload": (_is_text, "a text that holds JSON"),  # UNCONFIRMED: whether what it holds is looked at
    }
)
_MESSAGE: Final[_Rules] = MappingProxyType(
    {"language": (_is_filled, "a text"), "body": (_is_filled, "a text"), "title": (_is_text, "a text")}
)
_LISTS: Final = ("segments", "languages", "regions", "custom_audiences")  # UNCONFIRMED: which values they may hold
_TARGETING: Final[_Rules] = MappingProxyType(
    {"query": (_is_object, "an object"), **dict.fromkeys(_LISTS, (_is_texts, "a list of texts"))}
)
_MEDIA: Final[_Rules] = MappingProxyType(dict.fromkeys(("icon", "picture", "audio", "video"), (_is_text, "a text")))


def _check(values: Mapping[str, object], rules: _Rules, required: Sequence[str] = (), where: str = "") -> _Fault | None:
    for name in required:
        if name not in values:
            return _MISSING, f"{where}{name} is missing"
    for name, (is_right, what) in rules.items():
        if name in values and not is_right(values[name]):
            return _MALFORMED, f"{where}{name} must be {what}"
    return None
