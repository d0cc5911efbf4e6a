"""One continuation in the making: what it was asked from, and what it has said so far."""

import time
from dataclasses import dataclass

from service.contracts.generate import Continuation, FinishReason, LikelyToken, Sampling
from service.contracts.lane import Piece
from worker.engine.sampling import Choice, Draw
from worker.engine.transcript import Transcript
from worker.models.loaded import LoadedModel
from worker.models.view import Weights


@dataclass(frozen=True)
class Wanted:
    """One continuation to decode: of which text, or tokens, under which weights, and how its tokens are chosen.

    alternative: its tokens are drawn with sampling.seed + alternative.
    """

    prompt: str | tuple[int, ...]
    revision: int
    weights: Weights
    sampling: Sampling
    alternative: int = 0

    @property
    def seed(self) -> int:
        """Of the noise."""
        return ((self.sampling.seed or 0) + self.alternative) % 2**63


class Row:
    """A continuation that grows by `add`, one token at a time, until `finish` says why it has ended.

    most_new_tokens: fewer than the sampling's, where the context has no room for them.
    """

    def __init__(self, loaded: LoadedModel, wanted: Wanted, most_new_tokens: int | None = None) -> None:
        given = wanted.prompt
        self.wanted = wanted
        self.ids: tuple[int, ...] = tuple(loaded.tokenizer(given)["input_ids"]) if isinstance(given, str) else given
        self.said: list[Choice] = []
        self.finish: FinishReason | None = None
        self._most_new = wanted.sampling.max_new_tokens if most_new_tokens is None else most_new_tokens
        self.draw = Draw(wanted.sampling, wanted.seed, self.ids, loaded.device)
        self._tokenizer = loaded.tokenizer
        self._ends = loaded.eos_token_ids
        self._transcript = Transcript(loaded.tokenizer, wanted.sampling.stop)
        self._began = time.perf_counter()
        self._seconds = 0.0
        self._told = 0
        self._told_text = 0

    @property
    def most_tokens(self) -> int:
        """How long it may become, prompt and all."""
        return len(self.ids) + self._most_new

    def add(self, choice: Choice) -> None:
        """Say one token more. The model's end token ends the row and is not said."""
        self._seconds = time.perf_counter() - self._began
        if choice.token in self._ends:
            self._end(FinishReason.STOP)
            return
        self.said.append(choice)
        self.draw.had(choice.token)
        self._transcript.add(choice.token)
        if not self._transcript.stopped and len(self.said) == self._most_new:
            self._end(FinishReason.LENGTH)
        if self._transcript.stopped:
            self.finish = FinishReason.STOP

    def piece(self, number: int) -> Piece | None:
        """What it has said since its last piece; None where that is nothing."""
        choices, text = self.said[self._told :], self._transcript.text[self._told_text :]
        if not choices and self.finish is None:
            return None
        self._told, self._told_text = len(self.said), len(self._transcript.text)
        return Piece(
            row=number,
            text=text,
            tokens=self._words(choices),
            token_ids=tuple(choice.token for choice in choices),
            logprobs=tuple(choice.logprob for choice in choices),
            top_logprobs=self._likeliest(choices),
            finish_reason=self.finish,
        )

    def continuation(self) -> Continuation:
        """All of it; of a row that has ended."""
        if self.finish is None:
            raise ValueError("the row has not ended")
        return Continuation(
            revision=self.wanted.revision,
            text=self._transcript.text,
            tokens=self._words(self.said),
            token_ids=tuple(choice.token for choice in self.said),
            logprobs=tuple(choice.logprob for choice in self.said),
            top_logprobs=self._likeliest(self.said),
            finish_reason=self.finish,
            seconds=self._seconds,
        )

    def _end(self, reason: FinishReason) -> None:
        self._transcript.end()
        self.finish = reason

    def _words(self, choices: list[Choice]) -> tuple[str, ...]:
        return tuple(self._word(choice.token) for choice in choices)

    def _word(self, token: int) -> str:
        return str(self._tokenizer.decode([token]))

    def _likeliest(self, choices: list[Choice]) -> tuple[tuple[LikelyToken, ...], ...] | None:
        if self.wanted.sampling.top_logprobs == 0:
            return None
        return tuple(
            tuple(LikelyToken(token=self._word(token), token_id=token, logprob=logprob) for token, logprob in each)
            for each in (choice.likeliest for choice in choices)
        )
