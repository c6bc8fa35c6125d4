"""What a last review found in whole runs."""

from __future__ import annotations

from copy import deepcopy
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

import bulksend
from bulksend.duration import parse_duration
from tests.end_to_end.test_reviewed import MADE, Job, Stub, against, campaigns, sends, two_hours_later


@pytest.fixture(autouse=True)
def _secret(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "t0ken")


def test_a_job_that_was_pointed_elsewhere_is_resolved(tmp_path: Path) -> None:
    """The ledger has the address that `base_url` gave; who settles by hand makes no call, and gives none."""
    stub = Stub(lambda _request, _body: None)
    job = Job(tmp_path, "insider", launch={"campaign_id": 7})

    async def work(url: str) -> None:
        tree = deepcopy(job.tree)
        tree["account"].pop("base_url", None)
        report = await bulksend.run_async(tree, ledger=job.ledger, base_url=url)
        assert sends(report) == {"unknown": 2}
        accepted, again, left = await bulksend.resolve_async(tree, accept_all=True, ledger=job.ledger)
        assert (accepted, again, list(left)) == (2, 0, [])

    against(stub, work)


@pytest.mark.parametrize("when", ["tomorrow", "2026-13-01T00:00:00", "", "9999-99-99"])
def test_a_local_time_that_is_none_is_told_with_its_row(tmp_path: Path, when: str) -> None:
    stub = Stub(lambda _request, _body: MADE)
    job = Job(tmp_path, "batch", launch={"push_time": ..., "local_push_time": "${when}"})
    job.tree["launch"].pop("push_time", None)
    (tmp_path / "rows.csv").write_text(f"key,when\n1,{when}\n2,2099-01-01T06:00:00\n", "utf-8")

    async def work(url: str) -> None:
        with pytest.raises(bulksend.JobError) as told:
            await job.run(url)
        (problem,) = told.value.problems
        assert (problem.row, problem.field) == (1, "launch.local_push_time")

    against(stub, work)
    assert not stub.calls


def test_a_begun_send_that_is_fit_again_is_gone_on_with_and_counted_once(tmp_path: Path) -> None:
    live = False

    def answer(request: object, _body: object) -> tuple[int, object]:
        path = getattr(request, "path", "")
        return MADE if "create" in path else (200, {}) if live else (503, {})

    stub = Stub(answer)
    job = Job(tmp_path, "batch", keys="1", launch={"name": "${name}"})

    async def work(url: str) -> None:
        nonlocal live
        ledger = job.ledger
        async with job.sender(url) as sender:
            await sender.send([{"key": "1", "name": "Sale"}])
        report = await bulksend.status_async(deepcopy(job.tree), ledger=ledger)
        assert sends(report) == {"unknown": 1}
        await bulksend.resolve_async({**deepcopy(job.tree)}, resend_all=True, ledger=ledger)
        live = True
        async with job.sender(url) as sender:
            report = await sender.send([{"key": "1", "name": ""}])
            assert sends(report) == {"pending": 1}
            report = await sender.send([{"key": "1", "name": "Sale"}])
            assert sends(report) == {"accepted": 1}

    against(stub, work)


def test_new_rows_of_a_job_in_chunks_are_refused_after_its_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    at = f"{datetime.now(UTC) + timedelta(hours=1):%Y-%m-%dT%H:%M:%SZ}"
    stub = Stub(campaigns())
    job = Job(tmp_path, "stream", keys="1234")
    job.tree["audience"]["chunk"] = 2
    job.tree["start"] = {"scheduled_for": at}
    job.tree["launch"].pop("segment_ids", None)
    job.tree["launch"]["user_ids"] = "${key[]}"
    job.tree["launch"]["name"] = "Sale"

    async def work(url: str) -> None:
        assert sends(await job.run(url)) == {"accepted": 2}
        two_hours_later(monkeypatch)
        assert sends(await job.run(url)) == {"accepted": 2}
        (tmp_path / "rows.csv").write_text("key\n1\n2\n3\n4\n5\n", "utf-8")
        with pytest.raises(bulksend.JobError, match="is in the past"):
            await job.run(url)

    against(stub, work)


@pytest.mark.parametrize("text", ["4.1 min", "8.2 min", "16.1 min", "2.05 min"])
def test_whole_seconds_are_whole_however_they_are_written(text: str) -> None:
    from bulksend.fields import read_table
    from bulksend.providers import PROVIDERS

    fields = {"ttl": PROVIDERS["usercom"].tables["launch"]["ttl"]}
    values, faults = read_table(fields, {"ttl": text}, "launch")
    assert not faults
    assert values["ttl"] == float(round(parse_duration(text)))
