"""Who calls: the api_key, and the JSON Web Token that the api_secret signs."""

from __future__ import annotations

import binascii
import hashlib
import hmac
import random
from base64 import urlsafe_b64decode
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

import orjson

from bulksend.emulators import Account, Call, Reply
from bulksend.emulators.stream.answers import refuse

__all__ = ["identify", "make_accounts", "sign"]

_NO_KEY: Final = 2
_NO_AUTH: Final = 5
_EXPIRED: Final = 40
_NOT_YET: Final = 41
_BAD_IAT: Final = 42
_BAD_SIGNATURE: Final = 43


def make_accounts(count: int, rng: random.Random) -> tuple[Account, ...]:
    """Make credentials; a secret is long enough for PyJWT not to warn of it."""
    return tuple(
        Account(api_key, MappingProxyType({"api_key": api_key, "api_secret": f"{rng.getrandbits(256):064x}"}))
        for api_key in (f"{rng.getrandbits(48):012x}" for _ in range(count))
    )


def sign(secret: str, message: bytes) -> str:
    """Return the lowercase hex HMAC-SHA256 that a webhook's X-Signature holds."""
    return hmac.new(secret.encode(), message, hashlib.sha256).hexdigest()


def identify(call: Call, accounts: Mapping[str, Account], operation: str, now_s: float) -> Account | Reply:
    """Return the account of a server's token; a user's token is not allowed, as the API is backend-to-backend."""
    api_key = call.query.get("api_key")
    if not api_key:
        return refuse(operation, "api_key not provided", 401, _NO_KEY)
    account = accounts.get(api_key)
    if account is None:
        return refuse(operation, "api_key is invalid", 401, _NO_KEY)
    if call.headers.get("stream-auth-type") != "jwt":
        return refuse(operation, "stream-auth-type missing or invalid", 401, _NO_AUTH)
    token = call.headers.get("Authorization", "")
    if token.count(".") != 2:
        return refuse(operation, "JWTAuth error: token contains an invalid number of segments", 401, _NO_AUTH)
    signed, _, signature = token.rpartition(".")
    header, payload = (_read(part) for part in signed.split("."))
    if header is None or payload is None or header.get("alg") != "HS256":
        return refuse(operation, "JWTAuth error: token is malformed", 401, _NO_AUTH)
    expected = hmac.new(account.credentials["api_secret"].encode(), signed.encode(), hashlib.sha256).digest()
    if not hmac.compare_digest(_decode(signature) or b"", expected):
        words = "JWTAuth error: signature is not valid. Make sure the token is created using the secret for API key"
        return refuse(operation, f'{words} "{api_key}"', 401, _BAD_SIGNATURE)
    stale = _judge_times(payload, now_s)
    if stale is not None:
        return refuse(operation, f"JWTAuth error: {stale[1]}", 401, stale[0])
    if "user_id" in payload:
        return refuse(operation, "this endpoint may only be called from a server", 403)  # UNCONFIRMED: the answer
    return account


def _judge_times(payload: Mapping[str, object], now_s: float) -> tuple[int, str] | None:
    expires, begins, issued = (payload.get(claim) for claim in ("exp", "nbf", "iat"))
    if isinstance(expires, int | float) and now_s >= expires:
        return _EXPIRED, "token is expired"
    if isinstance(begins, int | float) and now_s < begins:
        return _NOT_YET, "token is not valid yet"
    if isinstance(issued, int | float) and now_s < issued:
        return _BAD_IAT, "token used before issue at (iat)"
    return None


def _read(part: str) -> Mapping[str, object] | None:
    raw = _decode(part)
    try:
        value: object = orjson.loads(raw) if raw is not None else None
    except orjson.JSONDecodeError:
        return None
    return value if isinstance(value, dict) else None


def _decode(part: str) -> bytes | None:
    try:
        return urlsafe_b64decode(part + "=" * (-len(part) % 4))
    except (binascii.Error, ValueError):
        return None
