"""Thresholds as tables: what they say, and what is no threshold."""

from __future__ import annotations

import pytest

from bulksend.loadtest.thresholds import COUNTS, Figures, Threshold

COUNTED = dict.fromkeys(COUNTS, 0) | {"planned": 1000, "sent": 990, "dropped": 10, "late": 20, "429": 3, "errors": 5}
PERCENTILES = {50.0: 0.02, 90.0: 0.08, 99.0: 0.4, 99.9: 0.9, 100.0: 1.5}
FIGURES = Figures(COUNTED, 98.5, PERCENTILES.get, 0.03)


@pytest.mark.parametrize(
    ("text", "failed", "said"),
    [
        ("p99 > 500ms", False, "400.0 ms"),
        ("p99 > 0.3s", True, "400.0 ms"),
        ("p99 >= 400 ms", True, "400.0 ms"),
        ("p99.9>500ms", True, "900.0 ms"),
        ("P50 < 10ms", False, "20.0 ms"),
        ("max > 1 second", True, "1500.0 ms"),
        ("mean > 20ms", True, "30.0 ms"),
        ("429 > 0", True, "3"),
        ("429 > 3", False, "3"),
        ("429 == 3", True, "3"),
        ("errors != 0", True, "5"),
        ("dropped > 1%", False, "1.00% of the planned calls"),
        ("late >= 2%", True, "2.00% of the planned calls"),
        ("sent < 1,000", True, "990"),
        ("rate < 6000/min", True, "5,910.0/min"),
        ("rate < 98/s", False, "5,910.0/min"),
    ],
)
def test_a_threshold(text: str, failed: bool, said: str) -> None:
    verdict = Threshold.parse(text).judge(FIGURES)
    assert (verdict.failed, verdict.said) == (failed, said)
    assert verdict.to_dict() == {"fail_if": text.strip(), "failed": failed, "was": said}


@pytest.mark.parametrize(
    ("text", "about"),
    [
        ("", "known here: p50"),
        ("p99", "known here: p50"),
        ("p99 > ", "known here: p50"),
        ("p99 > 500", 'write the unit, such as "500ms"'),
        ("p99 > fast", "not a duration"),
        ("p101 > 5ms", "known here: p50"),
        ("erors > 0", "did you mean errors?"),
        ("errors > few", "a number of calls"),
        ("rate > 100", "not a rate"),
        ("429 => 0", "known here: p50"),
        ("404 > 0", "known here"),
    ],
)
def test_not_a_threshold(text: str, about: str) -> None:
    with pytest.raises(ValueError) as caught:
        Threshold.parse(text)
    assert about in str(caught.value)
    assert repr(text)[1:-1] in str(caught.value)


def test_what_was_not_measured_fails() -> None:
    nothing = Figures(dict.fromkeys(COUNTS, 0), 0.0, lambda _percent: None)
    for text in ("p99 > 500ms", "p99 < 500ms", "mean > 1s", "late > 1%"):
        assert Threshold.parse(text).judge(nothing).failed
    assert not Threshold.parse("errors > 0").judge(nothing).failed
