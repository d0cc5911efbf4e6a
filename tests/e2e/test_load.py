"""Readers at base, head and old revisions while the head moves: every answer is that of the revision that it names."""

import threading
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest
import torch

from service.contracts.edits import EditStatus
from service.contracts.generate import Continuation, GenerateRequest
from service.errors import ProblemError
from service.ledger import Ledger
from tests.conftest import _free_port
from tests.e2e.kit import FACT, Place, open_place, until
from tests.families import tiny_model
from worker.engine.blobs import BlobStore
from worker.engine.resident import Resident
from worker.engine.state import State

CLIENTS = 8
PROMPTS = (FACT["prompt"], "The Eiffel Tower is", "Michael Jordan", "Question: What does he play? Answer:", "Rome")
MOST_TOKENS = 6


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with open_place(tmp_path, _free_port) as opened:
        yield opened


class Reader(threading.Thread):
    """Compares random revisions until it is told to stop; keeps every answer."""

    def __init__(self, place: Place, seed: int, over: threading.Event) -> None:
        super().__init__()
        self._place = place
        self._draw = Random(seed)  # noqa: S311 - nothing here is secret
        self._over = over
        self.answers: list[tuple[str, Continuation]] = []
        self.named: list[tuple[Any, int]] = []
        self.error: BaseException | None = None

    def run(self) -> None:
        try:
            while not self._over.is_set():
                self._compare()
        except BaseException as error:  # noqa: BLE001 - the test raises it again
            self.error = error

    def _compare(self) -> None:
        draw, head = self._draw, self._place.client.model().revision
        names = ["base", "head", draw.randint(0, head)]
        prompts = draw.sample(PROMPTS, draw.randint(1, 3))
        wanted = {"before": draw.choice(names), "after": draw.choice(names)}
        request = GenerateRequest.model_validate({"prompt": prompts, "max_new_tokens": MOST_TOKENS, **wanted})
        for result in self._place.client.generate(request).results:
            for name, side in zip(wanted.values(), (result.before, result.after), strict=True):
                self.answers.append((result.prompt, side))
                self.named.append((name, side.revision))
                assert side.revision >= head or name != "head", "older than what was there when it was asked"


def test_every_answer_is_of_the_revision_that_it_names(place: Place) -> None:
    workers = [place.start_worker() for _ in range(2)]
    until(lambda: len(_serving(place)) == len(workers), place.says)
    over = threading.Event()
    readers = [Reader(place, seed, over) for seed in range(CLIENTS)]
    for reader in readers:
        reader.start()
    try:
        _move_the_head(place)
    finally:
        over.set()
        for reader in readers:
            reader.join(60)
    for reader in readers:
        if reader.error is not None:
            raise reader.error
    answers = {(prompt, side.revision, side.tokens) for reader in readers for prompt, side in reader.answers}
    assert len({(prompt, revision) for prompt, revision, _ in answers}) == len(answers), "one answer a revision"
    assert all(name in ("base", "head") or name == revision for reader in readers for name, revision in reader.named)
    assert len({revision for _, revision, _ in answers}) > len(PROMPTS)
    alone = Alone(place)
    for prompt, revision, tokens in sorted(answers):
        assert alone.says(prompt, revision) == tokens, (prompt, revision)


def _serving(place: Place) -> list[str]:
    try:
        return [found.worker for found in place.client.ready().workers]
    except ProblemError:
        return []


def _move_the_head(place: Place) -> None:
    """Edits, a rollback, a revert and a reapply, one after another."""
    made = []
    for prompt, target in (("Yes, Lionel Messi plays", "basketball"), ("Lionel Messi", "football"), ("Messi", "Rome")):
        fact = {"prompt": prompt, "subject": "Messi", "target_new": target, "target_true": None}
        edit = place.ended(place.submit(**fact, hparams={"v_num_grad_steps": 20, "context_templates": [""]}).id)
        assert edit.status is EditStatus.APPLIED, edit.problem
        made.append(edit.id)
    place.client.rollback(1)
    place.client.rollback(3)
    place.client.revert(made[1])
    place.client.reapply(made[1])
    place.client.rollback(0)


class Alone:
    """The model with nobody else about, one prompt and one revision at a time, decoded by transformers itself."""

    def __init__(self, place: Place) -> None:
        self._resident = Resident(tiny_model("llama"))
        self._blobs = BlobStore(place.blobs)
        self._lines = Ledger(place.redis, place.keys).lines()

    def says(self, prompt: str, revision: int) -> tuple[str, ...]:
        loaded = self._resident.loaded
        deltas = [self._blobs.get(str(entry.blob)) for entry in self._lines.active(revision)]
        self._resident.install(revision, State.fold(self._resident, deltas).weights)
        ids = torch.tensor([loaded.tokenizer(prompt)["input_ids"]])
        output = loaded.model.generate(
            input_ids=ids,
            attention_mask=torch.ones_like(ids),
            max_new_tokens=MOST_TOKENS,
            do_sample=False,
            pad_token_id=loaded.pad_token_id,
            eos_token_id=list(loaded.eos_token_ids) or None,
        )[0, ids.shape[1] :].tolist()
        ends = [at for at, token in enumerate(output) if token in loaded.eos_token_ids]
        return tuple(loaded.tokenizer.decode([token]) for token in (output[: ends[0]] if ends else output))
