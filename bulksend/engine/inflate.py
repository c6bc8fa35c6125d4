"""The body of a reply as it comes: gathered, and unpacked where it is gzip, never past a bound."""

from __future__ import annotations

import zlib

__all__ = ["ACCEPT_ENCODING", "Body", "TooLargeError", "UnreadableError"]

ACCEPT_ENCODING = "gzip, deflate"
"""What is asked for: what the standard library unpacks piece by piece, so that the bound holds in memory too."""
_WBITS = {"gzip": 31, "x-gzip": 31, "deflate": 15}
_RAW = -15
MEMBERS_MOST = 100
"""Of one gzip body: empty ones without end would cost time and give nothing."""


class TooLargeError(Exception):
    """The body, as it came or unpacked, is past its bound."""


class UnreadableError(Exception):
    """The body is packed in a way that was not asked for, or broken."""


class Body:
    """Takes the pieces of a body and gives it whole; holds no more than the bound, whatever it would unpack to."""

    def __init__(self, encoding: str, most_bytes: int) -> None:
        """Begin; `encoding` is the text of the header, several of which are refused: bombs are made of them."""
        name = encoding.strip().lower()
        if name not in ("", "identity", *_WBITS):
            raise UnreadableError(f"the reply is packed as {name[:20]!r}, which was not asked for")
        self._wbits = _WBITS.get(name)
        self._inflate = None if self._wbits is None else zlib.decompressobj(self._wbits)
        self._begun = False
        self._members = 1
        self._most = most_bytes
        self._parts: list[bytes] = []
        self._size = 0
        self._came = 0

    def add(self, piece: bytes) -> None:
        """Take a piece; raises TooLargeError or UnreadableError."""
        self._came += len(piece)
        if self._came > self._most:
            self._parts.clear()
            raise TooLargeError
        if self._inflate is None:
            self._keep(piece)
            return
        if not self._begun and piece:
            self._begun = True
            if self._wbits == 15 and piece[0] & 0x0F != 8:
                self._inflate = zlib.decompressobj(_RAW)  # some servers leave out the wrapping that the name asks for
        try:
            while piece:
                self._keep(self._inflate.decompress(piece, self._most + 1 - self._size))
                piece = self._inflate.unconsumed_tail
                if self._inflate.eof:
                    piece = self._inflate.unused_data
                    if piece:  # another member of the same body
                        self._members += 1
                        if self._members > MEMBERS_MOST:
                            raise UnreadableError("the reply is packed in too many parts")
                        self._inflate = zlib.decompressobj(self._wbits or _RAW)
        except zlib.error:
            raise UnreadableError("the reply cannot be unpacked") from None

    def whole(self) -> bytes:
        """Return the body; raises UnreadableError where it breaks off."""
        if self._inflate is not None and self._begun and not self._inflate.eof:
            raise UnreadableError("the reply broke off")
        return b"".join(self._parts)

    def _keep(self, piece: bytes) -> None:
        self._size += len(piece)
        if self._size > self._most:
            self._parts.clear()
            raise TooLargeError
        if piece:
            self._parts.append(piece)
