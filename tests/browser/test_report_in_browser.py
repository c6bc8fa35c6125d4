"""A report in a real browser: nothing is asked for, nothing is wrong, and it can be read on a phone and at night."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Self

import pytest

from bulksend.observe.history import SlowCall
from bulksend.observe.report import FailedSend, page
from bulksend.observe.report.load import load_page
from tests.observe.load_facts import SEARCH, load_facts, tally
from tests.observe.report_facts import EVIL, facts, run

FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]
LONG = "no-break-" * 40
WIDE, PHONE = {"width": 1180, "height": 900}, {"width": 390, "height": 844}


def _missing() -> str | None:
    try:
        import playwright.sync_api  # noqa: F401
    except ImportError:
        return "playwright is not installed"
    return None if _chromium() else "there is no chromium on this machine"


def _chromium() -> str | None:
    return shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")


if (missing := _missing()) is not None and not os.environ.get("CI"):
    pytest.skip(missing, allow_module_level=True)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    assert missing is None, f"{missing}, and CI must look at reports"
    from playwright.sync_api import sync_playwright

    with sync_playwright() as player:
        opened = player.chromium.launch(executable_path=_chromium(), args=FLAGS)
        yield opened
        opened.close()


def of_job() -> str:
    """Return a report with everything in it that can be wide, or markup."""
    full = run(240, names=("insider.launch", "stream.campaign.create"), text=LONG)
    failures = [
        FailedSend(EVIL, 1, "rejected", f"<script>alert(1)</script>{LONG}", 400),
        FailedSend(LONG, 2, "unknown", LONG, 0),
    ]
    return page(facts(run(), full, job=LONG, failures=failures, job_text=f"{EVIL}\n{LONG * 5}", holder=LONG))


def of_load_test() -> str:
    """Return the page of a load test, likewise."""
    figures = {
        **SEARCH,
        "job": LONG,
        "state": "unsettled",
        "limits": {"insider.launch": LONG},
        "search": {**SEARCH["search"], "ended": LONG},
        "statuses": {LONG: 7},
        "reasons": {LONG: 7, EVIL: 1},
        "thresholds": [{"fail_if": LONG, "failed": True, "was": LONG}],
        "windows": [{"window": "100000000/min", "allowed": 10**8, "sent": 10**8, "accepted": 10**8}],
    }
    slow = [SlowCall(1.0, LONG, 10**7, "stream.campaign.create")]
    more = {"why": LONG, "slowest": slow, "limits_table": LONG, "hosts": [LONG], "job_text": LONG * 5}
    return load_page(load_facts(tally(240.0), figures=figures, **more))


PAGES = {"job": (of_job, 6, "#failed"), "load": (of_load_test, 4, "#outcomes")}
"""How each is made, how many pictures it has, and where what others wrote stands."""


@pytest.fixture(scope="module", params=PAGES)
def kind(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory, kind: str) -> Path:
    path = tmp_path_factory.mktemp("browser") / "report.html"
    path.write_text(PAGES[kind][0](), "utf-8")
    return path


class Shown:
    """A page as the browser has it, and what it asked for and complained of."""

    def __init__(self, browser: Any, file: Path, viewport: dict[str, int], scheme: str) -> None:
        self.asked: list[str] = []
        self.said: list[str] = []
        self.context = browser.new_context(viewport=viewport, color_scheme=scheme)
        self.context.route("**/*", self._route)
        self.page = self.context.new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda wrong: self.said.append(str(wrong)))
        self.page.on("dialog", lambda dialog: (self.said.append(dialog.message), dialog.dismiss()))
        self.page.goto(file.as_uri(), wait_until="load")

    def _route(self, route: Any) -> None:
        self.asked.append(route.request.url)
        if route.request.url.startswith("file:"):
            route.continue_()
        else:
            route.abort()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.context.close()

    def ask(self, script: str) -> Any:
        return self.page.evaluate(script)


@pytest.fixture(
    scope="module", params=[(WIDE, "light"), (PHONE, "light"), (WIDE, "dark")], ids=["wide", "phone", "dark"]
)
def shown(browser: Any, file: Path, request: pytest.FixtureRequest) -> Iterator[Shown]:
    with Shown(browser, file, *request.param) as one:
        yield one


def test_it_asks_for_nothing_and_complains_of_nothing(shown: Shown, file: Path) -> None:
    assert shown.asked == [file.as_uri()]
    assert shown.said == []


def test_it_is_no_wider_than_the_window(shown: Shown) -> None:
    assert shown.ask("document.documentElement.scrollWidth <= window.innerWidth")
    shown.ask("document.querySelectorAll('details').forEach(one => one.open = true)")
    assert shown.ask("document.documentElement.scrollWidth <= window.innerWidth")
    # What is too wide by itself would be scrolled to: nothing is, but for the tables behind the pictures.
    too_wide = """[...document.querySelectorAll('section > .scroll')]
        .filter(one => one.scrollWidth > one.clientWidth + 1).length"""
    assert shown.ask(too_wide) == 0


def test_every_picture_can_be_seen(shown: Shown, kind: str) -> None:
    sizes = shown.ask(
        """[...document.querySelectorAll('svg')].map(one =>
            [one.getBoundingClientRect().width, one.querySelectorAll('path').length])"""
    )
    assert len(sizes) == PAGES[kind][1]
    assert all(width > 250 and paths > 3 for width, paths in sizes)
    unseen = """[...document.querySelectorAll('svg text')].filter(one =>
        one.getBoundingClientRect().height < 7 || getComputedStyle(one).fill === 'rgba(0, 0, 0, 0)').length"""
    assert shown.ask(unseen) == 0


def test_what_others_wrote_has_made_no_element(shown: Shown, kind: str) -> None:
    assert shown.ask("document.querySelectorAll('img, script').length") == 0
    assert EVIL in shown.ask(f"document.querySelector('{PAGES[kind][2]}').textContent")


INK = "getComputedStyle(document.querySelector('svg text')).fill"
PAGE = "getComputedStyle(document.body).backgroundColor"
CALLS = """[...document.querySelectorAll('svg path')].map(one => getComputedStyle(one).fill)
    .filter(one => one.startsWith('rgb(') && one !== 'rgb(0, 0, 0)')[0]"""


def test_light_and_dark_differ_in_the_page_and_in_the_pictures(browser: Any, file: Path) -> None:
    with Shown(browser, file, WIDE, "light") as light, Shown(browser, file, WIDE, "dark") as dark:
        for what in (INK, PAGE, CALLS):
            assert light.ask(what) != dark.ask(what), what
        for one in (light, dark):
            assert abs(_brightness(one.ask(INK)) - _brightness(one.ask(PAGE))) > 500
        assert _brightness(dark.ask(PAGE)) < 100 < _brightness(light.ask(PAGE))


def test_it_prints_light_whatever_the_screen_is(browser: Any, file: Path) -> None:
    with Shown(browser, file, WIDE, "dark") as dark:
        dark.page.emulate_media(media="print", color_scheme="dark")
        assert _brightness(dark.ask(PAGE)) == 3 * 255
        assert _brightness(dark.ask(INK)) < 200
        assert len(dark.page.pdf(format="A4")) > 10_000


def _brightness(colour: str) -> int:
    red, green, blue = colour.removeprefix("rgb(").removesuffix(")").split(",")
    return int(red) + int(green) + int(blue)
