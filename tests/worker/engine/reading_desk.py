"""Readers on a tiny model with three revisions, and all that they answer to each request."""

import math
import secrets
from collections.abc import Sequence
from typing import Any

import torch

from service.checks import CountTokens, token_counter
from service.contracts.generate import Continuation, Sampling
from service.contracts.lane import Decoded, DecodeRequest, LaneAnswer, LaneRequest
from service.contracts.model import ModelCard
from service.contracts.problem import Problem
from service.contracts.revisions import ActivationRequest, RollbackRequest
from tests.worker.engine.kit import Stand, overridden, random_delta
from worker.card import card_of
from worker.engine.generation import decode
from worker.engine.readers import Readers
from worker.engine.row import Row, Wanted

PROMPT = "The Eiffel Tower is located in the city of"
FAR = 2e9
"""A deadline that no test reaches."""

Body = DecodeRequest | RollbackRequest | ActivationRequest


def asking(*prompts: str, **fields: Any) -> DecodeRequest:
    """What continues prompts, before and after, by eight tokens; greedily, unless the fields say otherwise."""
    names = Sampling.model_fields.keys() & fields.keys()
    sampling = {"max_new_tokens": 8, "seed": 0, **{name: fields.pop(name) for name in names}}
    asked = prompts or (() if "messages" in fields else (PROMPT,))
    given = {"prompts": asked, "revisions": ("base", "head"), "sampling": sampling, **fields}
    return DecodeRequest.model_validate(given)


def request_of(body: Body, name: str = "", deadline: float = FAR) -> LaneRequest:
    """The body as it comes through the stream."""
    made = name or secrets.token_hex(8)
    return LaneRequest(id=made, body=body, deadline=deadline, answers="answers", request_id=f"http-{made}")


class ReadingDesk:
    """Readers on an engine with a base and two commits. heard: what was answered to each request, by its id."""

    def __init__(self, stand: Stand, commits: int = 2, most_rows: int = 32, cache_bytes: int = 2**30) -> None:
        self.stand = stand
        self.heard: dict[str, list[LaneAnswer | None]] = {}
        self.card: ModelCard = card_of(stand.resident, {}, {})
        self.count: CountTokens = token_counter(stand.loaded.tokenizer.backend_tokenizer)
        self.readers = Readers(stand.history, self.card, self.count, most_rows, cache_bytes)
        for seed in range(commits):
            stand.commit(random_delta(stand.loaded, 1 + seed, seed=seed))

    @property
    def rows(self) -> Sequence[Row]:
        """Those that are decoded together now."""
        return self.readers._decoding.rows

    def take_up(self, *requests: LaneRequest | Body) -> list[str]:
        """Hand requests to the readers together; returns their ids."""
        made = [each if isinstance(each, LaneRequest) else request_of(each) for each in requests]
        self.readers.take_up(made, self._hear)
        return [request.id for request in made]

    def ask(self, *requests: LaneRequest | Body) -> list[LaneAnswer]:
        """The last answers to requests that come together."""
        ids = self.take_up(*requests)
        self.finish()
        return [self.last(name) for name in ids]

    def steps(self, count: int) -> None:
        """So many steps, after each of which there is more to do."""
        for _ in range(count):
            assert self.readers.step()

    def finish(self) -> None:
        """Steps until nothing is left."""
        for _ in range(10_000):
            more = self.readers.step()
            assert overridden(self.stand.loaded) == []
            if not more:
                assert list(self.rows) == []
                return
        raise AssertionError("the readers go on for ever")

    def last(self, name: str) -> LaneAnswer:
        """The last answer to a request, of which there is one."""
        answers = [answer for answer in self.heard[name] if answer is not None]
        assert [answer.last for answer in answers] == [False] * (len(answers) - 1) + [True]
        return answers[-1]

    def decoded(self, request: LaneRequest | Body) -> Decoded:
        """The whole answer to a request that comes alone."""
        (answer,) = self.ask(request)
        return whole(answer)

    def alone(self, prompt: str | tuple[int, ...], revision: int, **sampling: Any) -> Continuation:
        """What a revision says when nobody else is about."""
        resident = self.stand.resident
        asked = Sampling.model_validate({"max_new_tokens": 8, "seed": 0, **sampling})
        weights = self.stand.history.weights_at(revision)
        (said,) = decode(resident.loaded, resident.view, [Wanted(prompt, revision, weights, asked)])
        return said

    def probability(self, revision: int, ids: Sequence[int], target: Sequence[int]) -> float:
        """That a revision says the target's tokens after these, by one plain pass."""
        with torch.no_grad(), self.stand.resident.view([self.stand.history.weights_at(revision)]):
            logprobs = self.stand.loaded.model(torch.tensor([[*ids, *target]])).logits[0].log_softmax(-1)
        return math.exp(sum(float(logprobs[len(ids) - 1 + at, token]) for at, token in enumerate(target)))

    def _hear(self, request: LaneRequest, answer: LaneAnswer | None) -> None:
        heard = self.heard.setdefault(request.id, [])
        assert not heard or (heard[-1] is not None and not heard[-1].last), "answered after the last answer"
        assert answer is None or answer.id == request.id
        heard.append(answer)


def whole(answer: LaneAnswer) -> Decoded:
    """The continuations of an answer that has some."""
    assert answer.decoded is not None, answer
    return answer.decoded


def refusal(answer: LaneAnswer) -> Problem:
    """The problem of an answer that has one."""
    assert answer.problem is not None, answer
    return answer.problem
