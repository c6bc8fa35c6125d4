"""Locust's fast user in place of a bare loop, without its page and its master; run as `benchmarks.clients` is.

It is a program of its own, since gevent must patch sockets and TLS before anything else imports them.
"""

from __future__ import annotations

import locust  # isort: skip  # patches on import

import ssl
from collections.abc import Iterator

import gevent
import gevent.event
from locust.exception import StopUser

from benchmarks.clients import HEADERS, Clock, main

__all__ = ["post"]


def post(url: str, bodies: Iterator[bytes], concurrency: int, clock: Clock) -> None:
    """Post all bodies by so many users; the clock runs from when all of them are there until the last is done."""
    ready = gevent.event.Event()
    wrong: list[BaseException] = []

    class Poster(locust.FastHttpUser):
        host = url
        insecure = False
        ssl_context_factory = staticmethod(ssl.create_default_context)
        default_headers = HEADERS

        def on_start(self) -> None:
            ready.wait()

        @locust.task
        def launch(self) -> None:
            body = next(bodies, None)
            if body is None:
                raise StopUser
            reply = self.client.post(url, data=body, name="launch")
            assert reply.status_code == 200
            assert reply.json()["success"]

    environment = locust.env.Environment(user_classes=[Poster], host=url)
    environment.events.user_error.add_listener(lambda exception, **_: wrong.append(exception))
    runner = environment.create_local_runner()
    runner.start(concurrency, spawn_rate=concurrency)
    while runner.user_count < concurrency:
        gevent.sleep(0.01)
    clock.start()
    ready.set()
    while runner.user_greenlets and not wrong:
        gevent.sleep(0.01)
    clock.stop()
    runner.quit()
    if wrong:
        raise wrong[0]


if __name__ == "__main__":
    main({"locust": post})
