"""Local servers that behave as the vendors document; written from their pages, sharing no code with the rest.

Here is what a provider's file and the server agree on. Such a file supplies a `ProviderSpec` named PROVIDER (its
endpoints, and the `Provider` that judges calls), and `server.py` lists and runs it.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from bulksend.emulators.window import Window

__all__ = ["CODE_POINT", "NO_CASE", "Account", "Call", "Endpoint", "Hook", "Provider", "ProviderSpec", "Reply", "Setup"]


CODE_POINT: Final = "code-point"
NO_CASE: Final = "no-case"


@dataclass(frozen=True, slots=True)
class Account:
    """Credentials that the emulator accepts; `id` is the part of them that may be shown."""

    id: str
    credentials: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """A named operation: the routes that share its limit, as (method, aiohttp path), and that limit's text.

    `limit` None means that the vendor publishes none.
    """

    name: str
    routes: tuple[tuple[str, str], ...]
    limit: str | None


@dataclass(frozen=True, slots=True)
class Call:
    """One HTTP request as a provider sees it.

    `body` is the parsed JSON, and None where it is not JSON; `params` are the named parts of the path; `now_s`
    is the seconds since the server's start.
    """

    endpoint: str
    path: str
    params: Mapping[str, str]
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: object
    now_s: float


@dataclass(frozen=True, slots=True)
class Reply:
    """What the vendor answers. `effect` is what the call changed, by its id, and None when it changed nothing.

    `logged` is what the log of effects keeps in place of the call's body, where that is very long.
    """

    status: int
    body: object = None
    headers: Mapping[str, str] | None = None
    effect: int | str | None = None
    logged: object = None


@dataclass(frozen=True, slots=True)
class Hook:
    """A webhook that has fallen due: the whole body as it is signed, and the vendor's own headers."""

    body: bytes
    headers: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Setup:
    """What a provider is made from.

    `campaigns` and `segments` are ids that exist beforehand; without `segments`, any that a call names is taken to
    exist. `started_at_s` is when the server started, in seconds since the epoch: a call's time is that plus `now_s`.
    `collation` is the order of the targets of a segment.
    """

    accounts: int
    campaigns: tuple[int, ...]
    rng: random.Random
    segments: tuple[str, ...] = ()
    started_at_s: float = 0.0
    collation: str = CODE_POINT


class Provider(Protocol):
    """One vendor's behaviour, without socket, clock or sleep; it holds the state that its calls change."""

    @property
    def accounts(self) -> Sequence[Account]:
        """The accounts that it accepts."""

    def authenticate(self, call: Call) -> Account | Reply:
        """Return whose call it is, or the refusal."""

    def judge(self, call: Call, account: Account) -> Reply:
        """Validate the call, make its effect, and return the answer."""

    def failed(self, endpoint: str, status: int) -> Reply:
        """Return the documented answer for a call over the limit (429) or for a server in trouble.

        `endpoint` is empty, and `status` 404, for a path that the vendor does not have.
        """

    def headers(self, endpoint: str, window: Window | None, now_s: float) -> Mapping[str, str]:
        """Return what the vendor puts on every reply about the state of the limit."""

    def hooks(self, now_s: float) -> Sequence[Hook]:
        """Return the webhooks that have fallen due since the last time; asked for only where somebody listens."""

    def targets(self, account: Account, segment: str) -> Collection[str] | None:
        """Return whom a segment targets now; None where there is no such segment, or none are known by targets."""


@dataclass(frozen=True, slots=True)
class ProviderSpec:
    """What is known of a provider before it runs."""

    name: str
    endpoints: tuple[Endpoint, ...]
    build: Callable[[Setup], Provider]
