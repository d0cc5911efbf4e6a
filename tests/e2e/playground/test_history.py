"""The history: revert, reapply and rollback, each asked about first; it grows while it is looked at."""

import re

import pytest
from playwright.sync_api import Locator, Page, expect

from service.contracts.edits import Edit, EditStatus
from tests.e2e.kit import Place
from tests.e2e.playground.conftest import grave_faults_in_both_themes

SCRIPT = "<img src=x onerror=alert(1)> chess"


@pytest.fixture(scope="module")
def edits(place: Place) -> tuple[Edit, Edit]:
    """Two edits, one on the other; the second one's target would run as markup."""
    place.client.rollback(0)
    first, second = place.submit(), place.submit(prompt="He said: Lionel Messi plays", target_new=SCRIPT)
    done = place.ended(first.id), place.ended(second.id)
    assert [edit.status for edit in done] == [EditStatus.APPLIED] * 2
    return done


def card(page: Page, revision: int | None) -> Locator:
    return page.locator(f'li[data-revision="{revision}"]')


def open_history(page: Page, revision: int | None) -> None:
    """The history back to this revision, however many others were made since."""
    page.goto("/#/history")
    expect(page.locator("li.is-head")).to_be_visible()
    while not card(page, revision).is_visible():
        shown = page.locator("li.revision").count()
        page.get_by_role("button", name="Older").click()
        expect(page.locator("li.revision").nth(shown)).to_be_visible()


def agree(page: Page, action: str) -> None:
    page.get_by_role("dialog").get_by_role("button", name=action).click()


def test_an_edit_is_taken_out_and_put_back(page: Page, place: Place, edits: tuple[Edit, Edit]) -> None:
    first, second = edits
    checksum = place.client.model().checksum
    open_history(page, first.revision)
    assert SCRIPT in card(page, second.revision).inner_text()

    card(page, first.revision).get_by_role("button", name="Take it out").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("1 edit leaves force:")
    expect(dialog.get_by_role("listitem")).to_contain_text("Yes, Lionel Messi plays football basketball")
    agree(page, "Cancel")
    expect(dialog).to_be_hidden()
    assert place.client.model().checksum == checksum, "nothing happened"

    card(page, first.revision).get_by_role("button", name="Take it out").click()
    agree(page, "Take it out")
    head = second.revision or 0
    expect(page.get_by_text(f"r{head + 1} is the head now.").first).to_be_visible()
    expect(card(page, head + 1)).to_contain_text("revert")
    expect(card(page, first.revision)).to_contain_text("not in force")
    expect(page.locator(".note")).to_contain_text("1 edit in force was computed while the one that is out was")
    assert place.client.revisions.get(head + 1).active == (second.id,)
    page.get_by_role("button", name="Score what is in force").click()
    expect(page.locator(".note")).to_contain_text(f"1 fact in force at r{head + 1}, as they score now:")

    card(page, first.revision).get_by_role("button", name="Put it back").click()
    agree(page, "Put it back")
    expect(card(page, head + 2)).to_contain_text("reapply")
    assert place.client.model().checksum == checksum


def test_a_rollback_says_what_leaves_and_what_comes(page: Page, place: Place, edits: tuple[Edit, Edit]) -> None:
    first, second = edits
    to_first = place.client.rollback(first.revision or 0).revision
    open_history(page, 0)
    expect(card(page, to_first)).to_contain_text("head")

    card(page, second.revision).get_by_role("button", name="Roll back").click()
    dialog = page.get_by_role("dialog")
    expect(dialog).to_contain_text("1 edit comes into force again:")
    expect(dialog).to_contain_text(SCRIPT)
    expect(dialog).not_to_contain_text("leaves force")
    assert grave_faults_in_both_themes(page) == []
    page.keyboard.press("Escape")
    expect(dialog).to_be_hidden()
    assert place.client.model().revision == to_first

    card(page, 0).get_by_role("button", name="Roll back").click()
    expect(dialog).to_contain_text("1 edit leaves force:")
    expect(dialog).to_contain_text("No edit is in force then")
    agree(page, "Roll back to r0")
    expect(card(page, to_first + 1)).to_contain_text("Back to the base, r0.")
    assert place.client.model().checksum == place.client.revisions.get(0).checksum
    assert grave_faults_in_both_themes(page) == []


def test_it_grows_while_it_is_looked_at_and_older_pages_are_a_press_away(
    page: Page, place: Place, edits: tuple[Edit, Edit]
) -> None:
    head = place.client.rollback(edits[0].revision or 0).revision
    page.goto("/#/history")
    expect(card(page, head)).to_contain_text("head")
    for _ in range(21):
        head = place.client.rollback(0).revision
    expect(card(page, head)).to_contain_text("head")
    expect(page.locator("li.is-head")).to_have_count(1)
    page.reload()
    expect(page.locator("li.revision")).to_have_count(20)
    page.get_by_role("button", name="Older").click()
    expect(card(page, edits[0].revision)).to_contain_text("basketball")


def test_a_revision_links_to_its_comparison_and_its_exports(page: Page, place: Place, edits: tuple[Edit, Edit]) -> None:
    revision = edits[1].revision or 0
    place.client.rollback(revision)
    page.set_viewport_size({"width": 360, "height": 800})
    open_history(page, revision)
    link = card(page, revision).get_by_role("link", name=f"Compare with r{revision - 1}")
    expect(link).to_have_attribute("href", re.compile(rf"before=r{revision - 1}&after=r{revision}$"))
    card(page, revision).get_by_text("Download").click()
    with page.expect_download() as download:
        card(page, revision).get_by_role("link", name="LoRA adapter").click()
    assert download.value.suggested_filename.endswith(f"r{revision}-adapter.tar")
    assert page.evaluate("document.documentElement.scrollWidth") == 360
