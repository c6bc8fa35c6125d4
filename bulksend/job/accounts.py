"""The accounts of a job: one, several by name, or one template filled from each row."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

from bulksend.errors import JobError, Problem
from bulksend.fields import read_table
from bulksend.job.command import COMMAND
from bulksend.job.secret import Secrets, filled, parts_of, shown
from bulksend.job.template import Template, is_blank, placeholders, unescape
from bulksend.model import Account
from bulksend.providers import Provider

__all__ = ["AccountSpec", "Accounts", "check_base_url", "is_loopback"]

_IN_HOST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?")


def is_loopback(host: str) -> bool:
    """Say whether a host, without its port, is this machine."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def check_base_url(url: str) -> None:
    """Raise ValueError unless the URL is https, or http to a loopback address."""
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
        _ = parts.port
    except ValueError:
        raise ValueError("is not an address such as https://api.example.com") from None
    # What one parser reads over (an empty user, a tab, a backslash) may lead another to a different host.
    odd = "@" in parts.netloc or not url.isprintable() or re.search(r"[\s\\?#]", url)
    if parts.scheme not in ("http", "https") or not host or odd:
        raise ValueError("is not an address such as https://api.example.com")
    if parts.scheme == "http" and not is_loopback(host):
        raise ValueError(f"plain http is only for loopback addresses, not {host}: use https")


@dataclass(frozen=True, slots=True)
class AccountSpec:
    """One [account] table as written: ids and secret sources may name columns."""

    name: str
    base_url: str
    ids: Mapping[str, str]
    secrets: Mapping[str, str]
    sandbox: bool = False
    """Whether no call to it reaches people, so that a load test may go there."""


class Accounts:
    """Turns a row into its account; each account is made once, and its secrets are fetched once.

    `columns` are the audience's columns that decide, in the order that `of` takes their values.
    """

    def __init__(
        self, specs: Mapping[str, AccountSpec], *, chooser: str | None, provider: Provider, base_dir: Path
    ) -> None:
        self._specs = specs
        self._provider = provider
        self._secrets = Secrets(base_dir)
        self._made: dict[tuple[str, ...], Account] = {}
        self._chooser = chooser
        only = next(iter(specs.values()))
        secrets = {field: parts_of(source) for field, source in only.secrets.items()}
        self._template = Template({"chooser": chooser} if chooser is not None else {**only.ids, **secrets})
        self.columns = self._template.columns
        self._replaced: Sequence[Account] | None = None
        self.unset: dict[tuple[str, str], int] = {}
        """For how many accounts a secret was not there, by field and source, where that is no error."""

    def is_other(self, before: str, now: str) -> bool:
        """Say whether two names are of two accounts; a name that the job does not have any more may be a new name's."""
        return before != now and (before in self._specs or (self._chooser is None and bool(self.columns)))

    @property
    def made(self) -> list[Account]:
        """Return the accounts so far, in order of first use."""
        return list({account.name: account for account in self._made.values()}.values())

    def absent_secrets(self, *, run_commands: bool = True) -> Iterator[tuple[str, str, str]]:
        """Yield account, field and reason of each secret that is not there, of those that no column decides.

        Without `run_commands`, of a command only whether there is such a program. Blocks while a command runs.
        """
        for spec in self._specs.values():
            for field, source in spec.secrets.items():
                if placeholders(source):
                    continue
                try:
                    self._secrets.check(source, run_commands=run_commands)
                except ValueError as wrong:
                    yield spec.name, field, str(wrong)

    def of(self, values: Sequence[object], *, with_secrets: bool = True) -> Account:
        """Return the account of a row; JobError when it names none, or when a secret is not there."""
        key = tuple(map(str, values))
        account = self._made.get(key)
        if account is None:
            account = self._make(values, with_secrets=with_secrets)
            if self._replaced is not None:
                account = self._replacement(account)
            self._made[key] = account
        return account

    def _replacement(self, account: Account) -> Account:
        assert self._replaced is not None
        stand_in = self._replaced[len(self.made) % len(self._replaced)]
        return Account(account.name, stand_in.provider, stand_in.base_url, stand_in.ids, stand_in.secrets)

    def replace(self, accounts: Sequence[Account]) -> None:
        """Use these accounts' addresses and credentials, in order of first use (an emulator's)."""
        self._replaced = accounts
        self._made = {}

    def _make(self, values: Sequence[object], *, with_secrets: bool) -> Account:
        texts, blanks = self._template.render(values)
        if blanks:
            raise JobError(Problem(f"the column {blanks[0]} decides the account and has no value", field="account"))
        if self._chooser is not None:
            name = str(texts["chooser"])
            spec = self._specs.get(name)
            if spec is None:
                text = f"the row names no [account.NAME] table; there are {', '.join(self._specs)}"
                raise JobError(Problem(text, field="audience.account"))
            texts = {**{key: unescape(text) for key, text in spec.ids.items()}}
            texts |= {key: filled(source) for key, source in spec.secrets.items()}
        else:
            spec = next(iter(self._specs.values()))
            # As JSON where joining could make two accounts look like one.
            texts_of = list(map(str, values))
            name = json.dumps(texts_of) if any("/" in one for one in texts_of) else "/".join(texts_of) or spec.name
        secrets = {}
        for field, source in spec.secrets.items():
            self._check_path(source, values)
            if self._replaced is not None:
                continue
            try:
                # A command is not run for a mere look at the rows; what it has printed before is known.
                secret = self._secrets.fetch(texts[field], run_commands=with_secrets)
            except ValueError as wrong:
                if not with_secrets:
                    self.unset[field, source] = self.unset.get((field, source), 0) + 1
                    continue
                # The file's name may hold a value of the row: the source is told as the job file has it.
                text = f"there is no secret for this row at {shown(source)}" if placeholders(source) else str(wrong)
                raise JobError(Problem(text, field=f"account.{field}")) from None
            if secret is not None:
                secrets[field] = secret
        ids = {field: str(texts[field]) for field in spec.ids}
        _, faults = read_table(self._provider.account_ids, ids, "account")
        if faults:
            raise JobError([Problem(one.text, field=one.path) for one in faults])
        base_url = spec.base_url
        for field, value in ids.items():
            if f"{{{field}}}" in base_url and not _IN_HOST.fullmatch(value):
                text = "is a part of the address, and so must be letters, digits and hyphens only"
                raise JobError(Problem(text, field=f"account.{field}"))
            base_url = base_url.replace(f"{{{field}}}", value)
        return Account(name, self._provider.name, base_url, ids, secrets)

    def _check_path(self, source: str, values: Sequence[object]) -> None:
        """A row's value picks a secret's file by name, or is an argument of a command; it never leads elsewhere."""
        if self._chooser is not None or not placeholders(source):
            return
        for value in values:
            if source.startswith("file:") and (re.search(r"[/\\\0]|^\.", str(value)) or is_blank(value)):
                text = "a value that picks a secret's file must be a plain name, without / and without a leading dot"
                raise JobError(Problem(text, field="account"))
            if source.startswith(COMMAND) and not re.fullmatch(r"\w[\w.@:+-]*", str(value)):
                text = "a value that is put into a secret's command must be a plain name: letters, digits and .@:+-"
                raise JobError(Problem(text, field="account"))
