"""What completions and chat completions share: a worker is asked, and answers whole or as a stream of chunks."""

import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from fastapi import Response
from fastapi.sse import KEEPALIVE_COMMENT, format_sse_event
from pydantic import BaseModel

from service.contracts.lane import Decoded, DecodeRequest, Piece
from service.contracts.openai import GenerationArguments
from service.contracts.openai_answers import Usage
from service.contracts.problem import FieldError
from service.errors import ProblemError
from service.exchange import Exchange
from service.middleware import REVISION
from service.problems import HANDLED, openai_error, problem_of
from service.routes.generating import Caller, admit, event_stream


class Shape(Protocol):
    """One kind of answer, in the making. What is not set of a chunk is not sent."""

    def whole(self, decoded: Decoded) -> BaseModel:
        """The answer in one piece."""

    def opening(self, rows: int, /) -> Iterator[BaseModel]:
        """The chunks before the first piece of so many continuations."""

    def chunks(self, piece: Piece) -> Iterator[BaseModel]:
        """The chunks for a piece."""

    def closing(self, usage: Usage) -> BaseModel:
        """The chunk that tells the tokens used."""


async def answer(
    caller: Caller,
    body: GenerationArguments,
    asked: DecodeRequest,
    names: Mapping[str, str],
    make: Callable[[dict[str, Any]], Shape],
) -> BaseModel | Response:
    """What the client gets.

    names: the arguments of `POST /generate` that are called otherwise here.
    make: a shape, from the fields that each of its objects begins with.
    Raises every problem that is known before the first piece.
    """
    lane = caller.services.lane
    with _renamed(names):
        await admit(asked, caller.services)
        if not body.stream:
            decoded = await lane.decode(asked, None, caller.gone)
            revision = decoded.started.revisions[0]
            caller.response.headers[REVISION] = str(revision)
            return make(_fields(body.model, revision)).whole(decoded)
        exchange = await caller.until_answered.enter_async_context(lane.stream(asked, None, caller.gone))
    revision = exchange.started.revisions[0]
    shape = make(_fields(body.model, revision))
    return event_stream(_events(exchange, shape, body), revision)


def used(decoded: Decoded) -> Usage:
    """The tokens of each prompt once, and of all continuations."""
    prompts = sum(decoded.started.prompt_tokens)
    new = sum(len(continuation.token_ids) for continuation in decoded.continuations)
    return Usage(prompt_tokens=prompts, completion_tokens=new, total_tokens=prompts + new)


def streams(chunk: str) -> dict[int | str, dict[str, Any]]:
    """For the documentation: the answer may also be a stream of such objects."""
    data = {"type": "string", "contentMediaType": "application/json"}
    item = {"type": "object", "properties": {"data": data}, "required": ["data"]}
    return {
        200: {
            "description": f"The answer; or, with `stream`, events whose data is a `{chunk}` as OpenAI's, "
            'or `{"error": ...}`, and last `[DONE]`.',
            "content": {"text/event-stream": {"itemSchema": item}},
        }
    }


def _fields(model: str, revision: int) -> dict[str, Any]:
    return {
        "id": secrets.token_hex(12),
        "created": int(time.time()),
        "model": model,
        "system_fingerprint": f"r{revision}",
    }


async def _events(exchange: Exchange, shape: Shape, body: GenerationArguments) -> AsyncIterator[bytes]:
    no_usage = {"usage": None} if body.include_usage else {}
    try:
        for chunk in shape.opening(len(exchange.started.prompts) * body.n):
            yield _event(chunk.model_copy(update=no_usage))
        async for pieces in exchange:
            for piece in pieces:
                for chunk in shape.chunks(piece):
                    yield _event(chunk.model_copy(update=no_usage))
            if not pieces:
                yield KEEPALIVE_COMMENT
    except HANDLED as error:
        yield _event(openai_error(problem_of(error).problem))
    else:
        if body.include_usage:
            yield _event(shape.closing(used(exchange.decoded)))
        yield format_sse_event(data_str="[DONE]")


def _event(value: BaseModel) -> bytes:
    return format_sse_event(data_str=value.model_dump_json(exclude_unset=True))


@contextmanager
def _renamed(names: Mapping[str, str]) -> Iterator[None]:
    """Problems name the arguments as the client knows them."""
    try:
        yield
    except ProblemError as error:
        old = error.problem
        if not any(field.field in names for field in old.errors):
            raise
        fields = tuple(FieldError(field=names.get(f.field, f.field), detail=f.detail) for f in old.errors)
        detail = "; ".join(f"{field.field}: {field.detail}" for field in fields)
        raise ProblemError.of(old.model_copy(update={"errors": fields, "detail": detail})) from None
