"""The cursors of User.com's lists."""

from __future__ import annotations

from urllib.parse import parse_qs, urlsplit

__all__ = ["cursor_of"]


def cursor_of(following: object) -> str | None:
    """Take the cursor out of an absolute `next`: where the token is sent is the account's address alone."""
    if not isinstance(following, str):
        return None
    try:
        found = parse_qs(urlsplit(following).query).get("cursor")
    except ValueError:
        return None
    return found[0] if found else None
