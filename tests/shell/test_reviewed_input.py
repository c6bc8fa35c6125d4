"""What a review found in what is read: job files, audiences and webhooks."""

from __future__ import annotations

import asyncio
import base64
import gzip
import hmac
import sqlite3
import threading
from pathlib import Path
from typing import Any

import pytest

import bulksend
from bulksend.engine.retry import Again, decide
from bulksend.ledger.database import Database
from bulksend.model import Account, Secret, Throttled
from bulksend.providers import PROVIDERS
from bulksend.providers.stream.tables import CAMPAIGN_CREATE
from tests.shell.conftest import Shell

HEAD = 'job = "sale"\n[account]\nprovider = "{provider}"\n{account}\n'
ACCOUNTS = {
    "batch": 'api_key = "A"\nrest_key = "env:INSIDER_TOKEN"',
    "insider": 'partner_id = "1"\ntoken = "env:INSIDER_TOKEN"',
    "stream": 'api_key = "A"\napi_secret = "env:INSIDER_TOKEN"',
    "usercom": 'app = "shop"\ntoken = "env:INSIDER_TOKEN"',
}
AUDIENCE = '[audience]\nfrom = "rows.csv"\nkey = "k"\n'
BATCH = '[launch]\nname = "Sale ${k}"\npush_time = "now"\n'
MESSAGE = '[[launch.messages]]\nlanguage = "en"\nbody = "Hi"\n'
INSIDER = """\
[launch]
title = "Sale"
description = "Up to 50% off"
image = "https://example.com/icon.png"
link = "https://example.com/"
ttl = "1 day"
"""
TARGET = 'target = { attribute = "c_store", values = ["${k}"] }\n'
CREATE = '[create]\ntitle = "Sale"\nlanguage = "en_GB"\n'
STREAM = '[launch]\nsender_id = "sam"\nmessage_template = { text = "Hi" }\n'
RED_AND_BLUE = '[account.red]\napi_key = "R"\n[account.blue]\napi_key = "B"\n'
INSIDER_CALLS = {"insider.create", "insider.launch"}


def write(shell: Shell, provider: str, text: str, rows: str = "k\n11\n22\n") -> None:
    shell.write("job.toml", HEAD.format(provider=provider, account=ACCOUNTS[provider]) + text)
    shell.write("rows.csv", rows)


def two_accounts(shell: Shell, rows: str, chunk: int, *, account: str = "brand") -> None:
    """Write a Batch job for two accounts in chunks."""
    head = 'job = "sale"\n[account]\nprovider = "batch"\nrest_key = "env:INSIDER_TOKEN"\n'
    audience = f'{AUDIENCE}account = "${{{account}}}"\nchunk = {chunk}\n'
    url = f'base_url = "{shell.url}"\n'
    named = RED_AND_BLUE.replace("]\n", f"]\n{url}")
    launch = BATCH.replace("Sale ${k}", "Sale") + 'labels = "${k[]}"\n' + MESSAGE
    shell.write("job.toml", head + named + audience + launch)
    shell.write("rows.csv", rows)


# What decides the job's way

FIXED: dict[str, tuple[str, str, str, str, set[str]]] = {
    "live": ("batch", AUDIENCE + BATCH + "live = {}\n" + MESSAGE, "launch.live", "false", {"batch.create"}),
    "send": ("batch", AUDIENCE + BATCH + "send = {}\n" + MESSAGE, "launch.send", "direct", {"batch.create"}),
    "is_all": ("insider", CREATE + "is_all = {}\n" + INSIDER, "create.is_all", "true", INSIDER_CALLS),
    "per": (
        "insider",
        AUDIENCE + CREATE.replace("Sale", "Sale ${k}") + "per = {}\n" + INSIDER + TARGET,
        "create.per",
        "row",
        INSIDER_CALLS,
    ),
    "create": (
        "stream",
        AUDIENCE + '[segment]\nname = "all"\nall_users = true\ncreate = {}\n' + STREAM,
        "segment.create",
        "true",
        {"stream.segment.create", "stream.campaign.create", "stream.campaign.start"},
    ),
}


def text_of(name: str, value: str) -> str:
    """Return the job with a value in the field, and nothing else changed."""
    text, _, rest = FIXED[name][1].partition(" = {}\n")
    return f"{text} = {value}\n{rest}"


@pytest.mark.parametrize("name", FIXED)
def test_a_variable_decides_the_way_as_the_value_itself_would(name: str, shell: Shell) -> None:
    provider, _, _, value, calls = FIXED[name]
    planned = []
    for written in (f'"{value}"' if name in ("send", "per") else value, '"${var.it}"'):
        write(shell, provider, text_of(name, written))
        said = shell.call("plan", "job.toml", "--json", "--var", f"it={value}")
        assert said.code == 0, said.stderr
        planned.append({key: one["calls"] for key, one in said.data["endpoints"].items()})
    assert planned[0] == planned[1]
    assert set(planned[1]) == calls
    if name == "per":
        assert planned[1]["insider.create"] == 2


@pytest.mark.parametrize("name", FIXED)
@pytest.mark.parametrize("command", ["plan", "run"])
def test_a_column_cannot_decide_the_way(name: str, command: str, shell: Shell) -> None:
    provider, _, field, value, _ = FIXED[name]
    write(shell, provider, text_of(name, '"${it}"'), f"k,it\n11,{value}\n22,{value}\n")
    said = shell.call(command, "job.toml", "--json")
    assert said.code == 2
    line = shell.line("${it}")
    assert f"job.toml:{line}: {field}: decides how the whole job is sent: no ${{column}} can stand here" in said.errors


def test_a_variable_that_is_no_boolean_is_refused_where_it_stands(shell: Shell) -> None:
    write(shell, "batch", text_of("live", '"${var.it}"'))
    said = shell.call("plan", "job.toml", "--json", "--var", "it=perhaps")
    assert said.code == 2
    assert said.errors[0].startswith(f"job.toml:{shell.line('var.it')}: launch.live: ")


def test_an_id_of_ones_own_cannot_stand_in_a_stream_job(shell: Shell) -> None:
    write(shell, "stream", AUDIENCE + STREAM + 'segment_ids = ["s"]\nid = "mine"\n')
    said = shell.call("plan", "job.toml", "--json")
    assert said.code == 2
    assert said.errors[0].startswith(f"job.toml:{shell.line('mine')}: launch.id: is not given")


# Chunks


@pytest.mark.parametrize("chunk", [1, 2, 3])
def test_a_row_of_a_chunk_that_names_no_account_is_told_by_row_and_key(chunk: int, shell: Shell) -> None:
    two_accounts(shell, "k,brand\n1,red\n2,green\n3,blue\n4,black\n", chunk)
    said = shell.call("plan", "job.toml", "--json")
    assert said.code == 2
    wrong = "audience.account: the row names no [account.NAME] table; there are red, blue"
    assert said.errors == [f"rows.csv, row 2 (key 2): {wrong}", f"rows.csv, row 4 (key 4): {wrong}"]


def test_a_chunk_that_names_no_account_is_rejected_where_nobody_looked_before(shell: Shell) -> None:
    two_accounts(shell, "k,brand\n1,green\n2,black\n", 2)
    said = shell.call("run", "job.toml", "--json", "--no-precheck")
    assert said.code in (3, 4), said.stderr
    assert said.data["sends"]["rejected"] == said.data["sends"]["total"] == 1
    assert "names no [account.NAME] table" in said.stderr


def test_the_account_column_may_be_the_key(shell: Shell) -> None:
    two_accounts(shell, "k\nred\nblue\n", 2, account="k")
    said = shell.call("plan", "job.toml", "--json")
    assert said.code == 0, said.stderr
    assert said.data["sends"]["total"] == 2


@pytest.mark.parametrize(("chunk", "warned"), [(1000, False), (1001, True)])
def test_a_chunk_of_more_users_than_are_advised_is_a_warning(chunk: int, warned: bool, shell: Shell) -> None:
    rows = "k\n" + "".join(f"u{number}\n" for number in range(1002))
    write(shell, "stream", f'{AUDIENCE}chunk = {chunk}\n{STREAM}user_ids = "${{k[]}}"\n', rows)
    said = shell.call("plan", "job.toml", "--json")
    assert said.code == 0, said.stderr
    assert any("1,001 users" in text for text in said.warnings) == warned


# Texts


def test_a_character_of_private_use_arrives_as_it_is(shell: Shell) -> None:
    text = AUDIENCE + '[launch]\nname = "Sale"\nsegment = 1\n[[launch.messages]]\ntitle = "Hi"\nbody = "${x}"\n'
    write(shell, "usercom", text, "k,x\n1,one \ue000\ue001\uf8ff two $${x} ${k}\n")
    said = shell.call("plan", "job.toml", "--json")
    assert said.code == 0, said.stderr
    assert said.data["samples"][0]["body"]["messages"][0]["body"] == "one \ue000\ue001\uf8ff two $${x} ${k}"


DAMAGED = bytearray(gzip.compress(b'{"type":"campaign.started"}' * 10))
DAMAGED[12:32] = b"\xff" * 20


@pytest.mark.parametrize(
    ("body", "headers"),
    [
        (bytes(DAMAGED), {"Content-Encoding": "gzip", "X-Signature": "00"}),
        (b"{}", {"X-Signature": "\udc80"}),
        (b"{}", {"X-Signature": "é"}),
        (b"\x1f\x8b", {"X-Signature": "00"}),
        (b"", {}),
    ],
    ids=["damaged gzip", "surrogate", "not ASCII", "gzip cut off", "nothing"],
)
def test_a_webhook_that_is_damaged_is_refused_in_words(body: bytes, headers: dict[str, str]) -> None:
    with pytest.raises(bulksend.WebhookError):
        bulksend.read_webhook(body, headers, "secret")


@pytest.mark.parametrize("reset_at", [1e4, 1e15])
def test_a_reset_that_is_absurdly_far_away_is_not_waited_for(reset_at: float) -> None:
    said = Throttled(429, None, reset_at=reset_at)
    given: Any = {"attempt": 1, "episode": 1, "down_s": 0, "budget_left": 10, "period_s": 60, "random": lambda: 0.5}
    decision = decide(said, CAMPAIGN_CREATE, now=1000, **given)
    assert isinstance(decision, Again)
    assert decision.pause_s == 60


def test_an_ssh_key_is_a_secret_like_any_other() -> None:
    account = Account("-", "stream", "", {"api_key": "A"}, {"api_secret": Secret("ssh-rsa AAAAB3Nza")})
    head, claims, signature = PROVIDERS["stream"].headers(account)["Authorization"].split(".")
    signed = hmac.digest(b"ssh-rsa AAAAB3Nza", f"{head}.{claims}".encode(), "sha256")
    assert base64.urlsafe_b64decode(signature + "=") == signed


def test_a_ledger_that_another_process_makes_at_this_moment_is_waited_for(tmp_path: Path) -> None:
    other = sqlite3.connect(tmp_path / "a.db", isolation_level=None, check_same_thread=False)
    other.execute("BEGIN IMMEDIATE")
    timer = threading.Timer(0.1, lambda: other.execute("COMMIT"))
    timer.start()
    ledger = Database(tmp_path / "a.db", None)
    try:
        assert ledger.open(create=True)
    finally:
        timer.join()
        other.close()
        asyncio.run(ledger.close())
