"""A folder with a job in it, the command line to try on it, and a loopback port that must hear nothing."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

SECRET = "canary-5ecret-7d1f"
"""The account's token; nothing may ever show it."""
CELL = "canary-cell-93ac"
"""Stands in cells of the audience other than the key; no error may show it."""
TIMEOUT_S = 60

JOB = """\
job = "sale"

[account]
provider = "insider"
partner_id = "100000001"
token = "env:INSIDER_TOKEN"
base_url = "{url}"

[audience]
from = "stores.csv"
key = "store_id"

[create]
title = "Spring sale"
language = "en_GB"

[launch]
title = "Live in ${{city}}"
description = "Up to 50% off"
image = "https://example.com/icon.png"
link = "https://example.com/?store=${{store_id}}"
ttl = "1 day"
target = {{ attribute = "c_store_id", values = ["${{store_id}}"] }}
"""
ROWS = "store_id,city\n0001,Oslo\n0002,Bergen\n0003,Molde\n"


class Listener:
    """A loopback port that counts who connects; each connection is closed without a word."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        self._connections = 0
        self._asked = threading.Semaphore(0)
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self._thread.start()

    def _accept(self) -> None:
        while True:
            connection, _ = self._socket.accept()
            with connection:
                connection.settimeout(5)
                said = connection.recv(1)
            if said == b"q":
                return
            if said == b"?":
                self._asked.release()
            else:
                self._connections += 1

    def _say(self, word: bytes) -> None:
        with socket.create_connection(self._socket.getsockname()) as own:
            own.sendall(word)

    @property
    def connections(self) -> int:
        """How many came so far; a word of our own, behind them in the queue, makes sure that all are counted."""
        self._say(b"?")
        assert self._asked.acquire(timeout=10)
        return self._connections

    def close(self) -> None:
        self._say(b"q")
        self._thread.join(10)
        self._socket.close()


@dataclass(frozen=True)
class Said:
    """How a command ended and what it said."""

    code: int
    stdout: str
    stderr: str

    @property
    def errors(self) -> list[str]:
        """The lines that say what is wrong, without `error: `."""
        lines = self.stderr.splitlines()
        return [line.removeprefix("error: ") for line in lines if line.startswith(("error: ", "… and "))]

    @property
    def warnings(self) -> list[str]:
        return [line.removeprefix("warning: ") for line in self.stderr.splitlines() if line.startswith("warning: ")]

    @property
    def data(self) -> dict[str, Any]:
        """Standard output as the one JSON object that it must be."""
        data = json.loads(self.stdout)
        assert isinstance(data, dict)
        assert self.stdout.count("\n") == 1
        return data


class Shell:
    """Runs `bulksend` in a folder: as a process, or, where there are many cases, inside this one."""

    def __init__(self, folder: Path, url: str) -> None:
        self.folder = folder
        self.url = url
        self.env: dict[str, str] = {"INSIDER_TOKEN": SECRET}
        self.write("job.toml", JOB.format(url=url))
        self.write("stores.csv", ROWS)

    def write(self, name: str, text: str | bytes) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return path

    def edit(self, *edits: tuple[str, str], name: str = "job.toml") -> None:
        """Replace texts in the job file; each must stand there exactly once."""
        text = (self.folder / name).read_text("utf-8")
        for old, new in edits:
            assert text.count(old) == 1, f"{old!r} stands {text.count(old)} times in {name}"
            text = text.replace(old, new)
        self.write(name, text)

    def add(self, text: str, name: str = "job.toml") -> None:
        """Write more tables at the end of the job file."""
        with (self.folder / name).open("a", encoding="utf-8") as file:
            file.write(f"\n{text}\n")

    def line(self, marker: str, name: str = "job.toml") -> int:
        """Return the line on which a text stands for the first time."""
        lines = (self.folder / name).read_text("utf-8").splitlines()
        return next(number for number, line in enumerate(lines, 1) if marker in line)

    def resolved(self, text: str) -> str:
        """Fill in `«marker»`: the number of the line of the job file on which the marker stands."""
        return re.sub(r"«(.+?)»", lambda marker: str(self.line(marker[1])), text)

    def run(self, *arguments: str, env: Mapping[str, str] | None = None) -> Said:
        """Run it as a process of its own."""
        clean = {name: value for name, value in os.environ.items() if not name.startswith(("BULKSEND", "INSIDER"))}
        done = subprocess.run(
            [sys.executable, "-m", "bulksend", *arguments],
            cwd=self.folder,
            env={**clean, **self.env, **(env or {})},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=TIMEOUT_S,
            check=False,
        )
        return Said(done.returncode, done.stdout.decode(), done.stderr.decode())

    def call(self, *arguments: str) -> Said:
        """Run it in this process: the same code from the command line on, without the start of an interpreter."""
        from bulksend.cli.app import app

        before = Path.cwd()
        os.chdir(self.folder)
        try:
            done = CliRunner().invoke(app, list(arguments), prog_name="bulksend", env=self.env)
        finally:
            os.chdir(before)
        if done.exception is not None and not isinstance(done.exception, SystemExit):
            raise done.exception
        return Said(done.exit_code, done.stdout, done.stderr)

    def listing(self) -> dict[str, bytes]:
        """Return every file of the folder with what is in it."""
        files = sorted(self.folder.rglob("*"))
        return {str(path.relative_to(self.folder)): path.read_bytes() if path.is_file() else b"" for path in files}


@pytest.fixture
def listener() -> Iterator[Listener]:
    listener = Listener()
    yield listener
    listener.close()


@pytest.fixture
def shell(tmp_path: Path, listener: Listener, monkeypatch: pytest.MonkeyPatch) -> Shell:
    for name in [name for name in os.environ if name.startswith(("BULKSEND", "INSIDER"))]:
        monkeypatch.delenv(name)
    return Shell(tmp_path, listener.url)
