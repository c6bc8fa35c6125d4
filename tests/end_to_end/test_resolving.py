"""`resolve`: the vendor is asked, a person's word is taken, nothing is sent, and who said what is kept."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import time
from collections import Counter
from collections.abc import Iterable
from contextlib import ExitStack, closing, suppress
from pathlib import Path
from typing import Any

import pytest

import bulksend
from bulksend.api import word
from bulksend.engine import retry
from bulksend.ledger.base import Change, Intent, Scope, SendRecord
from bulksend.ledger.sqlite import SqliteLedger
from bulksend.model import State
from tests.end_to_end import jobs
from tests.end_to_end.test_lookups import ENDPOINTS, JUDGES, text_of
from tests.end_to_end.vendor import Folder, JobFolder, Vendor, finish

ROWS = 12
TEXT = """
job = "sale"
[account]
provider = "insider"
partner_id = "1"
token = "env:INSIDER_TOKEN"
base_url = "http://127.0.0.1:9"
[audience]
from = "rows.csv"
key = "id"
[launch]
campaign_id = 7
title = "Sale"
description = "Up to 50% off"
image = "https://example.com/icon.png"
link = "https://example.com/"
ttl = "1 day"
target = { attribute = "c_id", values = ["${id}"] }
"""


def job_of(path: Path, unknown: int = 0, *, text: str = TEXT, vendor: str | None = None, **more: State) -> Folder:
    """Write a job whose ledger has so many unknown sends, `k0001` first, and one in each other state."""
    folder = Folder(path, text, INSIDER_TOKEN="t")
    keys = {f"k{one:04}": State.UNKNOWN for one in range(1, unknown + 1)} | more
    folder.csv("rows.csv", "id,name", ((key, f"row of {key}") for key in keys))

    async def fill() -> None:
        ledger = SqliteLedger(path / "bulksend.db")
        await ledger.open(create=True)
        job, _ = await ledger.start_job("sale", "a test", vendor=vendor)
        await ledger.set_size(job.id, rows=len(keys), sends=len(keys))
        numbered = list(enumerate(keys.items(), 1))
        await asyncio.gather(
            *(ledger.record(job.id, Intent(Scope.SEND, key, "default", row, 0, 0)) for row, (key, _) in numbered)
        )
        changes = (
            Change(Scope.SEND, key, State.SENDING, to, 0, ref=f"r{row}", reason="no reply", status=502)
            for row, (key, to) in numbered
        )
        await asyncio.gather(*(ledger.record(job.id, one) for one in changes if one.to is not State.SENDING))
        await ledger.end_job(job.id, bulksend.JobState.DONE, {}, counts_as_finish=True)
        await ledger.close()

    asyncio.run(fill())
    return folder


def states(folder: Folder) -> dict[str, str]:
    with closing(sqlite3.connect(folder.path / "bulksend.db")) as db:
        return dict(db.execute("SELECT key, state FROM send WHERE scope = 'send'").fetchall())


def audit(folder: Folder) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = folder.command("status", "job.toml", "--audit", "--json").json["audit"]
    return found


# Asking the vendor


CASES = [
    ("stream", "stream.campaign.create", True),
    ("stream", "stream.campaign.start", True),
    ("batch", "batch.create", True),
    ("batch", "batch.update", True),
    ("batch direct", "batch.create", False),
    ("usercom", "usercom.create", False),
]


async def cut_off(folder: Folder, vendor: Vendor, endpoint: str) -> None:
    """Run until the first effect of an endpoint, and end there as a second Ctrl-C does."""
    running = asyncio.create_task(bulksend.run_async(folder.file))
    for _ in range(2000):
        await asyncio.sleep(0.01)
        if (await asyncio.to_thread(vendor.stats, endpoint))["effects"]:
            break
    running.cancel()
    with suppress(asyncio.CancelledError):
        await running


async def ask(folder: Folder, vendor: Vendor, kind: str, last: str, is_known: bool) -> None:
    writes = [name for name in ENDPOINTS[vendor.provider] if not name.endswith((".get", ".list"))]

    async def calls() -> dict[str, int]:
        return {name: (await asyncio.to_thread(vendor.stats, name))["calls"] for name in writes}

    await cut_off(folder, vendor, last)
    cut = (await bulksend.status_async(folder.file)).unknown
    assert cut > 0, kind
    before = await calls()
    told = await bulksend.resolve_async(folder.file)
    assert await calls() == before, kind  # nothing was sent
    assert told.accepted + told.pending + len(told.left) == cut, kind
    assert told.accepted + told.pending > 0, kind
    if is_known:
        assert not told.left, kind
    if last not in ("stream.campaign.create", "batch.create") or kind == "batch direct":
        assert told.accepted > 0, kind
    found = [one async for one in bulksend.audit_async(folder.file)]
    assert len(found) == told.accepted + told.pending, kind
    assert all(one.frm is State.UNKNOWN and one.to in (State.ACCEPTED, State.PENDING) for one in found), kind
    assert all("lookup" in (one.reason or "") or "no harm" in (one.reason or "") for one in found), kind
    assert all(one.by and one.host for one in found), kind
    # The next run goes on, and nobody was reached twice.
    again = await bulksend.run_async(folder.file)
    assert (again.unknown, again.accepted) == (len(told.left), ROWS - len(told.left)), kind
    assert max((await asyncio.to_thread(JUDGES[vendor.provider], vendor)).values()) == 1, kind


def test_the_vendor_is_asked_and_nothing_is_sent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    async def main(made: list[tuple[Folder, Vendor]]) -> None:
        pairs = zip(made, CASES, strict=True)
        await asyncio.gather(*(ask(*one, kind, last, is_known) for one, (kind, last, is_known) in pairs))

    with ExitStack() as stack:
        made = []
        for number, (kind, last, _) in enumerate(CASES):
            slow = ("--fault", f"{last}=slow=700ms:100%")  # cut off after the effect, before the reply
            flags = ("--latency", "60ms±55ms", *slow)
            vendor = stack.enter_context(Vendor(*flags, provider=kind.partition(" ")[0]))
            (tmp_path / str(number)).mkdir()
            text = text_of(vendor, kind).replace("env:SECRET", f"env:SECRET_{number}")
            made.append((jobs.folder_of(tmp_path / str(number), vendor, text, rows=ROWS), vendor))
            monkeypatch.setenv(f"SECRET_{number}", made[-1][0].env["SECRET"])
        asyncio.run(main(made))


def test_an_insider_launch_cannot_be_asked_for_and_no_call_is_made(tmp_path: Path) -> None:
    folder = job_of(tmp_path, 3)
    folder.env.pop("INSIDER_TOKEN")  # who makes no call needs no secret
    done = folder.command("resolve", "job.toml", "--json")
    assert done.code == 0, done.err
    assert (done.json["accepted"], done.json["pending"], len(done.json["unknown"])) == (0, 0, 3)
    assert audit(folder) == []
    assert set(states(folder).values()) == {"unknown"}


def test_what_the_vendor_does_not_tell_is_left_with_the_reason(tmp_path: Path) -> None:
    with Vendor("--fault", "usercom.create=reset-before:100%", provider="usercom") as vendor:
        folder = jobs.folder_of(tmp_path, vendor, text_of(vendor, "usercom"), rows=2)
        assert folder.run().sends["unknown"] == 2
        folder.edit("[limits]", '[policy]\non_unknown = "resend"\n[limits]')  # for runs: no answer of the vendor
        done = folder.command("resolve", "job.toml")
        assert done.code == 0
        assert done.out.count("in the list, which is no proof") == 2
        assert "2 are still unknown" in done.err
        folder.env["SECRET"] = "wrong"
        # The row of one is gone: it is not asked for, and stays.
        folder.csv("rows.csv", "key,segment", [("k0001", 1), ("other", 3)])
        left = folder.command("resolve", "job.toml", "--json").json["unknown"]
        assert [(one["key"], "401" in one["reason"]) for one in left] == [("k0001", True), ("k0002", False)]
        assert vendor.stats("usercom.create")["calls"] == 2
        assert audit(folder) == []


def asking(path: Path, provider: str, rows: int, *flags: str, **more: str) -> tuple[Folder, Vendor]:
    """Start a vendor, and write a job of which each send is unknown and can be asked for."""
    vendor = Vendor(*flags, provider=provider)
    text = {"usercom": jobs.USERCOM, "stream": jobs.STREAM}[provider]
    limits = "[limits]\n" + "".join(f'"{name.replace("_", ".")}" = "{limit}"\n' for name, limit in more.items())
    folder = jobs.folder_of(path, vendor, jobs.head(vendor) + jobs.AUDIENCE + text + limits, rows=rows)
    job_of(path, rows, text="", vendor=f"{provider} at {vendor.url}")
    folder.csv("rows.csv", "key,segment", ((f"k{one:04}", one) for one in range(1, rows + 1)))
    return folder, vendor


@pytest.mark.parametrize("is_there", [True, False])
def test_a_vendor_that_is_down_is_not_asked_for_an_hour(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, is_there: bool
) -> None:
    monkeypatch.setattr(retry, "UNREACHABLE_S", 0.5)
    folder, vendor = asking(tmp_path, "usercom", 60, "--fault", "usercom.list=503:100%", usercom_list="500/s")
    with vendor:
        if not is_there:
            vendor.process.terminate()
            vendor.process.communicate(timeout=20)
        began_s = time.monotonic()
        done = folder.command("resolve", "job.toml")
        assert time.monotonic() - began_s < 8.0
        assert done.code == 75
        says = "usercom.list is down (HTTP 503)" if is_there else "usercom.list: the lookup failed: no connection"
        assert says in done.err
        assert "resolve goes on with the rest" in done.err
        if is_there:
            assert vendor.stats("usercom.list")["calls"] < 40
    assert set(states(folder).values()) == {"unknown"}
    assert audit(folder) == []


def test_what_a_stop_cuts_off_is_not_settled(tmp_path: Path) -> None:
    """Though making these again does no harm: the vendor was not asked, and may have them."""
    folder, vendor = asking(tmp_path, "stream", 60, stream_campaign_get="10/s")
    with vendor:
        asked = folder.start("resolve", "job.toml")
        while (vendor.stats("stream.campaign.get"))["calls"] < 3:
            time.sleep(0.02)
        asked.send_signal(signal.SIGINT)
        done = finish(asked)
        assert done.code == 75
        assert "stopped by SIGINT" in done.err
        settled = [one for one in states(folder).values() if one != "unknown"]
        assert 0 < len(settled) <= vendor.stats("stream.campaign.get")["calls"] < 60
        assert len(audit(folder)) == len(settled)


# A person's word


@pytest.mark.parametrize("flags", [("--all",), ("--file", "keys.txt")])
def test_a_word_that_is_stopped_says_how_far_it_came(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, flags: tuple[str, ...]
) -> None:
    folder = job_of(tmp_path, 5)
    (tmp_path / "keys.txt").write_text("".join(f"k{one:04}\n" for one in range(1, 6)))
    monkeypatch.setattr("bulksend.api.key_file.BATCH", 2)
    monkeypatch.setattr("bulksend.ledger.sqlite.PAGE", 2)
    record = word.Word._record

    async def stop_after(self: word.Word, records: Iterable[SendRecord], to: State) -> None:
        await record(self, records, to)
        signal.raise_signal(signal.SIGTERM)
        await asyncio.sleep(0.05)

    with monkeypatch.context() as patched:
        patched.setattr(word.Word, "_record", stop_after)
        done = folder.command("resolve", "job.toml", "--accept", *flags)
    assert done.code == 75
    assert "stopped by SIGTERM; 2 sends were settled, and the same again settles the rest" in done.err
    assert Counter(states(folder).values()) == {"accepted": 2, "unknown": 3}
    assert folder.command("resolve", "job.toml", "--accept", *flags, "--json").json["accepted"] == 3
    assert len(audit(folder)) == 5


def test_one_change_and_its_audit_row_are_one_transaction(tmp_path: Path) -> None:
    folder = job_of(tmp_path, 3)
    assert folder.command("resolve", "job.toml", "--accept", "k0001").code == 0
    with closing(sqlite3.connect(tmp_path / "bulksend.db")) as db:
        db.execute("CREATE TRIGGER no BEFORE INSERT ON audit BEGIN SELECT raise(ABORT, 'no audit'); END")
        db.commit()
    done = folder.command("resolve", "job.toml", "--accept", "k0002")
    assert done.code == 1
    assert "no audit" in done.err
    assert states(folder) == {"k0001": "accepted", "k0002": "unknown", "k0003": "unknown"}
    with closing(sqlite3.connect(tmp_path / "bulksend.db")) as db:
        db.execute("DROP TRIGGER no")
        db.commit()
    assert [one["key"] for one in audit(folder)] == ["k0001"]


def test_the_audit_says_who_when_and_what(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("getpass.getuser", lambda: "ann")
    monkeypatch.setattr("socket.gethostname", lambda: "desk")
    folder = job_of(tmp_path, 3)
    assert folder.command("resolve", "job.toml", "--accept", "k0002").code == 0
    assert folder.command("resolve", "job.toml", "--resend", "--all", "--by", "Bob of the night shift").code == 0
    found = audit(folder)
    first = found[0]
    at = first.pop("at")
    assert isinstance(at, str)
    assert at.endswith("Z")
    assert first == {
        "key": "k0002",
        "row": 2,
        "account": "default",
        "from": "unknown",
        "to": "accepted",
        "step": "insider.launch",
        "reason": "settled by a person",
        "by": "ann",
        "host": "desk",
    }
    assert [(one["key"], one["to"], one["by"]) for one in found[1:]] == [
        ("k0001", "pending", "Bob of the night shift"),
        ("k0003", "pending", "Bob of the night shift"),
    ]
    shown = folder.command("status", "job.toml", "--audit").out
    assert "ann on desk" in shown
    assert "unknown -> accepted" in shown


@pytest.mark.parametrize("name", ["", "  ", "a\nb", "x" * 201])
def test_a_name_that_is_none_is_refused(tmp_path: Path, name: str) -> None:
    folder = job_of(tmp_path, 1)
    done = folder.command("resolve", "job.toml", "--accept", "--all", "--by", name)
    assert done.code == 2
    assert "--by" in done.err
    assert states(folder) == {"k0001": "unknown"}


def test_a_user_without_a_name_is_known_by_number(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def nobody() -> str:
        raise KeyError("uid not found")

    monkeypatch.setattr("getpass.getuser", nobody)
    folder = job_of(tmp_path, 1)
    assert folder.command("resolve", "job.toml", "--accept", "--all").code == 0
    assert audit(folder)[0]["by"].startswith("uid ")


def test_when_the_job_was_started_is_not_changed_by_resolving(tmp_path: Path) -> None:
    folder = job_of(tmp_path, 2)
    started = bulksend.status(folder.file).started_at
    assert folder.command("resolve", "job.toml", "--accept", "k0001").code == 0
    assert bulksend.status(folder.file).started_at == started


def test_more_than_one_page_is_settled(tmp_path: Path) -> None:
    folder = job_of(tmp_path, 2500)
    assert folder.command("resolve", "job.toml", "--accept", "--all", "--json").json["accepted"] == 2500
    assert len(audit(folder)) == 2500


# By file


def files(path: Path, keys: list[str]) -> dict[str, Path]:
    import duckdb

    csv, jsonl, parquet, text = (path / f"keys.{one}" for one in ("csv", "jsonl", "parquet", "txt"))
    csv.write_text("name,id\n" + "".join(f'"a, b",{key}\n' for key in keys), "utf-8")
    jsonl.write_text("".join(json.dumps({"x": 1, "id": key}) + "\n" for key in keys), "utf-8")
    with duckdb.connect() as db:
        db.execute(f"copy (select unnest({keys!r}) as id) to '{parquet}'")
    text.write_text("\r\n".join(["", *keys, ""]), "utf-8-sig")
    return {"csv": csv, "jsonl": jsonl, "parquet": parquet, "txt": text}


@pytest.mark.parametrize("kind", ["csv", "jsonl", "parquet", "txt"])
def test_a_file_names_the_keys(tmp_path: Path, kind: str) -> None:
    folder = job_of(tmp_path, 2, **{"0007": State.UNKNOWN, "1e3": State.UNKNOWN})
    (tmp_path / "in").mkdir()
    path = files(tmp_path / "in", ["0007", "k0002"])[kind]
    done = folder.command("resolve", "job.toml", "--accept", "--file", str(path.relative_to(tmp_path)), "--json")
    assert done.code == 0, done.err
    assert done.json["accepted"] == 2
    assert states(folder) == {"k0001": "unknown", "k0002": "accepted", "0007": "accepted", "1e3": "unknown"}
    # The same again changes nothing, and is no error: it may have been cut off half way.
    again = folder.command("resolve", "job.toml", "--accept", "--file", str(path), "--json")
    assert (again.code, again.json["accepted"]) == (0, 0)
    assert len(audit(folder)) == 2
    if kind == "txt":
        other = folder.command("resolve", "job.toml", "--resend", "--file", str(path))
        assert other.code == 2
        assert "is accepted, not unknown" in other.err


def test_one_wrong_key_in_a_file_changes_nothing(tmp_path: Path) -> None:
    folder = job_of(tmp_path, 1500)
    (tmp_path / "keys.txt").write_text("\n".join([*(f"k{one:04}" for one in range(1, 1501)), "k9999", "k9998"]))
    done = folder.command("resolve", "job.toml", "--accept", "--file", "keys.txt")
    assert done.code == 2
    assert "k9999" in done.err
    assert "k9998" in done.err
    assert set(states(folder).values()) == {"unknown"}


def test_a_key_twice_in_a_file_is_settled_once(tmp_path: Path) -> None:
    folder = job_of(tmp_path, 2)
    (tmp_path / "keys.txt").write_text("k0001\n" * 1200)
    assert folder.command("resolve", "job.toml", "--resend", "--file", "keys.txt", "--json").json["pending"] == 1
    assert len(audit(folder)) == 1


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("none.txt", None, "none.txt"),
        ("none.csv", None, "file not found"),
        ("keys.csv", b"key\nk0001\n", "no key column 'id'"),
        ("keys.txt", b"k0001\n\xff\xfe\n", "keys.txt:2: is not UTF-8 text"),
        ("keys.txt", b"\n\n", "names no key"),
        ("keys.jsonl", b"k0001\n", "JSON object"),
    ],
)
def test_a_file_that_is_none_is_refused(tmp_path: Path, name: str, content: bytes | None, says: str) -> None:
    folder = job_of(tmp_path, 1)
    if content is not None:
        (tmp_path / name).write_bytes(content)
    done = folder.command("resolve", "job.toml", "--accept", "--file", name)
    assert done.code == 2
    assert says in done.err
    assert states(folder) == {"k0001": "unknown"}


def test_a_pipe_of_keys_is_refused_since_it_is_read_once_only(tmp_path: Path) -> None:
    folder = job_of(tmp_path, 1)
    os.mkfifo(tmp_path / "keys")
    for name in ("keys", "/dev/stdin", "k" * 300):
        done = folder.command("resolve", "job.toml", "--accept", "--file", name)
        assert done.code == 2, name
        assert "--file" in done.err
    assert states(folder) == {"k0001": "unknown"}


@pytest.mark.parametrize(
    "arguments", [("--file", "a.txt"), ("--accept", "--file", "a.txt", "k1"), ("--accept", "--file", "a.txt", "--all")]
)
def test_a_file_stands_alone_and_needs_a_word(tmp_path: Path, arguments: tuple[str, ...]) -> None:
    done = job_of(tmp_path, 1).command("resolve", "job.toml", *arguments)
    assert done.code == 2
    assert "--accept or --resend" in done.err or "--file" in done.err


# status --unknown


def test_every_unknown_is_listed_with_what_is_known(tmp_path: Path) -> None:
    folder = job_of(tmp_path, 1200, gone=State.SENDING, done=State.ACCEPTED)
    told = folder.command("status", "job.toml", "--unknown", "--json").json
    assert told["sends"]["unknown"] == 1201
    assert len(told["unknown"]) == 1201
    first, last = told["unknown"][0], told["unknown"][-1]
    at = first.pop("at")
    assert at.endswith("Z")
    assert first == {
        "key": "k0001",
        "row": 1,
        "account": "default",
        "state": "unknown",
        "step": "insider.launch",
        "reason": "no reply",
        "status": 502,
        "attempts": 1,
        "refs": ["r1"],
    }
    # What a process that died left in flight is unknown as well.
    assert (last["key"], last["reason"]) == ("gone", "the process ended while the call was under way")
    words = folder.command("status", "job.toml", "--unknown")
    assert words.out.count("\nunknown  ") == 1201
    assert "insider.launch" in words.out
    assert "HTTP 502" in words.out


def test_the_campaign_is_listed_with_its_launches(tmp_path: Path) -> None:
    with Vendor("--fault", "insider.launch=reset-after:100%") as vendor:
        folder = JobFolder(tmp_path, vendor, rows=2)
        folder.run()
        (campaign,) = {str(one["ref"]) for one in vendor.effects("insider.create")}
        told = folder.command("status", "job.toml", "--unknown", "--json").json["unknown"]
        assert [one["refs"] for one in told] == [[campaign]] * 2


def test_a_million_is_listed_page_by_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = job_of(tmp_path, 50)
    monkeypatch.setattr("bulksend.ledger.sqlite.PAGE", 10)
    pages: list[int] = []

    async def first_eleven() -> list[str]:
        keys = []
        listing = bulksend.sends_async(folder.file, state=bulksend.State.UNKNOWN)
        async for one in listing:
            keys.append(one.key)
            if len(keys) == 11:
                break
        await listing.aclose()
        return keys

    inner = SqliteLedger.by_state

    async def counted(self: SqliteLedger, job_id: int, state: State) -> Any:
        async for page in inner(self, job_id, state):
            pages.append(len(page))
            yield page

    monkeypatch.setattr(SqliteLedger, "by_state", counted)
    assert asyncio.run(first_eleven())[-1] == "k0011"
    assert pages == [10, 10]


def test_the_library_lists_as_well(tmp_path: Path) -> None:
    folder = job_of(tmp_path, 2)
    assert [one.key for one in bulksend.sends(folder.file, state=bulksend.State.UNKNOWN)] == ["k0001", "k0002"]
    assert list(bulksend.audit(folder.file)) == []
    resolved = bulksend.resolve(folder.file, accept_file=files(tmp_path, ["k0001"])["txt"], by="Bob")
    assert (resolved.accepted, resolved.pending, [one.key for one in resolved.left]) == (1, 0, ["k0002"])
    (entry,) = bulksend.audit(folder.file)
    assert (entry.key, entry.frm, entry.to, entry.by) == ("k0001", State.UNKNOWN, State.ACCEPTED, "Bob")


def test_rejected_sends_are_listed_too(tmp_path: Path) -> None:
    folder = job_of(tmp_path, 1, bad=State.REJECTED)
    told = folder.command("status", "job.toml", "--rejected", "--json").json
    assert [(one["key"], one["state"]) for one in told["rejected"]] == [("bad", "rejected")]
    assert "unknown" not in told
    both = folder.command("status", "job.toml", "--rejected", "--unknown", "--json").json
    assert len(both["rejected"]) == len(both["unknown"]) == 1
