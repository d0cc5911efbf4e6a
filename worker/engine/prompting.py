"""From what is asked to the rows that answer it: texts, tokens, weights, and what does not fit."""

from collections.abc import Sequence
from typing import Any

from jinja2 import TemplateError

from service.checks import CountTokens, check_generation, least_new_tokens, too_long
from service.contracts.generate import Message
from service.contracts.lane import DecodeRequest, LaneRequest, Started
from service.contracts.model import ModelCard
from service.errors import invalid, not_found
from worker.engine.asked import Asked, target_probabilities
from worker.engine.history import History
from worker.engine.row import Row, Wanted
from worker.models.loaded import LoadedModel
from worker.models.positions import Row as Target
from worker.models.positions import reply_row, target_row


def accept(
    request: LaneRequest, body: DecodeRequest, history: History, card: ModelCard, count_tokens: CountTokens
) -> Asked:
    """Take up a request; what it cannot have is a 404 or 422 problem.

    Raises CorruptStateError where an old revision cannot be rebuilt.
    """
    check_generation(body, card, count_tokens)
    loaded = history.resident.loaded
    texts = body.prompts or (_conversation(loaded, body.messages),)
    ids = [_tokens(loaded, text, special=not body.messages) for text in texts]
    targets = [[_target(loaded, body, text, target) for target in body.targets] for text in texts]
    for index, (tokens, following) in enumerate(zip(ids, targets, strict=True)):
        _check_length("messages" if body.messages else f"prompt[{index}]", body, card, tokens, following)
    revisions = tuple(_number(history, name) for name in body.revisions)
    weights = [history.weights_at(revision) for revision in revisions]
    rows = [
        Row(loaded, Wanted(tokens, revision, side, body.sampling, alternative), _room(body, card, tokens))
        for tokens in ids
        for alternative in range(body.sampling.n)
        for revision, side in zip(revisions, weights, strict=True)
    ]
    asked = Asked(request, body, Started(revisions=revisions, prompts=texts, prompt_tokens=tuple(map(len, ids))), rows)
    if body.targets:
        asked.steps = target_probabilities(loaded, history.resident.view, targets, weights)
    return asked


def _check_length(
    field: str, body: DecodeRequest, card: ModelCard, tokens: Sequence[int], targets: Sequence[Target]
) -> None:
    if not tokens:
        raise invalid(field, "has no tokens for this model; say something else", "no-tokens")
    needed = max(len(tokens) + least_new_tokens(body), *(len(target.ids) + 1 for target in targets), 0)
    if needed > card.context_length:
        raise too_long(field, needed, card)


def _room(body: DecodeRequest, card: ModelCard, tokens: Sequence[int]) -> int:
    """The most new tokens that the context has room for, as far as they are asked for."""
    return min(body.sampling.max_new_tokens, card.context_length - len(tokens))


def _conversation(loaded: LoadedModel, messages: Sequence[Message]) -> str:
    """The messages in the model's chat template, up to where the model is to speak."""
    turns: list[dict[str, Any]] = [message.model_dump() for message in messages]
    try:
        return str(loaded.tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
    except (TemplateError, ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        # a template is a program of the model's, and may fail as one
        raise invalid("messages", f"the model's chat template does not take them: {error}", "chat-template") from None


def _tokens(loaded: LoadedModel, text: str, *, special: bool) -> tuple[int, ...]:
    """A chat template has put the special tokens into the text already."""
    return tuple(loaded.tokenizer(text, add_special_tokens=special)["input_ids"])


def _target(loaded: LoadedModel, body: DecodeRequest, text: str, target: str) -> Target:
    return (reply_row if body.messages else target_row)(loaded.tokenizer, text, target)


def _number(history: History, name: str | int) -> int:
    head = history.resident.revision
    number = {"base": 0, "head": head}.get(name, name) if isinstance(name, str) else name
    if int(number) > head:
        raise not_found(f"revision r{number}", f"Revisions r0 to r{head} exist; GET /revisions lists them.")
    return int(number)
