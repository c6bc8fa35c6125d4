"""The library: what the shell does, from code."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import bulksend
from tests.end_to_end.vendor import JobFolder, Vendor


@pytest.fixture
def vendor() -> Iterator[Vendor]:
    with Vendor() as vendor:
        yield vendor


def prepared(tmp_path: Path, vendor: Vendor, monkeypatch: pytest.MonkeyPatch, rows: int = 10) -> JobFolder:
    monkeypatch.setenv("INSIDER_TOKEN", vendor.token)
    return JobFolder(tmp_path, vendor, rows=rows)


def test_run_returns_the_numbers_and_tells_every_event(
    tmp_path: Path, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepared(tmp_path, vendor, monkeypatch)
    events: list[bulksend.Event] = []
    report = bulksend.run(folder.file, observers=[events.append])
    assert (report.state, report.total, report.accepted, report.pending) == (bulksend.JobState.DONE, 10, 10, 0)
    report.raise_for_failures()
    accepted = [event.key for event in events if event.name is bulksend.EventName.SEND_ACCEPTED]
    assert sorted(filter(None, accepted)) == sorted(vendor.launches())
    assert bulksend.status(folder.file).to_dict()["sends"] == report.to_dict()["sends"]


def test_plan_calls_nobody(tmp_path: Path, vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = prepared(tmp_path, vendor, monkeypatch, rows=700)
    plan = bulksend.plan(folder.file)
    assert (plan.rows, plan.sends, plan.bottleneck) == (700, 700, "insider.launch")
    assert plan.endpoints["insider.create"].calls == 1
    assert plan.endpoints["insider.launch"].calls == 700
    assert plan.eta_s == pytest.approx(7.0, abs=0.1)
    assert [sample.key for sample in plan.samples] == ["", "00001", "00002", "00003"]
    assert vendor.stats()["calls"] == vendor.stats("insider.create")["calls"] == 0
    assert not (tmp_path / "bulksend.db").exists()


def test_sender_takes_rows_from_code_once(tmp_path: Path, vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = prepared(tmp_path, vendor, monkeypatch)
    folder.edit('from = "stores.csv"\n', "")

    async def later() -> AsyncIterator[dict[str, object]]:
        for number in range(5, 12):
            await asyncio.sleep(0)
            yield {"store_id": str(number), "city": "Oslo"}

    async def main() -> bulksend.Report:
        async with bulksend.Sender(folder.file) as sender:
            first = await sender.send({"store_id": str(number), "city": "Oslo"} for number in range(5))
            assert first.accepted == 5
            return await sender.send(later())

    report = asyncio.run(main())
    assert (report.total, report.accepted) == (12, 12)
    assert set(vendor.launches()) == {str(number) for number in range(12)}

    async def again() -> bulksend.Report:
        async with bulksend.Sender(folder.file) as sender:
            return await sender.send([{"store_id": "3", "city": "Oslo"}, {"store_id": "99", "city": "Oslo"}])

    assert asyncio.run(again()).accepted >= 2
    assert set(vendor.launches().values()) == {1}
    assert len(vendor.launches()) == 13


def test_sender_refuses_a_key_twice_and_rejects_a_bad_row_without_a_call(
    tmp_path: Path, vendor: Vendor, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = prepared(tmp_path, vendor, monkeypatch)
    folder.edit('from = "stores.csv"\n', "")

    async def main() -> None:
        async with bulksend.Sender(folder.file) as sender:
            report = await sender.send([{"store_id": "1", "city": "x" * 101}, {"store_id": "2", "city": "Oslo"}])
            assert (report.accepted, report.rejected) == (1, 1)
            assert "launch.title" in (report.failures[0].reason or "")
            with pytest.raises(bulksend.SendsFailedError):
                report.raise_for_failures()
            await sender.send([{"store_id": "3", "city": "Oslo"}, {"store_id": "3", "city": "Bergen"}])

    with pytest.raises(bulksend.JobError, match="same key"):
        asyncio.run(main())
    assert vendor.launches()["3"] <= 1
    assert vendor.launches()["1"] == 0


def test_errors_carry_the_report(tmp_path: Path, vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = prepared(tmp_path, vendor, monkeypatch)
    monkeypatch.setenv("INSIDER_TOKEN", "wrong")
    with pytest.raises(bulksend.DeniedError) as caught:
        bulksend.run(folder.file)
    report = caught.value.report
    assert isinstance(report, bulksend.Report)
    assert (report.state, report.pending) == (bulksend.JobState.INCOMPLETE, 10)
    assert caught.value.exit_code == 1


def test_a_job_may_be_a_mapping(tmp_path: Path, vendor: Vendor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("INSIDER_TOKEN", vendor.token)
    job = {
        "job": "mapped",
        "account": {
            "provider": "insider",
            "partner_id": vendor.partner_id,
            "token": "env:INSIDER_TOKEN",
            "base_url": vendor.url,
        },
        "audience": {"sql": "select 'a' as id", "key": "id"},
        "create": {"title": "mapped", "language": "en_GB"},
        "launch": {
            "title": "t",
            "description": "d",
            "image": "https://example.com/i.png",
            "link": "https://example.com/",
            "ttl": "1 day",
            "target": {"attribute": "c_id", "values": ["${id}"]},
        },
    }
    assert bulksend.run(job).accepted == 1
    assert (tmp_path / "bulksend.db").stat().st_mode & 0o777 == 0o600
