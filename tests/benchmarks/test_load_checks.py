"""Whatever of a right history is changed, the load run's checks find it."""

from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest

from benchmarks.loading.bad import Bad, ask_badly, check_refusal
from benchmarks.loading.checks import Truth, WrongAnswerError, check_ledger, check_states, check_target
from benchmarks.loading.memory import growth, memory_figures
from benchmarks.loading.reading import check_parting
from benchmarks.loading.tally import Tally
from service.contracts.edits import Edit
from service.contracts.generate import Comparison
from service.contracts.revisions import Revision

NOON = datetime(2026, 1, 1, tzinfo=UTC)
PROMPT = "The Louvre is located in the city of"


def line(number: int, kind: str, active: str, **more: Any) -> Revision:
    """A revision with edits that are named by one letter each; its checksum is told by them."""
    fields = {"revision": number, "parent": number - 1 if number else None, "kind": kind, "created_at": NOON}
    forced = tuple(active)
    counted = {"active": forced, "active_count": len(forced), "checksum": f"of {active}"}
    return Revision.model_validate({**fields, **counted, **more})


def history() -> list[Revision]:
    """Two edits, one taken out and put back, a rollback to the first, and one more edit."""
    return [
        line(0, "base", ""),
        line(1, "edit", "a", edit="a"),
        line(2, "edit", "ab", edit="b"),
        line(3, "revert", "b", edit="a"),
        line(4, "reapply", "ab", edit="a"),
        line(5, "rollback", "a", to=1),
        line(6, "edit", "ac", edit="c"),
    ]


def edit(name: str, revision: int | None, status: str = "applied") -> Edit:
    request = {"prompt": PROMPT, "subject": "The Louvre", "target_new": "Rome"}
    found = {"id": name, "status": status, "created_at": NOON, "request": request, "fact_count": 1}
    return Edit.model_validate({**found, "revision": revision})


def edits() -> list[Edit]:
    return [edit("a", 1), edit("b", 2, "reverted"), edit("c", 6), edit("d", None, "rejected")]


def told() -> Truth:
    """All that a run would have seen of the history, and a text of each revision."""
    truth = Truth()
    for one in history():
        truth.listed(one)
        truth.said(PROMPT, one.revision, f" {one.checksum}")
    for one_edit in edits()[:3]:
        truth.applied(one_edit)
    return truth


def test_a_right_history_is_right() -> None:
    told().settle(history(), edits())


@pytest.mark.parametrize(
    ("number", "change"),
    [
        (2, {"parent": 0}),
        (2, {"active": ("b", "a")}),
        (3, {"edit": "c"}),
        (3, {"active": ("a",)}),
        (4, {"edit": "b"}),
        (4, {"checksum": "another"}),
        (5, {"to": 2}),
        (5, {"to": 7}),
        (5, {"active_count": 2}),
        (6, {"edit": "a"}),
        (6, {"revision": 7}),
    ],
)
def test_a_changed_line_is_found(number: int, change: dict[str, Any]) -> None:
    lines = history()
    check_ledger(lines)
    lines[number] = lines[number].model_copy(update=change)
    with pytest.raises(WrongAnswerError):
        check_ledger(lines)


@pytest.mark.parametrize("number", range(7))
def test_a_missing_line_is_found(number: int) -> None:
    lines = history()
    del lines[number]
    with pytest.raises(WrongAnswerError):
        told().settle(lines, edits())


@pytest.mark.parametrize(
    "others",
    [
        [edit("a", 1), edit("b", 2)],
        [*edits(), edit("e", 7)],
        [edit("a", 2), edit("b", 1), edit("c", 6)],
        [edit("a", 1), edit("b", 2), edit("c", None, "failed")],
    ],
)
def test_edits_that_the_ledger_does_not_have_so_are_found(others: list[Edit]) -> None:
    with pytest.raises(WrongAnswerError):
        told().settle(history(), others)


def test_a_changed_text_is_found_at_once() -> None:
    truth = told()
    truth.said(PROMPT, 2, " of ab")
    with pytest.raises(WrongAnswerError, match=r"r2 says ' of ba' .* and said ' of ab' before"):
        truth.said(PROMPT, 2, " of ba")


@pytest.mark.parametrize("number", [4, 5])
def test_a_text_that_the_same_weights_did_not_say_is_found_at_the_end(number: int) -> None:
    """r4 is r2 again, and r5 is r1."""
    checksums = {one.revision: one.checksum for one in history()}
    said = {(PROMPT, revision): f" {checksum}" for revision, checksum in checksums.items()}
    check_states(said, checksums)
    with pytest.raises(WrongAnswerError):
        check_states({**said, (PROMPT, number): " something else"}, checksums)


def test_a_revision_that_speaks_and_is_not_listed_is_found() -> None:
    with pytest.raises(WrongAnswerError):
        check_states({(PROMPT, 7): " Rome"}, {0: "of "})


@pytest.mark.parametrize(
    "contradicts",
    [
        lambda truth: truth.spoke(3, 4, 6),
        lambda truth: truth.spoke("base", 1, 6),
        lambda truth: truth.spoke("head", 5, 6),
        lambda truth: truth.saw(5, 6),
        lambda truth: truth.saw(None, 0),
        lambda truth: truth.listed(line(2, "edit", "ab", edit="b", checksum="another")),
        lambda truth: truth.applied(edit("a", 2)),
        lambda truth: truth.applied(edit("a", None)),
        lambda truth: truth.applied(edit("d", None, "failed")),
        lambda truth: truth.seen(edit("a", None, "queued"), {"a"}),
    ],
)
def test_what_contradicts_what_was_seen_is_found(contradicts: Callable[[Truth], None]) -> None:
    with pytest.raises(WrongAnswerError):
        contradicts(told())


def test_what_agrees_with_what_was_seen_is_right() -> None:
    truth = told()
    truth.spoke(3, 3, 6)
    truth.spoke("base", 0, 6)
    truth.spoke("head", 7, 6)
    truth.listed(line(2, "edit", "ab", edit="b").model_copy(update={"active": ("b",)}))
    truth.seen(edit("a", 1, "reverted"), {"a"})
    truth.seen(edit("a", None, "running"), ())  # on a page that was read before it ended
    truth.seen(edit("d", None, "running"), {"a"})
    assert truth.head == 7


@pytest.mark.parametrize("text", [" Rome, Italy.", "Rome", " Ro"])
def test_a_target_is_said(text: str) -> None:
    check_target("Rome", text)


@pytest.mark.parametrize("text", ["", " ", " Paris", " the city of Rome"])
def test_a_target_is_not_said(text: str) -> None:
    with pytest.raises(WrongAnswerError):
        check_target("Rome", text)


@pytest.mark.parametrize(("after", "parts_at"), [((1, 2), None), ((1, 3), 1), ((1,), 1), ((1, 2, 3), 2)])
def test_where_two_sides_part(after: tuple[int, ...], parts_at: int | None) -> None:
    found = compared((1, 2), after, parts_at)
    check_parting(found)
    with pytest.raises(WrongAnswerError):
        check_parting(found.model_copy(update={"parts_at": 0}))


def compared(before: tuple[int, ...], after: tuple[int, ...], parts_at: int | None) -> Comparison:
    sides = [{"revision": 0, "text": "", "tokens": (), "token_ids": ids, "logprobs": ()} for ids in (before, after)]
    ends = {"finish_reason": "length", "seconds": 0.1}
    found = {"prompt": PROMPT, "before": sides[0] | ends, "after": sides[1] | ends, "parts_at": parts_at}
    return Comparison.model_validate(found)


BAD = Bad("GET", "/revisions/newest", 422, "invalid-request", "revision")
PROBLEM: dict[str, Any] = {
    "type": "urn:palimpsest:problem:invalid-request",
    "title": "Invalid request",
    "status": 422,
    "detail": "revision: must be a revision such as 3 or r3",
    "errors": [{"field": "revision", "detail": "must be a revision such as 3 or r3"}],
    "request_id": "one",
}


def refused(status: int = 422, kind: str = "application/problem+json", **changes: Any) -> httpx.Response:
    return httpx.Response(status, json={**PROBLEM, **changes}, headers={"content-type": kind, "x-request-id": "one"})


def test_the_problem_that_is_wanted_is_right() -> None:
    check_refusal(BAD, refused())


@pytest.mark.parametrize(
    "answer",
    [
        refused(200),
        refused(400),
        refused(500),
        refused(kind="application/json"),
        refused(type="urn:palimpsest:problem:too-long"),
        refused(errors=[]),
        refused(errors=[{"field": "limit", "detail": "too large"}]),
        refused(request_id="another"),
        refused(detail=""),
        refused(traceback="line 1"),
        httpx.Response(422, text="no", headers={"content-type": "application/problem+json"}),
    ],
)
def test_another_answer_to_a_bad_request_is_found(answer: httpx.Response) -> None:
    with pytest.raises(WrongAnswerError):
        check_refusal(BAD, answer)


@pytest.mark.parametrize(("code", "param", "right"), [("invalid_request", "n", True), ("too_long", "n", False)])
def test_a_refusal_in_openais_shape(code: str, param: str, right: bool) -> None:
    bad = Bad("POST", "/v1/completions", 400, "invalid-request", "n", {"n": 0})
    error = {"message": "n: too small", "type": "invalid_request_error", "param": param, "code": code}
    transport = httpx.MockTransport(lambda _: httpx.Response(400, json={"error": error}))
    with httpx.Client(base_url="http://load", transport=transport) as http:
        if right:
            ask_badly(http, bad)
        else:
            with pytest.raises(WrongAnswerError, match="wants invalid-request"):
                ask_badly(http, bad)


def test_percentiles_are_those_of_what_was_taken() -> None:
    tally = Tally()
    for milliseconds in range(101):
        tally.took("read", milliseconds / 1e3)
    found = tally.figures(50.0)["kinds"]["read"]
    assert found == pytest.approx(
        {"count": 101, "per_second": 2.02, "p50_ms": 50, "p95_ms": 95, "p99_ms": 99, "max_ms": 100}
    )


def test_memory_that_grows_is_told() -> None:
    """Flat until half time, and then 6 MB a minute; what the ratio compares is the same at both ends of flat memory."""
    samples = [
        {"seconds": 10.0 * at, "worker": 100.0 + max(0, at - 50), "api": 50.0, "valkey": 9.0} for at in range(101)
    ]
    found = memory_figures(samples)
    assert found["worker"] == pytest.approx({"first_mb": 100, "last_mb": 150, "peak_mb": 150, "mb_per_minute": 6})
    assert found["api"] == pytest.approx({"first_mb": 50, "last_mb": 50, "peak_mb": 50, "mb_per_minute": 0})
    assert growth(samples, "api") == pytest.approx(1)
    assert growth(samples, "worker") == pytest.approx(1.455)
