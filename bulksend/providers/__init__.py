"""One pure translator per vendor: a rendered body becomes a Call, a Reply becomes an Outcome; no I/O, no clock."""

from __future__ import annotations

from bulksend.providers.base import Flow, Provider, SendName
from bulksend.providers.batch import Batch
from bulksend.providers.insider import Insider
from bulksend.providers.stream import Stream
from bulksend.providers.usercom import Usercom

__all__ = ["PROVIDERS", "Flow", "Provider", "SendName"]

PROVIDERS: dict[str, Provider] = {one.name: one for one in (Insider(), Usercom(), Stream(), Batch())}
"""Every provider by its name in the job file."""
