"""What many accounts cost: a thousand with a limit each, beside one that has the limit of all together.

python -m benchmarks accounts [--full]; the judge is `benchmarks/strict.py`, which knows an account by its token.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

from benchmarks.frame import Aim, Result, Row, serving
from benchmarks.share_of_limit import bulksend_job, ended, record
from benchmarks.strict import Stats

__all__ = ["measure"]

ACCOUNTS = 1000
PER_S = 5
"""What each may."""
TOKEN = "benchmark-token-{number:04}"
LEAST_OF_ONE = 0.8
LEAST_SHARE = 0.95

HEAD = """
job = "accounts"
[audience]
sql = "select printf('%07d', i) as id, printf('brand-%04d', i % {accounts}) as brand from range({rows}) numbers(i)"
key = "id"
account = "${{brand}}"
[launch]
campaign_id = 7
title = "Sale in store ${{id}}"
description = "Up to 50% off"
image = "https://example.com/icon.png"
link = "https://example.com/?store=${{id}}"
ttl = "1 day"
target = {{ attribute = "c_store_id", values = ["${{id}}"] }}
[limits]
"insider.launch" = "{calls}/{period_s}s"
"""
ACCOUNT = """
[account.brand-{number:04}]
provider = "insider"
partner_id = "{number:09}"
token = "env:BENCHMARK_TOKEN_{number:04}"
base_url = "{url}"
"""


def measure(*, full: bool) -> Result:
    """Run the same rows with one account, then with many."""
    period_s = 60 if full else 6
    seconds = period_s if full else 3 * period_s
    one, many = (_run(accounts, period_s, seconds) for accounts in (1, ACCOUNTS))
    rate_one, rate_many = one.accepted / seconds, many.accepted / seconds
    slowest = _slowest(many, ACCOUNTS) / (PER_S * seconds)
    about = (
        f"One job, its rows over {ACCOUNTS:,} accounts in turn, {PER_S * period_s}/{period_s}s each, beside the "
        f"same rows over one account at {ACCOUNTS * PER_S * period_s:,}/{period_s}s. A strict sliding-window server "
        f"without latency counts for {seconds} s from the first arrival on. Share: calls accepted of those that the "
        "limit allows."
    )
    return Result(
        "Accounts",
        about,
        [_row("1 account", one, 1, seconds), _row(f"{ACCOUNTS:,} accounts", many, ACCOUNTS, seconds)],
        [
            Aim(
                f"{ACCOUNTS:,} accounts make at least {LEAST_OF_ONE:g} of the calls that one makes",
                rate_many >= LEAST_OF_ONE * rate_one,
                f"{rate_many / rate_one:.3f}",
            ),
            Aim(
                "the slowest account gets its share within 5 %", slowest >= LEAST_SHARE, f"{100 * slowest:.1f} % of it"
            ),
            Aim("no 429", not many.refused, f"{many.refused}"),
        ],
    )


def _row(who: str, stats: Stats, accounts: int, seconds: float) -> Row:
    may = ACCOUNTS * PER_S * seconds
    slowest, mean = _slowest(stats, accounts), stats.accepted / accounts
    return Row(
        who,
        {
            "calls/s": stats.accepted / seconds,
            "share": f"{100 * stats.accepted / may:.1f} %",
            "share of the slowest": f"{100 * slowest * accounts / may:.1f} %",
            "slowest / mean": slowest / mean if mean else None,
            "429s": stats.refused,
        },
    )


def _slowest(stats: Stats, accounts: int) -> int:
    """Return the fewest calls of any account; an account that the server has not seen made none."""
    return min(stats.accounts.values()) if len(stats.accounts) == accounts else 0


def _run(accounts: int, period_s: int, seconds: int) -> Stats:
    calls = PER_S * period_s * ACCOUNTS // accounts
    server = serving("strict", ["--limit", f"{calls}/{period_s}s", "--latency", "0", "--by", "authorization"])
    with tempfile.TemporaryDirectory() as scratch, server as at:
        job = Path(scratch, "job.toml")
        # A third more rows than anybody makes calls in the time, so that no account runs out of them.
        rows = round(ACCOUNTS * PER_S * seconds * 4 / 3)
        head = HEAD.format(accounts=accounts, rows=rows, calls=calls, period_s=period_s)
        tables = [ACCOUNT.format(number=number, url=at["url"]) for number in range(accounts)]
        job.write_text(head + "".join(tables), "utf-8")
        tokens = {f"BENCHMARK_TOKEN_{number:04}": TOKEN.format(number=number) for number in range(accounts)}
        with ended([bulksend_job(job, **tokens)]) as clients:
            return record(at["url"], seconds, clients, Path(scratch))
