"""The library's public names, and that a secret never shows."""

from __future__ import annotations

import ast
import copy
import dataclasses
import json
import pickle
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import msgspec
import pytest

import bulksend
from bulksend import errors
from bulksend.model import Account, Call, Endpoint, Limit, Repeat, Reply, Secret

TEXT = "1a2b3c4d5e6f-never-shown"


def test_public_names_are_sorted_and_there() -> None:
    assert list(bulksend.__all__) == sorted(set(bulksend.__all__))
    for name in bulksend.__all__:
        assert getattr(bulksend, name) is not None
    assert set(bulksend.__all__) <= set(dir(bulksend))


def test_there_is_no_other_name() -> None:
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        _ = bulksend.nothing


def test_every_error_is_public_and_of_one_tree() -> None:
    for name in errors.__all__:
        assert getattr(bulksend, name) is getattr(errors, name)
        kind = getattr(errors, name)
        assert kind is errors.Problem or issubclass(kind, errors.BulksendError)


def test_importing_the_package_loads_nothing_heavy() -> None:
    script = "import sys, bulksend; print(*sorted(sys.modules))"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60, check=True)
    heavy = {"duckdb", "aiohttp", "rich", "typer", "structlog", "msgspec", "asyncio", "sqlite3", "uvloop"}
    assert not heavy & set(done.stdout.split())


def test_every_module_says_what_it_offers() -> None:
    names = [module.name for module in walk_packages(bulksend.__path__, "bulksend.")]
    assert len(names) > 40
    for name in names:
        if name == "bulksend.__main__":
            continue
        module = import_module(name)
        body = ast.parse(Path(str(module.__file__)).read_text("utf-8")).body
        if all(isinstance(one, ast.Expr) for one in body):
            continue  # a package that holds no more than words about itself
        assert len(module.__all__) == len(set(module.__all__)), name
        assert all(hasattr(module, public) for public in module.__all__), name


def test_a_secret_never_shows() -> None:
    secret = Secret(TEXT)
    shown = [
        repr(secret),
        str(secret),
        f"{secret}",
        f"{secret!r:>40}",
        "%s %r" % (secret, secret),  # noqa: UP031
        repr([secret]),
        repr({"token": secret}),
        ascii(secret),
    ]
    assert not any(TEXT in one for one in shown)
    assert secret.reveal() == TEXT
    assert not hasattr(secret, "__dict__")


def test_a_secret_leaves_the_process_in_no_form() -> None:
    secret = Secret(TEXT)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(TypeError):
            pickle.dumps(secret, protocol)
    for dump in (copy.copy, copy.deepcopy, json.dumps, msgspec.json.encode, msgspec.msgpack.encode):
        with pytest.raises(TypeError) as caught:
            dump(secret)
        assert TEXT not in str(caught.value)


def test_secrets_are_compared_by_what_they_hold() -> None:
    assert Secret(TEXT) == Secret(TEXT)
    assert Secret(TEXT) != Secret("other")
    assert Secret(TEXT) != TEXT
    assert len({Secret(TEXT), Secret(TEXT)}) == 1


def test_an_account_and_its_calls_do_not_show_the_secret() -> None:
    account = Account("default", "insider", "https://x", {"partner_id": "1"}, {"token": Secret(TEXT)})
    endpoint = Endpoint("x.launch", "POST", "/", Limit.parse("1/s"), Repeat.NEVER)
    call = Call(endpoint, "https://x/", {"Authorization": f"Bearer {TEXT}"}, TEXT.encode())
    reply = Reply(200, {"set-cookie": TEXT}, TEXT.encode())
    for one in (account, call, reply, [account, call, reply], {"x": call}):
        assert TEXT not in repr(one)
        assert TEXT not in str(one)
    assert TEXT not in account.identity
    with pytest.raises(TypeError):
        dataclasses.asdict(account)
