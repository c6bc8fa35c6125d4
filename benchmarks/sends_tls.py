"""Sends per second of one process over TLS without a limit, against what people would write in its place."""

from __future__ import annotations

from pathlib import Path

import trustme

from benchmarks.disk import scratch
from benchmarks.frame import Result, serving
from benchmarks.launches import prepare
from benchmarks.side_by_side import compared

__all__ = ["measure"]


def measure(*, full: bool) -> Result:
    """Let bulksend and its peers send to one sink, in turn; all but wrk and hey verify its certificate."""
    count = 200_000 if full else 40_000
    with scratch() as folder:
        ca, certificate, key = _certificates(folder)
        with serving("sink", ["--tls", str(certificate), str(key)]) as sink:
            work = prepare(folder, sink["url"], count, ca=ca)
            return compared("sends_tls", work, wrk_s=10 if full else 3)


def _certificates(folder: Path) -> tuple[Path, Path, Path]:
    """Make an authority and a certificate of the sink's address; returns the authority's, the sink's, and its key."""
    authority = trustme.CA()
    sink = authority.issue_cert("127.0.0.1")
    ca, certificate, key = folder / "ca.pem", folder / "sink.pem", folder / "sink.key"
    authority.cert_pem.write_to_path(ca)
    sink.private_key_pem.write_to_path(key)
    for blob in sink.cert_chain_pems:
        blob.write_to_path(certificate, append=True)
    return ca, certificate, key
