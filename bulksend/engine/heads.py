"""The heads of HTTP requests, written once for all calls that share their headers."""

from __future__ import annotations

import re
from collections.abc import Mapping

from bulksend.engine.inflate import ACCEPT_ENCODING

__all__ = ["ALWAYS", "Heads", "split_url"]

ALWAYS: Mapping[str, str] = {"User-Agent": "bulksend", "Accept": "*/*", "Accept-Encoding": ACCEPT_ENCODING}
"""What every call says beside its own headers."""

_PATH = re.compile(r"/[!\"$-~]*")
_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_VALUE = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*")
_OF_THE_WIRE = frozenset({"connection", "content-length", "host", "transfer-encoding"})
KEPT_MOST = 20_000
"""Heads that are kept; with more sets of headers in use than that, some are written again and again."""


def split_url(url: str) -> tuple[str, str] | None:
    """Return an address's origin and path, which includes the query; None where it is not as plain as that."""
    start = url.find("://") + 3
    at = url.find("/", start) if start > 2 else -1
    if at < 0:
        return None
    path = url[at:]
    return (url[:at], path) if _PATH.fullmatch(path) else None


class Heads:
    """Writes requests; what they share is written once for each set of headers, told by its identity."""

    def __init__(self) -> None:
        self._kept: dict[tuple[int, str, str], tuple[Mapping[str, str], bytes | None]] = {}

    def request(self, method: str, host: str, path: str, headers: Mapping[str, str], body: bytes) -> bytes | None:
        """Return the whole request; None where its headers are for somebody else to write."""
        key = (id(headers), method, host)
        kept = self._kept.get(key)
        if kept is None or kept[0] is not headers:
            if len(self._kept) >= KEPT_MOST:
                self._kept.clear()
            kept = self._kept[key] = headers, _written(host, headers)
        shared = kept[1]
        if shared is None:
            return None
        if body or method != "GET":
            return b"%b %b HTTP/1.1\r\n%bContent-Length: %d\r\n\r\n%b" % (
                method.encode(),
                path.encode(),
                shared,
                len(body),
                body,
            )
        return b"GET %b HTTP/1.1\r\n%b\r\n" % (path.encode(), shared)


def _written(host: str, headers: Mapping[str, str]) -> bytes | None:
    full = {"Host": host, **ALWAYS, **headers}
    names = [name.lower() for name in full]
    if len(set(names)) < len(names) or not _OF_THE_WIRE.isdisjoint(name.lower() for name in headers):
        return None
    if "content-type" not in names:
        return None
    if not all(_NAME.fullmatch(name) and _VALUE.fullmatch(value) for name, value in full.items()):
        return None
    return "".join(f"{name}: {value}\r\n" for name, value in full.items()).encode()
