"""The state of the system: the model, its head, what waits and who works."""

from contextlib import suppress
from importlib.metadata import version

from playwright.sync_api import Page, expect

from service.apikeys import KEYS, ApiKeys
from service.contracts.access import Scope
from service.failures import ConflictError
from tests.e2e.kit import FACT, HPARAMS, SLOW, Place
from tests.e2e.playground.conftest import Watch, grave_faults_in_both_themes


def test_it_shows_the_model_the_line_and_the_workers(page: Page, place: Place) -> None:
    model = place.client.model()
    page.goto("/#/system")
    shown = page.get_by_role("region", name="Model", exact=True)
    expect(shown).to_contain_text(model.card.name)
    expect(shown).to_contain_text(f"{model.card.dtype} on {model.card.device}")
    expect(page.get_by_role("region", name="Head", exact=True)).to_contain_text(f"r{model.revision}")
    workers = page.get_by_role("region", name="Workers", exact=True)
    assert model.worker is not None
    expect(workers).to_contain_text(model.worker.worker)
    expect(workers).to_contain_text("leads")
    expect(page.locator("#version")).to_have_text(version("palimpsest"))
    line = page.get_by_role("region", name="In line", exact=True)
    expect(line).to_contain_text("Nothing runs and nothing waits.")

    facts = [{**FACT, "prompt": f"{'Yes, ' * yes}{FACT['prompt']}"} for yes in range(20)]
    long = {**HPARAMS, **SLOW}  # one after the other: the page looks at the line every three seconds
    running, waiting = (place.submit_batch(facts, hparams=long) for _ in range(2))
    expect(line).to_contain_text("1 job running, 1 waiting")
    expect(line).to_contain_text(FACT["prompt"])
    assert grave_faults_in_both_themes(page) == []
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    for edit in (waiting, running):
        with suppress(ConflictError):  # it has ended meanwhile
            place.client.edits.cancel(edit.id)
    expect(line).to_contain_text("Nothing runs and nothing waits.")


def test_its_links_lead_to_the_docs_and_the_metrics(page: Page) -> None:
    page.goto("/#/system")
    for name, path, words in (("The HTTP API", "/docs", "/edits"), ("Metrics", "/metrics", "palimpsest_head_revision")):
        with page.expect_popup() as popup:
            page.get_by_role("link", name=name, exact=True).click()
        assert popup.value.url.endswith(path)
        expect(popup.value.locator("body")).to_contain_text(words)


def test_a_service_that_asks_for_a_key_is_given_it(page: Page, place: Place, watch: Watch) -> None:
    watch.expect("401")
    token = ApiKeys(place.redis).create("page", Scope.ADMIN)
    try:
        page.goto("/#/system")
        expect(page.locator("#banner")).to_contain_text("An API key is needed.")
        page.get_by_label("API key").and_(page.get_by_role("textbox")).fill(token)
        page.get_by_role("button", name="Use it").click()
        expect(page.locator("#banner")).to_be_hidden()
        expect(page.get_by_role("region", name="Workers", exact=True)).to_contain_text("leads")
        page.get_by_role("link", name="History").click()
        card = page.locator("li.is-head")
        card.get_by_text("Download").click()
        with page.expect_download() as download:
            card.get_by_role("link", name="Whole model").click()
        assert download.value.suggested_filename.endswith("-checkpoint.tar")
    finally:
        place.redis.delete(KEYS)
