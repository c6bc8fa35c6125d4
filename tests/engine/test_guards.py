"""The guard that stops a job when too many sends are rejected."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bulksend.engine.guards import LAST, RejectGuard
from bulksend.model import State

SETTLED = [State.ACCEPTED, State.UNKNOWN, State.REJECTED]


@pytest.mark.parametrize(("share", "most"), [(0.05, 10), (0.01, 2), (0.005, 1), (0.0001, 1), (0.5, 100), (1.0, 200)])
def test_a_job_that_goes_wrong_from_its_first_send_is_stopped_after_a_few(share: float, most: int) -> None:
    guard = RejectGuard(share)
    assert [guard.add(State.REJECTED) for _ in range(most)] == [False] * (most - 1) + [True]
    assert guard.rejected == most


def test_unknown_and_accepted_are_no_rejects() -> None:
    guard = RejectGuard(0.005)
    assert not any(guard.add(state) for state in [State.ACCEPTED, State.UNKNOWN] * 500)


def test_rejects_further_back_than_200_sends_are_forgotten() -> None:
    guard = RejectGuard(0.05)
    for _ in range(9):
        assert not guard.add(State.REJECTED)
    for _ in range(LAST - 9):
        assert not guard.add(State.ACCEPTED)
    # The oldest nine leave as nine new ones come.
    assert [guard.add(State.REJECTED) for _ in range(9)] == [False] * 9
    assert guard.rejected == 9
    assert guard.add(State.REJECTED)


@given(states=st.lists(st.sampled_from(SETTLED), max_size=900), share=st.sampled_from([0.01, 0.05, 0.1, 0.5, 1.0]))
def test_against_a_count_of_the_last_200(states: list[State], share: float) -> None:
    guard = RejectGuard(share)
    for number, state in enumerate(states, 1):
        rejected = sum(one is State.REJECTED for one in states[max(0, number - LAST) : number])
        assert guard.add(state) == (rejected >= share * LAST)
        assert guard.rejected == rejected


@given(states=st.lists(st.sampled_from(SETTLED), max_size=300))
def test_a_stricter_share_never_trips_later(states: list[State]) -> None:
    guards = [RejectGuard(share) for share in (0.01, 0.05, 0.5)]
    for state in states:
        tripped = [guard.add(state) for guard in guards]
        assert all(strict or not loose for strict, loose in pairwise(tripped))
