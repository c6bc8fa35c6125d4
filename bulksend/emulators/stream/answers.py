"""How the vendor words success and error."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from bulksend.emulators import Reply

__all__ = ["RefusedError", "refuse", "succeed"]

_DURATION: Final = "0.00ms"
_MORE_INFO: Final = "https://getstream.io/chat/docs/api_errors_response"
_CODES: Final[Mapping[int, int]] = MappingProxyType({400: 4, 403: 17, 404: 16, 429: 9})
_INTERNAL: Final = -1


class RefusedError(Exception):
    """A call that the vendor turns down, with the reason and the HTTP status."""

    def __init__(self, reason: str, status: int = 400) -> None:
        super().__init__(reason)
        self.reason = reason
        self.status = status


def refuse(operation: str, reason: str, status: int, code: int | None = None) -> Reply:
    """Return the error body with all six keys that the specification requires; `code` follows from the status."""
    words = f'failed with error: "{reason}"'
    body = {
        "code": _CODES.get(status, _INTERNAL) if code is None else code,
        "message": f"{operation} {words}" if operation else words,
        "StatusCode": status,
        "duration": _DURATION,
        "more_info": _MORE_INFO,
        "details": [],
    }
    return Reply(status, body)


def succeed(
    status: int, fields: Mapping[str, object], effect: str | None, logged: Mapping[str, object] | None = None
) -> Reply:
    """Return the fields with the `duration` that is in every body."""
    return Reply(status, {**fields, "duration": _DURATION}, effect=effect, logged=logged)
