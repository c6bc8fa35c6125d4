"""One provider table of a job file, compiled: its step of a row, and what is wrong with it."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence

import msgspec

from bulksend.fields import Fault, Kind, read_table
from bulksend.job.mould import Mould
from bulksend.job.spec import Job
from bulksend.job.template import Template, placeholders
from bulksend.job.texts import NotTextError, Text, texts_of
from bulksend.model import Account, Endpoint, Step
from bulksend.providers import SendName
from bulksend.providers.base import SEGMENT

__all__ = ["Table", "written"]

_SEGMENT = SEGMENT.encode()


class Table:
    """One provider table of the job file, compiled: what differs per row is read and checked per row."""

    def __init__(self, job: Job, name: str, endpoint: Endpoint, columns: Sequence[str], *, chunked: bool) -> None:
        self.name = name
        self.endpoint = endpoint
        self._chunked = chunked
        self._leaves: list[tuple[str, Template]] = []
        """Each text with columns, once a row had none for one of them."""
        self._job = job
        self._fields = job.provider.tables[name]
        self._raw = raw = job.tables.get(name, {})
        probe = Template(raw, columns=columns, chunked=chunked)
        static = [field for field in raw if field not in probe.dynamic]
        loose = {path.split(".")[1] for path in job.loose if path.startswith(f"{name}.")}
        self._of_segment = any(isinstance(text, str) and SEGMENT in text for _, text in written(raw, name))
        self._static, _ = read_table(self._fields, raw, name, loose=loose, only=static)
        values = {field: self._static[field] for field in static if field in self._fields}
        # Texts stay as written, since the template still turns `$${` into `${` in them.
        typed = {
            field: value
            for field, value in values.items()
            if self._fields[field].kind not in (Kind.TEXT, Kind.LIST, Kind.TABLE)
        }
        self.template = Template({**raw, **typed}, columns=columns, chunked=chunked)
        # In a list or a table the values keep the form that they are written in until they are rendered.
        inner = {field for field in loose if isinstance(raw.get(field), Mapping | list)}
        self._loose = probe.dynamic | inner
        self._looked_at = [field for field in self._fields if field in self._loose or self._fields[field].fields]

    def static_faults(self, now: float) -> list[Fault]:
        """Return what is wrong with the fields that are the same for every row, at this time."""
        static = {field: value for field, value in self._static.items() if field not in self.template.dynamic}
        return self._job.provider.check(self.name, static, now=now)

    def step(
        self, values: Sequence[object], account: Account, name: SendName, now: float
    ) -> tuple[Step | None, list[Fault]]:
        """Return the step, and what is wrong; a step that is only late is made all the same."""
        body, blanks = self.template.render(values)
        provider = self._job.provider
        if blanks:
            return None, self._blank_faults(body, values, now)
        body, faults = read_table(self._fields, body, self.name, loose=self._loose, only=self._looked_at)
        faults += provider.check(self.name, body, now=now)
        if self._job.faulty or any(not fault.late for fault in faults):
            return None, faults
        try:
            step = provider.step(self.endpoint, self.name, body, account, name=name)
            if self._of_segment:
                segment_id = self._job.segment_id(account) or ""
                body_bytes = step.body.replace(_SEGMENT, json.dumps(segment_id)[1:-1].encode())
                step = msgspec.structs.replace(step, body=body_bytes)
        except (TypeError, UnicodeEncodeError):
            return None, [Fault(self.name, "holds a value that JSON cannot carry")]
        return step, faults

    def texts(self) -> list[Text] | None:
        """Return what differs from row to row; None where it is more than texts."""
        if self._chunked or self._of_segment or self._job.faulty:
            return None
        order = {column: index for index, column in enumerate(self.template.columns)}
        bounds = self._job.provider.bounds(self.name, self._raw)
        try:
            return texts_of(self._fields, self._raw, self.name, order=order, bounds=bounds)
        except NotTextError:
            return None

    def mould(self, texts: Sequence[Text], account: Account) -> Mould | None:
        """Return what makes the step of an account's rows out of their texts; None where these are not all it takes."""
        of_texts = {text.path for text in texts}

        def make(cells: Sequence[str], key: str) -> tuple[Step, Mapping[str, object]] | None:
            body, _ = self.template.render(cells)
            body, faults = read_table(self._fields, body, self.name, loose=self._loose, only=self._looked_at)
            if any(fault.path not in of_texts for fault in faults):
                return None
            try:
                name = SendName(self._job.name, key)
                return self._job.provider.step(self.endpoint, self.name, body, account, name=name), body
            except (TypeError, UnicodeEncodeError):
                return None

        return Mould.cast(make, len(self.template.columns))

    def _blank_faults(self, body: Mapping[str, object], values: Sequence[object], now: float) -> list[Fault]:
        """Return a fault for each text whose column has no value, and what is wrong with the other fields."""
        faults: list[Fault] = []
        blank: set[str] = set()
        if not self._leaves:
            self._leaves = [
                (path, Template({"text": text}, columns=self.template.columns, chunked=self._chunked))
                for path, text in _leaves(self._raw, self.name)
                if placeholders(text)
            ]
        for path, template in self._leaves:
            _, names = template.render(values)
            faults += [Fault(path, f"${{{name}}} has no value") for name in dict.fromkeys(names)]
            blank |= {re.split(r"[.\[]", path)[1]} if names else set()
        others = {field: value for field, value in body.items() if field not in blank}
        looked_at = [field for field in self._looked_at if field in others]
        read, more = read_table(self._fields, others, self.name, loose=self._loose, only=looked_at)
        return faults + more + self._job.provider.check(self.name, read, now=now)


def _leaves(value: object, path: str) -> Iterator[tuple[str, str]]:
    """Yield path and text of every text in a table, each item of a list by its number."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from _leaves(item, f"{path}.{name}")
    elif isinstance(value, list):
        for number, item in enumerate(value, 1):
            yield from _leaves(item, f"{path}[{number}]")
    elif isinstance(value, str):
        yield path, value


def written(value: object, path: str) -> Iterator[tuple[str, object]]:
    """Yield path and text of every text in a table; a list of texts is yielded as well."""
    if isinstance(value, Mapping):
        for name, item in value.items():
            yield from written(item, f"{path}.{name}")
    elif isinstance(value, list):
        yield path, value
        for item in value:
            yield from written(item, path)
    elif isinstance(value, str):
        yield path, value
