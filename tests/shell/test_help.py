"""The first things that a person types: help, version, schema, a starter job."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from bulksend.cli.app import app
from bulksend.cli.starter import STARTERS
from tests.shell.conftest import TIMEOUT_S, Shell

COMMANDS = (
    "init", "plan", "run", "status", "report", "resolve", "stop", "loadtest", "emulate", "dashboard", "schema", "demo",
)  # fmt: skip
HEAVY = {
    "aiohttp", "aiolimiter", "duckdb", "opentelemetry", "prometheus_client", "rich", "sqlite3", "structlog", "uvloop",
}  # fmt: skip
"""Imported only where it is used."""


def test_these_are_the_commands() -> None:
    assert {command.callback.__name__ for command in app.registered_commands if command.callback} == set(COMMANDS)


@pytest.mark.parametrize("command", COMMANDS)
@pytest.mark.parametrize("flag", ["--help", "-h"])
def test_every_command_explains_itself_with_an_example(shell: Shell, command: str, flag: str) -> None:
    said = shell.call(command, flag)
    assert (said.code, said.stderr) == (0, "")
    assert re.search(rf"^\s*Example: bulksend {command}\b", said.stdout, re.MULTILINE)
    assert said.stdout.startswith(f"Usage: bulksend {command}")


@pytest.mark.parametrize("command", COMMANDS)
def test_every_option_of_a_command_says_what_it_is(shell: Shell, command: str) -> None:
    text = shell.call(command, "--help").stdout
    _, _, options = text.partition("Options:\n")
    entries = re.split(r"\n(?=  -)", options.rstrip())
    assert all(re.search(r"(\s{2,}|\n\s+)[\w\[(`].*\w", entry.strip().partition(" ")[2]) for entry in entries), entries


def test_help_lists_every_command_and_the_exit_codes(shell: Shell) -> None:
    said = shell.run("--help")
    assert (said.code, said.stderr) == (0, "")
    for command in COMMANDS:
        assert re.search(rf"^  {command} ", said.stdout, re.MULTILINE)
    text = " ".join(said.stdout.split())
    for code in (
        "0 all accepted",
        "1 failed",
        "2 wrong usage or job file",
        "3 done, but",
        "4 refused or stopped",
        "75 stopped",
    ):
        assert code in text


def test_no_command_at_all_shows_the_help(shell: Shell) -> None:
    said = shell.run()
    assert said.code == 2
    assert "Usage: bulksend" in said.stdout + said.stderr
    assert "Traceback" not in said.stderr


def test_the_console_script_is_the_same(shell: Shell) -> None:
    script = shutil.which("bulksend", path=str(Path(sys.executable).parent))
    if script is None:
        pytest.skip("the package is not installed beside this interpreter")
    done = subprocess.run([script, "--help"], capture_output=True, text=True, timeout=TIMEOUT_S, check=False)
    assert done.returncode == 0
    assert done.stdout == shell.run("--help").stdout


def test_version(shell: Shell) -> None:
    said = shell.run("--version")
    assert (said.code, said.stdout, said.stderr) == (0, f"bulksend {metadata.version('bulksend')}\n", "")


@pytest.mark.parametrize("arguments", [("--help",), ("run", "--help"), ("init", "--help")])
def test_help_imports_nothing_heavy(arguments: tuple[str, ...]) -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "bulksend", *arguments],
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=True,
    )
    imported = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert "bulksend" in imported
    assert imported & HEAVY == set()


# The schema

TYPES = {"object", "string", "integer", "boolean", "array", "number"}
KEYWORDS = {
    "$schema", "title", "description", "type", "properties", "required", "additionalProperties", "anyOf", "enum",
    "minimum", "maximum", "minLength", "minItems", "maxItems", "maxLength", "pattern", "format", "items", "const",
    "default", "examples",
}  # fmt: skip


def schemas(node: dict[str, Any]) -> Iterator[dict[str, Any]]:
    """Yield every schema inside a schema, itself first."""
    yield node
    inner = [*node.get("properties", {}).values(), *node.get("anyOf", ())]
    inner += [node[name] for name in ("additionalProperties", "items") if isinstance(node.get(name), dict)]
    for one in inner:
        yield from schemas(one)


@pytest.fixture(scope="module")
def schema(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    said = Shell(tmp_path_factory.mktemp("schema"), "http://127.0.0.1:1").run("schema")
    assert (said.code, said.stderr) == (0, "")
    schema = json.loads(said.stdout)
    assert isinstance(schema, dict)
    return schema


def test_schema_is_well_formed(schema: dict[str, Any]) -> None:
    assert schema["$schema"] == "https://json-schema.org/draft/2020-12/schema"
    for one in schemas(schema):
        assert not one.keys() - KEYWORDS
        assert one.get("type", "object") in TYPES
        assert set(one.get("required", ())) <= one.get("properties", {}).keys()
        re.compile(one.get("pattern", ""))


def test_schema_knows_every_table_and_describes_every_field(schema: dict[str, Any]) -> None:
    own = {"job", "account", "audience", "limits", "policy"}
    of_provider = {
        one["properties"]["account"]["properties"]["provider"]["anyOf"][0]["enum"][0]: one for one in schema["anyOf"]
    }
    assert {name: one["properties"].keys() - own for name, one in of_provider.items()} == {
        "insider": {"create", "launch"},
        "usercom": {"segment", "desired", "guard", "launch"},
        "stream": {"segment", "desired", "guard", "launch", "start", "watch"},
        "batch": {"launch"},
    }
    for one in of_provider.values():
        assert own <= one["properties"].keys()
        assert one["required"] == ["job", "account"]
        for name, table in one["properties"].items():
            if name in ("job", "account", "limits"):
                continue
            undescribed = [field for field, it in table["properties"].items() if not it.get("description")]
            assert not undescribed, (name, undescribed)
            assert table["additionalProperties"] is False
    launch = of_provider["insider"]["properties"]["launch"]
    assert launch["required"] == ["title", "description", "image", "link", "ttl"]


@pytest.mark.parametrize("provider", STARTERS)
def test_schema_holds_every_field_of_the_starter(schema: dict[str, Any], shell: Shell, provider: str) -> None:
    assert shell.call("init", provider, "--dir", ".").code == 0
    job = tomllib.loads((shell.folder / f"{provider}.toml").read_text("utf-8"))
    branch = list(STARTERS).index(provider)
    tables = schema["anyOf"][branch]["properties"]
    for name, table in job.items():
        assert name in tables
        if isinstance(table, dict):
            assert table.keys() <= tables[name]["properties"].keys()


# The starter

FILES = set(STARTERS["insider"])


@pytest.fixture
def fresh(shell: Shell) -> Shell:
    """A folder with nothing in it, and no secret set."""
    for path in shell.folder.iterdir():
        path.unlink()
    shell.env.clear()
    return shell


@pytest.mark.parametrize(
    ("provider", "secret", "sends", "calls"),
    [
        ("insider", "INSIDER_TOKEN", 5, {"insider.create": 1, "insider.launch": 5}),
        ("usercom", "USERCOM_TOKEN", 3, {"usercom.create": 3}),
        ("stream", "STREAM_SECRET", 3, {"stream.campaign.create": 3, "stream.campaign.start": 3}),
        ("batch", "BATCH_REST_KEY", 3, {"batch.create": 3, "batch.update": 3}),
    ],
)
def test_the_starter_is_accepted_by_plan_and_completes_with_an_emulator(
    fresh: Shell, provider: str, secret: str, sends: int, calls: dict[str, int]
) -> None:
    said = fresh.run("init", provider)
    assert (said.code, said.stdout) == (0, "")
    assert said.stderr.count("\n") == 1
    assert fresh.listing().keys() == set(STARTERS[provider])
    before = fresh.listing()

    # The very command that init proposes.
    proposed = re.search(r"bulksend (plan .+)$", said.stderr.strip())
    assert proposed is not None
    said = fresh.call(*proposed[1].split())
    assert (said.code, said.errors) == (0, [])
    assert f"{secret} is not set" in said.warnings[0]
    notes = said.warnings[1:]

    said = fresh.call("plan", f"{provider}.toml", "--var", "day=today", "--emulate")
    assert (said.code, said.errors, said.warnings) == (0, [], notes)

    said = fresh.run("run", f"{provider}.toml", "--var", "day=today", "--emulate", "--json")
    assert said.code == 0
    assert said.data["state"] == "done"
    assert said.data["sends"] == {"total": sends, "accepted": sends, "rejected": 0, "unknown": 0, "pending": 0}
    assert {name: said.data["endpoints"][name]["calls"] for name in calls} == calls
    assert fresh.listing() == before


def test_plan_tells_where_streams_de_duplication_ends(fresh: Shell) -> None:
    assert fresh.call("init", "stream").code == 0
    said = fresh.call("plan", "stream.toml", "--var", "day=today", "--emulate")
    de_duplication, watch = said.warnings
    assert "within a campaign, not between campaigns" in de_duplication
    assert "until the vendor has completed each campaign" in watch


def test_init_overwrites_nothing(fresh: Shell) -> None:
    assert fresh.call("init", "insider").code == 0
    fresh.write("insider.toml", "my own")
    before = fresh.listing()
    said = fresh.call("init", "insider")
    assert said.code == 2
    assert said.errors == ["insider.toml is there already; nothing was written"]
    assert fresh.listing() == before


def test_init_writes_both_files_or_none(fresh: Shell) -> None:
    fresh.write("insider-stores.csv", "my own")
    before = fresh.listing()
    said = fresh.call("init", "insider")
    assert said.code == 2
    assert said.errors == ["insider-stores.csv is there already; nothing was written"]
    assert fresh.listing() == before


def test_init_into_another_folder(fresh: Shell) -> None:
    (fresh.folder / "jobs").mkdir()
    assert fresh.call("init", "insider", "--dir", "jobs").code == 0
    assert {path.name for path in (fresh.folder / "jobs").iterdir()} == FILES
    assert fresh.call("plan", "jobs/insider.toml", "--var", "day=today").code == 0


def test_init_into_a_folder_that_is_not_there(fresh: Shell) -> None:
    said = fresh.call("init", "insider", "--dir", "jobs")
    assert said.code in (1, 2)
    assert len(said.errors) == 1
    assert "jobs" in said.errors[0]
    assert fresh.listing() == {}


def test_init_of_an_unknown_provider(fresh: Shell) -> None:
    said = fresh.call("init", "insidr")
    assert said.code == 2
    assert len(said.errors) == 1
    assert "insider" in said.errors[0].partition("'insidr'")[2]
    assert fresh.listing() == {}
