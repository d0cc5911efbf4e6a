"""Requests decoded together say what each says alone, to its end under the revisions that it began with."""

import random

import pytest

from service.contracts.lane import DecodeRequest
from service.contracts.revisions import RollbackRequest
from tests.families import CONFIGS
from tests.worker.engine.kit import Boot, random_delta, same
from tests.worker.engine.reading_desk import PROMPT, ReadingDesk, asking, whole

PROMPTS = ("The", PROMPT, "Lionel Messi plays", "東京は日本の首都です。", "Question: What sport does he play? Answer:")
SAMPLINGS: tuple[dict[str, float], ...] = (
    {"max_new_tokens": 5},
    {"max_new_tokens": 12, "temperature": 1.5, "seed": 3},
    {"max_new_tokens": 1},
    {"max_new_tokens": 9, "temperature": 0.8, "top_p": 0.9, "top_k": 30, "repetition_penalty": 1.3, "seed": 11},
)


def _mixed(count: int) -> list[tuple[str, tuple[int, ...], dict[str, float]]]:
    """Prompts, revisions and sampling of so many different requests."""
    draw = random.Random(0)  # noqa: S311 - a choice, not a secret
    sides = [(0, 2), (1, 2), (2,), (1,), (0, 1), (2, 2)]
    return [(PROMPTS[at % len(PROMPTS)], draw.choice(sides), SAMPLINGS[at % len(SAMPLINGS)]) for at in range(count)]


def _body(prompt: str, revisions: tuple[int, ...], sampling: dict[str, float]) -> DecodeRequest:
    return asking(prompt, revisions=revisions, **sampling)


@pytest.mark.parametrize("family", CONFIGS)
def test_rows_of_different_requests_and_revisions_say_what_each_says_alone(boot: Boot, family: str) -> None:
    """Whenever they come: some join while others are being decoded."""
    desk = ReadingDesk(boot(family))
    asked = _mixed(9)
    names = []
    for begin in range(0, len(asked), 3):
        names += desk.take_up(*[_body(*each) for each in asked[begin : begin + 3]])
        desk.steps(3)
    assert len({row.wanted.revision for row in desk.rows}) > 1
    desk.finish()
    for name, (prompt, revisions, sampling) in zip(names, asked, strict=True):
        expected = [desk.alone(prompt, revision, **sampling) for revision in revisions]
        assert all(map(same, whole(desk.last(name)).continuations, expected))


def test_a_request_keeps_its_revisions_though_the_head_moves(reading: ReadingDesk) -> None:
    """By a rollback and by an edit, and though old revisions' weights are forgotten, between its steps."""
    stand = reading.stand
    (name,) = reading.take_up(asking("The", PROMPT, revisions=("r1", "head"), max_new_tokens=12, targets=("Rome",)))
    reading.steps(3)
    reading.take_up(RollbackRequest(to=0))
    stand.history.forget()
    (later,) = reading.take_up(asking(PROMPT, revisions=("head",), max_new_tokens=12))
    reading.steps(3)
    stand.commit(random_delta(stand.loaded, 1, 2, 3, seed=9))
    stand.history.forget()
    (latest,) = reading.take_up(asking(PROMPT, revisions=("head",), max_new_tokens=12))
    assert {row.wanted.revision for row in reading.rows} == {1, 2, 3}
    reading.finish()
    found = whole(reading.last(name))
    assert found.started.revisions == (1, 2)
    expected = [reading.alone(prompt, revision, max_new_tokens=12) for prompt in ("The", PROMPT) for revision in (1, 2)]
    assert all(map(same, found.continuations, expected))
    heads = [whole(reading.last(each)).continuations[0] for each in (later, latest)]
    expected += [reading.alone(PROMPT, revision, max_new_tokens=12) for revision in (3, 4)]
    assert all(map(same, heads, expected[-2:]))
    assert len({said.text for said in expected[2:]}) == 4, "the revisions say the same, so the test shows nothing"


def test_probabilities_too_are_of_the_revisions_that_were_asked(reading: ReadingDesk) -> None:
    body = asking(revisions=("r1", "head"), targets=("Rome", "Paris"))
    expected = reading.decoded(body).probabilities
    (name,) = reading.take_up(body)
    reading.take_up(RollbackRequest(to=0))
    reading.finish()
    assert whole(reading.last(name)).probabilities == expected


@pytest.mark.parametrize("most", [1, 2, 3, 5])
def test_no_more_rows_are_decoded_together_than_allowed(boot: Boot, most: int) -> None:
    desk = ReadingDesk(boot("gpt2"), most_rows=most)
    asked = _mixed(7)
    names = desk.take_up(*[_body(*each) for each in asked])
    together = []
    while desk.readers.step():
        together.append(len(desk.rows))
    assert max(together) == most
    for name, (prompt, revisions, sampling) in zip(names, asked, strict=True):
        expected = [desk.alone(prompt, revision, **sampling) for revision in revisions]
        assert all(map(same, whole(desk.last(name)).continuations, expected))


def test_keys_and_values_stay_within_their_bound(boot: Boot) -> None:
    """Once a first answer has shown how large they are."""
    stand = boot("gpt2")
    config, length = stand.loaded.config, 40
    of_row = 2 * config.n_layer * config.n_embd * 4 * length
    desk = ReadingDesk(stand, cache_bytes=3 * of_row + of_row // 2)
    desk.ask(asking())
    lengths = [length - desk.count(prompt) for prompt in PROMPTS]
    names = desk.take_up(*[asking(p, max_new_tokens=new) for p, new in zip(PROMPTS, lengths, strict=True)])
    together = []
    while desk.readers.step():
        together.append(len(desk.rows))
    assert max(together) == 3
    for name, prompt, new in zip(names, PROMPTS, lengths, strict=True):
        expected = [desk.alone(prompt, revision, max_new_tokens=new) for revision in (0, 2)]
        assert all(map(same, whole(desk.last(name)).continuations, expected))


def test_a_row_for_which_there_is_never_room_is_decoded_alone(boot: Boot) -> None:
    desk = ReadingDesk(boot("gpt2"), cache_bytes=0)
    desk.ask(asking(revisions=("head",)))
    names = desk.take_up(asking(), asking("The"))
    together = []
    while desk.readers.step():
        together.append(len(desk.rows))
    assert set(together) == {0, 1} or set(together) == {1}
    for name, prompt in zip(names, (PROMPT, "The"), strict=True):
        expected = [desk.alone(prompt, revision) for revision in (0, 2)]
        assert all(map(same, whole(desk.last(name)).continuations, expected))


def test_a_later_client_does_not_wait_for_all_of_an_earlier_one(boot: Boot) -> None:
    """One row at a time: after each of the first one's rows comes one of the second's."""
    desk = ReadingDesk(boot("gpt2"), most_rows=1)
    many, few = desk.take_up(
        asking(*PROMPTS, revisions=("head",), client="many", max_new_tokens=2),
        asking("The", revisions=("head",), client="few", max_new_tokens=2),
    )
    while few not in desk.heard:
        assert desk.readers.step()
    assert many not in desk.heard
    (asked, _) = desk.readers._asked[many]
    assert sum(row.finish is not None for row in asked.rows) == 1
    desk.finish()
    assert whole(desk.last(many)).started.revisions == (2,)
