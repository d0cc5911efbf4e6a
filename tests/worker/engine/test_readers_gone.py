"""What nobody waits for any longer frees its rows at once, wherever it is, and hinders nobody."""

import time

import pytest

from tests.worker.engine.kit import Boot, same
from tests.worker.engine.reading_desk import PROMPT, ReadingDesk, asking, request_of, whole
from worker.engine.decoding import PREFILL_TOKENS

LONG = PROMPT * 3


def _only(desk: ReadingDesk, name: str) -> bool:
    """Whether this request's rows are the only ones in the batch, and those of nobody else wait."""
    (asked, _), *others = [desk.readers._asked[each] for each in desk.readers._asked]
    waiting = [row for line in desk.readers._turns._waiting.values() for row in line]
    found = {id(row) for row in [*desk.rows, *waiting]}
    return not others and asked.request.id == name and found == {id(row) for row in asked.rows if row.finish is None}


def _goes_on(desk: ReadingDesk, name: str) -> None:
    """Asserts that the default question is answered as ever."""
    desk.finish()
    assert all(map(same, whole(desk.last(name)).continuations, [desk.alone(PROMPT, revision) for revision in (0, 2)]))


@pytest.mark.parametrize("steps", range(7))
def test_rows_are_free_at_once(reading: ReadingDesk, steps: int) -> None:
    """Before they have joined, while their prompts are read, and between any two tokens."""
    gone, stays = reading.take_up(asking("The", n=2, temperature=1.0), asking())
    reading.steps(steps)
    reading.readers.dismiss({gone, "somebody else's"})
    assert reading.heard == {gone: [None]}
    assert _only(reading, stays)
    _goes_on(reading, stays)
    assert reading.heard[gone] == [None]


@pytest.mark.parametrize("steps", range(4))
def test_rows_that_wait_for_room_are_free_too(boot: Boot, steps: int) -> None:
    desk = ReadingDesk(boot("gpt2"), most_rows=1)
    first, second, stays = desk.take_up(asking("The"), asking("A"), asking())
    desk.steps(steps)
    desk.readers.dismiss({first, second})
    assert desk.heard == {first: [None], second: [None]}
    assert _only(desk, stays)
    _goes_on(desk, stays)


@pytest.mark.parametrize("steps", range(1, 12))
def test_rows_are_free_while_a_long_prompt_is_read_in_parts(
    reading: ReadingDesk, monkeypatch: pytest.MonkeyPatch, steps: int
) -> None:
    monkeypatch.setitem(PREFILL_TOKENS, "cpu", 4)
    gone, stays = reading.take_up(asking(LONG), asking())
    reading.steps(steps)
    reading.readers.dismiss({gone})
    assert reading.heard == {gone: [None]}
    assert _only(reading, stays)
    _goes_on(reading, stays)


def test_a_prompt_that_two_requests_share_is_read_on_for_the_other(
    reading: ReadingDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(PREFILL_TOKENS, "cpu", 4)
    gone, stays = reading.take_up(asking(), asking())
    reading.steps(2)
    reading.readers.dismiss({gone})
    _goes_on(reading, stays)


def test_the_last_one_leaves_nothing_behind(reading: ReadingDesk) -> None:
    (gone,) = reading.take_up(asking(stream=True, targets=("Rome",)))
    reading.steps(3)
    reading.readers.dismiss({gone})
    assert reading.heard[gone][-1] is None
    assert not reading.readers.step()
    assert list(reading.rows) == []
    (stays,) = reading.take_up(asking())
    _goes_on(reading, stays)


def test_nobody_is_told_anything_that_is_not_asked(reading: ReadingDesk) -> None:
    (name,) = reading.take_up(asking())
    reading.readers.dismiss({"unknown"})
    reading.readers.dismiss(frozenset())
    assert reading.heard == {}
    _goes_on(reading, name)
    reading.readers.dismiss({name})
    assert len(reading.heard[name]) == 1


@pytest.mark.parametrize("steps", [0, 2])
def test_what_is_past_its_deadline_is_let_go(reading: ReadingDesk, steps: int) -> None:
    now = time.time()
    late, stays = reading.take_up(request_of(asking("The"), deadline=now), request_of(asking(), deadline=now + 600))
    for _ in range(steps):
        reading.readers.step()
    reading.readers.dismiss(())
    assert reading.heard == {late: [None]}
    assert _only(reading, stays)
    _goes_on(reading, stays)
