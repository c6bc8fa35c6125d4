"""A vendor whose segments can be read, and not changed: User.com, whose list of segments is paged through first."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, urlsplit

import orjson
import pytest

from bulksend.engine.limiter import StoppedError
from bulksend.errors import JobError, RunError
from bulksend.event import EventName
from bulksend.model import Call, Lost, NotSent, Reply
from tests.reconcile.rig import Rig, reconcile
from tests.reconcile.vendor import SEGMENT, Asked


@dataclass
class UserVendor:
    """Segments, a few on a page, and users, a few on a page."""

    users: list[dict[str, object]]
    segments: list[dict[str, object]] = field(default_factory=lambda: [{"id": SEGMENT, "object_count": 4}])
    page: int = 2
    circle: str | None = None
    """The list whose cursor never gets on."""
    faults: dict[int, Reply] = field(default_factory=dict)
    stop_at: int | None = None
    calls: list[Asked] = field(default_factory=list)
    stop: Callable[[], None] = lambda: None

    async def send(self, call: Call, leave: Callable[[], Awaitable[None]]) -> Reply | Lost | NotSent:
        """Answer one call."""
        try:
            await leave()
        except StoppedError:
            return NotSent("the run is stopping")
        name = call.endpoint.name.partition(".")[2]
        cursor = int(parse_qs(urlsplit(call.url).query).get("cursor", ["0"])[0])
        self.calls.append(Asked(len(self.calls) + 1, name, {"cursor": cursor}, took_effect=True))
        if len(self.calls) == self.stop_at:
            self.stop()
        if len(self.calls) in self.faults:
            return self.faults[len(self.calls)]
        rows = {"segments": self.segments, "segment_users": self.users}[name]
        end = cursor + self.page
        following = None
        if end < len(rows) or self.circle == name:
            at = 0 if self.circle == name and cursor else end
            following = f"http://elsewhere.test/?cursor={at or 2}"
        return Reply(200, {}, orjson.dumps({"results": rows[cursor:end], "next": following}), 0.02)

    async def close(self) -> None:
        """Nothing is open."""


def user(number: int, **fields: object) -> dict[str, object]:
    return {"id": number, "custom_id": f"c{number}", "email": f"{number}@x.test", **fields}


def compare(folder, vendor: UserVendor, wanted: object, **how: Any) -> Rig:
    """Compare, as far as a vendor without writes lets one."""
    how = {"match": "custom_id", "until": "found", **how}
    return reconcile(folder, vendor, wanted, provider="usercom", **how)  # type: ignore[arg-type]


def test_the_segment_is_found_on_a_later_page_and_its_users_are_compared(folder):
    users = [user(3), user(1), user(2, custom_id=None), user(9, custom_id=""), user(5), user(1), user(7, custom_id=70)]
    others = [{"id": number, "object_count": 1} for number in range(5)]
    vendor = UserVendor(users, [*others, {"id": SEGMENT, "object_count": 6}])
    rig = compare(folder, vendor, {"c1", "c2", "c5", "70"})
    assert [(one.name, one.body["cursor"]) for one in vendor.calls] == [
        *(("segments", at) for at in (0, 2, 4)),
        *(("segment_users", at) for at in (0, 2, 4, 6)),
        *(("segments", at) for at in (0, 2, 4)),
    ]
    assert rig.difference is not None
    assert (rig.difference.remote, rig.difference.unnamed, rig.difference.sizes) == (4, 2, (6, 6))
    assert (rig.added, rig.removed) == (["c2"], ["c3"])
    assert not rig.told(EventName.SEGMENT_UNORDERED), "its order is known to be another"


@pytest.mark.parametrize(("match", "wanted"), [("id", {"1", "2"}), ("email", {"1@x.test", "2@x.test"})])
def test_another_field_of_a_user(folder, match, wanted):
    rig = compare(folder, UserVendor([user(1), user(2)]), wanted, match=match)
    assert rig.difference is not None
    assert rig.difference.is_empty


def test_another_field_is_another_comparison(folder):
    vendor = UserVendor([user(1), user(2)])
    compare(folder, vendor, {"1"}, match="id")
    before = len(vendor.calls)
    compare(folder, vendor, {"1"}, match="email", later_s=50.0)
    assert len(vendor.calls) > before


def test_no_such_segment_in_the_whole_list(folder):
    vendor = UserVendor([], [{"id": number} for number in range(5)])
    rig = compare(folder, vendor, {"a"}, fails=True)
    assert isinstance(rig.failure, JobError)
    assert [one.body["cursor"] for one in vendor.calls] == [0, 2, 4]


@pytest.mark.parametrize("circle", ["segments", "segment_users"])
def test_a_list_that_leads_in_a_circle(folder, circle):
    segments: list[dict[str, object]] = [{"id": number} for number in range(5)]
    if circle == "segment_users":
        segments.insert(0, {"id": SEGMENT})
    vendor = UserVendor([user(1), user(2), user(3)], segments, circle=circle)
    rig = compare(folder, vendor, {"a"}, fails=True)
    assert isinstance(rig.failure, RunError)
    assert "circle" in str(rig.failure)
    assert circle in str(rig.failure)
    assert len(vendor.calls) < 10


def test_stopped_after_any_call_no_page_that_was_kept_is_read_again(folder):
    users = [user(number) for number in range(9)]
    for number in range(1, 7):
        path = folder / str(number)
        path.mkdir()
        vendor = UserVendor(users, stop_at=number)
        rig = compare(path, vendor, {"c1", "x"}, fails=True)
        assert rig.failure is not None
        vendor.stop_at = None
        before = [one.body["cursor"] for one in vendor.calls if one.name == "segment_users"]
        rig = compare(path, vendor, {"c1", "x"}, later_s=50.0)
        pages = [one.body["cursor"] for one in rig.in_phase["find"] if one.name == "segment_users"]
        assert len(set(before) & set(pages)) <= 1, "the one that was under way"
        assert rig.difference is not None
        assert (rig.difference.remote, rig.added, len(rig.removed)) == (9, ["x"], 8)


def test_a_page_that_fails_is_asked_for_alone(folder):
    vendor = UserVendor([user(number) for number in range(7)], faults={3: Reply(500, {}, b""), 5: Reply(200, {}, b"{")})
    rig = compare(folder, vendor, set())
    cursors = [one.body["cursor"] for one in vendor.calls if one.name == "segment_users"]
    assert cursors == [0, 2, 2, 4, 4, 6]
    assert rig.difference is not None
    assert rig.difference.removed == 7
