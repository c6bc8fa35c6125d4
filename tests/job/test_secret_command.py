"""`cmd:`: a command that prints the secret; no shell, no injection, no hang, and nothing of it shown."""

from __future__ import annotations

import os
import shlex
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from bulksend.errors import JobError
from bulksend.job import command
from bulksend.job.accounts import Accounts, AccountSpec
from bulksend.job.command import as_word, command_words, run_command
from bulksend.job.file import load_job
from bulksend.job.secret import check_secret_source, filled
from bulksend.providers import PROVIDERS

TOKEN = "t0k-of-the-command"
EVIL = ["; touch pwned", "$(touch pwned)", "`touch pwned`", "a b", "'", '"', "\\", "a\nb", "--flag", "*", "~", "$HOME"]
ODD = ["\ue0030\ue003", "\ue002ff\ue002", "\udcff", "${brand}", "$${x}"]


def python(text: str, *more: str) -> list[str]:
    return [sys.executable, "-c", text, *more]


def made(folder: Path, token: str, *, partner_id: str = "1") -> Accounts:
    spec = AccountSpec("default", "https://api.example.com", {"partner_id": partner_id}, {"token": token})
    return Accounts({"default": spec}, chooser=None, provider=PROVIDERS["insider"], base_dir=folder)


def script(folder: Path, text: str) -> str:
    """Return a `cmd:` of a Python program that writes a line to `runs` each time it is run."""
    (folder / "tell.py").write_text(f"import os, sys\nopen('runs', 'a').write('x')\n{text}\n")
    return f"cmd:{shlex.quote(sys.executable)} tell.py"


def runs(folder: Path) -> int:
    return len((folder / "runs").read_text()) if (folder / "runs").exists() else 0


def test_what_it_prints_is_the_secret_and_it_is_run_once_in_the_jobs_folder(tmp_path: Path) -> None:
    source = script(tmp_path, f"assert os.getcwd() == {str(tmp_path)!r}\nprint({TOKEN!r})")
    accounts = made(tmp_path, source)
    assert list(accounts.absent_secrets()) == []
    account = accounts.of([])
    assert account.secrets["token"].reveal() == TOKEN
    assert accounts.of([]) is account
    assert runs(tmp_path) == 1


@pytest.mark.parametrize(
    ("printed", "secret"),
    [("abc\n", "abc"), ("abc", "abc"), ("abc\r\n", "abc"), (" a b \n", " a b "), ("x" * 60_000, "x" * 60_000)],
)
def test_one_final_newline_is_no_part_of_it(printed: str, secret: str, tmp_path: Path) -> None:
    assert run_command(python(f"import sys; sys.stdout.write({printed!r})"), tmp_path) == secret


def test_it_has_nothing_to_read_and_no_terminal(tmp_path: Path) -> None:
    text = "import os, sys; print(repr(sys.stdin.read()), os.getsid(0) == os.getpid())"
    ours, (typed, end) = os.dup(0), os.pipe()
    os.write(end, b"typed")
    os.close(end)
    os.dup2(typed, 0)
    try:
        assert run_command(python(text), tmp_path) == "'' True"
    finally:
        os.dup2(ours, 0)
        os.close(ours)
        os.close(typed)


def test_there_is_no_shell(tmp_path: Path) -> None:
    words = command_words("cmd:printf %s '; touch pwned' $HOME `id` $(id) > out | cat && x *")
    assert words == ["printf", "%s", "; touch pwned", "$HOME", "`id`", "$(id)", ">", "out", "|", "cat", "&&", "x", "*"]
    assert run_command(words[:3], tmp_path) == "; touch pwned"
    assert not any(tmp_path.iterdir())


@pytest.mark.parametrize("value", [*EVIL, *ODD])
@pytest.mark.parametrize(
    ("written", "word"),
    [
        ("${var.x}", "{}"),
        ("secret/${ var.x }", "secret/{}"),
        ("'secret/${var.x}'", "secret/{}"),
        ('"${var.x}/b"', "{}/b"),
        ("${var.x}${var.x}", "{}{}"),
    ],
)
def test_a_variable_is_always_within_one_word(written: str, word: str, value: str, tmp_path: Path) -> None:
    tree = {
        "job": "sale",
        "account": {"provider": "insider", "partner_id": "1", "token": f"cmd:printf %s {written} -end"},
        "create": {"title": "x", "language": "en_GB", "is_all": True},
        "launch": {
            "title": "x",
            "description": "x",
            "image": "https://example.com/i.png",
            "link": "https://example.com",
            "ttl": "1 day",
        },
    }
    job = load_job(tree, variables={"x": value})
    assert filled(job.accounts["default"].secrets["token"]) == ["printf", "%s", word.format(value, value), "-end"]


def test_a_variable_with_a_placeholder_in_it_stays_text() -> None:
    assert filled(f"cmd:printf {as_word('${brand} $${x} $HOME')}") == ["printf", "${brand} $${x} $HOME"]
    assert filled("cmd:sh -c 'echo $${HOME}'") == ["sh", "-c", "echo ${HOME}"]


def test_a_column_is_an_argument(tmp_path: Path) -> None:
    echo = shlex.join(python("import sys; print('-'.join(sys.argv[1:]))"))
    accounts = made(tmp_path, f"cmd:{echo} secret/${{brand}} '${{ brand }} x'")
    assert accounts.columns == ("brand",)
    assert accounts.of(["acme"]).secrets["token"].reveal() == "secret/acme-acme x"
    assert accounts.of(["blue"]).secrets["token"].reveal() == "secret/blue-blue x"


@pytest.mark.parametrize("value", [*EVIL, "../other", "a/b", ".hidden", "-rf", "a;b", "a\0b", ""])
def test_a_column_cannot_be_anything_but_a_plain_name(value: str, tmp_path: Path) -> None:
    accounts = made(tmp_path, script(tmp_path, f"print({TOKEN!r})") + " secret/${brand}")
    with pytest.raises(JobError, match=r"must be a plain name|has no value"):
        accounts.of([value])
    assert runs(tmp_path) == 0


@pytest.mark.parametrize(
    ("source", "said"),
    [
        ("cmd:", "write env:NAME, file:PATH or cmd:COMMAND"),
        ("cmd:  ", "write env:NAME, file:PATH or cmd:COMMAND"),
        ("cmd:vault 'read", "a quote that is not closed"),
        ("cmd:''", "no command after cmd:"),
        ("cmd:${tool} read", "must name the command's program itself"),
        ("cmd:/opt/${tool}/read", "must name the command's program itself"),
        (f"cmd:{as_word('rm')} -rf", "must name the command's program itself"),
        ("cmd:sh -c 'vault read ${brand}'", "in a shell's script"),
        ("cmd:/bin/bash -euc 'vault read ${brand}'", "in a shell's script"),
        (f"cmd:sh -c {as_word('id')}", "in a shell's script"),
        ("cmd:vault ${", "without a name"),
        ("cmd:vault a\0b", "zero byte"),
    ],
)
def test_commands_that_are_refused(source: str, said: str) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        check_secret_source(source)
    assert "read" not in str(caught.value)


def test_a_variable_cannot_bring_a_command() -> None:
    tree = {"job": "sale", "account": {"provider": "insider", "partner_id": "1", "token": "${var.source}"}}
    with pytest.raises(JobError, match=r"account\.token: a command stands in the job file itself"):
        load_job(tree, variables={"source": "cmd:touch pwned"})
    tree["account"]["token"] = "c${var.source}"  # type: ignore[index]
    with pytest.raises(JobError, match=r"account\.token: a command stands in the job file itself"):
        load_job(tree, variables={"source": "md:touch pwned"})


LEAKS = f"import sys; print({TOKEN!r}); print({TOKEN!r}, file=sys.stderr)"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (python(f"{LEAKS}; sys.exit(3)"), "ended with exit code 3; run it by hand to see why"),
        (python(f"import os; {LEAKS}; sys.stdout.flush(); os.kill(os.getpid(), 9)"), "ended with signal 9"),
        (python(f"import sys; sys.stdout.buffer.write({TOKEN.encode()!r} + bytes([255]))"), "does not print UTF-8"),
        (python(f"print({TOKEN!r} * 100_000)"), "prints more than 64 KiB"),
        (python(f"while True: print({TOKEN!r})"), "prints more than 64 KiB"),
        (["no-such-program", TOKEN], "the program no-such-program of the secret's command is not found"),
        (["./not-there", TOKEN], "the program ./not-there of the secret's command is not found"),
    ],
    ids=["exit code", "signal", "not text", "too much", "without end", "no program", "no file"],
)
def test_a_command_that_fails_shows_nothing_but_its_first_word(
    words: list[str], said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(ValueError, match=said) as caught:
        run_command(words, tmp_path)
    assert TOKEN not in str(caught.value)
    assert capfd.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("printed", "said"),
    [("", "gives nothing"), (" \n", "gives nothing"), ("a\n\n", "a header cannot carry"), ("ż\n", "cannot carry")],
)
def test_what_is_no_secret_is_refused(printed: str, said: str, tmp_path: Path) -> None:
    accounts = made(tmp_path, script(tmp_path, f"sys.stdout.write({printed!r})"))
    ((account, field, reason),) = accounts.absent_secrets()
    assert (account, field) == ("default", "token")
    assert said in reason
    with pytest.raises(JobError, match=said):
        accounts.of([])
    assert runs(tmp_path) == 1, "a command that fails is run once too"


@pytest.mark.parametrize("holds", ["itself", "a child"])
def test_a_command_that_hangs_is_ended_with_what_it_started(
    holds: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, wait_until: Callable[[Callable[[], bool]], None]
) -> None:
    monkeypatch.setattr(command, "RUN_MOST_S", 0.3)
    child = "subprocess.Popen(['sleep', '60'])"
    text = f"import subprocess, sys, time; p = {child}; open('pid', 'w').write(str(p.pid)); print({TOKEN!r})"
    began_s = time.monotonic()
    with pytest.raises(ValueError, match=r"was not done within 0.3 s") as caught:
        run_command(python(text + ("; time.sleep(60)" if holds == "itself" else "")), tmp_path)
    assert time.monotonic() - began_s < 5
    assert TOKEN not in str(caught.value)
    pid = int((tmp_path / "pid").read_text()) if (tmp_path / "pid").exists() else 0
    wait_until(lambda: not pid or not _is_running(pid))


def _is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().split(")")[-1].split()[0] != "Z"
    except OSError:
        return False


@pytest.fixture
def wait_until() -> Callable[[Callable[[], bool]], None]:
    def wait(true: Callable[[], bool]) -> None:
        for _ in range(250):
            if true():
                return
            time.sleep(0.02)
        raise AssertionError("it never came")

    return wait


def test_a_look_at_rows_runs_nothing(tmp_path: Path) -> None:
    accounts = made(tmp_path, script(tmp_path, f"print({TOKEN!r})"))
    assert accounts.of([], with_secrets=False).secrets == {}
    assert not accounts.unset
    assert list(accounts.absent_secrets(run_commands=False)) == []
    gone = made(tmp_path, "cmd:no-such-program read")
    assert [reason for _, _, reason in gone.absent_secrets(run_commands=False)] == [
        "the program no-such-program of the secret's command is not found"
    ]
    assert runs(tmp_path) == 0


def test_a_secrets_file_without_end_is_refused(tmp_path: Path) -> None:
    for name in ("/dev/zero", "big"):
        (tmp_path / "big").write_bytes(b"x" * (1 << 20))
        ((_, _, reason),) = made(tmp_path, f"file:{name}").absent_secrets()
        assert "is larger than 64 KiB" in reason
    assert (tmp_path / "big").stat().st_size == 1 << 20
