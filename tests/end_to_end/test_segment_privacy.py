"""Who is in a segment is nobody else's business: files are the owner's, gone when done, and logs name no target."""

from __future__ import annotations

import json
import stat
from pathlib import Path

from tests.end_to_end.segments import (
    DELETE,
    DESIRED,
    FAST,
    LAUNCH,
    TARGET,
    Stream,
    files_beside,
    kill,
    numbered,
    segment_job,
    wait_until,
)
from tests.end_to_end.vendor import Folder

MARK = "zebra-"
REMOTE, WANTED = numbered(range(3000), MARK), numbered(range(1000, 4000), MARK)


def test_no_id_and_no_secret_leaves_the_files_of_the_reconciliation(tmp_path: Path) -> None:
    with Stream("--fault", f"{DELETE}=500:20%", "--fault", f"{DELETE}=not-json:10%") as vendor:
        vendor.put(REMOTE)
        secret = vendor.given["api_secret"]
        limits = FAST.replace(f'"{DELETE}" = "1000/s"', f'"{DELETE}" = "8/s"')
        guard = '[guard]\nmax_remove = "1%"\n'
        folder = segment_job(tmp_path, vendor, WANTED, text=TARGET + DESIRED + guard + LAUNCH, limits=limits)
        refused = folder.run("--log-file", "events.jsonl")
        assert refused.code == 4, refused.err
        found = refused.json["segment"]["hash"]
        assert files_beside(folder) == []

        running = folder.start("run", "job.toml", "--json", "--log-file", "events.jsonl", "--apply", found)
        wait_until(lambda: vendor.calls(DELETE) >= 4, running)
        kill(running)
        kept = _are_the_owners(folder)
        assert any(MARK.encode() in data for data in kept)
        assert not any(secret.encode() in data for data in kept)
        folder.edit('"8/s"', '"1000/s"')
        done = folder.run("--log-file", "events.jsonl", "--log", "json")
        assert done.code == 0, done.err
        assert vendor.targets() == WANTED
        assert files_beside(folder) == []

        status = folder.command("status", "job.toml", "--json")
        assert status.json["segment"]["hash"] == found
        # The words for a person show the first few ids of each side; what is data shows none.
        words = "".join(f"{one.err}\n{one.out}\n" for one in (refused, done, status))
        assert secret not in words
        assert done.events
        told = [refused.out, done.out, status.out, *(json.dumps(one) for one in (*refused.events, *done.events))]
        left = [path for path in tmp_path.rglob("*") if path.is_file() and path.name not in ("desired.csv", "job.toml")]
        assert {path.name for path in left} >= {"bulksend.db", "events.jsonl"}
        for data in [*(text.encode() for text in told), *(path.read_bytes() for path in left)]:
            assert MARK.encode() not in data
            assert secret.encode() not in data


def _are_the_owners(folder: Folder) -> list[bytes]:
    """See that what stands beside the ledger is for its owner alone, and return what the files hold."""
    kept = []
    for path in files_beside(folder):
        for one in (path, *path.rglob("*")):
            mode = stat.S_IMODE(one.stat().st_mode)
            assert mode == (0o700 if one.is_dir() else 0o600), one
            if one.is_file():
                kept.append(one.read_bytes())
    assert kept
    return kept
