"""Accounts: secrets are fetched and never shown, and a row cannot lead to another folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from bulksend.errors import JobError
from bulksend.job.accounts import Accounts, AccountSpec, check_base_url
from bulksend.job.secret import check_secret_source, read_secret
from bulksend.model import Account, Secret
from bulksend.providers import PROVIDERS

URL = "https://api.example.com"


def accounts(folder: Path, chooser: str | None = None, **specs: dict[str, str]) -> Accounts:
    made = {}
    for name, fields in specs.items():
        ids = {"partner_id": fields["partner_id"]}
        made[name] = AccountSpec(name, URL, ids, {"token": fields["token"]})
    return Accounts(made, chooser=chooser, provider=PROVIDERS["insider"], base_dir=folder)


def token_of(account: Account) -> str:
    return account.secrets["token"].reveal()


def refused(made: Accounts, values: list[object]) -> str:
    with pytest.raises(JobError) as caught:
        made.of(values)
    return str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        "https://api.example.com",
        "https://api.example.com:8443/base/",
        "http://localhost:8900",
        "http://127.0.0.1",
        "http://127.1.2.3:80",
        "http://[::1]:8900",
        "http://LOCALHOST",
    ],
)
def test_https_or_a_loopback_address(url: str) -> None:
    check_base_url(url)


@pytest.mark.parametrize(
    ("url", "match"),
    [
        ("http://api.example.com", "plain http is only for loopback"),
        ("http://localhost.example.com", "plain http is only for loopback"),
        ("http://127.0.0.1.example.com", "plain http is only for loopback"),
        ("http://10.0.0.1", "plain http is only for loopback"),
        ("http://0.0.0.0", "plain http is only for loopback"),
        ("ftp://api.example.com", "is not an address"),
        ("api.example.com", "is not an address"),
        ("https://", "is not an address"),
        ("https://user:pass@api.example.com", "is not an address"),
        ("https://user@api.example.com", "is not an address"),
        ("https://api.example.com?token=1", "is not an address"),
        ("https://api.example.com#x", "is not an address"),
        ("https://api.example.com:port", "is not an address"),
        ("https://[::1", "is not an address"),
        ("", "is not an address"),
    ],
)
def test_any_other_address_is_refused(url: str, match: str) -> None:
    with pytest.raises(ValueError, match=match) as caught:
        check_base_url(url)
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize("text", ["env:TOKEN", "file:token.txt", "file:secrets/${brand}", "env:${brand}_TOKEN"])
def test_where_a_secret_may_come_from(text: str) -> None:
    check_secret_source(text)


@pytest.mark.parametrize("text", ["1a2b3c4d5e6f", "", "env:", "file: ", "ENV:TOKEN", "Bearer env:X", "${token}"])
def test_a_secret_in_the_job_file_is_refused_and_not_repeated(text: str) -> None:
    with pytest.raises(ValueError, match="must not stand in the job file") as caught:
        check_secret_source(text)
    assert "1a2b" not in str(caught.value)


def test_secrets_are_read_and_stripped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THE_TOKEN", " t0k-env \n")
    (tmp_path / "token").write_text("t0k-file\n")
    assert read_secret("env:THE_TOKEN", tmp_path).reveal() == "t0k-env"
    assert read_secret("file:token", tmp_path).reveal() == "t0k-file"
    assert read_secret(f"file:{tmp_path}/token", Path("/nowhere")).reveal() == "t0k-file"


@pytest.mark.parametrize(
    ("source", "content", "match"),
    [
        ("env:NOT_SET_ANYWHERE", None, "the environment variable NOT_SET_ANYWHERE is not set"),
        ("env:THE_TOKEN", b" \n", "the environment variable THE_TOKEN is not set"),
        ("file:token", None, "cannot read the secret's file token: No such file"),
        ("file:.", None, "cannot read the secret's file"),
        ("file:token", b"\n \n", "the secret's file token is empty"),
        ("file:token", b"t0k\xff", "it is not UTF-8 text"),
        ("file:token", "t0k-ż".encode(), "holds characters that a header cannot carry"),
        ("file:token", b"t0k\r\nX-Injected: 1", "holds characters that a header cannot carry"),
        ("env:THE_TOKEN", b"t0k\nmore", "holds characters that a header cannot carry"),
    ],
)
def test_a_secret_that_cannot_be_used_is_said_without_showing_it(
    source: str, content: bytes | None, match: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if content is not None:
        (tmp_path / "token").write_bytes(content)
        if source.startswith("env:"):
            monkeypatch.setenv("THE_TOKEN", content.decode())
    with pytest.raises(ValueError, match=match) as caught:
        read_secret(source, tmp_path)
    assert "t0k" not in str(caught.value)


def test_one_account_for_all_rows(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("t0k")
    made = accounts(tmp_path, default={"partner_id": "1", "token": "file:token"})
    assert made.columns == ()
    account = made.of([])
    assert (account.name, account.provider, account.base_url, account.ids) == (
        "default",
        "insider",
        URL,
        {"partner_id": "1"},
    )
    assert token_of(account) == "t0k"
    assert made.of([]) is account
    assert made.made == [account]
    assert list(made.absent_secrets()) == []
    assert "t0k" not in repr(account)
    assert "t0k" not in account.identity


def test_a_column_chooses_among_named_accounts(tmp_path: Path) -> None:
    (tmp_path / "one").write_text("t0k-one")
    (tmp_path / "two").write_text("t0k-two")
    made = accounts(
        tmp_path,
        "${brand}",
        acme={"partner_id": "1", "token": "file:one"},
        blue={"partner_id": "2", "token": "file:two"},
    )
    assert made.columns == ("brand",)
    assert [(made.of([brand]).name, token_of(made.of([brand]))) for brand in ("blue", "acme", "blue")] == [
        ("blue", "t0k-two"),
        ("acme", "t0k-one"),
        ("blue", "t0k-two"),
    ]
    assert [account.name for account in made.made] == ["blue", "acme"]
    assert "there are acme, blue" in refused(made, ["gold"])
    assert "brand decides the account and has no value" in refused(made, [None])


def test_a_column_fills_the_one_account_in(tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    for brand in ("acme", "blue"):
        (tmp_path / "secrets" / brand).write_text(f"t0k-{brand}")
    made = accounts(tmp_path, default={"partner_id": "${pid}", "token": "file:secrets/${brand}"})
    assert made.columns == ("pid", "brand")
    account = made.of(["1", "acme"])
    assert (account.name, account.ids, token_of(account)) == ("1/acme", {"partner_id": "1"}, "t0k-acme")
    assert made.of([2, "blue"]).ids == {"partner_id": "2"}
    assert list(made.absent_secrets()) == []
    assert made.of(["1", "acme"]).identity != made.of([2, "blue"]).identity


@pytest.mark.parametrize(
    "value", ["../acme", "a/b", "/etc/passwd", "..", ".", ".hidden", "a\\b", "\\\\host\\share"], ids=str
)
def test_a_row_never_leads_to_another_folder(value: str, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "acme").write_text("t0k")
    made = accounts(tmp_path, default={"partner_id": "1", "token": "file:secrets/${brand}"})
    assert "must be a plain name" in refused(made, [value])
    with pytest.raises(JobError, match="plain name"):
        made.of([value], with_secrets=False)


def test_secrets_may_be_left_out(tmp_path: Path) -> None:
    made = accounts(tmp_path, default={"partner_id": "1", "token": "env:NOT_SET_ANYWHERE"})
    assert made.of([], with_secrets=False).secrets == {}


def test_a_secret_that_is_not_there_is_a_problem_of_the_job(tmp_path: Path) -> None:
    made = accounts(tmp_path, default={"partner_id": "1", "token": "env:NOT_SET_ANYWHERE"})
    assert refused(made, []) == "account.token: the environment variable NOT_SET_ANYWHERE is not set"


def test_an_emulators_accounts_take_the_place_of_the_jobs(tmp_path: Path) -> None:
    made = accounts(
        tmp_path,
        "${brand}",
        acme={"partner_id": "1", "token": "env:NOT_SET_ANYWHERE"},
        blue={"partner_id": "2", "token": "env:NOT_SET_ANYWHERE"},
    )
    stand_ins = [
        Account("x", "insider", "http://127.0.0.1:1", {"partner_id": str(number)}, {"token": Secret(f"e{number}")})
        for number in (7, 8)
    ]
    made.replace(stand_ins)
    first, second = made.of(["blue"]), made.of(["acme"])
    assert (first.name, first.ids, token_of(first), first.base_url) == (
        "blue",
        {"partner_id": "7"},
        "e7",
        "http://127.0.0.1:1",
    )
    assert (second.name, token_of(second)) == ("acme", "e8")
    assert made.of(["blue"]) is first
