"""From what is asked to rows: their numbering, seeds and room; conversations in a template; what does not fit."""

import copy
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from tokenizers.processors import TemplateProcessing

from service.contracts.lane import DecodeRequest
from service.contracts.problem import PROBLEM_TYPE
from service.errors import ProblemError
from service.keys import Keys
from tests.families import tiny_model
from tests.worker.engine.kit import Stand, same
from tests.worker.engine.reading_desk import PROMPT, ReadingDesk, asking, request_of
from worker.engine.asked import Asked
from worker.engine.prompting import accept

CONTEXT = 128
TEMPLATE = (
    "{% for message in messages %}<pad>{{ message.role }}: {{ message.content }}\n{% endfor %}"
    "{% if add_generation_prompt %}<pad>assistant: {% endif %}"
)
ALTERNATING = "{{ raise_exception('Conversation roles must alternate') }}"
BROKEN = "{{ messages[0].content + 1 }}"
TURNS = ({"role": "system", "content": "Be brief."}, {"role": "user", "content": "Where is Paris?"})
SAID = "<pad>system: Be brief.\n<pad>user: Where is Paris?\n<pad>assistant: "

OpenChat = Callable[[str], ReadingDesk]


def _accept(desk: ReadingDesk, body: DecodeRequest) -> Asked:
    return accept(request_of(body), body, desk.stand.history, desk.card, desk.count)


def _refused(desk: ReadingDesk, body: DecodeRequest) -> tuple[int, str, str]:
    with pytest.raises(ProblemError) as raised:
        _accept(desk, body)
    problem = raised.value.problem
    (error,) = problem.errors or ()
    return problem.status, problem.type.removeprefix(PROBLEM_TYPE), error.field


def _words(desk: ReadingDesk, count: int) -> str:
    """A text of so many tokens."""
    text = "a" * count
    assert desk.count(text) == count
    return text


@pytest.fixture
def open_chat(redis: Redis, keys: Keys, tmp_path: Path) -> OpenChat:
    """Opens a desk with a model that has this chat template, and puts <pad> before every text that is no chat."""

    def open_one(template: str) -> ReadingDesk:
        loaded = tiny_model("llama")
        tokenizer = copy.deepcopy(loaded.tokenizer)
        tokenizer.chat_template = template
        before = TemplateProcessing(single="<pad> $A", special_tokens=[("<pad>", loaded.pad_token_id)])
        tokenizer.backend_tokenizer.post_processor = before
        return ReadingDesk(Stand(redis, keys, dataclasses.replace(loaded, tokenizer=tokenizer), tmp_path))

    return open_one


def _chat(**fields: Any) -> DecodeRequest:
    return asking(**{"messages": TURNS, **fields})


def test_rows_are_numbered_prompt_by_prompt_alternative_by_alternative_revision_by_revision(
    reading: ReadingDesk,
) -> None:
    asked = _accept(reading, asking("The", PROMPT, revisions=("r1", "head"), n=3, seed=5))
    ids = [tuple(reading.stand.loaded.tokenizer(prompt)["input_ids"]) for prompt in ("The", PROMPT)]
    expected = [(of, number, revision) for of in ids for number in range(3) for revision in (1, 2)]
    assert [(row.ids, row.wanted.alternative, row.wanted.revision) for row in asked.rows] == expected
    assert [row.wanted.seed for row in asked.rows] == [5, 5, 6, 6, 7, 7] * 2
    for row in asked.rows:
        assert row.wanted.weights is reading.stand.history.weights_at(row.wanted.revision)
    assert asked.started.revisions == (1, 2)
    assert asked.started.prompts == ("The", PROMPT)
    assert asked.started.prompt_tokens == tuple(map(len, ids))


@pytest.mark.parametrize(
    ("names", "numbers"),
    [(("base", "head"), (0, 2)), (("head",), (2,)), (("r1", 0), (1, 0)), (("head", "head"), (2, 2))],
)
def test_revisions_are_named_as_they_are_at_this_moment(
    reading: ReadingDesk, names: tuple[str | int, ...], numbers: tuple[int, ...]
) -> None:
    assert _accept(reading, asking(revisions=names)).started.revisions == numbers


@pytest.mark.parametrize("name", ["r3", 7])
def test_a_revision_that_is_not_there_is_named(reading: ReadingDesk, name: str | int) -> None:
    with pytest.raises(ProblemError, match=f"r{str(name).removeprefix('r')}") as raised:
        _accept(reading, asking(revisions=("head", name)))
    assert raised.value.problem.status == 404


def test_an_alternative_is_what_its_own_seed_says_alone(reading: ReadingDesk) -> None:
    drawn = {"temperature": 1.5, "top_p": 0.95}
    alternatives = reading.decoded(asking("The", PROMPT, n=3, seed=2**63 - 2, **drawn)).continuations
    assert len(alternatives) == 12
    for number, seed in enumerate((2**63 - 2, 2**63 - 1, 0)):  # a seed after the largest one is the smallest
        alone = reading.decoded(asking("The", PROMPT, seed=seed, **drawn)).continuations
        found = [*alternatives[2 * number : 2 * number + 2], *alternatives[6 + 2 * number : 8 + 2 * number]]
        assert all(map(same, found, alone))
    assert len({said.token_ids for said in alternatives}) > 6


def test_a_continuation_may_be_as_long_as_the_context_has_room(reading: ReadingDesk) -> None:
    text = _words(reading, CONTEXT - 10)
    (row, *_) = _accept(reading, asking(text, max_new_tokens=10)).rows
    assert row.most_tokens == CONTEXT
    assert _refused(reading, asking("ok", text, max_new_tokens=11)) == (422, "too-long", "prompt[1]")


def test_a_bound_is_as_much_of_it_as_the_context_has_room_for(reading: ReadingDesk) -> None:
    long, full = _words(reading, CONTEXT - 3), _words(reading, CONTEXT)
    asked = _accept(reading, asking("The", long, max_new_tokens=20, fill_context=True))
    tokens = reading.count("The")
    assert [row.most_tokens for row in asked.rows] == [tokens + 20] * 2 + [CONTEXT] * 2
    said = reading.decoded(asking(long, max_new_tokens=20, fill_context=True)).continuations
    assert [len(each.tokens) for each in said] == [3, 3]
    assert _refused(reading, asking(full, max_new_tokens=20, fill_context=True)) == (422, "too-long", "prompt[0]")


def test_a_target_must_fit_behind_its_prompt(reading: ReadingDesk) -> None:
    text = _words(reading, CONTEXT - 12)
    assert _accept(reading, asking(text, targets=("Rome",))).steps is not None
    assert _refused(reading, asking("ok", text, targets=("Rome", "a" * 40))) == (422, "too-long", "prompt[1]")


def test_a_conversation_is_read_as_its_template_says(open_chat: OpenChat) -> None:
    desk = open_chat(TEMPLATE)
    assert desk.card.chat
    asked = _accept(desk, _chat())
    assert asked.started.prompts == (SAID,)
    ids = desk.stand.loaded.tokenizer(SAID, add_special_tokens=False)["input_ids"]
    assert ids[0] == 0, "the template's special token is one"
    assert [row.ids for row in asked.rows] == [tuple(ids)] * 2
    answer = desk.decoded(_chat())
    assert answer.started.prompt_tokens == (len(ids),)
    assert all(map(same, answer.continuations, [desk.alone(tuple(ids), revision) for revision in (0, 2)]))


def test_a_targets_probability_is_that_of_the_reply(open_chat: OpenChat) -> None:
    """It follows the template as it is: without a space, or special tokens that the template does not have."""
    desk = open_chat(TEMPLATE)
    tokenizer = desk.stand.loaded.tokenizer
    ids = tokenizer(SAID, add_special_tokens=False)["input_ids"]
    targets = [tokenizer(target, add_special_tokens=False)["input_ids"] for target in ("Paris", "Rome")]
    assert min(map(len, targets)) > 1
    expected = [desk.probability(revision, ids, target) for revision in (0, 2) for target in targets]
    found = desk.decoded(_chat(targets=("Paris", "Rome"))).probabilities
    assert found == pytest.approx(expected, rel=1e-3)


def test_a_target_must_fit_behind_its_conversation(open_chat: OpenChat) -> None:
    desk = open_chat(TEMPLATE)
    assert _refused(desk, _chat(targets=("Rome", "a " * 100))) == (422, "too-long", "messages")


@pytest.mark.parametrize(("template", "says"), [(ALTERNATING, "roles must alternate"), (BROKEN, "str")])
def test_a_template_that_refuses_or_fails_is_the_askers_problem(open_chat: OpenChat, template: str, says: str) -> None:
    desk = open_chat(template)
    assert _refused(desk, _chat()) == (422, "chat-template", "messages")
    (good, bad) = desk.ask(asking(), _chat())
    assert good.decoded is not None
    assert bad.problem is not None
    assert says in bad.problem.detail


def test_a_conversation_without_a_template_is_refused(reading: ReadingDesk) -> None:
    assert not reading.card.chat
    assert _refused(reading, _chat()) == (422, "no-chat-template", "messages")


def test_a_conversation_that_does_not_fit_is_named(open_chat: OpenChat) -> None:
    desk = open_chat(TEMPLATE)
    long = ({"role": "user", "content": "a " * 100},)
    assert _refused(desk, _chat(messages=long)) == (422, "too-long", "messages")
    assert _refused(desk, _chat(messages=long, fill_context=True)) == (422, "too-long", "messages")
    room = CONTEXT - len(_accept(desk, _chat()).rows[0].ids)
    assert _accept(desk, _chat(max_new_tokens=room)).rows[0].most_tokens == CONTEXT
    assert _refused(desk, _chat(max_new_tokens=room + 1)) == (422, "too-long", "messages")


@pytest.mark.parametrize("template", ["", "{{ '' }}"])
def test_a_conversation_of_no_tokens_is_refused(open_chat: OpenChat, template: str) -> None:
    assert _refused(open_chat(template), _chat()) == (422, "no-tokens", "messages")
