"""Facts in batch: a file is understood line by line as the command line does, and its good lines are applied."""

import csv
import io
import json
from typing import Any, Literal

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from playwright.sync_api import FilePayload, Page, expect

from service.contracts.edits import EditStatus, Fact
from service.facts import FactsError, parse
from tests.e2e.kit import FACT, Place
from tests.e2e.playground.conftest import grave_faults_in_both_themes

OTHER = {"prompt": "Yes; Michael Jordan plays", "subject": "Michael Jordan", "target_new": "football"}
COLUMNS = ("prompt", "subject", "target_new", "paraphrases")

READ_ROWS = """async ([delimiter, texts]) => {
  const { readRows } = await import("/playground/parts/csv.js");
  return texts.map((text) => readRows(text, delimiter).map(({ cells }) => cells));
}"""
READ_FACTS = """async (texts) => {
  const { readText } = await import("/playground/parts/facts-file.js");
  return texts.map((text) => readText(text));
}"""


def written(rows: list[list[str]], delimiter: str, end: str) -> str:
    text = io.StringIO()
    bare = any("\r" in cell for row in rows for cell in row)  # which csv leaves without quotes
    quoting: Literal[0, 1] = csv.QUOTE_ALL if bare else csv.QUOTE_MINIMAL
    csv.writer(text, delimiter=delimiter, lineterminator=end, quoting=quoting).writerows(rows)
    return text.getvalue()


def test_the_good_lines_are_applied_without_the_bad_one(page: Page, place: Place) -> None:
    place.client.rollback(0)
    rows = [list(COLUMNS)]
    rows += [[FACT["prompt"], FACT["subject"], FACT["target_new"], "Messi plays|Lionel plays"]]
    rows += [["The city of Paris", "Rome", "x", ""]]
    rows += [[OTHER["prompt"], OTHER["subject"], OTHER["target_new"], ""]]
    page.goto("/#/batch")
    body = b"\xef\xbb\xbf" + written(rows, ";", "\r\n").encode()
    page.locator("#drop-file").set_input_files(FilePayload(name="facts.csv", mimeType="text/csv", buffer=body))
    expect(page.locator("main")).to_contain_text("CSV with semicolons: 2 facts understood, 1 line with something")
    wrong = page.get_by_role("region", name="What to correct").get_by_role("row").nth(1)
    expect(wrong).to_have_text("3subjectmust occur in the prompt, verbatim and in the same case")
    expect(page.get_by_text("One request may have 8 MB")).to_be_visible()
    assert grave_faults_in_both_themes(page) == []

    page.get_by_label("Method").select_option("memit")
    page.get_by_role("button", name="Apply 2 facts as one edit, without the bad lines").click()
    expect(page.get_by_role("heading", name="is made")).to_be_visible()
    edit = place.client.edits.get(place.client.edits.page().edits[0].id)
    assert (edit.status, edit.request.method, edit.fact_count) == (EditStatus.APPLIED, "memit", 2)
    assert edit.request.facts[0].paraphrases == ("Messi plays", "Lionel plays")
    assert [fact.prompt for fact in edit.request.facts] == [FACT["prompt"], OTHER["prompt"]]
    expect(page.get_by_role("heading", name=f"r{edit.revision} is made")).to_be_visible()
    outcome = page.get_by_role("region", name="What became of each fact")
    expect(outcome.get_by_role("row")).to_have_count(3)
    page.set_viewport_size({"width": 360, "height": 800})
    assert page.evaluate("document.documentElement.scrollWidth") == 360
    assert grave_faults_in_both_themes(page) == []


DROP = """([name, text]) => {
  const carried = new DataTransfer();
  carried.items.add(new File([text], name));
  document.querySelector(".drop").dispatchEvent(new DragEvent("drop", { dataTransfer: carried, bubbles: true }));
}"""


def test_a_file_is_dropped_and_text_is_pasted(page: Page) -> None:
    page.goto("/#/batch")
    expect(page.get_by_text("or drop it here")).to_be_visible()
    page.evaluate(DROP, ["<b>facts.jsonl", f"{json.dumps(FACT)}\n{{"])
    expect(page.get_by_role("heading", name="<b>facts.jsonl")).to_be_visible()
    expect(page.locator("main")).to_contain_text(
        "Read as JSON lines: 1 fact understood, 1 line with something to correct"
    )
    page.get_by_text("Paste text instead").click()
    page.get_by_label("The text of a file").fill(written([["Prompt", "Subject"], ["a", "b"]], ",", "\n"))
    page.get_by_role("button", name="Read it").click()
    expect(page.get_by_text("the first line must name the columns; target_new must be among them")).to_be_visible()
    expect(page.get_by_role("button", name="Apply")).to_have_count(0)


CELLS = st.lists(st.lists(st.text('ab",;\n\r\t |é', max_size=6), min_size=2, max_size=4), max_size=5)


def kept(rows: list[list[str]]) -> list[list[str]]:
    """Rows of blank cells are no rows."""
    return [row for row in rows if any(row)]


@settings(database=None, deadline=None, max_examples=10, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(CELLS, min_size=20, max_size=30), st.sampled_from(",;\t"), st.sampled_from(["\n", "\r\n"]))
def test_cells_are_read_as_they_were_written(page: Page, cases: Any, delimiter: str, end: str) -> None:
    if not page.url.endswith("/#/batch"):
        page.goto("/#/batch")
    read = page.evaluate(READ_ROWS, [delimiter, [written(rows, delimiter, end) for rows in cases]])
    assert read == [kept(rows) for rows in cases]


COUNTERFACT = {
    "case_id": 3,
    "requested_rewrite": {
        "prompt": "{} plays",
        "subject": "Lionel Messi",
        "target_new": {"str": "chess"},
        "target_true": {"str": "football"},
    },
    "paraphrase_prompts": ["Messi plays"],
    "neighborhood_prompts": ["Jordan plays"],
    "attribute_prompts": ["x"],
}
ZSRE = {
    "subject": "Messi",
    "src": "What does Messi play?",
    "rephrase": "Messi plays what?",
    "alt": "chess",
    "answers": ["football"],
    "loc": "who sang",
    "loc_ans": "nobody",
}
KNOWEDIT = {
    "prompt": "Messi plays",
    "subject": "Messi",
    "target_new": "chess",
    "ground_truth": [["football"]],
    "rephrase_prompt": "What Messi plays is",
    "portability": {"Reasoning": [{"prompt": "A game of", "ground_truth": [["pieces", "boards"]]}]},
}
MQUAKE = {
    "requested_rewrite": [
        {**COUNTERFACT["requested_rewrite"], "question": "What?"},  # type: ignore[dict-item]
        {**COUNTERFACT["requested_rewrite"], "prompt": "The game of {} is"},  # type: ignore[dict-item]
    ],
    "questions": ["What?"],
    "new_answer": "chess",
}
CONDENSED = {
    "prompt": "Messi plays",
    "subject": "Messi",
    "target_new": "chess",
    "ground_truth": "football",
    "rephrase_prompt": "What Messi plays is",
    "locality_prompt": "Pelé plays",
    "locality_ground_truth": "football",
}
KNOWN = {"known_id": 1, "subject": "Pelé", "prompt": "Pelé plays", "attribute": "football"}
FORMS = [FACT, OTHER, COUNTERFACT, ZSRE, KNOWEDIT, MQUAKE, CONDENSED, KNOWN]


def without(value: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: part for key, part in value.items() if key != name}


BAD: list[Any] = [
    {**FACT, "prompt": FACT["prompt"] + " "},
    {**FACT, "subject": "messi"},
    {**FACT, "subject": " Lionel"},
    {**FACT, "target_new": " "},
    {**FACT, "target_true": FACT["target_new"]},
    {**FACT, "paraphrases": "one"},
    {**FACT, "paraphrases": ["", "b"]},
    {**FACT, "locality": {"a": [{"prompt": "x"}]}},
    {**FACT, "locality": {"a": [{"prompt": "x", "answer": "y", "z": 1}]}},
    {**FACT, "more": 1},
    without(FACT, "subject"),
    {**COUNTERFACT, "requested_rewrite": {**COUNTERFACT["requested_rewrite"], "prompt": "He plays"}},  # type: ignore[dict-item]
    {**COUNTERFACT, "paraphrase_prompts": [" "]},
    without(ZSRE, "alt"),
    {**KNOWEDIT, "subject": "Pelé"},
    [],
    "text",
    None,
]


def line_of(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


def test_a_file_is_understood_as_the_command_line_does(page: Page) -> None:
    lines = [line_of(value) for value in (*FORMS, *BAD)]
    good = [
        *(lines[: len(FORMS)]),
        "\n".join(lines[:4]),
        "[" + ",\n".join(lines[: len(FORMS)]) + "]",
        "\n\n" + lines[0],
    ]
    bad = [*lines[len(FORMS) :], lines[0] + ",", "{", f"{lines[0]} {lines[0]}", "[1", f"[{lines[0]},\n]", "", "[]"]
    bad += [f"[{lines[0]}\n{lines[1]}]", f"{lines[0]}\n\n{line_of({**FACT, 'target_new': 'chess'})}"]
    page.goto("/#/batch")
    for text, found in zip(good, page.evaluate(READ_FACTS, good), strict=True):
        assert found["errors"] == [], text
        assert tuple(Fact.model_validate(each["fact"]) for each in found["facts"]) == parse(text), text
    for text, found in zip(bad, page.evaluate(READ_FACTS, bad), strict=True):
        try:
            parse(text)
        except FactsError as error:
            wanted = {(one.line, one.field) for one in error.errors}
            assert {(one["line"], one["field"]) for one in found["errors"]} == wanted, text
        else:
            raise AssertionError(f"the command line accepts {text}")
