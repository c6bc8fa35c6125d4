"""Where a secret may come from, and how it is fetched: `env:NAME`, `file:PATH` or `cmd:COMMAND`."""

from __future__ import annotations

import os
import re
from pathlib import Path

from bulksend.job.command import COMMAND, command_words, find_program, run_command
from bulksend.job.template import unescape
from bulksend.model import Secret

__all__ = ["Secrets", "check_secret_source", "parts_of", "shown"]

FILE_MOST_BYTES = 64 << 10


def check_secret_source(text: str) -> None:
    """Raise ValueError for a secret that stands in the job file itself, and for a command that cannot be parted."""
    if not re.match(r"(env|file):\S|cmd:\s*\S", text):
        raise ValueError("a secret must not stand in the job file: write env:NAME, file:PATH or cmd:COMMAND")
    if text.startswith(COMMAND):
        command_words(text)


def parts_of(source: str) -> str | list[str]:
    """Return a source as a template: a text, or the words of a command, so that a row's value stays in one of them."""
    return command_words(source) if source.startswith(COMMAND) else source


def shown(source: str) -> str:
    """Return what a message may say of a source: of a command, its first word."""
    return f"the command {command_words(source)[0]}" if source.startswith(COMMAND) else source


class Secrets:
    """Fetches secrets for the time of one run; a command is run once, whether it succeeds or fails.

    Files and commands are found from `base_dir`, the job file's folder.
    """

    def __init__(self, base_dir: Path) -> None:
        self._base_dir = base_dir
        self._said: dict[tuple[str, ...], Secret | str] = {}
        """What each command came to; a text says why there is no secret."""

    def fetch(self, source: object, *, run_commands: bool = True) -> Secret | None:
        """Return the secret of a filled-in source, a text or the words of a command; ValueError when it is not there.

        None for a command that was not run before and shall not be run now.
        """
        if isinstance(source, list):
            words = tuple(str(word) for word in source)
            if words not in self._said and not run_commands:
                return None
            return self._printed(words)
        return read_secret(str(source), self._base_dir)

    def check(self, source: str, *, run_commands: bool) -> None:
        """Raise ValueError where the secret of a source without columns is not there.

        Without `run_commands`, of a command only whether there is such a program.
        """
        if source.startswith(COMMAND) and not run_commands:
            find_program([unescape(word) for word in command_words(source)], self._base_dir)
        else:
            self.fetch(filled(source))

    def _printed(self, words: tuple[str, ...]) -> Secret:
        said = self._said.get(words)
        if said is None:
            try:
                said = _usable(run_command(words, self._base_dir), f"the command {words[0]}")
            except ValueError as wrong:
                said = str(wrong)
            self._said[words] = said
        if isinstance(said, str):
            raise ValueError(said)
        return said


def filled(source: str) -> str | list[str]:
    """Return a source that names no column as `Secrets.fetch` takes it."""
    parts = parts_of(source)
    return unescape(parts) if isinstance(parts, str) else [unescape(word) for word in parts]


def read_secret(source: str, base_dir: Path) -> Secret:
    """Fetch a secret from `env:NAME` or `file:PATH` (relative to the job file); ValueError when it is not there."""
    scheme, _, name = source.partition(":")
    if scheme == "env":
        text = os.environ.get(name, "")
        if not text.strip():
            raise ValueError(f"the environment variable {name} is not set")
    else:
        text = _read_file(name, base_dir)
        if not text.strip():
            raise ValueError(f"the secret's file {name} is empty")
    return _usable(text.strip(), source)


def _read_file(name: str, base_dir: Path) -> str:
    try:
        with (base_dir / name).open("rb") as file:
            data = file.read(FILE_MOST_BYTES + 1)
        if len(data) > FILE_MOST_BYTES:
            raise ValueError(f"the secret's file {name} is larger than {FILE_MOST_BYTES >> 10} KiB: it is no secret")
        return data.decode()
    except UnicodeDecodeError:
        reason = "it is not UTF-8 text"
    except OSError as wrong:
        reason = wrong.strerror or type(wrong).__name__
    raise ValueError(f"cannot read the secret's file {name}: {reason}")


def _usable(text: str, source: str) -> Secret:
    if not text.strip():
        raise ValueError(f"{source} gives nothing")
    if not text.isascii() or not text.isprintable():
        raise ValueError(f"the secret of {source} holds characters that a header cannot carry")
    return Secret(text)
