"""The job file in a report: whatever is named like a secret is left out, wherever it stands; the rest stays."""

from __future__ import annotations

import json
import time

import pytest

from bulksend.observe.report import MASK, masked, masked_tree

FIELDS = {"token", "api_secret", "rest_key"}
SECRET = "s3cr3t-Never/Shown"


@pytest.mark.parametrize(
    "text",
    [
        f'token = "{SECRET}"',
        f"token = '{SECRET}'",
        f'"token" = "{SECRET}"',
        f'account = {{ provider = "insider", token = "{SECRET}" }}',
        f'account.rest_key="{SECRET}"',
        f'[account.brand]\napi_secret   =   "{SECRET}"',
        f'token = """\n{SECRET}\n"""',
        f"token = '''\n{SECRET}'''",
        f'token = "a\\"{SECRET}"',
        f"# token = {SECRET}",
        f"# the old token: {SECRET}",
        f'link = "https://example.com/?a=1&key={SECRET}&b=2"',
        f'link = "https://example.com/?auth={SECRET}"',
        f"sql = \"select * from 'https://example.com/a.csv?jwt={SECRET}'\"",
        f'# token = "{SECRET}"',
        f'token = "env:{SECRET}"',
        f'token = "file:/run/{SECRET}"',
        f'tokens = ["{SECRET}", "{SECRET}"]',
        f'password = {{ value = "{SECRET}" }}',
        f'base_url = "https://user:{SECRET}@push.example.com"',
        f'base_url = "https://{SECRET.replace("/", "")}@push.example.com/x"',
        f"sql = \"select * from 'https://example.com/a.csv?x=1&access_token={SECRET}&y=2'\"",
        f"sql = \"attach 'host=db password={SECRET}' as pg\"",
        f'data = \'{{"api_key": "{SECRET}"}}\'',
        f'header = "Bearer {SECRET}"',
    ],
)
def test_a_secret_is_left_out(text: str) -> None:
    said = masked(text, FIELDS)
    assert SECRET not in said
    assert SECRET.replace("/", "") not in said
    assert MASK in said


def test_where_a_secret_comes_from_stays() -> None:
    assert masked('token = "env:INSIDER_TOKEN"', FIELDS) == f'token = "env:{MASK}"'
    assert masked('token = "file:secrets/a"', FIELDS) == f'token = "file:{MASK}"'


def test_all_else_stays_as_it_is() -> None:
    text = """\
job = "sale" # what a key is: 1
[account]
provider = "insider"
title = "The secret: 20 % off"
link = "https://example.com/?key=${store_id}"
partner_id = "100000001"
base_url = "https://push.example.com:8443/a@b"
[audience]
key = "store_id"
sql = "select * from 'stores.csv' where a = 'b'"
[launch]
description = "Our secret: up to 50% off"
link = "https://example.com/sale?store=${store_id}&utm=mail@example.com"
"""
    assert masked(text, FIELDS) == text


def test_a_long_file_is_cut_after_it_was_masked() -> None:
    said = masked("# " + "x" * 50_000 + f'\ntoken = "{SECRET}"\n', FIELDS)
    assert len(said) < 31_000
    assert "more characters" in said
    split = masked("#" * 29_990 + f'\ntoken = "{SECRET}"\n', FIELDS)
    assert SECRET[:4] not in split


def test_the_tables_of_a_job_made_in_code_are_masked_too() -> None:
    tree = {
        "account": {"token": f"env:{SECRET}", "brand": {"rest_key": SECRET}, "base_url": f"https://a:{SECRET}@x"},
        "launch": [{"password": SECRET, "title": "Sale"}],
    }
    said = json.dumps(masked_tree(tree, FIELDS), ensure_ascii=False)
    assert SECRET not in said
    assert f'"token": "env:{MASK}"' in said
    assert '"title": "Sale"' in said


@pytest.mark.parametrize("text", ["#" * 30_000, "# " + "a-" * 30_000, "# token: " * 5000, "token" * 10_000])
def test_an_odd_file_takes_no_longer_than_another(text: str) -> None:
    began_s = time.process_time()
    masked(text, FIELDS)
    assert time.process_time() - began_s < 2
