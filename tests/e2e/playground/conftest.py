"""A browser, one stack on a tiny model, and pages that tolerate no error and no request to another host."""

import os
import re
import shutil
from collections.abc import Iterator

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, ConsoleMessage, Page, Request, expect, sync_playwright

from tests.conftest import _free_port
from tests.e2e.kit import SECONDS, Place, open_place

CHROMIUM = os.environ.get("PALIMPSEST_CHROMIUM") or shutil.which("chromium")
MILLISECONDS = SECONDS * 1000
GRAVE = ("serious", "critical")
"""What axe-core calls the faults that keep people out."""


class Watch:
    """What went wrong on a page; a test may say which words it expects, as when it stops the service."""

    def __init__(self, page: Page, host: str) -> None:
        self._host = host
        self._faults: list[str] = []
        self._expected: list[str] = []
        page.on("console", self._console)
        page.on("pageerror", lambda error: self._faults.append(f"error: {error}"))
        page.on("request", self._request)

    def expect(self, pattern: str) -> None:
        """Faults that match are no faults."""
        self._expected.append(pattern)

    @property
    def faults(self) -> list[str]:
        return [fault for fault in self._faults if not any(re.search(one, fault) for one in self._expected)]

    def _console(self, message: ConsoleMessage) -> None:
        if message.type == "error":
            self._faults.append(f"console: {message.text} {message.location}")

    def _request(self, request: Request) -> None:
        if not request.url.startswith((self._host, "data:", "blob:")):
            self._faults.append(f"request: {request.url}")


@pytest.fixture(scope="session")
def chromium() -> str:
    """The browser's program."""
    if CHROMIUM is None:
        pytest.skip("there is no chromium: install it, or name it in PALIMPSEST_CHROMIUM")
    return CHROMIUM


@pytest.fixture(scope="module")
def browser(chromium: str) -> Iterator[Browser]:
    """One for each file: as long as it is open this thread has an event loop, and other tests want their own."""
    with sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        expect.set_options(timeout=MILLISECONDS)
        yield opened
        opened.close()


@pytest.fixture(scope="session")
def place(tmp_path_factory: pytest.TempPathFactory, chromium: str) -> Iterator[Place]:
    """The stack that all tests of the page share; a test that kills its worker hires another."""
    assert chromium
    with open_place(tmp_path_factory.mktemp("playground"), _free_port) as opened:
        opened.hire()
        yield opened


@pytest.fixture
def page(browser: Browser, place: Place) -> Iterator[Page]:
    """A page at the stack's address, with nothing kept from other tests."""
    context = browser.new_context(base_url=str(place.http.base_url), viewport={"width": 1280, "height": 900})
    context.set_default_timeout(MILLISECONDS)
    yield context.new_page()
    context.close()


@pytest.fixture(autouse=True)
def watch(page: Page, place: Place) -> Iterator[Watch]:
    """Fails the test if its page had an error or asked another host."""
    watching = Watch(page, str(place.http.base_url))
    yield watching
    assert watching.faults == []


def grave_faults(page: Page) -> list[str]:
    """What axe-core finds serious or critical on the page as it stands, with the elements that have it."""
    violations = Axe().run(page).response["violations"]
    return [
        f"{found['id']}: {found['help']}: {[node['html'] for node in found['nodes']]}"
        for found in violations
        if found["impact"] in GRAVE
    ]


def grave_faults_in_both_themes(page: Page) -> list[str]:
    """The same, light and dark."""
    found = []
    for scheme in ("light", "dark"):
        page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
        found += [f"{scheme}: {fault}" for fault in grave_faults(page)]
    return found
