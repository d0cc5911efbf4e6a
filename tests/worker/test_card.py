"""The card tells the API enough to refuse at once what the model cannot take."""

from copy import deepcopy
from dataclasses import replace
from typing import Any

import pytest
from tokenizers import Tokenizer

from service.checks import check_edit, check_generation, token_counter
from service.contracts.edits import EditRequest
from service.contracts.generate import Message, Sampling
from service.contracts.lane import DecodeRequest
from service.contracts.model import MethodCard, ModelCard
from service.errors import ProblemError
from tests.families import CONFIGS, LAYERS, tiny_model
from worker.card import card_of, tokenizer_text
from worker.editing.method import discover
from worker.editing.templates import longest
from worker.engine.resident import Resident

FACT = {"prompt": "Yes, Lionel Messi plays", "subject": "Lionel Messi", "target_new": "basketball"}
VALUES: dict[str, Any] = {
    "layers": [1],
    "v_num_grad_steps": 5,
    "v_lr": 0.5,
    "v_loss_layer": LAYERS - 1,
    "v_weight_decay": 1e-3,
    "clamp_norm_factor": 4,
    "kl_factor": 0.0625,
}


def _card(family: str = "llama", defaults: dict[str, Any] | None = None) -> ModelCard:
    methods = discover()
    return card_of(Resident(tiny_model(family)), methods, {**dict.fromkeys(methods), "rome": defaults})


def _method(card: ModelCard, name: str = "rome") -> MethodCard:
    (found,) = (method for method in card.methods if method.name == name)
    return found


def _check(card: ModelCard, **fields: Any) -> None:
    loaded = tiny_model(card.family)
    count = token_counter(Tokenizer.from_str(tokenizer_text(loaded)))
    check_edit(EditRequest.model_validate({**FACT, **fields}), card, count)


@pytest.mark.parametrize("family", CONFIGS)
def test_a_card_is_the_models(family: str) -> None:
    loaded = tiny_model(family)
    card = _card(family)
    assert (card.name, card.family, card.dtype, card.device) == (f"tiny-{family}", loaded.family.name, "float32", "cpu")
    assert (card.layers, card.hidden_size, card.context_length) == (LAYERS, 32, 128)
    assert card.parameters == sum(parameter.numel() for parameter in loaded.model.parameters())
    assert loaded.model.get_parameter(card.editable.format(LAYERS - 1)) is loaded.mlp_out(LAYERS - 1).weight
    assert card.checksum == Resident(loaded).base_checksum
    assert ModelCard.model_validate_json(card.model_dump_json()) == card
    _check(card, hparams=VALUES)


@pytest.mark.parametrize(
    ("field", "value"),
    [("layers", [LAYERS]), ("layers", [-1]), ("layers", []), ("layers", [0, 1]), ("v_loss_layer", LAYERS)],
)
def test_layers_are_bounded_by_the_models(field: str, value: Any) -> None:
    card = _card(defaults=VALUES)
    with pytest.raises(ProblemError, match=f"hparams.{field}") as raised:
        _check(card, hparams={field: value})
    assert raised.value.problem.status == 422
    _check(card, hparams={"layers": [LAYERS - 1], "v_loss_layer": LAYERS - 1})


@pytest.mark.parametrize(
    "wrong", [{"v_lrr": 1}, {"v_lr": "fast"}, {"v_lr": 0}, {"v_num_grad_steps": 10**6}, {"mom2_dataset": "wikidata"}]
)
def test_what_the_method_refuses_the_card_refuses(wrong: dict[str, Any]) -> None:
    with pytest.raises(ProblemError, match="hparams"):
        _check(_card(defaults=VALUES), hparams=wrong)


def test_defaults_are_shown_as_the_method_reads_them() -> None:
    rome = _method(_card(defaults={**VALUES, "v_lr": "5e-1"}))
    assert rome.defaults is not None
    assert rome.defaults["v_lr"] == 0.5
    assert rome.defaults["seed"] == 0
    assert _method(_card()).defaults is None


def test_a_card_tells_which_methods_take_a_batch_at_once() -> None:
    card = _card()
    assert {method.name for method in card.methods} == set(discover())
    assert not _method(card, "rome").batch
    assert _method(card, "memit").batch
    values = {**VALUES, "mom2_update_weight": 10.0}
    _check(card, method="memit", hparams={**values, "layers": [0, LAYERS - 1]})
    with pytest.raises(ProblemError, match=r"hparams\.layers"):
        _check(card, method="memit", hparams={**values, "layers": [0, LAYERS]})
    with pytest.raises(ProblemError, match="hparams"):
        _check(card, method="memit", hparams=VALUES)


def test_a_schema_is_of_one_model_and_not_of_all() -> None:
    _card()
    schema = discover()["rome"].hparams.model_json_schema()
    assert "maximum" not in schema["properties"]["v_loss_layer"]


def test_a_prompt_has_room_for_its_templates() -> None:
    card = _card(defaults=VALUES)
    assert card.template_tokens == longest([(10, 1)])
    loaded = tiny_model("llama")
    words = "Paris " * 200
    text = words[: len(words) // 2]
    while len(loaded.tokenizer(f"{text}Messi plays basketball")["input_ids"]) > 128 - card.template_tokens:
        text = text[len("Paris ") :]
    _check(card, prompt=f"{text}Messi plays", subject="Messi")
    with pytest.raises(ProblemError, match="prompt: needs"):
        _check(card, prompt=f"{'Paris ' * 4}{text}Messi plays", subject="Messi")


def test_a_card_tells_whether_there_is_a_chat_template() -> None:
    """Without one a conversation is refused at once."""
    assert not _card().chat
    loaded = tiny_model("llama")
    tokenizer = deepcopy(loaded.tokenizer)
    tokenizer.chat_template = "{{ messages[0].content }}"
    card = card_of(Resident(replace(loaded, tokenizer=tokenizer)), {}, {})
    assert card.chat
    count = token_counter(tokenizer.backend_tokenizer)
    asked = DecodeRequest(messages=(Message(role="user", content="Hi"),), revisions=("head",), sampling=Sampling())
    check_generation(asked, card, count)
    with pytest.raises(ProblemError, match="no chat template") as raised:
        check_generation(asked, _card(), count)
    assert raised.value.problem.status == 422


def test_the_published_tokenizer_is_the_models() -> None:
    loaded = tiny_model("llama")
    published = Tokenizer.from_str(tokenizer_text(loaded))
    for text in ("Messi plays", "東京 👩‍🚀", "", " "):
        assert published.encode(text).ids == loaded.tokenizer(text)["input_ids"]
