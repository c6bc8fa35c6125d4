"""What a user can get wrong: each is refused before the first call, in a line that says where, and changes nothing.

What `plan` says of the same mistakes is in test_plan.py.
"""

from __future__ import annotations

import os
import re
import sqlite3
import subprocess
import sys
from dataclasses import dataclass, field

import pytest

from tests.shell.conftest import CELL, SECRET, TIMEOUT_S, Listener, Said, Shell

Edits = tuple[tuple[str, str], ...]

TARGET = 'target = { attribute = "c_store_id", values = ["${store_id}"] }'
CREDENTIALS = 'partner_id = "100000001"\ntoken = "env:INSIDER_TOKEN"\n'
CHOICE = 'key = "store_id"\naccount = "${city}"\n\n'
ACCOUNTS = """\
[account.red]
partner_id = "1"
token = "env:INSIDER_TOKEN"

[account.blue]
partner_id = "2"
token = "env:INSIDER_TOKEN\""""
TWO_ACCOUNTS = ((CREDENTIALS, ""), ('key = "store_id"', CHOICE + ACCOUNTS))
PLAIN_TEXTS = (("Live in ${city}", "Live"), ("?store=${store_id}", ""))
"""Makes the launch the same for every row but for its target."""
CHUNKED = ('key = "store_id"', 'key = "store_id"\nchunk = 2')


@dataclass(frozen=True)
class Case:
    """A mistake and the lines that are said about it; `*` is any text, `«marker»` the marker's line in the job file."""

    says: tuple[str, ...]
    edits: Edits = ()
    add: str = ""
    rows: str | None = None
    files: dict[str, str | bytes] = field(default_factory=dict)
    arguments: tuple[str, ...] = ()
    env: dict[str, str] = field(default_factory=dict)
    code: int = 2
    plan_code: int | None = None
    """None: as `code`; plan says it as a warning where the code is 0."""


def lines_of(*lines: str) -> str:
    return "\n".join(("store_id,city", *lines, ""))


def in_sql(sql: str, *says: str) -> Case:
    return Case(says, (('from = "stores.csv"', f'sql = """{sql}"""'),))


def in_policy(text: str, says: str, **more: int) -> Case:
    field_name = text.partition(" ")[0]
    return Case((f"job.toml:«{field_name} =»: policy.{field_name}: {says}",), add=f"[policy]\n{text}", **more)  # type: ignore[arg-type]


IN_THE_JOB_FILE: dict[str, Case] = {
    "not TOML": Case(("job.toml:«[audience»: not valid TOML: *",), (("[audience]", "[audience"),)),
    "a text without quotes": Case(("job.toml:1: not valid TOML: *",), (('"sale"', "sale"),)),
    "unknown table": Case(
        ("job.toml:«[polcy]»: polcy: unknown table; did you mean policy?",), add="[polcy]\nmax_sends = 5"
    ),
    "unknown key": Case(
        ("job.toml:2: jbo: unknown key; did you mean job?",), (('job = "sale"', 'job = "sale"\njbo = "x"'),)
    ),
    "unknown field": Case(
        ("job.toml:«banne =»: launch.banne: unknown field; did you mean banner?",),
        (("ttl =", 'banne = "https://example.com/b"\nttl ='),),
    ),
    "misspelt field that is required": Case(
        ("job.toml:«tll =»: launch.tll: unknown field; did you mean ttl?",),
        (("ttl =", "tll ="),),
    ),
    "unknown field of the target": Case(
        ("job.toml:«target =»: launch.target.atribute: unknown field; did you mean attribute?",),
        (("attribute =", "atribute ="),),
    ),
    "unknown field of the account": Case(
        ("job.toml:«base_ulr»: account.base_ulr: unknown field; did you mean base_url?",),
        (("base_url", "base_ulr"),),
    ),
    "unknown field of the audience": Case(
        ("job.toml:«chunks»: audience.chunks: unknown field; did you mean chunk?",),
        (('key = "store_id"', 'key = "store_id"\nchunks = 5'),),
    ),
    "no name": Case(("job.toml: job: is required*",), (('job = "sale"\n', ""),)),
    "name is a number": Case(("job.toml:1: job: must be a text*",), (('"sale"', "5"),)),
    "name is blank": Case(("job.toml:1: job: must be a text*",), (('"sale"', '" "'),)),
    "name too long": Case(
        ("job.toml:1: job: must be a text of 1 to 200 characters*",), (('"sale"', f'"{"x" * 201}"'),)
    ),
    "no account": Case(
        ("job.toml: account: is missing*",),
        ((f'[account]\nprovider = "insider"\n{CREDENTIALS}base_url', "base_url"),),
    ),
    "no provider": Case(("job.toml:«[account]»: account.provider: is required*",), (('provider = "insider"\n', ""),)),
    "unknown provider": Case(
        ("job.toml:«provider»: account.provider: *'insidr'; did you mean insider?",), (('"insider"', '"insidr"'),)
    ),
    "no partner_id": Case(
        ("job.toml:«[account]»: account.partner_id: is required",), (('partner_id = "100000001"\n', ""),)
    ),
    "no token": Case(("job.toml:«[account]»: account.token: is required",), (('token = "env:INSIDER_TOKEN"\n', ""),)),
    "no from": Case(("job.toml:«[audience]»: audience.from: is required*sql*",), (('from = "stores.csv"\n', ""),)),
    "from and sql": Case(
        ("job.toml:«sql =»: audience.sql: stands beside `from`*",),
        (('from = "stores.csv"', 'from = "stores.csv"\nsql = "select 1"'),),
    ),
    "no key": Case(("job.toml:«[audience]»: audience.key: is required",), (('key = "store_id"\n', ""),)),
    "misspelt table that is required": Case(
        ("job.toml: launch: is missing*[[]launch]*", "job.toml:«[lunch]»: lunch: unknown table; did you mean launch?"),
        (("[launch]", "[lunch]"),),
    ),
    "no title": Case(("job.toml:«[create]»: create.title: is required",), (('title = "Spring sale"\n', ""),)),
    "text is a number": Case(
        ("job.toml:«title =»: create.title: must be text, not a number",), (('"Spring sale"', "5"),)
    ),
    "boolean is text": Case(
        ("job.toml:«include_unengaged»: launch.include_unengaged: must be true or false, not text",),
        (("ttl =", 'include_unengaged = "always"\nttl ='),),
    ),
    "whole number is text": Case(
        ("job.toml:«chunk»: audience.chunk: must be a whole number, not text",),
        (('key = "store_id"', 'key = "store_id"\nchunk = "many"'),),
    ),
    "chunk of nothing": Case(
        ("job.toml:«chunk»: audience.chunk: must be at least 1",),
        (('key = "store_id"', 'key = "store_id"\nchunk = 0'),),
    ),
    "table is text": Case(
        ("job.toml:«target =»: launch.target: must be a table, not text",), ((TARGET, 'target = "x"'),)
    ),
    "audience is text": Case(
        ("job.toml:2: audience: must be a table: write [[]audience]",),
        (('[audience]\nfrom = "stores.csv"\nkey = "store_id"\n', ""), ('"sale"', '"sale"\naudience = "stores.csv"')),
    ),
    "language is no locale": Case(
        ("job.toml:«language»: create.language: must be a locale*",), (('"en_GB"', '"English"'),)
    ),
    "literal secret": Case(
        ("job.toml:«token»: account.token: a secret must not stand in the job file: write env:NAME, file:PATH or *",),
        (("env:INSIDER_TOKEN", SECRET),),
    ),
    "env is not set": Case(
        ("job.toml:«token»: account.token: the environment variable OTHER_TOKEN is not set",),
        (("INSIDER_TOKEN", "OTHER_TOKEN"),),
        plan_code=0,
    ),
    "env is blank": Case(
        ("job.toml:«token»: account.token: the environment variable INSIDER_TOKEN is not set",),
        env={"INSIDER_TOKEN": "  "},
        plan_code=0,
    ),
    "secret file is missing": Case(
        ("job.toml:«token»: account.token: cannot read *secrets/token: No such file or directory",),
        (("env:INSIDER_TOKEN", "file:secrets/token"),),
        plan_code=0,
    ),
    "secret file is empty": Case(
        ("job.toml:«token»: account.token: *secrets/token is empty",),
        (("env:INSIDER_TOKEN", "file:secrets/token"),),
        files={"secrets/token": "\n"},
        plan_code=0,
    ),
    "secret that no header carries": Case(
        ("job.toml:«token»: account.token: *env:INSIDER_TOKEN*cannot carry",),
        env={"INSIDER_TOKEN": f"{SECRET}\nX-More: 1"},
        plan_code=0,
    ),
    "variable without a value": Case(
        ("job.toml:«title =»: create.title: ${var.day} has no value*--var day=VALUE",),
        (("Spring sale", "Sale ${var.day}"),),
    ),
    "variable in the name without a value": Case(
        ("job.toml:1: job: ${var.day} has no value*--var day=VALUE",), (('"sale"', '"sale-${var.day}"'),)
    ),
    "placeholder without an end": Case(
        ("job.toml:«title =»: create.title: has a ${*$${ for a literal ${",), (("Spring sale", "Sale ${city"),)
    ),
    "plain http": Case(
        ("job.toml:«base_url»: account.base_url: plain http*loopback*not web-push.example.com*",),
        (('base_url = "http', 'base_url = "http://web-push.example.com"\n#'),),
    ),
    "base_url is no address": Case(
        ("job.toml:«base_url»: account.base_url: is not an address*",),
        (('base_url = "http', 'base_url = "example.com"\n#'),),
    ),
    "base_url with a password": Case(
        ("job.toml:«base_url»: account.base_url: is not an address*",),
        (('base_url = "http', f'base_url = "https://user:{SECRET}@example.com"\n#'),),
    ),
    "title too long": Case(
        ("job.toml:«Live»: launch.title: has 101 characters, at most 100 are allowed",),
        (("Live in ${city}", "Live" + "x" * 97),),
    ),
    "title of the campaign too long": Case(
        ("job.toml:«Sale»: create.title: has 104 characters, at most 100*",), (("Spring sale", "Sale" + "x" * 100),)
    ),
    "description too long": Case(
        ("job.toml:«description»: launch.description: has 256 characters, at most 255*",),
        (("Up to 50% off", "x" * 256),),
    ),
    "image not https": Case(
        ("job.toml:«image»: launch.image: must be an https:// address",),
        (("https://example.com/icon", "http://example.com/icon"),),
    ),
    "banner not https": Case(
        ("job.toml:«banner»: launch.banner: must be an https:// address",),
        (("ttl =", 'banner = "ftp://example.com/b"\nttl ='),),
    ),
    "ttl too long": Case(("job.toml:«ttl»: launch.ttl: is longer than 240 hours",), (("1 day", "10 days 1 minute"),)),
    "ttl unreadable": Case(("job.toml:«ttl»: launch.ttl: is not a duration*",), (("1 day", "soon"),)),
    "ttl without a unit": Case(
        ('job.toml:«ttl»: launch.ttl: *write the unit, such as "86400 seconds"',), (("1 day", "86400"),)
    ),
    "ttl is a number": Case(("job.toml:«ttl»: launch.ttl: must be a duration*not a number*",), (('"1 day"', "86400"),)),
    "ttl of an unknown unit": Case(
        ("job.toml:«ttl»: launch.ttl: unknown unit 'fortnight'*",), (("1 day", "1 fortnight"),)
    ),
    "ttl of nothing": Case(("job.toml:«ttl»: launch.ttl: must be at least 1 s",), (("1 day", "0 s"),)),
    "no target": Case(("job.toml:«[launch]»: launch.target: is required*",), ((TARGET + "\n", ""),)),
    "target without values": Case(
        ("job.toml:«target»: launch.target.values: is required",), ((', values = ["${store_id}"]', ""),)
    ),
    "target with no values": Case(
        ("job.toml:«target»: launch.target.values: must not be empty",), (('["${store_id}"]', "[]"),)
    ),
    "values are no list": Case(
        ("job.toml:«target»: launch.target.values: must be a list, not text",), (('["${store_id}"]', '"x"'),)
    ),
    "is_all with an audience": Case(
        ("job.toml:«is_all»: create.is_all: *cannot stand beside [[]audience]",),
        (('language = "en_GB"', 'language = "en_GB"\nis_all = true'), (TARGET + "\n", "")),
    ),
    "campaign_id with create": Case(
        ("job.toml:«campaign_id»: launch.campaign_id: stands beside [[]create]*",),
        (("[launch]", "[launch]\ncampaign_id = 5"),),
    ),
    "unknown endpoint": Case(
        ("job.toml:«lunch»: limits.insider.lunch: there is no endpoint insider.lunch; did you mean insider.launch?",),
        add='[limits]\n"insider.lunch" = "5/min"',
    ),
    "limit unreadable": Case(
        ("job.toml:«fast»: limits.insider.launch: 'fast' is not a limit such as *",),
        add='[limits]\n"insider.launch" = "fast"',
    ),
    "limit of nothing": Case(
        ("job.toml:«0/min»: limits.insider.launch: '0/min' allows no call*",),
        add='[limits]\n"insider.launch" = "0/min"',
    ),
    "limit is a number": Case(
        ("job.toml:«6000»: limits.insider.launch: *is not a limit such as *",), add='[limits]\n"insider.launch" = 6000'
    ),
    "limit beyond all numbers": Case(
        ("job.toml:«999»: limits.insider.launch: *",), add=f'[limits]\n"insider.launch" = "{"9" * 400}/min"'
    ),
    "canary of nothing": in_policy("canary = 0", "must be at least 1"),
    "max_sends is text": in_policy('max_sends = "many"', "must be a whole number, not text"),
    "stop_after without %": in_policy('stop_after = "5"', 'is not a share such as "5%"'),
    "stop_after over 100%": in_policy('stop_after = "101%"', 'is not a share such as "5%"'),
    "deadline unreadable": in_policy('deadline = "soon"', "is not a duration*"),
    "due unreadable": in_policy('due = "tomorrow"', "is not a date and time*"),
    "due without a zone": in_policy('due = "2026-04-01T06:00:00"', "has no time zone*"),
    "max_lateness without due": in_policy('max_lateness = "30m"', "needs `due`*"),
    "on_unknown unknown": in_policy('on_unknown = "drop"', "must be one of hold, resend"),
    "unknown policy": in_policy("canery = 5", "unknown field; did you mean canary?"),
    "list of a chunk without chunk": Case(
        ("job.toml:«target»: launch.target.values: ${store_id[[]]}*set chunk in [[]audience]*write ${store_id}",),
        (('["${store_id}"]', '"${store_id[]}"'),),
    ),
    "one row's value in a chunk": Case(
        ("job.toml:«target»: launch.target.values: ${store_id}*chunk of rows*write ${store_id[[]]}",),
        (CHUNKED, *PLAIN_TEXTS),
    ),
    "list of a chunk inside a text": Case(
        ("job.toml:«Live»: launch.title: *${column[[]]} is a list and must stand alone*",),
        (CHUNKED, ("${city}", "${city[]}"), PLAIN_TEXTS[1], ('["${store_id}"]', '"${store_id[]}"')),
    ),
    "several accounts and no choice": Case(
        ("job.toml:«[audience]»: audience.account: is required with several accounts*",),
        ((CREDENTIALS, ""), ('key = "store_id"', f'key = "store_id"\n\n{ACCOUNTS}')),
    ),
    "choice among no accounts": Case(
        ("job.toml:«account =»: audience.account: chooses among [[]account.NAME] tables, and there are none",),
        (('key = "store_id"', 'key = "store_id"\naccount = "${city}"'),),
    ),
    "column without an audience": Case(
        ("job.toml: audience: is missing: ${city} needs a table of rows",),
        (('[audience]\nfrom = "stores.csv"\nkey = "store_id"\n', ""),),
    ),
    "column in the name of the file": Case(
        ("job.toml:«from»: audience.from: ${city} cannot stand here*",), (("stores.csv", "${city}.csv"),)
    ),
    "unknown column": Case(
        ("job.toml:«Live»: launch.title: stores.csv has no column 'cty'; did you mean city?",), (("${city}", "${cty}"),)
    ),
    "two unknown columns": Case(
        (
            "job.toml:«Live»: launch.title: stores.csv has no column 'cty'; did you mean city?",
            "job.toml:«link»: launch.link: stores.csv has no column 'shop'*store_id, city",
        ),
        (("${city}", "${cty}"), ("?store=${store_id}", "?store=${shop}")),
    ),
    "unknown key column": Case(
        ("*stores.csv*no *column 'storeid'; did you mean *store_id*",), (('key = "store_id"', 'key = "storeid"'),)
    ),
}

IN_THE_AUDIENCE: dict[str, Case] = {
    "file not found": Case(("*nope.csv: file not found*",), (("stores.csv", "nope.csv"),)),
    "no file matches": Case(("*nope-[*].csv: no file matches",), (("stores.csv", "nope-*.csv"),)),
    "unknown ending": Case(("*stores.xlsx: *accepted are .csv *",), (("stores.csv", "stores.xlsx"),)),
    "no rows": Case(("*stores.csv has no rows*",), rows="store_id,city\n"),
    "empty file": Case(("job.toml:10: audience.from: stores.csv: is empty*",), rows=""),
    "empty JSON Lines": Case(
        ("job.toml:10: audience.from: stores.jsonl: is empty*",),
        (("stores.csv", "stores.jsonl"),),
        files={"stores.jsonl": "\n"},
    ),
    "no rows from sql": in_sql("select * from 'stores.csv' where city = 'Rome'", "*has no rows*"),
    "name twice in the header": Case(("stores.csv:1: *'city' twice",), rows="store_id,city,city\n1,a,b\n"),
    "too many cells": Case(("stores.csv:3: expected 2 columns, found 3",), rows=lines_of("1,Oslo", f"2,{CELL},x")),
    "open quote": Case(("stores.csv:3: has a quote that is not closed*",), rows=lines_of("1,Oslo", f'2,"{CELL}')),
    "not UTF-8": Case(("stores.csv:2: is not UTF-8 text",), files={"stores.csv": b"store_id,city\n1,\xff\n"}),
    "not JSON": Case(
        ("stores.jsonl:2: is not a JSON object",),
        (("stores.csv", "stores.jsonl"),),
        files={"stores.jsonl": f'{{"store_id": 1, "city": "Oslo"}}\n{{"store_id": 2, "city": "{CELL}\n'},
    ),
    "not Parquet": Case(
        ("job.toml:10: audience.from: stores.parquet: is not a readable Parquet file",),
        (("stores.csv", "stores.parquet"),),
        files={"stores.parquet": CELL},
    ),
    "key of a wrong type": Case(
        ("stores.jsonl, row 2: store_id: a key must be text or a whole number",),
        (("stores.csv", "stores.jsonl"),),
        files={"stores.jsonl": f'{{"store_id": 1, "city": "x"}}\n{{"store_id": 1.5, "city": "{CELL}"}}\n'},
    ),
    "key twice": Case(
        ("stores.csv, row 3 (key 0001): row 1 has the same key",), rows=lines_of("0001,a", f"2,{CELL}", f"0001,{CELL}")
    ),
    "blank keys": Case(
        ("stores.csv, row 2: the key is blank", "stores.csv, row 3: the key is blank"),
        rows=lines_of("1,a", f",{CELL}", f" ,{CELL}"),
    ),
    "blank value": Case(
        ("stores.csv, row 2 (key b): *${city}*has no value*", "stores.csv, row 3 (key c): *${city}*has no value*"),
        rows=lines_of("a,Oslo", "b,", "c,   "),
    ),
    "null": Case(
        ("stores.jsonl, row 1 (key 7): *${city}*has no value*",),
        (("stores.csv", "stores.jsonl"),),
        files={"stores.jsonl": '{"store_id": 7, "city": null}\n'},
    ),
    "title too long once rendered": Case(
        ("stores.csv, row 2 (key b): launch.title: has 108 characters, at most 100 are allowed",),
        rows=lines_of("a,Oslo", f"b,{CELL}{'x' * 84}"),
    ),
    "description too long once rendered": Case(
        ("stores.csv, row 2 (key b): launch.description: has 256 characters, at most 255 are allowed",),
        (PLAIN_TEXTS[0], ("Up to 50% off", "${city}")),
        rows=lines_of("a,Oslo", f"b,{CELL}{'x' * 240}"),
    ),
    "description too long for a banner": Case(
        ("stores.csv, row 2 (key b): launch.description: has 31 characters, at most 30 are allowed with a banner",),
        (PLAIN_TEXTS[0], ("Up to 50% off", "${city}"), ("ttl =", 'banner = "https://example.com/b"\nttl =')),
        rows=lines_of(f"a,{CELL}{'x' * 14}", f"b,{CELL}{'x' * 15}"),
    ),
    "image of a row not https": Case(
        ("stores.csv, row 1 (key a): launch.image: must be an https:// address",),
        (PLAIN_TEXTS[0], ("https://example.com/icon.png", "${city}")),
        rows=lines_of(f"a,http://{CELL}"),
    ),
    "ttl of a row": Case(
        (
            "stores.csv, row 2 (key b): launch.ttl: is longer than 240 hours",
            "stores.csv, row 3 (key c): launch.ttl: is not a duration*",
            "stores.csv, row 4 (key d): launch.ttl: *write the unit*",
        ),
        (PLAIN_TEXTS[0], ("1 day", "${city}")),
        rows=lines_of("a,1 day", "b,241 h", f"c,{CELL}", "d,60"),
    ),
    "boolean of a row": Case(
        ("stores.csv, row 2 (key b): launch.include_unengaged: must be true or false*",),
        (PLAIN_TEXTS[0], ("ttl =", 'include_unengaged = "${city}"\nttl =')),
        rows=lines_of("a,true", f"b,{CELL}"),
    ),
    "attribute of a row": Case(
        ("stores.csv, row 1 (key a): launch.target.attribute: *d_*c_*",),
        (PLAIN_TEXTS[0], ('"c_store_id"', '"${city}"')),
        rows=lines_of(f"a,{CELL}", "b,c_city", "c,d_city"),
    ),
    "unknown brand": Case(
        ("stores.csv, row 2 (key b): *account*red, blue*",), TWO_ACCOUNTS, rows=lines_of("a,red", f"b,{CELL}", "c,blue")
    ),
    "blank brand": Case(
        ("stores.csv, row 2 (key b): *account*city*no value*",), TWO_ACCOUNTS, rows=lines_of("a,red", "b,", "c,blue")
    ),
    "brand that leads to another folder": Case(
        tuple(
            f"stores.csv, row {row} (key {key}): *account*plain name*" for row, key in ((2, "b"), (3, "c"), (4, "d"))
        ),
        (("env:INSIDER_TOKEN", "file:secrets/${city}"),),
        rows=lines_of("a,red", f"b,../{CELL}", f"c,/etc/{CELL}", f"d,.{CELL}", "e,red"),
        files={"secrets/red": SECRET, CELL: SECRET, f"secrets/.{CELL}": SECRET},
    ),
    "secret file of a brand is missing": Case(
        ("stores.csv, row 2 (key b): account.token: there is no secret for this row at file:secrets/${city}",),
        (("env:INSIDER_TOKEN", "file:secrets/${city}"),),
        rows=lines_of("a,red", f"b,{CELL}"),
        files={"secrets/red": SECRET},
        plan_code=0,
    ),
    "a row of a chunk": Case(
        ("stores.csv, row 4 (key d): *${city}*has no value*",),
        (CHUNKED, *PLAIN_TEXTS, ('["${store_id}"]', '"${city[]}"')),
        rows=lines_of("a,1", "b,2", "c,3", "d,"),
    ),
    "key with a tab": Case(
        (r"stores.csv, row 1 (key a\tb*): the key*control characters",), rows=lines_of('"a\tb",Oslo')
    ),
    "key too long": Case(
        ("stores.csv, row 1 (key kkkk*…): the key is longer than 512 characters*",), rows=lines_of("k" * 513 + ",Oslo")
    ),
}

IN_THE_SQL: dict[str, Case] = {
    "no SQL": in_sql("selec * from 'stores.csv'", "*sql: is not valid SQL: *selec*"),
    "nothing": in_sql(" ", "job.toml:«sql =»: audience.sql: must not be blank"),
    "two SELECTs": in_sql("select * from 'stores.csv'; select 1", "*sql: holds 2 statements*one SELECT*"),
    "CREATE": in_sql("create table x as select 1", "*sql: is not a SELECT*"),
    "DROP after SELECT": in_sql("select 1; drop table x", "*sql: *SELECT*"),
    "COPY": in_sql("copy (select 1) to 'out.csv'", "*sql: is not a SELECT*"),
    "ATTACH": in_sql("attach 'other.db'", "*sql: is not a SELECT*"),
    "SET": in_sql("set enable_external_access = true", "*sql: is not a SELECT*"),
    "PRAGMA": in_sql("pragma version", "*sql: is not a SELECT*"),
    "INSTALL": in_sql("install httpfs", "*sql: is not a SELECT*"),
    "LOAD": in_sql("load httpfs", "*sql: is not a SELECT*"),
    "EXPLAIN": in_sql("explain select 1", "*sql: is not a SELECT*"),
    "https": in_sql(
        "select * from 'https://example.com/x.csv'", "*sql: reaches for the URL https://example.com/x.csv*"
    ),
    "s3": in_sql("select * from 's3://bucket/x.parquet'", "*sql: reaches for the URL s3://*"),
    "read_csv": in_sql("select * from read_csv('/etc/passwd')", "*sql: calls read_csv(), which is not accepted*"),
    "read_text": in_sql(
        "select content from read_text('/etc/passwd')", "*sql: calls read_text(), which is not accepted*"
    ),
    "glob": in_sql("select * from glob('/*')", "*sql: calls glob(), which is not accepted*"),
    "settings": in_sql("select * from duckdb_settings()", "*sql: calls duckdb_settings(), which is not accepted*"),
    "getenv": in_sql("select getenv('INSIDER_TOKEN') as store_id", "*sql: calls getenv(), which is not accepted"),
    "getenv in a subquery": in_sql(
        "select store_id, (select getenv('INSIDER_TOKEN')) as city from 'stores.csv'", "*sql: calls getenv()*"
    ),
    "no table's ending": in_sql("select * from '/etc/passwd'", "*sql: names a table /etc/passwd*accepted are*.csv *"),
    "no quotes": in_sql("select * from stores", "*sql: names a table stores*"),
    "missing file": in_sql("select * from 'nope.csv'", "*nope.csv: file not found*"),
    "unknown column": in_sql("select store_id, cty from 'stores.csv'", '*sql: *"cty" not found*city*'),
    "parameter": in_sql("select * from 'stores.csv' where store_id = ?", "*sql: has a parameter*"),
    "key is a fraction": in_sql("select 1.5 as store_id, 'x' as city", "*sql: *'store_id' is DECIMAL*whole number*"),
}

ON_THE_COMMAND_LINE: dict[str, Case] = {
    "base URL of plain http": Case(
        ("*--base-url: plain http*loopback*not web-push.example.com*",),
        arguments=("--base-url", "http://web-push.example.com"),
    ),
    "base URL that is none": Case(("*--base-url: is not an address*",), arguments=("--base-url", "nope")),
    "ledger that is no URL": Case(("--ledger: *not a ledger*sqlite:*",), arguments=("--ledger", "x.db")),
    "ledger of another kind": Case(
        ("--ledger: *not a ledger*sqlite:*",), arguments=("--ledger", f"mysql://user:{SECRET}@db/x")
    ),
    "ledger on PostgreSQL": Case(
        ("--ledger: *PostgreSQL*sqlite:*",), arguments=("--ledger", f"postgresql://user:{SECRET}@db/x")
    ),
}

GUARDS: dict[str, Case] = {
    "max_sends": Case(
        ("max_sends: 3 sends, at most 2 are allowed",), add="[policy]\nmax_sends = 2", code=4, plan_code=0
    ),
    "due": Case(
        ("due: *late, at most 30 min is allowed",),
        add='[policy]\ndue = "2020-01-01T00:00:00Z"\nmax_lateness = "30m"',
        code=4,
        plan_code=0,
    ),
}

ALL = {
    **{f"job file: {name}": case for name, case in IN_THE_JOB_FILE.items()},
    **{f"audience: {name}": case for name, case in IN_THE_AUDIENCE.items()},
    **{f"sql: {name}": case for name, case in IN_THE_SQL.items()},
    **{f"command line: {name}": case for name, case in ON_THE_COMMAND_LINE.items()},
    **{f"guard: {name}": case for name, case in GUARDS.items()},
}
AS_PROCESSES = (
    "job file: not TOML",
    "job file: misspelt field that is required",
    "job file: literal secret",
    "job file: env is not set",
    "job file: variable without a value",
    "job file: plain http",
    "audience: file not found",
    "audience: no rows",
    "audience: key twice",
    "audience: title too long once rendered",
    "sql: read_text",
    "sql: https",
    "guard: max_sends",
    "guard: due",
)


def prepare(shell: Shell, case: Case) -> None:
    shell.edit(*case.edits)
    if case.add:
        shell.add(case.add)
    if case.rows is not None:
        shell.write("stores.csv", case.rows)
    for name, content in case.files.items():
        shell.write(name, content)
    shell.env.update(case.env)


def matches(pattern: str, line: str) -> bool:
    """`*` stands for any text; `[*]` and `[[]` for themselves."""
    escaped = re.escape(pattern.replace("[*]", "\x01").replace("[[]", "\x02").replace("*", "\x03"))
    for mark, meaning in (("\x01", r"\*"), ("\x02", r"\["), ("\x03", ".*")):
        escaped = escaped.replace(re.escape(mark), meaning).replace(mark, meaning)
    return re.fullmatch(escaped, line) is not None


def assert_said(lines: list[str], patterns: list[str]) -> None:
    """One line for each pattern, in this order, and none besides."""
    assert len(lines) == len(patterns), lines
    for line, pattern in zip(lines, patterns, strict=True):
        assert matches(pattern, line), f"{line!r} is not {pattern!r}"


def assert_harmless(shell: Shell, listener: Listener, before: dict[str, bytes], said: Said) -> None:
    """Nothing was called, nothing changed, nothing that is private was shown, and nothing crashed."""
    assert listener.connections == 0
    assert shell.listing() == before
    assert "Traceback" not in said.stderr
    assert SECRET not in said.stdout + said.stderr
    assert CELL not in said.stderr


@pytest.mark.parametrize("name", ALL)
def test_run_refuses_bad_input(shell: Shell, listener: Listener, name: str) -> None:
    case = ALL[name]
    prepare(shell, case)
    before = shell.listing()
    said = shell.call("run", "job.toml", *case.arguments)
    assert_said(said.errors, [shell.resolved(line) for line in case.says])
    assert said.code == case.code
    assert said.stdout == ""
    assert_harmless(shell, listener, before, said)


@pytest.mark.parametrize("name", AS_PROCESSES)
def test_the_process_refuses_bad_input(shell: Shell, listener: Listener, name: str) -> None:
    case = ALL[name]
    prepare(shell, case)
    before = shell.listing()
    said = shell.run("run", "job.toml", *case.arguments)
    assert_said(said.errors, [shell.resolved(line) for line in case.says])
    assert said.code == case.code
    assert said.stdout == ""
    assert_harmless(shell, listener, before, said)


# The job file itself


@pytest.mark.parametrize("command", ["run", "plan", "status", "stop", "resolve"])
def test_a_job_file_that_is_not_there(shell: Shell, command: str) -> None:
    before = shell.listing()
    said = shell.call(command, "nope.toml")
    assert said.code == 2
    assert_said(said.errors, ["*nope.toml: there is no such job file"])
    assert shell.listing() == before


def test_a_folder_is_no_job_file(shell: Shell) -> None:
    shell.write("folder.toml/x", "")
    said = shell.call("run", "folder.toml")
    assert (said.code, len(said.errors)) == (2, 1)
    assert "is a directory, not a job file" in said.errors[0]


def test_a_job_file_that_is_not_text(shell: Shell) -> None:
    shell.write("job.toml", b'job = "\xff"\n')
    said = shell.call("run", "job.toml")
    assert said.code == 2
    assert_said(said.errors, ["job.toml: is not UTF-8 text"])


def test_status_is_0_for_a_job_that_was_never_run(shell: Shell) -> None:
    before = shell.listing()
    said = shell.call("status", "job.toml", "--json")
    assert said.code == 0
    assert (said.data["job"], said.data["state"], said.data["sends"]["total"]) == ("sale", "incomplete", 0)
    assert "was never run" in said.stderr
    assert shell.listing() == before


@pytest.mark.parametrize("command", ["stop", "resolve"])
def test_a_job_that_was_never_run(shell: Shell, command: str) -> None:
    before = shell.listing()
    said = shell.call(command, "job.toml")
    assert said.code == 2
    assert_said(said.errors, ['job "sale" was never run with the ledger */bulksend.db'])
    assert shell.listing() == before


# A fault of the job file is told once, at its line, however many rows there are

STATIC: dict[str, Case] = {
    "description too long for the banner": Case(
        ("job.toml:«description»: launch.description: has 31 characters, at most 30 are allowed with a banner",),
        (("Up to 50% off", "x" * 31), ("ttl =", 'banner = "https://example.com/b"\nttl =')),
    ),
    "target without an attribute": Case(
        ("job.toml:«target»: launch.target.attribute: is required",), (('attribute = "c_store_id", ', ""),)
    ),
    "attribute of a wrong prefix": Case(
        ("job.toml:«target»: launch.target.attribute: *d_*c_*",), (('"c_store_id"', '"store_id"'),)
    ),
    "blank value of the target": Case(
        ("job.toml:«target»: launch.target.values: must not hold a blank value",), (('["${store_id}"]', '[" "]'),)
    ),
    "list of a chunk inside a list": Case(
        ("job.toml:«target»: launch.target.values: *is a list by itself*",),
        (CHUNKED, *PLAIN_TEXTS, ('["${store_id}"]', '["${store_id[]}"]')),
    ),
    "column in what is made once": Case(
        ("job.toml:«title =»: create.title: *${city} cannot stand*",), (("Spring sale", "Sale in ${city}"),)
    ),
    "every wrong placeholder of a chunk": Case(
        (
            "job.toml:«Live»: launch.title: ${city} is one row's value*",
            "job.toml:«link»: launch.link: ${store_id} is one row's value*",
            "job.toml:«target»: launch.target.values: ${store_id} is one row's value*",
        ),
        (CHUNKED,),
    ),
    "sql": Case(
        ("job.toml:«sql =»: audience.sql: *is not a SELECT*",), (('from = "stores.csv"', 'sql = "drop table x"'),)
    ),
    "limit of the vendor's create": Case(
        ("job.toml:«often»: limits.insider.create: *is not a limit*",), add='[limits]\n"insider.create" = "often"'
    ),
}


@pytest.mark.parametrize("name", STATIC)
@pytest.mark.parametrize("command", ["run", "plan"])
def test_a_fault_of_the_job_file_is_told_once_at_its_line(
    shell: Shell, listener: Listener, command: str, name: str
) -> None:
    case = STATIC[name]
    prepare(shell, case)
    before = shell.listing()
    said = shell.call(command, "job.toml")
    assert_said(said.errors, [shell.resolved(line) for line in case.says])
    assert said.code == 2
    assert_harmless(shell, listener, before, said)


# Several at once


def test_all_faults_of_the_job_file_are_told_in_one_run_in_reading_order(shell: Shell) -> None:
    shell.edit(
        ("env:INSIDER_TOKEN", SECRET),
        ('key = "store_id"', 'key = "store_id"\nchunk = 0'),
        ('"en_GB"', '"English"'),
        ("https://example.com/icon", "http://example.com/icon"),
        ("1 day", "11 days"),
    )
    shell.add('[polcy]\n\n[limits]\n"insider.lunch" = "5/min"')
    said = shell.call("run", "job.toml")
    assert said.code == 2
    patterns = (
        "job.toml:«token»: account.token: *",
        "job.toml:«chunk»: audience.chunk: *",
        "job.toml:«language»: create.language: *",
        "job.toml:«image»: launch.image: *",
        "job.toml:«ttl»: launch.ttl: *",
        "job.toml:«polcy»: polcy: *",
        "job.toml:«lunch»: limits.insider.lunch: *",
    )
    assert_said(said.errors, [shell.resolved(pattern) for pattern in patterns])
    assert SECRET not in said.stderr


@pytest.mark.parametrize("command", ["run", "plan"])
def test_all_faults_of_the_rows_are_told_in_one_run_in_the_order_of_rows(shell: Shell, command: str) -> None:
    shell.write("stores.csv", lines_of("a,", "b,Oslo", ",Molde", "b,Voss", f"c,{'x' * 100}", "a,Bodo"))
    said = shell.call(command, "job.toml")
    assert said.code == 2
    patterns = [
        "stores.csv, row 1 (key a): *${city}*has no value*",
        "stores.csv, row 3: the key is blank",
        "stores.csv, row 4 (key b): row 2 has the same key",
        "stores.csv, row 5 (key c): launch.title: has 108 characters*",
        "stores.csv, row 6 (key a): row 1 has the same key",
    ]
    assert_said(said.errors, patterns)


@pytest.mark.parametrize("command", ["run", "plan"])
def test_several_faults_of_one_row_are_all_told(shell: Shell, command: str) -> None:
    shell.edit(("Live in ${city}", "Live in ${city}${city}"), ("https://example.com/icon.png", "${city}"))
    shell.write("stores.csv", lines_of(f"a,{'x' * 50}"))
    said = shell.call(command, "job.toml")
    assert_said(
        said.errors, ["stores.csv, row 1 (key a): launch.title: *", "stores.csv, row 1 (key a): launch.image: *"]
    )


def test_a_secret_that_is_not_there_hides_no_fault_of_the_rows(shell: Shell) -> None:
    shell.edit(("INSIDER_TOKEN", "OTHER_TOKEN"))
    shell.write("stores.csv", lines_of("a,"))
    said = shell.call("run", "job.toml")
    assert said.code == 2
    assert_said(
        said.errors, [shell.resolved("job.toml:«token»: account.token: *"), "stores.csv, row 1 (key a): *${city}*"]
    )


@pytest.mark.parametrize("command", ["run", "plan"])
def test_more_than_a_hundred_faults_of_rows_are_counted(shell: Shell, command: str) -> None:
    shell.write("stores.csv", lines_of(*(f"k{number}," for number in range(1, 1235))))
    said = shell.call(command, "job.toml")
    assert said.code == 2
    assert len(said.errors) == 101
    assert matches("stores.csv, row 100 (key k100): *", said.errors[99])
    assert matches("… and 1,134 more*", said.errors[100])


@pytest.mark.parametrize("command", ["run", "plan"])
@pytest.mark.parametrize("key", ["k{}", " "])
def test_more_duplicates_or_blanks_than_are_shown_are_counted(shell: Shell, command: str, key: str) -> None:
    shell.write("stores.csv", lines_of(*(f"{key.format(number // 2)},Oslo" for number in range(400))))
    said = shell.call(command, "job.toml")
    assert said.code == 2
    found = 200 if key != " " else 400
    left = re.fullmatch(r"… and ([\d,]+) more.*", said.errors[-1])
    assert left is not None, said.errors[-1]
    assert len(said.errors) - 1 + int(left[1].replace(",", "")) == found


# The ledger

OTHER_LEDGERS = ("missing directory", "directory", "no database", "another program's", "newer")


def ledger_of(shell: Shell, kind: str) -> str:
    """Make something that cannot be the ledger; returns its name."""
    name = "ledger.db"
    match kind:
        case "missing directory":
            name = "nowhere/ledger.db"
        case "directory":
            (shell.folder / name).mkdir()
        case "no database":
            shell.write(name, "store_id,city\n" * 100)
        case "another program's":
            with sqlite3.connect(shell.folder / name) as db:
                db.execute("CREATE TABLE bookings (id INTEGER)")
            db.close()
        case "newer":
            with sqlite3.connect(shell.folder / name) as db:
                db.execute("PRAGMA application_id = 1651862635")  # "bulk"
                db.execute("PRAGMA user_version = 99")
                db.execute("CREATE TABLE job (id INTEGER)")
            db.close()
    return name


SAYS = {
    "missing directory": "the ledger *nowhere/ledger.db cannot be made: there is no directory *nowhere",
    "directory": "the ledger *ledger.db is a directory",
    "no database": "the ledger *ledger.db is not a SQLite database",
    "another program's": "*ledger.db is a database of another program, not a ledger",
    "newer": "the ledger *ledger.db *version 99, from a newer bulksend*",
}


@pytest.mark.parametrize("kind", OTHER_LEDGERS)
def test_what_cannot_be_the_ledger_is_refused_and_left_alone(shell: Shell, listener: Listener, kind: str) -> None:
    ledger = f"sqlite:{ledger_of(shell, kind)}"
    before = shell.listing()
    said = shell.call("run", "job.toml", "--ledger", ledger)
    assert said.code == 1
    assert_said(said.errors, [SAYS[kind]])
    assert_harmless(shell, listener, before, said)
    for command in ("plan", "status"):
        said = shell.call(command, "job.toml", "--ledger", ledger)
        if kind != "missing directory":  # nothing is there yet: nothing to read
            assert said.code == 1
            assert_said(said.errors, [SAYS[kind]])
        assert_harmless(shell, listener, before, said)


def test_the_ledger_of_a_newer_version_is_refused_by_the_process(shell: Shell, listener: Listener) -> None:
    shell.env["BULKSEND_LEDGER"] = f"sqlite:{ledger_of(shell, 'newer')}"
    before = shell.listing()
    said = shell.run("run", "job.toml")
    assert said.code == 1
    assert_said(said.errors, [SAYS["newer"]])
    assert_harmless(shell, listener, before, said)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written(shell: Shell, listener: Listener) -> None:
    shell.folder.chmod(0o500)
    try:
        said = shell.call("run", "job.toml")
    finally:
        shell.folder.chmod(0o700)
    assert said.code == 1
    assert_said(said.errors, ["the ledger *bulksend.db cannot be *ermission*"])
    assert listener.connections == 0


def test_a_full_disk_is_said_plainly(shell: Shell, listener: Listener) -> None:
    command = [sys.executable, "-m", "bulksend", "run", "job.toml"]
    done = subprocess.run(
        ["sh", "-c", 'ulimit -f 4; exec "$@"', "sh", *command],
        cwd=shell.folder,
        env={**os.environ, **shell.env},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    said = Said(done.returncode, done.stdout, done.stderr)
    assert said.code == 1, said
    assert_said(said.errors, ["the ledger *bulksend.db cannot be written: *disk*full*"])
    assert "Traceback" not in said.stderr
    assert listener.connections == 0


# Guards


def test_plan_warns_of_max_sends(shell: Shell) -> None:
    shell.add("[policy]\nmax_sends = 2")
    said = shell.call("plan", "job.toml")
    assert said.code == 0
    assert_said(said.warnings, [shell.resolved("job.toml:«max_sends»: policy.max_sends: 3 sends, at most 2*refused")])


def test_limit_counts_for_max_sends(shell: Shell) -> None:
    shell.add("[policy]\nmax_sends = 1")
    said = shell.call("run", "job.toml", "--limit", "2")
    assert said.code == 4
    assert_said(said.errors, ["max_sends: 2 sends, at most 1 are allowed"])


# --json


@pytest.mark.parametrize("name", ["job file: not TOML", "audience: blank value", "command line: ledger that is no URL"])
@pytest.mark.parametrize("command", ["run", "plan"])
def test_json_says_an_error_as_one_object(shell: Shell, command: str, name: str) -> None:
    case = ALL[name]
    prepare(shell, case)
    said = shell.call(command, "job.toml", "--json", *case.arguments)
    assert said.code == 2
    assert_said(said.data["problems"], [shell.resolved(line) for line in case.says])
    assert said.data["problems"] == said.errors


def test_json_says_a_ledger_error_as_one_object(shell: Shell) -> None:
    said = shell.call("run", "job.toml", "--json", "--ledger", f"sqlite:{ledger_of(shell, 'newer')}")
    assert said.code == 1
    assert said.data["state"] == "incomplete"
    assert said.data["error"] == said.errors[0]


@pytest.mark.parametrize("name", GUARDS)
def test_json_says_a_refusal_as_one_object(shell: Shell, name: str) -> None:
    case = GUARDS[name]
    prepare(shell, case)
    said = shell.call("run", "job.toml", "--json")
    assert said.code == 4
    assert (said.data["job"], said.data["state"]) == ("sale", "refused")
    assert said.data["calls"]["made"] == 0


def test_json_of_a_process(shell: Shell) -> None:
    shell.write("stores.csv", lines_of("a,", f"b,{CELL}"))
    said = shell.run("run", "job.toml", "--json")
    assert said.code == 2
    assert said.data["state"] == "refused"
    assert_said(said.data["problems"], ["stores.csv, row 1 (key a): *${city}*has no value*"])


# The command line


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("launch",), "No such command 'launch'"),
        (("run", "job.toml", "--fast"), "No such option"),
        (("run",), "Missing argument"),
        (("run", "job.toml", "--limit", "0"), "--limit"),
        (("run", "job.toml", "--limit", "many"), "--limit"),
        (("plan", "job.toml", "--limit", "0"), "--limit"),
        (("run", "job.toml", "--var", "day"), "'day' is not NAME=VALUE"),
        (("run", "job.toml", "--var", "=x"), "'=x' is not NAME=VALUE"),
        (("plan", "job.toml", "--var", "day"), "'day' is not NAME=VALUE"),
        (("run", "job.toml", "--log", "xml"), "--log"),
        (("resolve", "job.toml", "0001"), "--accept or --resend"),
        (("resolve", "job.toml", "--accept"), "--all"),
        (("resolve", "job.toml", "--accept", "--resend", "0001"), "--accept and --resend"),
        (("resolve", "job.toml", "--accept", "--all", "0001"), "--all"),
        (("init", "insidr"), "'insidr'"),
        (("emulate", "insidr"), "insidr"),
        (("emulate", "insider", "--limit", "insider.launch=fast"), "fast"),
        (("emulate", "insider", "--limit", "insider.lunch=5/min"), "insider.lunch"),
        (("emulate", "insider", "--fault", "explode:1%"), "explode"),
        (("emulate", "insider", "--latency", "soon"), "soon"),
        (("emulate", "insider", "--accounts", "0"), "--accounts"),
        (("demo", "--sends", "0"), "--sends"),
    ],
)
def test_wrong_usage(shell: Shell, listener: Listener, arguments: tuple[str, ...], says: str) -> None:
    before = shell.listing()
    said = shell.call(*arguments)
    assert said.code == 2
    assert says in said.stderr
    assert said.stdout == ""
    assert_harmless(shell, listener, before, said)


@pytest.mark.parametrize("arguments", [("run", "job.toml", "--fast"), ("run", "job.toml", "--var", "day")])
def test_wrong_usage_of_a_process(shell: Shell, listener: Listener, arguments: tuple[str, ...]) -> None:
    before = shell.listing()
    said = shell.run(*arguments)
    assert said.code == 2
    assert_harmless(shell, listener, before, said)


def test_a_log_file_that_cannot_be_written(shell: Shell, listener: Listener) -> None:
    before = shell.listing()
    said = shell.call("run", "job.toml", "--log-file", "nowhere/log")
    assert said.code == 2
    assert len(said.errors) == 1
    assert "nowhere/log" in said.errors[0]
    assert "--log-file" in said.errors[0]
    assert_harmless(shell, listener, before, said)


# Without the look at every row


def test_no_precheck_still_looks_at_the_keys(shell: Shell, listener: Listener) -> None:
    shell.write("stores.csv", lines_of("a,", "b,Oslo", "b,Voss"))
    before = shell.listing()
    said = shell.call("run", "job.toml", "--no-precheck")
    assert said.code == 2
    assert_said(said.errors, ["stores.csv, row 3 (key b): row 2 has the same key"])
    assert_harmless(shell, listener, before, said)
