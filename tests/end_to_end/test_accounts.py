"""Several accounts in one job: one that waits, is refused, or is not there holds up no other."""

from __future__ import annotations

import signal
import time
from pathlib import Path

import pytest

from tests.end_to_end import jobs
from tests.end_to_end.vendor import Folder, Vendor, finish

ROWS = 60
WAITING = 3000
"""Rows of the account that waits, which come first: more than a run holds in hand, so that they must be parted."""
ACCOUNT = '[account.{name}]\n{ids}\nbase_url = "{url}"\n'
MANY = {
    "insider": ("insider.create", "insider.launch"),
    "usercom": ("usercom.create",),
    "batch": ("batch.create", "batch.update"),
    "stream": ("stream.campaign.create", "stream.campaign.start"),
}
TEXTS = {"insider": jobs.INSIDER, "usercom": jobs.USERCOM, "batch": jobs.BATCH, "stream": jobs.STREAM}
LAST = {name: endpoints[-1] for name, endpoints in MANY.items()}


def write(path: Path, one: Vendor, two: Vendor, *, first: int = ROWS) -> Folder:
    """Write a job with the accounts `one` and `two`, each at a vendor of its own; the `first` rows are all of `one`."""
    provider = one.provider
    text = f'job = "sale"\n[account]\nprovider = "{provider}"\n'
    secrets = {}
    for name, vendor in (("one", one), ("two", two)):
        ids = jobs.ACCOUNTS[provider].format(**vendor.given).replace("env:SECRET", f"env:SECRET_{name}")
        text += ACCOUNT.format(name=name, ids=ids, url=vendor.url)
        secrets[f"SECRET_{name}"] = vendor.given[jobs.SECRETS[provider]]
    text += jobs.AUDIENCE + 'account = "${brand}"\n' + TEXTS[provider] + jobs.limits("600/s", *MANY[provider])
    folder = Folder(path, text, **secrets)
    names = ["one"] * first + ["two"] * ROWS
    folder.csv("rows.csv", "key,segment,brand", ((f"k{at:04}", at, name) for at, name in enumerate(names, 1)))
    return folder


@pytest.mark.parametrize(
    ("provider", "flag"),
    [
        ("insider", "--precheck"),
        ("insider", "--no-precheck"),
        ("batch", "--precheck"),
        ("stream", "--precheck"),
    ],
)
def test_an_account_that_was_told_to_wait_holds_up_no_other(tmp_path: Path, provider: str, flag: str) -> None:
    told = "insider.launch" if provider == "insider" else MANY[provider][0]
    wait = ("--fault", f"{told}=429-retry-after=3600:100%")
    with Vendor(*wait, "--seed", "1", provider=provider) as one, Vendor("--seed", "2", provider=provider) as two:
        folder = write(tmp_path, one, two, first=WAITING)
        running = folder.start("run", "job.toml", "--json", flag)
        two.wait_for(ROWS, LAST[provider])
        time.sleep(0.2)  # let the last replies arrive; what is in flight is finished anyway
        if provider == "batch":
            assert folder.command("stop", "job.toml").code == 0
        else:
            running.send_signal(signal.SIGTERM)
        done = finish(running)
        assert done.code == 75, done.err
        total = WAITING + ROWS
        assert done.sends == {"total": total, "accepted": ROWS, "rejected": 0, "unknown": 0, "pending": WAITING}
        assert one.stats(LAST[provider])["effects"] == 0
        assert two.stats(LAST[provider])["calls"] == two.stats(LAST[provider])["effects"] == ROWS


@pytest.mark.parametrize(("provider", "flag"), [("insider", "--precheck"), ("stream", "--no-precheck")])
def test_an_account_whose_token_is_refused_ends_alone(tmp_path: Path, provider: str, flag: str) -> None:
    with Vendor("--seed", "1", provider=provider) as one, Vendor("--seed", "2", provider=provider) as two:
        folder = write(tmp_path, one, two)
        good = folder.env["SECRET_one"]
        folder.env["SECRET_one"] = "a-wrong-secret"
        done = folder.run(flag)
        assert done.code == 1
        assert "HTTP 401" in done.err
        assert "a-wrong-secret" not in done.err + done.out
        assert done.sends == {"total": 2 * ROWS, "accepted": ROWS, "rejected": 0, "unknown": 0, "pending": ROWS}
        assert one.stats(LAST[provider])["effects"] == 0
        assert two.stats(LAST[provider])["effects"] == ROWS
        folder.env["SECRET_one"] = good
        again = folder.run(flag)
        assert again.code == 0, again.err
        assert again.sends["accepted"] == 2 * ROWS
        assert one.stats(LAST[provider])["effects"] == two.stats(LAST[provider])["effects"] == ROWS


@pytest.mark.parametrize("flag", ["--precheck", "--no-precheck"])
def test_an_account_whose_title_is_taken_ends_alone(tmp_path: Path, flag: str) -> None:
    with Vendor("--seed", "1") as one, Vendor("--seed", "2") as two:
        before = tmp_path / "before"
        before.mkdir()
        text = jobs.head(one).replace('"sale"', '"before"') + jobs.AUDIENCE + jobs.INSIDER
        assert jobs.folder_of(before, one, text, rows=1).run().code == 0
        folder = write(tmp_path, one, two)
        done = folder.run(flag)
        assert done.code == 1
        assert "title may be taken" in done.err
        assert "account one" in done.err
        assert done.sends == {"total": 2 * ROWS, "accepted": ROWS, "rejected": 0, "unknown": 0, "pending": ROWS}
        assert one.stats()["effects"] == 1
        assert two.stats()["effects"] == ROWS
