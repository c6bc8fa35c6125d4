"""Where metrics shall go is checked before the first call; what is wrong with it is a sentence."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from tests.shell.conftest import TIMEOUT_S, Listener, Shell


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (("--metrics", "nonsense"), "--metrics: 'nonsense' is not an address such as :9464 or 0.0.0.0:9464"),
        (("--metrics", ":70000"), "--metrics: ':70000' is not an address such as :9464 or 0.0.0.0:9464"),
        (("--metrics", ":{taken}"), "--metrics: cannot listen on :{taken}: Address already in use"),
        (
            ("--metrics-file", "nowhere/x.prom"),
            "nowhere/x.prom: --metrics-file: cannot be written: No such file or directory",
        ),
        (("--metrics-file", "x.txt"), "--metrics-file: 'x.txt' must end in .prom: node_exporter reads no other file"),
        (("--otlp", "collector:4318"), "--otlp: 'collector:4318' is not an address such as http://localhost:4318"),
    ],
)
def test_what_cannot_be_is_refused_before_any_call(
    shell: Shell, listener: Listener, flags: tuple[str, str], said: str
) -> None:
    before = shell.listing().keys()
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        done = shell.call("run", "job.toml", "--json", flags[0], flags[1].replace("{taken}", port))
    assert done.code == 2
    assert done.errors == [said.replace("{taken}", port)]
    assert done.data["problems"] == done.errors
    assert listener.connections == 0
    assert shell.listing().keys() == before


@pytest.mark.parametrize(
    ("flags", "missing"),
    [
        (("--metrics", ":0"), "prometheus_client"),
        (("--metrics-file", "x.prom"), "prometheus_client"),
        (("--otlp", "http://localhost:4318"), "opentelemetry"),
    ],
)
def test_a_library_that_is_not_installed_is_named_with_the_command(
    shell: Shell, listener: Listener, flags: tuple[str, str], missing: str
) -> None:
    script = (
        f"import sys; sys.modules[{missing!r}] = None; from bulksend.cli import main; "
        f"sys.argv = ['bulksend', 'run', 'job.toml', *{flags!r}]; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], cwd=shell.folder, capture_output=True, text=True, timeout=TIMEOUT_S, check=False
    )
    assert done.returncode == 2
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {flags[0]}: needs the package {missing}")
    assert line.endswith(': pip install "bulksend[metrics]"')
    assert listener.connections == 0


def test_an_audience_that_is_wrong_leaves_a_file_that_says_so(shell: Shell) -> None:
    shell.write("stores.csv", "store_id,city\n0001,Oslo\n0001,Oslo\n")
    assert shell.call("run", "job.toml", "--metrics-file", "x.prom").code == 2
    assert 'bulksend_run_success{file="x.prom"} 0.0' in (shell.folder / "x.prom").read_text()


def test_dashboard_prints_json_and_nothing_else(shell: Shell) -> None:
    said = shell.run("dashboard")
    assert (said.code, said.stderr) == (0, "")
    assert json.loads(said.stdout)["title"] == "bulksend"


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs /dev/full")
def test_a_dashboard_that_cannot_be_written_is_said_in_a_line() -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            [sys.executable, "-m", "bulksend", "dashboard"],
            stdout=full,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert done.returncode == 1
    assert done.stderr.decode().splitlines() == ["error: the dashboard cannot be written: No space left on device"]
