"""The text form of a limit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulksend.model import Limit, Window


@pytest.mark.parametrize(
    ("text", "windows", "said"),
    [
        ("6000/min", [(6000, 60)], "6000/min"),
        ("600/6s", [(600, 6)], "600/6s"),
        ("30/min", [(30, 60)], "30/min"),
        ("1/s", [(1, 1)], "1/s"),
        ("12_000/min", [(12_000, 60)], "12000/min"),
        ("12,000/min", [(12_000, 60)], "12000/min"),
        ("1,000,000/day", [(1_000_000, 86_400)], "1000000/86400s"),
        ("300/min, 10/s", [(300, 60), (10, 1)], "300/min, 10/s"),
        ("300/min,10/s", [(300, 60), (10, 1)], "300/min, 10/s"),
        ("12,000/min, 100/s", [(12_000, 60), (100, 1)], "12000/min, 100/s"),
        (" 5 / 2 SEC ", [(5, 2)], "5/2s"),
        ("1000/hour", [(1000, 3600)], "1000/h"),
        ("3/0.5s", [(3, 0.5)], "3/0.5s"),
        ("100/60s", [(100, 60)], "100/min"),
        ("100/1 minute", [(100, 60)], "100/min"),
    ],
)
def test_text_form(text: str, windows: list[tuple[int, float]], said: str) -> None:
    limit = Limit.parse(text)
    assert limit == Limit(tuple(Window(*window) for window in windows))
    assert str(limit) == said
    assert Limit.parse(said) == limit


@pytest.mark.parametrize(
    "text",
    [
        "",
        " ",
        "6000",
        "/min",
        "6000/",
        "6000/fortnight",
        "-1/min",
        "1.5/s",
        "60 per min",
        "5/min,",
        "5/min 3/s",
        "5/s/s",
        "x/s",
    ],
)
def test_what_is_no_limit_is_shown(text: str) -> None:
    with pytest.raises(ValueError, match="is not a limit such as") as caught:
        Limit.parse(text)
    assert repr(text) in str(caught.value)


@pytest.mark.parametrize("text", ["0/min", "5/0s", "10/s, 0/min"])
def test_a_limit_of_nothing(text: str) -> None:
    with pytest.raises(ValueError, match="allows no call at all"):
        Limit.parse(text)


windows = st.builds(
    Window, st.integers(1, 10**9), st.sampled_from([1.0, 60.0, 3600.0, 86_400.0]) | st.integers(1, 999_999).map(float)
)


@given(st.lists(windows, min_size=1, max_size=3))
def test_round_trip(some: list[Window]) -> None:
    limit = Limit(tuple(some))
    assert Limit.parse(str(limit)) == limit


@given(st.text(max_size=20) | st.lists(st.sampled_from("0159/,. smin"), max_size=12).map("".join))
def test_any_text_is_a_limit_or_a_value_error(text: str) -> None:
    try:
        limit = Limit.parse(text)
    except ValueError:
        return
    assert all(window.calls >= 1 and window.period_s > 0 for window in limit.windows)
