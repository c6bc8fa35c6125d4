"""A launch job over real sockets; what happened is judged by the emulator's own log."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.end_to_end.vendor import JobFolder, Vendor


def test_every_row_once_at_the_limit_without_a_429(tmp_path: Path) -> None:
    with Vendor("--limit", "insider.launch=600/6s", "--latency", "20ms±10ms") as vendor:
        folder = JobFolder(tmp_path, vendor, rows=1000, extra='[limits]\n"insider.launch" = "600/6s"\n')
        done = folder.run()
        assert done.code == 0
        assert done.sends == {"total": 1000, "accepted": 1000, "rejected": 0, "unknown": 0, "pending": 0}
        assert done.json["state"] == "done"
        assert set(vendor.launches().values()) == {1}
        assert len(vendor.launches()) == 1000
        stats = vendor.stats()
        assert stats["throttled"] == 0
        assert stats["max_in_window"][0] <= 600
        endpoint = done.json["endpoints"]["insider.launch"]
        assert endpoint["max_in_window"] <= 600
        assert endpoint["calls"] == stats["calls"] == 1000


def test_a_finished_job_makes_no_call_and_says_when_it_finished(tmp_path: Path) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor, rows=20)
        assert folder.run().code == 0
        before = [vendor.stats("insider.create")["calls"], vendor.stats()["calls"]]
        again = folder.run()
        assert again.code == 0
        assert again.json["calls"]["made"] == 0
        assert again.sends["accepted"] == 20
        assert "finished before, finished 20" in again.err
        assert [vendor.stats("insider.create")["calls"], vendor.stats()["calls"]] == before


def test_new_rows_are_sent_and_a_changed_row_is_told_not_resent(tmp_path: Path) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor, rows=20)
        assert folder.run().code == 0
        folder.rows(25)
        csv = folder.path / "stores.csv"
        csv.write_text(csv.read_text("utf-8").replace("00003,Oslo", "00003,Bergen"), "utf-8")
        again = folder.run()
        assert again.code == 0
        assert again.sends["accepted"] == 25
        changed = [event for event in again.events if event["event"] == "send.changed"]
        assert [event["key"] for event in changed] == ["00003"]
        assert set(vendor.launches().values()) == {1}
        assert len(vendor.launches()) == 25


def test_faults_leave_every_row_accepted_rejected_or_unknown_and_none_doubled(tmp_path: Path) -> None:
    kinds = [
        "reset-after",
        "reset-before",
        "424",
        "424-after",
        "500",
        "500-after",
        "503",
        "429",
        "truncated",
        "not-json",
    ]
    flags = [part for kind in kinds for part in ("--fault", f"insider.launch={kind}:2%")]
    # A short window, since a 429 that does not say how long is waited for in eighths of it.
    limit = "200/2s"
    flags += ["--fault", "insider.launch=429-retry-after=1:2%", "--seed", "5", "--limit", f"insider.launch={limit}"]
    with Vendor(*flags) as vendor:
        folder = JobFolder(tmp_path, vendor, rows=300, extra=f'[limits]\n"insider.launch" = "{limit}"\n')
        done = folder.run()
        assert done.code == 3
        sends = done.sends
        assert sends["accepted"] + sends["rejected"] + sends["unknown"] == 300
        assert sends["pending"] == sends["rejected"] == 0
        launches = vendor.launches()
        assert max(launches.values()) == 1
        status = folder.command("status", "job.toml", "--json").json
        assert status["sends"] == sends
        assert sends["accepted"] <= len(launches) <= sends["accepted"] + sends["unknown"]
        assert done.json["calls"]["throttled"] == sum(
            vendor.stats()["faults"].get(kind, 0) for kind in ("429", "429-retry-after")
        )


def test_a_lost_create_is_made_again_under_a_suffix(tmp_path: Path) -> None:
    with Vendor(
        "--fault", "insider.create=reset-after:60%", "--seed", "1", "--limit", "insider.create=600/min"
    ) as vendor:
        folder = JobFolder(tmp_path, vendor, rows=3, extra='[limits]\n"insider.create" = "600/min"\n')
        done = folder.run()
        assert done.code == 0
        titles = [body["title"] for body in vendor.bodies("insider.create")]
        assert titles[0] == "sale"
        assert titles[1:] == [f"sale ({number})" for number in range(2, len(titles) + 1)]
        assert len(titles) > 1
        assert len(vendor.launches()) == 3


def test_a_taken_title_is_said_and_nothing_is_launched(tmp_path: Path) -> None:
    with Vendor() as vendor:
        assert JobFolder(tmp_path, vendor, rows=1).run().code == 0
        folder = JobFolder(tmp_path, vendor, job="other", rows=3)
        folder.edit('title = "other"', 'title = "sale"')
        done = folder.run()
        assert done.code == 1
        assert "title may be taken" in done.err
        assert done.sends["pending"] == 3
        assert len(vendor.launches()) == 1
        folder.edit('title = "sale"', 'title = "another"')
        assert folder.run().code == 0


def test_refused_credentials_stop_the_job_at_once(tmp_path: Path) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor, rows=200)
        folder.env["INSIDER_TOKEN"] = "wrong-canary-token"
        done = folder.run()
        assert done.code == 1
        assert "HTTP 401" in done.err
        assert "wrong-canary-token" not in done.err + done.out
        assert done.json["state"] == "incomplete"
        assert done.sends["pending"] == 200
        assert vendor.stats()["calls"] == 0
        folder.env["INSIDER_TOKEN"] = vendor.token
        assert folder.run().sends["accepted"] == 200


def test_an_unreachable_vendor_loses_nothing(tmp_path: Path) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor, rows=5)
        good = vendor.url
        folder.edit(good, "http://127.0.0.1:9")
        done = folder.run()
        assert done.code == 1
        assert "cannot reach the vendor" in done.err
        assert done.sends == {"total": 5, "accepted": 0, "rejected": 0, "unknown": 0, "pending": 5}
        folder.edit("http://127.0.0.1:9", good)
        assert folder.run().sends["accepted"] == 5


def test_several_accounts_each_get_their_campaign_and_rows(tmp_path: Path) -> None:
    with Vendor(accounts=2) as vendor:
        folder = JobFolder(tmp_path, vendor, rows=1)
        first, second = vendor.accounts
        (tmp_path / "stores.csv").write_text(
            "store_id,city,brand\n" + "".join(f"{one:03},Oslo,{'ab'[one % 2]}\n" for one in range(60)), "utf-8"
        )
        text = folder.file.read_text("utf-8")
        account = f'partner_id = "{vendor.partner_id}"\ntoken = "env:INSIDER_TOKEN"\n'
        text = text.replace(account, "")
        text = text.replace('key = "store_id"', 'key = "store_id"\naccount = "${brand}"')
        for name, one in (("a", first), ("b", second)):
            (tmp_path / f"token-{name}").write_text(one["token"] + "\n", "utf-8")
            text += f'[account.{name}]\npartner_id = "{one["partner_id"]}"\ntoken = "file:token-{name}"\n'
        folder.file.write_text(text, "utf-8")
        done = folder.run()
        assert done.code == 0, done.err
        by_partner = {one["partner_id"]: 0 for one in (first, second)}
        for body in vendor.bodies():
            by_partner[body["partner_id"]] += 1
        assert set(by_partner.values()) == {30}
        assert {body["partner_id"] for body in vendor.bodies("insider.create")} == set(by_partner)


def test_one_account_table_whose_secret_a_column_picks(tmp_path: Path) -> None:
    with Vendor(accounts=2) as vendor:
        folder = JobFolder(tmp_path, vendor, rows=1)
        lines = ["store_id,city,brand,partner"]
        for number, one in enumerate(vendor.accounts):
            (tmp_path / f"token-{number}").write_text(one["token"], "utf-8")
            lines += [f"{number}-{row},Oslo,{number},{one['partner_id']}" for row in range(10)]
        (tmp_path / "stores.csv").write_text("\n".join(lines), "utf-8")
        folder.edit(f'partner_id = "{vendor.partner_id}"', 'partner_id = "${partner}"')
        folder.edit("env:INSIDER_TOKEN", "file:token-${brand}")
        done = folder.run()
        assert done.code == 0, done.err
        assert len(vendor.launches()) == 20


def test_chunks_send_lists_and_new_rows_form_new_chunks(tmp_path: Path) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor, rows=25)
        folder.edit('key = "store_id"', 'key = "store_id"\nchunk = 10')
        folder.edit("${city}", "town")
        folder.edit("?store=${store_id}", "")
        folder.edit('values = ["${store_id}"]', 'values = "${store_id[]}"')
        planned = folder.command("plan", "job.toml", "--json").json
        assert planned["rows"] == 25
        assert planned["sends"]["total"] == 3
        done = folder.run()
        assert done.code == 0, done.err
        assert done.json["rows"] == 25
        assert done.sends["total"] == 3
        assert sorted(len(body["target"]["values"]) for body in vendor.bodies()) == [5, 10, 10]
        folder.rows(32)
        again = folder.run()
        assert again.sends["accepted"] == 4
        assert len(vendor.launches()) == 32
        assert set(vendor.launches().values()) == {1}


def test_typed_values_reach_the_wire_as_they_are(tmp_path: Path) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor, rows=1)
        rows = [{"store_id": 7, "city": "Oslo", "all": True}, {"store_id": "0007", "city": "Ås", "all": False}]
        (tmp_path / "stores.jsonl").write_text("\n".join(map(json.dumps, rows)), "utf-8")
        folder.edit("stores.csv", "stores.jsonl")
        folder.edit('ttl = "1 day"', 'ttl = "1h 30m"\ninclude_unengaged = "${all}"')
        done = folder.run()
        assert done.code == 0, done.err
        bodies = {body["title"]: body for body in vendor.bodies()}
        assert bodies["Sale in Oslo"]["target"]["values"] == [7]
        assert bodies["Sale in Ås"]["target"]["values"] == ["0007"]
        assert bodies["Sale in Oslo"]["include_unengaged"] is bodies["Sale in Oslo"]["include_unengage"] is True
        assert "include_unengaged" not in bodies["Sale in Ås"]
        assert "include_unengage" not in bodies["Sale in Ås"]
        assert bodies["Sale in Ås"]["ttl"] == "5400"
        assert bodies["Sale in Ås"]["language"] == "en_GB"


def test_sql_audience_and_variables(tmp_path: Path) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor, rows=50)
        folder.edit(
            'from = "stores.csv"', "sql = \"select store_id, upper(city) as city from 'stores.csv' limit ${var.n}\""
        )
        folder.edit('job = "sale"', 'job = "sale-${var.day}"')
        done = folder.run("--var", "day=monday", "--var", "n=7")
        assert done.code == 0, done.err
        assert done.json["job"] == "sale-monday"
        assert {body["title"] for body in vendor.bodies()} == {"Sale in OSLO"}
        assert len(vendor.launches()) == 7


def test_without_an_audience_one_launch_to_all(tmp_path: Path) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor, rows=1)
        folder.edit('[audience]\nfrom = "stores.csv"\nkey = "store_id"\n', "")
        folder.edit('language = "en_GB"\n', 'language = "all_ALL"\nis_all = true\n')
        folder.edit("${city}", "town")
        folder.edit("?store=${store_id}", "")
        folder.edit('target = { attribute = "c_store_id", values = ["${store_id}"] }', "")
        done = folder.run()
        assert done.code == 0, done.err
        assert done.sends["accepted"] == len(vendor.bodies()) == 1
        assert folder.run().json["calls"]["made"] == 0


def test_an_existing_campaign_is_launched_without_a_create(tmp_path: Path) -> None:
    with Vendor("--campaign", "4711") as vendor:
        folder = JobFolder(tmp_path, vendor, rows=3)
        folder.edit('[create]\ntitle = "sale"\nlanguage = "en_GB"\n', "")
        folder.edit("[launch]", "[launch]\ncampaign_id = 4711")
        done = folder.run()
        assert done.code == 0, done.err
        assert vendor.stats("insider.create")["calls"] == 0
        assert len(vendor.launches()) == 3
        assert all("campaign_id" not in body for body in vendor.bodies())


def test_limit_takes_the_first_rows_and_a_later_run_the_rest(tmp_path: Path) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor, rows=30)
        first = folder.run("--limit", "10")
        assert first.code == 0
        assert first.sends["total"] == first.sends["accepted"] == 10
        assert set(vendor.launches()) == {f"{one:05}" for one in range(1, 11)}
        assert folder.run().sends["accepted"] == 30
        assert set(vendor.launches().values()) == {1}


@pytest.mark.parametrize("flag", ["--precheck", "--no-precheck"])
def test_a_bad_row_is_refused_beforehand_or_rejected_without_a_call(tmp_path: Path, flag: str) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor, rows=10)
        csv = tmp_path / "stores.csv"
        csv.write_text(csv.read_text("utf-8").replace("00004,Oslo", "00004," + "x" * 200), "utf-8")
        done = folder.run(flag)
        if flag == "--precheck":
            assert done.code == 2
            assert "stores.csv, row 4 (key 00004): launch.title: has 208 characters" in done.err
            assert vendor.stats()["calls"] == vendor.stats("insider.create")["calls"] == 0
            assert not (tmp_path / "bulksend.db").exists()
        else:
            assert done.code == 3
            assert done.sends["rejected"] == 1
            assert done.sends["accepted"] == len(vendor.launches()) == 9


def test_emulate_needs_no_account_and_leaves_no_ledger(tmp_path: Path) -> None:
    with Vendor() as vendor:
        folder = JobFolder(tmp_path, vendor, rows=12)
        del folder.env["INSIDER_TOKEN"]
        done = folder.run("--emulate")
        assert done.code == 0, done.err
        assert done.sends["accepted"] == 12
        assert vendor.stats()["calls"] == 0
        assert not (tmp_path / "bulksend.db").exists()
