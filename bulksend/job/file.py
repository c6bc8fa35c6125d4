"""The job file: TOML in, a checked `Job` out, or every problem with its line."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import cast

from bulksend.errors import JobError, Problem
from bulksend.fields import Fault, Field, Fields, Kind, did_you_mean, read_table, unknown_fields
from bulksend.job.accounts import AccountSpec, check_base_url, check_secret_source
from bulksend.job.lines import read_toml
from bulksend.job.spec import AUDIENCE, POLICY, AudienceSpec, Job, LoadedAccount, Policy, share
from bulksend.job.template import placeholders, substitute_vars, unescape
from bulksend.model import Limit
from bulksend.providers import PROVIDERS, Provider
from bulksend.providers.base import SEGMENT

__all__ = ["load_account", "load_job"]

JOB_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,200}")


_OWN_TABLES = ("account", "audience", "limits", "policy")


def load_job(
    source: str | os.PathLike[str] | Mapping[str, object],
    *,
    variables: Mapping[str, str] | None = None,
    base_url: str | None = None,
    rows_from_code: bool = False,
) -> Job:
    """Read a job file, or the same tables as a mapping, and check all that needs no audience and no secret.

    Raises JobError with every problem found, each with its line.
    """
    if isinstance(source, Mapping):
        path, tree, lines = Path.cwd() / "job", dict(source), dict[str, int]()
    else:
        path = Path(source).absolute()
        tree, lines = read_toml(path)
    if base_url is not None:
        try:
            check_base_url(base_url)
        except ValueError as wrong:
            raise JobError(Problem(str(wrong), field="--base-url")) from None
    return _Reader(path, tree, lines, base_url, rows_from_code=rows_from_code).read(variables or {})


def load_account(account: Mapping[str, object], limits: Mapping[str, str]) -> LoadedAccount:
    """Check the fields of one [account] and of [limits], for calls without a job. Raises JobError with every fault."""
    tree: dict[str, object] = {"account": dict(account), "limits": dict(limits)}
    return _Reader(Path.cwd() / "account", tree, {}, None, rows_from_code=True).read_account()


class _Reader:
    """Reads one job file; collects faults and raises them together."""

    def __init__(
        self, path: Path, tree: dict[str, object], lines: dict[str, int], base_url: str | None, *, rows_from_code: bool
    ) -> None:
        self.path, self.tree, self.lines = path, tree, lines
        self.base_url = base_url
        self.rows_from_code = rows_from_code
        self.faults: list[Fault] = []
        self.loose: set[str] = set()
        self.of_segment: list[str] = []
        """Paths of the texts that name the job's segment."""

    def read(self, variables: Mapping[str, str]) -> Job:
        self.tree = cast(dict[str, object], self._fill(self.tree, "", variables))
        name = self._name()
        provider = self._provider()
        if provider is None:
            self._raise()
            raise AssertionError("unreachable")
        self._check_tables(provider)
        accounts = self._accounts(provider)
        audience = self._audience()
        policy = self._policy()
        limits = self._limits(provider)
        tables = self._provider_tables(provider, audience=audience)
        job = Job(
            name,
            self.path,
            provider,
            accounts,
            audience,
            tables,
            limits,
            policy,
            self.lines,
            frozenset(self.loose),
            faulty=bool(self.faults),
        )
        self._raise(job)
        return job

    def read_account(self) -> LoadedAccount:
        provider = self._provider()
        if provider is None:
            self._raise()
            raise AssertionError("unreachable")
        accounts = self._accounts(provider)
        if len(accounts) > 1 or "default" not in accounts:
            self._fault("account", "is one account here: its fields by themselves")
        limits = self._limits(provider)
        self._raise()
        return LoadedAccount(provider, accounts["default"], limits)

    def _raise(self, partial: Job | None = None) -> None:
        if self.faults:
            job = Job("", self.path, PROVIDERS["insider"], {}, None, {}, {}, Policy(), self.lines)
            # A field that is there under a misspelt name is not told as missing too.
            meant = {
                f"{fault.path.rpartition('.')[0]}.{near[1]}"
                for fault in self.faults
                if (near := re.search(r"; did you mean (\S+)\?", fault.text))
            }
            told = [one for one in dict.fromkeys(self.faults) if one.text != "is required" or one.path not in meant]
            problems = [job.problem(fault) for fault in told]
            wrong = JobError(sorted(problems, key=lambda problem: problem.line or 0))
            wrong.partial = partial
            raise wrong

    def _fault(self, path: str, text: str) -> None:
        self.faults.append(Fault(path, text))

    def _fill(self, value: object, path: str, variables: Mapping[str, str]) -> object:
        """Fill in `${var.X}` everywhere."""
        if isinstance(value, str):
            try:
                filled = substitute_vars(value, variables)
            except ValueError as wrong:
                self._fault(path, str(wrong))
                return value
            if SEGMENT in filled:
                self.of_segment.append(path)
            elif filled != value:
                self.loose.add(path)
            return filled
        if isinstance(value, Mapping):
            return {
                name: self._fill(item, f"{path}.{name}" if path else name, variables) for name, item in value.items()
            }
        if isinstance(value, list):
            return [self._fill(item, path, variables) for item in value]
        return value

    def _plain(self, value: object, path: str) -> object:
        """Return a value in which no column may stand, with `$${` turned into `${`."""
        if isinstance(value, str):
            try:
                names = placeholders(value)
            except ValueError:
                return value  # told by _fill
            if names and not any(name.startswith("var.") for name in names):
                self._fault(path, f"${{{names[0]}}} cannot stand here: only ${{var.NAME}} can")
            return unescape(value)
        if isinstance(value, Mapping):
            return {name: self._plain(item, f"{path}.{name}") for name, item in value.items()}
        if isinstance(value, list):
            return [self._plain(item, path) for item in value]
        return value

    def _table(self, name: str) -> dict[str, object] | None:
        value = self.tree.get(name)
        if value is None:
            return None
        if not isinstance(value, Mapping):
            self._fault(name, f"must be a table: write [{name}]")
            return None
        return dict(value)

    def _name(self) -> str:
        name = self._plain(self.tree.get("job"), "job")
        if name is None:
            self._fault("job", 'is required: the name of the job, such as job = "spring-sale"')
        elif not isinstance(name, str) or not name.strip() or not JOB_NAME.fullmatch(name):
            self._fault("job", "must be a text of 1 to 200 characters on one line")
        return str(name)

    def _provider(self) -> Provider | None:
        table = self._table("account")
        if table is None:
            if "account" not in self.tree:
                self._fault("account", "is missing: a job has an [account] table")
            return None
        named = [(name, item) for name, item in table.items() if isinstance(item, Mapping)]
        found = [("account", table.get("provider"))] if "provider" in table else []
        found += [(f"account.{name}", item["provider"]) for name, item in named if "provider" in item]
        if not found:
            self._fault("account.provider", f"is required: one of {', '.join(PROVIDERS)}")
            return None
        for path, value in found:
            if value not in PROVIDERS:
                text = f"there is no provider {value!r}{did_you_mean(str(value), PROVIDERS)}"
                self._fault(f"{path}.provider", text)
                return None
            if value != found[0][1]:
                self._fault(f"{path}.provider", "all accounts of a job have the same provider")
        return PROVIDERS[str(found[0][1])]

    def _check_tables(self, provider: Provider) -> None:
        known = ("job", *_OWN_TABLES, *provider.tables)
        for name in self.tree:
            if name not in known:
                what = "table" if isinstance(self.tree[name], Mapping) else "key"
                self._fault(name, f"unknown {what}{did_you_mean(name, known)}")

    def _accounts(self, provider: Provider) -> dict[str, AccountSpec]:
        table = self._table("account") or {}
        named = {name: item for name, item in table.items() if isinstance(item, Mapping)}
        shared = {name: item for name, item in table.items() if not isinstance(item, Mapping)}
        if not named:
            return {"default": self._account(provider, "default", shared, "account")}
        return {
            name: self._account(provider, name, {**shared, **item}, f"account.{name}") for name, item in named.items()
        }

    def _account(self, provider: Provider, name: str, table: Mapping[str, object], path: str) -> AccountSpec:
        fields: Fields = {
            "provider": Field(Kind.TEXT),
            "base_url": Field(Kind.TEXT, check=check_base_url),
            **provider.account_ids,
            **{
                key: Field(Kind.TEXT, required=spec.required, check=check_secret_source)
                for key, spec in provider.account_secrets.items()
            },
        }
        self.faults += unknown_fields(fields, table, path)
        columns = {key for key, value in table.items() if isinstance(value, str) and _has_columns(value)}
        checked = [key for key in fields if key not in columns or key in provider.account_secrets]
        values, faults = read_table(fields, table, path, only=checked)
        self.faults += faults
        for key in columns if path != "account" else columns & {"provider", "base_url"}:
            self._fault(f"{path}.{key}", "cannot differ from row to row: use [account.NAME] tables")
        base_url = self.base_url or str(values.get("base_url", provider.base_url))
        return AccountSpec(
            name,
            base_url.rstrip("/"),
            {key: str(values.get(key, "")) for key in provider.account_ids},
            {key: str(values.get(key, "")) for key in provider.account_secrets},
        )

    def _audience(self) -> AudienceSpec | None:
        table = self._table("audience")
        if table is None:
            return None
        fields = {
            name: spec for name, spec in AUDIENCE.items() if not (self.rows_from_code and name in ("from", "sql"))
        }
        self.faults += unknown_fields(AUDIENCE, table, "audience")
        chooser = table.pop("account", None)
        plain = self._plain(table, "audience")
        assert isinstance(plain, dict)
        values, faults = read_table(fields, plain, "audience", loose=self._loose_in("audience"))
        self.faults += faults
        source, sql = (None, None) if self.rows_from_code else (values.get("from"), values.get("sql"))
        if not self.rows_from_code and not faults:
            if source is None and sql is None:
                self._fault("audience.from", "is required: a file, or `sql` in its place")
            elif source is not None and sql is not None:
                self._fault("audience.sql", "stands beside `from`: keep one of the two")
        accounts = self._table("account") or {}
        has_names = any(isinstance(item, Mapping) for item in accounts.values())
        if chooser is None and sum(isinstance(item, Mapping) for item in accounts.values()) > 1:
            self._fault("audience.account", 'is required with several accounts: which one a row belongs to, "${brand}"')
        if chooser is not None and (not isinstance(chooser, str) or not chooser.strip()):
            self._fault("audience.account", 'must be text such as "${brand}"')
        elif chooser is not None and not has_names:
            self._fault("audience.account", "chooses among [account.NAME] tables, and there are none")
        return AudienceSpec(
            key=str(values.get("key", "")),
            source=None if source is None else str(source),
            sql=None if sql is None else str(sql),
            chunk=cast("int | None", values.get("chunk")),
            account=None if chooser is None else str(chooser),
        )

    def _loose_in(self, table: str) -> set[str]:
        prefix = f"{table}."
        return {path.removeprefix(prefix).partition(".")[0] for path in self.loose if path.startswith(prefix)}

    def _policy(self) -> Policy:
        table = self._plain(self._table("policy") or {}, "policy")
        assert isinstance(table, dict)
        self.faults += unknown_fields(POLICY, table, "policy")
        values, faults = read_table(POLICY, table, "policy", loose=self._loose_in("policy"))
        self.faults += faults
        if faults:
            return Policy()
        if "max_lateness" in values and "due" not in values:
            self._fault("policy.max_lateness", "needs `due`: when the run should start")
        stop_after = values.get("stop_after")
        return Policy(
            canary=cast("int | None", values.get("canary")),
            max_sends=cast("int | None", values.get("max_sends")),
            stop_after=None if stop_after is None else share(str(stop_after)),
            deadline_s=cast("float | None", values.get("deadline")),
            due=cast("float | None", values.get("due")),
            max_lateness_s=cast("float | None", values.get("max_lateness")),
            resend_unknown=values.get("on_unknown") == "resend",
        )

    def _limits(self, provider: Provider) -> dict[str, Limit]:
        limits = {}
        for name, text in _flat(self._table("limits") or {}):
            path = f"limits.{name}"
            if name not in provider.endpoints:
                self._fault(path, f"there is no endpoint {name}{did_you_mean(name, provider.endpoints)}")
                continue
            try:
                limits[name] = Limit.parse(str(self._plain(text, path)))
            except ValueError as wrong:
                self._fault(path, str(wrong))
        return limits

    def _provider_tables(self, provider: Provider, *, audience: AudienceSpec | None) -> dict[str, dict[str, object]]:
        tables = {name: table for name in provider.tables if (table := self._table(name)) is not None}
        for name, table in tables.items():
            self.faults += unknown_fields(provider.tables[name], table, name)
            self._read_static(provider.tables[name], table, name, loose=self._loose_in(name))
            self._settle_fixed(provider.tables[name], table, name)
            same = {key: value for key, value in table.items() if not _has_columns(value)}
            self.faults += provider.check(name, same, now=0.0)  # what only time makes wrong is told where it is sent
        chunk = None if audience is None else audience.chunk
        self.faults += provider.review(tables, has_audience=audience is not None, chunk=chunk)
        for path in self.of_segment:
            top = path.partition(".")[0]
            if "segment" not in tables or top not in tables or top == "segment":
                self._fault(
                    path, "${segment.id} cannot stand here: it is the id of the job's [segment], for its launch"
                )
        return provider.complete(tables)

    def _settle_fixed(self, fields: Fields, table: dict[str, object], path: str) -> None:
        """Give what decides the job's way its own type, where a variable brought it as text; columns cannot."""
        fixed = [key for key, spec in fields.items() if spec.fixed and key in table]
        for key in fixed:
            if _has_columns(table[key]):
                self._fault(f"{path}.{key}", "decides how the whole job is sent: no ${column} can stand here")
        values, _ = read_table(fields, {key: table[key] for key in fixed}, path, loose=self._loose_in(path), only=fixed)
        table |= values

    def _read_static(self, fields: Fields, table: Mapping[str, object], path: str, *, loose: Collection[str]) -> None:
        """Check what is the same for every row; in a table of which a part differs, the other parts."""
        static = [key for key in fields if not _has_columns(table.get(key))]
        plain = {key: self._plain(value, f"{path}.{key}") for key, value in table.items() if key in static}
        _, faults = read_table(fields, plain, path, loose=loose, only=static)
        self.faults += faults
        for key, value in table.items():
            if key in fields and key not in static and isinstance(value, Mapping):
                self._read_static(fields[key].fields, value, f"{path}.{key}", loose=())
            elif key in fields and key not in static and isinstance(value, list):
                for number, item in enumerate(value, 1):
                    if isinstance(item, Mapping):
                        self._read_static(fields[key].fields, item, f"{path}.{key}[{number}]", loose=())


def _has_columns(value: object) -> bool:
    if isinstance(value, str):
        try:
            return any(not name.startswith("var.") for name in placeholders(value))
        except ValueError:
            return False
    if isinstance(value, Mapping):
        return any(_has_columns(item) for item in value.values())
    return isinstance(value, list) and any(_has_columns(item) for item in value)


def _flat(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """`"insider.launch" = …` and `insider.launch = …` are the same key."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
