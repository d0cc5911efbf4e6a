"""The frame around the views: links, themes, the weight of the first load, and a service that goes and comes back."""

import re

import pytest
from playwright.sync_api import Page, Request, expect

from tests.e2e.kit import Place
from tests.e2e.playground.conftest import Watch

VIEWS = {
    "Edit": "Rewrite a fact",
    "Compare": "Before and after",
    "History": "History",
    "Batch": "Many facts at once",
    "Trace": "Where an answer comes from",
    "Benchmarks": "Benchmarks",
    "System": "State of the system",
}
FIRST_LOAD_BYTES = 150_000


@pytest.mark.parametrize("width", [360, 1600])
def test_every_view_is_reached_by_its_link_and_fits(page: Page, width: int) -> None:
    page.set_viewport_size({"width": width, "height": 800})
    page.goto("/")
    for label in [*VIEWS][1:] + [*VIEWS][:1]:
        link = page.get_by_role("navigation").get_by_role("link", name=label)
        link.click()
        heading = page.get_by_role("heading", level=1)
        expect(heading).to_be_focused()
        expect(page).to_have_title(f"{heading.inner_text()} · Palimpsest")
        expect(link).to_have_attribute("aria-current", "page")
        assert page.locator("nav [aria-current]").count() == 1
        assert page.evaluate("document.documentElement.scrollWidth") == width, label


def test_an_address_leads_to_its_view_and_any_other_to_the_first(page: Page) -> None:
    page.goto("/#/system")
    expect(page.get_by_role("navigation").get_by_role("link", name="System")).to_have_attribute("aria-current", "page")
    page.goto("/#/../lib/api")
    expect(page.get_by_role("heading", level=1)).to_have_text(VIEWS["Edit"])


def test_the_keyboard_skips_to_the_content(page: Page) -> None:
    page.goto("/#/compare")
    expect(page.get_by_role("heading", level=1)).to_be_visible()
    page.keyboard.press("Tab")
    expect(page.get_by_role("link", name="Skip to the content")).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("main")).to_be_focused()
    assert page.url.endswith("#/compare")


def test_a_chosen_theme_stays(page: Page) -> None:
    def paper() -> str:
        return str(page.evaluate("getComputedStyle(document.documentElement).backgroundColor"))

    page.emulate_media(color_scheme="light")
    page.goto("/")
    light = paper()
    page.get_by_role("button", name="Dark theme").click()
    dark = paper()
    assert light != dark
    page.reload()
    assert paper() == dark
    page.get_by_role("button", name="Light theme").click()
    assert paper() == light
    page.emulate_media(color_scheme="dark")
    assert paper() == light, "the choice goes before the system's"


def test_the_first_load_is_small(page: Page) -> None:
    requests: list[Request] = []
    page.on("requestfinished", lambda request: requests.append(request))  # noqa: PLW0108 - Playwright marks it
    page.goto("/")
    expect(page.get_by_role("heading", name="Facts to start from")).to_be_visible()
    expect(page.get_by_text("Asking the model what it knows")).to_be_hidden()
    sizes = {
        one.url: sum(one.sizes()[part] for part in ("responseBodySize", "responseHeadersSize")) for one in requests
    }
    assert any(url.endswith("/views/edit.js") for url in sizes)
    assert not any(url.endswith("/views/compare.js") for url in sizes), "loaded on first use"
    assert sum(sizes.values()) < FIRST_LOAD_BYTES, sizes


def test_a_lost_worker_is_told_of_until_there_is_another(page: Page, place: Place, watch: Watch) -> None:
    watch.expect("status of 503.*/(ready|generate)")
    banner = page.locator("#banner")
    page.goto("/#/compare")
    page.evaluate("window.here = true")
    expect(page.locator("#head-chip")).to_contain_text("tiny-llama")
    expect(banner).to_be_hidden()
    for worker in place.running:
        worker.kill()
    expect(banner).to_contain_text("No worker is ready.")
    expect(page.locator("#head-chip")).to_have_accessible_name(re.compile("not ready"))
    page.get_by_label("Prompt").fill("The city of")
    page.get_by_role("button", name="Ask both").click()
    expect(page.get_by_role("alert")).to_be_visible()
    place.hire()
    expect(banner).to_be_hidden()
    page.get_by_role("button", name="Ask both").click()
    expect(page.locator(".said.after .token").first).to_be_visible()
    expect(page.get_by_role("alert")).to_be_hidden()
    assert page.evaluate("window.here") is True, "the page was not loaded again"


def test_a_lost_connection_is_told_of_until_it_is_back(page: Page, watch: Watch) -> None:
    watch.expect("ERR_INTERNET_DISCONNECTED")
    banner = page.locator("#banner")
    page.goto("/#/system")
    expect(page.locator("#head-chip")).to_be_visible()
    page.context.set_offline(True)
    expect(banner).to_contain_text("The connection is lost.")
    page.context.set_offline(False)
    expect(banner).to_be_hidden()


def test_the_policy_stops_markup_and_scripts(page: Page, watch: Watch) -> None:
    watch.expect("TrustedHTML|TrustedScript|Content Security Policy")
    page.goto("/")
    attempts = {
        "markup": "document.body.innerHTML = '<b>x</b>'",
        "code": "setTimeout('window.ran = true')",
        "listener": "document.createElement('img').setAttribute('onerror', 'window.ran = true')",
        "script": "document.createElement('script').textContent = 'window.ran = true'",
    }
    for name, attempt in attempts.items():
        refused = page.evaluate(f"() => {{ try {{ {attempt}; }} catch (error) {{ return error.name; }} }}")
        assert refused in ("TypeError", "EvalError"), name
    assert page.evaluate("window.ran") is None
