"""User.com web push, and the users of its segments."""

from __future__ import annotations

from bulksend.providers.usercom.provider import Usercom

__all__ = ["Usercom"]
