"""A real emulator process, a job folder beside it, and the `bulksend` command: in the test, or as a process."""

from __future__ import annotations

import contextlib
import io
import json
import os
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Self
from unittest import mock
from urllib.request import urlopen

from tests.forked import Forked

BULKSEND = [sys.executable, "-m", "bulksend"]
Process = subprocess.Popen[str] | Forked
STARTED: list[Process] = []
"""The commands of the test that runs; those that it leaves behind when it fails are ended after it."""
SETTLED = ("send.accepted", "send.rejected", "send.unknown")
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
    """One emulator process; a context manager that ends it. `given` is what it says of itself: url and credentials."""

    def __init__(self, *flags: str, accounts: int = 1, provider: str = "insider") -> None:
        command = ["emulate", provider, "--port", "0", "--accounts", str(accounts), *flags]
        self.process = Forked(command, env=os.environ, err=False)
        line = self.process.stdout.readline()
        assert line, "the emulator did not come up"
        self.provider = provider
        self.given: dict[str, Any] = json.loads(line)[provider]
        self.url: str = self.given["url"]
        self.partner_id: str = self.given.get("partner_id", "")
        self.token: str = self.given.get("token", "")
        self.accounts: list[dict[str, str]] = self.given.get("accounts", [self.given])

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.terminate()
        self.process.communicate(timeout=20)

    def _get(self, path: str) -> Any:
        with urlopen(f"{self.url}/_emulator/{path}", timeout=20) as reply:
            return json.load(reply)

    def effects(self, endpoint: str) -> list[dict[str, Any]]:
        """List what took effect there, in order: `ref`, `account`, `body`."""
        return [one for one in self._get("effects")["effects"] if one["endpoint"] == endpoint]

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
        self.wait_for(number, "insider.launch")

    def wait_for(self, number: int, endpoint: str) -> None:
        for _ in range(2000):
            if self.stats(endpoint)["effects"] >= number:
                return
            time.sleep(0.02)
        raise AssertionError(f"{number} effects of {endpoint} never came")


class Folder:
    """A folder with a job file of any text, and the command run in it."""

    def __init__(self, path: Path, text: str = "", **secrets: str) -> None:
        self.path = path
        self.file = path / "job.toml"
        if text:
            self.file.write_text(text, "utf-8")
        self.env = {**os.environ, **secrets, "NO_COLOR": "1"}

    def edit(self, old: str, new: str) -> None:
        text = self.file.read_text("utf-8")
        assert old in text
        self.file.write_text(text.replace(old, new), "utf-8")

    def csv(self, name: str, columns: str, rows: Iterable[Iterable[object]]) -> None:
        lines = [",".join(map(str, row)) for row in rows]
        (self.path / name).write_text("\n".join([columns, *lines]) + "\n", "utf-8")

    @property
    def _has_own_path(self) -> bool:
        return self.env.get("PYTHONPATH") != os.environ.get("PYTHONPATH")

    def start(self, *arguments: str) -> Process:
        """Start a command as a process of its own; one whose modules are to be found elsewhere is not forked."""
        process = (
            subprocess.Popen(
                [*BULKSEND, *arguments],
                cwd=self.path,
                env=self.env,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            if self._has_own_path
            else Forked(arguments, cwd=self.path, env=self.env)
        )
        STARTED.append(process)
        return process

    def command(self, *arguments: str) -> Done:
        """Run a command to its end, in this process where it leaves nothing behind there: a fifth of the time.

        `start` always makes a process.
        """
        if self._has_own_path or arguments[0] == "loadtest" or "--log-file" in arguments:
            return finish(self.start(*arguments))
        from bulksend.cli.app import app

        out, err = io.StringIO(), io.StringIO()
        code = 0
        with (
            mock.patch.dict(os.environ, self.env, clear=True),
            mock.patch.object(sys, "stdin", io.StringIO()),
            contextlib.chdir(self.path),
            contextlib.redirect_stdout(out),
            contextlib.redirect_stderr(err),
        ):
            try:
                app(arguments, prog_name="bulksend")
            except SystemExit as ended:
                code = ended.code if isinstance(ended.code, int) else int(ended.code is not None)
        return Done(code, out.getvalue(), err.getvalue())

    def run(self, *arguments: str) -> Done:
        return self.command("run", "job.toml", "--json", *arguments)

    def settled(self) -> dict[str, dict[str, Any]]:
        """Return by key the last event that settled each send, from the log file `events.jsonl`."""
        lines = (self.path / "events.jsonl").read_text("utf-8").splitlines()
        events = (json.loads(line) for line in lines)
        return {one["key"]: one for one in events if one["event"] in SETTLED}


class JobFolder(Folder):
    """A folder with an Insider job for a vendor."""

    def __init__(self, path: Path, vendor: Vendor, *, job: str = "sale", rows: int = 100, extra: str = "") -> None:
        text = BASE.format(job=job, partner_id=vendor.partner_id, url=vendor.url)
        super().__init__(path, text + extra, INSIDER_TOKEN=vendor.token)
        self.vendor = vendor
        self.rows(rows)

    def rows(self, number: int) -> None:
        self.csv("stores.csv", "store_id,city", ((f"{one:05}", "Oslo") for one in range(1, number + 1)))


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


def finish(process: Process) -> Done:
    out, err = process.communicate(timeout=90)
    return Done(process.returncode, out, err)
