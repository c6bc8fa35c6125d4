"""What goes wrong on the way to a vendor and back: which call is hit, and what it looks like on the wire."""

from __future__ import annotations

import asyncio
import difflib
import os
import random
import re
import socket
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from types import MappingProxyType
from typing import Final

from aiohttp import web

__all__ = [
    "NO_LATENCY",
    "Fault",
    "FaultDice",
    "FaultKind",
    "Latency",
    "deliver",
    "did_you_mean",
    "parse_fault",
    "parse_latency",
]

_SECONDS: Final = re.compile(r"(\d{1,9}(?:\.\d{1,9})?)(ms|s)?")
_SHARE: Final = re.compile(r"(\d+(?:\.\d+)?)(%)?")
_HTML: Final = (
    "<!DOCTYPE html>\n<html><head><title>Please wait</title></head><body><h1>Please wait</h1></body></html>\n"
)
_RESET: Final = struct.pack("ii", 1, 0)  # SO_LINGER on, for 0 s: close() sends RST, and not FIN


class FaultKind(StrEnum):
    """The word for a fault in `--fault`. A bare status strikes before the effect; `-after` means after it."""

    S429 = "429"
    S429_RETRY_AFTER = "429-retry-after"
    S424 = "424"
    S500 = "500"
    S503 = "503"
    S424_AFTER = "424-after"
    S500_AFTER = "500-after"
    S503_AFTER = "503-after"
    RESET_BEFORE = "reset-before"
    RESET_AFTER = "reset-after"
    SLOW = "slow"
    TRUNCATED = "truncated"
    NOT_JSON = "not-json"

    @property
    def status(self) -> int | None:
        """The status that is answered in place of the provider's own; None where the fault is not a status."""
        return int(self[:3]) if self[0].isdigit() else None

    @property
    def before(self) -> bool:
        """Whether the call is lost before it could take effect."""
        return self in _BEFORE


_BEFORE: Final = frozenset(
    {
        FaultKind.S429,
        FaultKind.S429_RETRY_AFTER,
        FaultKind.S424,
        FaultKind.S500,
        FaultKind.S503,
        FaultKind.RESET_BEFORE,
    }
)
_DEFAULT_S: Final = MappingProxyType({FaultKind.SLOW: 2.0, FaultKind.S429_RETRY_AFTER: 1.0})


@dataclass(frozen=True, slots=True)
class Fault:
    """One `--fault`: a kind, the share of calls that it hits, and where.

    `endpoint` None means every endpoint. `seconds` is the delay of `slow` and the Retry-After of
    `429-retry-after`, and 0 for the kinds that take no time.
    """

    kind: FaultKind
    share: float
    endpoint: str | None = None
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Latency:
    """A delay in seconds, drawn evenly from `mean_s` ± `spread_s` for each call."""

    mean_s: float = 0.0
    spread_s: float = 0.0

    def draw(self, rng: random.Random) -> float:
        """Return the seconds for one call; no randomness is used up where there is nothing to draw."""
        return rng.uniform(self.mean_s - self.spread_s, self.mean_s + self.spread_s) if self.spread_s else self.mean_s


NO_LATENCY: Final = Latency()


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """Return the end of an error message: the known word that is nearest, or all of them."""
    names = [str(each) for each in known]
    near = difflib.get_close_matches(word, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"


def parse_fault(text: str, endpoints: Sequence[str]) -> Fault:
    """Read `[ENDPOINT=]KIND[=SECONDS]:SHARE`, such as `insider.launch=slow=2s:1%`; raises ValueError.

    Endpoint names hold a dot and kinds do not, which tells the two `=` apart.
    """
    what, colon, share_text = text.strip().rpartition(":")
    if not colon:
        raise ValueError(f"fault {text!r}: write it as KIND:SHARE, such as reset-after:1%")
    endpoint: str | None = None
    first, equals, rest = what.partition("=")
    if equals and "." in first:
        endpoint, what = first.strip(), rest
        if endpoint not in endpoints:
            raise ValueError(f"fault {text!r}: unknown endpoint {endpoint!r}; {did_you_mean(endpoint, endpoints)}")
    kind_text, equals, seconds_text = (part.strip() for part in what.partition("="))
    try:
        kind = FaultKind(kind_text)
    except ValueError:
        hint = did_you_mean(kind_text, FaultKind)
        raise ValueError(f"fault {text!r}: unknown kind {kind_text!r}; {hint}") from None
    seconds = _DEFAULT_S.get(kind, 0.0)
    if equals:
        if kind not in _DEFAULT_S:
            raise ValueError(f"fault {text!r}: {kind_text} takes no seconds")
        given = _parse_seconds(seconds_text, bare_s=True)
        if given is None:
            raise ValueError(f"fault {text!r}: {seconds_text!r} is not a time such as 2s or 500ms")
        seconds = given
    if kind is FaultKind.S429_RETRY_AFTER and seconds != int(seconds):
        raise ValueError(f"fault {text!r}: Retry-After is in whole seconds")
    return Fault(kind, _parse_share(share_text.strip(), text), endpoint, seconds)


def _parse_share(share: str, text: str) -> float:
    found = _SHARE.fullmatch(share)
    value = float(found[1]) / (100 if found[2] else 1) if found else 2.0
    if value > 1:
        raise ValueError(f"fault {text!r}: {share!r} is not a share such as 1% or 0.01")
    return value


def _parse_seconds(text: str, *, bare_s: bool) -> float | None:
    """Read `20ms` or `2s`, and a number without unit if it is 0 or `bare_s` says that it means seconds."""
    found = _SECONDS.fullmatch(text)
    if found is None or not (found[2] or bare_s or float(found[1]) == 0):
        return None
    return float(found[1]) / (1000 if found[2] == "ms" else 1)


def parse_latency(text: str) -> Latency:
    """Read `20ms`, `20ms±10ms`, `20ms+-10ms` or `0`; raises ValueError."""
    mean_text, sign, spread_text = text.replace("+-", "±").partition("±")
    mean_s = _parse_seconds(mean_text.strip(), bare_s=False)
    spread_s = _parse_seconds(spread_text.strip(), bare_s=False) if sign else 0.0
    if mean_s is None or spread_s is None:
        raise ValueError(f"latency {text!r}: write it as 20ms, 20ms±10ms or 0")
    if spread_s > mean_s:
        raise ValueError(f"latency {text!r}: the spread may not be larger than the delay")
    return Latency(mean_s, spread_s)


class FaultDice:
    """Decides call by call whether a fault strikes: the same seed and order of calls give the same faults.

    One number is drawn for each call to an endpoint that has faults, and each fault owns a part of [0, 1) as
    wide as its share, so that several faults never hide one another. Raises ValueError when the shares of an
    endpoint add up to more than all calls.
    """

    __slots__ = ("_parts", "_rng")

    def __init__(self, faults: Sequence[Fault], endpoints: Iterable[str], rng: random.Random) -> None:
        self._rng = rng
        self._parts = {name: _parts(faults, name) for name in endpoints}

    def roll(self, endpoint: str) -> Fault | None:
        """Return the fault that strikes the next call to `endpoint`, if one does."""
        parts = self._parts[endpoint]
        if not parts:
            return None
        drawn = self._rng.random()
        return next((fault for end, fault in parts if drawn < end), None)


def _parts(faults: Sequence[Fault], endpoint: str) -> tuple[tuple[float, Fault], ...]:
    parts: list[tuple[float, Fault]] = []
    end = 0.0
    for fault in faults:
        if fault.endpoint in (None, endpoint):
            end += fault.share
            parts.append((end, fault))
    if end > 1 + 1e-9:
        raise ValueError(f"faults of {endpoint}: their shares add up to {end:.4g}, which is more than all calls")
    return tuple(parts)


async def deliver(request: web.Request, response: web.Response, fault: Fault) -> web.StreamResponse:
    """Answer with what is left of `response` after the fault; a kind that is only a status changes nothing here."""
    match fault.kind:
        case FaultKind.RESET_BEFORE | FaultKind.RESET_AFTER:
            _reset(request)
        case FaultKind.SLOW:
            await asyncio.sleep(fault.seconds)
        case FaultKind.NOT_JSON:
            return web.Response(text=_HTML, status=response.status, content_type="text/html")
        case FaultKind.TRUNCATED:
            return await _truncate(request, response)
    return response


def _reset(request: web.Request) -> None:
    transport = request.transport
    if transport is None:  # the client went first
        return
    # abort() alone ends the connection with a FIN where nothing is left to read. The copy of the descriptor is
    # there because uvloop's own socket object takes no options.
    with socket.socket(fileno=os.dup(transport.get_extra_info("socket").fileno())) as copy:
        copy.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
    transport.abort()


async def _truncate(request: web.Request, response: web.Response) -> web.StreamResponse:
    """Announce the whole body, send half of it, and close."""
    body = response.body if isinstance(response.body, bytes) else b""
    half = web.StreamResponse(status=response.status, headers=response.headers)
    half.content_length = max(len(body), 2)
    await half.prepare(request)
    await half.write(body[: len(body) // 2] or b" ")
    if request.transport is not None:
        request.transport.close()
    return half
