"""How a vendor is known to be the vendor: certificates verified, TLS 1.2 at least, a CA bundle of one's own."""

from __future__ import annotations

import os
import ssl

from bulksend.errors import JobError, Problem

__all__ = ["ENVIRONMENT", "tls_context", "why_refused"]

ENVIRONMENT = ("SSL_CERT_FILE", "SSL_CERT_DIR")
"""What OpenSSL reads in place of the system's certificates; read by it alone, and checked here."""


def tls_context() -> ssl.SSLContext:
    """Return what every TLS connection is made with. Raises JobError where the environment names no certificates.

    OpenSSL itself takes a bundle that it cannot read for an empty one.
    """
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(["http/1.1"])
    file = os.environ.get("SSL_CERT_FILE")
    if file:
        try:
            context.load_verify_locations(cafile=file)
        except ssl.SSLError:
            raise JobError(Problem("holds no certificate in PEM form", file=file, field="SSL_CERT_FILE")) from None
        except OSError as wrong:
            raise JobError(Problem(f"cannot be read: {wrong.strerror}", file=file, field="SSL_CERT_FILE")) from None
    folder = os.environ.get("SSL_CERT_DIR")
    if folder and not any(os.path.isdir(one) for one in folder.split(os.pathsep)):  # noqa: PTH112 - as OpenSSL does
        raise JobError(Problem("is no directory", file=folder, field="SSL_CERT_DIR"))
    return context


def why_refused(wrong: BaseException | None) -> str:
    """Return what is wrong with the other side's TLS, and what to do, in words of OpenSSL's own."""
    if isinstance(wrong, ssl.SSLCertVerificationError):
        said = wrong.verify_message.rstrip(".")
        own = "unable to get" in said or "self" in said
        hint = "; a CA of one's own is named by the environment variable SSL_CERT_FILE" if own else ""
        return f"its certificate is refused ({said}){hint}"
    if isinstance(wrong, ssl.SSLError) and wrong.reason:
        reason = wrong.reason.replace("_", " ").lower()
        old = "version" in reason or "unsupported protocol" in reason
        return f"the handshake failed ({reason}){'; TLS 1.2 is the oldest that is accepted' if old else ''}"
    return "the handshake failed"
