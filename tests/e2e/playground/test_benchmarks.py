"""Benchmarks on the page: started, watched, cancelled, and their report opened."""

from playwright.sync_api import ConsoleMessage, Page, expect

from service.contracts.jobs import JobStatus
from tests.e2e.kit import Place
from tests.e2e.playground.conftest import grave_faults_in_both_themes


def start(page: Page, records: int) -> None:
    page.goto("/#/benchmarks")
    expect(page.get_by_role("checkbox", name="rome", exact=True)).to_be_checked()
    page.get_by_label("Records", exact=True).fill(str(records))
    page.get_by_role("button", name="Start the benchmark").click()


def test_two_records_to_their_report(page: Page, place: Place) -> None:
    start(page, records=2)
    link = page.get_by_role("link", name="Open the report").first
    expect(link).to_be_visible()
    (benchmark,) = place.client.benchmarks.page().benchmarks[:1]
    assert benchmark.status is JobStatus.COMPLETED
    assert benchmark.result is not None
    row = page.locator(f'[data-benchmark="{benchmark.id}"] tbody tr')
    summary = benchmark.result.methods[0].summary
    assert summary is not None
    low, high = summary.after.ci95["EA"]
    expect(row).to_contain_text(f"[{100 * low:.0f}, {100 * high:.0f}]")
    assert grave_faults_in_both_themes(page) == []

    faults: list[str] = []

    def heard(message: ConsoleMessage) -> None:
        if not message.location["url"].endswith("/favicon.ico"):  # which Chromium asks for by itself
            faults.append(message.text)

    page.context.on("console", heard)
    with page.expect_popup() as popup:
        link.click()
    report = popup.value
    expect(report.get_by_role("heading", level=1)).to_contain_text("rome on palimpsest")
    expect(report.get_by_role("img").first).to_be_visible()
    assert report.evaluate("getComputedStyle(document.body).maxWidth") != "none", "its style is in force"
    assert faults == []


def test_a_running_one_shows_how_far_it_is_and_is_cancelled(page: Page, place: Place) -> None:
    start(page, records=60)
    card = page.locator("[data-benchmark]").first
    expect(card.get_by_role("progressbar")).to_be_visible()
    expect(card).to_contain_text("of 60")
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    card.get_by_role("button", name="Cancel").click()
    expect(card).to_contain_text("cancelled")
    assert place.client.benchmarks.page().benchmarks[0].status is JobStatus.CANCELLED
