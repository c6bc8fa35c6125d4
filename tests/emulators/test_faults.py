"""The texts of faults and latencies, and the dice."""

from __future__ import annotations

import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulksend.emulators.faults import Fault, FaultDice, FaultKind, Latency, did_you_mean, parse_fault, parse_latency

_ENDPOINTS = ["insider.create", "insider.launch"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("429:1%", Fault(FaultKind.S429, 0.01)),
        ("429:0.01", Fault(FaultKind.S429, 0.01)),
        ("500:100%", Fault(FaultKind.S500, 1.0)),
        ("503-after:1", Fault(FaultKind.S503_AFTER, 1.0)),
        ("429-retry-after:1%", Fault(FaultKind.S429_RETRY_AFTER, 0.01, None, 1.0)),
        ("429-retry-after=3:1%", Fault(FaultKind.S429_RETRY_AFTER, 0.01, None, 3.0)),
        ("slow:0.5%", Fault(FaultKind.SLOW, 0.005, None, 2.0)),
        ("slow=500ms:1%", Fault(FaultKind.SLOW, 0.01, None, 0.5)),
        ("insider.launch=reset-after:1%", Fault(FaultKind.RESET_AFTER, 0.01, "insider.launch")),
        ("insider.launch=slow=0.5s:1%", Fault(FaultKind.SLOW, 0.01, "insider.launch", 0.5)),
    ],
)
def test_fault_text(text: str, fault: Fault) -> None:
    assert parse_fault(text, _ENDPOINTS) == fault


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("429", "KIND:SHARE"),
        ("reset-afer:1%", "did you mean 'reset-after'?"),
        ("xyz:1%", "known: 429, 429-retry-after"),
        ("insider.lunch=500:1%", "did you mean 'insider.launch'?"),
        ("500:101%", "not a share"),
        ("500:-1%", "not a share"),
        ("500:often", "not a share"),
        ("500=3s:1%", "takes no seconds"),
        ("slow=long:1%", "'long' is not a time"),
        ("429-retry-after=1.5:1%", "whole seconds"),
    ],
)
def test_bad_fault_text_is_named(text: str, says: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_fault(text, _ENDPOINTS)
    assert repr(text) in str(caught.value)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "latency"),
    [
        ("0", Latency(0, 0)),
        ("20ms", Latency(0.02, 0)),
        ("1s", Latency(1, 0)),
        ("20ms±10ms", Latency(0.02, 0.01)),
        ("20ms +- 10ms", Latency(0.02, 0.01)),
    ],
)
def test_latency_text(text: str, latency: Latency) -> None:
    assert parse_latency(text) == latency


@pytest.mark.parametrize("text", ["", "20", "fast", "20ms±", "20ms±30ms", "-5ms"])
def test_bad_latency_text_is_named(text: str) -> None:
    with pytest.raises(ValueError) as caught:
        parse_latency(text)
    assert repr(text) in str(caught.value)


@given(st.integers())
def test_latency_stays_within_its_spread(seed: int) -> None:
    assert 0.01 <= Latency(0.02, 0.01).draw(random.Random(seed)) <= 0.03
    assert Latency(0.02, 0).draw(random.Random(seed)) == 0.02


def _dice(seed: int, *texts: str) -> FaultDice:
    return FaultDice([parse_fault(text, _ENDPOINTS) for text in texts], _ENDPOINTS, random.Random(seed))


def _rolls(dice: FaultDice, count: int, endpoint: str = "insider.launch") -> list[str]:
    return [fault.kind.value if (fault := dice.roll(endpoint)) else "" for _ in range(count)]


def test_shares_are_met_and_do_not_hide_one_another() -> None:
    rolled = _rolls(_dice(1, "500:50%", "reset-after:0.3", "slow:0%"), 20_000)
    assert 0.48 < rolled.count("500") / 20_000 < 0.52
    assert 0.28 < rolled.count("reset-after") / 20_000 < 0.32
    assert rolled.count("slow") == 0


def test_same_seed_same_faults() -> None:
    texts = ("429:10%", "truncated:10%")
    assert _rolls(_dice(7, *texts), 500) == _rolls(_dice(7, *texts), 500)
    assert _rolls(_dice(7, *texts), 500) != _rolls(_dice(8, *texts), 500)


def test_an_endpoint_without_faults_is_left_alone_and_draws_nothing() -> None:
    mixed, alone = _dice(7, "insider.launch=500:50%"), _dice(7, "insider.launch=500:50%")
    seen = []
    for _ in range(200):
        assert mixed.roll("insider.create") is None
        seen += _rolls(mixed, 1)
    assert seen == _rolls(alone, 200)


def test_shares_of_more_than_all_calls_are_refused_by_endpoint() -> None:
    with pytest.raises(ValueError, match=r"insider\.launch"):
        _dice(1, "500:60%", "insider.launch=429:60%")


@pytest.mark.parametrize("kind", FaultKind)
def test_statuses_and_sides_of_the_effect(kind: FaultKind) -> None:
    word = kind.value
    assert kind.status == (int(word[:3]) if word[:3] in ("424", "429", "500", "503") else None)
    assert kind.before == (word in ("429", "429-retry-after", "424", "500", "503", "reset-before"))


def test_did_you_mean() -> None:
    assert did_you_mean("insidr", ["insider", "batch"]) == "did you mean 'insider'?"
    assert did_you_mean("zzz", ["insider", "batch"]) == "known: insider, batch"
