"""[guard]: which texts say how much, how much that allows, and why a difference is not applied."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulksend.errors import JobError
from bulksend.job.file import load_job
from bulksend.job.spec import SHRINK_MOST, Amount, Guard, share
from bulksend.model import Account
from bulksend.reconcile.difference import Difference
from bulksend.reconcile.guards import is_drift, reasons

# Texts


@pytest.mark.parametrize(
    ("text", "part", "count"),
    [
        ("10%", 0.1, None),
        ("0%", 0.0, None),
        ("100%", 1.0, None),
        ("0.5%", 0.005, None),
        (" 10 % ", 0.1, None),
        ("500", None, 500),
        ("0", None, 0),
        ("007", None, 7),
        ("1000", None, 1000),
        ("1,000", None, 1000),
        ("1_000", None, 1000),
        ("1,000,000", None, 1_000_000),
        ("12_345_678", None, 12_345_678),
        ("999999999999999999", None, 999_999_999_999_999_999),
        ("10%, 500", 0.1, 500),
        ("500, 10%", 0.1, 500),
        ("500,10%", 0.1, 500),
        ("10% , 500", 0.1, 500),
        ("10%, 1,000", 0.1, 1000),
        ("1,000, 10%", 0.1, 1000),
        ("1,000,10%", 0.1, 1000),
        ("10%,50", 0.1, 50),
        ("10%,5000", 0.1, 5000),
        ("10%,500", 0.1, 500),
        ("10%,1,000", 0.1, 1000),
    ],
)
def test_an_amount_is_read(text, part, count):
    assert Amount.parse(text) == Amount(part, count)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        *((text, "share") for text in ("", " ", "x", "%", "-1", "-5%", "+5", "1e3", "1.5", "101%", "100.1%", "5 5%")),
        *((text, "share") for text in ("10%,", ",10%", "10%,,500", "10%; 500", "10% 500", "1,000%", ".5%")),
        *((text, "share") for text in ("5.%", "ten", "10 percent", "1__000", "1" * 19, "0x10", "nan%", "inf")),
        *((text, "two counts") for text in ("500, 600", "1,00", "1,0000", "5, 5", "10%, 5, 6", "1,0,0%")),
        *((text, "two shares") for text in ("10%, 20%", "10%,10%", "5, 1%, 2%")),
    ],
)
def test_what_is_no_amount_is_refused_in_words(text, words):
    with pytest.raises(ValueError) as wrong:
        Amount.parse(text)
    assert words in str(wrong.value)


@given(st.text(max_size=12) | st.text("0123456789,_% .-", max_size=12))
def test_whatever_the_text_is_it_is_an_amount_or_a_sentence(text):
    try:
        found = Amount.parse(text)
    except ValueError as wrong:
        assert str(wrong).startswith(("is not a share", "names two"))  # noqa: PT017 - most texts are good
    else:
        assert found.share is not None or found.count is not None
        assert found.share is None or 0 <= found.share <= 1
        assert found.count is None or found.count >= 0


@given(st.none() | st.integers(0, 10_000), st.none() | st.integers(0, 10**17))
def test_an_amount_is_read_as_it_is_written(hundredths, count):
    if hundredths is None and count is None:
        return
    one = Amount(None if hundredths is None else share(f"{hundredths / 100:.2f}%"), count)
    assert str(Amount.parse(str(one))) == str(one)


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        (Amount(0.1), "10%"),
        (Amount(0.005), "0.50%"),
        (Amount(1.0), "100%"),
        (Amount(0.0), "0%"),
        (Amount(None, 1000), "1,000"),
        (Amount(0.1, 500), "10%, 500"),
    ],
)
def test_an_amount_as_text(amount, text):
    assert str(amount) == text


# What they allow


@pytest.mark.parametrize(
    ("text", "number", "of", "allows"),
    [
        ("10%", 9, 100, True),
        ("10%", 10, 100, True),
        ("10%", 11, 100, False),
        ("10%", 0, 0, True),
        ("10%", 1_000_000, 0, True),
        ("0%", 0, 5, True),
        ("0%", 1, 5, False),
        ("0%", 1, 0, True),
        ("100%", 5, 5, True),
        ("100%", 6, 5, False),
        ("500", 499, 1, True),
        ("500", 500, 1, True),
        ("500", 501, 1_000_000, False),
        ("500", 501, 0, False),
        ("0", 0, 0, True),
        ("0", 1, 0, False),
        ("10%, 5", 5, 100, True),
        ("10%, 5", 6, 100, False),
        ("10%, 50", 11, 100, False),
        ("10%, 5", 5, 0, True),
        ("10%, 5", 6, 0, False),
    ],
)
def test_what_an_amount_allows(text, number, of, allows):
    assert Amount.parse(text).allows(number, of) is allows


SHARES = [(percent, of) for percent in range(101) for of in (100, 1000, 700, 300, 123_400)]


def test_more_than_the_share_is_never_allowed():
    assert not [one for one in SHARES if Amount.parse(f"{one[0]}%").allows(one[0] * one[1] // 100 + 1, one[1])]


def test_exactly_the_share_is_allowed():
    """As a float, 0.29 * 100 is less than 29."""
    assert not [one for one in SHARES if not Amount.parse(f"{one[0]}%").allows(one[0] * one[1] // 100, one[1])]


# Why a difference is not applied


def difference(
    remote: int = 1000, desired: int = 1000, added: int = 10, removed: int = 10, **more: object
) -> Difference:
    return Difference(remote, desired, added, removed, "0" * 16, **more)  # type: ignore[arg-type]


def names(found: list[str]) -> list[str]:
    return [one.partition(":")[0] for one in found]


def refused(one: Difference, before: int | None = None, **guard: object) -> list[str]:
    return names(reasons(one, Guard(**guard), desired_before=before))  # type: ignore[arg-type]


def test_without_a_guard_nothing_is_refused_but_what_is_rather_a_mistake():
    assert refused(difference(remote=5, desired=1_000_000, added=999_999, removed=4)) == []


@pytest.mark.parametrize(
    ("guard", "added", "removed", "why"),
    [
        ({"max_remove": "10%"}, 999, 100, []),
        ({"max_remove": "10%"}, 0, 101, ["max_remove"]),
        ({"max_remove": "100"}, 0, 99, []),
        ({"max_remove": "100"}, 0, 100, []),
        ({"max_remove": "100"}, 0, 101, ["max_remove"]),
        ({"max_remove": "50%, 100"}, 0, 101, ["max_remove"]),
        ({"max_remove": "5%, 100"}, 0, 60, ["max_remove"]),
        ({"max_remove": "0"}, 5, 0, []),
        ({"max_remove": "0"}, 5, 1, ["max_remove"]),
        ({"max_add": "10%"}, 100, 999, []),
        ({"max_add": "10%"}, 101, 0, ["max_add"]),
        ({"max_add": "100"}, 100, 0, []),
        ({"max_add": "100"}, 101, 0, ["max_add"]),
        ({"max_add": "0"}, 1, 0, ["max_add"]),
        ({"max_add": "100", "max_remove": "100"}, 101, 101, ["max_remove", "max_add"]),
        ({"max_add": "100", "max_remove": "100"}, 100, 101, ["max_remove"]),
    ],
)
def test_how_much_may_change(guard, added, removed, why):
    given_guard = {name: Amount.parse(text) for name, text in guard.items()}
    assert refused(difference(added=added, removed=removed), **given_guard) == why


def test_the_refusal_has_the_numbers():
    (said,) = reasons(difference(2000, removed=1234), Guard(max_remove=Amount.parse("10%, 1,000")), desired_before=None)
    assert said == "max_remove: 1,234 of 2,000 targets would be removed (61.7%), at most 10%, 1,000 are allowed"
    (said,) = reasons(difference(0, added=1234, removed=0), Guard(max_add=Amount(None, 1000)), desired_before=None)
    assert said == "max_add: 1,234 targets would be added to 0, at most 1,000 are allowed"


def test_a_share_of_nothing_says_nothing_but_a_count_does():
    first = difference(remote=0, added=1000, removed=0)
    assert refused(first, max_add=Amount.parse("1%")) == []
    assert refused(first, max_add=Amount.parse("1%, 999")) == ["max_add"]


def test_a_share_is_of_all_targets_also_those_without_an_id():
    assert refused(difference(50, removed=10, unnamed=50), max_remove=Amount.parse("10%")) == []
    assert refused(difference(50, removed=11, unnamed=50), max_remove=Amount.parse("10%")) == ["max_remove"]


@pytest.mark.parametrize(("allow", "why"), [(False, ["allow_empty"]), (True, [])])
def test_an_empty_list(allow, why):
    assert refused(difference(desired=0, added=0, removed=1000), 1000, allow_empty=allow) == why


@pytest.mark.parametrize("is_absent", [False, True])
@pytest.mark.parametrize("changes", [False, True])
def test_an_empty_list_is_refused_also_where_there_is_nothing_to_remove(is_absent, changes):
    nothing = difference(0, 0, 0, 0, is_absent=is_absent)
    (said,) = reasons(nothing, Guard(), desired_before=None, changes=changes)
    assert said.startswith("allow_empty: the desired list has no ids")
    assert refused(nothing, 1000, max_remove=Amount(0.0, 0)) == ["allow_empty"]
    assert refused(nothing, 1000, max_remove=Amount(0.0, 0), allow_empty=True) == []


@pytest.mark.parametrize(
    ("before", "desired", "most", "why"),
    [
        (None, 1, SHRINK_MOST, []),
        (0, 1, SHRINK_MOST, []),
        (100, 51, SHRINK_MOST, []),
        (100, 50, SHRINK_MOST, []),
        (100, 49, SHRINK_MOST, ["max_shrink"]),
        (101, 50, SHRINK_MOST, ["max_shrink"]),
        (100, 200, SHRINK_MOST, []),
        (100, 100, 0.0, []),
        (100, 99, 0.0, ["max_shrink"]),
        (100, 1, 1.0, []),
        (10, 4, 0.7, []),
        (10, 3, 0.7, []),
        (10, 2, 0.7, ["max_shrink"]),
    ],
)
def test_how_much_shorter_a_list_may_be(before, desired, most, why):
    assert refused(difference(desired=desired), before, max_shrink=most) == why


def test_a_shrunken_list_is_told_with_its_numbers():
    (said,) = reasons(difference(desired=400), Guard(), desired_before=1000)
    assert said.startswith("max_shrink: the desired list has 400 ids, 60.0% less than the 1,000 of the last run")
    assert said.endswith("at most 50% less are allowed")


@pytest.mark.parametrize(
    ("remote", "sizes", "is_refused"),
    [
        (1000, (None, None), False),
        (1000, (1, None), False),
        (1000, (None, 1), False),
        (1000, (1000, 1000), False),
        # Half a percent, rounded up, may be a word that is a little old.
        (1005, (1000, 1000), False),
        (995, (1000, 1000), False),
        (1006, (1000, 1000), True),
        (994, (1000, 1000), True),
        (1, (0, 0), True),
        (2, (1, 1), False),
        (3, (1, 1), True),
        (0, (1, 1), False),
        (0, (0, 0), False),
        (0, (100, 100), True),
        # It has changed while it was read, so much and no more may be off.
        (1000, (900, 1100), False),
        (1300, (900, 1100), False),
        (1301, (900, 1100), True),
        (700, (900, 1100), False),
        (699, (900, 1100), True),
        (1300, (1100, 900), False),
        (1301, (1100, 900), True),
        (500, (1000, 1000), True),
    ],
)
def test_another_number_of_targets_than_the_vendor_says(remote, sizes, is_refused):
    one = difference(remote, sizes=sizes)
    assert refused(one) == (["size"] if is_refused else [])
    # Those without an id are targets too.
    assert refused(difference(max(0, remote - 7), sizes=sizes, unnamed=min(7, remote))) == refused(one)


def test_what_the_vendor_says_is_told():
    (said,) = reasons(difference(10, sizes=(1000, 1000)), Guard(), desired_before=None)
    assert said == "size: 10 targets were read, and the vendor says that there are 1,000"
    (said,) = reasons(difference(10, sizes=(1000, 1001)), Guard(), desired_before=None)
    assert said.endswith("there are 1,000, then 1,001")


def test_without_changes_only_what_makes_the_difference_doubtful_is_told():
    guard = Guard(max_remove=Amount(None, 0), max_add=Amount(None, 0))
    one = difference(desired=0, sizes=(10, 10))
    assert names(reasons(one, guard, desired_before=9999, changes=False)) == ["allow_empty", "size"]
    assert names(reasons(one, guard, desired_before=9999)) == ["allow_empty", "size", "max_remove", "max_add"]
    assert reasons(difference(), guard, desired_before=9999, changes=False) == []


def test_no_difference_is_never_refused():
    guard = Guard(max_remove=Amount(0.0, 0), max_add=Amount(0.0, 0), max_shrink=0.0)
    assert reasons(difference(5, 5, 0, 0, sizes=(99, 99)), guard, desired_before=1000) == []


@pytest.mark.parametrize(
    ("number", "of", "is_it"),
    [(0, 0, True), (1, 0, False), (1, 1, True), (1, 200, True), (2, 200, False), (2, 201, True), (5000, 10**6, True)],
)
def test_how_much_others_may_have_changed(number, of, is_it):
    assert is_drift(number, of) is is_it


@given(st.integers(0, 10**7))
def test_drift_is_half_a_percent_rounded_up(of):
    bound = -(-of // 200)
    assert is_drift(bound, of)
    assert not is_drift(bound + 2, of), "one more may be the rounding of a float"


# Which segment it is

TREE = {
    "job": "sale",
    "account": {"provider": "stream", "api_key": "k", "api_secret": "env:X"},
    "desired": {"from": "ids.csv", "key": "id"},
}
ACCOUNT = Account("-", "stream", "https://x.test", {"api_key": "k"}, {})


def segment_of(**segment: object) -> str | None:
    return load_job({**TREE, "segment": segment}).segment_id(ACCOUNT)


def test_dollars_in_the_id_of_a_segment_stand_for_themselves():
    assert segment_of(id="vip") == "vip"
    assert segment_of(id="of $${you}") == "of ${you}"
    assert segment_of(id="5 $") == "5 $"
    assert segment_of(name="of $${you}", create=True) != segment_of(name="of you", create=True)


@pytest.mark.parametrize("segment", [{"id": "of ${you}"}, {"name": "${you}", "create": True}])
def test_a_segment_with_a_list_is_not_one_for_each_row(segment):
    with pytest.raises(JobError, match=r"no \$\{column\} can stand here"):
        segment_of(**segment)


# A launch that goes elsewhere

LAUNCH = {"sender_id": "u", "message_template": {"text": "Hi"}}


def notes_of(tree: dict[str, object]) -> list[str]:
    loaded = load_job({"job": "sale", "account": {"provider": "stream", "api_key": "k", "api_secret": "env:X"}, **tree})
    return [one.text for one in loaded.provider.notes(loaded.tables, sends=1, chunk=None)]


@pytest.mark.parametrize(
    ("segment", "launch", "is_told"),
    [
        ({"id": "vip"}, {}, False),
        ({"id": "vip"}, {"segment_ids": ["vip"]}, False),
        ({"id": "vip"}, {"segment_ids": ["other", "${segment.id}"]}, False),
        ({"id": "vip"}, {"segment_ids": ["other"]}, True),
        ({"id": "vip"}, {"user_ids": ["a"]}, True),
        ({"name": "n", "create": True}, {}, False),
        ({"name": "n", "create": True}, {"segment_ids": ["${segment.id}"]}, False),
        ({"name": "n", "create": True}, {"segment_ids": ["other"]}, True),
    ],
)
def test_stream_launch_that_goes_to_another_segment_is_told(segment, launch, is_told):
    desired = {"from": "ids.csv", "key": "id"}
    found = notes_of({"segment": segment, "desired": desired, "launch": {**LAUNCH, **launch}})
    assert found == (["goes to another audience than the job's [segment]"] if is_told else [])


def test_stream_job_without_a_launch_is_told_nothing_of_it():
    assert notes_of({"segment": {"id": "vip"}, "desired": {"from": "ids.csv", "key": "id"}}) == []
