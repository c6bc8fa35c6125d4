"""Segment jobs for an emulator: their text, the command in this process, the vendor's own sight of a segment."""

from __future__ import annotations

import base64
import contextlib
import hashlib
import hmac
import json
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from http.client import HTTPException
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Self
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

from tests.end_to_end import jobs
from tests.end_to_end.vendor import BULKSEND, Done, Folder, Vendor

SEGMENT = "vip"
QUERY, ADD, DELETE = "stream.targets.query", "stream.targets.add", "stream.targets.delete"
GET, EXISTS, MAKE = "stream.segment.get", "stream.targets.exists", "stream.segment.create"
CREATE, START = "stream.campaign.create", "stream.campaign.start"
TARGET = f'[segment]\nid = "{SEGMENT}"\n'
DESIRED = '[desired]\nfrom = "desired.csv"\nkey = "id"\n'
FAST = jobs.limits("1000/s", QUERY, ADD, DELETE, GET, EXISTS, MAKE, CREATE, START)
LAUNCH = """\
[launch]
name = "Spring sale"
sender_id = "user-0001"
segment_ids = ["${segment.id}"]
message_template = { text = "Hi {{ receiver.name }}" }
"""
_ADD_MOST, _DELETE_MOST = 10_000, 100
_TRIES = 60
_POLL_S, _POLLS = 0.012, 4000
_MEASURED = """\
import os, sys
process = os.posix_spawn(sys.argv[2], sys.argv[2:], os.environ)
_, status, usage = os.wait4(process, 0)
open(sys.argv[1], "w").write(str(usage.ru_maxrss))
sys.exit(os.waitstatus_to_exitcode(status))
"""


class Stream(Vendor):
    """A Stream emulator with one empty segment, and the vendor's own calls to it."""

    def __init__(self, *flags: str) -> None:
        super().__init__("--segment", SEGMENT, *flags, provider="stream")
        head, body = (_encode(json.dumps(part).encode()) for part in ({"alg": "HS256", "typ": "JWT"}, {"server": True}))
        key = self.given["api_secret"].encode()
        signature = _encode(hmac.new(key, f"{head}.{body}".encode(), hashlib.sha256).digest())
        self._token = f"{head}.{body}.{signature}"

    def call(self, path: str, body: object) -> Any:
        """Post until it is answered with success; repeated, since the emulator may have been told to fail."""
        headers = {"Authorization": self._token, "stream-auth-type": "jwt", "Content-Type": "application/json"}
        url = f"{self.url}{path}?api_key={self.given['api_key']}"
        wrong: object = None
        for _ in range(_TRIES):
            try:
                with urlopen(Request(url, json.dumps(body).encode(), headers), timeout=60) as reply:
                    return json.load(reply)
            except (OSError, HTTPException, ValueError) as error:
                wrong = error.read() if isinstance(error, HTTPError) else error
        raise AssertionError(f"{path}: {wrong!r}")

    def _change(self, way: str, ids: Iterable[str], most: int, segment: str) -> None:
        every = list(ids)
        pieces = [every[start : start + most] for start in range(0, len(every), most)]
        path = f"/segments/{quote(segment, safe='')}/{way}"
        with ThreadPoolExecutor(8) as threads:
            list(threads.map(lambda piece: self.call(path, {"target_ids": piece}), pieces))

    def put(self, ids: Iterable[str], segment: str = SEGMENT) -> None:
        """Add targets as somebody else would."""
        self._change("addtargets", ids, _ADD_MOST, segment)

    def take(self, ids: Iterable[str], segment: str = SEGMENT) -> None:
        """Remove targets as somebody else would."""
        self._change("deletetargets", ids, _DELETE_MOST, segment)

    def make(self, segment: str, **fields: object) -> None:
        """Make a segment."""
        self.call("/segments", {"id": segment, "type": "user", **fields})

    def targets(self, segment: str = SEGMENT) -> list[str]:
        """Return whom the segment targets now, by code point, as the emulator itself sees it."""
        return self._get(f"targets?segment={quote(segment, safe='')}")["targets"]

    def calls(self, endpoint: str) -> int:
        return self.stats(endpoint)["calls"]

    def writes(self) -> int:
        """Count every call that could have changed a thing."""
        return sum(self.calls(name) for name in (ADD, DELETE, MAKE, CREATE, START))

    def all_calls(self) -> int:
        return sum(one["calls"] for one in self._get("stats")["endpoints"].values())

    def order(self) -> list[str]:
        """List the endpoints of all that took effect, in order."""
        return [one["endpoint"] for one in self._get("effects")["effects"]]


def _encode(raw: bytes) -> str:
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


def wait_until(holds: Callable[[], bool], running: subprocess.Popen[str] | None = None) -> None:
    """Poll until something holds; it must come, and before the command that runs has ended."""
    for _ in range(_POLLS):
        if holds():
            return
        assert running is None or running.poll() is None, running.communicate()
        time.sleep(_POLL_S)
    raise AssertionError("it never came")


def kill(running: subprocess.Popen[str]) -> None:
    """Kill -9: nothing can be said or tidied."""
    running.send_signal(signal.SIGKILL)
    running.communicate()


def segment_job(
    path: Path,
    vendor: Vendor,
    desired: Iterable[str],
    *,
    text: str = TARGET + DESIRED,
    extra: str = "",
    limits: str = FAST,
    base_url: str | None = None,
) -> Folder:
    """Write a job that brings the segment into line with `desired`, and the list as a table of one plain column."""
    path.mkdir(exist_ok=True)
    head = jobs.head(vendor)
    if base_url is not None:
        head = head.replace(vendor.url, base_url)
    folder = jobs.folder_of(path, vendor, head + text + extra + limits)
    write_ids(folder, desired)
    return folder


def own_segment_job(
    path: Path,
    vendor: Stream,
    held: Iterable[str],
    desired: Iterable[str],
    *,
    text: str = TARGET + DESIRED,
    **more: Any,
) -> Folder:
    """Write a job for a new segment, named as the folder, that holds some targets: tests can share an emulator."""
    vendor.make(path.name)
    vendor.put(held, path.name)
    return segment_job(path, vendor, desired, text=text.replace(f'"{SEGMENT}"', f'"{path.name}"'), **more)


def write_ids(folder: Folder, ids: Iterable[str], name: str = "desired.csv") -> None:
    """Write plain ids; the table has no rows where there are none."""
    (folder.path / name).write_text("".join(f"{one}\n" for one in ("id", *ids)), "utf-8")


def numbered(numbers: Iterable[int], prefix: str = "u") -> list[str]:
    return [f"{prefix}{number:07}" for number in numbers]


def tenth(size: int) -> tuple[list[str], list[str]]:
    """Return remote and desired ids of one size: 5 % are to be added, 5 % to be removed, spread over all."""
    every = size // 20 * 21
    ids = numbered(range(every), "user-")
    return [one for at, one in enumerate(ids) if at % 21], [one for at, one in enumerate(ids) if at % 21 != 1]


def files_beside(folder: Folder) -> list[Path]:
    """List what a reconciliation keeps beside the ledger: a folder of files, and a lock."""
    return sorted(folder.path.glob("bulksend.db.segment-*"))


def events(path: Path, *names: str) -> list[dict[str, Any]]:
    """Read events of a log file, of which a death may have cut a line."""
    found = []
    for line in path.read_text("utf-8").splitlines():
        with contextlib.suppress(json.JSONDecodeError):
            if (one := json.loads(line))["event"] in names:
                found.append(one)
    return found


def measured(folder: Folder, *arguments: str) -> tuple[Done, float]:
    """Run the command, and return its peak of memory in MB too.

    A small process stands between: what is forked from a large one begins with the peak of that one.
    """
    peak = folder.path / "peak.txt"
    done = subprocess.run(
        [sys.executable, "-c", _MEASURED, str(peak), *BULKSEND, *arguments],
        cwd=folder.path,
        env=folder.env,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
    )
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return Done(done.returncode, done.stdout, done.stderr), int(peak.read_text()) * unit / 1e6


Forward = Callable[[Any], Any]
Lie = Callable[[str, Any, Forward], Any]


class Liar:
    """A proxy before an emulator. `lie` is given path, body and what passes a body on, and returns the answer."""

    def __init__(self, vendor: Vendor, lie: Lie) -> None:
        liar = self
        self.goes_to = vendor.url

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def _pass(self) -> None:
                raw = self.rfile.read(int(self.headers.get("Content-Length") or 0))
                status = [200]

                def forward(body: Any) -> Any:
                    data = None if body is None else json.dumps(body).encode()
                    names = ("Authorization", "stream-auth-type", "Content-Type")
                    headers = {name: self.headers[name] for name in names if self.headers[name]}
                    request = Request(liar.goes_to + self.path, data, headers, method=self.command)
                    try:
                        with urlopen(request, timeout=60) as reply:
                            status[0] = reply.status
                            return json.load(reply)
                    except HTTPError as error:
                        status[0] = error.code
                        return json.load(error)

                answer = json.dumps(lie(self.path.partition("?")[0], json.loads(raw) if raw else None, forward))
                self.send_response(status[0])
                self.send_header("Content-Type", "application/json")
                self.send_header("Content-Length", str(len(answer.encode())))
                self.end_headers()
                self.wfile.write(answer.encode())

            do_GET = do_POST = do_PUT = do_DELETE = _pass  # noqa: N815 - names of the standard library

            def log_message(self, *_: object) -> None:
                """Say nothing."""

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


def is_page(path: str) -> bool:
    """Say whether a path asks for a page of targets."""
    return path.endswith("/targets/query")


def figures(done: Done) -> Sequence[int]:
    """Return what a summary says of the segment: remote, desired, added, removed."""
    segment = done.json["segment"]
    return [segment[name] for name in ("remote", "desired", "added", "removed")]
