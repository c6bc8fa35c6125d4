"""`init PROVIDER --scheduler`: the files parse, say what they should, and run."""

from __future__ import annotations

import json
import os
import re
import stat
import subprocess
import sys
import tomllib
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest
import yaml

from bulksend.cli.starter import STARTERS
from tests.shell.conftest import TIMEOUT_S, Shell

SECRETS = {
    "insider": "INSIDER_TOKEN",
    "usercom": "USERCOM_TOKEN",
    "stream": "STREAM_SECRET",
    "batch": "BATCH_REST_KEY",
}
FILES = {
    "airflow": ["{}_dag.py"],
    "kubernetes": ["{}-cronjob.yaml"],
    "cron": ["{}.crontab", "{}.env"],
}
every_provider = pytest.mark.parametrize("provider", SECRETS)


@pytest.fixture
def fresh(shell: Shell) -> Shell:
    """A folder with nothing in it, and no secret set."""
    for path in shell.folder.iterdir():
        path.unlink()
    shell.env.clear()
    return shell


def test_these_are_the_providers() -> None:
    assert list(SECRETS) == list(STARTERS)


# What is written


@every_provider
@pytest.mark.parametrize("scheduler", FILES)
def test_it_stands_beside_the_starter_and_says_what_to_do_next(fresh: Shell, provider: str, scheduler: str) -> None:
    said = fresh.call("init", provider, "--scheduler", scheduler)
    own = [name.format(provider) for name in FILES[scheduler]]
    assert (said.code, said.stdout) == (0, "")
    assert fresh.listing().keys() == {*STARTERS[provider], *own}
    assert not re.search(rb"@[a-z_]+@", b"".join(fresh.listing().values()))
    wrote, then = said.stderr.splitlines()
    assert all(name in wrote for name in fresh.listing())
    assert wrote.endswith(f"; now: bulksend plan {provider}.toml --var day=today")
    assert then.startswith("then: ")
    assert own[0] in then


@pytest.mark.parametrize("scheduler", FILES)
def test_the_job_is_the_one_that_init_writes_without_a_scheduler(fresh: Shell, scheduler: str) -> None:
    assert fresh.call("init", "batch").code == 0
    (fresh.folder / "other").mkdir()
    assert fresh.call("init", "batch", "--scheduler", scheduler, "--dir", "other").code == 0
    listing = fresh.listing()
    assert all(listing[name] == listing[f"other/{name}"] for name in STARTERS["batch"])


@pytest.mark.parametrize(
    ("scheduler", "name"),
    [(scheduler, name.format("stream")) for scheduler, names in FILES.items() for name in names]
    + [("cron", "stream.toml"), ("airflow", "stream-teams.csv")],
)
def test_nothing_is_overwritten_and_nothing_else_written(fresh: Shell, scheduler: str, name: str) -> None:
    fresh.write(name, "my own")
    said = fresh.call("init", "stream", "--scheduler", scheduler)
    assert (said.code, said.errors) == (2, [f"{name} is there already; nothing was written"])
    assert fresh.listing() == {name: b"my own"}


def test_a_link_to_nowhere_is_not_followed(fresh: Shell) -> None:
    (fresh.folder / "insider.env").symlink_to(fresh.folder / "elsewhere")
    assert fresh.call("init", "insider", "--scheduler", "cron").code == 2
    assert not (fresh.folder / "elsewhere").exists()


def test_an_unknown_scheduler(fresh: Shell) -> None:
    said = fresh.call("init", "insider", "--scheduler", "systemd")
    assert said.code == 2
    assert all(name in said.stderr for name in FILES)
    assert fresh.listing() == {}


# cron


def cron_line(shell: Shell, provider: str) -> str:
    """Return the one line of the crontab that is not a comment."""
    text = (shell.folder / f"{provider}.crontab").read_text("utf-8")
    assert text.endswith("\n")
    (line,) = (line for line in text.splitlines() if line and not line.startswith("#"))
    return line


def as_cron_does(line: str) -> tuple[str, str]:
    """Split a line into its five fields and what cron gives to the shell: up to the first `%` that stands alone."""
    *when, command = line.split(" ", 5)
    command = re.split(r"(?<!\\)%", command, maxsplit=1)[0]
    return " ".join(when), command.replace("\\%", "%")


def run_cron(shell: Shell, command: str, home: Path) -> subprocess.CompletedProcess[str]:
    """Run a command as cron does: in the home folder, with next to no environment."""
    return subprocess.run(
        ["/bin/sh", "-c", command],
        cwd=home,
        env={"HOME": str(home), "PATH": "/usr/bin:/bin", "SHELL": "/bin/sh", "LOGNAME": "push"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )


@pytest.mark.parametrize(
    ("provider", "folder"),
    [("insider", '100% push, it\'s "ours" $HOME'), ("usercom", "jobs"), ("stream", "jobs"), ("batch", "jobs")],
)
def test_the_line_of_the_crontab_runs(
    fresh: Shell, provider: str, folder: str, tmp_path_factory: pytest.TempPathFactory
) -> None:
    room, home = fresh.folder / folder, tmp_path_factory.mktemp("home")
    room.mkdir()
    assert fresh.run("init", provider, "--scheduler", "cron", "--dir", folder).code == 0
    fresh.folder = room
    when, command = as_cron_does(cron_line(fresh, provider))
    assert when == "0 6 * * *"

    # As written, the secret is not filled in yet: refused, and cron has something to mail.
    done = run_cron(fresh, command, home)
    assert (done.returncode, done.stderr) == (2, "")
    assert re.fullmatch(rf"bulksend run {provider}\.toml ended with exit code 2; see .+\n", done.stdout)
    assert done.stdout.rstrip().endswith(str(room / f"{provider}.log"))
    assert f"{SECRETS[provider]} is not set" in (room / f"{provider}.log").read_text("utf-8")

    # With the secret, and an emulator in the vendor's place.
    fresh.edit((f"export {SECRETS[provider]}=''", f"export {SECRETS[provider]}='5ecret'"), name=f"{provider}.env")
    command, emulated = re.subn(r" --json ", " --emulate --json ", command)
    assert emulated == 1
    before = datetime.now().astimezone().date()
    done = run_cron(fresh, command, home)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    lines = (room / f"{provider}.jsonl").read_text("utf-8").splitlines()
    data = json.loads(lines[-1])
    assert (len(lines), data["state"]) == (2, "done")
    days = {str(before), str(datetime.now().astimezone().date())}
    assert data["job"][-10:] in days
    assert list(home.iterdir()) == []


def test_the_line_without_its_secrets_file_says_so(fresh: Shell, tmp_path_factory: pytest.TempPathFactory) -> None:
    assert fresh.run("init", "insider", "--scheduler", "cron").code == 0
    (fresh.folder / "insider.env").unlink()
    done = run_cron(fresh, as_cron_does(cron_line(fresh, "insider"))[1], tmp_path_factory.mktemp("home"))
    assert done.returncode != 0
    assert "insider.env" in done.stderr + done.stdout


def test_the_file_for_the_secret_is_its_owners_alone(fresh: Shell) -> None:
    assert fresh.call("init", "insider", "--scheduler", "cron").code == 0
    assert stat.S_IMODE((fresh.folder / "insider.env").stat().st_mode) == 0o600


@pytest.mark.parametrize("folder", ["two\nlines", "back\\slash"])
def test_a_folder_that_cron_cannot_be_told_is_refused(fresh: Shell, folder: str) -> None:
    (fresh.folder / folder).mkdir()
    said = fresh.call("init", "insider", "--scheduler", "cron", "--dir", folder)
    assert said.code == 2
    assert "cron cannot be given" in said.errors[0]
    assert list((fresh.folder / folder).iterdir()) == []


# Kubernetes


def manifest(shell: Shell, provider: str, *, of: str | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the volume claim and the CronJob of a manifest."""
    text = (shell.folder / f"{provider}-cronjob.yaml").read_text("utf-8") if of is None else of
    claim, cron_job = yaml.safe_load_all(text)
    assert [(one["apiVersion"], one["kind"]) for one in (claim, cron_job)] == [
        ("v1", "PersistentVolumeClaim"),
        ("batch/v1", "CronJob"),
    ]
    return claim, cron_job


def secret_names(shell: Shell, provider: str) -> set[str]:
    account = tomllib.loads((shell.folder / f"{provider}.toml").read_text("utf-8"))["account"]
    return {value.removeprefix("env:") for value in account.values() if value.startswith("env:")}


@every_provider
def test_the_manifest_says_the_right_things(fresh: Shell, provider: str) -> None:
    assert fresh.call("init", provider, "--scheduler", "kubernetes").code == 0
    claim, cron_job = manifest(fresh, provider)
    name = f"bulksend-{provider}"
    assert (claim["metadata"]["name"], cron_job["metadata"]["name"]) == (f"{name}-ledger", name)
    assert len(name) <= 52  # Kubernetes adds 11 characters for a Job
    assert cron_job["spec"]["concurrencyPolicy"] == "Forbid"
    job = cron_job["spec"]["jobTemplate"]["spec"]
    pod = job["template"]["spec"]
    (container,) = pod["containers"]

    volumes = {one["name"]: one for one in pod["volumes"]}
    mounts = {one["mountPath"]: volumes[one["name"]] for one in container["volumeMounts"]}
    assert mounts["/ledger"]["persistentVolumeClaim"] == {"claimName": f"{name}-ledger"}
    assert mounts["/jobs"]["configMap"] == {"name": name}
    assert mounts["/tmp"]["emptyDir"] == {}
    assert {one["name"] for one in container["volumeMounts"]} == volumes.keys()

    env = {one["name"]: one for one in container["env"]}
    assert env["BULKSEND_LEDGER"]["value"] == "sqlite:///ledger/bulksend.db"
    assert env["TZ"]["value"] == cron_job["spec"]["timeZone"]
    (secret,) = secret_names(fresh, provider)
    assert secret == SECRETS[provider]
    assert env[secret]["valueFrom"]["secretKeyRef"] == {"name": name, "key": secret}
    assert env.keys() == {"JOB_NAME", "TZ", "BULKSEND_LEDGER", secret}

    from bulksend.engine.transport import CALL_TIMEOUT_S, CONNECT_TIMEOUT_S

    assert pod["terminationGracePeriodSeconds"] > 2 * (CALL_TIMEOUT_S + CONNECT_TIMEOUT_S)
    assert {"requests", "limits"} == container["resources"].keys()

    # The commands at the top make what the manifest asks for.
    text = (fresh.folder / f"{provider}-cronjob.yaml").read_text("utf-8")
    assert f'secret generic {name} --from-literal={secret}="${secret}"' in text
    job_file, audience = STARTERS[provider]
    assert f"configmap {name} --from-file={job_file} --from-file={audience}" in text
    assert f"/jobs/{job_file} " in container["args"][0]


def ended(job: dict[str, Any], code: int, *, disrupted: bool = False) -> str:
    """Return what a Job makes of a pod that ended: the rule of the first match, as Kubernetes documents it."""
    (name,) = (one["name"] for one in job["template"]["spec"]["containers"])
    for rule in job["podFailurePolicy"]["rules"]:
        if codes := rule.get("onExitCodes"):
            assert (codes["containerName"], codes["operator"]) == (name, "In")
            if code in codes["values"]:
                return str(rule["action"])
        elif disrupted and {"type": "DisruptionTarget", "status": "True"} in rule["onPodConditions"]:
            return str(rule["action"])
    return "Count"


def test_exit_codes_decide_whether_another_pod_is_started(fresh: Shell) -> None:
    from bulksend.errors import GuardError, InterruptedRunError, JobError, RunError, SendsFailedError

    assert fresh.call("init", "insider", "--scheduler", "kubernetes").code == 0
    job = manifest(fresh, "insider")[1]["spec"]["jobTemplate"]["spec"]
    assert job["template"]["spec"]["restartPolicy"] == "Never"  # without it there is no podFailurePolicy
    assert job["backoffLimit"] >= 3
    for error in (JobError, SendsFailedError, GuardError):
        assert ended(job, error.exit_code) == "FailJob"
        assert ended(job, error.exit_code, disrupted=True) == "FailJob"
    for error in (RunError, InterruptedRunError):
        assert ended(job, error.exit_code) == "Count"
        assert ended(job, error.exit_code, disrupted=True) == "Ignore"


def minutes(*when: int) -> int:
    """Return a time in UTC as the CronJob controller writes it into the name of a Job."""
    return int(datetime(*when, tzinfo=UTC).timestamp()) // 60


@pytest.mark.parametrize(
    ("suffix", "zone", "day"),
    [
        (minutes(2026, 4, 1, 6), "Etc/UTC", "2026-04-01"),
        (minutes(2026, 4, 1, 23, 59), "Etc/UTC", "2026-04-01"),
        (minutes(2026, 4, 1, 23, 59), "XXX-2", "2026-04-02"),
        (minutes(2040, 2, 29, 0, 0), "Etc/UTC", "2040-02-29"),
        ("2026-04-01", "Etc/UTC", "2026-04-01"),
        ("20260401", "Etc/UTC", None),
        ("again", "Etc/UTC", None),
        ("2026-04-01-x", "Etc/UTC", None),
        ("", "Etc/UTC", None),
    ],
)
def test_the_day_is_that_of_the_job_whatever_the_clock_says(
    fresh: Shell, suffix: object, zone: str, day: str | None
) -> None:
    """A pod that goes on after midnight must find the same job: the day is read from the Job's name."""
    assert fresh.call("init", "insider", "--scheduler", "kubernetes").code == 0
    (container,) = manifest(fresh, "insider")[1]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    (script,) = container["args"]
    # Kubernetes itself replaces $(NAME) of a variable, and $$, before the shell sees them.
    assert not re.search(r"\$\$|\$\([A-Za-z0-9_.-]+\)", script)
    stub = fresh.write("bin/bulksend", '#!/bin/sh\nprintf "%s\\n" "$$" "$@"\n')
    stub.chmod(0o755)
    process = subprocess.Popen(
        [*container["command"], script],
        env={"PATH": f"{stub.parent}:/usr/bin:/bin", "JOB_NAME": f"bulksend-insider-{suffix}", "TZ": zone},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    stdout, stderr = process.communicate(timeout=TIMEOUT_S)
    if day is None:
        assert (process.returncode, stdout) == (2, "")
        assert "bulksend-insider-YYYY-MM-DD" in stderr
        return
    pid, *arguments = stdout.splitlines()
    assert arguments == ["run", "/jobs/insider.toml", "--var", f"day={day}", "--json"]
    assert pid == str(process.pid)  # SIGTERM reaches bulksend, not a shell around it


@every_provider
def test_the_command_of_the_pod_runs(fresh: Shell, provider: str) -> None:
    assert fresh.call("init", provider, "--scheduler", "kubernetes").code == 0
    (container,) = manifest(fresh, provider)[1]["spec"]["jobTemplate"]["spec"]["template"]["spec"]["containers"]
    script, moved = re.subn(r" /jobs/(\S+) (.*--json)", rf" {fresh.folder}/\1 \2 --emulate", container["args"][0])
    assert moved == 1
    stub = fresh.write("bin/bulksend", f'#!/bin/sh\nexec {sys.executable} -m bulksend "$@"\n')
    stub.chmod(0o755)
    env = {**os.environ, "PATH": f"{stub.parent}:{os.environ['PATH']}", "JOB_NAME": f"bulksend-{provider}-2026-04-01"}
    done = subprocess.run(
        [*container["command"], script],
        env=env,
        cwd=fresh.folder,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    data = json.loads(done.stdout)
    assert (data["state"], data["job"][-10:]) == ("done", "2026-04-01")


def test_the_postgresql_ledger_is_one_comment_away(fresh: Shell) -> None:
    assert fresh.call("init", "insider", "--scheduler", "kubernetes").code == 0
    text = (fresh.folder / "insider-cronjob.yaml").read_text("utf-8")
    text, replaced = re.subn(
        r"\n +value: sqlite:.*\n.*PostgreSQL.*\n((?: +#   .*\n)+)",
        lambda found: "\n" + found[1].replace("#   ", "  "),
        text,
    )
    assert replaced == 1
    (container,) = manifest(fresh, "insider", of=text)[1]["spec"]["jobTemplate"]["spec"]["template"]["spec"][
        "containers"
    ]
    (ledger,) = (one for one in container["env"] if one["name"] == "BULKSEND_LEDGER")
    assert ledger["valueFrom"] == {"secretKeyRef": {"name": "bulksend-insider", "key": "BULKSEND_LEDGER"}}
