"""Stream Chat's Campaign and Segment API, in both of its route families.

Written from the vendor's page and the sheet of facts; where these are silent the choice is marked UNCONFIRMED.
"""

from __future__ import annotations

from bulksend.emulators.stream.provider import PROVIDER, Stream

__all__ = ["PROVIDER", "Stream"]
