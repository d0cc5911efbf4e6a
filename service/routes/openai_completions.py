"""Completions in OpenAI's shape: prompts continued by one revision."""

import secrets
from collections import Counter
from collections.abc import Iterator
from functools import partial
from typing import Any

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool

from service.contracts.generate import Continuation
from service.contracts.lane import Decoded, DecodeRequest, Piece
from service.contracts.openai import COMPLETION_TOKENS, CompletionRequest
from service.contracts.openai_answers import Completion, TextChoice, Usage
from service.problems import OPENAI_RESPONSES
from service.routes.generate import SEED_BITS
from service.routes.generating import WithCaller
from service.routes.openai_logprobs import text_logprobs
from service.routes.openai_models import revision_of
from service.routes.openai_speaking import answer, streams, used

router = APIRouter(tags=["openai"], responses=OPENAI_RESPONSES)


@router.post(
    "/v1/completions",
    response_model=Completion,
    responses=streams("text_completion"),
    summary="Complete (OpenAI)",
)
async def create_completion(body: CompletionRequest, caller: WithCaller) -> Any:
    """Continue every prompt with the weights that `model` names: `<name>` (the head), `<name>@base`, `<name>@r3`."""
    asked = DecodeRequest(
        prompts=body.prompt,
        revisions=(await run_in_threadpool(revision_of, body.model, caller.services),),
        sampling=body.sampling(body.max_tokens or COMPLETION_TOKENS, body.logprobs or 0, secrets.randbits(SEED_BITS)),
        stream=body.stream,
        priority=body.priority,
        client=caller.name,
    )
    names = {"max_new_tokens": "max_tokens"} | ({"prompt[0]": "prompt"} if len(body.prompt) == 1 else {})
    return await answer(caller, body, asked, names, partial(_Shape, body.logprobs is not None))


class _Shape:
    def __init__(self, with_logprobs: bool, fields: dict[str, Any]) -> None:
        self._with_logprobs = with_logprobs
        self._fields = fields | {"id": f"cmpl-{fields['id']}", "object": "text_completion"}
        self._offsets = Counter[int]()

    def whole(self, decoded: Decoded) -> Completion:
        choices = (self._choice(index, said) for index, said in enumerate(decoded.continuations))
        return Completion(**self._fields, choices=tuple(choices), usage=used(decoded))

    def opening(self, _: int) -> Iterator[Completion]:
        yield from ()

    def chunks(self, piece: Piece) -> Iterator[Completion]:
        yield Completion(**self._fields, choices=(self._choice(piece.row, piece),))
        self._offsets[piece.row] += sum(map(len, piece.tokens))

    def closing(self, usage: Usage) -> Completion:
        return Completion(**self._fields, choices=(), usage=usage)

    def _choice(self, index: int, said: Continuation | Piece) -> TextChoice:
        logprobs = text_logprobs(said, self._offsets[index]) if self._with_logprobs else None
        return TextChoice(index=index, text=said.text, logprobs=logprobs, finish_reason=said.finish_reason)
