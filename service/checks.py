"""What a worker's card lets anybody check of an edit without a model: method, hyperparameters, length."""

from collections.abc import Callable, Iterable
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from tokenizers import Tokenizer

from service.contracts.edits import EditRequest
from service.contracts.generate import GenerateRequest
from service.contracts.model import MethodCard, ModelCard
from service.contracts.problem import FieldError
from service.errors import ProblemError, invalid

CountTokens = Callable[[str], int]

MAX_ERRORS = 20
"""Wrong hyperparameters named in one problem."""

MAX_SHOWN = 200
"""Characters of a client's own text in one sentence."""


def token_counter(tokenizer: Tokenizer) -> CountTokens:
    """Counts the tokens of a text, special ones included."""
    return lambda text: len(tokenizer.encode(text))


def check_edit(request: EditRequest, card: ModelCard, count_tokens: CountTokens) -> None:
    """Raise a 422 problem that names the field if the resident model cannot take this edit."""
    method = next((method for method in card.methods if method.name == request.method), None)
    if method is None:
        names = ", ".join(method.name for method in card.methods)
        raise invalid("method", f"{request.method!r} is not a method of this worker; it has: {names}", "unknown-method")
    _check_hparams(request, method, card)
    for field, text in _texts(request):
        tokens = count_tokens(text) + (card.template_tokens if field == "prompt" else 0)
        _check_length(field, tokens, card)


def check_generation(request: GenerateRequest, card: ModelCard, count_tokens: CountTokens) -> None:
    """Raise a 422 problem if a prompt and its continuation do not fit into the model's context."""
    for index, prompt in enumerate(request.prompt):
        _check_length(f"prompt[{index}]", count_tokens(prompt) + request.max_new_tokens, card)


def _texts(request: EditRequest) -> Iterable[tuple[str, str]]:
    target = max(request.target_new, request.target_true or "", key=len)
    yield "prompt", f"{request.prompt} {target}"
    for name, prompts in (("paraphrases", request.paraphrases), ("neighborhood", request.neighborhood)):
        for index, prompt in enumerate(prompts):
            yield f"{name}[{index}]", f"{prompt} {target}"


def _check_length(field: str, tokens: int, card: ModelCard) -> None:
    if tokens > card.context_length:
        detail = (
            f"needs {tokens} tokens with what is added to it, and {card.name} takes {card.context_length}; shorten it"
        )
        raise invalid(field, detail, "too-long")


def _check_hparams(request: EditRequest, method: MethodCard, card: ModelCard) -> None:
    values = {**(method.defaults or {}), **request.hparams}
    found = Draft202012Validator(method.hparams_schema).iter_errors(values)
    errors = [field_error for error in found for field_error in _field_errors(error)][:MAX_ERRORS]
    if not errors:
        return
    if method.defaults is None and not request.hparams:
        raise invalid(
            "hparams",
            f"no hyperparameters are shipped for {method.name} on this model ({card.family}, {card.layers} layers, "
            f"hidden size {card.hidden_size}). Give them all in the request, or write hparams/{method.name}/"
            "<model>.yaml as the other files there and restart the worker",
            "no-hparams",
        )
    raise ProblemError(422, "invalid-hparams", "; ".join(f"{e.field}: {e.detail}" for e in errors), errors=errors)


def _field_errors(error: ValidationError) -> Iterable[FieldError]:
    path = "hparams" + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in error.absolute_path)
    if error.validator == "additionalProperties":
        instance: Any = error.instance
        schema: Any = error.schema
        for name in sorted(instance.keys() - schema.get("properties", {}).keys()):
            yield FieldError(
                field=f"{path}.{name}"[:MAX_SHOWN],
                detail="is not a hyperparameter of this method; GET /methods lists them",
            )
        return
    message = error.message if len(error.message) <= MAX_SHOWN else f"{error.message[:MAX_SHOWN]} …"
    yield FieldError(field=path[:MAX_SHOWN], detail=f"{message}; GET /methods shows the schema")
