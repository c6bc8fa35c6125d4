"""Durations in words."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulksend.duration import format_duration, parse_duration


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("1 day", 86_400),
        ("2h", 7200),
        ("1h 30m", 5400),
        ("1h30m", 5400),
        ("1 hour, 30 minutes", 5400),
        ("90 seconds", 90),
        ("1.5 hours", 5400),
        ("0s", 0),
        ("20ms", 0.02),
        ("1_000 s", 1000),
        ("2 weeks", 1_209_600),
        (" 5 MIN ", 300),
        ("240 hours", 864_000),
        ("1d 2h 3m 4s", 93_784),
    ],
)
def test_words(text: str, seconds: float) -> None:
    assert parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize(
    ("text", "match"),
    [
        ("", "is not a duration"),
        ("soon", "is not a duration"),
        ("3600", 'write the unit, such as "3600 seconds"'),
        ("1.5", 'such as "1.5 seconds"'),
        ("-1 day", "is not a duration"),
        ("1 day ago", "is not a duration"),
        ("1 day 5", "is not a duration"),
        ("1 fortnight", "unknown unit 'fortnight'"),
        ("1 M5", "is not a duration"),
        ("1e3 s", "unknown unit 'e'"),
        ("1..5 s", "is not a duration"),
        ("nan s", "is not a duration"),
        ("inf days", "is not a duration"),
        ("1 day;", "is not a duration"),
    ],
)
def test_what_is_no_duration_is_said_in_a_sentence(text: str, match: str) -> None:
    with pytest.raises(ValueError, match=match):
        parse_duration(text)


@given(st.text(max_size=30) | st.lists(st.sampled_from("0159. _,smhdw"), max_size=12).map("".join))
def test_any_text_is_a_duration_or_a_value_error(text: str) -> None:
    try:
        assert parse_duration(text) >= 0
    except ValueError as wrong:
        assert str(wrong)  # noqa: PT017


@given(days=st.integers(0, 30), hours=st.integers(0, 23), seconds=st.integers(0, 3599))
def test_parts_add_up(days: int, hours: int, seconds: int) -> None:
    assert parse_duration(f"{days} days, {hours}h {seconds} sec") == days * 86_400 + hours * 3600 + seconds


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0.0 s"),
        (12.34, "12.3 s"),
        (59.94, "59.9 s"),
        (59.95, "1 min"),
        (60, "1 min"),
        (61, "1 min 1 s"),
        (3599.7, "1 h"),
        (3900, "1 h 5 min"),
        (3661, "1 h 1 min"),
        (86_400, "1 d"),
        (90_061, "1 d 1 h"),
        (86_460, "1 d"),
        (400 * 86_400, "400 d"),
    ],
)
def test_said_in_two_units_at_most(seconds: float, text: str) -> None:
    assert format_duration(seconds) == text


@given(st.floats(0, 1e8))
def test_what_is_said_can_be_read_and_is_near(seconds: float) -> None:
    again = parse_duration(format_duration(seconds))
    if seconds < 59.95:
        assert again == pytest.approx(seconds, abs=0.0501)
    else:
        assert abs(again - seconds) <= 3600
        assert again == pytest.approx(seconds, rel=0.05)
