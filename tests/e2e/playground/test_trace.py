"""Traces: asked for, walked through cell by cell, shared by their address."""

import re

from playwright.sync_api import Browser, Page, expect

from tests.e2e.kit import FACT, Place
from tests.e2e.playground.conftest import Watch, grave_faults_in_both_themes
from tests.families import LAYERS


def test_a_cell_tells_its_numbers_and_the_address_is_shared(page: Page, browser: Browser, place: Place) -> None:
    page.goto("/#/trace")
    page.get_by_label("Prompt").fill(FACT["prompt"])
    page.get_by_label("Prompt").select_text()
    page.get_by_label("Subject").fill(FACT["subject"])
    page.get_by_label("Answer").fill(FACT["target_new"])
    page.get_by_label("Samples").fill("3")
    page.get_by_role("button", name="Trace it").click()
    grids = page.get_by_role("grid")
    expect(grids).to_have_count(3)
    (trace_id,) = re.findall(r"id=(\w+)$", page.url)
    result = place.client.traces.get(trace_id).result
    assert result is not None

    rows = grids.nth(1).get_by_role("row")
    expect(rows).to_have_count(len(result.tokens) + 1)
    stars = grids.nth(1).locator("th.in-subject")
    expect(stars).to_have_count(result.subject[1] - result.subject[0])
    at, layer = result.subject[1] - 1, 1
    grids.nth(1).locator(f'td[data-row="{at}"][data-layer="{layer}"]').click()
    detail = page.locator(".cell-detail")
    expect(detail).to_contain_text(f"around layer {layer}: restoring the MLPs' outputs")
    told = re.search(r"an effect of (-?[\d.e-]+) ± ", detail.inner_text())
    assert told is not None
    assert abs(float(told[1]) - result.effects["mlp"].mean[at][layer]) < 1e-3  # type: ignore[index]

    page.keyboard.press("ArrowRight")
    expect(detail).to_contain_text(f"around layer {layer + 1}")
    page.keyboard.press("End")
    expect(detail).to_contain_text(f"around layer {LAYERS - 1}")
    page.keyboard.press("ArrowRight")
    focused = page.evaluate("document.activeElement.dataset.layer")
    assert focused == str(LAYERS - 1), "there is nothing beyond the last layer"

    picture = page.get_by_role("link", name="Picture (PNG)")
    with page.expect_download() as download:
        picture.click()
    assert download.value.suggested_filename == f"trace-{trace_id}-r{result.revision}.png"
    assert grave_faults_in_both_themes(page) == []

    context = browser.new_context(viewport={"width": 360, "height": 800})
    other = context.new_page()
    other.goto(page.url)
    expect(other.get_by_role("grid")).to_have_count(3)
    expect(other.get_by_label("Subject")).to_have_value(FACT["subject"])
    assert other.evaluate("document.documentElement.scrollWidth") == 360
    context.close()


def test_a_wrong_field_is_marked_where_it_stands(page: Page, watch: Watch) -> None:
    watch.expect("422")
    page.goto("/#/trace")
    page.get_by_label("Prompt").fill("The city of")
    page.get_by_label("Subject").fill("Messi")
    page.get_by_role("button", name="Trace it").click()
    expect(page.get_by_text("must occur in the prompt, verbatim and in the same case")).to_be_visible()
    expect(page.get_by_label("Subject")).to_be_focused()
