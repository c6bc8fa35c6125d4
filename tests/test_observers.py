"""Those who look on: what they do wrong costs nothing."""

from __future__ import annotations

import warnings
from pathlib import Path

import pytest

import bulksend
from bulksend.api.observing import Observers
from bulksend.errors import GuardError
from bulksend.event import Event, EventName
from bulksend.observe.by_name import ByName

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


class Named(ByName):
    """Has a use for one event."""

    def __init__(self, told: list[Event]) -> None:
        super().__init__({EventName.CALL_MADE: told.append})


class All(Named):
    """Counts every event besides."""

    count = 0

    def __call__(self, event: Event) -> None:
        self.count += 1
        super().__call__(event)


def test_one_with_methods_by_name_is_told_what_it_has_use_for() -> None:
    told: list[Event] = []
    for tell in (Named(told), Observers([Named(told)])):
        for name in EventName:
            tell(Event(name, "job"))
    assert [event.name for event in told] == [EventName.CALL_MADE] * 2


def test_one_that_is_more_than_its_methods_is_called_with_every_event() -> None:
    """A program may derive from what counts for it."""
    told: list[Event] = []
    one = All(told)
    tell = Observers([one])
    for name in EventName:
        tell(Event(name, "job"))
    assert (one.count, len(told)) == (len(EventName), 1)


def test_all_are_told_in_their_order() -> None:
    told: list[str] = []
    first = Named([])
    first.methods = {EventName.CALL_MADE: lambda _: told.append("first")}
    Observers([first, lambda _: told.append("second"), lambda _: told.append("third")])(
        Event(EventName.CALL_MADE, "job")
    )
    assert told == ["first", "second", "third"]


def test_one_with_methods_that_raises_in_one_of_them_is_told_nothing_more() -> None:
    told: list[Event] = []
    one = Named([])
    one.methods = {EventName.CALL_MADE: fails, EventName.SEND_ACCEPTED: told.append}
    tell = Observers([one, told.append])
    with pytest.warns(RuntimeWarning, match="observer failed"):
        tell(Event(EventName.CALL_MADE, "job"))
    tell(Event(EventName.SEND_ACCEPTED, "job"))
    tell(Event(EventName.CALL_MADE, "job"))
    assert [event.name for event in told] == [EventName.CALL_MADE, EventName.SEND_ACCEPTED, EventName.CALL_MADE]


def test_an_observer_may_tell_of_itself() -> None:
    """What it tells while it is told fails with it, and it is dropped once."""
    told: list[Event] = []

    def echoes(event: Event) -> None:
        if event.name is EventName.CALL_MADE:
            tell(Event(EventName.SEND_ACCEPTED, "job"))
        raise OSError("full")

    tell = Observers([echoes, told.append])
    with pytest.warns(RuntimeWarning, match="observer failed"):
        tell(Event(EventName.CALL_MADE, "job"))
    assert [event.name for event in told] == [EventName.SEND_ACCEPTED, EventName.CALL_MADE]


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
