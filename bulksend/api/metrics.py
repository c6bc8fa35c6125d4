"""Metrics of runs: an observer, and where its numbers go."""

from __future__ import annotations

import contextlib
import os
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Self

from bulksend.errors import JobError, Problem
from bulksend.observe.metrics import Meter
from bulksend.observe.repeating import Repeating

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry

__all__ = ["Metrics"]

WRITE_EVERY_S = 5.0
PUSH_EVERY_S = 10.0


class Metrics(Meter):
    """An observer that counts what happens in runs, and tells Prometheus or OpenTelemetry.

        with bulksend.Metrics(address=":9464", file="/var/lib/node_exporter/sale.prom") as metrics:
            bulksend.run("sale.toml", observers=[metrics])

    `address` is served until `close`, on 127.0.0.1 unless it names a host; `url` says where. `file` is written every
    few seconds and at the end, for node_exporter. `otlp` is a collector's address. `registry` is one that the program
    serves itself. What fails while it runs is told to `warn` once, by default as a RuntimeWarning, and stops nothing.

    One at a time for a process: runs that follow one another add up. Raises JobError for an address that cannot be
    listened on, a file that cannot be written, or where the `metrics` extra is not installed.
    """

    def __init__(
        self,
        *,
        address: str | None = None,
        file: str | os.PathLike[str] | None = None,
        otlp: str | None = None,
        registry: CollectorRegistry | None = None,
        warn: Callable[[str], None] | None = None,
    ) -> None:
        from bulksend import __version__

        super().__init__(version=str(__version__))
        self.url: str | None = None
        """Where the numbers are served."""
        self._repeating: list[Repeating] = []
        with ExitStack() as stack:
            works: list[tuple[str, Callable[[], None], float]] = []
            if address is not None:
                self._serve(stack, address)
            if registry is not None:
                self._register(stack, registry)
            if otlp is not None:
                works.append(("metrics", self._pushing(stack, otlp, str(__version__)), PUSH_EVERY_S))
            if file is not None:
                works.append((f"metrics file {file}", self._writing(Path(file)), WRITE_EVERY_S))
            for what, work, every_s in works:
                self._repeating.append(Repeating(what, work, every_s=every_s, warn=warn or _warn))
            self._stack = stack.pop_all()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Write and push the last numbers, which takes two seconds at most, and listen no more.

        A run that did not come to its end before has not succeeded.
        """
        if not self.has_ended:
            self.end(success=False)
        for one in self._repeating:
            one.stop()
        for one in self._repeating:
            one.join()
        self._repeating.clear()
        self._stack.close()

    def text(self) -> str:
        """Return the numbers in Prometheus's text format."""
        with _extra("registry"):
            from bulksend.observe.prometheus import FromMeter
        return FromMeter(self).text().decode()

    def _serve(self, stack: ExitStack, address: str) -> None:
        with _extra("--metrics"):
            from bulksend.observe.prometheus import Serving
        serving = Serving(address, self)
        stack.callback(serving.close)
        self.url = serving.url

    def _register(self, stack: ExitStack, registry: CollectorRegistry) -> None:
        with _extra("registry"):
            from bulksend.observe.prometheus import FromMeter
        collector = FromMeter(self)
        try:
            registry.register(collector)
        except ValueError:
            raise JobError(Problem("counts runs already: one at a time", field="registry")) from None
        stack.callback(registry.unregister, collector)

    def _writing(self, path: Path) -> Callable[[], None]:
        with _extra("--metrics-file"):
            from bulksend.observe.prometheus import Textfile
        return Textfile(path, self).write

    def _pushing(self, stack: ExitStack, url: str, version: str) -> Callable[[], None]:
        with _extra("--otlp"):
            from bulksend.observe.otel import Otlp
        otlp = Otlp(url, self, version=version)
        stack.callback(otlp.close)
        return otlp.push


@contextmanager
def _extra(field: str) -> Iterator[None]:
    """Say how to install what is missing."""
    try:
        yield
    except ModuleNotFoundError as wrong:
        text = f'needs the package {wrong.name}: pip install "bulksend[metrics]"'
        raise JobError(Problem(text, field=field)) from None


def _warn(text: str) -> None:
    with contextlib.suppress(RuntimeWarning):  # an error where warnings are errors: that must not end a thread
        warnings.warn(text, RuntimeWarning, stacklevel=2)
