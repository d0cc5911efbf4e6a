"""Generation: before and after, side by side, whole or as it comes."""

import secrets
from collections.abc import AsyncIterator
from typing import Annotated, Any

from fastapi import APIRouter, Query
from fastapi.sse import KEEPALIVE_COMMENT, EventSourceResponse, format_sse_event
from pydantic import BaseModel

from service.comparing import compare, label
from service.contracts.generate import GenerateAnswer, GenerateQuery, GenerateRequest, Message, Sampling
from service.contracts.lane import DecodeRequest
from service.exchange import Exchange
from service.middleware import REVISION
from service.problems import HANDLED, problem_of
from service.routes.generating import WithCaller, admit, event_stream

router = APIRouter(tags=["generation"])

SEED_BITS = 53
"""Of a seed that is drawn: every JSON reader keeps so many."""

_EVENTS: dict[int | str, dict[str, Any]] = {
    200: {
        "description": "The comparisons; or, with `stream`, events: `piece` (GeneratedPiece) as they come from both "
        "sides, and last `done` (GenerateAnswer) or `problem` (Problem).",
        "content": {
            "text/event-stream": {
                "itemSchema": {
                    "type": "object",
                    "properties": {
                        "event": {"enum": ["piece", "done", "problem"]},
                        "data": {"type": "string", "contentMediaType": "application/json"},
                    },
                    "required": ["event", "data"],
                }
            }
        },
    }
}


@router.get("/generate", response_model=GenerateAnswer, responses=_EVENTS, summary="Compare two revisions")
async def generate(
    query: Annotated[GenerateQuery, Query()], caller: WithCaller
) -> GenerateAnswer | EventSourceResponse:
    """Continue every `prompt` (repeat it for more) with the weights of `before` and of `after`."""
    return await _generate(query, (), caller)


@router.post("/generate", response_model=GenerateAnswer, responses=_EVENTS, summary="Compare two revisions (JSON)")
async def generate_json(body: GenerateRequest, caller: WithCaller) -> GenerateAnswer | EventSourceResponse:
    """The same as `GET /generate`, for prompts that do not fit into a URL, and for conversations (`messages`)."""
    return await _generate(body, body.messages, caller)


async def _generate(
    wanted: GenerateQuery, messages: tuple[Message, ...], caller: WithCaller
) -> GenerateAnswer | EventSourceResponse:
    seed = secrets.randbits(SEED_BITS) if wanted.seed is None else wanted.seed
    body = _asked(wanted, messages, seed, caller.name)
    await admit(body, caller.services, wanted.min_revision)
    lane, model = caller.services.lane, caller.services.keys.model
    if wanted.stream:
        exchange = await caller.until_answered.enter_async_context(lane.stream(body, wanted.timeout, caller.gone))
        return event_stream(_events(exchange, wanted, seed, caller), exchange.started.revisions[-1])
    answer = compare(await lane.decode(body, wanted.timeout, caller.gone), wanted, seed, model)
    caller.response.headers[REVISION] = str(answer.revision)
    return answer


def _asked(wanted: GenerateQuery, messages: tuple[Message, ...], seed: int, client: str) -> DecodeRequest:
    sampling = {name: getattr(wanted, name) for name in Sampling.model_fields}
    return DecodeRequest(
        prompts=wanted.prompt,
        messages=messages,
        revisions=(wanted.before, wanted.after),
        sampling=Sampling.model_validate({**sampling, "seed": seed}),
        targets=tuple(target for target in (wanted.target_new, wanted.target_true) if target is not None),
        stream=wanted.stream,
        priority=wanted.priority,
        client=client,
    )


async def _events(exchange: Exchange, wanted: GenerateQuery, seed: int, caller: WithCaller) -> AsyncIterator[bytes]:
    try:
        async for pieces in exchange:
            for piece in pieces:
                yield _event("piece", label(piece, exchange.started, wanted.n))
            if not pieces:
                yield KEEPALIVE_COMMENT
    except HANDLED as error:
        yield _event("problem", problem_of(error).told(caller.request.state.request_id))
    else:
        yield _event("done", compare(exchange.decoded, wanted, seed, caller.services.keys.model))


def _event(name: str, data: BaseModel) -> bytes:
    return format_sse_event(event=name, data_str=data.model_dump_json())
