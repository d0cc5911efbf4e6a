"""What a card lets anybody refuse without a model."""

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from service.checks import check_edit, check_generation, token_counter
from service.contracts.edits import EditRequest
from service.contracts.generate import GenerateRequest
from service.errors import ProblemError
from tests.service.stand_in import CONTEXT, EIFFEL, method_card, model_card, word_tokenizer


def count_words(text: str) -> int:
    return len(text.split())


def edit(**changes: Any) -> EditRequest:
    return EditRequest.model_validate({**EIFFEL, **changes})


def refusal(request: EditRequest, **card: Any) -> ProblemError:
    with pytest.raises(ProblemError) as raised:
        check_edit(request, model_card(**card), count_words)
    assert raised.value.problem.status == 422
    return raised.value


def test_an_edit_that_fits() -> None:
    check_edit(edit(hparams={"v_lr": 0.1, "layers": [5]}), model_card(), count_words)


def test_unknown_methods_are_told_the_known_ones() -> None:
    methods = (method_card(), method_card(name="memit"))
    problem = refusal(edit(method="mend"), methods=methods).problem
    assert problem.errors[0].field == "method"
    assert "it has: rome, memit" in problem.detail


@pytest.mark.parametrize(
    ("hparams", "fields"),
    [
        ({"v_lr": "fast"}, ["hparams.v_lr"]),
        ({"v_lr": 0}, ["hparams.v_lr"]),
        ({"layers": 5}, ["hparams.layers"]),
        ({"v_lr": None, "layers": 5}, ["hparams.layers", "hparams.v_lr"]),
        ({"learning_rate": 1, "steps": 2}, ["hparams.learning_rate", "hparams.steps"]),
    ],
)
def test_wrong_hyperparameters_are_named(hparams: dict[str, Any], fields: list[str]) -> None:
    problem = refusal(edit(hparams=hparams)).problem
    assert sorted(error.field for error in problem.errors) == fields
    for field in fields:
        assert field in problem.detail


def test_where_no_values_are_shipped_all_must_be_given() -> None:
    methods = (method_card(defaults=None),)
    problem = refusal(edit(), methods=methods).problem
    assert problem.type.endswith(":no-hparams")
    assert "hparams/rome/" in problem.detail
    check_edit(edit(hparams={"v_lr": 0.1}), model_card(methods=methods), count_words)
    assert refusal(edit(hparams={"layers": []}), methods=methods).problem.errors[0].field == "hparams"


def test_a_clients_own_text_is_not_repeated_at_length() -> None:
    problem = refusal(edit(hparams={"v_lr": "x" * 100_000, "y" * 100_000: 1})).problem
    assert len(problem.model_dump_json()) < 3000
    many = {f"name{number}": number for number in range(100)}
    assert len(refusal(edit(hparams=many)).problem.errors) == 20


@given(words=st.integers(1, 2 * CONTEXT), target=st.integers(1, 5), true=st.integers(0, 5))
@settings(database=None, deadline=None)
def test_an_edit_fits_exactly_up_to_the_context(words: int, target: int, true: int) -> None:
    request = edit(
        prompt=" ".join(["Rome"] * words),
        subject="Rome",
        target_new=" ".join(["new"] * target),
        target_true=" ".join(["old"] * true) or None,
    )
    longest = max(request.target_new, request.target_true or "", key=len)
    card = model_card()
    if words + len(longest.split()) + card.template_tokens <= CONTEXT:
        check_edit(request, card, count_words)
    else:
        assert refusal(request).problem.errors[0].field == "prompt"


@pytest.mark.parametrize("field", ["paraphrases", "neighborhood"])
def test_every_prompt_must_fit(field: str) -> None:
    request = edit(**{field: ["short", "word " * CONTEXT]})
    assert refusal(request).problem.errors[0].field == f"{field}[1]"


@given(words=st.integers(1, 2 * CONTEXT), new_tokens=st.integers(1, 512))
@settings(database=None, deadline=None)
def test_a_generation_fits_exactly_up_to_the_context(words: int, new_tokens: int) -> None:
    request = GenerateRequest(prompt=("short", "word " * words), max_new_tokens=new_tokens)
    if words + new_tokens <= CONTEXT:
        check_generation(request, model_card(), count_words)
    else:
        with pytest.raises(ProblemError) as raised:
            check_generation(request, model_card(), count_words)
        first_fits = 1 + new_tokens <= CONTEXT
        assert raised.value.problem.errors[0].field == ("prompt[1]" if first_fits else "prompt[0]")


def test_tokens_are_counted_by_the_tokenizer() -> None:
    tokenizer = Tokenizer.from_str(word_tokenizer())
    tokenizer.no_truncation()
    assert token_counter(tokenizer)("one, two: three") == 5
