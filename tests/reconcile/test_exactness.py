"""The difference, and the vendor's set after it was applied, are those of plain Python sets, whatever the ids."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from bulksend.event import EventName
from bulksend.job import desired as desired_module
from bulksend.job.desired import sort_desired
from bulksend.reconcile import comparison, merge, unordered
from bulksend.reconcile.difference import Line, Mark
from bulksend.reconcile.merge import Merge, OutOfOrderError
from tests.reconcile.rig import ListBlocks, Rig, a_folder, hash_of, reconcile
from tests.reconcile.vendor import COLLATIONS, Vendor

FEW = settings(max_examples=30, deadline=None)
MANY = settings(max_examples=80, deadline=None)

near = st.text("aAbB01-_ '\"é\ud7ff\ue000\uffff\U0001f600\U0010ffff", min_size=1, max_size=4)
any_text = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=12)
long = st.builds(lambda one, number: one * (255 // len(one)) + str(number % 10), near, st.integers(0, 9)).map(
    lambda one: one[-255:]
)
numbers = st.builds(lambda number, width: f"{number:0{width}}", st.integers(0, 120), st.integers(1, 5))
special = st.sampled_from(
    [
        *("0", "00", "01", "1", "001", "10", "1.0", "-1", "a", "A", "ab", "aB", "AB", "a b", " a", "a ", " ", "\t"),
        *("'", '"', "''", '""', "\\", "a'b", 'a"b', "a,b", "a\nb", "a\r\nb", "%", "a%2Fb", "a/b", "..", ".", "?", "#"),
        *("ß", "ss", "SS", "İ", "i̇", "é", "e\u0301", "Å", "\u212b", "\0", "\ufeffa", "\u200d", "null", "{}", "[]"),
        *("\uffff", "\U00010000", "\U0001f600", "\U0010ffff", "\ue000", "\ud7ff", "x" * 255, "é" * 255, "x" * 254),
    ]
)
ids = near | numbers | special | any_text | long
sides = st.dictionaries(ids, st.sampled_from(["there", "wanted", "both", "both"]), max_size=45)
vendors = st.fixed_dictionaries(
    {
        "collation": st.sampled_from(["code point", "code point", *COLLATIONS]),
        "page_most": st.sampled_from([1, 2, 3, 5, 7, 10_000]),
        "doubles": st.sampled_from([0, 0, 1, 2]),
        "filters": st.sampled_from(["kept", "kept", "refused", "ignored"]),
    }
)
sizes = st.fixed_dictionaries(
    {"block": st.integers(1, 7), "page": st.integers(1, 12), "adds": st.integers(1, 9), "removes": st.integers(1, 9)}
)


def small(patch: pytest.MonkeyPatch, span: int = 5) -> None:
    """Have a few targets be worth several ranges, and lines; however small the pages, they are not too many."""
    patch.setattr(comparison, "SPAN_TARGETS", span)
    patch.setattr(comparison, "PAGES_SPARE", 10_000)
    patch.setattr(merge, "LINE_IDS", 4)


def parted(named: dict[str, str]) -> tuple[set[str], set[str]]:
    """Return what the segment holds, and what it should."""
    there = {one for one, where in named.items() if where != "wanted"}
    return there, {one for one, where in named.items() if where != "there"}


def check(rig: Rig, vendor: Vendor, there: set[str], wanted: set[str]) -> None:
    """See that all that was found, written and told is what sets say."""
    assert rig.difference is not None
    assert sorted(rig.added) == sorted(wanted - there)
    assert sorted(rig.removed) == sorted(there - wanted)
    assert (rig.difference.added, rig.difference.removed) == (len(wanted - there), len(there - wanted))
    assert (rig.difference.remote, rig.difference.desired) == (len(there), len(wanted))
    assert rig.difference.hash == hash_of(wanted - there, there - wanted)
    assert set(rig.difference.add_samples) <= wanted - there
    assert set(rig.difference.remove_samples) <= there - wanted
    assert vendor.targets == wanted
    assert rig.verified is not None
    assert (rig.verified.left, rig.verified.drift) == (0, 0)
    assert not rig.folder.exists()


def all_written(calls: Iterable[Any]) -> list[str]:
    return sorted(one for call in calls for one in call.ids)


@FEW
@given(sides, vendors, sizes, st.sampled_from([1, 3, 10, 1000]))
@example(dict.fromkeys("ABab", "both") | {"C": "there", "c": "wanted"}, {"collation": "casefold"}, {"block": 1}, 1)
@example({"a-b": "both", "ab": "there", "a": "both", "b": "wanted"}, {"collation": "no punctuation"}, {"block": 1}, 1)
@example(dict.fromkeys(map(str, range(45)), "both"), {"collation": "reversed", "page_most": 7}, {"block": 4}, 3)
@example({"\uffff": "both", "\U00010000": "both", "a": "there"}, {"collation": "utf-16"}, {"block": 1}, 1)
@example({"a": "there"}, {}, {}, 1)
@example({"a": "wanted"}, {}, {}, 1)
@example({}, {}, {}, 1)
def test_the_segment_becomes_the_desired_list(named, knobs, cut, span):
    there, wanted = parted(named)
    with pytest.MonkeyPatch.context() as patch, a_folder() as folder:
        small(patch, span)
        vendor = Vendor(set(there), **knobs)
        rig = reconcile(folder, vendor, wanted, **cut)
        check(rig, vendor, there, wanted)
        written = [*vendor.named("targets.add"), *vendor.named("targets.delete")]
        assert all_written(written) == sorted((wanted - there) | (there - wanted)), "each is written once"

        before = len(vendor.calls)
        again = reconcile(folder, vendor, wanted, later_s=100.0, **cut)
        check(again, vendor, wanted, wanted)
        assert {one.name for one in vendor.calls[before:]} == {"segment.get", "targets.query"}


@FEW
@given(
    sides,
    vendors,
    sizes,
    st.dictionaries(
        st.integers(1, 40),
        st.sampled_from(["reset", "lost", "429", "429-after", "500", "truncated", "html", "unreachable"]),
        max_size=6,
    ),
)
def test_faults_change_nothing(named, knobs, cut, faults):
    there, wanted = parted(named)
    with pytest.MonkeyPatch.context() as patch, a_folder() as folder:
        small(patch)
        vendor = Vendor(set(there), faults=faults, **knobs)
        check(reconcile(folder, vendor, wanted, **cut), vendor, there, wanted)


@settings(max_examples=25, deadline=None)
@given(sides, vendors, st.sampled_from([None, 0, 1, 7, 1000, -1, True, "12", 1.5]))
def test_what_the_vendor_says_of_its_size_changes_nothing(named, knobs, said):
    there, wanted = parted(named)
    with pytest.MonkeyPatch.context() as patch, a_folder() as folder:
        small(patch)
        vendor = Vendor(set(there), size=None if said is None else lambda _number: said, **knobs)
        rig = reconcile(folder, vendor, wanted)
        check(rig, vendor, there, wanted)
        is_size = isinstance(said, int) and not isinstance(said, bool) and said >= 0
        assert rig.difference is not None
        assert rig.difference.sizes == ((said, said) if is_size else (None, None))


@settings(max_examples=8, deadline=None)
@given(st.dictionaries(ids, st.sampled_from(["there", "wanted", "both"]), max_size=40), vendors)
def test_with_the_sorted_file_of_a_real_list(named, knobs):
    there, wanted = parted(named)
    wanted = {one for one in wanted if one.strip() and "\0" not in one and "\r" not in one and "\ufeff" not in one}
    with pytest.MonkeyPatch.context() as patch, a_folder() as folder:
        small(patch)
        patch.setattr(desired_module, "_BLOCK_IDS", 3)
        with (folder / "list.csv").open("w", newline="", encoding="utf-8") as file:
            csv.writer(file, quoting=csv.QUOTE_ALL).writerows([["id"], *([one] for one in [*wanted, *wanted])])
        how = {"source": "list.csv", "sql": None, "key": "id", "scratch_dir": folder, "most_chars": 255}
        with sort_desired(base_dir=folder, **how) as listed:  # type: ignore[arg-type]
            vendor = Vendor(set(there), **knobs)
            check(reconcile(folder, vendor, listed, adds=4, removes=4), vendor, there, wanted)


def ranges_of(vendor: Vendor) -> list[Any]:
    """Return the ranges that pages were asked for, as they were begun."""
    return [one.body.get("filter") for one in vendor.named("targets.query") if "next" not in one.body]


def test_ranges_are_read_side_by_side_where_the_order_is_that_of_code_points(folder, monkeypatch):
    small(monkeypatch)
    there = {f"{number:02}" for number in range(40)}
    vendor = Vendor(set(there), page_most=3)
    rig = reconcile(folder, vendor, there - {"17"} | {"x"}, until="found")
    assert not rig.told(EventName.SEGMENT_UNORDERED)
    found = [one["target_id"] for one in ranges_of(vendor)]
    assert len(found) == 4
    assert "$gte" not in found[0]
    assert "$lte" not in found[-1]
    assert [one["$lte"] for one in found[:-1]] == [one["$gte"] for one in found[1:]], "no id is between two ranges"
    assert [one.name for one in vendor.calls[1:5]] == ["targets.query"] * 4
    assert all("next" not in one.body for one in vendor.calls[1:5]), "they are under way at once"


@pytest.mark.parametrize("filters", ["refused", "ignored"])
def test_one_range_where_the_filter_does_not_work(folder, monkeypatch, filters):
    small(monkeypatch)
    there = {f"{number:02}" for number in range(40)}
    vendor = Vendor(set(there), filters=filters, page_most=7)
    rig = reconcile(folder, vendor, there - {"17"} | {"x"})
    check(rig, vendor, there, there - {"17"} | {"x"})
    assert ranges_of(vendor)[-1] is None


@pytest.mark.parametrize("collation", [name for name in COLLATIONS if name != "code point"])
def test_another_order_is_noticed_and_told_once_and_not_tried_again_for_the_second_look(folder, monkeypatch, collation):
    small(monkeypatch)
    there = {*(f"{one}{number}" for number in range(12) for one in ("a", "B", "c-", "-D", "\uffff", "\U0001f600"))}
    wanted = {one for one in there if not one.endswith("3")} | {"A0", "b11"}
    vendor = Vendor(set(there), collation=collation, page_most=5)
    rig = reconcile(folder, vendor, wanted, adds=5, removes=5)
    check(rig, vendor, there, wanted)
    assert len(rig.told(EventName.SEGMENT_UNORDERED)) == 1
    assert all("filter" not in one.body for one in rig.in_phase["verify"] if one.name == "targets.query")


def test_pages_without_order_may_hold_an_id_anywhere_twice():
    pages = [["b", "a"], ["a", "c"], [], ["b"]]
    found = list(
        unordered.compare(iter(pages), ListBlocks("ax", 1), targets=6, scratch_dir=None, stopping=lambda: False)  # type: ignore[arg-type]
    )
    assert sorted(one for line in found for one in line.add) == ["x"]
    assert sorted(one for line in found for one in line.remove) == ["b", "c"]
    assert found[-1].mark == Mark(0, 3)


# The merge by itself


def merged(pages: list[list[str]], desired: ListBlocks, first: int = 0, end: int | None = None, *, cut: int = 0):
    """Return what a merge finds; it is begun anew, as by another process, before the page `cut`."""
    last = desired.blocks if end is None else end
    one = Merge(desired, first, last, after=None)
    mark = Mark(0, 0)
    lines: list[Line] = []
    for number, page in enumerate(pages):
        if number == cut and number:
            one = Merge(desired, first, last, after=mark.last)
        made = list(one.page(page, Mark(number + 1, mark.count), ends=number == len(pages) - 1))
        assert [line.mark is not None for line in made] == [False] * (len(made) - 1) + [True]
        lines += made
        assert made[-1].mark is not None
        mark = made[-1].mark
    return sorted(x for line in lines for x in line.add), sorted(x for line in lines for x in line.remove), mark.count


@MANY
@given(sides, st.integers(1, 6), st.integers(1, 7), st.integers(0, 10), st.data())
def test_merged_pages_of_a_span_are_as_sets_say(named, block, size, cut, data):
    there, wanted = parted(named)
    desired = ListBlocks(wanted, block)
    first = data.draw(st.integers(0, max(0, desired.blocks - 1)))
    end = data.draw(st.integers(first + 1, desired.blocks)) if desired.blocks else 0
    above = desired.last(first - 1) if first else None
    most = desired.last(end - 1) if end < desired.blocks else None

    def inside(all_ids: set[str]) -> set[str]:
        return {one for one in all_ids if (above is None or one > above) and (most is None or one <= most)}

    of_span = sorted(inside(there) | ({above} & there if above is not None else set()))
    pages = [of_span[at : at + size] for at in range(0, len(of_span), size)] or [[]]
    for number in range(1, len(pages)):
        how = data.draw(st.sampled_from(["as it is", "last again", "doubled", "page again", "empty"]))
        before = pages[number - 1]
        if how == "last again" and before:
            pages[number] = [before[-1], *pages[number]]
        elif how == "doubled":
            pages[number] = [x for one in pages[number] for x in (one, one)]
        elif how == "page again" and number != cut:
            pages[number] = [*before[len(before) // 2 :], *pages[number]]
    if data.draw(st.booleans()):
        pages.append([])
    added, removed, count = merged(pages, desired, first, end, cut=cut)
    assert added == sorted(inside(wanted) - there)
    assert removed == sorted(inside(there) - wanted)
    assert count == len(inside(there))


@MANY
@given(st.lists(near, min_size=2, max_size=8, unique=True), st.sets(near, max_size=8), st.integers(1, 9))
def test_a_page_out_of_order_never_passes(remote, wanted, size):
    pages = [remote[at : at + size] for at in range(0, len(remote), size)]
    if remote == sorted(remote):
        remote.reverse()
        pages = [remote[at : at + size] for at in range(0, len(remote), size)]
    with pytest.raises(OutOfOrderError):
        merged(pages, ListBlocks(wanted, 2))


@pytest.mark.parametrize(
    ("pages", "why"),
    [
        ([["a"]], "below the span"),
        ([["d", "h"]], "above the span"),
        ([["d"], ["c"]], "before the page before"),
        ([["d", "c", "e"]], "within a page"),
        ([["d", "e"], ["d", "c", "f"]], "between ids that come again"),
    ],
)
def test_what_is_not_of_the_span_or_comes_too_late_is_refused(pages, why):
    with pytest.raises(OutOfOrderError):
        merged(pages, ListBlocks("abcdefgh", 2), 1, 3)
