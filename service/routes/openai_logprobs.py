"""Log-probabilities in OpenAI's two shapes: that of completions, and that of chat completions."""

from collections.abc import Sequence

from service.contracts.generate import Continuation, LikelyToken
from service.contracts.lane import Piece
from service.contracts.openai_answers import ChatLogprobs, ChatToken, LikelyChatToken, TextLogprobs

PART_OF_A_CHARACTER = "\ufffd"
"""What stands in a token's text for bytes that are no whole character."""

Tokens = Continuation | Piece


def text_logprobs(said: Tokens, offset: int = 0) -> TextLogprobs:
    """In the shape of completions; offset: characters in the tokens before these."""
    offsets = []
    for token in said.tokens:
        offsets.append(offset)
        offset += len(token)
    chosen = zip(said.tokens, said.logprobs, _likely(said), strict=True)
    return TextLogprobs(
        tokens=said.tokens,
        token_logprobs=said.logprobs,
        top_logprobs=tuple(_by_text(token, logprob, likely) for token, logprob, likely in chosen),
        text_offset=tuple(offsets),
    )


def chat_logprobs(said: Tokens) -> ChatLogprobs:
    """In the shape of chat completions."""
    chosen = zip(said.tokens, said.logprobs, _likely(said), strict=True)
    content = (
        ChatToken(
            token=token,
            logprob=logprob,
            bytes=_bytes(token),
            top_logprobs=tuple(
                LikelyChatToken(token=other.token, logprob=other.logprob, bytes=_bytes(other.token)) for other in likely
            ),
        )
        for token, logprob, likely in chosen
    )
    return ChatLogprobs(content=tuple(content), refusal=None)


def _likely(said: Tokens) -> Sequence[Sequence[LikelyToken]]:
    return said.top_logprobs or ((),) * len(said.tokens)


def _by_text(token: str, logprob: float, likely: Sequence[LikelyToken]) -> dict[str, float]:
    # Two tokens may have the same text: the likelier one stays.
    found = {other.token: other.logprob for other in reversed(likely)}
    return {token: logprob} | found if token not in found else found


def _bytes(token: str) -> tuple[int, ...] | None:
    return None if PART_OF_A_CHARACTER in token else tuple(token.encode())
