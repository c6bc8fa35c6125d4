"""A command of the job file that prints a secret: no shell, bounded in time and size, nothing of it shown."""

from __future__ import annotations

import contextlib
import itertools
import os
import re
import selectors
import shlex
import shutil
import signal
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path

from bulksend.job.template import escape, placeholders

__all__ = ["COMMAND", "as_word", "command_words", "find_program", "run_command"]

COMMAND = "cmd:"
RUN_MOST_S = 30.0
PRINT_MOST_BYTES = 64 << 10
_MARK = re.compile(r"\$\$\{|\$\{[^}]*\}")
_VALUE, _HELD = "\ue002", "\ue003"
"""Characters of the private use area: around a variable's value, and around the number of a placeholder."""
_SHELLS = frozenset({"bash", "dash", "fish", "ksh", "sh", "zsh"})


def as_word(value: str) -> str:
    """Write a variable's value so that `command_words` takes it for a part of one word, whatever stands in it."""
    return f"{_VALUE}{value.encode('utf-8', 'surrogatepass').hex()}{_VALUE}"


def command_words(source: str) -> list[str]:
    """Return the words of a `cmd:…`, parted as a shell parts them, before any value is put in.

    So a value is always within one word; what a variable brought is escaped as in any template, a `${column}` stays.
    Raises ValueError with a sentence that repeats nothing of the command but its first word.
    """
    text = source.removeprefix(COMMAND)
    if _HELD in text:
        raise ValueError("has a command with a character of the private use area")
    placeholders(text)
    held: list[str] = []

    def hold(mark: re.Match[str]) -> str:
        held.append(mark[0])
        return f"{_HELD}{len(held) - 1}{_HELD}"

    try:
        words = shlex.split(_MARK.sub(hold, text))
    except ValueError:
        raise ValueError("has a command with a quote that is not closed") from None
    if not words or not words[0]:
        raise ValueError("has no command after cmd:")

    def has_value(word: str) -> bool:
        return _VALUE in word or any(held[int(one)] != "$${" for one in re.findall(rf"{_HELD}(\d+){_HELD}", word))

    if has_value(words[0]):
        raise ValueError("must name the command's program itself: no ${…} can stand in its first word")
    if "\0" in text:
        raise ValueError("has a command with a zero byte")
    for before, word in itertools.pairwise(words):
        if Path(words[0]).name in _SHELLS and re.fullmatch(r"-\w*c", before) and has_value(word):
            text = "has a ${…} in a shell's script, where a value could become a command"
            raise ValueError(f"{text}: give it as a word after the script, which has it as $1")
    return [_filled(word, held) for word in words]


def _filled(word: str, held: Sequence[str]) -> str:
    def fill(found: re.Match[str]) -> str:
        if found[1] is not None:
            return held[int(found[1])]
        return escape(bytes.fromhex(found[2]).decode("utf-8", "surrogatepass"))

    # In one pass: nothing in what is put in is looked at again.
    return re.sub(rf"{_HELD}(\d+){_HELD}|{_VALUE}((?:[0-9a-f]{{2}})*){_VALUE}", fill, word)


def find_program(words: Sequence[str], directory: Path) -> None:
    """Raise ValueError where there is no such program; nothing is run."""
    program = words[0]
    if shutil.which(str(directory / program) if "/" in program else program) is None:
        raise ValueError(f"the program {program} of the secret's command is not found")


def run_command(words: Sequence[str], directory: Path) -> str:
    """Return what the command prints, without one final newline.

    It has this process's environment and nothing to read. Blocks, for half a minute at most: then it and what it has
    started are ended. Raises ValueError, which shows the first word and the exit code alone: arguments and output, also
    that to stderr, may hold the secret.
    """
    program = words[0]
    find_program(words, directory)
    try:
        child = subprocess.Popen(  # noqa: S603 - the words stand in the job file, which is the user's own
            list(words),
            cwd=directory,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except (OSError, ValueError) as wrong:
        reason = wrong.strerror if isinstance(wrong, OSError) else "a word holds a zero byte"
        raise ValueError(f"the secret's command {program} cannot be run: {reason}") from None
    try:
        said = _read(child, program, time.monotonic() + RUN_MOST_S)
    except BaseException:
        # Before it is waited for, so that the group's number is still its own; it may be that only children are left.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        raise
    finally:
        assert child.stdout is not None
        child.stdout.close()
    if child.returncode:
        ended = f"exit code {child.returncode}" if child.returncode > 0 else f"signal {-child.returncode}"
        raise ValueError(f"the secret's command {program} ended with {ended}; run it by hand to see why")
    try:
        text = said.decode()
    except UnicodeDecodeError:
        raise ValueError(f"the secret's command {program} does not print UTF-8 text") from None
    return text.removesuffix("\n").removesuffix("\r")


def _read(child: subprocess.Popen[bytes], program: str, deadline_s: float) -> bytes:
    assert child.stdout is not None
    descriptor, said = child.stdout.fileno(), b""
    late = ValueError(f"the secret's command {program} was not done within {RUN_MOST_S:g} s")
    with selectors.DefaultSelector() as waiting:
        waiting.register(descriptor, selectors.EVENT_READ)
        while len(said) <= PRINT_MOST_BYTES:
            if not waiting.select(max(0.0, deadline_s - time.monotonic())):
                raise late
            part = os.read(descriptor, PRINT_MOST_BYTES)
            if not part:
                break
            said += part
        else:
            raise ValueError(f"the secret's command {program} prints more than {PRINT_MOST_BYTES >> 10} KiB")
    try:
        child.wait(max(0.01, deadline_s - time.monotonic()))
    except subprocess.TimeoutExpired:
        raise late from None
    return said
