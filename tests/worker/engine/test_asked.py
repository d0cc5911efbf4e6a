"""A target's probability is the whole target's, after each prompt and under each revision, computed step by step."""

from collections.abc import Sequence

import pytest

from service.contracts.lane import DecodeRequest
from tests.worker.engine.kit import Boot, same
from tests.worker.engine.reading_desk import PROMPT, ReadingDesk, asking, whole
from worker.engine import asked
from worker.models.loaded import LoadedModel
from worker.models.memory import MOST_TOKENS
from worker.models.positions import Row
from worker.models.reads import Read, read_rows

TARGETS = ("Paris", "the city of Rome")


def _expected(desk: ReadingDesk, prompts: Sequence[str], revisions: Sequence[int]) -> list[float]:
    """For each prompt, under each revision, of each target: by a plain pass."""
    tokenizer, found = desk.stand.loaded.tokenizer, []
    for prompt in prompts:
        ids = tokenizer(prompt)["input_ids"]
        targets = [tokenizer(f"{prompt} {target}")["input_ids"] for target in TARGETS]
        assert all(whole_ids[: len(ids)] == ids and len(whole_ids) > len(ids) + 1 for whole_ids in targets)
        rests = [whole_ids[len(ids) :] for whole_ids in targets]
        found += [desk.probability(revision, ids, rest) for revision in revisions for rest in rests]
    return found


@pytest.mark.parametrize("family", ["gpt2", "llama", "gemma2"])
def test_probabilities_are_those_of_plain_passes(boot: Boot, family: str) -> None:
    desk = ReadingDesk(boot(family))
    prompts = (PROMPT, "Michael Jordan plays")
    answer = desk.decoded(asking(*prompts, revisions=("r1", "head"), targets=TARGETS))
    expected = _expected(desk, prompts, (1, 2))
    assert len(set(expected)) == len(expected) == 8
    assert answer.probabilities == pytest.approx(expected, rel=1e-3)


def test_one_target_on_one_side(reading: ReadingDesk) -> None:
    answer = reading.decoded(asking(revisions=("head",), targets=TARGETS[:1]))
    assert answer.probabilities == pytest.approx(_expected(reading, (PROMPT,), (2,))[:1], rel=1e-3)


class Watch:
    """Notes how many targets each step reads, and how many tokens the rows have by then."""

    def __init__(self, desk: ReadingDesk, monkeypatch: pytest.MonkeyPatch) -> None:
        self._desk = desk
        self.read: list[int] = []
        self.said: list[int] = []
        monkeypatch.setattr(asked, "read_rows", self._read)

    def _read(self, loaded: LoadedModel, rows: Sequence[Row]) -> list[Read]:
        self.read.append(len(rows))
        self.said.append(max((len(row.said) for row in self._desk.rows), default=0))
        return read_rows(loaded, rows)


@pytest.mark.parametrize(("tokens", "rows"), [(1, [1] * 8), (70, [3, 3, 2]), (10_000, [8])])
def test_a_step_reads_as_many_targets_as_are_worth_one(
    reading: ReadingDesk, monkeypatch: pytest.MonkeyPatch, tokens: int, rows: list[int]
) -> None:
    monkeypatch.setitem(MOST_TOKENS, "cpu", tokens)
    watch = Watch(reading, monkeypatch)
    prompts = ("Lionel Messi plays football", "Michael Jordan plays")
    body = asking(*prompts, targets=TARGETS, max_new_tokens=4)
    answer = reading.decoded(body)
    assert watch.read == rows
    assert answer.probabilities == pytest.approx(_expected(reading, prompts, (0, 2)), rel=1e-3)


def test_rows_go_on_between_the_steps(reading: ReadingDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """And the answer is there when both are done."""
    monkeypatch.setitem(MOST_TOKENS, "cpu", 1)
    watch = Watch(reading, monkeypatch)
    answer = reading.decoded(asking(targets=TARGETS, max_new_tokens=8))
    assert watch.said == [0, 1, 2, 3]
    short = reading.decoded(asking(targets=TARGETS, max_new_tokens=1))
    assert short.probabilities == pytest.approx(answer.probabilities)
    assert [len(said.tokens) for said in short.continuations] == [1, 1]


def test_those_who_ask_for_probabilities_are_served_in_their_order(
    reading: ReadingDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One of their steps beside each step of the rows; and nobody else has to wait for them."""
    monkeypatch.setitem(MOST_TOKENS, "cpu", 1)
    bodies: list[DecodeRequest] = [asking(targets=TARGETS, max_new_tokens=2) for _ in range(2)]
    first, second, plain = reading.take_up(*bodies, asking(max_new_tokens=2))
    ended: list[str] = []
    for _ in range(20):
        reading.readers.step()
        ended += [name for name in (first, second, plain) if name in reading.heard and name not in ended]
    assert ended == [plain, first, second]
    expected = _expected(reading, (PROMPT,), (0, 2))
    for name in (first, second):
        answer = whole(reading.last(name))
        assert answer.probabilities == pytest.approx(expected, rel=1e-3)
        assert all(map(same, answer.continuations, whole(reading.last(plain)).continuations))
