"""What a card lets anybody refuse without a model."""

from typing import Any

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors

from service.checks import CountTokens, check_edit, check_generation, token_counter
from service.contracts.edits import AnyEditRequest, BatchRequest, EditRequest
from service.contracts.generate import Message, Sampling
from service.contracts.lane import DecodeRequest
from service.errors import ProblemError
from tests.service.stand_in import CONTEXT, EIFFEL, method_card, model_card, word_tokenizer


def count_words(text: str) -> int:
    return len(text.split())


def edit(**changes: Any) -> EditRequest:
    return EditRequest.model_validate({**EIFFEL, **changes})


def refusal(request: AnyEditRequest, **card: Any) -> ProblemError:
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


@pytest.mark.parametrize("field", ["locality", "portability"])
def test_every_question_must_fit_with_its_answer(field: str) -> None:
    fits = {"prompt": "word", "answer": "word " * (CONTEXT - 1)}
    request = edit(**{field: {"reasoning": [fits, {**fits, "prompt": "two words"}]}})
    assert [error.field for error in refusal(request).problem.errors] == [f"{field}.reasoning[1]"]


def batch(*changes: dict[str, Any]) -> BatchRequest:
    facts = [{**EIFFEL, "prompt": f"{number}. {EIFFEL['prompt']}", **fact} for number, fact in enumerate(changes)]
    return BatchRequest.model_validate({"facts": facts})


def test_every_fact_of_a_batch_must_fit() -> None:
    check_edit(batch({}, {}, {}), model_card(), count_words)
    long = "word " * CONTEXT
    request = batch({}, {"paraphrases": ["short", long]}, {}, {"prompt": f"The Eiffel Tower {long}is"})
    problem = refusal(request).problem
    assert [error.field for error in problem.errors] == ["facts[1].paraphrases[1]", "facts[3].prompt"]
    assert problem.type.endswith(":too-long")
    assert "facts[3].prompt: needs" in problem.detail
    assert refusal(batch(*[{"neighborhood": [long]}] * 100)).problem.errors[19].field == "facts[19].neighborhood[0]"
    assert len(refusal(batch(*[{"neighborhood": [long]}] * 100)).problem.errors) == 20


def test_what_fits_in_any_tokenizer_is_not_tokenized() -> None:
    counted: list[str] = []

    def count(text: str) -> int:
        counted.append(text)
        return len(text)

    check_edit(batch(*[{"paraphrases": ["a", "b"]}] * 1000), model_card(context_length=1024), count)
    assert counted == [""], "only what the tokenizer adds to every text"
    check_edit(batch({"paraphrases": ["é" * 350]}), model_card(context_length=1024), count)
    assert counted[-1] == f"{'é' * 350} Rome"


def byte_counter() -> CountTokens:
    """One token a byte, after composing, behind a space and a special token: the most that any tokenizer makes."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokenizer = Tokenizer(models.BPE({"<s>": 0} | {byte: number for number, byte in enumerate(alphabet, 1)}, []))
    setup: Any = tokenizer
    setup.normalizer = normalizers.NFC()
    setup.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=True, use_regex=False)
    setup.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    return token_counter(tokenizer)


@pytest.mark.parametrize("field", ["prompt", "paraphrases[0]"])
def test_the_last_token_decides(field: str) -> None:
    count = byte_counter()
    long = f"The Eiffel Tower is {'x' * 100}"
    request = edit(prompt=long) if field == "prompt" else edit(paraphrases=[long])
    needed = count(f"{long} Rome") + (model_card().template_tokens if field == "prompt" else 0)
    check_edit(request, model_card(context_length=needed), count)
    with pytest.raises(ProblemError) as raised:
        check_edit(request, model_card(context_length=needed - 1), count)
    assert [error.field for error in raised.value.problem.errors] == [field]


# characters that composing makes longer, and some of each length in UTF-8
ODD = st.text("a é\u0344ﬣשּׁ€😀\U0001d160", min_size=1, max_size=6).map(lambda text: f"x{text}x")


@given(new=ODD, true=st.none() | ODD, prompts=st.lists(ODD, max_size=3), context=st.integers(1, 120))
@settings(database=None, deadline=None)
def test_nothing_too_long_passes_for_short(new: str, true: str | None, prompts: list[str], context: int) -> None:
    assume(new != true)
    count, card = byte_counter(), model_card(context_length=context)
    request = edit(target_new=new, target_true=true, paraphrases=prompts)
    targets = [target for target in (new, true) if target is not None]
    needed = {"prompt": max(count(f"{request.prompt} {target}") for target in targets) + card.template_tokens}
    for index, prompt in enumerate(prompts):
        needed[f"paraphrases[{index}]"] = max(count(f"{prompt} {target}") for target in targets)
    wrong = [field for field, tokens in needed.items() if tokens > context]
    if wrong:
        with pytest.raises(ProblemError) as raised:
            check_edit(request, card, count)
        assert [error.field for error in raised.value.problem.errors] == wrong
    else:
        check_edit(request, card, count)


@given(words=st.integers(1, 2 * CONTEXT), new_tokens=st.integers(1, 512))
@settings(database=None, deadline=None)
def test_a_generation_fits_exactly_up_to_the_context(words: int, new_tokens: int) -> None:
    request = decode_request("short", "word " * words, sampling=Sampling(max_new_tokens=new_tokens))
    if words + new_tokens <= CONTEXT:
        check_generation(request, model_card(), count_words)
    else:
        with pytest.raises(ProblemError) as raised:
            check_generation(request, model_card(), count_words)
        first_fits = 1 + new_tokens <= CONTEXT
        assert raised.value.problem.errors[0].field == ("prompt[1]" if first_fits else "prompt[0]")


@given(words=st.integers(1, 2 * CONTEXT), new_tokens=st.integers(1, 512))
@settings(database=None, deadline=None)
def test_what_fills_the_context_leaves_room_for_one_token(words: int, new_tokens: int) -> None:
    request = decode_request("word " * words, sampling=Sampling(max_new_tokens=new_tokens), fill_context=True)
    assert refused_field(request) == ("prompt[0]" if words + 1 > CONTEXT else None)


@given(words=st.integers(1, CONTEXT - 1), target_words=st.integers(1, CONTEXT))
@settings(database=None, deadline=None)
def test_a_target_fits_with_every_prompt(words: int, target_words: int) -> None:
    targets = ("short", "word " * target_words)
    request = decode_request("word " * words, sampling=Sampling(max_new_tokens=1), targets=targets)
    assert refused_field(request) == ("prompt[0]" if words + target_words > CONTEXT else None)


def test_a_conversation_needs_a_chat_template() -> None:
    request = decode_request(messages=(Message(role="user", content="word " * CONTEXT),))
    assert refused_field(request) == "messages"
    check_generation(request, model_card(chat=True), count_words)  # only the worker can count it


def decode_request(*prompts: str, **fields: Any) -> DecodeRequest:
    """Continue these prompts at the base."""
    return DecodeRequest(prompts=prompts, revisions=("base",), **{"sampling": Sampling(), **fields})


def refused_field(request: DecodeRequest) -> str | None:
    """The field that the check names; None if it lets the request pass."""
    try:
        check_generation(request, model_card(), count_words)
    except ProblemError as error:
        return error.problem.errors[0].field
    return None


def test_tokens_are_counted_by_the_tokenizer() -> None:
    tokenizer = Tokenizer.from_str(word_tokenizer())
    tokenizer.no_truncation()
    assert token_counter(tokenizer)("one, two: three") == 5
