"""Who settles a send by hand: the user of this machine, or a name that was given."""

from __future__ import annotations

import getpass
import os
import socket

from bulksend.errors import JobError, Problem
from bulksend.ledger.base import Settler

__all__ = ["settler_of"]

NAME_MOST = 200


def settler_of(by: str | None) -> Settler:
    """Return who, and on which machine; raises JobError for a name that says nothing or would break a listing."""
    if by is not None and (not by.strip() or not by.isprintable() or len(by) > NAME_MOST):
        text = f"must be a name in one line of at most {NAME_MOST} characters: it is kept for ever"
        raise JobError(Problem(text, field="--by"))
    return Settler(_user() if by is None else by.strip(), socket.gethostname())


def _user() -> str:
    try:
        return getpass.getuser()
    except (ImportError, KeyError, OSError):
        return f"uid {os.getuid()}"  # a container may run as a user that has no name there
