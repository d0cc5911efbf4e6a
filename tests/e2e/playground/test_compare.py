"""Two revisions side by side on the page: streamed, marked where they part, with numbers, and shared by address."""

import re

import pytest
from playwright.sync_api import Page, expect

from service.contracts.edits import Edit, EditStatus
from tests.e2e.kit import FACT, Place
from tests.e2e.playground.conftest import Watch, grave_faults_in_both_themes


@pytest.fixture(scope="module")
def edit(place: Place) -> Edit:
    """An edit in force, so that base and head part."""
    place.client.rollback(0)
    done = place.ended(place.submit().id)
    assert done.status is EditStatus.APPLIED
    return done


def test_two_revisions_are_asked_and_shared(page: Page, edit: Edit, place: Place) -> None:
    page.goto("/#/compare")
    page.get_by_label("Prompt").fill(FACT["prompt"])
    after = page.get_by_label("After", exact=True)
    expect(after.locator("option", has_text="Lionel Messi → basketball").first).to_be_attached()
    after.select_option(f"r{edit.revision}")
    page.locator("summary", has_text="Sampling").click()
    page.get_by_label("New tokens").fill("6")
    page.get_by_label("Prompt").press("Control+Enter")
    verdict = page.get_by_text("They part at token")
    expect(verdict).to_be_visible()

    body = {"prompt": [FACT["prompt"]], "after": edit.revision, "max_new_tokens": 6}
    answer = place.http.post("/generate", json=body).json()["results"][0]
    expect(verdict).to_contain_text(f"They part at token {answer['parts_at'] + 1}:")
    for side in ("before", "after"):
        card = page.locator(f".said.{side}")
        tokens = card.get_by_role("option")
        expect(tokens).to_have_count(len(answer[side]["tokens"]))
        expect(card.locator("h3")).to_contain_text(f"r{answer[side]['revision']}")
        assert card.locator(".tokens").inner_text().startswith(FACT["prompt"])
        expect(tokens.nth(answer["parts_at"])).to_have_class(re.compile("parts"))
    assert grave_faults_in_both_themes(page) == []

    with page.context.expect_page() as opened:
        page.evaluate("address => window.open(address, '_blank', 'noopener')", page.url)
    other = opened.value
    expect(other.get_by_text("They part at token")).to_contain_text(verdict.inner_text().split(" after.")[0])
    expect(other.get_by_label("After", exact=True)).to_have_value(f"r{edit.revision}")
    expect(other.get_by_label("New tokens")).to_have_value("6")


def test_numbers_are_shown_on_hover_and_by_the_keyboard(page: Page, edit: Edit, place: Place) -> None:
    page.goto(f"/#/compare?prompt={FACT['prompt']}&after=r{edit.revision}&max_new_tokens=6")
    expect(page.get_by_text("They part at token")).to_be_visible()
    body = {"prompt": [FACT["prompt"]], "after": edit.revision, "max_new_tokens": 6, "top_logprobs": 5}
    side = place.http.post("/generate", json=body).json()["results"][0]["after"]
    tip = page.get_by_role("tooltip")
    expect(tip).to_be_hidden()
    tokens = page.locator(".said.after").get_by_role("option")
    tokens.nth(1).hover()
    expect(tip).to_contain_text(f"log-probability {side['logprobs'][1]:.3f}")
    assert tip.get_by_role("presentation").or_(tip.locator("tr")).count() >= 5
    page.get_by_role("heading", level=1).hover()
    expect(tip).to_be_hidden()
    tokens.first.focus()
    expect(tip).to_contain_text(f"log-probability {side['logprobs'][0]:.3f}")
    page.keyboard.press("ArrowRight")
    expect(tokens.nth(1)).to_be_focused()
    expect(tip).to_contain_text(f"log-probability {side['logprobs'][1]:.3f}")
    page.keyboard.press("End")
    expect(tokens.last).to_be_focused()
    page.keyboard.press("Escape")
    expect(tip).to_be_hidden()


def test_the_answers_are_stopped(page: Page, edit: Edit) -> None:
    assert edit.revision is not None
    page.goto("/#/compare?max_new_tokens=100")
    page.get_by_label("Prompt").fill(FACT["prompt"])
    # By hand nobody is as quick as a tiny model.
    page.evaluate(
        """() => new MutationObserver((_, observer) => {
            if (!document.querySelector(".token")) return;
            observer.disconnect();
            [...document.querySelectorAll("button")].find((one) => one.textContent === "Stop").click();
        }).observe(document.querySelector("main"), { childList: true, subtree: true })"""
    )
    page.get_by_role("button", name="Ask both").click()
    expect(page.locator("#announcer")).to_have_text("Stopped.")
    expect(page.get_by_role("button", name="Stop")).to_be_hidden()
    expect(page.locator(".caret")).to_have_count(0)
    assert 0 < page.locator(".token").count() < 200


def test_a_drawn_seed_is_part_of_the_address(page: Page, edit: Edit) -> None:
    page.goto(f"/#/compare?prompt=The+city+of&after=r{edit.revision}&temperature=1.5&max_new_tokens=8")
    expect(page).to_have_url(re.compile(r"seed=\d+"))
    said = page.locator(".said.after .tokens").inner_text()
    page.reload()
    expect(page.get_by_text(re.compile("They part at|Both say"))).to_be_visible()
    assert page.locator(".said.after .tokens").inner_text() == said


def test_what_is_wrong_stands_at_its_field(page: Page, watch: Watch) -> None:
    watch.expect("status of 422.*/generate")
    page.goto("/#/compare?prompt=The+city+of&temperature=hot")
    temperature = page.get_by_label("Temperature")
    expect(temperature).to_have_attribute("aria-invalid", "true")
    temperature.fill("0")
    page.get_by_role("button", name="Ask both").click()
    expect(page.locator(".said.after .token").first).to_be_visible()
    expect(temperature).not_to_have_attribute("aria-invalid", "true")


def test_a_prompt_of_several_lines_and_markup_is_text(page: Page, edit: Edit) -> None:
    assert edit.revision is not None
    prompt = "<img src=x onerror=alert(1)>\n  <b>The city of"
    page.goto("/#/compare")
    page.get_by_label("Prompt").fill(prompt)
    page.get_by_role("button", name="Ask both").click()
    expect(page.locator(".said.before .given")).to_have_text(prompt, use_inner_text=True)
    expect(page.locator(".said.before .token").first).to_be_visible()
    assert page.locator("main img, main b").count() == 0
