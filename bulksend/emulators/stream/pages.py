"""Pages of a query, and the opaque cursors between them, which hold all that is needed to go on."""

from __future__ import annotations

from base64 import urlsafe_b64decode, urlsafe_b64encode
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Container, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Generic, TypeAlias, TypeVar

import orjson

from bulksend.emulators.stream.answers import RefusedError
from bulksend.emulators.stream.fields import Body, object_, text, whole
from bulksend.emulators.stream.filters import Field, build_filter

__all__ = ["DEFAULT_LIMIT", "Ask", "Page", "cut", "query", "read_ask", "read_order"]

T = TypeVar("T")
Value: TypeAlias = str | int

DEFAULT_LIMIT: Final = 10  # UNCONFIRMED: the default of any query; 0 counts as absent
_SORTS_MAX: Final = 10  # only so that no comparison is endless


@dataclass(frozen=True, slots=True)
class Ask:
    """Which page is wanted: what is asked, how many rows, and the row of the page before (or after) it."""

    filter: object
    sort: object
    limit: int
    anchor: Sequence[object] | None = None
    backward: bool = False

    def cursor(self, anchor: Sequence[object], *, backward: bool) -> str:
        """Return where to go on from the row of `anchor`."""
        return urlsafe_b64encode(orjson.dumps([self.filter, self.sort, anchor, backward])).decode().rstrip("=")


@dataclass(frozen=True, slots=True)
class Page(Generic[T]):
    """One page, and the cursors to its neighbours where there are any."""

    rows: Sequence[T]
    next: str | None
    prev: str | None

    def cursors(self) -> dict[str, str]:
        """Return the cursors as a body has them. UNCONFIRMED: that one which leads nowhere is left out."""
        return {key: value for key, value in (("next", self.next), ("prev", self.prev)) if value is not None}


def read_ask(body: Body, most: int) -> Ask:
    """Read filter, sort, limit and cursor of a query. The filter and sort are taken with a capital as well.

    INFERRED: a cursor carries filter and sort along, and those of its own call are not looked at. stream-chat's own
    test_segment_targets (skipped in its newest version) follows a cursor with another filter and sort, and wants a
    whole page. Where `next` and `prev` are both given, as in a sample of the vendor, `next` counts.
    """
    given_filter = object_(body, "filter") or object_(body, "Filter") or {}
    sort = next((body[key] for key in ("sort", "Sort") if body.get(key) is not None), [])
    limit = whole(body, "limit", most) or DEFAULT_LIMIT
    following, preceding = text(body, "next"), text(body, "prev")
    if not (following or preceding):
        return Ask(given_filter, sort, limit)
    try:
        cursor = following or preceding or ""
        filter_, sort, anchor, backward = orjson.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
    except (ValueError, TypeError):
        raise RefusedError("next or prev is not a cursor of this query") from None
    if not isinstance(anchor, list) or backward is not (not following):
        raise RefusedError("next or prev is not a cursor of this query")
    return Ask(filter_, sort, limit, anchor, backward)


def read_order(sort: object, known: Container[str]) -> list[tuple[str, bool]]:
    """Read a sort as (field, whether descending). UNCONFIRMED: the fields that may be sorted by."""
    if not isinstance(sort, list) or len(sort) > _SORTS_MAX:
        raise RefusedError("sort must be an array of fields and directions")
    order = []
    for each in sort:
        if not isinstance(each, dict):
            raise RefusedError("sort must be an array of fields and directions")
        field, direction = each.get("field"), each.get("direction")
        if not isinstance(field, str) or field not in known:
            raise RefusedError(f"cannot sort by {field}")
        if isinstance(direction, bool) or direction not in (None, 1, -1):
            raise RefusedError("the direction of a sort is 1 or -1")
        text(each, "type", allowed=("", "number", "boolean"))
        order.append((field, direction == -1))
    return order


def cut(rows: Sequence[T], at: int, ask: Ask, anchor: Callable[[T], Sequence[object]]) -> Page[T]:
    """Cut the page that begins at `at`, or that ends there when the ask goes backward."""
    start = max(0, at - ask.limit) if ask.backward else at
    end = at if ask.backward else min(len(rows), at + ask.limit)
    page = rows[start:end]
    following = ask.cursor(anchor(page[-1]), backward=False) if page and end < len(rows) else None
    preceding = ask.cursor(anchor(page[0]), backward=True) if page and start else None
    return Page(page, following, preceding)


def query(
    rows: Iterable[T], ask: Ask, fields: Mapping[str, Field[T]], keys: Mapping[str, Callable[[T], Value]]
) -> Page[T]:
    """Filter, sort and cut `rows`. Without a sort they are in the order of creation (UNCONFIRMED), ties by id."""
    passes = build_filter(ask.filter, fields.get)
    order = read_order(ask.sort, keys) or [("created_at", False)]
    order.append(("id", False))

    def values(row: T) -> list[Value]:
        return [keys[field](row) for field, _ in order]

    def rank(found: Sequence[object]) -> list[object]:
        return [_Descending(value) if down else value for value, (_, down) in zip(found, order, strict=True)]

    matched = sorted((row for row in rows if passes(row)), key=lambda row: rank(values(row)))
    if ask.anchor is None:
        return cut(matched, 0, ask, values)
    bisect = bisect_left if ask.backward else bisect_right
    try:
        at = bisect(matched, rank(ask.anchor), key=lambda row: rank(values(row)))
    except (TypeError, ValueError):
        raise RefusedError("next or prev is not a cursor of this query") from None
    return cut(matched, at, ask, values)


@dataclass(frozen=True, slots=True)
class _Descending:
    value: object

    def __lt__(self, other: _Descending) -> bool:
        return bool(other.value < self.value)  # type: ignore[operator]
