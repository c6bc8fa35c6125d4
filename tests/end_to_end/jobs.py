"""Job files of every provider, for an emulator; the audience is `rows.csv` with the columns `key` and `segment`."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from tests.end_to_end.vendor import Folder, Vendor

ACCOUNTS = {
    "insider": 'partner_id = "{partner_id}"\ntoken = "env:SECRET"',
    "usercom": 'app = "{app}"\ntoken = "env:SECRET"',
    "batch": 'api_key = "{api_key}"\nrest_key = "env:SECRET"',
    "stream": 'api_key = "{api_key}"\napi_secret = "env:SECRET"',
}
SECRETS = {"insider": "token", "usercom": "token", "batch": "rest_key", "stream": "api_secret"}
HEAD = """\
job = "sale"
[account]
provider = "{provider}"
base_url = "{url}"
{account}
"""
AUDIENCE = """\
[audience]
from = "rows.csv"
key = "key"
"""
INSIDER = """\
[create]
title = "Sale"
language = "en_GB"
[launch]
title = "Sale"
description = "Up to 50% off"
image = "https://example.com/icon.png"
link = "https://example.com/"
ttl = "1 day"
target = { attribute = "c_store_id", values = ["${key}"] }
"""
USERCOM = """\
[launch]
name = "Sale ${key}"
segment = "${segment}"
[[launch.messages]]
title = "Sale"
body = "Up to 50% off"
"""
BATCH = """\
[launch]
name = "Sale ${key}"
push_time = "now"
[[launch.messages]]
language = "en"
title = "Sale"
body = "Up to 50% off"
"""
STREAM = """\
[launch]
name = "Sale ${key}"
sender_id = "user-0001"
segment_ids = ["segment-${key}"]
message_template = { text = "Hi {{ receiver.name }}" }
"""


def head(vendor: Vendor, **instead: str) -> str:
    """Return job and account; `instead` replaces a credential."""
    account = ACCOUNTS[vendor.provider].format(**{**vendor.given, **instead})
    return HEAD.format(provider=vendor.provider, url=vendor.url, account=account)


def limits(text: str, *endpoints: str) -> str:
    return "[limits]\n" + "".join(f'"{name}" = "{text}"\n' for name in endpoints)


def folder_of(path: Path, vendor: Vendor, text: str, *, rows: int | Iterable[Iterable[object]] = 0) -> Folder:
    """Write the job and, with a number of `rows`, an audience of so many."""
    folder = Folder(path, text, SECRET=vendor.given[SECRETS[vendor.provider]])
    if rows:
        numbered = ((f"k{one:04}", one) for one in range(1, rows + 1)) if isinstance(rows, int) else rows
        folder.csv("rows.csv", "key,segment", numbered)
    return folder
