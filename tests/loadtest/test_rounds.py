"""What is called, where it may go, and the extra that it needs."""

from __future__ import annotations

import socket
import sys
from pathlib import Path
from typing import Any

import pytest

from bulksend.errors import GuardError, JobError
from bulksend.job.accounts import Accounts, is_loopback
from bulksend.job.file import load_job
from bulksend.job.render import Renderer
from bulksend.job.schema import job_schema
from bulksend.loadtest.latency import need_histograms
from bulksend.loadtest.rounds import ROUNDS_MOST, chosen_step, draw
from bulksend.loadtest.safety import check_confirmed, check_marked
from bulksend.model import Account

VENDOR = "https://web-push.api.useinsider.com"


def job(**account: Any) -> dict[str, Any]:
    return {
        "job": "sale",
        "account": {"provider": "insider", "partner_id": "1", "token": "env:T", **account},
        "audience": {"from": "stores.csv", "key": "id"},
        "create": {"title": "Sale", "language": "en_GB"},
        "launch": {
            "title": "Sale in ${city}",
            "description": "Up to 50% off",
            "image": "https://example.com/icon.png",
            "link": "https://example.com/",
            "ttl": "1 day",
            "target": {"attribute": "c_store_id", "values": ["${id}"]},
        },
    }


def renderer(tables: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Renderer:
    monkeypatch.setenv("T", "t0ken")
    loaded = load_job(tables)
    accounts = Accounts(loaded.accounts, chooser=None, provider=loaded.provider, base_dir=Path())
    return Renderer(loaded, loaded.provider.flow(loaded.tables), accounts, now=0.0)


@pytest.mark.parametrize("url", ["http://127.0.0.1:8900", "http://localhost:1", "https://127.9.9.9", "http://[::1]:80"])
def test_this_machine_may_be_called(url: str) -> None:
    check_marked(load_job(job(base_url=url)).accounts.values())
    check_confirmed([Account("default", "insider", url)], [])


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1.example", "127.999.0.1"])
def test_a_name_for_this_machine_that_leads_to_another_is_another(host: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def elsewhere(*_: object, **__: object) -> list[Any]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, 0)) for one in ("127.0.0.1", "203.0.113.5")]

    monkeypatch.setattr(socket, "getaddrinfo", elsewhere)
    url = f"https://{host}"
    with pytest.raises(GuardError, match="not marked as a sandbox"):
        check_marked(load_job(job(base_url=url)).accounts.values())
    with pytest.raises(GuardError, match="--confirm-host"):
        check_confirmed([Account("default", "insider", url)], [])


@pytest.mark.parametrize(
    "url",
    [
        VENDOR,
        "https://127.0.0.1.example.com",
        "https://localhost.example.com",
        "https://10.0.0.1",
        "https://0x7f.1",
        "https://127.0.0.1.nip.io",
        "https://0.0.0.0",
        "https://localhost.",
    ],
)
def test_another_may_not_unless_marked_and_named(url: str) -> None:
    host = url.removeprefix("https://")
    with pytest.raises(GuardError, match="not marked as a sandbox") as caught:
        check_marked(load_job(job(base_url=url)).accounts.values())
    assert caught.value.refused
    assert host in str(caught.value)
    check_marked(load_job(job(base_url=url, sandbox=True)).accounts.values())
    account = Account("default", "insider", url)
    for hosts in ([], ["localhost"], [f"x{host}"]):
        with pytest.raises(GuardError, match=f"--confirm-host {host}"):
            check_confirmed([account], hosts)
    check_confirmed([account], [host])


def test_each_of_several_accounts_is_looked_at() -> None:
    tables = job()
    tables["audience"]["account"] = "${brand}"
    tables["account"] = {
        "provider": "insider",
        "red": {"partner_id": "1", "token": "env:T", "sandbox": True},
        "blue": {"partner_id": "2", "token": "env:T"},
    }
    with pytest.raises(GuardError, match=r"\[account.blue\] is not marked"):
        check_marked(load_job(tables).accounts.values())


@pytest.mark.parametrize("value", ["yes", 1, "${brand}"])
def test_sandbox_is_true_or_false(value: object) -> None:
    with pytest.raises(JobError) as caught:
        load_job(job(sandbox=value))
    assert caught.value.problems[0].field == "account.sandbox"


def test_the_schema_knows_it() -> None:
    branches = job_schema()["anyOf"]
    assert isinstance(branches, list)
    for branch in branches:
        assert {"type": "boolean"} in branch["properties"]["account"]["properties"]["sandbox"]["anyOf"]


def test_loopback_is_a_whole_name() -> None:
    assert is_loopback("127.0.0.1")
    assert not is_loopback("127.0.0.1.example.com")


def test_rows_go_round(monkeypatch: pytest.MonkeyPatch) -> None:
    one = renderer(job(), monkeypatch)
    rows = [("1", "Oslo"), ("2", "Bergen"), ("3", "Molde")]
    sends = draw(one, lambda: iter([rows]), 7)
    assert [send.key for send in sends] == ["1", "2", "3", "1", "2", "3", "1"]
    assert b"Sale in Bergen" in sends[1].steps[0].body
    assert one.job.name == "sale"
    assert len(draw(one, lambda: iter([rows]), ROUNDS_MOST + 5)) == ROUNDS_MOST


def test_ids_made_of_the_job_are_new_each_time_round(monkeypatch: pytest.MonkeyPatch) -> None:
    tables = {
        "job": "sale",
        "account": {"provider": "stream", "api_key": "K", "api_secret": "env:T"},
        "audience": {"from": "stores.csv", "key": "id"},
        "launch": {
            "name": "Sale ${id}",
            "sender_id": "sam",
            "segment_ids": ["segment-${id}"],
            "message_template": {"text": "Hi"},
        },
        "start": {},
    }
    one = renderer(tables, monkeypatch)
    sends = draw(one, lambda: iter([[("1",), ("2",)]]), 6)
    assert len({send.steps[0].body for send in sends}) == 6


def test_rows_that_are_wrong_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(JobError) as caught:
        draw(renderer(job(), monkeypatch), lambda: iter([[("1", ""), ("2", "Oslo"), ("3", None)]]), 10)
    assert [problem.row for problem in caught.value.problems] == [1, 3]


def test_the_slowest_step_is_called_or_the_named_one() -> None:
    per_row = job()
    per_row["create"] |= {"per": "row", "title": "Sale ${id}"}
    for tables, endpoint, number in (
        (job(), None, 0),
        (per_row, None, 0),
        (per_row, "insider.launch", 1),
        ({**per_row, "limits": {"insider.launch": "1/min"}}, None, 1),
    ):
        loaded = load_job(tables)
        assert chosen_step(loaded, loaded.provider.flow(loaded.tables), endpoint) == number
    loaded = load_job(job())
    with pytest.raises(JobError, match=r"did you mean insider\.launch"):
        chosen_step(loaded, loaded.provider.flow(loaded.tables), "insider.lunch")


def test_without_the_extra_the_command_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "hdrh", None)
    monkeypatch.delitem(sys.modules, "hdrh.histogram", raising=False)
    with pytest.raises(JobError, match=r"pip install 'bulksend\[loadtest\]'"):
        need_histograms()
