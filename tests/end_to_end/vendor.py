"""A real emulator process, a job folder beside it, and the `bulksend` command as a process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any, Self
from urllib.request import urlopen

BULKSEND = [sys.executable, "-m", "bulksend"]
BASE = """
job = "{job}"
[account]
provider = "insider"
partner_id = "{partner_id}"
token = "env:INSIDER_TOKEN"
base_url = "{url}"
[audience]
from = "stores.csv"
key = "store_id"
[create]
title = "{job}"
language = "en_GB"
[launch]
title = "Sale in ${{city}}"
description = "Up to 50% off"
image = "https://example.com/icon.png"
link = "https://example.com/?store=${{store_id}}"
ttl = "1 day"
target = {{ attribute = "c_store_id", values = ["${{store_id}}"] }}
"""


class Vendor:
    """One emulator process; a context manager that ends it."""

    def __init__(self, *flags: str, accounts: int = 1) -> None:
        command = [*BULKSEND, "emulate", "insider", "--port", "0", "--accounts", str(accounts), *flags]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, "the emulator did not come up"
        given = json.loads(line)["insider"]
        self.url: str = given["url"]
        self.partner_id: str = given["partner_id"]
        self.token: str = given["token"]
        self.accounts: list[dict[str, str]] = given.get("accounts", [given])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.communicate(timeout=20)

    def _get(self, path: str) -> Any:
        with urlopen(f"{self.url}/_emulator/{path}", timeout=20) as reply:
            return json.load(reply)

    def launches(self) -> Counter[str]:
        """Count by key what took effect, in the emulator's own log."""
        keys: Counter[str] = Counter()
        for effect in self._get("effects")["effects"]:
            if effect["endpoint"] == "insider.launch":
                keys.update(effect["body"]["target"]["values"])
        return keys

    def bodies(self, endpoint: str = "insider.launch") -> list[dict[str, Any]]:
        return [one["body"] for one in self._get("effects")["effects"] if one["endpoint"] == endpoint]

    def stats(self, endpoint: str = "insider.launch") -> dict[str, Any]:
        return self._get("stats")["endpoints"][endpoint]

    def wait_for_launches(self, number: int) -> None:
        for _ in range(2000):
            if self.stats()["effects"] >= number:
                return
            time.sleep(0.02)
        raise AssertionError(f"{number} launches never took effect")


class JobFolder:
    """A folder with a job for a vendor, and the command run in it."""

    def __init__(self, path: Path, vendor: Vendor, *, job: str = "sale", rows: int = 100, extra: str = "") -> None:
        self.path = path
        self.vendor = vendor
        self.file = path / "job.toml"
        self.rows(rows)
        text = BASE.format(job=job, partner_id=vendor.partner_id, url=vendor.url)
        self.file.write_text(text + extra, "utf-8")
        self.env = {**os.environ, "INSIDER_TOKEN": vendor.token, "NO_COLOR": "1"}

    def rows(self, number: int) -> None:
        lines = [f"{one:05},Oslo" for one in range(1, number + 1)]
        (self.path / "stores.csv").write_text("\n".join(["store_id,city", *lines]) + "\n", "utf-8")

    def edit(self, old: str, new: str) -> None:
        text = self.file.read_text("utf-8")
        assert old in text
        self.file.write_text(text.replace(old, new), "utf-8")

    def start(self, *arguments: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [*BULKSEND, *arguments],
            cwd=self.path,
            env=self.env,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def command(self, *arguments: str) -> Done:
        return finish(self.start(*arguments))

    def run(self, *arguments: str) -> Done:
        return self.command("run", "job.toml", "--json", *arguments)


class Done:
    """A finished process: exit code, words, and the one JSON object on stdout."""

    def __init__(self, code: int, out: str, err: str) -> None:
        self.code, self.out, self.err = code, out, err
        assert "Traceback" not in err, err

    @property
    def json(self) -> dict[str, Any]:
        lines = self.out.splitlines()
        assert len(lines) == 1, self.out
        return json.loads(lines[0])

    @property
    def sends(self) -> dict[str, int]:
        return self.json["sends"]

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.err.splitlines() if line.startswith("{")]


def finish(process: subprocess.Popen[str]) -> Done:
    out, err = process.communicate(timeout=90)
    return Done(process.returncode, out, err)
