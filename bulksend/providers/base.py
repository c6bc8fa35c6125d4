"""What the engine asks of a provider, and what all vendors' replies have in common."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol
from urllib.parse import quote, urlencode

import msgspec

from bulksend.fields import Fault, Fields
from bulksend.model import (
    Account,
    Call,
    Denied,
    Endpoint,
    Outcome,
    Probe,
    Rejected,
    Reply,
    Standing,
    Step,
    Throttled,
    Unknown,
    Untold,
    Verdict,
)
from bulksend.providers.targets import Targets

__all__ = [
    "SEGMENT",
    "Flow",
    "Plain",
    "Provider",
    "SendName",
    "Tables",
    "find_past",
    "mark_of",
    "read_common",
    "read_json",
    "read_object",
    "with_query",
]

Tables = Mapping[str, Mapping[str, object]]
"""The provider's own tables of a job file (`create`, `launch`, …), as written or with their values read."""

SEGMENT = "\ue001segment.id\ue001"
"""Stands in a table for `${segment.id}` until the account is known; between characters of the private use area."""


@dataclass(frozen=True, slots=True)
class SendName:
    """What tells a send apart from every other, in all runs of its job: the job's name and the send's key."""

    job: str
    key: str


@dataclass(frozen=True, slots=True)
class Flow:
    """Which calls a job makes: `prepare` once per account, `steps` in order for each send; the names are tables."""

    prepare: tuple[tuple[str, Endpoint], ...]
    steps: tuple[tuple[str, Endpoint], ...]
    hint: str = ""
    """What to do when a prepare call is refused."""
    way: str = ""
    """What tells this way of sending from the provider's others: a job keeps to one."""


class Provider(Protocol):
    """A vendor's API as pure functions of values; times are passed in, in seconds since the epoch."""

    @property
    def name(self) -> str:
        """Return its name in the job file."""

    @property
    def title(self) -> str:
        """Return what people call it."""

    @property
    def base_url(self) -> str:
        """Return the default address; it may name an id of the account, as `https://{app}.user.com`."""

    @property
    def account_ids(self) -> Fields:
        """Return the fields of [account] that are no secret."""

    @property
    def account_secrets(self) -> Fields:
        """Return the fields of [account] that are secret."""

    @property
    def endpoints(self) -> Mapping[str, Endpoint]:
        """Return every endpoint by name."""

    @property
    def bodies(self) -> Mapping[str, Fields]:
        """Return, by endpoint name, the fields that a call takes, in the job file's own form."""

    @property
    def tables(self) -> Mapping[str, Fields]:
        """Return the fields of its own tables in the job file."""

    @property
    def targets(self) -> Targets | None:
        """Return how the targets of its segments are read and changed; None where no route reads them."""

    def review(self, tables: Tables, *, has_audience: bool, chunk: int | None, syncs: bool = False) -> list[Fault]:
        """Return what is wrong with the tables together, as written, beyond each field's own rules.

        `syncs` says that the job brings its segment into line with a list, so that it needs no launch.
        """

    def notes(self, tables: Tables, *, sends: int, chunk: int | None) -> list[Fault]:
        """Return what a person should know before a run of so many sends; nothing of it is an error."""

    def complete(self, tables: Tables) -> dict[str, dict[str, object]]:
        """Fill in what the vendor wants said twice, such as a language; the tables still hold their placeholders."""

    def flow(self, tables: Tables) -> Flow:
        """Return the calls that a job with these tables makes."""

    def segment_id(self, tables: Tables, account: Account) -> str | None:
        """Return what `${segment.id}` stands for; None where the job has no segment."""

    def check(self, table: str, body: Mapping[str, object], *, now: float) -> list[Fault]:
        """Return the rules that a rendered body breaks across its fields, or at this time."""

    def bounds(self, table: str, body: Mapping[str, object]) -> Mapping[str, int]:
        """Return the fields of texts that `check` looks into, by what they say and not only for blanks.

        Each with how many characters it may have for `check` to be sure to have nothing against it; 0 where its length
        does not tell. `body` is the table as written: the same fields are in each row.
        """

    def step(
        self, endpoint: Endpoint, table: str, body: Mapping[str, object], account: Account, *, name: SendName
    ) -> Step:
        """Return the wire form of a rendered and checked body; a text in it is written as it is."""

    def request(self, endpoint: Endpoint, body: Mapping[str, object], account: Account, *, ref: str | None) -> Step:
        """Return the wire form of a call that is made by itself, its body read by `bodies`; `ref` is the path's id."""

    def following(self, endpoint: Endpoint, asked: Mapping[str, object], answered: object) -> dict[str, object] | None:
        """Return what asks for the page after the one that `asked` got; None where it was the last, or no list."""

    def headers(self, account: Account) -> Mapping[str, str]:
        """Return the headers of every call of the account; they hold its secret."""

    def call(self, step: Step, account: Account, headers: Mapping[str, str], *, repeats: int) -> Call:
        """Return the request of a step, whose `ref` is known by now; `repeats` counts earlier calls of this step whose
        effect is not known, for vendors where a repeat must differ."""

    def read(self, step: Step, reply: Reply, *, repeats: int) -> Outcome:
        """Return what a reply means; it never raises, whatever the bytes are."""

    def standing(self, reply: Reply) -> Standing | None:
        """Return what the reply says of the vendor's own count; None where it says nothing."""

    def probe(self, endpoint: Endpoint, account: Account, *, name: SendName, ref: str | None) -> Probe | None:
        """Return the question whether a call to `endpoint` had its effect; None where nothing can tell.

        `ref` is the id that was known when the call was made.
        """

    def read_probe(self, probe: Probe, reply: Reply) -> Verdict:
        """Return what the answer to a probe means; it never raises."""


class Plain:
    """The answers of a vendor that has nothing of the kind: no segments of ours, no word on its count, no lookups."""

    __slots__ = ()

    @property
    def targets(self) -> Targets | None:
        """Return none: no route reads who is in a segment."""
        return None

    def notes(self, tables: Tables, *, sends: int, chunk: int | None) -> list[Fault]:
        """Return nothing that a person should know."""
        return []

    def complete(self, tables: Tables) -> dict[str, dict[str, object]]:
        """Return the tables as they are."""
        return {name: dict(table) for name, table in tables.items()}

    def following(self, endpoint: Endpoint, asked: Mapping[str, object], answered: object) -> dict[str, object] | None:
        """Return none: what is listed comes as one page."""
        return None

    def segment_id(self, tables: Tables, account: Account) -> str | None:
        """Return none: no route makes a segment."""
        return None

    def bounds(self, table: str, body: Mapping[str, object]) -> Mapping[str, int]:
        """Return none: no text is looked into."""
        return {}

    def standing(self, reply: Reply) -> Standing | None:
        """Return none: no reply says how much of a limit is left."""
        return None

    def probe(self, endpoint: Endpoint, account: Account, *, name: SendName, ref: str | None) -> Probe | None:
        """Return none: no route reads back what was sent."""
        return None

    def read_probe(self, probe: Probe, reply: Reply) -> Verdict:
        """Settle nothing, since there is no probe."""
        return Untold("there is nothing to ask")


def read_json(body: bytes) -> object:
    """Decode a reply's JSON; None when it is none."""
    try:
        decoded: object = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return decoded


def read_object(body: bytes) -> dict[str, object] | None:
    """Decode a reply's JSON object; None when it is not one."""
    decoded = read_json(body)
    return decoded if isinstance(decoded, dict) else None


def read_common(reply: Reply, *, throttled: Collection[int] = (429,), at_least_s: float = 0.0) -> Outcome | None:
    """Read the statuses that mean the same at every vendor; None for what the provider reads itself (2xx, 400, 424).

    A status that proves nothing, a 3xx, 408 or 5xx, is unknown: whether a retry is harmless is the endpoint's word.
    """
    status = reply.status
    if status in throttled:
        return Throttled(status, reply.headers.get("retry-after"), at_least_s)
    if status in (401, 403):
        return Denied("the vendor refuses the credentials", status)
    if 200 <= status < 300 or status in (400, 424):
        return None
    if 400 <= status < 500 and status != 408:
        return Rejected(f"HTTP {status}", status)
    if 300 <= status < 400:
        return Unknown(f"HTTP {status}: redirects are not followed; check base_url", status)
    return Unknown(f"HTTP {status}", status)


def mark_of(account: Account, name: SendName) -> str:
    """Return twelve hexadecimal digits that only this send has: a name that holds them can be found again."""
    text = f"{account.identity}\0{name.job}\0{name.key}"
    return hashlib.blake2b(text.encode(), digest_size=6).hexdigest()


def with_query(path: str, query: Mapping[str, object]) -> str:
    """Add query parameters to a path; true and false are written as JSON writes them, the path's `{ref}` stays."""
    texts = {key: str(value).lower() if isinstance(value, bool) else str(value) for key, value in query.items()}
    return f"{path}?{urlencode(texts, quote_via=quote)}" if texts else path


def find_past(table: str, body: Mapping[str, object], fields: Collection[str], now: float) -> list[Fault]:
    """Return a fault for each of the date fields, in seconds since the epoch, that lies before `now`."""
    return [
        Fault(f"{table}.{field}", "is in the past", late=True)
        for field in fields
        if isinstance(at := body.get(field), float) and at < now
    ]
