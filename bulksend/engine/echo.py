"""What a vendor sends back of a call's own credentials: masked as the reply comes in, before anything can show it."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from urllib.parse import quote

__all__ = ["MASK", "Echo"]

MASK = "***"
_SENSITIVE = frozenset({"authorization", "x-authorization"})
KEPT_MOST = 20_000
"""Accounts whose credentials are kept in all their forms; with more in use, some are worked out again."""
_SHORTEST = 8
"""A shorter word is no secret, and could stand in a reply by chance."""


class Echo:
    """Masks the credentials of a call in its reply: as they were sent, in JSON's, a URL's or base64's writing."""

    def __init__(self) -> None:
        self._forms: dict[int, tuple[Mapping[str, str], list[tuple[bytes, str]]]] = {}
        """By the identity of the headers, which the calls of an account share."""

    def masked(
        self, sent: Mapping[str, str], headers: Mapping[str, str], body: bytes
    ) -> tuple[Mapping[str, str], bytes]:
        """Return a reply's headers and body without what `sent`, the call's headers, holds of secrets."""
        known = self._forms.get(id(sent))
        if known is None or known[0] is not sent:
            if len(self._forms) >= KEPT_MOST:
                self._forms.clear()
            credentials = [text for name, text in sent.items() if name.lower() in _SENSITIVE]
            found = {form for text in credentials for form in _forms(_without_scheme(text)) if len(form) >= _SHORTEST}
            ordered = sorted(found, key=len, reverse=True)
            known = self._forms[id(sent)] = sent, [(form.encode(), form) for form in ordered]
        forms = known[1]
        values = "\n".join(headers.values())
        for data, text in forms:
            if data in body:
                body = body.replace(data, MASK.encode())
            if text in values:
                headers = {name: value.replace(text, MASK) for name, value in headers.items()}
        return headers, body


def _without_scheme(text: str) -> str:
    """Return what follows the vendors' word for it, so that a space in a key is a part of the key."""
    scheme, _, rest = text.partition(" ")
    return rest if scheme in ("Bearer", "Token") else text


def _forms(text: str) -> list[str]:
    if len(text) < _SHORTEST:
        return []
    data = text.encode()
    # In base64 a text looks different by where it begins: three writings, without the ends that its neighbours change.
    packed = [base64.b64encode(b"\0" * shift + data).decode() for shift in range(3)]
    inner = [one[(0, 2, 3)[shift] : len(one.rstrip("=")) - one.endswith("=")] for shift, one in enumerate(packed)]
    safe = [one.replace("+", "-").replace("/", "_") for one in inner]
    escaped = [text.replace("/", "\\/"), text.replace("\\", "\\\\").replace('"', '\\"')]
    return [text, *escaped, quote(text, safe=""), quote(text, safe="").lower(), quote(text), *inner, *safe]
