"""Puts side by side what a worker says row by row: before and after of every prompt."""

from collections.abc import Sequence
from itertools import product

from service.contracts.generate import (
    Comparison,
    Continuation,
    GenerateAnswer,
    GeneratedPiece,
    GenerateQuery,
    Probabilities,
    Side,
)
from service.contracts.lane import Decoded, Piece, Started

SIDES = (Side.BEFORE, Side.AFTER)
"""In the order of DecodeRequest.revisions."""


def compare(decoded: Decoded, wanted: GenerateQuery, seed: int, model: str) -> GenerateAnswer:
    """The answer to a request that was decoded with the revisions (before, after) and the targets (new, true)."""
    return GenerateAnswer(
        revision=decoded.started.revisions[-1],
        model=model,
        seed=seed,
        results=tuple(
            _comparison(decoded, wanted, prompt, alternative)
            for prompt, alternative in product(range(len(decoded.started.prompts)), range(wanted.n))
        ),
        seconds=decoded.seconds,
    )


def label(piece: Piece, started: Started, alternatives: int) -> GeneratedPiece:
    """A row's piece, with the prompt, alternative and side that the row is."""
    place, side = divmod(piece.row, len(SIDES))
    prompt, alternative = divmod(place, alternatives)
    return GeneratedPiece(
        prompt=prompt,
        alternative=alternative,
        side=SIDES[side],
        revision=started.revisions[side],
        text=piece.text,
        tokens=piece.tokens,
        token_ids=piece.token_ids,
        logprobs=piece.logprobs,
        top_logprobs=piece.top_logprobs,
        finish_reason=piece.finish_reason,
    )


def parts_at(before: Continuation, after: Continuation) -> int | None:
    """The first token where two continuations differ; one that ends differs from one that goes on."""
    pairs = zip(before.token_ids, after.token_ids, strict=False)
    lengths = len(before.token_ids), len(after.token_ids)
    found = next((at for at, (one, other) in enumerate(pairs) if one != other), min(lengths))
    return found if found < max(lengths) else None


def _comparison(decoded: Decoded, wanted: GenerateQuery, prompt: int, alternative: int) -> Comparison:
    row = len(SIDES) * (prompt * wanted.n + alternative)
    before, after = decoded.continuations[row : row + len(SIDES)]
    return Comparison(
        prompt=decoded.started.prompts[prompt],
        alternative=alternative,
        before=before,
        after=after,
        parts_at=parts_at(before, after),
        **_probabilities(decoded.probabilities, wanted, prompt),
    )


def _probabilities(values: Sequence[float], wanted: GenerateQuery, prompt: int) -> dict[str, Probabilities]:
    given = {"target_new": wanted.target_new, "target_true": wanted.target_true}
    names = [name for name, target in given.items() if target is not None]
    first = prompt * len(SIDES) * len(names)
    return {
        name: Probabilities(before=values[first + at], after=values[first + len(names) + at])
        for at, name in enumerate(names)
    }
