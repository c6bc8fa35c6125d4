"""One pure translator per vendor: a rendered body becomes a Call, a Reply becomes an Outcome; no I/O, no clock."""

from __future__ import annotations

from bulksend.providers.base import Flow, Provider
from bulksend.providers.insider import Insider

__all__ = ["PROVIDERS", "Flow", "Provider"]

PROVIDERS: dict[str, Provider] = {"insider": Insider()}
"""Every provider by its name in the job file."""
