"""Corners in which something was once wrong."""

from __future__ import annotations

import asyncio
import tomllib
from decimal import Decimal
from pathlib import Path

import pytest

from bulksend.duration import parse_duration
from bulksend.engine.guards import RejectGuard
from bulksend.engine.rate import WindowCount
from bulksend.event import EventName
from bulksend.fields import Field, Kind, read_table
from bulksend.job.accounts import Accounts, AccountSpec
from bulksend.job.lines import key_lines
from bulksend.job.template import Template, substitute_vars
from bulksend.ledger.sqlite import SqliteLedger
from bulksend.model import Accepted, JobState, Limit, Reply, Step, Window
from bulksend.providers import PROVIDERS
from tests.engine.test_sender import ACCEPTED, LIMITED_FOR_7_S, Engine, Vendor, in_engine, send_of
from tests.simulated_time import InlineExecutor

INSIDER = PROVIDERS["insider"]


def test_a_pause_before_the_clock_was_set_back_does_not_last_an_hour(tmp_path: Path) -> None:
    now = [1e9]

    async def main() -> None:
        ledger = SqliteLedger(tmp_path / "a.db", executor=InlineExecutor(), wall=lambda: now[0])
        await ledger.open(create=True)
        await ledger.pause("i", "e", 30)
        now[0] -= 3600
        await ledger.pause("i", "e", 5)
        lease = await ledger.lease("i", "e", tokens=1, rate_per_s=100, delay_s=0)
        await ledger.close()
        assert lease.start - now[0] <= 30

    asyncio.run(main())


def test_a_coarse_window_never_counts_fewer() -> None:
    count = WindowCount(Window(30_000, 6000.0))
    count.add(0.9)
    count.add(6000.1)
    assert count.most == 2


@pytest.mark.parametrize(("share", "most"), [(0.07, 14), (0.14, 28), (0.28, 56), (0.29, 58)])
def test_a_share_of_200_is_not_rounded_up_by_floats(share: float, most: int) -> None:
    assert RejectGuard(share).most == most


def test_a_dollar_from_a_variable_stays_beside_a_column() -> None:
    template = Template({"t": substitute_vars("Only ${var.currency}${price}", {"currency": "$"})})
    assert template.columns == ("price",)
    assert template.render(["9"]) == ({"t": "Only $9"}, [])


def test_two_variables_never_make_a_placeholder() -> None:
    template = Template({"t": substitute_vars("${var.a}${var.b}", {"a": "$", "b": "{c}"})})
    assert template.columns == ()
    assert template.render([]) == ({"t": "${c}"}, [])


def test_lines_are_counted_as_toml_counts_them() -> None:
    text = 'a = "x\u2028y"\nb = 1\n'
    tomllib.loads(text)
    assert key_lines(text)["b"] == 2


def test_an_escaped_quote_does_not_end_a_long_text() -> None:
    text = 'a = """x \\""" y"""\nb = 1\n[t]\nc = 1\n'
    tomllib.loads(text)
    assert key_lines(text) == {"a": 1, "b": 2, "t": 3, "t.c": 4}


def test_windows_need_no_space_between_them() -> None:
    assert Limit.parse("6000/min,100/s").windows == (Window(6000, 60.0), Window(100, 1.0))


def test_an_endless_duration_is_refused() -> None:
    with pytest.raises(ValueError, match="thousand years"):
        parse_duration("9" * 400 + " days")


def test_a_superscript_is_no_campaign_id() -> None:
    reply = Reply(200, {}, '{"success":true,"campaign_id":"²"}'.encode())
    assert not isinstance(INSIDER.read(Step(INSIDER.endpoints["insider.launch"]), reply, repeats=0), Accepted)


@pytest.mark.parametrize("value", [float("inf"), Decimal("Infinity")])
def test_infinity_is_no_whole_number(value: object) -> None:
    _, faults = read_table({"n": Field(Kind.INTEGER)}, {"n": value}, "t", loose=["n"])
    assert faults


@pytest.mark.parametrize("value", [Decimal("Infinity"), Decimal("sNaN"), Decimal("NaN"), float("nan")])
def test_what_is_no_number_is_blank(value: object) -> None:
    assert Template({"n": "${a}"}).render([value])[1] == ["a"]


def test_nan_in_a_list_is_never_sent_as_null() -> None:
    body, blanks = Template({"target": {"attribute": "c_x", "values": "${a}"}}).render([[1.0, float("nan")]])
    assert blanks or INSIDER.check("launch", body, now=0.0)


def test_account_names_do_not_collide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("c", "1")
    monkeypatch.setenv("b/c", "2")
    spec = AccountSpec("d", "https://x", {"partner_id": "${p}"}, {"token": "env:${t}"})
    accounts = Accounts({"d": spec}, chooser=None, provider=INSIDER, base_dir=tmp_path)
    assert accounts.of(["a/b", "c"]).name != accounts.of(["a", "b/c"]).name


def test_a_dead_job_is_told_as_incomplete_to_the_next_run(tmp_path: Path) -> None:
    async def main() -> None:
        for holder in ("dead", "next"):
            ledger = SqliteLedger(tmp_path / "a.db", executor=InlineExecutor())
            await ledger.open(create=True)
            before, _ = await ledger.start_job("j", holder)
            await ledger.close()  # the lock goes, the row still says running, as after kill -9
        assert (before.state, before.holder) == (JobState.INCOMPLETE, None)

    asyncio.run(main())


def test_attempts_are_told_by_number_also_when_they_are_not_charged(tmp_path: Path) -> None:
    async def check(engine: Engine) -> None:
        await engine.run([send_of(1)])
        assert [event.attempt for event in engine.named(EventName.SEND_RETRIED)] == [1, 2]
        assert [event.attempt for event in engine.named(EventName.CALL_MADE)] == [1, 2, 3]

    in_engine(tmp_path, Vendor({"k1": [LIMITED_FOR_7_S] * 2 + [ACCEPTED]}), check)
