"""The promises of a method, tried on every method that is found and every family.

Of the nine, the export as an adapter (7) is not here: there is none yet.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import pytest
import torch
from pydantic import ValidationError

from service.contracts.edits import Fact
from tests.driving import finish
from tests.families import CONFIGS, tiny_model
from tests.worker.editing.kit import FACTS, HPARAMS, Found, OutOfLuckError, context, counted, equal, nll
from tests.worker.engine.kit import bits, same_bits
from worker.editing.delta import WeightDelta
from worker.editing.method import Method, discover
from worker.editing.progress import Step, Steps, within
from worker.engine.resident import Resident
from worker.engine.state import State
from worker.models.loaded import LoadedModel
from worker.models.view import Weights

METHODS = discover()
ALONE = [(family, name, 1) for family in CONFIGS for name in METHODS]
TOGETHER = [(family, name, 3) for family in CONFIGS for name, method in METHODS.items() if method.batch]
AT_EVERY_STEP = "gpt2"
"""The family for which a computation is ended at every step, of several facts too; for the others it is once."""
ENDED = [*ALONE, *(case for case in TOGETHER if case[0] == AT_EVERY_STEP)]

each = pytest.mark.parametrize(("family", "name", "facts"), [*ALONE, *TOGETHER])
ended = pytest.mark.parametrize(("family", "name", "facts"), ENDED)


@dataclass(frozen=True)
class Computation:
    """One method on one model: what it was given, and what it did.

    disturbed: the steps after which the model was not as it had been found; calls: of MLP projections.
    """

    method: Method
    hparams: Any
    loaded: LoadedModel
    facts: Sequence[Fact]
    found: Found
    delta: WeightDelta
    steps: Sequence[Step]
    disturbed: Sequence[int]
    calls: int

    def again(self) -> Steps[WeightDelta]:
        """The same computation on the same model."""
        return self.method.compute(context(self.loaded), self.facts, self.hparams)

    def weights(self, resident: Resident) -> Weights:
        """What is to be installed."""
        return State(resident, {}).plus(self.delta).weights


@cache
def _model(family: str) -> LoadedModel:
    return tiny_model(family)


@cache
def _computed(family: str, name: str, facts: int) -> Computation:
    """A computation that the tests of its promises share; none of them may leave anything on the model."""
    return _compute(_model(family), name, FACTS[:facts])


def _compute(loaded: LoadedModel, name: str, facts: Sequence[Fact]) -> Computation:
    method = METHODS[name]
    assert name in HPARAMS, f"give {name} hyperparameters for tiny models in kit.HPARAMS"
    hparams = method.hparams.model_validate(HPARAMS[name])
    found = Found.of(loaded)
    steps: list[Step] = []
    disturbed: list[int] = []
    computing = method.compute(context(loaded), facts, hparams)
    with counted(loaded) as calls:
        while True:
            try:
                steps.append(next(computing))
            except StopIteration as end:
                delta: WeightDelta = end.value
                break
            finally:
                if not found.is_in(loaded):
                    disturbed.append(len(steps))
    return Computation(method, hparams, loaded, facts, found, delta, steps, disturbed, calls.count)


@each
def test_the_model_is_as_it_was_after_every_step(family: str, name: str, facts: int) -> None:
    """1 and 2: weights, hooks, forwards, gradients, the mode; so readers may be served between the steps."""
    computation = _computed(family, name, facts)
    assert computation.disturbed == []
    assert computation.delta.is_finite()


@pytest.mark.parametrize(("family", "name", "facts"), ALONE)
def test_the_same_seed_gives_the_same_delta(family: str, name: str, facts: int) -> None:
    """3: on another copy of the model, with templates sampled again."""
    computation = _computed(family, name, facts)
    steps = computation.method.compute(context(tiny_model(family)), computation.facts, computation.hparams)
    assert equal(finish(steps), computation.delta)


@each
def test_declared_layers_change_and_a_rollback_restores_every_bit(family: str, name: str, facts: int) -> None:
    """4 and 6: installed and taken back as the engine does it."""
    computation = _computed(family, name, facts)
    resident = Resident(computation.loaded)
    before = bits(computation.loaded)
    resident.install(1, computation.weights(resident))
    changed = {name for name, tensor in bits(computation.loaded).items() if not torch.equal(tensor, before[name])}
    resident.install(2, {})
    assert changed == {resident.name_of(layer) for layer in computation.delta.layers}
    assert set(computation.delta.layers) <= set(computation.hparams.layers)
    assert changed
    assert same_bits(before, bits(computation.loaded))
    assert Resident(computation.loaded).base_checksum == resident.base_checksum


@each
def test_the_targets_are_likelier_after(family: str, name: str, facts: int) -> None:
    """5: every fact's, in a view of the new weights."""
    computation = _computed(family, name, facts)
    before = [nll(computation.loaded, fact) for fact in computation.facts]
    resident = Resident(computation.loaded)
    with resident.view([computation.weights(resident)]):
        after = [nll(computation.loaded, fact) for fact in computation.facts]
    assert all(new < old - 0.1 for old, new in zip(before, after, strict=True)), (before, after)


@each
def test_progress_is_told(family: str, name: str, facts: int) -> None:
    """9: which of how many, never more than there are, with a loss wherever something is optimised."""
    steps = _computed(family, name, facts).steps
    assert all(1 <= step.step <= step.steps for step in steps), steps
    told = [(step.loss, step.target_probability) for step in steps if step.phase in {"value", "tune"}]
    assert told
    assert all(loss is not None and probability is not None and 0 < probability < 1 for loss, probability in told)


def _ends(family: str, of: int) -> Sequence[int]:
    return range(1, of + 1) if family == AT_EVERY_STEP else [(of + 1) // 2]


@ended
def test_a_cancelled_computation_leaves_nothing(family: str, name: str, facts: int) -> None:
    """9: closed after any step."""
    computation = _computed(family, name, facts)
    for end in _ends(family, len(computation.steps)):
        steps = computation.again()
        for _ in range(end):
            next(steps)
        steps.close()
        assert computation.found.is_in(computation.loaded), f"closed after step {end}"


@ended
def test_a_failed_computation_leaves_nothing(family: str, name: str, facts: int) -> None:
    """1 and 2, whichever forward pass raises."""
    computation = _computed(family, name, facts)
    for end in _ends(family, computation.calls):
        with counted(computation.loaded, fail_at=end), pytest.raises(OutOfLuckError):
            finish(computation.again())
        assert computation.found.is_in(computation.loaded), f"call {end} failed"


@pytest.mark.parametrize("name", METHODS)
def test_a_misspelt_hyperparameter_is_refused(name: str) -> None:
    """8: every name with a letter too many, and one that is missing."""
    hparams, given = METHODS[name].hparams, HPARAMS[name]
    assert hparams.model_validate(given).model_dump(include={"layers"}) == {"layers": tuple(given["layers"])}
    for field in hparams.model_fields:
        with pytest.raises(ValidationError, match=f"{field}x"):
            hparams.model_validate({**given, f"{field}x": given.get(field, 1)})
    with pytest.raises(ValidationError, match="layers"):
        hparams.model_validate({key: value for key, value in given.items() if key != "layers"})


@pytest.mark.parametrize("name", [name for name, method in METHODS.items() if method.batch])
def test_the_same_subject_twice(name: str) -> None:
    """Two facts whose key is the same: one delta, finite, and where one key is to say two things, a warning."""
    loaded = tiny_model("llama")
    facts = [FACTS[0], FACTS[0].model_copy(update={"target_new": "chess"})]
    computation = _compute(loaded, name, facts)
    assert computation.disturbed == []
    assert computation.delta.is_finite()
    warnings = [step.warning for step in computation.steps if step.warning]
    assert [("Facts 0 and 1" in warning) for warning in warnings] == ([True] if computation.delta.keys else [])
    assert all(bool(weight.isfinite().all()) for weight in computation.weights(Resident(loaded)).values())


@pytest.mark.parametrize("name", METHODS)
def test_a_view_of_an_edited_state_serves_as_well_as_its_weights(name: str) -> None:
    """As every fact but the first of several sees the model, where a method takes one at a time."""
    method, hparams = METHODS[name], METHODS[name].hparams.model_validate(HPARAMS[name])
    loaded = tiny_model("gpt2")
    resident = Resident(loaded)
    first = finish(method.compute(context(loaded), FACTS[1:2], hparams))
    edited = State(resident, {}).plus(first)
    on_top = replace(context(loaded), view=edited.view)
    seen = finish(within(edited.view({}), method.compute(on_top, FACTS[:1], hparams)))
    resident.install(1, edited.weights)
    installed = finish(method.compute(on_top, FACTS[:1], hparams))
    assert equal(seen, installed)
    resident.install(2, {})
    assert not equal(seen, finish(method.compute(context(loaded), FACTS[:1], hparams)))
