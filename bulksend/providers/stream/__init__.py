"""Stream Chat: campaigns, and the segments that they go to."""

from __future__ import annotations

from bulksend.providers.stream.provider import Stream

__all__ = ["Stream"]
