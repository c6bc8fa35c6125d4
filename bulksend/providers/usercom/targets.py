"""The users of User.com's segments: read page by page; no route changes who is in one.

Facts: the vendor's page apidocs.user.com/segments (the list with `object_count`, and the address of a segment's users)
and its page on basic usage (up to 100 a page, cursors in an absolute `next`). Which fields a user of the list has was
seen in clients of others; a user without a custom_id is known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from bulksend.model import Described, Endpoint, Listed, Outcome, Reply, Step, Unknown
from bulksend.providers.base import read_common, read_object, with_query
from bulksend.providers.targets import Batch, Span
from bulksend.providers.usercom.pages import cursor_of
from bulksend.providers.usercom.tables import SEGMENT_USERS, SEGMENTS

__all__ = ["UsercomTargets"]


@dataclass(frozen=True, slots=True)
class UsercomTargets:
    """Users, compared by one of their fields; in the order of the vendor's numbers."""

    matches: tuple[str, ...] = ("custom_id", "id", "user_key", "email")
    id_most_chars: int | None = None
    page_most: int = 100
    page_endpoint: Endpoint = SEGMENT_USERS
    is_ordered: bool = False
    has_spans: bool = False
    add: Batch | None = None
    remove: Batch | None = None

    def describe(self, segment_id: str, *, following: str | None) -> Step:
        """Ask for the list of segments: no route has one by itself."""
        return Step(SEGMENTS, path=with_query(SEGMENTS.path, {} if following is None else {"cursor": following}))

    def read_description(self, step: Step, segment_id: str, reply: Reply) -> Outcome:
        """Look for the segment in the page; its `object_count` is missing in an older form of it."""
        found = _results(reply)
        if not isinstance(found, tuple):
            return found
        results, following = found
        for one in results:
            if str(one.get("id")) == segment_id:
                size = one.get("object_count")
                if not isinstance(size, int) or isinstance(size, bool) or size < 0:
                    size = None
                return Described(size=size)
        return Described(found=False, following=following)

    def page(self, segment_id: str, span: Span, *, following: str | None) -> Step:
        """Ask for a page of users."""
        query = {} if following is None else {"cursor": following}
        return Step(SEGMENT_USERS, ref=segment_id, path=with_query(SEGMENT_USERS.path, query))

    def read_page(self, step: Step, match: str, reply: Reply) -> Outcome:
        """Read the field of each user; one that has none is counted."""
        found = _results(reply)
        if not isinstance(found, tuple):
            return found
        results, following = found
        values = [one.get(match) for one in results]
        ids = [str(value) for value in values if _is_id(value)]
        return Listed(ids=ids, following=following, unnamed=len(values) - len(ids))

    def write(self, batch: Batch, segment_id: str, ids: Sequence[str]) -> Step:
        """Never asked for: there is neither `add` nor `remove`."""
        raise TypeError("User.com has no route that changes who is in a segment")

    def exists(self, segment_id: str, target_id: str) -> Step | None:
        """Return none: no route tells whether a user is in a segment."""
        return None


def _results(reply: Reply) -> tuple[list[dict[str, object]], str | None] | Outcome:
    """Return the page's objects and its cursor, or what stands in their place."""
    common = read_common(reply)
    if common is not None:
        return common
    page = read_object(reply.body) if 200 <= reply.status < 300 else None
    results = page.get("results") if page is not None else None
    if page is None or not isinstance(results, list) or not all(isinstance(one, dict) for one in results):
        return Unknown(f"HTTP {reply.status} without results", reply.status)
    following = cursor_of(page.get("next"))
    if following is None and page.get("next"):
        return Unknown(f"HTTP {reply.status} with a next page whose address is not understood", reply.status)
    return results, following


def _is_id(value: object) -> bool:
    return (isinstance(value, str) and value.strip() != "") or (isinstance(value, int) and not isinstance(value, bool))
