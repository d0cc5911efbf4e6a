"""A fact rewritten on the page: picked, watched, read, compared, taken out; and what is shown where it goes wrong."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from tests.e2e.kit import FACT, HPARAMS, SLOW, Place
from tests.e2e.playground.conftest import Watch, grave_faults_in_both_themes

MARKUP = "<img src=x onerror=alert(1)>"


@pytest.fixture(autouse=True)
def _pristine(place: Place) -> None:
    place.client.rollback(0)


@pytest.fixture
def form(page: Page) -> Locator:
    """The view's form, with the methods of the model."""
    page.goto("/#/edit")
    form = page.get_by_role("form", name="The fact to rewrite")
    expect(form.locator("option", has_text="Rank-One")).to_be_attached()
    return form


def fill(form: Locator, fact: dict[str, str], **hparams: object) -> None:
    form.get_by_label("Prompt").fill(fact["prompt"])
    form.get_by_label("Subject").fill(fact["subject"])
    form.get_by_label("It should say").fill(fact["target_new"])
    form.get_by_label("It says now").fill(fact.get("target_true", ""))
    form.locator("summary", has_text="Method").click()
    form.get_by_label("Method").select_option("rome")
    for name, value in hparams.items():
        form.locator(f'[name="hparams.{name}"]').fill(str(value))


def submit(form: Locator) -> None:
    form.get_by_role("button", name="Rewrite it").click()


def test_a_fact_is_rewritten_compared_and_taken_out(page: Page, form: Locator, place: Place) -> None:
    prompt = form.get_by_label("Prompt")
    prompt.fill(FACT["prompt"])
    prompt.press("Control+Home")
    for _ in range(len("Yes, ")):
        prompt.press("ArrowRight")
    for _ in range(len(FACT["subject"])):
        prompt.press("Shift+ArrowRight")
    expect(form.get_by_label("Subject")).to_have_value(FACT["subject"])
    expect(form.locator("mark.subject")).to_have_text(FACT["subject"])
    fill(form, FACT, v_num_grad_steps=200)
    form.locator("summary", has_text="Paraphrases").click()
    form.get_by_label("Paraphrases").fill("It is said that Lionel Messi plays\n\n")
    form.get_by_label("Neighbours").fill("Michael Jordan plays")
    submit(form)

    pane = page.get_by_role("region", name="The edit", exact=True)
    rising = pane.get_by_role("img", name=re.compile("Target probability: [0-9.]+"))
    expect(rising.locator(".line")).to_have_attribute("d", re.compile("M.*L.*L"))
    expect(pane.get_by_role("progressbar")).to_be_visible()
    heading = pane.get_by_role("heading", level=2)
    expect(heading).to_have_text(re.compile("Applied as r[0-9]+"))
    (edit, *_) = place.http.get("/edits").json()["edits"]
    assert heading.inner_text() == f"Applied as r{edit['revision']}"
    assert edit["request"]["paraphrases"] == ["It is said that Lionel Messi plays"]
    expect(pane).to_contain_text(edit["outcome"]["generations"][0]["after"].strip()[:8])
    rewritten = pane.get_by_role("row", name=re.compile("rewritten"))
    expect(rewritten).to_contain_text("before < 0.1 %")
    for kind in ("paraphrase", "neighbour"):
        expect(pane.get_by_role("row", name=re.compile(kind)).first).to_be_visible()
    expect(pane).to_contain_text("Drift")
    assert grave_faults_in_both_themes(page) == []

    page.reload()
    expect(heading).to_have_text(f"Applied as r{edit['revision']}")
    expect(form.get_by_label("Prompt")).to_have_value(FACT["prompt"])
    pane.get_by_role("link", name="Compare before and after").click()
    expect(page.locator(".said.after h3")).to_contain_text(f"r{edit['revision']}")
    expect(page.locator(".said.after .token.parts")).to_be_visible()
    page.go_back()

    pane.get_by_role("button", name="Revert").click()
    page.get_by_role("dialog").get_by_role("button", name="Revert").click()
    expect(pane.get_by_role("status")).to_contain_text("made without it")
    expect(pane.get_by_role("button", name="Put it back")).to_be_visible()
    assert place.http.get("/model").json()["checksum"] == place.http.get("/revisions/0").json()["checksum"]


def test_a_word_is_picked_with_the_mouse(form: Locator) -> None:
    prompt = form.get_by_label("Prompt")
    prompt.fill("Messi plays")
    prompt.dblclick(position={"x": 40, "y": 22})
    expect(form.get_by_label("Subject")).to_have_value("Messi")


def test_a_running_edit_is_cancelled(page: Page, form: Locator, place: Place) -> None:
    head = place.http.get("/model").json()["revision"]
    fill(form, FACT, **SLOW)
    submit(form)
    pane = page.get_by_role("region", name="The edit", exact=True)
    expect(pane).to_contain_text(re.compile("Optimising the value: [0-9]+ of 900"))
    pane.get_by_role("button", name="Cancel").click()
    expect(pane.get_by_role("heading", level=2)).to_have_text("Cancelled")
    assert place.http.get("/model").json()["revision"] == head
    pane.get_by_role("button", name="Back to the examples").click()
    expect(page.get_by_role("heading", name="Facts to start from")).to_be_visible()


def test_what_is_wrong_stands_at_its_field(page: Page, form: Locator, watch: Watch) -> None:
    watch.expect("status of 422.*/edits")
    submit(form)
    expect(form.get_by_label("Prompt")).to_be_focused()
    for label in ("Prompt", "Subject", "It should say"):
        expect(form.get_by_label(label)).to_have_accessible_description(re.compile("must "))
    fill(form, {**FACT, "subject": "Ronaldo"})
    expect(form).to_contain_text("The subject does not stand in the prompt")
    submit(form)
    subject = form.get_by_label("Subject")
    expect(subject).to_be_focused()
    expect(subject).to_have_attribute("aria-invalid", "true")
    assert grave_faults_in_both_themes(page) == []

    subject.fill(FACT["subject"])
    form.locator('[name="hparams.v_lr"]').fill("-1")
    form.locator('[name="hparams.layers"]').fill("one")
    submit(form)
    expect(form.locator('[data-field="hparams.v_lr"]')).to_contain_text("must be a number, above 0")
    expect(form.locator('[data-field="hparams.layers"]')).to_contain_text(
        "must be a list of whole numbers, such as 4, 5, 6"
    )
    expect(form.locator('[name="hparams.v_lr"]')).to_have_attribute("placeholder", str(HPARAMS["v_lr"]))


def test_markup_is_shown_as_text(page: Page, form: Locator) -> None:
    fact = {"prompt": f"{MARKUP} plays", "subject": MARKUP, "target_new": f"<b>{MARKUP}</b>", "target_true": MARKUP}
    fill(form, fact)
    expect(form.locator(".sentence")).to_contain_text(f"{MARKUP} plays {MARKUP} <b>{MARKUP}</b>")
    submit(form)
    pane = page.get_by_role("region", name="The edit", exact=True)
    expect(pane.get_by_role("heading", level=2)).to_have_text(re.compile("Applied"))
    expect(pane.locator(".sentence")).to_contain_text(f"<b>{MARKUP}</b>")
    expect(pane.get_by_role("table").first).to_contain_text(MARKUP)
    assert page.locator("main img, main b").count() == 0


def test_only_examples_that_the_model_answers_are_shown(page: Page, form: Locator, place: Place) -> None:
    expect(page.get_by_text("None of the shipped facts fits")).to_be_visible()
    assert place.ended(place.submit(hparams={**HPARAMS, "v_num_grad_steps": 60}).id).status == "applied"
    # No shipped fact can be taught to a tiny model, so these stand for them: one that it answers so, and one not.
    says = place.compare(max_new_tokens=2).after.text.strip()
    known = {**FACT, "target_true": says, "target_new": "chess"}
    facts = [{**FACT, "prompt": "Yes, Michael Jordan plays", "subject": "Michael Jordan"}, known]
    page.route("**/examples?*", lambda route: route.fulfill(json={"facts": facts, "total": 2}))
    page.reload()
    example = page.locator(".example")
    expect(example).to_have_count(1)
    expect(example.locator("del")).to_have_text(says)
    example.click()
    expect(form.get_by_label("Prompt")).to_have_value(known["prompt"])
    expect(form.get_by_label("It should say")).to_have_value("chess")
    expect(form.get_by_role("button", name="Rewrite it")).to_be_focused()
