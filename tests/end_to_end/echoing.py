"""A vendor that says back whatever it was told, credentials included: in bodies, headers and reason phrases."""

from __future__ import annotations

import base64
import itertools
import json
import threading
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import quote

STATUSES = (200, 400, 424, 404, 500, 302, 422, 201)


class Echoing(ThreadingHTTPServer):
    """Answers with these statuses, one after the other and from the start again; `heard` counts the calls."""

    daemon_threads = True

    def __init__(self, statuses: Iterable[int]) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.statuses = itertools.cycle(statuses)
        self.heard: list[str] = []
        self.hangs = threading.Event()
        self.url = f"http://127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: Echoing

    def _answer(self) -> None:
        said = self.headers["Authorization"] or self.headers["X-Authorization"] or ""
        self.rfile.read(int(self.headers.get("Content-Length", "0")))
        self.server.heard.append(said)
        self.server.hangs.wait()
        word = said.split()[-1]
        texts = f"{said} {word} {quote(word, safe='')} {base64.b64encode(word.encode()).decode()}"
        body: dict[str, Any] = dict.fromkeys(("id", "campaign_token", "detail", "error_message", "title"), word)
        body |= {"success": True, "campaign_id": word, "message": f"SERVICE:-{texts}", "error": texts, "code": 5}
        body |= {"campaign": {"id": word, "name": texts}, "campaigns": [{"id": word, "name": texts}], "next": texts}
        data = json.dumps({**body, "escaped": 0}).replace("/", "\\/").encode()
        self.send_response(next(self.server.statuses), f"No {said}")
        for name in ("X-Echo", "WWW-Authenticate", "Location", "Retry-After", "X-RateLimit-Limit", "ETag"):
            self.send_header(name, texts)
        self.send_header("Content-Length", str(len(data)))
        with suppress(ConnectionError):  # the caller may be dead by now
            self.end_headers()
            self.wfile.write(data)

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = _answer  # noqa: N815 - the library's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - as the library has it
        """Say nothing."""


@contextmanager
def echoing(*statuses: int, hangs: bool = False) -> Iterator[Echoing]:
    with Echoing(statuses or STATUSES) as server:
        if not hangs:
            server.hangs.set()
        thread = threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.hangs.set()
            server.shutdown()
            thread.join()


def writings(secret: str) -> list[bytes]:
    """Return what to look for: the secret, parts of it and other ways of writing it, none likely to stand by chance."""
    data = secret.encode()
    found = {
        secret,
        quote(secret, safe=""),
        secret.replace("/", "\\/"),
        data.hex(),
        secret[: len(secret) // 2],
        secret[-9:],
    }
    for shift in range(3):
        for encode in (base64.b64encode, base64.urlsafe_b64encode):
            found.add(encode(b"\0" * shift + data).decode().rstrip("=")[4:-2])
    return [one.encode() for one in found]


def assert_nowhere(secrets: Iterable[str], texts: Iterable[str], folder: Path, *, but: Iterable[str] = ()) -> None:
    """Search texts, and every file below a folder, for the secrets."""
    files = {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file() and path.name not in but}
    assert files
    all_of = [("output", text.encode()) for text in texts] + list(files.items())
    for secret in secrets:
        for form in writings(secret):
            for where, data in all_of:
                at = data.find(form)
                assert at < 0, f"{form!r} in {where}: …{data[max(0, at - 200) : at + 100]!r}…"
