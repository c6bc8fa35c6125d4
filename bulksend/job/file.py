"""The job file: TOML in, a checked `Job` out, or every problem with its line."""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path
from typing import cast

from bulksend.errors import JobError, Problem
from bulksend.fields import Field, Fields, Kind, did_you_mean, read_table, unknown_fields
from bulksend.job.accounts import AccountSpec, check_base_url
from bulksend.job.lines import read_toml
from bulksend.job.secret import check_secret_source
from bulksend.job.spec import (
    AUDIENCE,
    DESIRED,
    GUARD,
    POLICY,
    SHRINK_MOST,
    Amount,
    AudienceSpec,
    DesiredSpec,
    Guard,
    Job,
    LoadedAccount,
    Policy,
    Verify,
    share,
)
from bulksend.job.tree import Tree, has_columns
from bulksend.model import Limit
from bulksend.providers import PROVIDERS, Provider

__all__ = ["load_account", "load_job"]

JOB_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,200}")


_OWN_TABLES = ("account", "audience", "desired", "guard", "limits", "policy")


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


class _Reader(Tree):
    """Reads one job file; collects faults and raises them together."""

    def __init__(
        self, path: Path, tree: dict[str, object], lines: dict[str, int], base_url: str | None, *, rows_from_code: bool
    ) -> None:
        super().__init__(tree)
        self.path, self.lines = path, lines
        self.base_url = base_url
        self.rows_from_code = rows_from_code

    def read(self, variables: Mapping[str, str]) -> Job:
        self.fill_in(variables)
        name = self._name()
        provider = self._provider()
        if provider is None:
            self._raise()
            raise AssertionError("unreachable")
        self._check_tables(provider)
        accounts = self._accounts(provider)
        audience = self._audience()
        desired = self._desired(provider)
        guard = self._guard()
        policy = self._policy()
        limits = self._limits(provider)
        tables = self._provider_tables(provider, audience=audience)
        job = Job(
            name,
            self.path,
            provider,
            accounts,
            audience,
            desired,
            guard,
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
            self.fault("account", "is one account here: its fields by themselves")
        limits = self._limits(provider)
        self._raise()
        return LoadedAccount(provider, accounts["default"], limits)

    def _raise(self, partial: Job | None = None) -> None:
        if self.faults:
            job = Job("", self.path, PROVIDERS["insider"], {}, None, None, Guard(), {}, {}, Policy(), self.lines)
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

    def _name(self) -> str:
        name = self.plain(self.tree.get("job"), "job")
        if name is None:
            self.fault("job", 'is required: the name of the job, such as job = "spring-sale"')
        elif not isinstance(name, str) or not name.strip() or not JOB_NAME.fullmatch(name):
            self.fault("job", "must be a text of 1 to 200 characters on one line")
        return str(name)

    def _provider(self) -> Provider | None:
        table = self.table("account")
        if table is None:
            if "account" not in self.tree:
                self.fault("account", "is missing: a job has an [account] table")
            return None
        named = [(name, item) for name, item in table.items() if isinstance(item, Mapping)]
        found = [("account", table.get("provider"))] if "provider" in table else []
        found += [(f"account.{name}", item["provider"]) for name, item in named if "provider" in item]
        if not found:
            self.fault("account.provider", f"is required: one of {', '.join(PROVIDERS)}")
            return None
        for path, value in found:
            if not isinstance(value, str):
                self.fault(f"{path}.provider", f"must be one of {', '.join(PROVIDERS)}")
                return None
            if value not in PROVIDERS:
                self.fault(f"{path}.provider", f"there is no provider {value!r}{did_you_mean(value, PROVIDERS)}")
                return None
            if value != found[0][1]:
                self.fault(f"{path}.provider", "all accounts of a job have the same provider")
        return PROVIDERS[str(found[0][1])]

    def _check_tables(self, provider: Provider) -> None:
        known = ("job", *_OWN_TABLES, *provider.tables)
        for name in self.tree:
            if name not in known:
                what = "table" if isinstance(self.tree[name], Mapping) else "key"
                self.fault(name, f"unknown {what}{did_you_mean(name, known)}")

    def _accounts(self, provider: Provider) -> dict[str, AccountSpec]:
        table = self.table("account") or {}
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
            "sandbox": Field(Kind.BOOLEAN),
            **provider.account_ids,
            **{
                key: Field(Kind.TEXT, required=spec.required, check=check_secret_source)
                for key, spec in provider.account_secrets.items()
            },
        }
        self.faults += unknown_fields(fields, table, path)
        columns = {key for key, value in table.items() if isinstance(value, str) and has_columns(value)}
        checked = [key for key in fields if key not in columns or key in provider.account_secrets]
        values, faults = read_table(fields, table, path, only=checked)
        self.faults += faults
        for key in columns if path != "account" else columns & {"provider", "base_url", "sandbox"}:
            self.fault(f"{path}.{key}", "cannot differ from row to row: use [account.NAME] tables")
        base_url = self.base_url or str(values.get("base_url", provider.base_url))
        return AccountSpec(
            name,
            base_url.rstrip("/"),
            {key: str(values.get(key, "")) for key in provider.account_ids},
            {key: str(values.get(key, "")) for key in provider.account_secrets},
            sandbox=values.get("sandbox") is True,
        )

    def _audience(self) -> AudienceSpec | None:
        table = self.table("audience")
        if table is None:
            return None
        fields = {
            name: spec for name, spec in AUDIENCE.items() if not (self.rows_from_code and name in ("from", "sql"))
        }
        self.faults += unknown_fields(AUDIENCE, table, "audience")
        chooser = table.pop("account", None)
        plain = self.plain(table, "audience")
        assert isinstance(plain, dict)
        values, faults = read_table(fields, plain, "audience", loose=self.loose_in("audience"))
        self.faults += faults
        source, sql = (None, None) if self.rows_from_code else (values.get("from"), values.get("sql"))
        if not self.rows_from_code and not faults:
            if source is None and sql is None:
                self.fault("audience.from", "is required: a file, or `sql` in its place")
            elif source is not None and sql is not None:
                self.fault("audience.sql", "stands beside `from`: keep one of the two")
        chunk = values.get("chunk")
        accounts = self.table("account") or {}
        has_names = any(isinstance(item, Mapping) for item in accounts.values())
        if chooser is None and sum(isinstance(item, Mapping) for item in accounts.values()) > 1:
            self.fault("audience.account", 'is required with several accounts: which one a row belongs to, "${brand}"')
        if chooser is not None and (not isinstance(chooser, str) or not chooser.strip()):
            self.fault("audience.account", 'must be text such as "${brand}"')
        elif chooser is not None and not has_names:
            self.fault("audience.account", "chooses among [account.NAME] tables, and there are none")
        return AudienceSpec(
            key=str(values.get("key", "")),
            source=None if source is None else str(source),
            sql=None if sql is None else str(sql),
            chunk=chunk if isinstance(chunk, int) and not isinstance(chunk, bool) else None,
            account=None if chooser is None else str(chooser),
        )

    def _desired(self, provider: Provider) -> DesiredSpec | None:
        table = self.table("desired")
        if table is None:
            return None
        targets = provider.targets
        if targets is None:
            self.fault("desired", f"{provider.title} has no route that reads who is in a segment")
            return None
        segment = self.table("segment")
        if segment is None:
            self.fault("segment", "is missing: [desired] is brought into a [segment]")
        for name in ("id", "name"):
            if segment is not None and has_columns(segment.get(name)):
                self.fault(f"segment.{name}", "is one segment's, with [desired]: no ${column} can stand here")
        self.faults += unknown_fields(DESIRED, table, "desired")
        plain = self.plain(table, "desired")
        assert isinstance(plain, dict)
        values, faults = read_table(DESIRED, plain, "desired", loose=self.loose_in("desired"))
        self.faults += faults
        source, sql, match = (values.get(name) for name in ("from", "sql", "match"))
        if not faults and (source is None) is (sql is None):
            path, text = ("sql", "stands beside `from`: keep one of the two") if source is not None else ("from", "")
            self.fault(f"desired.{path}", text or "is required: a file, or `sql` in its place")
        if match is not None and match not in targets.matches:
            known = did_you_mean(str(match), targets.matches) or f"; a target of {provider.name} is an id alone"
            self.fault("desired.match", f"there is no field {match}{known}")
        accounts = [item for item in (self.table("account") or {}).values() if isinstance(item, Mapping)]
        if len(accounts) > 1 or has_columns({**(self.table("account") or {})}):
            self.fault("desired", "needs one account: a job with several makes no segment of each")
        return DesiredSpec(
            key=str(values.get("key", "")),
            source=None if source is None else str(source),
            sql=None if sql is None else str(sql),
            match=str(match) if match is not None else next(iter(targets.matches), ""),
        )

    def _guard(self) -> Guard:
        table = self.plain(self.table("guard") or {}, "guard")
        assert isinstance(table, dict)
        if "guard" in self.tree and "desired" not in self.tree:
            self.fault("guard", "guards a [desired] list, and there is none; launches are guarded by [policy]")
        self.faults += unknown_fields(GUARD, table, "guard")
        values, faults = read_table(GUARD, table, "guard", loose=self.loose_in("guard"))
        self.faults += faults
        if faults:
            return Guard()
        amounts = {name: Amount.parse(str(values[name])) for name in ("max_remove", "max_add") if name in values}
        return Guard(
            **amounts,
            max_shrink=share(str(values["max_shrink"])) if "max_shrink" in values else SHRINK_MOST,
            allow_empty=values.get("allow_empty") is True,
            verify=Verify(str(values.get("verify", Verify.FULL))),
        )

    def _policy(self) -> Policy:
        table = self.plain(self.table("policy") or {}, "policy")
        assert isinstance(table, dict)
        self.faults += unknown_fields(POLICY, table, "policy")
        values, faults = read_table(POLICY, table, "policy", loose=self.loose_in("policy"))
        self.faults += faults
        if faults:
            return Policy()
        if "max_lateness" in values and "due" not in values:
            self.fault("policy.max_lateness", "needs `due`: when the run should start")
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
        for name, text in _flat(self.table("limits") or {}):
            path = f"limits.{name}"
            if name not in provider.endpoints:
                self.fault(path, f"there is no endpoint {name}{did_you_mean(name, provider.endpoints)}")
                continue
            try:
                limits[name] = Limit.parse(str(self.plain(text, path)))
            except ValueError as wrong:
                self.fault(path, str(wrong))
        return limits

    def _provider_tables(self, provider: Provider, *, audience: AudienceSpec | None) -> dict[str, dict[str, object]]:
        tables = {name: table for name in provider.tables if (table := self.table(name)) is not None}
        for name, table in tables.items():
            self.faults += unknown_fields(provider.tables[name], table, name)
            self._read_static(provider.tables[name], table, name, loose=self.loose_in(name))
            self._settle_fixed(provider.tables[name], table, name)
            same = {key: value for key, value in table.items() if not has_columns(value)}
            self.faults += provider.check(name, same, now=0.0)  # what only time makes wrong is told where it is sent
        chunk = None if audience is None else audience.chunk
        syncs = "desired" in self.tree
        self.faults += provider.review(tables, has_audience=audience is not None, chunk=chunk, syncs=syncs)
        if audience is not None and syncs and "launch" not in tables:
            self.fault("audience", "is for launches, and there is no [launch]; the list of ids is [desired]")
        for path in self.of_segment:
            top = path.partition(".")[0]
            if "segment" not in tables or top not in tables or top == "segment":
                self.fault(path, "${segment.id} cannot stand here: it is the id of the job's [segment], for its launch")
        return provider.complete(tables)

    def _settle_fixed(self, fields: Fields, table: dict[str, object], path: str) -> None:
        """Give what decides the job's way its own type, where a variable brought it as text; columns cannot."""
        fixed = [key for key, spec in fields.items() if spec.fixed and key in table]
        for key in fixed:
            if has_columns(table[key]):
                self.fault(f"{path}.{key}", "decides how the whole job is sent: no ${column} can stand here")
        values, _ = read_table(fields, {key: table[key] for key in fixed}, path, loose=self.loose_in(path), only=fixed)
        table |= values

    def _read_static(self, fields: Fields, table: Mapping[str, object], path: str, *, loose: Collection[str]) -> None:
        """Check what is the same for every row; in a table of which a part differs, the other parts."""
        static = [key for key in fields if not has_columns(table.get(key))]
        plain = {key: self.plain(value, f"{path}.{key}") for key, value in table.items() if key in static}
        _, faults = read_table(fields, plain, path, loose=loose, only=static)
        self.faults += faults
        for key, value in table.items():
            if key in fields and key not in static and isinstance(value, Mapping):
                self._read_static(fields[key].fields, value, f"{path}.{key}", loose=())
            elif key in fields and key not in static and isinstance(value, list):
                for number, item in enumerate(value, 1):
                    if isinstance(item, Mapping):
                        self._read_static(fields[key].fields, item, f"{path}.{key}[{number}]", loose=())


def _flat(table: Mapping[str, object], prefix: str = "") -> Iterator[tuple[str, object]]:
    """`"insider.launch" = …` and `insider.launch = …` are the same key."""
    for name, value in table.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", value
