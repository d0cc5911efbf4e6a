"""What a worker's card lets anybody check of a request without a model: method, hyperparameters, length."""

from collections.abc import Callable, Iterable
from itertools import islice
from typing import Any

from jsonschema import Draft202012Validator
from jsonschema.exceptions import ValidationError
from tokenizers import Tokenizer

from service.contracts.benchmarks import BenchmarkRequest, MethodChoice, Mode
from service.contracts.edits import AnyEditRequest, BatchRequest, Fact
from service.contracts.evaluations import EvaluationRequest
from service.contracts.lane import DecodeRequest
from service.contracts.model import Ceilings, MethodCard, ModelCard
from service.contracts.problem import FieldError
from service.contracts.records import Record
from service.contracts.scores import Drift
from service.contracts.traces import MOST_TOKENS, TraceRequest
from service.datasets.sources import HUB, SHIPPED
from service.errors import ProblemError, invalid

CountTokens = Callable[[str], int]

MAX_ERRORS = 20
"""Wrong hyperparameters, or texts too long, that are named in one problem."""

MOST_PREFIX = 1
"""Tokens for the space that some tokenizers put before a text."""

MAX_SHOWN = 200
"""Characters of a client's own text in one sentence."""


def token_counter(tokenizer: Tokenizer) -> CountTokens:
    """Counts the tokens of a text, special ones included."""
    return lambda text: len(tokenizer.encode(text))


def check_edit(request: AnyEditRequest, card: ModelCard, count_tokens: CountTokens) -> None:
    """Raise a 422 problem that names the field if the resident model cannot take this edit."""
    _check_method(request, card)
    facts = _numbered(request.facts) if isinstance(request, BatchRequest) else [("", request)]
    _check_length(_too_long(facts, card, count_tokens, card.template_tokens))


def check_evaluation(request: EvaluationRequest, card: ModelCard, count_tokens: CountTokens) -> None:
    """Raise a 422 problem that names the field if a prompt that is to be scored does not fit into the context."""
    if request.facts != "active":
        _check_length(_too_long(_numbered(request.facts), card, count_tokens))


def check_trace(request: TraceRequest, card: ModelCard, count_tokens: CountTokens) -> None:
    """Raise a 422 problem if a traced prompt with its answer is too long for the model, or for a trace."""
    tokens = count_tokens(f"{request.prompt} {request.target or ''}")
    if tokens > card.context_length:
        raise too_long("prompt", tokens, card)
    if tokens > MOST_TOKENS:
        detail = f"has {tokens} tokens with its answer, and a trace takes {MOST_TOKENS}; shorten it"
        raise invalid("prompt", detail, "too-long")


def check_benchmark(request: BenchmarkRequest, card: ModelCard) -> None:
    """Raise a 422 problem that names the field if there is no such data set or method, or with other hparams.

    So for what would have no effect. The contract cannot refuse that: benchmarks are stored that have it.
    """
    if request.mode is not Mode.SEQUENTIAL and "checkpoints" in request.model_fields_set:
        raise invalid("checkpoints", f"has no effect in mode {request.mode}; leave it out, or take mode sequential")
    known = (SHIPPED, *HUB)
    if not request.records and request.dataset not in known:
        detail = f"{request.dataset!r} is not a known data set; take one of {', '.join(known)}, or send records"
        raise invalid("dataset", f"{detail}, as palimpsest bench --dataset FILE does", "unknown-dataset")
    for index, choice in enumerate(request.methods):
        try:
            _check_method(choice, card)
        except ProblemError as error:
            problem = error.problem
            errors = [FieldError(field=f"methods[{index}].{one.field}", detail=one.detail) for one in problem.errors]
            detail = f"methods[{index}].{problem.detail}"
            renamed = problem.model_copy(update={"errors": tuple(errors), "detail": detail})
            raise ProblemError.of(renamed) from None


def unfit(record: Record, card: ModelCard, count_tokens: CountTokens) -> str | None:
    """Which text of a record does not fit into the model's context; None if it can be edited and scored."""
    found = list(_too_long(_numbered(record.facts), card, count_tokens, card.template_tokens))
    beside = [(f"multi_hop[{at}]", f"{hop.prompt} {hop.answer}") for at, hop in enumerate(record.multi_hop)]
    beside += [(f"generation_prompts[{at}]", prompt) for at, prompt in enumerate(record.generation_prompts)]
    for field, text in beside:
        if (tokens := count_tokens(text)) > card.context_length:
            found.append(FieldError(field=field, detail=_shorten(tokens, card)))
    return f"{found[0].field}: {found[0].detail}" if found else None


def check_drift(drift: Drift | None, ceilings: Ceilings) -> None:
    """Raise a 409 problem if the head has drifted so far from the base that no further edit is allowed."""
    if drift is None:
        return
    found = {
        "perplexity_ratio": (drift.perplexity_ratio, ceilings.perplexity_ratio),
        "kl": (drift.kl, ceilings.kl),
        "norm": (max(drift.norms.values(), default=0.0), ceilings.norm),
    }
    over = [
        f"{name} is {value:.3g}, allowed is {most:g}" for name, (value, most) in found.items() if most and value > most
    ]
    if over:
        raise ProblemError(
            409,
            "drift-ceiling",
            f"The head has drifted too far from the base to be edited further: {'; '.join(over)}. "
            "Revert edits or roll back, or let the operator raise the worker's PALIMPSEST_MAX_... settings.",
        )


def check_generation(request: DecodeRequest, card: ModelCard, count_tokens: CountTokens) -> None:
    """Raise a 422 problem if a prompt, with its continuation or with a target, does not fit into the model's context.

    A conversation's tokens only the worker can count; it raises `too_long` itself.
    """
    if request.messages and not card.chat:
        raise invalid("messages", f"{card.name} has no chat template; send a prompt", "no-chat-template")
    least = least_new_tokens(request)
    for index, prompt in enumerate(request.prompts):
        asked = (count_tokens(f"{prompt} {target}") for target in request.targets)
        tokens = max((count_tokens(prompt) + least, *asked))
        if tokens > card.context_length:
            raise too_long(f"prompt[{index}]", tokens, card)


def least_new_tokens(request: DecodeRequest) -> int:
    """Tokens that a prompt must leave room for."""
    return 1 if request.fill_context else request.sampling.max_new_tokens


def too_long(field: str, tokens: int, card: ModelCard) -> ProblemError:
    """422: so many tokens, with what is added to the field, do not fit into the model's context."""
    return invalid(field, _shorten(tokens, card), "too-long")


def nothing_active(where: str) -> ProblemError:
    """422: the active edits are to be scored where there are none."""
    return invalid("facts", f"no edit is in force at {where}, so give the facts to score", "nothing-active")


def _check_length(found: Iterable[FieldError]) -> None:
    errors = list(islice(found, MAX_ERRORS))
    if errors:
        raise ProblemError(422, "too-long", "; ".join(f"{e.field}: {e.detail}" for e in errors), errors=errors)


def _too_long(
    facts: Iterable[tuple[str, Fact]], card: ModelCard, count_tokens: CountTokens, template_tokens: int = 0
) -> Iterable[FieldError]:
    """template_tokens: what is put before a fact's own prompt."""
    added = count_tokens("") + MOST_PREFIX
    for fact_field, fact in facts:
        for field, prompt, targets in _prompts(fact):
            template = template_tokens if field == "prompt" else 0
            if _most_tokens(prompt) + 1 + max(map(_most_tokens, targets)) + added + template <= card.context_length:
                continue
            tokens = max(count_tokens(f"{prompt} {target}") for target in targets) + template
            if tokens > card.context_length:
                yield FieldError(field=fact_field + field, detail=_shorten(tokens, card))


def _numbered(facts: Iterable[Fact]) -> Iterable[tuple[str, Fact]]:
    return ((f"facts[{index}].", fact) for index, fact in enumerate(facts))


def _prompts(fact: Fact) -> Iterable[tuple[str, str, set[str]]]:
    """Each field with a prompt, and what is put behind it."""
    targets = {fact.target_new, fact.target_true or fact.target_new}
    yield "prompt", fact.prompt, targets
    for name, prompts in (("paraphrases", fact.paraphrases), ("neighborhood", fact.neighborhood)):
        for index, prompt in enumerate(prompts):
            yield f"{name}[{index}]", prompt, targets
    for name, groups in (("locality", fact.locality), ("portability", fact.portability)):
        for group, questions in groups.items():
            for index, question in enumerate(questions):
                yield f"{name}.{group}[{index}]", question.prompt, {question.answer}


def _most_tokens(text: str) -> int:
    """No tokenizer makes more: a token is a byte at least, and composing (NFC) at most triples the bytes."""
    return len(text) if text.isascii() else 3 * len(text.encode())


def _shorten(tokens: int, card: ModelCard) -> str:
    return f"needs {tokens} tokens with what is added to it, and {card.name} takes {card.context_length}; shorten it"


def _check_method(request: AnyEditRequest | MethodChoice, card: ModelCard) -> None:
    method = next((method for method in card.methods if method.name == request.method), None)
    if method is None:
        names = ", ".join(method.name for method in card.methods)
        raise invalid("method", f"{request.method!r} is not a method of this worker; it has: {names}", "unknown-method")
    _check_hparams(request, method, card)


def _check_hparams(request: AnyEditRequest | MethodChoice, method: MethodCard, card: ModelCard) -> None:
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
