"""Reading a request's fields: each has its type and limits, null counts as absent, and anything else is refused."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import TypeAlias

from bulksend.emulators.stream.answers import RefusedError
from bulksend.emulators.stream.moments import read_moment

__all__ = [
    "ID_MAX",
    "Body",
    "as_body",
    "flag",
    "items",
    "moment",
    "must",
    "object_",
    "text",
    "texts",
    "whole",
]

Body: TypeAlias = Mapping[str, object]
ID_MAX = 255


def as_body(value: object) -> Body:
    """Return the JSON object that the body must be."""
    if not isinstance(value, dict):
        raise RefusedError("the request body must be a JSON object")
    return value


def text(body: Body, key: str, longest: int | None = None, allowed: Collection[str] = ()) -> str | None:
    """Read a string of at most `longest` characters. UNCONFIRMED: that these are code points."""
    value = body.get(key)
    if value is None:
        return None
    if not isinstance(value, str):
        raise RefusedError(f"{key} must be a string")
    if longest is not None and len(value) > longest:
        raise RefusedError(f"{key} must be at most {longest} characters long")
    if allowed and value not in allowed:
        raise RefusedError(f"{key} must be one of [{' '.join(allowed)}]")
    return value


def must(body: Body, key: str, longest: int | None = None, allowed: Collection[str] = ()) -> str:
    """Read a string that is required and not empty."""
    value = text(body, key, longest, allowed)
    if not value:
        raise RefusedError(f"{key} is a required field")
    return value


def flag(body: Body, key: str) -> bool | None:
    """Read true or false."""
    value = body.get(key)
    if value is not None and not isinstance(value, bool):
        raise RefusedError(f"{key} must be a boolean")
    return value


def object_(body: Body, key: str) -> Body | None:
    """Read an object."""
    value = body.get(key)
    if value is not None and not isinstance(value, dict):
        raise RefusedError(f"{key} must be an object")
    return value


def items(body: Body, key: str, most: int) -> list[object] | None:
    """Read an array of at most `most`."""
    value = body.get(key)
    if value is None:
        return None
    if not isinstance(value, list):
        raise RefusedError(f"{key} must be an array")
    if len(value) > most:
        raise RefusedError(f"{key} must contain at most {most} items")
    return value


def texts(body: Body, key: str, most: int) -> list[str] | None:
    """Read an array of strings, none of them empty."""
    found = items(body, key, most)
    if found is None:
        return None
    strings = [each for each in found if isinstance(each, str) and each]
    if len(strings) != len(found):
        raise RefusedError(f"{key} must contain strings that are not empty")
    return strings


def whole(body: Body, key: str, most: int) -> int | None:
    """Read a number from 0 to `most`."""
    value = body.get(key)
    if value is None:
        return None
    if not isinstance(value, int) or isinstance(value, bool):
        raise RefusedError(f"{key} must be an integer")
    if not 0 <= value <= most:
        raise RefusedError(f"{key} must be between 0 and {most}")
    return value


def moment(body: Body, key: str) -> int | None:
    """Read a date-time, which requests of both families write as RFC 3339."""
    given = text(body, key)
    if given is None:
        return None
    found = read_moment(given)
    if found is None:
        raise RefusedError(f"{key} must be an RFC 3339 date-time")
    return found
