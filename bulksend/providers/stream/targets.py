"""The targets of Stream segments: paged in order, added by thousands, removed by hundreds.

Facts: the vendor's page "Campaign API" (targets come by target id, ascending, 10,000 a page; a segment's size is not
computed where it is made of all channels of a sender) and its OpenAPI description (10,000 ids an addition, 100 a
removal). Which conditions a page may have is told by the type of the vendor's JavaScript client alone: `target_id` with
`$gte` and `$lte` among others.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from urllib.parse import quote

import msgspec
import orjson

from bulksend.model import Accepted, Described, Endpoint, Listed, Outcome, Rejected, Reply, Step, Unknown
from bulksend.providers.base import read_object
from bulksend.providers.stream import replies
from bulksend.providers.stream.tables import (
    ID_MOST,
    SEGMENT_GET,
    TARGETS_ADD,
    TARGETS_ADDED_MOST,
    TARGETS_DELETE,
    TARGETS_DELETED_MOST,
    TARGETS_EXISTS,
    TARGETS_PAGE_MOST,
    TARGETS_QUERY,
)
from bulksend.providers.targets import Batch, Span

__all__ = ["StreamTargets"]

_SELF_FILLING = ("filter", "all_users", "all_sender_channels")


class _Target(msgspec.Struct, gc=False):
    target_id: str


class _Page(msgspec.Struct):
    targets: list[_Target]
    next: str | None = None


_ADD = Batch(TARGETS_ADD, TARGETS_ADDED_MOST)
_REMOVE = Batch(TARGETS_DELETE, TARGETS_DELETED_MOST)
_decode_page = msgspec.json.Decoder(_Page).decode


@dataclass(frozen=True, slots=True)
class StreamTargets:
    """User and channel segments alike: a target is an id and nothing else."""

    matches: tuple[str, ...] = ()
    id_most_chars: int | None = ID_MOST
    page_most: int = TARGETS_PAGE_MOST
    page_endpoint: Endpoint = TARGETS_QUERY
    is_ordered: bool = True
    has_spans: bool = True
    add: Batch | None = _ADD
    remove: Batch | None = _REMOVE

    def describe(self, segment_id: str, *, following: str | None) -> Step:
        """Ask for the segment."""
        return Step(SEGMENT_GET, ref=segment_id)

    def read_description(self, step: Step, segment_id: str, reply: Reply) -> Outcome:
        """Read size and filter; a 404 in the vendor's own words says that there is no such segment."""
        outcome = replies.read(step, reply, repeats=0)
        decoded = read_object(reply.body)
        if isinstance(outcome, Rejected) and reply.status == 404 and decoded is not None:
            return Described(found=False)
        segment = decoded.get("segment") if decoded is not None else None
        if not isinstance(outcome, Accepted) or not isinstance(segment, dict):
            return outcome
        size = segment.get("size")
        own = next((name for name in _SELF_FILLING if segment.get(name)), None)
        if not isinstance(size, int) or isinstance(size, bool) or size < 0 or own == "all_sender_channels":
            size = None
        return Described(size=size, fills_itself=own)

    def page(self, segment_id: str, span: Span, *, following: str | None) -> Step:
        """Ask for a page by the cursor; within a range where it has an end."""
        body: dict[str, object] = {"limit": self.page_most}
        ends = {"$gte": span.least, "$lte": span.most}
        if given := {name: end for name, end in ends.items() if end is not None}:
            body["filter"] = {"target_id": given}
        if following is not None:
            body["next"] = following
        return Step(TARGETS_QUERY, orjson.dumps(body), segment_id)

    def read_page(self, step: Step, match: str, reply: Reply) -> Outcome:
        """Read the ids; no more of the body is decoded than these."""
        if not 200 <= reply.status < 300:
            return replies.read(step, reply, repeats=0)
        try:
            page = _decode_page(reply.body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return Unknown(f"HTTP {reply.status} without the documented body", reply.status)
        return Listed(ids=[target.target_id for target in page.targets], following=page.next or None)

    def write(self, batch: Batch, segment_id: str, ids: Sequence[str]) -> Step:
        """Write the ids as they are."""
        return Step(batch.endpoint, orjson.dumps({"target_ids": ids}), segment_id)

    def exists(self, segment_id: str, target_id: str) -> Step | None:
        """Ask for one target; not for what would lead elsewhere as part of a path."""
        if target_id in (".", ".."):
            return None
        path = TARGETS_EXISTS.path.replace("{target}", quote(target_id, safe=""))
        return Step(TARGETS_EXISTS, ref=segment_id, path=path)
