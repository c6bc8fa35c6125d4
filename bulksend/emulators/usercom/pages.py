"""Lists by cursor, as the page on basic usage says: up to 100 a page, `next` and `previous` absolute or null."""

from __future__ import annotations

import base64
import bisect
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeVar
from urllib.parse import urlencode

from bulksend.emulators import Call, Reply

__all__ = ["absolute", "page"]

_T = TypeVar("_T")

_PAGE: Final = 100
_CURSOR: Final = re.compile(r"([ab])(-?[0-9]{1,18})")  # after or before the item of that key
_INVALID: Final = Reply(404, {"detail": "Invalid cursor"})  # [I]; clients take a 404 in mid-list for its end


def absolute(path: str, headers: Mapping[str, str]) -> str:
    """Return the URL of a path at the host that the client has asked for."""
    return f"http://{headers.get('Host', '127.0.0.1')}{path}"


def page(
    items: Sequence[_T],
    key: Callable[[_T], int],
    show: Callable[[_T], Mapping[str, object]],
    call: Call,
    size: Callable[[int], int] = lambda _: _PAGE,
) -> Reply:
    """Return the part of `items`, which are in the order of `key`, that the call's cursor asks for.

    A cursor names an item and no offset, so that what is added while somebody reads shifts nothing. `size` says how
    many a page has at most, by the key that its cursor names.
    """
    cursor = call.query.get("cursor")
    start, end = 0, _PAGE
    if cursor is not None:
        found = _decode(cursor)
        if found is None:
            return _INVALID
        named = int(found[2])
        if found[1] == "a":
            start = bisect.bisect_right(items, named, key=key)
            end = start + size(named)
        else:
            end = bisect.bisect_left(items, named, key=key)
            start = max(0, end - size(named))
    part = items[start:end]

    def link(side: str, item: _T) -> str:
        encoded = base64.urlsafe_b64encode(f"{side}{key(item)}".encode()).decode()
        return f"{absolute(call.path, call.headers)}?{urlencode({'cursor': encoded})}"

    body = {
        "previous": link("b", part[0]) if part and start else None,
        "next": link("a", part[-1]) if part and end < len(items) else None,
        "count": len(items),
        "results": [show(each) for each in part],
    }
    return Reply(200, body)


def _decode(cursor: str) -> re.Match[str] | None:
    try:
        return _CURSOR.fullmatch(base64.urlsafe_b64decode(cursor).decode())
    except ValueError:
        return None
