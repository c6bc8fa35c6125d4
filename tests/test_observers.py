"""Those who look on: what they do wrong costs nothing."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import bulksend
from bulksend.api.observing import Observers
from bulksend.errors import GuardError
from bulksend.event import Event, EventName

ROWS = "store_id\n0001\n0002\n"
JOB = {
    "job": "sale",
    "account": {"provider": "insider", "partner_id": "1", "token": "env:TOKEN", "base_url": "http://127.0.0.1:9"},
    "audience": {"from": "stores.csv", "key": "store_id"},
    "create": {"title": "sale", "language": "en_GB"},
    "launch": {
        "title": "t",
        "description": "d",
        "image": "https://example.com/i.png",
        "link": "https://example.com",
        "ttl": "1 day",
        "target": {"attribute": "c_a", "values": ["${store_id}"]},
    },
}
PAST = {"due": "2020-01-01T00:00:00Z", "max_lateness": "1m"}


def fails(_event: Event) -> None:
    raise OSError("full")


def test_one_that_raises_is_told_no_more_and_the_others_are() -> None:
    told: list[Event] = []
    tell = Observers([fails, told.append])
    with pytest.warns(RuntimeWarning, match="observer failed"):
        tell(Event(EventName.RUN_STARTED, "job"))
    tell(Event(EventName.RUN_FINISHED, "job"))  # would warn once more, and warnings are errors
    assert [event.name for event in told] == [EventName.RUN_STARTED, EventName.RUN_FINISHED]


def test_where_warnings_are_errors_nothing_is_raised_either() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Observers([fails])(Event(EventName.RUN_STARTED, "job"))


@pytest.mark.parametrize("policy", [{"max_sends": 1}, PAST])
def test_a_refusal_is_told_to_all_whatever_one_of_them_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, policy: dict[str, object]
) -> None:
    monkeypatch.setenv("TOKEN", "x")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stores.csv").write_text(ROWS)
    told: list[Event] = []
    with pytest.warns(RuntimeWarning, match="observer failed") as said, pytest.raises(GuardError):
        bulksend.run({**JOB, "policy": policy}, observers=[fails, told.append])
    assert told[-1].name is EventName.GUARD_STOPPED
    assert len(said) == 1, "who failed before is not asked again"
