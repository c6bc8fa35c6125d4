"""An emulator as a child process, for `--emulate` and `demo`: a pipeline can be tried without an account."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager

import orjson

from bulksend.errors import EmulatorError
from bulksend.model import Account, Limit, Secret
from bulksend.providers import Provider

__all__ = ["emulator"]

START_TIMEOUT_S = 30.0


@asynccontextmanager
async def emulator(
    provider: Provider,
    *,
    accounts: int,
    limits: Mapping[str, Limit],
    campaigns: Sequence[str] = (),
    flags: Sequence[str] = (),
) -> AsyncIterator[list[Account]]:
    """Run the provider's emulator on a free loopback port; yields the accounts that it accepts.

    It keeps the job's own limits, and knows the campaigns that the job names. The child ends with this block, or when
    this process dies: its standard input closes then. Raises EmulatorError when it does not come up.
    """
    arguments = [sys.executable, "-m", "bulksend", "emulate", provider.name, "--port", "0", "--until-stdin-closes"]
    arguments += ["--accounts", str(accounts)]
    for name, limit in limits.items():
        arguments += ["--limit", f"{name}={limit}"]
    for campaign in campaigns:
        arguments += ["--campaign", campaign]
    child = await asyncio.create_subprocess_exec(
        *arguments, *flags, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.PIPE, start_new_session=True
    )
    assert child.stdout is not None
    assert child.stdin is not None
    try:
        try:
            async with asyncio.timeout(START_TIMEOUT_S):
                line = await child.stdout.readline()
            ready = orjson.loads(line)[provider.name]
        except (TimeoutError, orjson.JSONDecodeError, KeyError, TypeError):
            raise EmulatorError("the emulator did not come up; its own words, if any, stand above") from None
        yield [_account(provider, one) for one in ready.get("accounts", [ready])]
    finally:
        child.stdin.close()
        try:
            async with asyncio.timeout(5):
                await child.wait()
        except TimeoutError:
            child.kill()
            await child.wait()


def _account(provider: Provider, given: Mapping[str, str]) -> Account:
    ids = {name: str(given[name]) for name in provider.account_ids}
    secrets = {name: Secret(str(given[name])) for name in provider.account_secrets}
    return Account("emulator", provider.name, str(given["url"]), ids, secrets)
