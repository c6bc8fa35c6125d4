"""`init`, `plan` and `run --emulate` for every provider, with nothing set up."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.end_to_end.vendor import Folder

SECRETS = {
    "insider": "INSIDER_TOKEN",
    "usercom": "USERCOM_TOKEN",
    "batch": "BATCH_REST_KEY",
    "stream": "STREAM_SECRET",
}


@pytest.mark.parametrize("provider", SECRETS)
def test_a_starter_is_planned_and_rehearsed_as_it_stands(tmp_path: Path, provider: str) -> None:
    folder = Folder(tmp_path)
    for name in SECRETS.values():
        folder.env.pop(name, None)
    assert folder.command("init", provider).code == 0
    written = sorted(one.name for one in tmp_path.iterdir())
    assert f"{provider}.toml" in written
    job = (f"{provider}.toml", "--var", "day=2026-04-01")
    planned = folder.command("plan", *job)
    assert planned.code == 0, planned.err
    assert SECRETS[provider] in planned.out + planned.err
    assert "warning" in (planned.out + planned.err).lower()
    done = folder.command("run", *job, "--emulate", "--json")
    assert done.code == 0, done.err
    assert done.json["state"] == "done"
    rows = len(next(tmp_path.glob("*.csv")).read_text("utf-8").splitlines()) - 1
    assert done.sends == {"total": rows, "accepted": rows, "rejected": 0, "unknown": 0, "pending": 0}
    assert sorted(one.name for one in tmp_path.iterdir()) == written
