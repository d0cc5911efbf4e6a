"""A step that fails is a problem for those who speak by it; what nothing can be computed after ends the worker."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch

from service.contracts.revisions import RollbackRequest
from service.origin import ORIGIN, Origin
from tests.worker.engine.kit import Boot, bits, noting_requests, same, same_bits
from tests.worker.engine.reading_desk import PROMPT, ReadingDesk, asking, refusal, request_of, whole
from worker.engine import asked, decoding
from worker.errors import CorruptStateError, DeviceError
from worker.models.loaded import LoadedModel
from worker.models.memory import MOST_TOKENS
from worker.models.padded_cache import PaddedCache

FAILURES = [
    RuntimeError("CUDA out of memory, somewhere in a very private place"),
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB in a private place"),
    ValueError("a private matter"),
]
FATAL = [
    RuntimeError("CUDA error: an illegal memory access was encountered"),
    torch.AcceleratorError("CUDA error: device-side assert triggered"),
    CorruptStateError("r1 is damaged"),
    DeviceError("The GPU can compute nothing more."),
]


@contextmanager
def _failing(loaded: LoadedModel, error: Exception, layer: int = 2) -> Iterator[None]:
    """Every pass fails after so many layers, which have noted their keys and values by then."""

    def fail(*_: Any, **__: Any) -> None:
        raise error

    hook = loaded.model.transformer.h[layer].register_forward_hook(fail)
    try:
        yield
    finally:
        hook.remove()


def _raise(*_: Any, **__: Any) -> None:
    raise FAILURES[0]


def _says_what_it_should(desk: ReadingDesk) -> None:
    answer = desk.decoded(asking(PROMPT, "The"))
    expected = [desk.alone(prompt, revision) for prompt in (PROMPT, "The") for revision in (0, 2)]
    assert all(map(same, answer.continuations, expected))


@pytest.mark.parametrize("error", FAILURES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("steps", [0, 1, 3])
def test_a_failing_step_is_a_problem_and_the_next_request_is_served(
    reading: ReadingDesk, error: Exception, steps: int
) -> None:
    before = bits(reading.stand.loaded)
    names = reading.take_up(asking(), asking("The", revisions=("r1",), stream=True))
    reading.steps(steps)
    with _failing(reading.stand.loaded, error):
        assert not reading.readers.step()
    for name in names:
        problem = refusal(reading.last(name))
        assert (problem.status, problem.type.rpartition(":")[2]) == (500, "generation-failed")
        assert "private" not in problem.detail
    assert list(reading.rows) == []
    _says_what_it_should(reading)
    assert same_bits(before, bits(reading.stand.loaded))


def test_the_log_names_whose_request_it_is_about(reading: ReadingDesk, caplog: pytest.LogCaptureFixture) -> None:
    named = noting_requests(caplog)
    caplog.set_level(logging.INFO)
    reading.ask(request_of(RollbackRequest(to=0), "move"))
    assert (caplog.messages, named) == (["r3 is made, by a rollback"], ["http-move"])
    reading.take_up(request_of(asking(), "one"), request_of(asking("The"), "other"))
    assert ORIGIN.get() == Origin(), "what comes after it would be told in its name"
    with _failing(reading.stand.loaded, FAILURES[0]):
        reading.readers.step()
    assert caplog.messages[1:] == ["the generation for http-one, http-other failed"]


def test_a_failing_step_fails_those_too_who_have_joined_since(reading: ReadingDesk) -> None:
    """A batch of which a part has failed is given up; who comes later finds a new one."""
    (first,) = reading.take_up(asking(max_new_tokens=20))
    reading.steps(2)
    (second,) = reading.take_up(asking("The"))
    with _failing(reading.stand.loaded, FAILURES[0]):
        reading.readers.step()
    assert {refusal(reading.last(name)).status for name in (first, second)} == {500}
    _says_what_it_should(reading)


def test_where_memory_does_not_suffice_nothing_is_moved(reading: ReadingDesk, monkeypatch: pytest.MonkeyPatch) -> None:
    """To keep some of the rows would take memory too."""
    names = reading.take_up(asking(), asking("The"), asking("Lionel Messi"))
    reading.steps(3)
    with _failing(reading.stand.loaded, FAILURES[1]), monkeypatch.context() as patch:
        patch.setattr(PaddedCache, "keep", _raise)
        reading.readers.step()
    assert [refusal(reading.last(name)).status for name in names] == [500] * 3
    _says_what_it_should(reading)


def test_keys_and_values_stay_within_their_bound_after_a_failure(boot: Boot) -> None:
    """As before it: who comes then does not run out of memory at once again."""
    desk = ReadingDesk(boot("gpt2"), cache_bytes=0)
    desk.ask(asking(revisions=("head",)))
    desk.take_up(asking())
    desk.steps(2)
    with _failing(desk.stand.loaded, FAILURES[1]):
        desk.readers.step()
    desk.take_up(asking(), asking("The"))
    together = []
    while desk.readers.step():
        together.append(len(desk.rows))
    assert max(together) == 1


def test_who_has_said_everything_waits_on_though_a_step_fails(
    reading: ReadingDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its rows have ended; only the probabilities are still to come."""
    monkeypatch.setitem(MOST_TOKENS, "cpu", 1)
    body = asking(targets=("Rome", "Paris"), max_new_tokens=1)
    expected = reading.decoded(body)
    done, speaks = reading.take_up(body, asking("The", max_new_tokens=20))
    reading.steps(2)
    with monkeypatch.context() as patch:
        patch.setattr(decoding, "choose", _raise)
        assert reading.readers.step()
    assert refusal(reading.last(speaks)).status == 500
    assert done not in reading.heard
    reading.finish()
    found = whole(reading.last(done))
    assert all(map(same, found.continuations, expected.continuations))
    assert found.probabilities == pytest.approx(expected.probabilities)
    _says_what_it_should(reading)


def test_failing_probabilities_are_the_problem_of_who_asks_for_them(
    reading: ReadingDesk, monkeypatch: pytest.MonkeyPatch
) -> None:
    asks, speaks = reading.take_up(asking(targets=("Rome",)), asking("The"))
    with monkeypatch.context() as patch:
        patch.setattr(asked, "read_rows", _raise)
        assert reading.readers.step()
    assert refusal(reading.last(asks)).status == 500
    reading.finish()
    expected = [reading.alone("The", revision) for revision in (0, 2)]
    assert all(map(same, whole(reading.last(speaks)).continuations, expected))


@pytest.mark.parametrize("error", FATAL, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("steps", [0, 3])
def test_what_ends_the_worker_is_raised(reading: ReadingDesk, error: Exception, steps: int) -> None:
    """And nobody is told: another worker will answer."""
    reading.take_up(asking(), asking("The", targets=("Rome",), max_new_tokens=1))
    reading.steps(steps)
    heard = {name: list(answers) for name, answers in reading.heard.items()}
    reading.take_up(asking())
    with _failing(reading.stand.loaded, error), pytest.raises(type(error)) as raised:
        reading.readers.step()
    assert raised.value is error
    assert reading.heard == heard
