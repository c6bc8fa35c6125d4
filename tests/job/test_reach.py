"""A job reaches the files and the host that its file names, and no others."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from bulksend.errors import JobError
from bulksend.job import audience as audience_module
from bulksend.job.accounts import Accounts, AccountSpec, check_base_url
from bulksend.job.audience import Audience
from bulksend.providers import PROVIDERS

CANARY = "canary-outside-of-the-job"


@pytest.mark.parametrize(
    "url",
    [
        "https://@api.example.com",
        "https://:pass@api.example.com",
        "https://api.example.com\\@evil.example",
        "https://evil.example\\.api.example.com",
        "https://api.example.com\t.evil.example",
        "https://api.example.com\n",
        " https://api.example.com",
        "https://api.exa mple.com",
        "https://api.example.com/#@evil",
        "https://api.example.com?",
        "https://api.example.com#",
        "http://localhost\t",
        "http://local\thost",
        "http://127.999.1.1",
        "http://127.1",
        "http://0x7f.0.0.1",
        "http://2130706433",
        "http://127.0.0.1.nip.io",
        "http://localhost.localdomain",
        "http://[::ffff:10.0.0.1]",
        "http://[::2]",
        "file:///etc/passwd",
        "unix:///var/run/docker.sock",
        "javascript:alert(1)",
    ],
)
def test_addresses_that_two_parsers_could_read_differently_are_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"is not an address|plain http is only for loopback") as caught:
        check_base_url(url)
    assert "pass" not in str(caught.value)


@pytest.mark.parametrize(
    "value", ["evil.example/", "evil.example#", "a@evil.example", "a.evil", "", "-a", "a\\", "x:1"]
)
@pytest.mark.parametrize(
    ("provider", "field", "base_url"),
    [
        ("usercom", "app", PROVIDERS["usercom"].base_url),
        ("insider", "partner_id", "https://{partner_id}.example.com"),
    ],
)
def test_a_rows_value_does_not_choose_the_host(
    value: str, provider: str, field: str, base_url: str, tmp_path: Path
) -> None:
    (tmp_path / "token").write_text("t0k")
    spec = AccountSpec("default", base_url, {field: "${col}"}, {"token": "file:token"})
    made = Accounts({"default": spec}, chooser=None, provider=PROVIDERS[provider], base_dir=tmp_path)
    with pytest.raises(JobError, match="account"):
        made.of([value])
    assert made.of(["shop-1"]).base_url == base_url.replace(f"{{{field}}}", "shop-1")


@pytest.mark.parametrize("value", ["../outside", "..", ".env", "a/b", "/etc/passwd", "a\\b", "a\0b", "", " "])
def test_a_rows_value_does_not_choose_the_folder(value: str, tmp_path: Path) -> None:
    (tmp_path / "secrets").mkdir()
    (tmp_path / "outside").write_text(CANARY)
    spec = AccountSpec("default", "https://x.example", {"partner_id": "1"}, {"token": "file:secrets/${brand}"})
    made = Accounts({"default": spec}, chooser=None, provider=PROVIDERS["insider"], base_dir=tmp_path)
    with pytest.raises(JobError) as caught:
        made.of([value])
    assert CANARY not in str(caught.value)


@pytest.fixture
def opening(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], str]:
    """Return what opens an `sql` whose text nobody looked at, so that DuckDB's own walls are seen by themselves."""
    folder = tmp_path / "job"
    folder.mkdir()
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    (folder / "a.csv").write_text("id,city\n1,Oslo\n")
    (tmp_path / "outside.csv").write_text(f"id\n{CANARY}\n")
    (tmp_path / "outside.txt").write_text(CANARY)
    (folder / "link.csv").symlink_to(tmp_path / "outside.csv")
    monkeypatch.setenv("CANARY", CANARY)
    monkeypatch.setattr(audience_module, "tables_of", lambda _tree: ["a.csv"])

    def open_it(sql: str) -> str:
        before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        text = sql.format(outside=tmp_path / "outside.csv", text=tmp_path / "outside.txt", folder=folder)
        with pytest.raises(JobError) as caught:
            Audience(base_dir=folder, source=None, sql=text, key="id", scratch_dir=scratch).close()
        after = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
        assert after == before
        assert CANARY not in str(caught.value)
        return str(caught.value)

    return open_it


@pytest.mark.parametrize(
    "sql",
    [
        "from '{outside}'",
        "from '{folder}/../outside.csv'",
        "from '{folder}/link.csv'",
        "from '{folder}/*.csv'",
        "select content as id from read_text('{text}')",
        "select content as id from read_blob('/etc/passwd')",
        "select file as id from glob('{folder}/*')",
        "select content as id from read_text('/proc/self/environ')",
        "select * from read_csv('https://127.0.0.1:1/a.csv')",
        "select * from read_parquet('s3://bucket/a.parquet')",
        "select getenv('CANARY') as id",
        "select 1 as id; copy (select 1) to '{folder}/out.csv'",
        "select 1 as id; attach '{folder}/new.db'",
        "select 1 as id; install httpfs",
        "select 1 as id; load httpfs",
        "select 1 as id; set enable_external_access = true",
        "select 1 as id; export database '{folder}/out'",
        "select 1 as id; create secret (type s3)",
        "select * from query('select * from read_text(''{text}'')')",
        "select * from json_execute_serialized_sql(json_serialize_sql('from ''{outside}'''))",
        "select name as id from sniff_csv('{outside}')",
        "select * from sqlite_scan('{text}', 't')",
    ],
)
def test_behind_the_check_of_the_text_duckdb_itself_refuses(sql: str, opening: Callable[[str], str]) -> None:
    assert opening(sql)


def test_a_name_that_a_with_gives_elsewhere_does_not_open_a_file(
    opening: Callable[[str], str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.undo()
    said = opening(
        'select * from (with "{outside}" as (select 1 as id) from "{outside}") join \'{outside}\' using (id)'
    )
    assert "Permission error" in said


def test_what_is_named_is_read_through_a_link_of_the_users_own(tmp_path: Path) -> None:
    (tmp_path / "data.csv").write_text("id\n1\n")
    (tmp_path / "link.csv").symlink_to(tmp_path / "data.csv")
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    with Audience(base_dir=tmp_path, source=None, sql="from 'link.csv'", key="id", scratch_dir=scratch) as audience:
        assert audience.count() == 1
