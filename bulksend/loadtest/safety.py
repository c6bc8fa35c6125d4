"""Where a load test may go: this machine, or an account that the job file marks as a sandbox and a person names."""

from __future__ import annotations

import socket
from collections.abc import Collection, Iterable
from ipaddress import ip_address
from urllib.parse import urlsplit

from bulksend.errors import GuardError
from bulksend.job.accounts import AccountSpec, is_loopback
from bulksend.model import Account

__all__ = ["check_confirmed", "check_marked"]


def check_marked(specs: Iterable[AccountSpec]) -> None:
    """Raise GuardError for an account that is neither on this machine nor marked as a sandbox."""
    for spec in specs:
        host = host_of(spec.base_url)
        if not spec.sandbox and not is_here(host):
            where = "[account]" if spec.name == "default" else f"[account.{spec.name}]"
            text = f"a load test does not go to {host}: {where} is not marked as a sandbox"
            raise GuardError(f"{text} (sandbox = true); --emulate tries it on this machine", refused=True)


def check_confirmed(accounts: Iterable[Account], hosts: Collection[str]) -> None:
    """Raise GuardError for a sandbox that the person has not named by its host."""
    for account in accounts:
        host = host_of(account.base_url)
        if host not in hosts and not is_here(host):
            text = f"this load test calls {host} for real, an account that is marked as a sandbox"
            raise GuardError(f"{text}: confirm it with --confirm-host {host}", refused=True)


def is_here(host: str) -> bool:
    """Say whether a host is this machine by its name and by every address that the name has here.

    `localhost` is what a resolver makes of it, and 127.999.0.1 is a name too.
    """
    if not is_loopback(host):
        return False
    try:
        found = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError):
        return False
    return all(ip_address(str(address[0])).is_loopback for *_, address in found)


def host_of(url: str) -> str:
    """Return the host of an address, in lower case."""
    return (urlsplit(url).hostname or "").lower()
