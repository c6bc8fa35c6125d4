"""Batch push campaigns."""

from __future__ import annotations

from bulksend.providers.batch.provider import Batch

__all__ = ["Batch"]
