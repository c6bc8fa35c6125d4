"""Words that the shell completes, and the example in every command's help."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from bulksend.cli.app import app
from tests.shell.conftest import TIMEOUT_S, Shell


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["ru"], {"run"}),
        (["st"], {"status", "stop"}),
        (["run", "--em"], {"--emulate"}),
        (["run", "--l"], {"--ledger", "--limit", "--log", "--log-file"}),
        (["init", "in"], {"insider"}),
        (["init", "insider", "--scheduler", "k"], {"kubernetes"}),
    ],
)
def test_bash_completes(tmp_path: Path, words: list[str], expected: set[str]) -> None:
    bash = shutil.which("bash")
    if bash is None:
        pytest.skip("there is no bash")
    stub = tmp_path / "bulksend"
    stub.write_text(f'#!/bin/sh\nexec {sys.executable} -m bulksend "$@"\n', "utf-8")
    stub.chmod(0o755)
    given = " ".join(f"'{word}'" for word in ["bulksend", *words])
    script = f"""
    eval "$(bulksend --show-completion bash)"
    function=$(complete -p bulksend | sed -E 's/.*-F ([^ ]+) .*/\\1/')
    COMP_WORDS=({given}); COMP_CWORD={len(words)}
    $function bulksend '{words[-1]}' bulksend
    printf '%s\\n' "${{COMPREPLY[@]}}"
    """
    done = subprocess.run(
        [bash, "--norc", "-c", script],
        env={"PATH": f"{tmp_path}:/usr/bin:/bin", "HOME": str(tmp_path)},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    assert done.stderr == ""
    assert expected <= set(done.stdout.split())
    assert all(word.startswith(words[-1]) for word in done.stdout.split())


@pytest.mark.parametrize(
    ("shell_name", "mark"),
    [
        ("bash", "complete -o default -F _bulksend_completion bulksend"),
        ("zsh", "#compdef bulksend"),
        ("fish", "complete --command bulksend"),
    ],
)
def test_the_completion_of_any_shell_is_shown_in_any_shell(shell: Shell, shell_name: str, mark: str) -> None:
    said = shell.run("--show-completion", shell_name)
    assert (said.code, said.stderr) == (0, "")
    assert mark in said.stdout


def test_every_command_there_is_has_an_example_of_itself() -> None:
    """Walks the commands themselves, so that none can be forgotten in a list."""
    named = [command.name or command.callback.__name__ for command in app.registered_commands if command.callback]
    assert len(named) >= 9
    for command in app.registered_commands:
        assert command.callback is not None
        name = command.name or command.callback.__name__.replace("_", "-")
        text = command.help or command.callback.__doc__ or ""
        assert re.search(rf"^\s*Example: bulksend {name}( |$)", text, re.MULTILINE), f"{name} has no example"
