"""Files that run a starter job from a scheduler: an Airflow DAG, a Kubernetes CronJob, a line of a crontab."""

from __future__ import annotations

import re
import shlex
import sys
import tomllib
from collections.abc import Mapping
from enum import StrEnum
from importlib import resources
from pathlib import Path

from bulksend.errors import JobError, Problem

__all__ = ["Scheduler", "file_names", "next_words", "render"]

ROOM = "bulksend.cli"


class Scheduler(StrEnum):
    """What starts the job every day."""

    AIRFLOW = "airflow"
    KUBERNETES = "kubernetes"
    CRON = "cron"


FILES = {
    Scheduler.AIRFLOW: {"{}_dag.py": "airflow"},
    Scheduler.KUBERNETES: {"{}-cronjob.yaml": "kubernetes"},
    Scheduler.CRON: {"{}.crontab": "crontab", "{}.env": "env"},
}
"""The names of the files, of which the provider is a part, and their templates."""


def file_names(scheduler: Scheduler, provider: str) -> list[str]:
    """Return the names of the files that `render` makes."""
    return [name.format(provider) for name in FILES[scheduler]]


def render(
    scheduler: Scheduler, provider: str, *, job_file: str, audience_file: str, directory: Path
) -> dict[str, str]:
    """Return what stands in each file; raises JobError for a folder that the scheduler cannot be told."""
    words = {
        "provider": provider,
        "job": job_file,
        "audience": audience_file,
        "secret": _secret_of(job_file),
        "manifest": file_names(Scheduler.KUBERNETES, provider)[0],
    }
    if scheduler is Scheduler.CRON:
        words |= _cron_words(provider, job_file, directory.absolute())
    room = resources.files(ROOM).joinpath("schedulers")
    return {
        name.format(provider): _filled(room.joinpath(f"{template}.template").read_text("utf-8"), words)
        for name, template in FILES[scheduler].items()
    }


def next_words(scheduler: Scheduler, provider: str, *, job_file: str, directory: Path) -> list[str]:
    """Return what is left to do, a line each."""
    secret = _secret_of(job_file)
    first = directory / file_names(scheduler, provider)[0]
    match scheduler:
        case Scheduler.AIRFLOW:
            where = f"a folder that Airflow reads DAGs from, and set {secret} and BULKSEND_LEDGER where its tasks run"
            return [f"then: put them into {where}; {first} says how"]
        case Scheduler.KUBERNETES:
            return [f"then: set the image in {first}, and make its Secret and ConfigMap as the first lines of it say"]
        case Scheduler.CRON:
            env = directory / file_names(scheduler, provider)[1]
            install = f"crontab -l | cat - {shlex.quote(str(first))} | crontab -"
            return [f"then: write the value of {secret} into {env}, and install the line: {install}"]


def _secret_of(job_file: str) -> str:
    """Return the environment variable that a starter job reads its secret from."""
    text = resources.files(ROOM).joinpath("starters", job_file).read_text("utf-8")
    account: dict[str, str] = tomllib.loads(text)["account"]
    (name,) = (value.removeprefix("env:") for value in account.values() if value.startswith("env:"))
    return name


def _filled(template: str, words: Mapping[str, str]) -> str:
    """Fill in `@word@`; a template that names another word is a bug, and a KeyError."""
    return re.sub(r"@([a-z_]+)@", lambda found: words[found[1]], template)


def _cron_words(provider: str, job_file: str, directory: Path) -> dict[str, str]:
    """Return the paths of a line of a crontab, as the shell and cron want them."""
    job, env, line = directory / job_file, directory / f"{provider}.env", directory / f"{provider}.crontab"
    jsonl, log = directory / f"{provider}.jsonl", directory / f"{provider}.log"
    return {
        "stem": provider,
        "bulksend": " ".join(map(_for_cron, _command())),
        "job_path": _for_cron(str(job)),
        "env_path": _for_cron(str(env)),
        "jsonl_path": _for_cron(str(jsonl)),
        "log_path": _for_cron(str(log)),
        "env_words": f"$EDITOR {shlex.quote(str(env))}",
        "crontab_words": shlex.quote(str(line)),
    }


def _for_cron(path: str) -> str:
    """Quote a path for the shell, and for cron, which takes an unescaped `%` for the end of the line."""
    if "\\" in path or not path.isprintable():
        raise JobError(Problem("cron cannot be given a path with a backslash or a line break", field="--dir"))
    return shlex.quote(path).replace("%", "\\%")


def _command() -> list[str]:
    """Return how this installation is called from anywhere."""
    script = Path(sys.executable).with_name("bulksend")
    # -P: a module that happens to lie in the folder that cron starts in is not taken for one of ours.
    return [str(script)] if script.is_file() else [sys.executable, "-P", "-m", "bulksend"]
