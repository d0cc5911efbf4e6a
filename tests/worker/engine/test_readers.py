"""Every request of the stream gets its result or its problem, and the head they speak of is the same for all."""

import secrets
from pathlib import Path
from typing import Any

import pytest
import torch
from redis import Redis

from service.checks import token_counter
from service.contracts.generate import FinishReason, GenerateRequest
from service.contracts.lane import LaneAnswer, LaneRequest
from service.contracts.revisions import ActivationRequest, RevisionKind, RollbackRequest
from service.keys import Keys
from tests.families import tiny_model
from tests.worker.engine.kit import Stand, bits, live_checksum, overridden, random_delta, same_bits
from worker.card import card_of
from worker.editing.method import discover
from worker.engine.generation import Wanted, decode
from worker.engine.readers import Readers
from worker.errors import LeaseLostError

PROMPT = "The Eiffel Tower is located in the city of"


class Desk:
    """Readers on an engine with three revisions; `ask` returns their answers in order."""

    def __init__(self, stand: Stand, commits: int = 2) -> None:
        self.stand = stand
        methods = discover()
        card = card_of(stand.resident, methods, dict.fromkeys(methods))
        self.readers = Readers(stand.history, card, token_counter(stand.loaded.tokenizer.backend_tokenizer))
        for seed in range(commits):
            stand.commit(random_delta(stand.loaded, 1 + seed, seed=seed))

    def ask(self, *bodies: GenerateRequest | RollbackRequest | ActivationRequest, again: str = "") -> list[LaneAnswer]:
        """Serve requests together; `again` is the id of one that was asked before."""
        requests = [LaneRequest(id=again or secrets.token_hex(8), body=body, deadline=2e9) for body in bodies]
        answers: dict[str, LaneAnswer] = {}

        def answer(request: LaneRequest, given: LaneAnswer) -> None:
            assert request.id not in answers
            answers[request.id] = given

        self.readers.serve(requests, answer)
        assert overridden(self.stand.loaded) == []
        return [answers[request.id] for request in requests]


@pytest.fixture
def desk(redis: Redis, keys: Keys, tmp_path: Path) -> Desk:
    return Desk(Stand(redis, keys, tiny_model("gpt2"), tmp_path))


def _generate(**fields: Any) -> GenerateRequest:
    return GenerateRequest.model_validate({"prompt": [PROMPT], "max_new_tokens": 8, **fields})


def test_before_and_after_are_what_each_revision_says(desk: Desk) -> None:
    prompts = [PROMPT, "The"]
    (given,) = desk.ask(_generate(prompt=prompts, before="r1", after="head"))
    answer = given.generated
    assert answer is not None
    assert (answer.revision, answer.model, answer.seed) == (2, "tiny-gpt2", None)
    assert [result.prompt for result in answer.results] == prompts
    resident, history = desk.stand.resident, desk.stand.history
    for result in answer.results:
        rows = [Wanted(result.prompt, revision, history.weights_at(revision), 8) for revision in (1, 2)]
        before, after = decode(resident.loaded, resident.view, rows)
        assert (result.before.tokens, result.after.tokens) == (before.tokens, after.tokens)
        assert (result.before.revision, result.after.revision) == (1, 2)
    assert answer.seconds > 0


def test_the_first_difference_is_named(desk: Desk) -> None:
    given = desk.ask(
        _generate(before="base", after="base"), _generate(), _generate(prompt=["The", PROMPT], before=0, after=1)
    )
    results = [result for answer in given if answer.generated for result in answer.generated.results]
    assert len(results) == 4
    assert results[0].parts_at is None
    assert results[0].before == results[0].after
    for result in results[1:]:
        pairs = list(zip(result.before.tokens, result.after.tokens, strict=True))
        differing = [at for at, pair in enumerate(pairs) if pair[0] != pair[1]]
        assert result.parts_at == (differing[0] if differing else None)
    assert any(result.parts_at is not None for result in results)


def test_sides_of_different_length_part_where_the_shorter_ends(desk: Desk) -> None:
    loaded, resident = desk.stand.loaded, desk.stand.resident
    prompts = [PROMPT, "The", "Lionel Messi plays", "Question: What", "In", "Москва", "A city"]
    ids = [loaded.tokenizer(prompt, return_tensors="pt")["input_ids"] for prompt in prompts]
    first = []
    for revision in (0, 2):
        with torch.no_grad(), resident.view([desk.stand.history.weights_at(revision)]):
            first.append([int(loaded.model(row).logits[0, -1].argmax()) for row in ids])
    prompt, end = next((text, head) for text, base, head in zip(prompts, *first, strict=True) if base != head)
    loaded.model.generation_config.eos_token_id = [end]
    (given,) = desk.ask(_generate(prompt=[prompt], max_new_tokens=1))
    assert given.generated is not None
    (result,) = given.generated.results
    assert (len(result.before.tokens), result.after.tokens) == (1, ())
    assert result.after.finish_reason is FinishReason.STOP
    assert result.parts_at == 0


def test_a_seed_is_drawn_where_none_is_given_and_told(desk: Desk) -> None:
    first, second = (given.generated for given in desk.ask(*[_generate(temperature=1.5)] * 2))
    assert first is not None
    assert second is not None
    assert isinstance(first.seed, int)
    assert first.seed != second.seed
    (again,) = desk.ask(_generate(temperature=1.5, seed=first.seed))
    assert again.generated is not None
    for result, known in zip(again.generated.results, first.results, strict=True):
        assert (result.before.tokens, result.after.tokens) == (known.before.tokens, known.after.tokens)


def test_the_head_moves_for_those_who_ask_later(desk: Desk) -> None:
    """A rollback between two comparisons of one turn: each sees the head of its own moment."""
    first, rollback, second = desk.ask(_generate(), RollbackRequest(to=0), _generate(before="r2"))
    assert first.generated is not None
    assert rollback.revision is not None
    assert second.generated is not None
    assert (first.generated.revision, rollback.revision.revision, second.generated.revision) == (2, 3, 3)
    assert rollback.revision.kind is RevisionKind.ROLLBACK
    (before,), (after,) = first.generated.results, second.generated.results
    assert before.before.tokens == after.after.tokens
    assert before.after.tokens == after.before.tokens
    assert live_checksum(desk.stand.loaded) == desk.stand.resident.base_checksum


@pytest.mark.parametrize(
    ("body", "status", "says"),
    [
        (_generate(after="r3"), 404, "no revision r3"),
        (_generate(before=7), 404, "no revision r7"),
        (RollbackRequest(to=3), 404, "no revision r3"),
        (_generate(prompt=["The " * 300]), 422, "prompt[0]"),
        (_generate(prompt=["ok", PROMPT], max_new_tokens=120), 422, "prompt[1]"),
    ],
)
def test_a_wrong_request_gets_its_problem_and_hinders_nobody(
    desk: Desk, body: GenerateRequest | RollbackRequest, status: int, says: str
) -> None:
    before = desk.stand.state()
    good, bad, also_good = desk.ask(_generate(), body, _generate(after="r1"))
    assert bad.problem is not None
    assert bad.problem.status == status
    assert says in bad.problem.detail
    assert good.generated is not None
    assert also_good.generated is not None
    assert desk.stand.state() == before


def test_a_failing_batch_is_a_problem_and_the_next_one_is_served(desk: Desk) -> None:
    loaded = desk.stand.loaded
    before = bits(loaded)

    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA out of memory, somewhere in a very private place")

    hook = loaded.model.transformer.ln_f.register_forward_hook(fail)
    for given in desk.ask(_generate(), _generate(after="r1")):
        assert given.problem is not None
        assert (given.problem.status, "private" in given.problem.detail) == (500, False)
    hook.remove()
    (given,) = desk.ask(_generate())
    assert given.generated is not None
    assert same_bits(before, bits(loaded))


def test_an_error_of_cuda_is_not_the_batchs_alone(desk: Desk) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    hook = desk.stand.loaded.model.transformer.ln_f.register_forward_hook(fail)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        desk.ask(_generate())
    hook.remove()


def test_a_damaged_old_revision_is_a_problem_for_those_who_ask_for_it_alone(desk: Desk) -> None:
    """The head does not depend on it, so the worker goes on."""
    stand = desk.stand
    stand.history.rollback(0)
    again = Desk.__new__(Desk)
    again.stand = Stand(stand.redis, stand.keys, tiny_model("gpt2"), stand.blobs_folder.parent)
    again.readers = Readers(again.stand.history, desk.readers._card, desk.readers._count_tokens)
    blob = stand.ledger.entries()[1].blob
    (stand.blobs_folder / f"{blob}.safetensors").write_bytes(b"not a blob")
    before = again.stand.state()
    good, old, rollback = again.ask(_generate(), _generate(after="r1"), RollbackRequest(to=2))
    assert good.generated is not None
    for given in (old, rollback):
        assert given.problem is not None
        assert given.problem.status == 500
        assert str(blob) in given.problem.detail
    assert again.stand.state() == before


def test_a_lost_lease_ends_the_worker(desk: Desk) -> None:
    desk.stand.redis.set(desk.stand.keys.lease, "9:another")
    with pytest.raises(LeaseLostError):
        desk.ask(RollbackRequest(to=0))


@pytest.mark.parametrize("kind", ["rollback", "revert", "reapply"])
def test_a_move_that_a_dead_leader_has_made_is_not_made_again(
    desk: Desk, redis: Redis, keys: Keys, tmp_path: Path, kind: str
) -> None:
    """The next leader is given the same request, and finds it in the ledger."""
    edit = str(desk.stand.ledger.entries()[1].edit)
    if kind == "reapply":
        desk.stand.history.revert(edit)
    body = RollbackRequest(to=1) if kind == "rollback" else ActivationRequest(edit=edit, active=kind == "reapply")
    (given,) = desk.ask(body)
    assert given.revision is not None
    assert given.revision.request is not None
    before = desk.stand.state()
    heir = Desk(Stand(redis, keys, tiny_model("gpt2"), tmp_path), commits=0)
    (again,) = heir.ask(body, again=given.revision.request)
    assert again == given
    assert heir.stand.state() == before
    (another,) = heir.ask(RollbackRequest(to=1))
    assert another.revision is not None
    assert another.revision.revision == given.revision.revision + 1
