"""What `plan` shows before anything is sent: figures, payloads, every fault; and that it calls and changes nothing."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pytest

from tests.shell.conftest import SECRET, TIMEOUT_S, Listener, Said, Shell
from tests.shell.test_bad_input import ALL, GUARDS, assert_harmless, assert_said, prepare

ACCOUNTS = """\
[account.red]
partner_id = "1"
token = "env:INSIDER_TOKEN"

[account.blue]
partner_id = "2"
token = "env:INSIDER_TOKEN"
"""


def planned(shell: Shell, *arguments: str) -> dict[str, Any]:
    """Return what `plan --json` prints; it must be accepted without a word."""
    said = shell.call("plan", "job.toml", "--json", *arguments)
    assert (said.code, said.stderr) == (0, "")
    return said.data


def rows(number: int) -> str:
    return "store_id,city\n" + "".join(f"{row:04},Oslo\n" for row in range(1, number + 1))


def test_plan_calls_and_changes_nothing(shell: Shell, listener: Listener) -> None:
    before = shell.listing()
    for arguments in ((), ("--json",), ("--limit", "1")):
        said = shell.run("plan", "job.toml", *arguments)
        assert (said.code, said.stderr) == (0, "")
        assert SECRET not in said.stdout
    assert shell.listing() == before
    assert listener.connections == 0


def test_plan_in_words(shell: Shell) -> None:
    said = shell.call("plan", "job.toml")
    assert said.code == 0
    words = " ".join(said.stdout.split())
    for text in (
        'job "sale" for insider',
        "3 to make",
        "insider.create",
        "30/min",
        "insider.launch",
        "6000/min",
        "Live in Oslo",
    ):
        assert text in words
    (bottleneck,) = [line for line in said.stdout.splitlines() if "bottleneck" in line]
    assert "insider.launch" in bottleneck


def test_calls_for_each_endpoint(shell: Shell) -> None:
    shell.write("stores.csv", rows(1200))
    data = planned(shell)
    assert (data["job"], data["provider"], data["rows"]) == ("sale", "insider", 1200)
    assert data["sends"] == {"total": 1200, "settled": 0, "pending": 1200}
    assert {name: (one["calls"], one["limit"]) for name, one in data["endpoints"].items()} == {
        "insider.create": (1, "30/min"),
        "insider.launch": (1200, "6000/min"),
    }
    assert data["bottleneck"] == "insider.launch"
    assert data["eta_s"] == data["endpoints"]["insider.launch"]["duration_s"]
    assert 11.9 < data["eta_s"] < 12.3
    assert (data["problems"], data["more_problems"], data["warnings"]) == ([], 0, [])


def test_the_contract_s_limit_decides_the_eta(shell: Shell) -> None:
    shell.write("stores.csv", rows(61))
    shell.add('[limits]\n"insider.launch" = "30/min"')
    data = planned(shell)
    assert data["endpoints"]["insider.launch"]["limit"] == "30/min"
    assert 119 < data["eta_s"] < 123


def test_the_tightest_of_several_windows_decides(shell: Shell) -> None:
    shell.write("stores.csv", rows(101))
    shell.add('[limits]\n"insider.launch" = "6000/min, 10/s"')
    data = planned(shell)
    assert data["endpoints"]["insider.launch"]["limit"] == "6000/min, 10/s"
    assert 10 <= data["eta_s"] < 11


def test_accounts_share_no_limit(shell: Shell) -> None:
    shell.edit(
        ('partner_id = "100000001"\ntoken = "env:INSIDER_TOKEN"\n', ""),
        ('key = "store_id"', 'key = "store_id"\naccount = "${city}"'),
    )
    shell.add(f'{ACCOUNTS}\n[limits]\n"insider.launch" = "30/min"')
    shell.write(
        "stores.csv", "store_id,city\n" + "".join(f"{row},{'red' if row % 3 else 'blue'}\n" for row in range(93))
    )
    data = planned(shell)
    assert data["endpoints"]["insider.create"]["calls"] == 2
    assert data["endpoints"]["insider.launch"]["calls"] == 93
    assert 119 < data["eta_s"] < 126  # the 62 sends of red
    assert [sample["account"] for sample in data["samples"] if sample["key"]] == ["blue", "red", "red"]


def test_chunks_are_counted_as_sends(shell: Shell) -> None:
    shell.edit(
        ('key = "store_id"', 'key = "store_id"\nchunk = 100'),
        ("Live in ${city}", "Live"),
        ("?store=${store_id}", ""),
        ('["${store_id}"]', '"${store_id[]}"'),
    )
    shell.write("stores.csv", rows(250))
    data = planned(shell)
    assert data["rows"] == 250
    assert data["sends"]["total"] == 3
    assert data["endpoints"]["insider.launch"]["calls"] == 3
    values = [sample["body"]["target"]["values"] for sample in data["samples"] if sample["key"]]
    assert [len(some) for some in values] == [100, 100, 50]
    assert values[2][-1] == "0250"


def test_limit_takes_the_first_rows(shell: Shell) -> None:
    data = planned(shell, "--limit", "2")
    assert (data["rows"], data["sends"]["total"]) == (2, 2)
    assert [sample["key"] for sample in data["samples"] if sample["key"]] == ["0001", "0002"]


def test_without_an_audience_there_is_one_send(shell: Shell) -> None:
    shell.edit(
        ('[audience]\nfrom = "stores.csv"\nkey = "store_id"\n', ""),
        ('language = "en_GB"', 'language = "en_GB"\nis_all = true'),
        ("Live in ${city}", "Live"),
        ("?store=${store_id}", ""),
        ('target = { attribute = "c_store_id", values = ["${store_id}"] }\n', ""),
    )
    data = planned(shell)
    assert (data["rows"], data["sends"]["total"]) == (0, 1)
    assert data["samples"][0]["body"] == {
        "partner_id": "100000001",
        "title": "Spring sale",
        "language": "en_GB",
        "is_all": True,
    }
    assert "target" not in data["samples"][1]["body"]


def test_an_existing_campaign_needs_no_create(shell: Shell) -> None:
    shell.edit(
        ('[create]\ntitle = "Spring sale"\nlanguage = "en_GB"\n', ""), ("[launch]", "[launch]\ncampaign_id = 4711")
    )
    data = planned(shell)
    assert list(data["endpoints"]) == ["insider.launch"]
    assert "campaign_id" not in data["samples"][0]["body"]


# Payloads, in the vendor's wire form


def test_samples_are_the_first_three_payloads_as_they_go_over_the_wire(shell: Shell) -> None:
    shell.write("stores.csv", 'store_id,city\n0007,"Oslo, ""S"""\n0008,Tromsø\n0009,100%\n0010,Voss\n')
    shell.edit(
        ("ttl =", 'include_unengaged = true\nbanner = "https://example.com/b"\nttl ='), ("Up to 50%", "Costs $${5}")
    )
    create, *launches = planned(shell)["samples"]
    assert create == {
        "key": "",
        "row": 0,
        "account": "default",
        "endpoint": "insider.create",
        "body": {"partner_id": "100000001", "title": "Spring sale", "language": "en_GB"},
    }
    assert [(one["key"], one["row"], one["endpoint"]) for one in launches] == [
        ("0007", 1, "insider.launch"),
        ("0008", 2, "insider.launch"),
        ("0009", 3, "insider.launch"),
    ]
    assert launches[0]["body"] == {
        "partner_id": "100000001",
        "title": 'Live in Oslo, "S"',
        "description": "Costs ${5} off",
        "image": "https://example.com/icon.png",
        "banner": "https://example.com/b",
        "link": "https://example.com/?store=0007",
        "ttl": "86400",
        "language": "en_GB",
        "include_unengaged": True,
        "include_unengage": True,
        "target": {"attribute": "c_store_id", "values": ["0007"]},
    }
    assert [one["body"]["title"] for one in launches[1:]] == ["Live in Tromsø", "Live in 100%"]


def test_a_value_of_json_keeps_its_type(shell: Shell) -> None:
    shell.edit(("stores.csv", "stores.jsonl"))
    shell.write("stores.jsonl", '{"store_id": 7, "city": "Oslo"}\n')
    body = planned(shell)["samples"][1]["body"]
    assert body["target"]["values"] == [7]
    assert body["link"] == "https://example.com/?store=7"


def test_variables_are_filled_in(shell: Shell) -> None:
    shell.edit(('"sale"', '"sale-${var.day}"'), ("Spring sale", "Sale ${var.day}"))
    data = planned(shell, "--var", "day=${city}=1")
    assert data["job"] == "sale-${city}=1"
    assert data["samples"][0]["body"]["title"] == "Sale ${city}=1"


def test_sql_is_planned(shell: Shell) -> None:
    sql = "select store_id, upper(city) as city from 'stores.csv' where city <> 'Oslo' order by store_id desc"
    shell.edit(('from = "stores.csv"', f'sql = "{sql}"'))
    data = planned(shell)
    titles = [sample["body"]["title"] for sample in data["samples"][1:]]
    assert titles == ["Live in MOLDE", "Live in BERGEN"]


# Faults

JUDGED_BELOW = {*(f"guard: {name}" for name in GUARDS), "audience: secret file of a brand is missing"}


@pytest.mark.parametrize("name", [name for name in ALL if name not in JUDGED_BELOW])
def test_plan_shows_bad_input(shell: Shell, listener: Listener, name: str) -> None:
    case = ALL[name]
    prepare(shell, case)
    before = shell.listing()
    said = shell.call("plan", "job.toml", *case.arguments)
    code = case.code if case.plan_code is None else case.plan_code
    assert_said(said.errors if code else said.warnings, [shell.resolved(line) for line in case.says])
    assert said.code == code
    assert_harmless(shell, listener, before, said)


def test_every_fault_is_listed_and_the_figures_stand_beside_them(shell: Shell, listener: Listener) -> None:
    shell.env.clear()
    shell.write("stores.csv", f"store_id,city\na,\nb,Oslo\nb,Voss\nc,{'x' * 100}\n")
    before = shell.listing()
    said = shell.call("plan", "job.toml", "--json")
    assert said.code == 2
    assert len(said.data["problems"]) == 3
    assert said.errors == said.data["problems"]
    assert said.warnings == said.data["warnings"]
    assert said.warnings == ["job.toml:6: account.token: the environment variable INSIDER_TOKEN is not set"]
    assert said.data["rows"] == 4
    assert (shell.listing(), listener.connections) == (before, 0)


def test_a_job_file_that_cannot_be_used_is_one_object_too(shell: Shell) -> None:
    shell.edit(("ttl =", "tll ="), ('"en_GB"', '"English"'))
    said = shell.call("plan", "job.toml", "--json")
    assert said.code == 2
    assert len(said.data["problems"]) == 2
    assert said.errors == said.data["problems"]


# After a run


@pytest.fixture
def emulated(shell: Shell, listener: Listener) -> Iterator[Shell]:
    """The job, pointed at an emulator's process."""
    command = [sys.executable, "-m", "bulksend", "emulate", "insider", "--port", "0", "--until-stdin-closes"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as emulator:
        assert emulator.stdin is not None
        assert emulator.stdout is not None
        given = json.loads(emulator.stdout.readline())["insider"]
        shell.edit((listener.url, given["url"]), ("100000001", given["partner_id"]))
        shell.env["INSIDER_TOKEN"] = given["token"]
        yield shell
        emulator.stdin.close()
        emulator.wait(TIMEOUT_S)


def ran(said: Said) -> dict[str, Any]:
    assert said.code == 0, said.stderr
    return said.data


def test_plan_after_a_run_says_what_is_settled(emulated: Shell) -> None:
    assert ran(emulated.call("run", "job.toml", "--json", "--limit", "2"))["sends"]["accepted"] == 2
    after_two = emulated.listing()

    data = planned(emulated)
    assert data["sends"] == {"total": 3, "settled": 2, "pending": 1}
    assert data["endpoints"]["insider.create"]["calls"] == 0
    assert data["endpoints"]["insider.launch"]["calls"] == 1
    words = " ".join(emulated.call("plan", "job.toml").stdout.split())
    assert "1 to make, 2 settled by earlier runs" in words
    assert emulated.listing() == after_two

    assert ran(emulated.call("run", "job.toml", "--json"))["calls"]["made"] == 1
    data = planned(emulated)
    assert data["sends"] == {"total": 3, "settled": 3, "pending": 0}
    assert [one["calls"] for one in data["endpoints"].values()] == [0, 0]
    assert (data["bottleneck"], data["eta_s"]) == (None, 0.0)

    # A rehearsal knows nothing of it.
    assert planned(emulated, "--emulate")["sends"]["settled"] == 0


def test_plan_of_more_rows_after_a_run_counts_the_new_ones(emulated: Shell) -> None:
    ran(emulated.call("run", "job.toml", "--json"))
    emulated.write("stores.csv", rows(10))
    assert planned(emulated)["sends"] == {"total": 10, "settled": 3, "pending": 7}
    assert planned(emulated, "--limit", "3")["sends"]["pending"] == 0


def test_plan_of_other_rows_after_a_run_counts_none_as_settled(emulated: Shell) -> None:
    ran(emulated.call("run", "job.toml", "--json"))
    emulated.write("stores.csv", "store_id,city\n8001,Oslo\n8002,Bergen\n")
    data = planned(emulated)
    assert data["sends"] == {"total": 2, "settled": 0, "pending": 2}
    assert data["endpoints"]["insider.launch"]["calls"] == 2


# Secrets


def test_plan_warns_of_a_secret_that_a_row_picks_and_that_is_not_there(shell: Shell) -> None:
    shell.edit(("env:INSIDER_TOKEN", "file:secrets/${city}"))
    shell.write("secrets/Oslo", SECRET)
    shell.write("stores.csv", "store_id,city\n1,Oslo\n2,Voss\n")
    said = shell.call("plan", "job.toml")
    assert (said.code, said.errors) == (0, [])
    assert len(said.warnings) == 1
    assert "account.token" in said.warnings[0]
    assert SECRET not in said.stdout + said.stderr


def test_plan_warns_of_a_due_time_that_is_over(shell: Shell) -> None:
    shell.add('[policy]\ndue = "2020-01-01T00:00:00Z"\nmax_lateness = "30m"')
    said = shell.call("plan", "job.toml")
    assert (said.code, said.errors) == (0, [])
    assert len(said.warnings) == 1
    assert said.warnings[0].startswith(f"job.toml:{shell.line('due =')}: policy.due: ")


def test_due_without_max_lateness_is_no_limit(shell: Shell) -> None:
    shell.add('[policy]\ndue = "2020-01-01T00:00:00Z"')
    said = shell.call("plan", "job.toml")
    assert (said.code, said.errors, said.warnings) == (0, [], [])


def test_faults_of_the_file_do_not_hide_those_of_secrets_columns_and_keys(shell: Shell) -> None:
    shell.edit(("${city}", "${cty}"), ('ttl = "', 'ttl = "300 days '), ("env:INSIDER_TOKEN", "env:NOT_SET_ANYWHERE"))
    shell.write("stores.csv", "store_id,city\na,Oslo\na,Bergen\n")
    said = shell.call("run", "job.toml")
    assert said.code == 2
    text = "\n".join(said.errors)
    assert "launch.ttl: is longer than 240 hours" in text
    assert "no column 'cty'" in text


def test_faults_of_the_file_stand_beside_bad_keys_and_unset_secrets(shell: Shell) -> None:
    shell.edit(('ttl = "', 'ttl = "300 days '), ("env:INSIDER_TOKEN", "env:NOT_SET_ANYWHERE"))
    shell.write("stores.csv", f"store_id,city\na,Oslo\na,Bergen\nb,{'x' * 120}\n")
    text = "\n".join(shell.call("run", "job.toml").errors)
    assert "stores.csv, row 3 (key b): launch.title: has " in text
    assert "launch.ttl: is longer than 240 hours" in text
    assert "NOT_SET_ANYWHERE is not set" in text
    assert "stores.csv, row 2 (key a): row 1 has the same key" in text
