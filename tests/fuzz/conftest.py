"""One folder with every provider's starter in it, and a port that must hear nothing, for all examples of a test."""

from __future__ import annotations

import os
import re
import shutil
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from unittest import mock

import pytest
from typer.main import get_command

from bulksend.cli.app import app
from tests.fuzz.toml import SECRETS
from tests.shell.conftest import CELL, SECRET, Listener, Said, Shell

CODES = {0, 1, 2, 4}
"""How a command may end that was given bad input and calls nobody; 1 where a file or the ledger is in the way."""
MESSAGE_MOST = 120_000
"""A hundred lines of at most a thousand characters, and then some."""
NAMED = re.compile(
    r"\(key .*?\)(?=: )|\(its columns: .*\)|has no column named .*|its header names .* twice|; known here: .*"
)
"""Where a key or the names of columns are quoted: what was a cell may be one after a change of the bytes."""


class Fuzzed(Shell):
    """A shell whose every command is held against what all bad input has in common."""

    def __init__(self, folder: Path, listener: Listener) -> None:
        super().__init__(folder, listener.url)
        self.listener = listener
        self._command = get_command(app)
        self.env |= dict.fromkeys(SECRETS, SECRET)
        starters = resources.files("bulksend.cli").joinpath("starters")
        for one in starters.iterdir():
            if one.name.endswith(".csv"):
                head, *rows = one.read_text("utf-8").splitlines()
                self.write(one.name, "\n".join([f"{head},other", *(f"{row},{CELL}" for row in rows), ""]))

    def call(self, *arguments: str) -> Said:
        """Run a command in this process, as `Shell.call`, with the command line's parser made once."""
        with mock.patch("typer.testing._get_command", return_value=self._command):
            return super().call(*arguments)

    def judged(self, *arguments: str) -> Said:
        """Run a command that must call nobody, must not raise, and must not say what is secret or a row's."""
        said = self.call(*arguments)
        assert self.listener.connections == 0, "a call was made"
        assert said.code in CODES, said
        assert "Traceback" not in said.stderr
        assert SECRET not in said.stdout + said.stderr, "a secret is shown"
        assert CELL not in NAMED.sub("", said.stderr), "a cell is shown"
        assert said.code == 0 or said.stderr.strip() or said.stdout.strip(), "nothing is said"
        assert len(said.stderr) < MESSAGE_MOST, "nobody reads so much"
        odd = re.search(r"[^\n\t -~\u00a0-\U0010ffff]", said.stderr)
        assert odd is None, f"{odd} reaches the terminal"
        return said

    def judged_twice(self, *arguments: str) -> Said:
        """Plan a job, and where that refuses it, run it: which must refuse it as well, before the first call."""
        common = ("job.toml", "--base-url", self.url, "--ledger", "sqlite:never.db", *arguments)
        planned = self.judged("plan", *common)
        if planned.code:
            ran = self.judged("run", *common, "--no-progress")
            assert ran.code, "refused by plan, and run all the same"
        assert not (self.folder / "never.db").exists() or planned.code == 0, "a ledger was made"
        return planned


@pytest.fixture(scope="session")
def fuzzed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Fuzzed]:
    for name in [name for name in os.environ if name.startswith(("BULKSEND", *SECRETS))]:
        del os.environ[name]
    listener = Listener()
    folder = tmp_path_factory.mktemp("fuzz")
    yield Fuzzed(folder, listener)
    listener.close()
    shutil.rmtree(folder, ignore_errors=True)
