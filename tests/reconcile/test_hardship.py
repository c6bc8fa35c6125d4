"""A vendor that misbehaves: what is an error says so, what others change is told apart from what was not done."""

from __future__ import annotations

import warnings
from typing import Any

import pytest

from bulksend.errors import DeniedError, InterruptedRunError, JobError, NetworkError, RunError
from bulksend.event import EventName
from bulksend.model import Reply
from bulksend.reconcile import writes
from tests.reconcile.rig import Rig, reconcile
from tests.reconcile.vendor import SEGMENT, Vendor

THERE = {f"{number:02}" for number in range(30)}
WANTED = {one for one in THERE if int(one) % 5} | {"x1", "x2", "x3"}
ADDED, REMOVED = WANTED - THERE, THERE - WANTED
PAGES: dict[str, Any] = {"page": 4}


def failing(folder, vendor: Vendor, **how: Any) -> BaseException:
    """Return why a run ends; nothing was written."""
    rig = reconcile(folder, vendor, WANTED, fails=True, **{**PAGES, **how})
    assert rig.failure is not None
    return rig.failure


def written(vendor: Vendor) -> int:
    return len(vendor.named("targets.add")) + len(vendor.named("targets.delete"))


# Errors


@pytest.mark.parametrize("collation", ["code point", "casefold", "reversed"])
@pytest.mark.parametrize("page", [1, 2, 5])
def test_a_cursor_that_leads_in_a_circle_ends_the_run(folder, collation, page):
    vendor = Vendor(set(THERE), collation=collation, circle_at=page)
    if page == 1:
        vendor.circle_at = 2
    wrong = failing(folder, vendor)
    assert isinstance(wrong, RunError)
    assert "circle" in str(wrong)
    assert vendor.targets == THERE
    assert not written(vendor)
    # A vendor that has come to itself is read from where it went wrong.
    vendor.circle_at = None
    reconcile(folder, vendor, WANTED, later_s=50.0, **PAGES)
    assert vendor.targets == WANTED


@pytest.mark.parametrize("collation", ["code point", "reversed"])
def test_pages_without_end_end_the_run(folder, collation):
    vendor = Vendor(set(THERE), collation=collation, is_endless=True)
    wrong = failing(folder, vendor)
    assert isinstance(wrong, RunError)
    assert "size says otherwise" in str(wrong)
    assert not written(vendor)
    assert len(vendor.calls) < 250


@pytest.mark.parametrize("collation", ["code point", "reversed"])
def test_empty_pages_without_end_end_the_run_where_no_size_is_known(folder, collation):
    vendor = Vendor(set(THERE), collation=collation, is_endless=True, size=None)
    vendor.circle_at = None
    wrong = failing(folder, vendor, page=100)
    assert isinstance(wrong, RunError)
    assert "size says otherwise" in str(wrong) or "circle" in str(wrong)
    assert not written(vendor)
    assert len(vendor.calls) < 60


def test_pages_smaller_than_a_tenth_of_what_was_asked_for_are_no_endless_ones(folder):
    there = {f"{number:03}" for number in range(400)}
    vendor = Vendor(set(there), page_most=3)
    reconcile(folder, vendor, there, page=100)


def test_an_empty_page_in_the_middle_is_no_end(folder):
    class Gaps(Vendor):
        def _page(self, body):
            if "next" in body and body["next"].startswith("gap:"):
                return super()._page({**body, "next": body["next"][4:]})
            said = super()._page(body)
            if "next" in body:
                return Reply(
                    201, said.headers, b'{"targets":[],"duration":"1ms","next":"gap:%s"}' % body["next"].encode()
                )
            return said

    vendor = Gaps(set(THERE))
    rig = reconcile(folder, vendor, WANTED, **PAGES)
    assert vendor.targets == WANTED
    assert len(rig.told(EventName.SEGMENT_PAGE)) > 20


@pytest.mark.parametrize("rule", ["filter", "all_users", "all_sender_channels"])
def test_a_segment_that_fills_itself_is_refused(folder, rule):
    vendor = Vendor(set(THERE), rule={rule: {"x": 1} if rule == "filter" else True})
    wrong = failing(folder, vendor)
    assert isinstance(wrong, JobError)
    assert rule in str(wrong)
    assert [one.name for one in vendor.calls] == ["segment.get"]


@pytest.mark.parametrize("rule", ["filter", "all_users", "all_sender_channels"])
def test_a_rule_that_is_empty_is_none(folder, rule):
    vendor = Vendor(set(THERE), rule={rule: {} if rule == "filter" else False})
    reconcile(folder, vendor, WANTED, **PAGES)
    assert vendor.targets == WANTED


def test_no_such_segment(folder):
    wrong = failing(folder, Vendor(set(), is_there=False))
    assert isinstance(wrong, JobError)
    assert SEGMENT in str(wrong)


@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_segment_that_is_made_later_lacks_all(folder):
    vendor = Vendor(set(), is_there=False)
    rig = reconcile(folder, vendor, WANTED, may_be_absent=True, until="found", **PAGES)
    assert rig.difference is not None
    assert (rig.difference.remote, rig.difference.added, rig.difference.removed) == (0, len(WANTED), 0)
    assert rig.difference.sizes == (None, None)
    assert sorted(rig.added) == sorted(WANTED)
    assert [one.name for one in vendor.calls] == ["segment.get"]
    # Another process, which finds it made, goes on with what was found.
    vendor.is_there = True
    again = reconcile(folder, vendor, WANTED, may_be_absent=True, later_s=50.0, **PAGES)
    assert again.in_phase["find"] == []
    assert vendor.targets == WANTED
    assert again.verified is not None
    assert again.verified.left == 0


def test_a_segment_that_is_made_later_leaves_no_file_open(folder):
    """A ResourceWarning is an error."""
    reconcile(folder, Vendor(set(), is_there=False), WANTED, may_be_absent=True, until="found", **PAGES)


def test_a_segment_that_was_made_later_leaves_no_file_open_when_it_is_gone_on_with(folder):
    with warnings.catch_warnings(action="ignore"):
        reconcile(folder, Vendor(set(), is_there=False), WANTED, may_be_absent=True, until="found", **PAGES)
    reconcile(folder, Vendor(set()), WANTED, may_be_absent=True, later_s=50.0, until="found", **PAGES)


def test_a_segment_that_vanishes_while_it_is_read(folder):
    vendor = Vendor(set(THERE))
    vendor.others = {4: lambda _targets: setattr(vendor, "is_there", False)}
    wrong = failing(folder, vendor)
    assert isinstance(wrong, RunError | JobError)
    assert not written(vendor)


@pytest.mark.parametrize("fault", ["html", "truncated"])
@pytest.mark.parametrize("first", [1, 2, 4, 14])
def test_what_is_never_answered_ends_the_run(folder, fault, first):
    vendor = Vendor(set(THERE), faults=dict.fromkeys(range(first, 400), fault))
    wrong = failing(folder, vendor)
    assert isinstance(wrong, RunError)
    assert not isinstance(wrong, DeniedError | NetworkError)
    assert "run again to go on" in str(wrong)
    vendor.faults = {}
    reconcile(folder, vendor, WANTED, later_s=50.0, **PAGES)
    assert vendor.targets == WANTED


@pytest.mark.parametrize("faults", [{}, {1: "500"}, {2: "reset", 3: "html", 5: "429", 14: "lost"}])
def test_what_is_repeated_is_counted_and_told(folder, faults):
    vendor = Vendor(set(THERE), faults=faults)
    rig = reconcile(folder, vendor, WANTED, **PAGES)
    assert rig.caller.retried == len(faults)
    assert sum(one.retried for one in rig.caller.stats.values()) == len(faults)
    told = [one for one in rig.told_of_calls if one.name is EventName.SEND_RETRIED]
    assert [one.endpoint for one in told] == [f"stream.{vendor.calls[number - 1].name}" for number in sorted(faults)]
    assert rig.caller.calls == len(vendor.calls)


def test_a_vendor_that_cannot_be_reached(folder):
    wrong = failing(folder, Vendor(set(THERE), faults=dict.fromkeys(range(2, 400), "unreachable"), latency_s=1.0))
    assert isinstance(wrong, NetworkError)


def test_waits_as_long_as_it_is_told_to(folder):
    vendor = Vendor(set(THERE), faults=dict.fromkeys(range(2, 60), "429-after"))
    reconcile(folder, vendor, WANTED, **PAGES)
    assert vendor.targets == WANTED


class Says(Vendor):
    """Answers one endpoint as it is told to."""

    said: tuple[str, Reply]

    def _answer(self, name, body):
        if name == self.said[0]:
            return self.said[1]
        return super()._answer(name, body)


@pytest.mark.parametrize(
    ("endpoint", "status", "kind", "words"),
    [
        ("segment.get", 401, DeniedError, "token"),
        ("segment.get", 403, DeniedError, "token"),
        ("segment.get", 400, RunError, "segment.get was rejected"),
        ("targets.query", 400, RunError, "targets.query was rejected"),
        ("targets.query", 403, DeniedError, "token"),
        ("targets.add", 400, RunError, "targets.add of 3 ids was rejected"),
        ("targets.delete", 413, RunError, "targets.delete of 6 ids was rejected"),
        ("targets.delete", 401, DeniedError, "token"),
    ],
)
def test_a_refusal_ends_the_run(folder, endpoint, status, kind, words):
    vendor = Says(set(THERE))
    vendor.said = endpoint, Reply(status, {}, b'{"code":4}')
    wrong = failing(folder, vendor)
    assert type(wrong) is kind
    assert words in str(wrong)


def test_another_segment_than_the_one_that_was_asked_for(folder):
    vendor = Says(set(THERE))
    vendor.said = "segment.get", Reply(200, {}, b'{"segment":{"id":"other","size":3},"duration":"1ms"}')
    assert isinstance(failing(folder, vendor), RunError)


# Writes


def test_writes_are_cut_into_calls_and_told(folder, monkeypatch):
    monkeypatch.setattr(writes, "IN_FLIGHT", 2)
    wanted = {f"n{one:03}" for one in range(25)}
    there = {f"o{one:03}" for one in range(13)}
    vendor = Vendor(set(there))
    rig = reconcile(folder, vendor, wanted, adds=10, removes=5)
    assert sorted(len(one.ids) for one in vendor.named("targets.add")) == [5, 10, 10]
    assert sorted(len(one.ids) for one in vendor.named("targets.delete")) == [3, 5, 5]
    assert rig.told(EventName.SEGMENT_CHANGING) == [{"added": 25, "removed": 13}]
    told = rig.told(EventName.SEGMENT_CHANGED)
    assert sum(int(one.get("added", 0)) for one in told) == 25  # type: ignore[call-overload]
    assert sum(int(one.get("removed", 0)) for one in told) == 13  # type: ignore[call-overload]


@pytest.mark.parametrize("most", [1, 2, 8])
def test_so_many_batches_of_a_kind_are_under_way_at_once(folder, monkeypatch, most):
    monkeypatch.setattr(writes, "IN_FLIGHT", most)
    seen: list[int] = []

    class Counting(Vendor):
        open_calls = 0

        async def send(self, call, leave):
            self.open_calls += call.endpoint.name.endswith(".add")
            seen.append(self.open_calls)
            try:
                return await super().send(call, leave)
            finally:
                self.open_calls -= call.endpoint.name.endswith(".add")

    vendor = Counting(set(), latency_s=1.0)
    reconcile(folder, vendor, {f"{one:02}" for one in range(40)}, adds=2)
    assert max(seen) == most


def test_a_refused_batch_leaves_the_notes_of_the_others(folder, monkeypatch):
    monkeypatch.setattr(writes, "IN_FLIGHT", 1)

    class Picky(Vendor):
        def _answer(self, name, body):
            if name == "targets.add" and "x2" in body["target_ids"]:
                return Reply(400, {}, b'{"code":4}')
            return super()._answer(name, body)

    vendor = Picky(set(THERE))
    wrong = failing(folder, vendor, adds=1)
    assert "the next run goes on with the rest" in str(wrong)
    later = Vendor(set(vendor.targets))
    rig: Rig = reconcile(folder, later, WANTED, adds=1, later_s=50.0, **PAGES)
    assert later.targets == WANTED
    assert not any("x1" in one.ids for one in rig.in_phase["apply"] if one.name == "targets.add")
    told = rig.told(EventName.SEGMENT_CHANGING)
    assert told[0]["added"] == 2, "what earlier runs have written does not count"


# Outages


@pytest.mark.parametrize("first", [1, 3, 6, 14])
def test_an_outage_in_the_middle_is_outlived(folder, first):
    vendor = Vendor(set(THERE), faults=dict.fromkeys(range(first, first + 18), "500"))
    reconcile(folder, vendor, WANTED, **PAGES)
    assert vendor.targets == WANTED


@pytest.mark.parametrize("fault", ["500", "reset", "lost"])
@pytest.mark.parametrize("first", [1, 2, 4, 14])
def test_an_outage_without_end_ends_the_run_to_be_gone_on_with(folder, fault, first):
    vendor = Vendor(set(THERE), faults=dict.fromkeys(range(first, 10_000), fault))
    rig = reconcile(folder, vendor, WANTED, fails=True, **PAGES)
    assert isinstance(rig.caller.failure, InterruptedRunError)
    assert "has been failing for 1 h" in str(rig.caller.failure)
    assert "run again to go on" in str(rig.caller.failure)
    assert len(vendor.calls) < 200
    vendor.faults = {}
    reconcile(folder, vendor, WANTED, later_s=50.0, **PAGES)
    assert vendor.targets == WANTED
