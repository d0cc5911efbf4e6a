"""What a stand-in for the worker says, whole and piece by piece."""

import zlib
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from service.contracts.generate import Continuation, FinishReason
from service.contracts.lane import Decoded, DecodeRequest, Piece, Started


def decoded(body: DecodeRequest, resolve: Callable[[str | int], int]) -> Decoded:
    """Every continuation is " at " and the name of its revision; later alternatives add their number."""
    prompts = body.prompts or (" ".join(f"<{turn.role}> {turn.content}" for turn in body.messages),)
    rows = [(number, name) for _ in prompts for number in range(body.sampling.n) for name in body.revisions]
    return Decoded(
        started=Started(
            revisions=tuple(map(resolve, body.revisions)),
            prompts=prompts,
            prompt_tokens=tuple(len(prompt.split()) for prompt in prompts),
        ),
        continuations=tuple(
            continuation(resolve(name), " at", f" {name}", *([f" {number}"] if number else [])) for number, name in rows
        ),
        probabilities=(0.25,) * (len(prompts) * len(body.revisions) * len(body.targets)),
        seconds=0.01,
    )


def continuation(revision: int, *tokens: str, **changes: Any) -> Continuation:
    """What a row has said."""
    return Continuation(
        revision=revision,
        text="".join(tokens),
        tokens=tokens,
        token_ids=tuple(zlib.crc32(token.encode()) for token in tokens),
        logprobs=tuple(-0.5 - at for at in range(len(tokens))),
        finish_reason=FinishReason.LENGTH,
        seconds=0.01,
    ).model_copy(update=changes)


def pieces_of(continuations: Sequence[Continuation]) -> Iterable[tuple[Piece, ...]]:
    """The same step by step: in each all rows that still go on say one token."""
    for step in range(max(len(one.tokens) for one in continuations)):
        yield tuple(
            Piece(
                row=row,
                text=one.tokens[step],
                tokens=one.tokens[step : step + 1],
                token_ids=one.token_ids[step : step + 1],
                logprobs=one.logprobs[step : step + 1],
                finish_reason=one.finish_reason if step + 1 == len(one.tokens) else None,
            )
            for row, one in enumerate(continuations)
            if step < len(one.tokens)
        )
