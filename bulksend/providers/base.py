"""What the engine asks of a provider, and what all vendors' replies have in common."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Protocol

import msgspec

from bulksend.fields import Fault, Fields
from bulksend.model import Account, Call, Denied, Endpoint, Outcome, Rejected, Reply, Step, Throttled, Unknown

__all__ = ["Flow", "Provider", "Tables", "read_common", "read_object"]

Tables = Mapping[str, Mapping[str, object]]
"""The provider's own tables of a job file (`create`, `launch`, …), as written or with their values read."""


@dataclass(frozen=True, slots=True)
class Flow:
    """Which calls a job makes: `prepare` once per account, `steps` in order for each send; the names are tables."""

    prepare: tuple[tuple[str, Endpoint], ...]
    steps: tuple[tuple[str, Endpoint], ...]


class Provider(Protocol):
    """A vendor's API as pure functions of values."""

    @property
    def name(self) -> str:
        """Return its name in the job file."""

    @property
    def title(self) -> str:
        """Return what people call it."""

    @property
    def base_url(self) -> str | None:
        """Return the default address; None where it depends on the account."""

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
    def tables(self) -> Mapping[str, Fields]:
        """Return the fields of its own tables in the job file."""

    def review(self, tables: Tables, *, has_audience: bool) -> list[Fault]:
        """Return what is wrong with the tables together, as written, beyond each field's own rules."""

    def complete(self, tables: Tables) -> dict[str, dict[str, object]]:
        """Fill in what the vendor wants said twice, such as a language; the tables still hold their placeholders."""

    def flow(self, tables: Tables) -> Flow:
        """Return the calls that a job with these tables makes."""

    def check(self, table: str, body: Mapping[str, object]) -> list[Fault]:
        """Return the rules that a rendered body breaks across its fields."""

    def step(self, endpoint: Endpoint, table: str, body: Mapping[str, object], account: Account) -> Step:
        """Return the wire form of a rendered and checked body."""

    def headers(self, account: Account) -> Mapping[str, str]:
        """Return the headers of every call of the account; they hold its secret."""

    def call(self, step: Step, account: Account, headers: Mapping[str, str], *, ref: str | None, repeats: int) -> Call:
        """Return the request of a step. `ref` is the id that the step before gave; `repeats` counts earlier calls of
        this step whose effect is not known, for vendors where a repeat must differ."""

    def read(self, endpoint: Endpoint, reply: Reply, *, repeats: int) -> Outcome:
        """Return what a reply means; it never raises, whatever the bytes are."""


def read_object(body: bytes) -> dict[str, object] | None:
    """Decode a reply's JSON object; None when it is not one."""
    try:
        decoded = msgspec.json.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
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
