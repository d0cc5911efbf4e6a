"""A trace looks at a revision as tracing there would, and changes nothing."""

from typing import Any

import pytest
import torch

from service.contracts.traces import Kind, TraceRequest, TraceResult
from service.errors import ProblemError
from tests.driving import finish, finish_noting
from tests.worker.engine.kit import Boot, Stand, bits, random_delta, same_bits, surroundings
from worker.engine.tracer import Tracer
from worker.tracing.trace import trace

REQUEST: dict[str, Any] = {"prompt": "Yes, Lionel Messi plays", "subject": "Lionel Messi", "samples": 2}


@pytest.fixture
def stand(boot: Boot) -> Stand:
    """A tiny llama at r2."""
    stand = boot()
    for seed in range(2):
        stand.commit(random_delta(stand.loaded, seed=seed))
    return stand


def request(**changes: Any) -> TraceRequest:
    return TraceRequest.model_validate({**REQUEST, **changes})


def run(stand: Stand, revision: int, **changes: Any) -> TraceResult:
    return finish(Tracer(stand.history, stand.ledger).run(request(**changes), revision))


def test_any_revision_is_traced_with_its_own_weights(stand: Stand) -> None:
    tracer = Tracer(stand.history, stand.ledger)
    targets = set()
    for revision in range(3):
        result = finish(tracer.run(request(), revision))
        with stand.resident.view([stand.history.weights_at(revision)]):
            expected = finish(trace(stand.loaded, request()))
        assert (result.revision, result.checksum) == (revision, stand.ledger.entries()[revision].checksum)
        assert (result.target, result.known) == (expected.asked.answer, True)
        assert result.high == pytest.approx(expected.clean.probability, rel=1e-4)
        for kind, restored in expected.restored.items():
            gains = restored - expected.low
            assert torch.allclose(torch.tensor(result.effects[kind].mean).double(), gains.mean(-1), rtol=1e-4)
            error = result.effects[kind].error
            assert error is not None
            assert torch.allclose(torch.tensor(error).double(), gains.std(-1) / 2**0.5, rtol=1e-4)
        targets.add((result.target, result.high))
    assert len(targets) == 3, "the revisions say different things"


def test_a_result_says_what_was_done(stand: Stand) -> None:
    result = run(stand, 0, target="football", samples=1, noise=2, kinds=["mlp"], tokens="last-subject")
    assert (result.target, result.known) == ("football", False)
    assert "".join(result.tokens) == REQUEST["prompt"]
    assert "".join(result.tokens[slice(*result.subject)]).strip() == REQUEST["subject"]
    assert result.traced == (result.subject[1] - 1,)
    assert result.noise == pytest.approx(2 * result.sigma, rel=1e-4)
    assert list(result.effects) == [Kind.MLP]
    assert len(result.effects[Kind.MLP].mean) == 1
    assert len(result.effects[Kind.MLP].mean[0]) == stand.loaded.layers
    assert (result.effects[Kind.MLP].error, result.low_error) == (None, None), "one sample has no spread"
    assert result.timings.keys() == {"fold", "clean", "restore"}
    named = run(stand, 0, noise_subjects=["Lionel Messi"])
    assert named.sigma != result.sigma


def test_a_trace_leaves_the_model_as_it_is(stand: Stand) -> None:
    before, found, state = bits(stand.loaded), surroundings(stand.loaded), stand.state()
    for _ in Tracer(stand.history, stand.ledger).run(request(), 1):
        assert same_bits(bits(stand.loaded), before)
        assert surroundings(stand.loaded) == found
    assert (same_bits(bits(stand.loaded), before), stand.state()) == (True, state)


def test_a_head_that_moves_meanwhile_does_not_matter(stand: Stand) -> None:
    expected = run(stand, 2)
    steps = Tracer(stand.history, stand.ledger).run(request(), 2)
    phases = [next(steps).phase for _ in range(4)]
    assert phases == ["fold", "clean", "restore", "restore"]
    stand.commit(random_delta(stand.loaded, seed=9))
    result, rest = finish_noting(steps)
    assert result.model_copy(update={"timings": {}}) == expected.model_copy(update={"timings": {}})
    assert rest[-1].step == rest[-1].steps


def test_a_damaged_old_revision_is_a_problem(boot: Boot) -> None:
    stand = boot()
    stand.commit(random_delta(stand.loaded))
    blob = stand.blobs_folder / f"{stand.ledger.entries()[1].blob}.safetensors"
    stand.history.rollback(0)
    stand = boot()
    blob.write_bytes(blob.read_bytes()[:-1] + b"?")
    with pytest.raises(ProblemError) as raised:
        run(stand, 1)
    assert raised.value.problem.type.endswith(":revision-damaged")
