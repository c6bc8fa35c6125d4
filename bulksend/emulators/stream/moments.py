"""Moments in time, kept as nanoseconds since the epoch, and how each route family writes them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Final

__all__ = ["SECOND", "Dialect", "dialect_of", "moment_at", "read_moment"]

SECOND: Final = 1_000_000_000

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FORM: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d+)?([Zz]|[+-]\d\d:\d\d)?")


@dataclass(frozen=True, slots=True)
class Dialect:
    """What differs between the unversioned routes and those under `/api/v2`."""

    v2: bool

    def show(self, moment: int | None) -> int | str | None:
        """Write a moment: v2 as integer nanoseconds, v1 as RFC 3339 text."""
        return moment if self.v2 or moment is None else _rfc3339(moment)


def dialect_of(path: str) -> Dialect:
    """Tell the route family by the path."""
    return Dialect(path.startswith("/api/v2/"))


def moment_at(seconds: float) -> int:
    """Return a moment in whole microseconds, which both families can write without a loss."""
    return round(seconds * 1_000_000) * 1000


def read_moment(text: str) -> int | None:
    """Read RFC 3339, in requests the form of both families; None where it is none.

    UNCONFIRMED: a time without an offset is taken as UTC (stream-chat sends such).
    """
    if not _FORM.fullmatch(text):
        return None
    try:
        given = datetime.fromisoformat(text.upper())
        moment = (given if given.tzinfo else given.replace(tzinfo=UTC)).astimezone(UTC)
    except (ValueError, OverflowError):
        return None
    return (moment - _EPOCH) // timedelta(microseconds=1) * 1000


@lru_cache(maxsize=4096)  # a page of targets has few different moments
def _rfc3339(moment: int) -> str:
    return f"{_EPOCH + timedelta(microseconds=moment // 1000):%Y-%m-%dT%H:%M:%S.%fZ}"
