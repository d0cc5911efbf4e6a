"""Chat completions in OpenAI's shape: a conversation continued by one revision."""

import secrets
from collections.abc import Iterator
from functools import partial
from typing import Any

from fastapi import APIRouter
from fastapi.concurrency import run_in_threadpool

from service.contracts.generate import MAX_NEW_TOKENS, Continuation, FinishReason
from service.contracts.lane import Decoded, DecodeRequest, Piece
from service.contracts.openai import ChatRequest
from service.contracts.openai_answers import (
    ChatAnswer,
    ChatChoice,
    ChatChunk,
    ChatChunkChoice,
    ChatCompletion,
    ChatDelta,
    ChatLogprobs,
    Usage,
)
from service.problems import OPENAI_RESPONSES
from service.routes.generate import SEED_BITS
from service.routes.generating import WithCaller
from service.routes.openai_logprobs import chat_logprobs
from service.routes.openai_models import revision_of
from service.routes.openai_speaking import answer, streams, used

router = APIRouter(tags=["openai"], responses=OPENAI_RESPONSES)


@router.post(
    "/v1/chat/completions",
    response_model=ChatCompletion,
    responses=streams("chat.completion.chunk"),
    summary="Continue a conversation (OpenAI)",
)
async def create_chat_completion(body: ChatRequest, caller: WithCaller) -> Any:
    """Answer a conversation with the weights that `model` names: `<name>` (the head), `<name>@base`, `<name>@r3`."""
    given = body.max_completion_tokens or body.max_tokens
    most = max(1, min(MAX_NEW_TOKENS, caller.services.settings.max_request_tokens // body.n))
    asked = DecodeRequest(
        messages=tuple(message.plain() for message in body.messages),
        revisions=(await run_in_threadpool(revision_of, body.model, caller.services),),
        sampling=body.sampling(given or most, body.top_logprobs or 0, secrets.randbits(SEED_BITS)),
        fill_context=given is None,
        stream=body.stream,
        priority=body.priority,
        client=caller.name,
    )
    bound = "max_tokens" if body.max_tokens else "max_completion_tokens"
    return await answer(caller, body, asked, {"max_new_tokens": bound}, partial(_Shape, body.logprobs))


class _Shape:
    def __init__(self, with_logprobs: bool, fields: dict[str, Any]) -> None:
        self._with_logprobs = with_logprobs
        self._fields = fields | {"id": f"chatcmpl-{fields['id']}"}

    def whole(self, decoded: Decoded) -> ChatCompletion:
        choices = (
            ChatChoice(
                index=index,
                message=ChatAnswer(role="assistant", content=said.text, refusal=None),
                logprobs=self._logprobs(said),
                finish_reason=said.finish_reason,
            )
            for index, said in enumerate(decoded.continuations)
        )
        return ChatCompletion(**self._fields, object="chat.completion", choices=tuple(choices), usage=used(decoded))

    def opening(self, rows: int) -> Iterator[ChatChunk]:
        for row in range(rows):
            yield self._chunk(row, ChatDelta(role="assistant", content=""))

    def chunks(self, piece: Piece) -> Iterator[ChatChunk]:
        if piece.text or piece.tokens:
            yield self._chunk(piece.row, ChatDelta(content=piece.text), self._logprobs(piece))
        if piece.finish_reason is not None:
            yield self._chunk(piece.row, ChatDelta(), finish_reason=piece.finish_reason)

    def closing(self, usage: Usage) -> ChatChunk:
        return ChatChunk(**self._fields, object="chat.completion.chunk", choices=(), usage=usage)

    def _chunk(
        self,
        row: int,
        delta: ChatDelta,
        logprobs: ChatLogprobs | None = None,
        finish_reason: FinishReason | None = None,
    ) -> ChatChunk:
        choice = ChatChunkChoice(index=row, delta=delta, logprobs=logprobs, finish_reason=finish_reason)
        return ChatChunk(**self._fields, object="chat.completion.chunk", choices=(choice,))

    def _logprobs(self, said: Continuation | Piece) -> ChatLogprobs | None:
        return chat_logprobs(said) if self._with_logprobs else None
